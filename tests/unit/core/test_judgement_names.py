"""Which observation covers which name: spellings, domains and wildcards, mailboxes, people and organisations."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any, Final

import pytest
from tests.support.authorities import (
    NOW,
    alt_names,
    attributes,
    default_ca,
    load_profile,
    make_authority,
    server_request,
)
from tests.support.evidence import REQUEST_ID, STANDING, TestValidator

from cassiopeia.core.csr import parse_certification_request
from cassiopeia.core.demands import Demand, candidates, covers, demands, maximum_age, organisation_value
from cassiopeia.core.judgement import judge
from cassiopeia.core.policy import decide
from cassiopeia.core.profile import Profile
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Rules
from cassiopeia.errors import Refused

FRONT: Final = TestValidator()
PROFILES: Final = {
    each: load_profile(each)
    for each in ("0004-server", "0008-server-a", "0001-client", "0005-client-a", "0010-client-orga", "0013-server-orga")
}
RULES: Final = Rules(
    signer_id=1,
    profiles=PROFILES,
    authorities=tuple(
        make_authority(default_ca(), name=f"{family}_2026_2") for family in ("unassured", "assured", "orga")
    ),
    validators={FRONT.key_id: FRONT.pinned},
)

Seen = tuple[str, str, str]  # kind, value, method


def outcome(request: CertificateRequest, *seen: Seen) -> str:
    """What the signer says to the request when this was seen: "" when it approves, else the code."""
    observations = [FRONT.observe(kind, value, method=method) for kind, value, method in seen]
    try:
        decide(
            FRONT.prove(request, *observations),
            rules=RULES,
            standing=STANDING,
            now=NOW,
            serial_entropy=bytes(15),
            issued={},
            version=2,
        )
    except Refused as refusal:
        return refusal.code
    return ""


def server(name: str, profile: str = "0004-server") -> CertificateRequest:
    return wish(profile, alt_names=alt_names(f"DNS,{name}"))


def wish(profile: str, **changes: Any) -> CertificateRequest:
    values = {"profile": profile, "account": "alice", "request_id": REQUEST_ID, "attributes": (), "alt_names": ()}
    return server_request(**(values | changes))


# The name that is asked for, the domain whose control was seen and how, and what comes of it. CAA is always right.
DOMAINS: Final = [
    ("www.example.org", "www.example.org", "dns", ""),
    ("www.example.org", "www.example.org", "http", ""),
    ("www.example.org", "WWW.example.org", "dns", "evidence-surplus"),
    ("www.example.org", "www.example.org.", "dns", "evidence-surplus"),
    ("www.example.org", " www.example.org", "dns", "evidence-surplus"),
    ("www.example.org", "www.example.org\0", "dns", "evidence-surplus"),
    ("www.example.org", "", "dns", "evidence-surplus"),
    ("www.example.org", "*.example.org", "dns", "evidence-surplus"),
    ("www.example.org", "*.www.example.org", "dns", "evidence-surplus"),
    ("www.example.org", "www2.example.org", "dns", "evidence-surplus"),
    ("www.example.org", "a.www.example.org", "dns", "evidence-surplus"),
    ("www.example.org", "ww.example.org", "dns", "evidence-surplus"),
    ("www.example.org", "w.example.org", "dns", "evidence-surplus"),
    ("WWW.example.org", "www.example.org", "dns", "dns-name-invalid"),
    ("www.example.org.", "www.example.org", "dns", "dns-name-invalid"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example", "http", ""),
    ("xn--bcher-kva.example", "b\u00fccher.example", "http", "evidence-surplus"),
    ("xn--bcher-kva.example", "XN--BCHER-KVA.example", "http", "evidence-surplus"),
    ("xn--bcher-kva.example", "bu\u0308cher.example", "http", "evidence-surplus"),
    ("xn--bcher-kva.example", "bucher.example", "http", "evidence-surplus"),
    ("b\u00fccher.example", "xn--bcher-kva.example", "http", "dns-name-invalid"),
    ("\u0435xample.org", "example.org", "http", "dns-name-invalid"),  # a Cyrillic letter
]
# The same under a profile without and with whole domains.
WHOLE: Final = [
    ("www.example.org", "example.org", "dns", "evidence-surplus", ""),
    ("a.b.example.org", "example.org", "mail-to-domain", "evidence-surplus", ""),
    ("a.b.example.org", "b.example.org", "dns", "evidence-surplus", ""),
    ("www.example.org", "example.org", "http", "evidence-surplus", "evidence-surplus"),
    ("www.example.org", "example.org", "DNS", "evidence-surplus", "evidence-surplus"),
    ("www.example.org", "org", "dns", "evidence-surplus", "evidence-surplus"),
    ("www.example.org", "", "dns", "evidence-surplus", "evidence-surplus"),
    ("www.example.org", "ample.org", "dns", "evidence-surplus", "evidence-surplus"),
    ("www.example.org", "Example.org", "dns", "evidence-surplus", "evidence-surplus"),
    ("example.org", "www.example.org", "dns", "evidence-surplus", "evidence-surplus"),
    ("*.example.org", "example.org", "dns", "wildcard-not-allowed", ""),
    ("*.example.org", "example.org", "mail-to-domain", "wildcard-not-allowed", ""),
    ("*.www.example.org", "example.org", "dns", "wildcard-not-allowed", ""),
    ("*.example.org", "example.org", "http", "wildcard-not-allowed", "evidence-surplus"),
    ("*.example.org", "*.example.org", "http", "wildcard-not-allowed", "evidence-surplus"),
    ("*.example.org", "*.example.org", "dns", "wildcard-not-allowed", "evidence-surplus"),
    ("*.example.org", "www.example.org", "dns", "wildcard-not-allowed", "evidence-surplus"),
    ("*.example.org", "org", "dns", "wildcard-not-allowed", "evidence-surplus"),
    ("*.org", "org", "dns", "dns-name-invalid", "dns-name-invalid"),
    ("*.*.example.org", "example.org", "dns", "dns-name-invalid", "dns-name-invalid"),
    ("w*.example.org", "example.org", "dns", "dns-name-invalid", "dns-name-invalid"),
]


@pytest.mark.parametrize(("name", "seen", "method", "code"), DOMAINS)
def test_a_domain_is_itself_and_no_other(name: str, seen: str, method: str, code: str) -> None:
    for profile in ("0004-server", "0008-server-a"):
        assert outcome(server(name, profile), ("dns-control", seen, method), ("caa-permits", name, "dns")) == code


@pytest.mark.parametrize(("name", "seen", "method", "code", "whole"), WHOLE)
def test_a_domain_reaches_below_itself_where_the_profile_says_so(
    name: str, seen: str, method: str, code: str, whole: str
) -> None:
    observed = [("dns-control", seen, method), ("caa-permits", name, "dns")]
    assert outcome(server(name), *observed) == code
    assert outcome(server(name, "0008-server-a"), *observed) == whole


def test_one_domain_may_cover_several_names() -> None:
    request = wish("0008-server-a", alt_names=alt_names("DNS,example.org", "DNS,*.example.org", "DNS,a.example.org"))
    permitted = [("caa-permits", each.value, "dns") for each in request.alt_names]
    assert outcome(request, ("dns-control", "example.org", "dns"), *permitted) == ""
    assert outcome(request, ("dns-control", "example.org", "http"), *permitted) == "evidence-missing"


@pytest.mark.parametrize(
    ("name", "seen"),
    [("www.example.org", "example.org"), ("*.example.org", "example.org"), ("example.org", "*.example.org")],
)
def test_caa_is_asked_for_each_name(name: str, seen: str) -> None:
    request = server(name, "0008-server-a")
    control = ("dns-control", "example.org", "dns")
    assert outcome(request, control, ("caa-permits", seen, "dns")) == "evidence-surplus"
    assert outcome(request, control) == "evidence-missing"
    assert outcome(request, control, ("caa-permits", name, "dns")) == ""


@pytest.mark.parametrize(
    "seen",
    ["Ada@example.org", "ada@Example.org", "ada@example.org.", "ada@example.com", "example.org", "<ada@example.org>"],
)
def test_a_mailbox_is_itself_and_no_other(seen: str) -> None:
    request = wish("0001-client", alt_names=alt_names("email,ada@example.org"))
    assert outcome(request, ("mailbox-control", seen, "mail")) == "evidence-surplus"
    assert outcome(request, ("mailbox-control", "ada@example.org", "mail")) == ""


def test_control_of_a_domain_is_no_control_of_its_mailboxes() -> None:
    request = wish("0001-client", alt_names=alt_names("email,ada@example.org"))
    assert outcome(request, ("dns-control", "example.org", "dns")) == "evidence-surplus"
    assert outcome(request, ("dns-control", "ada@example.org", "dns")) == "evidence-surplus"


def test_an_address_in_the_subject_is_the_one_that_is_proved() -> None:
    request = wish(
        "0001-client", attributes=attributes(EMAIL="ada@example.org"), alt_names=alt_names("email,ada@example.org")
    )
    assert outcome(request, ("mailbox-control", "ada@example.org", "mail")) == ""


PERSON: Final = wish(
    "0005-client-a", attributes=attributes(CN="Ada Lovelace"), alt_names=alt_names("email,ada@example.org")
)


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        ("Ada Lovelace", ""),
        ("ada lovelace", "evidence-surplus"),
        ("Ada", "evidence-surplus"),
        ("Ada Lovelace ", "evidence-surplus"),
        ("Ada  Lovelace", "evidence-surplus"),
        ("\u0410da Lovelace", "evidence-surplus"),  # a Cyrillic letter
        ("CN=Ada Lovelace", "evidence-surplus"),
    ],
)
def test_a_name_is_the_one_that_people_checked(seen: str, code: str) -> None:
    mailbox = ("mailbox-control", "ada@example.org", "mail")
    assert outcome(PERSON, ("name-verified", seen, "assurer"), mailbox) == code


def test_without_its_name_a_person_gets_no_certificate() -> None:
    assert outcome(PERSON, ("mailbox-control", "ada@example.org", "mail")) == "evidence-missing"


def staff(**subject: str) -> CertificateRequest:
    given = {"C": "NL", "O": "Example"} | subject
    return wish("0010-client-orga", attributes=attributes(**given), alt_names=alt_names("email,ada@example.org"))


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["C=NL", "O=Example"], ""),
        (["C=NL", "ST=Utrecht", "L=Utrecht", "O=Example", "OU=a", "OU=b"], ""),  # more is known than asked for
        (["O=Example", "C=NL"], ""),
        (["O=Example"], "evidence-surplus"),
        (["C=NL"], "evidence-surplus"),
        (["C=DE", "O=Example"], "evidence-surplus"),
        (["C=NL", "O=Example Ltd"], "evidence-surplus"),
        (["C=NL", "O=Exampl", "O=Example"], "evidence-surplus"),
        (["C=NL", "C=DE", "O=Example"], "evidence-surplus"),
        (["C=NL, O=Example"], "evidence-surplus"),
        ([""], "evidence-surplus"),
    ],
)
def test_an_organisation_is_what_its_lines_say(lines: list[str], code: str) -> None:
    mailbox = ("mailbox-control", "ada@example.org", "mail")
    assert outcome(staff(), ("organisation", "\n".join(lines), "people"), mailbox) == code


def test_units_of_an_organisation_are_proved_each() -> None:
    mailbox = ("mailbox-control", "ada@example.org", "mail")
    lines = "C=NL\nO=Example\nOU=a\nOU=b"
    assert outcome(staff(OU="b"), ("organisation", lines, "people"), mailbox) == ""
    assert outcome(staff(OU="c"), ("organisation", lines, "people"), mailbox) == "evidence-surplus"


def test_two_organisations_of_one_account_are_never_mixed() -> None:
    mailbox = ("mailbox-control", "ada@example.org", "mail")
    one, two = ("organisation", "C=NL\nO=Example", "people"), ("organisation", "C=NL\nO=Other\nCN=Sales", "people")
    assert outcome(staff(CN="Sales"), one, two, mailbox) == "evidence-surplus"
    both = ("organisation", "C=NL\nO=Example\nCN=Sales", "people")
    assert outcome(staff(CN="Sales"), both, mailbox) == ""
    assert outcome(staff(CN="Sales"), one, mailbox) == "evidence-missing"
    assert outcome(staff(CN="Sales"), one, ("name-verified", "Sales", "people"), mailbox) == ""


def test_a_servers_common_name_needs_nothing_of_its_own() -> None:
    request = wish(
        "0013-server-orga",
        attributes=attributes(C="NL", O="Example", CN="www.example.org"),
        alt_names=alt_names("DNS,www.example.org"),
    )
    assert [(each.kind, each.value) for each in demands(PROFILES["0013-server-orga"], request)] == [
        ("dns-control", "www.example.org"),
        ("caa-permits", "www.example.org"),
        ("organisation", "C=NL\nO=Example"),
    ]


# --- the demands by themselves, as those see them who gather proofs


def profile(*kinds: str, name: str = "0005-client-a", **changes: Any) -> Profile:
    return dataclasses.replace(PROFILES[name], evidence=("attestation", *kinds), **changes)


def test_nothing_is_observed_for_a_responder_or_without_evidence() -> None:
    request = server_request()
    assert demands(profile(family=""), request) == ()
    assert demands(dataclasses.replace(profile(), evidence=()), request) == ()
    assert demands(profile("mailbox-control"), wish("x")) == ()


@pytest.mark.parametrize(
    ("subject", "names", "field"),
    [
        ({}, ["IP,192.0.2.1"], "IP"),
        ({}, ["URI,https://example.org/"], "URI"),
        ({}, ["DNS,example.org"], "DNS"),
        ({}, ["email,ada@example.org"], "email"),
        ({}, ["phone,1"], "phone"),
        ({"EMAIL": "ada@example.org"}, [], "EMAIL"),
        ({"CN": "Ada"}, [], "CN"),
        ({"O": "Example"}, [], "O"),
        ({"XY": "Example"}, [], "XY"),
    ],
)
def test_a_name_that_nothing_proves_is_refused(subject: dict[str, str], names: list[str], field: str) -> None:
    request = wish("x", attributes=attributes(**subject), alt_names=alt_names(*names))
    with pytest.raises(Refused) as caught:
        demands(profile(), request)
    assert (caught.value.code, caught.value.field) == ("name-not-allowed", field)


def test_each_demand_stands_there_once() -> None:
    request = wish("x", attributes=attributes(EMAIL="ada@example.org"), alt_names=alt_names("email,ada@example.org"))
    assert len(demands(profile("mailbox-control"), request)) == 1
    request = wish("x", alt_names=alt_names("DNS,example.org", "DNS,*.example.org"))
    assert [each.name for each in demands(profile("dns-control"), request)] == ["example.org", "*.example.org"]


def test_a_common_name_may_be_proved_in_two_ways() -> None:
    request = wish("x", attributes=attributes(O="Example", CN="Sales"))
    by_organisation = Demand(kind="organisation", value="O=Example\nCN=Sales", name="CN=Sales")
    assert demands(profile("organisation"), request)[1] == by_organisation
    person = Demand(kind="name-verified", value="Sales", name="Sales", otherwise=by_organisation)
    assert demands(profile("organisation", "name-verified"), request)[1] == person
    alone = wish("x", attributes=attributes(CN="Sales"))
    assert demands(profile("name-verified"), alone) == (dataclasses.replace(person, otherwise=None),)


def test_where_to_look_for_observations() -> None:
    narrow, wide = profile("dns-control"), profile("dns-control", whole_domain=True)
    demand = Demand(kind="dns-control", value="a.b.example.org", name="*.a.b.example.org")
    assert candidates(demand, narrow) == ("a.b.example.org",)
    assert candidates(demand, wide) == ("a.b.example.org", "b.example.org", "example.org")
    assert candidates(Demand(kind="dns-control", value="localhost", name="localhost"), wide) == ("localhost",)
    assert candidates(Demand(kind="caa-permits", value="a.example.org", name=""), wide) == ("a.example.org",)
    assert candidates(Demand(kind="organisation", value="O=Example", name=""), wide) == ()


def test_a_wildcard_is_covered_by_whole_domains_only() -> None:
    """Also under a profile that nobody could write down."""
    demand = Demand(kind="dns-control", value="example.org", name="*.example.org")
    observation = FRONT.observation("dns-control", "example.org")
    assert not covers(demand, observation, profile("dns-control"))
    assert covers(demand, observation, profile("dns-control", whole_domain=True))


def test_ages_have_defaults() -> None:
    ages = {each: maximum_age(PROFILES["0004-server"], each).days for each in ("dns-control", "mailbox-control")}
    assert ages == {"dns-control": 99, "mailbox-control": 30}
    assert maximum_age(PROFILES["0004-server"], "caa-permits") == dt.timedelta(hours=7)
    assert maximum_age(PROFILES["0004-server"], "name-verified") == dt.timedelta(hours=17520)
    assert maximum_age(PROFILES["0004-server"], "organisation") == dt.timedelta(hours=9504)
    own = dataclasses.replace(PROFILES["0004-server"], maximum_age_hours=(("dns-control", 1),))
    assert maximum_age(own, "dns-control") == dt.timedelta(hours=1)
    assert maximum_age(own, "caa-permits") == dt.timedelta(hours=7)


def test_the_lines_of_an_organisation() -> None:
    given = [*attributes(CN="Ada", OU="b", EMAIL="ada@example.org", O="Example", C="NL"), *attributes(OU="a")]
    assert organisation_value(given) == "C=NL\nO=Example\nOU=b\nOU=a\nCN=Ada"


def test_who_has_only_the_journal_judges_alike() -> None:
    """The time is that of the entry, the nonce that of the attestation, and the key that of the CSR."""
    request = FRONT.prove_all(server("www.example.org"), PROFILES["0004-server"])
    key = parse_certification_request(request.key_proof)
    found = judge(request, profile=PROFILES["0004-server"], key=key, rules=RULES, standing=STANDING, now=NOW)
    assert found == (FRONT.key_id,)
