"""Objections to a hierarchy: each fault is named, a sound hierarchy has none of them, and errors come first."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia.ceremony.calendar import plan_authorities
from cassiopeia.ceremony.declaration import load_declaration
from cassiopeia.ceremony.hierarchy import default_hierarchy_text, parse_hierarchy
from cassiopeia.ceremony.objections import Objection, Severity
from cassiopeia.ceremony.planning import Plan, Stretch, gaps, make_plan
from cassiopeia.ceremony.review import review
from cassiopeia.ceremony.review_structure import gap_objection, is_nowhere
from cassiopeia.sealing import make_sealing_key

NOW = dt.datetime(2026, 11, 23, 12, 34, 56, tzinfo=dt.UTC)
_, SEALING_PUBLIC = make_sealing_key(b"a signer's own")

SOUND = """\
organisation = "Turtle Trust"
country = "NL"
url_base = "http://pki.turtles.nl"
ocsp_urls = ["http://ocsp.turtles.nl"]
crl_months = 12

[root]
common_name = "Turtle Root"
key_algorithm = "RSA-4096"
years = 20

[structure]
key_algorithm = "RSA-4096"
years = 10

[time]
key_algorithm = "RSA-4096"
months = 6
periods = 2
spares = 1
outlives_years = 2

[[signer]]
id = 1
sealing_key = "sealing.pem"

[orders]
operators = ["anna.pem", "ben.pem", "cleo.pem"]
quorum = 2

[[validator]]
name = "validator"
key = "validator.pem"

[ocsp]
responders = ["ocsp.pem"]

[[family]]
name = "unassured"
common_name = "Turtle Servers"
extended_key_usage = ["serverAuth"]
profiles = ["0004-server"]
expected_a_month = 100

[[family]]
name = "assured"
common_name = "Turtle Members"
extended_key_usage = ["clientAuth", "emailProtection"]
profiles = ["0005-client-a", "0006-mail-a", "0007-client-mail-a", "0020-mine.toml"]
expected_a_month = 100

[[family]]
name = "code"
common_name = "Turtle Code"
extended_key_usage = ["codeSigning"]
profiles = ["0009-code-a"]
expected_a_month = 100
"""

PROFILE = """\
title = "Log-in of a robot"
family = "assured"
key_usage = ["digitalSignature"]
extended_key_usage = ["clientAuth"]
maximum_validity_days = 90
evidence = ["attestation", "name-verified"]

[subject]
CN = "required"
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A hierarchy to which only a note or two are to be made, with all that it names."""
    for name in ("anna", "ben", "cleo", "validator", "ocsp"):
        public = Ed25519PrivateKey.generate().public_key()
        (tmp_path / f"{name}.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "sealing.pem").write_bytes(SEALING_PUBLIC)
    (tmp_path / "0020-mine.toml").write_text(PROFILE, encoding="utf-8")
    (tmp_path / "hierarchy.toml").write_text(SOUND, encoding="utf-8")
    return tmp_path


def plan_of(directory: Path, *changes: tuple[str, str], now: dt.datetime = NOW) -> Plan:
    path = directory / "hierarchy.toml"
    text = path.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return make_plan(load_declaration(path), now=now)


def found(plan: Plan, code: str) -> list[Objection]:
    return [each for each in review(plan) if each.code == code]


def test_a_sound_hierarchy_has_nothing_to_object_to_but_what_is_left_out_on_purpose(directory: Path) -> None:
    objections = review(plan_of(directory))

    assert {each.code for each in objections} == {"profile-without-family", "leaf-waits-at-period-end"}
    assert {each.severity for each in objections} == {Severity.NOTE}


def test_the_default_hierarchy_has_no_error_but_an_address_that_nobody_reaches() -> None:
    objections = review(make_plan(load_declaration(), now=NOW))

    assert [each.code for each in objections if each.severity is not Severity.NOTE] == ["url-nowhere"]
    assert len({(each.code, each.where) for each in objections}) == len(objections)


ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


@pytest.mark.parametrize(
    ("severity", "code", "where", "changes"),
    [
        # Lifetimes.
        (NOTE, "root-lives-long", "root", [("years = 20", "years = 26")]),
        (WARNING, "structure-ca-ends-soon", "family code", [("years = 10", "years = 4")]),
        (NOTE, "unusual-months", "family assured", [("months = 6", "months = 12")]),
        (NOTE, "unusual-months", "family assured", [("months = 6", "months = 1")]),
        (
            ERROR,
            "leaf-outlives-issuer",
            "family assured, profile 0005-client-a",
            [("outlives_years = 2", "outlives_years = 1")],
        ),
        # Calendar.
        (ERROR, "family-without-signer", "family code", [("id = 1", 'id = 1\nfamilies = ["unassured", "assured"]')]),
        (WARNING, "calendar-short", "time.periods", [("periods = 2", "periods = 1")]),
        # Numbers.
        (NOTE, "volume-unknown", "family code", [("expected_a_month = 100", "expected_a_month = 0")]),
        (ERROR, "too-few-spares", "family code", [("expected_a_month = 100", "expected_a_month = 7101")]),
        (WARNING, "spares-tight", "family code", [("expected_a_month = 100", "expected_a_month = 7100")]),
        # Algorithms.
        (WARNING, "algorithm-ageing", "root", [('"RSA-4096"\nyears = 20', '"RSA-2048"\nyears = 20')]),
        (
            WARNING,
            "algorithm-ageing",
            "time sub-CAs of code",
            [('"Turtle Code"', '"Turtle Code"\nkey_algorithm = "RSA-2048"'), ("periods = 2", "periods = 6")],
        ),
        (WARNING, "weaker-above", "family code", [('"Turtle Code"', '"Turtle Code"\nkey_algorithm = "P-384"')]),
        (
            WARNING,
            "weaker-above",
            "family assured",
            [('"Turtle Members"', '"Turtle Members"\nstructure_key_algorithm = "ML-DSA-65"')],
        ),
        (WARNING, "quantum-above", "family code", [('"Turtle Code"', '"Turtle Code"\nkey_algorithm = "ML-DSA-44"')]),
        (NOTE, "algorithm-unknown", "family code", [('"Turtle Code"', '"Turtle Code"\nkey_algorithm = "Ed25519"')]),
        (
            NOTE,
            "pss-without-rsa",
            "time.pss",
            [('"RSA-4096"', '"P-256"'), ("outlives_years = 2", "outlives_years = 2\npss = true")],
        ),
        # CRLs of the offline CAs.
        (WARNING, "crl-months-long", "crl_months", [("crl_months = 12", "crl_months = 13")]),
        (WARNING, "crl-months-short", "crl_months", [("crl_months = 12", "crl_months = 2")]),
        (NOTE, "crls-end-first", "crl_months", [("crl_months = 12", "crl_months = 3")]),
        # Places.
        (NOTE, "default-names", "organisation", [("Turtle Trust", "Cassiopeia")]),
        (NOTE, "no-country", "country", [('country = "NL"', 'country = ""')]),
        (WARNING, "url-nowhere", "url_base", [("http://pki.turtles.nl", "http://pki.turtles.example")]),
        (WARNING, "url-nowhere", "url_base", [("http://pki.turtles.nl", "http://10.1.2.3/pki")]),
        (WARNING, "url-nowhere", "ocsp_urls", [("http://ocsp.turtles.nl", "http://ocsp")]),
        (
            WARNING,
            "url-nowhere",
            "family code, cps_url",
            [('"Turtle Code"', '"Turtle Code"\npolicy_identifiers = ["1.2.3"]\ncps_url = "https://x.test/cps"')],
        ),
        (WARNING, "url-https", "url_base", [("http://pki", "https://pki")]),
        (WARNING, "url-https", "ocsp_urls", [("http://ocsp", "https://ocsp")]),
        (ERROR, "url-with-query", "url_base", [("http://pki.turtles.nl", "http://pki.turtles.nl/?file=")]),
        (ERROR, "url-with-query", "url_base", [("http://pki.turtles.nl", "http://pki.turtles.nl/#x")]),
        (WARNING, "ocsp-without-responder", "ocsp_urls", [('responders = ["ocsp.pem"]', "responders = []")]),
        (WARNING, "responder-without-url", "ocsp.responders", [('["http://ocsp.turtles.nl"]', "[]")]),
        (WARNING, "responders-many", "family code", [('["ocsp.pem"]', '["ocsp.pem", "anna.pem"]')]),
        (
            NOTE,
            "no-ocsp",
            "ocsp_urls",
            [('["http://ocsp.turtles.nl"]', "[]"), ('responders = ["ocsp.pem"]', "responders = []")],
        ),
        # What is vouched for.
        (NOTE, "server-auth-mixed", "family unassured", [('["serverAuth"]', '["serverAuth", "clientAuth"]')]),
        (WARNING, "code-signing-mixed", "family code", [('["codeSigning"]', '["codeSigning", "clientAuth"]')]),
        (WARNING, "time-stamping-mixed", "family code", [('["codeSigning"]', '["codeSigning", "timeStamping"]')]),
        (NOTE, "usage-unused", "family code", [('["codeSigning"]', '["codeSigning", "msCodeCom"]')]),
        (ERROR, "family-without-profile", "family code", [('profiles = ["0009-code-a"]', "profiles = []")]),
        (
            NOTE,
            "policy-not-below",
            "family code, profile 0009-code-a",
            [('"Turtle Code"', '"Turtle Code"\npolicy_identifiers = ["1.2.3"]')],
        ),
        (
            WARNING,
            "constraints-leave-mail",
            "family assured, name_constraints",
            [
                (
                    '[[family]]\nname = "code"',
                    '[family.name_constraints]\npermitted_domains = ["a.nl"]\n[[family]]\nname = "code"',
                )
            ],
        ),
        (
            WARNING,
            "constraints-leave-servers",
            "family unassured, name_constraints",
            [
                (
                    '[[family]]\nname = "assured"',
                    '[family.name_constraints]\npermitted_mail_domains = ["a.nl"]\n[[family]]\nname = "assured"',
                )
            ],
        ),
        (NOTE, "profile-without-family", "profiles", [('"0005-client-a", ', "")]),
        # On whose word.
        (WARNING, "unproved-profile", "profile 9009-unproved-code", [('"0009-code-a"', '"9009-unproved-code"')]),
        (
            NOTE,
            "no-validator",
            "validator",
            [('[[validator]]\nname = "validator"\nkey = "validator.pem"\n', "")],
        ),
        (
            WARNING,
            "evidence-unstated",
            "profile 0009-code-a",
            [('key = "validator.pem"', 'key = "validator.pem"\nkinds = ["attestation", "dns-control", "caa-permits"]')],
        ),
        (NOTE, "no-operators", "orders", [('["anna.pem", "ben.pem", "cleo.pem"]', "[]")]),
        (WARNING, "quorum-of-one", "orders.quorum", [("quorum = 2", "quorum = 1")]),
        (NOTE, "quorum-of-all", "orders.quorum", [("quorum = 2", "quorum = 3")]),
        (NOTE, "bundle-not-sealed", "signer 1", [('sealing_key = "sealing.pem"', "")]),
    ],
)
def test_each_fault_is_named(
    directory: Path, severity: Severity, code: str, where: str, changes: list[tuple[str, str]]
) -> None:
    before = [(each.code, each.where) for each in review(plan_of(directory))]
    assert code == "profile-without-family" or (code, where) not in before

    objections = [each for each in found(plan_of(directory, *changes), code) if each.where == where]

    assert [each.severity for each in objections] == [severity]
    assert str(objections[0]) == f"{severity.value}: {where}: {objections[0].what} [{code}]"


def test_the_gravest_comes_first(directory: Path) -> None:
    plan = plan_of(directory, ("expected_a_month = 100", "expected_a_month = 7101"), ("quorum = 2", "quorum = 1"))

    severities = [each.severity for each in review(plan)]

    assert severities == sorted(severities, key=list(Severity).index)
    assert severities[0] is Severity.ERROR


@pytest.mark.parametrize(
    ("day", "days", "limits"),
    [
        (NOW, 99, []),
        (NOW, 200, ["100 from 2027-03-15 on"]),
        (NOW, 398, ["200", "100 from 2027-03-15 on"]),
        (dt.datetime(2028, 8, 1, tzinfo=dt.UTC), 99, ["47 from 2029-03-15 on"]),
        (dt.datetime(2029, 5, 1, tzinfo=dt.UTC), 48, ["47"]),
        (dt.datetime(2025, 1, 1, tzinfo=dt.UTC), 398, []),
    ],
)
def test_servers_certificates_are_held_to_what_browsers_will_take(
    directory: Path, day: dt.datetime, days: int, limits: list[str]
) -> None:
    text = PROFILE.replace('"clientAuth"', '"serverAuth"').replace("= 90", f"= {days}")
    text = text.replace('"name-verified"', '"dns-control"').replace(
        '[subject]\nCN = "required"', '[alt_names]\nDNS = "required"'
    )
    (directory / "0021-web.toml").write_text(text, encoding="utf-8")

    plan = plan_of(directory, ('"0004-server"', '"0021-web.toml"'), now=day)

    notes = [each.what for each in found(plan, "server-lives-long")]
    assert notes == [f"of {days} days: browsers take at most {limit} (BR 6.3.2)" for limit in limits]


@pytest.mark.parametrize(
    ("usage", "days", "code"),
    [
        ("emailProtection", 825, ""),
        ("emailProtection", 826, "mail-lives-long"),
        ("codeSigning", 461, "code-lives-long"),
    ],
)
def test_other_certificates_likewise(directory: Path, usage: str, days: int, code: str) -> None:
    (directory / "0020-mine.toml").write_text(
        PROFILE.replace("clientAuth", usage).replace("= 90", f"= {days}"), "utf-8"
    )
    plan = plan_of(
        directory,
        ('["clientAuth", "emailProtection"]', '["clientAuth", "emailProtection", "codeSigning"]'),
        ("outlives_years = 2", "outlives_years = 3"),
    )

    own = [each.code for each in review(plan) if each.where == "family assured, profile 0020-mine"]
    assert own == ([code] if code else [])


def test_a_policy_that_the_cas_do_not_have(directory: Path) -> None:
    (directory / "0020-mine.toml").write_text('policy_identifiers = ["1.2.3", "1.2.4"]\n' + PROFILE, "utf-8")
    plan = plan_of(directory, ('"Turtle Members"', '"Turtle Members"\npolicy_identifiers = ["1.2.4"]'))

    (objection,) = found(plan, "policy-not-above")
    assert (objection.severity, objection.where) == (WARNING, "family assured, profile 0020-mine")
    assert "names the policies 1.2.3, which" in objection.what


def test_volumes_are_shared_by_the_signers(directory: Path) -> None:
    plan = plan_of(
        directory,
        ('sealing_key = "sealing.pem"', "[[signer]]\nid = 2"),
        ("expected_a_month = 100", "expected_a_month = 7101"),
    )

    assert [(each.a_period, each.maximum, each.spares_needed) for each in plan.volumes] == [(21_303, 21_300, 1)] * 3
    assert not found(plan, "too-few-spares")


def test_a_plan_too_large_for_its_bundles(directory: Path) -> None:
    plan = plan_of(
        directory,
        ("periods = 2", "periods = 24"),
        ("months = 6", "months = 1"),
        ("spares = 1", "spares = 9"),
        ('id = 1\nsealing_key = "sealing.pem"', "id = 1\n" + "".join(f"[[signer]]\nid = {n}\n" for n in range(2, 8))),
    )

    (objection,) = found(plan, "too-many-authorities")
    assert objection.severity is ERROR
    assert len(plan.authorities) == 24 * 10 * 7 * 3


def test_a_structure_ca_that_is_outlived_is_an_error(directory: Path) -> None:
    """The file's own check is generous by some days; what is planned is looked at itself."""
    plan = plan_of(directory)
    ends = dict(plan.structure_ends) | {"code": plan.authorities[-1].not_after - dt.timedelta(seconds=1)}
    late = type(plan)(**{name: getattr(plan, name) for name in plan.__dataclass_fields__} | {"structure_ends": ends})

    outlived = found(late, "structure-ca-outlived")
    assert [(each.severity, each.where) for each in outlived] == [(ERROR, "family code")] * 2


def stretch(name: str, begin: int, end: int, *, signer_id: int = 1) -> Stretch:
    return Stretch(
        name=name,
        family=name[0],
        signer_id=signer_id,
        issues_from=NOW + dt.timedelta(days=begin),
        issues_until=NOW + dt.timedelta(days=end),
    )


def test_gaps_are_found_for_each_family_and_signer() -> None:
    calendar = [
        stretch("a1", -100, 10),
        stretch("a3", 20, 30),
        stretch("a2", 5, 15),
        stretch("a0", -200, -100),
        stretch("b1", 1, 30),
        stretch("b2", 40, 50, signer_id=2),
    ]

    assert list(gaps(calendar, now=NOW)) == [
        stretch("b1", 0, 1),
        stretch("a3", 15, 20),
        stretch("b2", 0, 40, signer_id=2),
    ]


def test_a_gap_is_an_error_that_says_when(directory: Path) -> None:
    plan = plan_of(directory)
    holed = [each for each in plan.authorities if each.period.number != 2 or each.family.name != "code"]
    fields = {name: getattr(plan, name) for name in plan.__dataclass_fields__}

    (objection,) = found(type(plan)(**fields | {"authorities": tuple(holed)}), "calendar-gap")

    assert objection == gap_objection("code", 1, plan.begin, dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    assert "nothing issues for it on signer 1 from 2026-11-23 until 2027-01-01" in str(objection)


@pytest.mark.parametrize(
    ("host", "nowhere"),
    [
        ("pki.turtles.nl", False),
        ("example.org", True),
        ("pki.example.org", True),
        ("notexample.org", False),
        ("pki", True),
        ("", True),
        ("x.local", True),
        ("x.internal", True),
        ("127.0.0.1", True),
        ("192.168.1.1", True),
        ("193.0.6.139", False),
        ("2001:67c:2e8::1", False),
        ("::1", True),
    ],
)
def test_places_that_nobody_outside_can_reach(host: str, *, nowhere: bool) -> None:
    assert is_nowhere(host) == nowhere


def test_a_plan_without_any_signer_still_says_why(directory: Path) -> None:
    plan = plan_of(
        directory,
        ("id = 1", 'id = 1\nfamilies = ["code"]'),
        ('name = "code"', 'name = "programs"'),
        ('families = ["code"]', 'families = ["programs"]'),
    )
    names = {each.where for each in found(plan, "family-without-signer")}

    assert names == {"family unassured", "family assured"}
    assert plan.calendar_end == dt.datetime(2027, 7, 1, tzinfo=dt.UTC)
    nobody = make_plan(load_declaration(), now=NOW)
    empty = msgspec.structs.replace(parse_hierarchy(default_hierarchy_text(), source="x"), signer=())
    assert plan_authorities(empty, first=NOW) == ()
    assert nobody.crls_end == dt.datetime(2027, 11, 23, 11, 59, 59, tzinfo=dt.UTC)
