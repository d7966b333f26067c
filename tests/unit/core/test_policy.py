"""The decision, step by step: what is approved, what is refused and with which code, and what has to wait."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import hashlib
from collections.abc import Mapping
from types import MappingProxyType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import (
    NOW,
    alt_names,
    attributes,
    certification_request,
    default_authority,
    load_profile,
    p256_key,
    rsa_key,
    server_request,
    subject_public_key_info,
)

from cassiopeia.core.algorithms import algorithms_for
from cassiopeia.core.authority import Authority
from cassiopeia.core.constraints import NameConstraints
from cassiopeia.core.policy import ApprovedRequest, approve_sample, decide, make_serial_number
from cassiopeia.core.profile import Presence, Profile
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.core.sample import sample_key
from cassiopeia.errors import InternalError, Refused, Unavailable

NAMES = ("9004-unproved-server", "9002-unproved-mail", "9001-unproved-client", "0004-server", "0100-ocsp")
PROFILES = {name: load_profile(name) for name in NAMES}
OCSP = dataclasses.replace(PROFILES["0100-ocsp"], evidence=())
ENTROPY = bytes(range(15))
STANDING = Standing()
RESPONDER_KEYS = frozenset({hashlib.sha256(subject_public_key_info(server_request())).digest()})


def judge(
    request: CertificateRequest,
    *,
    profiles: dict[str, Profile] | None = None,
    authorities: tuple[Authority, ...] = (default_authority(),),
    issued: dict[str, int] | None = None,
    version: int = 2,
    version_1_profiles: frozenset[str] = frozenset(NAMES),
    now: dt.datetime = NOW,
    standing: Standing = STANDING,
    unsound_profiles: Mapping[str, str] = MappingProxyType({}),
) -> ApprovedRequest:
    return decide(
        request,
        rules=Rules(
            signer_id=1,
            profiles=PROFILES if profiles is None else profiles,
            authorities=authorities,
            version_1_profiles=version_1_profiles,
            responder_keys=RESPONDER_KEYS,
            unsound_profiles=unsound_profiles,
        ),
        standing=standing,
        now=now,
        serial_entropy=ENTROPY,
        issued=issued or {},
        version=version,
    )


def mail_request(**changes: object) -> CertificateRequest:
    values: dict[str, object] = {
        "profile": "9002-unproved-mail",
        "attributes": attributes(CN="Ada", EMAIL="ada@example.org"),
        "alt_names": alt_names("email,ada@example.org"),
    }
    return server_request(**(values | changes))


def ocsp_request(**changes: object) -> CertificateRequest:
    values: dict[str, object] = {
        "profile": "",
        "ocsp_target_ca": "unassured_2026_2",
        "attributes": attributes(CN="OCSP responder"),
        "alt_names": (),
    }
    return server_request(**(values | changes))


def test_approves_what_was_asked_for() -> None:
    request = server_request(wish_to="90d", signature_hash="sha512")
    approved = judge(request)
    assert approved.request is request
    assert approved.profile is PROFILES["9004-unproved-server"]
    assert approved.authority is default_authority()
    assert approved.algorithm == algorithms_for(p256_key().public_key())[0]
    assert f"{approved.serial_number:032x}" == "01" + ENTROPY.hex()
    assert approved.validity.not_before == NOW
    assert approved.validity.not_after == NOW + dt.timedelta(days=90, seconds=-1)
    assert approved.alt_names == request.alt_names
    assert approved.key_usage == ("digitalSignature",)
    assert approved.subject.endswith(b"www.example.org")


def test_only_decide_can_approve() -> None:
    approved = judge(server_request())
    fields = {each.name: getattr(approved, each.name) for each in dataclasses.fields(approved)}
    with pytest.raises(InternalError):
        ApprovedRequest(**fields, approval=None)
    with pytest.raises(InternalError):
        ApprovedRequest(**fields, approval=object())
    with pytest.raises(TypeError):
        ApprovedRequest(**fields)
    with pytest.raises(ValueError, match="approval"):
        dataclasses.replace(approved, serial_number=1)  # type: ignore[call-arg] # what the types forbid, too
    with pytest.raises(dataclasses.FrozenInstanceError):
        approved.serial_number = 1  # type: ignore[misc] # the fault
    assert copy.copy(approved) == approved  # a copy says nothing new


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        pytest.param(server_request(profile="7777-nothing"), "profile-unknown", "profile", id="unknown-profile"),
        pytest.param(server_request(profile=""), "profile-unknown", "profile", id="no-profile"),
        pytest.param(server_request(profile="0100-ocsp"), "profile-not-allowed", "profile", id="ocsp-by-profile"),
        pytest.param(ocsp_request(profile="0004-server"), "profile-not-allowed", "profile", id="ocsp-and-profile"),
        pytest.param(
            ocsp_request(key_proof=certification_request("Ed25519")), "key-not-pinned", "key", id="ocsp-not-pinned"
        ),
        pytest.param(ocsp_request(), "evidence-missing", "proofs", id="ocsp-not-attested"),
        pytest.param(server_request(profile="0004-server"), "evidence-missing", "proofs", id="no-evidence"),
        pytest.param(
            server_request(profile="0004-server", proofs=(b"proof",)), "evidence-invalid", "proofs", id="no-proof"
        ),
        pytest.param(server_request(proofs=(b"proof",)), "evidence-surplus", "proofs", id="any-proof"),
        pytest.param(server_request(key_proof=b""), "request-empty", "csr", id="empty-csr"),
        pytest.param(server_request(key_kind="spkac", key_proof=b""), "request-empty", "spkac", id="empty-spkac"),
        pytest.param(server_request(attributes=attributes(CN="")), "name-empty", "CN", id="empty-value"),
        pytest.param(server_request(attributes=attributes(XY="a")), "attribute-unknown", "", id="unknown-attribute"),
        pytest.param(
            server_request(attributes=attributes(O="Example")), "name-not-allowed", "O", id="attribute-not-allowed"
        ),
        pytest.param(
            server_request(alt_names=alt_names("DNS,www.example.org", "email,ada@example.org")),
            "name-not-allowed",
            "email",
            id="alt-name-not-allowed",
        ),
        pytest.param(mail_request(attributes=(), alt_names=()), "name-missing", "email", id="alt-name-missing"),
        pytest.param(ocsp_request(attributes=()), "name-missing", "CN", id="ocsp-without-name"),
        pytest.param(server_request(attributes=(), alt_names=()), "name-missing", "attributes", id="nobody"),
        pytest.param(
            server_request(alt_names=alt_names(*("DNS,www.example.org",) * 2)),
            "name-repeated",
            "alt_names",
            id="alt-name-twice",
        ),
        pytest.param(
            server_request(alt_names=alt_names(*(f"DNS,n{each}.example.org" for each in range(101)))),
            "too-many-names",
            "alt_names",
            id="too-many",
        ),
        pytest.param(
            server_request(alt_names=alt_names("DNS,example.org")), "name-not-covered", "CN", id="cn-is-no-host"
        ),
        pytest.param(
            server_request(attributes=attributes(CN="Ada"), alt_names=()), "name-not-covered", "CN", id="cn-is-a-person"
        ),
        pytest.param(
            mail_request(attributes=attributes(EMAIL="eve@example.org")),
            "name-not-covered",
            "EMAIL",
            id="other-address",
        ),
        pytest.param(server_request(signature_hash="sha1"), "signature-hash-weak", "signature_hash", id="sha1"),
        pytest.param(server_request(signature_hash="md5"), "signature-hash-weak", "signature_hash", id="md5"),
        pytest.param(server_request(wish_from="2026-11-22"), "date-past", "wish_from", id="past"),
        pytest.param(server_request(wish_from="soon"), "date-invalid", "wish_from", id="nonsense"),
        pytest.param(server_request(wish_to="1y"), "validity-too-long", "wish_to", id="too-long"),
    ],
)
def test_refuses(request_: CertificateRequest, code: str, field: str) -> None:
    with pytest.raises(Refused) as refusal:
        judge(request_)
    assert (refusal.value.code, refusal.value.field) == (code, field)


def test_a_missing_proof_is_named() -> None:
    with pytest.raises(Refused, match=r"attestation, dns-control for www.example.org, caa-permits for www.example.org"):
        judge(server_request(profile="0004-server"))


def test_wildcards_only_where_the_profile_allows_them() -> None:
    request = server_request(attributes=(), alt_names=alt_names("DNS,*.example.org"))
    assert judge(request).alt_names == request.alt_names
    strict = dataclasses.replace(PROFILES[request.profile], allow_wildcard=False)
    with pytest.raises(Refused) as refusal:
        judge(request, profiles={strict.name: strict})
    assert refusal.value.code == "wildcard-not-allowed"
    judge(server_request(), profiles={strict.name: strict})


def test_a_common_name_may_be_an_address_of_the_host() -> None:
    request = server_request(attributes=attributes(CN="192.0.2.7"), alt_names=alt_names("IP,192.0.2.7"))
    assert judge(request).alt_names == request.alt_names


def test_a_person_needs_no_host_name() -> None:
    assert judge(mail_request()).profile.name == "9002-unproved-mail"


@pytest.mark.parametrize(
    ("kind", "profile", "usage"),
    [
        ("RSA", "9004-unproved-server", ("digitalSignature", "keyEncipherment")),
        ("P-256", "9004-unproved-server", ("digitalSignature",)),
        ("RSA", "9002-unproved-mail", ("digitalSignature", "keyEncipherment")),
        ("P-256", "9002-unproved-mail", ("digitalSignature", "keyAgreement")),
        ("Ed25519", "9002-unproved-mail", ("digitalSignature",)),
        ("ML-DSA-44", "9002-unproved-mail", ("digitalSignature",)),
    ],
)
def test_each_key_is_certified_for_what_it_can_do(kind: str, profile: str, usage: tuple[str, ...]) -> None:
    request = mail_request() if "mail" in profile else server_request()
    approved = judge(dataclasses.replace(request, key_proof=certification_request(kind)))
    assert approved.key_usage == usage


def test_a_key_that_can_do_nothing_of_it_is_refused() -> None:
    encryption = dataclasses.replace(PROFILES["9004-unproved-server"], key_usage=("keyEncipherment",))
    with pytest.raises(Refused) as refusal:
        judge(server_request(), profiles={encryption.name: encryption})
    assert (refusal.value.code, refusal.value.field) == ("key-unsupported", "key")


def test_a_sub_ca_key_is_never_certified() -> None:
    own = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(p256_key(), hashes.SHA256())
    with pytest.raises(Refused) as refusal:
        judge(server_request(key_proof=own.public_bytes(Encoding.DER)))
    assert refusal.value.code == "key-blocked"
    assert judge(server_request(key_proof=certification_request("RSA"))).key.public_key == rsa_key().public_key()


def test_an_organisational_unit_may_be_repeated() -> None:
    profile = dataclasses.replace(PROFILES["9001-unproved-client"], subject=(("OU", Presence.OPTIONAL),))
    units = attributes(OU="One") + attributes(OU="Two")
    request = server_request(profile=profile.name, attributes=units, alt_names=alt_names("email,ada@example.org"))
    assert judge(request, profiles={profile.name: profile}).subject.endswith(b"Two")


# Version 1.


def test_version_1_has_its_own_list_of_profiles() -> None:
    assert judge(server_request(), version=1).profile.name == "9004-unproved-server"
    with pytest.raises(Refused) as refusal:
        judge(server_request(), version=1, version_1_profiles=frozenset({"9002-unproved-mail"}))
    assert (refusal.value.code, refusal.value.field) == ("profile-not-in-version-1", "profile")


def test_version_1_never_carries_evidence_nor_ocsp_responders() -> None:
    with pytest.raises(Refused) as refusal:
        judge(server_request(profile="0004-server"), version=1)
    assert refusal.value.code == "evidence-missing"
    with pytest.raises(Refused) as refusal:
        judge(ocsp_request(), version=1, profiles={"0100-ocsp": OCSP})
    assert refusal.value.code == "profile-not-in-version-1"


def test_version_1_drops_empty_values_and_takes_anything_for_a_date() -> None:
    request = server_request(attributes=attributes(CN="www.example.org", O=""), wish_from="x", wish_to="y")
    approved = judge(request, version=1)
    assert approved.subject == judge(server_request()).subject
    assert approved.validity == judge(server_request()).validity


# Not now.


def test_waits_for_a_sub_ca() -> None:
    with pytest.raises(Unavailable) as none:
        judge(server_request(), authorities=())
    assert none.value.code == "no-authority"
    with pytest.raises(Unavailable) as full:
        judge(server_request(), issued={"unassured_2026_2": 21_300})
    assert full.value.code == "authority-full"


def test_what_is_refused_is_refused_although_it_would_have_to_wait() -> None:
    for faulty in (server_request(signature_hash="md5"), server_request(wish_to="never")):
        with pytest.raises(Refused):
            judge(faulty, authorities=())


def test_refuses_a_name_beyond_the_constraints_of_its_sub_ca() -> None:
    constraints = NameConstraints(permitted_domains=("example.net",))
    constrained = dataclasses.replace(default_authority(), constraints=constraints)
    with pytest.raises(Refused) as refusal:
        judge(server_request(), authorities=(constrained,))
    assert (refusal.value.code, refusal.value.field) == ("name-not-permitted", "DNS")
    # What is looked at and never signed may have any name.
    sample = approve_sample(
        server_request(),
        profile=PROFILES["9004-unproved-server"],
        key=sample_key("P-256"),
        authority=constrained,
        now=NOW,
        serial_entropy=bytes(15),
    )
    assert sample.alt_names == server_request().alt_names


# OCSP responders.


def judge_ocsp(request: CertificateRequest, **arguments: object) -> ApprovedRequest:
    return judge(request, profiles={"9004": PROFILES["9004-unproved-server"], "0100-ocsp": OCSP}, **arguments)  # type: ignore[arg-type] # passed on


def test_an_ocsp_responder_gets_its_certificate_from_the_named_sub_ca() -> None:
    other = dataclasses.replace(default_authority(), name="unassured_2026_3", number=3)
    over = dataclasses.replace(default_authority(), issues_until=NOW - dt.timedelta(days=1))
    approved = judge_ocsp(ocsp_request(), authorities=(other, over))
    assert approved.authority is over  # it issues nothing else any more, but its certificates can still be revoked
    assert approved.profile is OCSP


def test_the_responder_of_a_retired_sub_ca_goes_on_answering() -> None:
    retired = dataclasses.replace(default_authority(), retired=True)
    assert judge_ocsp(ocsp_request(), authorities=(retired,)).authority is retired
    with pytest.raises(Unavailable) as none:
        judge(server_request(), authorities=(retired,))
    assert none.value.code == "no-authority"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"ocsp_target_ca": "unassured_2026_9"}, "authority-unknown", id="unknown"),
        pytest.param({"ocsp_target_ca": "unassured_2026_2\0"}, "authority-unknown", id="nul"),
        pytest.param({"attributes": ()}, "name-missing", id="no-name"),
    ],
)
def test_refuses_an_ocsp_responder(changes: dict[str, object], code: str) -> None:
    with pytest.raises(Refused) as refusal:
        judge_ocsp(ocsp_request(**changes))
    assert refusal.value.code == code


def test_an_ocsp_responder_of_another_signer_is_refused() -> None:
    with pytest.raises(Refused) as refusal:
        judge_ocsp(ocsp_request(), authorities=(dataclasses.replace(default_authority(), signer_id=2),))
    assert refusal.value.code == "authority-unknown"


def test_an_ocsp_responder_never_outlives_its_sub_ca() -> None:
    end = default_authority().not_after
    assert judge_ocsp(ocsp_request(wish_to="5d"), now=end - dt.timedelta(days=5)).validity.not_after < end
    with pytest.raises(Refused) as refusal:
        judge_ocsp(ocsp_request(wish_to="6d"), now=end - dt.timedelta(days=5))
    assert refusal.value.code == "validity-beyond-authority"


def test_an_ocsp_responder_waits_for_its_sub_ca() -> None:
    with pytest.raises(Unavailable) as early:
        judge_ocsp(ocsp_request(), now=default_authority().not_before - dt.timedelta(days=1))
    assert early.value.code == "no-authority"
    with pytest.raises(Unavailable) as full:
        judge_ocsp(ocsp_request(), issued={"unassured_2026_2": 21_364})
    assert full.value.code == "authority-full"


def test_an_ocsp_responder_waits_for_a_sub_ca_that_is_halted() -> None:
    with pytest.raises(Unavailable, match="is halted by an order of the operators") as halted:
        judge_ocsp(ocsp_request(), standing=Standing(halted_authorities=frozenset({"unassured_2026_2"})))
    assert halted.value.code == "authority-halted"
    judge_ocsp(ocsp_request(), standing=Standing(halted_authorities=frozenset({"unassured_2026_3"})))


def test_an_unsound_profile_waits_alone() -> None:
    unsound = {"9004-unproved-server": "its sample certificate has findings"}
    with pytest.raises(Unavailable, match="issues nothing: its sample certificate has findings") as waits:
        judge(server_request(), unsound_profiles=unsound)
    assert waits.value.code == "profile-unsound"
    judge(mail_request(), unsound_profiles=unsound)


def test_a_signer_without_a_profile_for_ocsp_responders_says_so() -> None:
    with pytest.raises(Refused) as refusal:
        judge(ocsp_request(), profiles={"9004": PROFILES["9004-unproved-server"]})
    assert (refusal.value.code, refusal.value.field) == ("profile-unknown", "ocsp_target_ca")


# Serial numbers.


@pytest.mark.parametrize("signer_id", [0x01, 0x7F])
def test_serial_numbers_are_positive_and_16_octets(signer_id: int) -> None:
    for entropy in (bytes(15), b"\xff" * 15):
        octets = make_serial_number(signer_id, entropy).to_bytes(16, "big")
        assert octets == bytes((signer_id,)) + entropy
        assert octets[0] < 0x80


@pytest.mark.parametrize(("signer_id", "octets"), [(0, 15), (0x80, 15), (1, 14), (1, 16), (1, 0)])
def test_no_serial_number_with_less(signer_id: int, octets: int) -> None:
    with pytest.raises(InternalError):
        make_serial_number(signer_id, bytes(octets))
