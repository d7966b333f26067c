"""What the real linter says: nothing that vetoes what default profiles issue, and the name of each planted fault."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa
from tests.support.authorities import (
    PROFILES,
    PrivateKey,
    TestCa,
    alt_names,
    approve,
    attributes,
    certification_request,
    load_profile,
    make_authority,
    make_ca,
    p256_key,
    rsa_key,
    server_request,
)
from tests.support.linting import tbs_of, unfit_for_its_key, valid_too_long

from cassiopeia.client import lint_worker
from cassiopeia.client.lint_tasks import Finding
from cassiopeia.client.lint_worker import lint, with_placeholder
from cassiopeia.core.certificate import assemble_tbs, split_certificate
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.core.profile import EXTENDED_KEY_USAGES, Presence, Profile
from cassiopeia.core.request import CertificateRequest

NAMES = sorted(path.stem for path in PROFILES.glob("*.toml"))
VALUES = {
    "C": "NL",
    "ST": "Utrecht",
    "L": "Utrecht",
    "O": "Beispiel-Stichting",
    "OU": "Schildkröten",
    "CN": "Momo Müller",
    "EMAIL": "momo@example.org",
}
ALT_NAMES = {
    "DNS": ("DNS,www.example.org", "DNS,xn--bcher-kva.de"),
    "email": ("email,momo@example.org",),
    "IP": ("IP,192.0.2.1", "IP,2001:db8::1"),
    "URI": ("URI,https://www.example.org/x", "URI,ldaps://ldap.example.org/cn=x"),
}


def request_for(profile: Profile, *, most: bool, key: str) -> CertificateRequest:
    """A request with as few names as the profile lets through, or with one of each kind that it allows."""
    wanted = {Presence.REQUIRED, Presence.OPTIONAL} if most else {Presence.REQUIRED}
    subject = {each: VALUES[each] for each, presence in profile.subject if presence in wanted}
    names = [value for each, presence in profile.alt_names if presence in wanted for value in ALT_NAMES[each]]
    if profile.alt_name_presence("DNS") is not Presence.FORBIDDEN:
        names = names or ["DNS,www.example.org"]
        if "CN" in subject:
            subject["CN"] = "www.example.org"
        if most and profile.allow_wildcard:
            names.append("DNS,*.example.org")
    return CertificateRequest(
        key_kind="csr",
        key_proof=certification_request(key),
        profile=profile.name if profile.family else "",
        attributes=attributes(**subject),
        alt_names=alt_names(*names),
        ocsp_target_ca="" if profile.family else "unassured_2026_2",
    )


@functools.cache
def ca_of(family: str) -> TestCa:
    return make_ca(f"{family}_2026_2", key=p256_key())


def approved(profile: Profile, request: CertificateRequest, *, ocsp: bool) -> ApprovedRequest:
    family = profile.family or "unassured"
    authority = make_authority(ca_of(family), name=f"{family}_2026_2")
    if not ocsp:
        authority = dataclasses.replace(authority, ocsp_urls=())
    return approve(request, profile=dataclasses.replace(profile, evidence=()), authority=authority)


def vetoes(findings: tuple[Finding, ...]) -> set[str]:
    return {each.code for each in findings if each.grave}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_default_profile_issues_passes_and_everything_it_accepts_occurs(name: str) -> None:
    profile = load_profile(name)
    accepted = {each.finding for each in profile.lint_allow}
    found: set[str] = set()
    for most, key, ocsp in ((False, "P-256", True), (True, "P-256", False), (True, "RSA", True)):
        request = request_for(profile, most=most, key=key)
        tbs = assemble_tbs(approved(profile, request, ocsp=ocsp))
        found |= vetoes(lint(tbs, profile.lint_rules))
    assert found == accepted


@pytest.mark.parametrize("name", NAMES)
def test_a_default_profile_keeps_to_the_rules_that_there_are_for_its_purpose(name: str) -> None:
    profile = load_profile(name)
    expected = set()
    if profile.evidence:  # what proves nothing keeps to no rule of browsers and mail programs
        purposes = set(profile.extended_key_usage)
        expected |= {"serverauth"} if EXTENDED_KEY_USAGES["serverAuth"] in purposes else set()
        expected |= {"smime"} if EXTENDED_KEY_USAGES["emailProtection"] in purposes else set()
    assert set(profile.lint_rules) == expected


def test_the_linter_sees_exactly_these_octets() -> None:
    tbs = tbs_of()

    inside, algorithm, signature = split_certificate(with_placeholder(tbs))

    assert inside == tbs
    assert algorithm.hex() == "300a06082a8648ce3d040302"  # ecdsa-with-SHA256
    assert signature.hex() == "3006020101020101"  # Ecdsa-Sig-Value
    assert x509.load_der_x509_certificate(with_placeholder(tbs)).tbs_certificate_bytes == tbs


@pytest.mark.parametrize("key", ["P-256", "RSA", "Ed25519", "ML-DSA-44"])
def test_subscribers_with_keys_of_every_kind_are_linted(key: str) -> None:
    assert vetoes(lint(tbs_of(key_proof=certification_request(key)), ())) == set()


@pytest.mark.parametrize(
    "make_key",
    [
        rsa_key,
        p256_key,
        lambda: ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate,
        ed448.Ed448PrivateKey.generate,
        mldsa.MLDSA44PrivateKey.generate,
        mldsa.MLDSA65PrivateKey.generate,
        mldsa.MLDSA87PrivateKey.generate,
    ],
)
@pytest.mark.parametrize("pss", [False, True])
def test_what_sub_cas_of_every_kind_sign_is_linted(make_key: Callable[[], PrivateKey], *, pss: bool) -> None:
    authority = make_authority(make_ca("unassured_2026_2", key=make_key()), pss=pss)
    assert vetoes(lint(assemble_tbs(approve(server_request(), authority=authority)), ())) == set()


def test_a_fault_against_rfc_5280_is_found_whatever_the_rules() -> None:
    for rules in ((), ("serverauth",), ("smime",), ("serverauth", "smime")):
        assert "pkix.key_usage_value_prohibited_for_ec" in vetoes(lint(unfit_for_its_key(), rules))


def test_a_fault_against_the_rules_for_servers_is_found_where_they_are_asked_for() -> None:
    assert vetoes(lint(valid_too_long(), ())) == set()
    finding = "cabf.serverauth.certificate_validity_period_exceeds_200_days"
    assert finding in vetoes(lint(valid_too_long(), ("serverauth",)))


def test_a_fault_against_the_rules_for_mail_is_found_where_they_are_asked_for() -> None:
    tbs = tbs_of("9001-unproved-client", alt_names=alt_names("email,momo@example.org"), attributes=())
    assert vetoes(lint(tbs, ())) == set()
    assert "cabf.smime.emailprotection_eku_missing" in vetoes(lint(tbs, ("smime",)))


def test_an_organisation_makes_a_server_certificate_one_with_a_name() -> None:
    profile = load_profile("0013-server-orga")
    tbs = assemble_tbs(approved(profile, request_for(profile, most=True, key="P-256"), ocsp=True))
    assert not {each for each in vetoes(lint(tbs, ("serverauth",))) if ".dv." in each}


def test_the_gravest_comes_first_and_lesser_findings_veto_nothing() -> None:
    findings = lint(tbs_of(), ("serverauth",))
    severities = [each.severity for each in findings]
    assert severities == sorted(severities, key=["FATAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"].index)
    assert {each.severity for each in findings if each.grave} == {"ERROR"}
    assert {"WARNING", "INFO"} <= {each.severity for each in findings if not each.grave}


def test_what_is_no_certificate_is_a_finding_and_no_crash() -> None:
    for octets in (b"", b"\x30\x00", b"garbage", tbs_of()[:-1]):
        [finding] = lint(octets, ())
        assert (finding.code, finding.severity, finding.grave) == ("itu.invalid_asn1_syntax", "FATAL", True)


def test_only_whole_wildcards_are_let_through() -> None:
    names = ("DNS,*.example.org",)
    tbs = tbs_of(attributes=(), alt_names=alt_names(*names))
    assert vetoes(lint(tbs, ())) == set()
    worse = tbs.replace(b"*.example.org", b"w*.xample.org")
    assert vetoes(lint(worse, ())) == {"pkix.invalid_domain_name_syntax"}


def test_a_linter_that_fails_is_a_finding_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> object:
        raise RuntimeError("the linter's own fault")

    monkeypatch.setitem(lint_worker._RULES, "smime", fail)
    [finding] = [each for each in lint(tbs_of(), ("serverauth", "smime")) if each.severity == "FATAL"]
    assert (finding.code, finding.grave) == ("base.unhandled_exception", True)
    assert finding.message == "the linter's own fault"
