"""Profiles: the default ones are sound, and each mistake in a file is named with its key."""

from __future__ import annotations

import importlib.resources
import itertools
from collections.abc import Mapping

import pytest

from cassiopeia.core.profile import (
    ALT_NAME_TYPES,
    EXTENDED_KEY_USAGES,
    OCSP_SIGNING,
    SUBJECT_TYPES,
    AcceptedFinding,
    Presence,
    Profile,
    parse_profile,
)
from cassiopeia.errors import ConfigurationError

SERVER = """
title = "Server"
family = "unassured"
key_usage = ["keyEncipherment", "digitalSignature"]
extended_key_usage = ["serverAuth", "1.3.6.1.5.5.7.3.17"]
maximum_validity_days = 99
not_before_ahead_days = 14
maximum_alt_names = 20
allow_wildcard = true
policy_identifiers = ["2.23.140.1.2.1"]
cps_uri = "https://ca.example.org/cps"
evidence = ["attestation", "dns-control"]
whole_domain = true

[subject]
CN = "optional"

[alt_names]
DNS = "required"
email = "forbidden"

[maximum_age_hours]
dns-control = 48

[lint]
rules = ["serverauth"]

[[lint.allow]]
finding = "cabf.some_finding"
reason = "known, and no harm"

[[lint.allow]]
finding = "pkix.another"
reason = "the linter is wrong here"
"""
RESPONDER = """
title = "Responder"
key_usage = ["digitalSignature"]
extended_key_usage = ["OCSPSigning"]
maximum_validity_days = 30
evidence = []
ocsp_no_check = true
subject = { CN = "required" }
"""


def default_profiles() -> Mapping[str, Profile]:
    files = importlib.resources.files("cassiopeia.core").joinpath("profiles").iterdir()
    texts = {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in files}
    return {name: parse_profile(text, name=name, source=f"{name}.toml") for name, text in sorted(texts.items())}


DEFAULT = default_profiles()


def test_a_profile_says_what_its_file_says() -> None:
    assert parse_profile(SERVER, name="0004-server", source="server.toml") == Profile(
        name="0004-server",
        title="Server",
        family="unassured",
        key_usage=("digitalSignature", "keyEncipherment"),  # in the order of the bits
        extended_key_usage=("1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.17"),
        maximum_validity_days=99,
        not_before_ahead_days=14,
        subject=tuple((each, Presence.OPTIONAL if each == "CN" else Presence.FORBIDDEN) for each in SUBJECT_TYPES),
        alt_names=(
            ("DNS", Presence.REQUIRED),
            ("email", Presence.FORBIDDEN),
            ("IP", Presence.FORBIDDEN),
            ("URI", Presence.FORBIDDEN),
        ),
        maximum_alt_names=20,
        allow_wildcard=True,
        policy_identifiers=("2.23.140.1.2.1",),
        cps_uri="https://ca.example.org/cps",
        evidence=("attestation", "dns-control"),
        ocsp_no_check=False,
        whole_domain=True,
        maximum_age_hours=(("dns-control", 48),),
        lint_rules=("serverauth",),
        lint_allow=(
            AcceptedFinding(finding="cabf.some_finding", reason="known, and no harm"),
            AcceptedFinding(finding="pkix.another", reason="the linter is wrong here"),
        ),
    )


def test_what_a_file_leaves_out_is_the_narrow_choice() -> None:
    profile = parse_profile(RESPONDER, name="0100-ocsp", source="ocsp.toml")
    assert profile.not_before_ahead_days == 0
    assert not profile.allow_wildcard
    assert {profile.alt_name_presence(each) for each in ALT_NAME_TYPES} == {Presence.FORBIDDEN}
    assert profile.subject_presence("CN") is Presence.REQUIRED
    assert profile.subject_presence("O") is Presence.FORBIDDEN
    assert profile.lint_allow == ()
    assert not profile.whole_domain
    assert profile.maximum_age_hours == ()


def test_a_type_of_name_that_nobody_knows_is_forbidden() -> None:
    profile = parse_profile(SERVER, name="0004-server", source="server.toml")
    assert profile.subject_presence("serialNumber") is Presence.FORBIDDEN
    assert profile.alt_name_presence("dns") is Presence.FORBIDDEN


def test_a_profile_is_hashable() -> None:
    first, second = (parse_profile(SERVER, name="0004-server", source="x") for _ in range(2))
    assert len({first, second}) == 1


@pytest.mark.parametrize(
    ("line", "instead", "key", "says"),
    [
        ('title = "Server"', "", "title", "this key is missing"),
        ('title = "Server"', 'title = " "', "title", "title for people"),
        ('title = "Server"', "title = 1", "title", "expected str, got int"),
        ('title = "Server"', 'titel = "Server"', "titel", "this key is not known here"),
        ('title = "Server"', 'title = "Server', "", "not TOML"),
        ('family = "unassured"', "", "family", "missing"),
        ('family = "unassured"', 'family = "un_assured"', "family", "word of letters and digits"),
        ('family = "unassured"', 'family = "../etc"', "family", "word of letters and digits"),
        ('"keyEncipherment", "digitalSignature"', "", "key_usage", "at least one"),
        ('"keyEncipherment"', '"keyCertSign"', "key_usage", "'keyCertSign' is not known"),
        ('"keyEncipherment"', '"digitalSignature"', "key_usage", "twice"),
        ('"serverAuth", "1.3.6.1.5.5.7.3.17"', "", "extended_key_usage", "at least one"),
        ('"serverAuth"', '"serveAuth"', "extended_key_usage", "'serveAuth' is not known"),
        ('"serverAuth"', '"1.3.6.1.5.5.7.3.17"', "extended_key_usage", "twice"),
        ('"serverAuth"', '"2.5.29.37.0"', "extended_key_usage", "anyExtendedKeyUsage"),
        ('"serverAuth"', '"3.5.6"', "extended_key_usage", "not an object identifier"),
        ('"serverAuth"', '"1.40.6"', "extended_key_usage", "not an object identifier"),
        ('"serverAuth"', '"1.3.06"', "extended_key_usage", "not an object identifier"),
        ('"serverAuth"', '"OCSPSigning"', "extended_key_usage", "stands alone"),
        ("maximum_validity_days = 99", "maximum_validity_days = 0", "maximum_validity_days", "between 1 and 1825"),
        ("maximum_validity_days = 99", "maximum_validity_days = 1826", "maximum_validity_days", "between 1 and 1825"),
        (
            "maximum_validity_days = 99",
            "maximum_validity_days = true",
            "maximum_validity_days",
            "expected int, got bool",
        ),
        ("ahead_days = 14", "ahead_days = 15", "not_before_ahead_days", "between 0 and 14"),
        ("ahead_days = 14", "ahead_days = -1", "not_before_ahead_days", "between 0 and 14"),
        ("maximum_alt_names = 20", "maximum_alt_names = 251", "maximum_alt_names", "between 0 and 250"),
        ("maximum_alt_names = 20", "maximum_alt_names = 0", "maximum_alt_names", "fewer are allowed"),
        ('"2.23.140.1.2.1"', '"policy"', "policy_identifiers", "not an object identifier"),
        ('["2.23.140.1.2.1"]', '["2.23.140.1.2.1", "2.23.140.1.2.1"]', "policy_identifiers", "twice"),
        ('["2.23.140.1.2.1"]', "[]", "cps_uri", "give policy_identifiers"),
        ('"https://ca.example.org/cps"', '"ca.example.org/cps"', "cps_uri", "does not begin with"),
        ('"dns-control"', '"dns"', "evidence", "'dns' is not known"),
        ('"dns-control"', '"attestation"', "evidence", "twice"),
        ('evidence = ["attestation", "dns-control"]', "", "evidence", "this key is missing"),
        ('["attestation", "dns-control"]', '["dns-control"]', "evidence", "demand attestation, too"),
        ('["attestation", "dns-control"]', '["attestation"]', "maximum_age_hours.dns-control", "does not demand this"),
        ('"dns-control"]', '"dns-control", "caa-permits"]\nmore = 1', "more", "this key is not known here"),
        (
            '"dns-control"]',
            '"dns-control", "organisation", "name-verified"]',
            "evidence",
            "name-verified, organisation",
        ),
        ("dns-control = 48", "dns-control = 0", "maximum_age_hours.dns-control", "between 1 and 43800"),
        ("dns-control = 48", "attestation = 1", "maximum_age_hours.attestation", "this key is not known here"),
        ("dns-control = 48", "caa-permits = 1", "maximum_age_hours.caa-permits", "evidence does not demand this kind"),
        ("whole_domain = true", "whole_domain = false", "allow_wildcard", "set whole_domain = true"),
        ('email = "forbidden"', 'email = "optional"', "evidence", "email is allowed: demand mailbox-control"),
        ('email = "forbidden"', 'IP = "optional"', "alt_names.IP", "nothing proves such a name"),
        ('email = "forbidden"', 'URI = "optional"', "alt_names.URI", "nothing proves such a name"),
        ('CN = "optional"', 'OU = "optional"', "evidence", "OU is allowed: demand organisation"),
        ('["serverAuth"', '["clientAuth"', "evidence", "CN is allowed: demand name-verified or organisation"),
        ('CN = "optional"', 'CN = "maybe"', "subject.CN", "'maybe' is none of the values"),
        ('CN = "optional"', 'DN = "optional"', "subject.DN", "this key is not known here"),
        ('DNS = "required"', 'dns = "required"', "alt_names.dns", "this key is not known here"),
        ('DNS = "required"', "", "allow_wildcard", "allow DNS"),
        ("allow_wildcard = true", "ocsp_no_check = true", "ocsp_no_check", "for OCSPSigning alone"),
        ('rules = ["serverauth"]', 'rules = ["zlint"]', "lint.rules", "'zlint' is not known; use serverauth, smime"),
        ('rules = ["serverauth"]', 'rules = ["smime", "smime"]', "lint.rules", "twice"),
        ('rules = ["serverauth"]', 'rule = ["serverauth"]', "lint.rule", "this key is not known here"),
        ('finding = "pkix.another"', "", "lint.allow[1].finding", "this key is missing"),
        ('finding = "pkix.another"', 'finding = "any"', "lint.allow[1].finding", "write it as the veto did"),
        ('finding = "pkix.another"', 'finding = "cabf.some_finding"', "lint.allow[1].finding", "twice"),
        ('reason = "known, and no harm"', "", "lint.allow[0].reason", "this key is missing"),
        ('reason = "known, and no harm"', 'reason = " "', "lint.allow[0].reason", "say why"),
    ],
)
def test_a_mistake_is_named_with_its_key(line: str, instead: str, key: str, says: str) -> None:
    assert line in SERVER
    with pytest.raises(ConfigurationError, match=r"^server\.toml: ") as error:
        parse_profile(SERVER.replace(line, instead), name="0004-server", source="server.toml")
    assert error.value.key == key
    assert says in error.value.reason


@pytest.mark.parametrize(
    ("line", "instead", "key", "says"),
    [
        ("days = 30", "days = 31", "maximum_validity_days", "between 1 and 30"),
        ('title = "Responder"', 'title = "R"\nfamily = "orga"', "family", "leave it out"),
        ('{ CN = "required" }', "{}", "subject", "has to name somebody"),
        ("evidence = []", "evidence = ['attestation', 'name-verified']", "evidence", "demand attestation alone"),
        ("evidence = []", "evidence = []\nwhole_domain = true", "whole_domain", "evidence has no dns-control"),
    ],
)
def test_a_mistake_in_a_responders_profile(line: str, instead: str, key: str, says: str) -> None:
    assert line in RESPONDER
    with pytest.raises(ConfigurationError) as error:
        parse_profile(RESPONDER.replace(line, instead), name="0100-ocsp", source="ocsp.toml")
    assert error.value.key == key
    assert says in error.value.reason


@pytest.mark.parametrize(
    "name", ["", "server", "4-server", "0004", "0004-", "0004-Server", "0004-server-", "00004-server"]
)
def test_a_profiles_name_is_four_digits_and_words(name: str) -> None:
    with pytest.raises(ConfigurationError, match="four digits"):
        parse_profile(SERVER, name=name, source="server.toml")


def test_the_fifteen_of_the_original_deployment() -> None:
    families = {name: profile.family for name, profile in DEFAULT.items() if not name.startswith("9")}
    assert families == {
        "0001-client": "unassured",
        "0002-mail": "unassured",
        "0003-client-mail": "unassured",
        "0004-server": "unassured",
        "0005-client-a": "assured",
        "0006-mail-a": "assured",
        "0007-client-mail-a": "assured",
        "0008-server-a": "assured",
        "0009-code-a": "codesign",
        "0010-client-orga": "orga",
        "0011-mail-orga": "orga",
        "0012-client-mail-orga": "orga",
        "0013-server-orga": "orga",
        "0014-code-orga": "orgaSign",
        "0100-ocsp": "",
    }


@pytest.mark.parametrize("profile", DEFAULT.values(), ids=DEFAULT)
def test_evidence_follows_from_the_names_unless_the_name_says_unproved(profile: Profile) -> None:
    unproved = not profile.evidence
    assert unproved == profile.name.startswith("9") == ("unproved" in profile.name) == ("UNPROVED" in profile.title)
    if unproved:
        return
    assert "attestation" in profile.evidence
    allowed = {name for name, presence in profile.subject + profile.alt_names if presence is not Presence.FORBIDDEN}
    server = EXTENDED_KEY_USAGES["serverAuth"] in profile.extended_key_usage
    if OCSP_SIGNING not in profile.extended_key_usage:  # its key is pinned, and its names are the authority's own
        assert ("mailbox-control" in profile.evidence) == ("email" in allowed)
        assert ("organisation" in profile.evidence) == ("O" in allowed)
        assert ("name-verified" in profile.evidence) == ("CN" in allowed and not server)
    assert ("dns-control" in profile.evidence) == ("caa-permits" in profile.evidence) == ("DNS" in allowed) == server


@pytest.mark.parametrize("profile", DEFAULT.values(), ids=DEFAULT)
def test_lifetimes_keep_to_the_rules_that_the_files_name(profile: Profile) -> None:
    bounds = {"serverAuth": 199, "emailProtection": 825, "codeSigning": 460, "OCSPSigning": 30, "clientAuth": 825}
    for usage, bound in bounds.items():
        if EXTENDED_KEY_USAGES[usage] in profile.extended_key_usage:
            assert profile.maximum_validity_days <= bound


def test_a_responders_profile_may_demand_an_attestation() -> None:
    text = RESPONDER.replace("evidence = []", 'evidence = ["attestation"]')
    assert parse_profile(text, name="0100-ocsp", source="ocsp.toml").evidence == ("attestation",)


def test_families_with_wildcards_have_checked_their_people() -> None:
    wild = {profile.name for profile in DEFAULT.values() if profile.allow_wildcard}
    assert wild == {"0008-server-a", "0013-server-orga", "9004-unproved-server"}


def test_no_two_default_profiles_are_the_same() -> None:
    for first, second in itertools.combinations(DEFAULT.values(), 2):
        assert first.title != second.title
