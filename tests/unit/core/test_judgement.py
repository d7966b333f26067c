"""Every way to cheat with proofs that we could think of, and beside each the honest case that differs by little."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from typing import Any, Final

import pytest
from tests.support.authorities import (
    NOW,
    alt_names,
    attributes,
    certification_request,
    default_ca,
    load_profile,
    make_authority,
    server_request,
    subject_public_key_info,
)
from tests.support.evidence import (
    BOOT_ID,
    NONCE,
    PREVIOUS_NONCE,
    REQUEST_ID,
    STANDING,
    TestValidator,
)

from cassiopeia.core import evidence, structure
from cassiopeia.core.policy import ApprovedRequest, decide
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.errors import Refused, Unavailable

FRONT: Final = TestValidator(b"v")
OTHER: Final = TestValidator(b"w", name="other", kinds=("attestation", "dns-control"))
PEOPLE: Final = TestValidator(b"x", name="people", kinds=("name-verified", "organisation"))
STRANGER: Final = TestValidator(b"y")

SERVER: Final = load_profile("0004-server")
UNPROVED: Final = load_profile("9004-unproved-server")
RESPONDER: Final = load_profile("0100-ocsp")
PINNED_KEY: Final = hashlib.sha256(subject_public_key_info(server_request())).digest()
RULES: Final = Rules(
    signer_id=1,
    profiles={each.name: each for each in (SERVER, UNPROVED, RESPONDER)},
    authorities=(make_authority(default_ca()),),
    validators={each.key_id: each.pinned for each in (FRONT, OTHER, PEOPLE)},
    responder_keys=frozenset({PINNED_KEY}),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Situation:
    """What comes to a signer, and how things stand there."""

    request: CertificateRequest
    standing: Standing = STANDING
    now: dt.datetime = NOW
    rules: Rules = RULES
    version: int = 2

    def decide(self) -> ApprovedRequest:
        return decide(
            self.request,
            rules=self.rules,
            standing=self.standing,
            now=self.now,
            serial_entropy=bytes(15),
            issued={},
            version=self.version,
        )


def wish(*names: str, **changes: Any) -> CertificateRequest:
    """A request of alice's for these names, without proofs."""
    values: dict[str, Any] = {
        "profile": SERVER.name,
        "account": "alice",
        "request_id": REQUEST_ID,
        "attributes": (),
        "alt_names": alt_names(*(f"DNS,{each}" for each in names or ("www.example.org",))),
    }
    return server_request(**(values | changes))


def dns(value: str = "www.example.org", by: TestValidator = FRONT, **changes: Any) -> bytes:
    return by.observe("dns-control", value, **changes)


def caa(value: str = "www.example.org", by: TestValidator = FRONT, **changes: Any) -> bytes:
    return by.observe("caa-permits", value, **changes)


def proved(*observations: bytes, request: CertificateRequest | None = None, **changes: Any) -> Situation:
    """Attested as it is, with these observations."""
    return Situation(request=FRONT.prove(request or wish(), *(observations or (dns(), caa())), **changes))


def with_proofs(situation: Situation, *proofs: bytes) -> Situation:
    return dataclasses.replace(situation, request=dataclasses.replace(situation.request, proofs=proofs))


def with_request(situation: Situation, **changes: Any) -> Situation:
    """The proofs stay, the request is another one."""
    return dataclasses.replace(situation, request=dataclasses.replace(situation.request, **changes))


def forged(observation: bytes, by: TestValidator = STRANGER) -> bytes:
    """Says the same, and names the same validator; signed by somebody else."""
    octets = structure.decode(evidence.SignedObservation, observation).observation
    signature = by.key.sign(evidence.OBSERVATION_TAG + octets)
    return structure.encode(evidence.SignedObservation(observation=octets, signature=signature))


def altered(attestation: bytes, **changes: Any) -> bytes:
    return structure.encode(dataclasses.replace(evidence.read_attestation(attestation), **changes))


HONEST: Final = proved()
D, C, A = HONEST.request.proofs
BATCH: Final = [
    wish(request_id=bytes([each]) * 32, key_proof=certification_request("P-256" if each else "Ed25519"))
    for each in range(3)
]
ATTESTED_BATCH: Final = FRONT.attest(*BATCH, observations=[(D, C)] * 3)
BLAMED: Final = dataclasses.replace(STANDING, disabled_validators=frozenset({OTHER.key_id}))
CAA_AGE: Final = dt.timedelta(hours=7)


def responder(*observations: bytes, **changes: Any) -> Situation:
    values: dict[str, Any] = {
        "profile": "",
        "ocsp_target_ca": "unassured_2026_2",
        "attributes": attributes(CN="Responder"),
        "alt_names": (),
    }
    return Situation(request=FRONT.prove(wish(**(values | changes)), *observations))


def batched(member: int, *, place: int | None = None) -> Situation:
    """A member of the batch, with the attestation of the one at `place`."""
    attestation = ATTESTED_BATCH[member if place is None else place]
    return Situation(request=dataclasses.replace(BATCH[member], proofs=(D, C, attestation)))


# What is tried, how it ends, and what would have been right. A code with a + is not final.
CHEATS: Final[dict[str, tuple[Situation, str, Situation]]] = {
    # --- whether there is an attestation at all
    "no proofs": (Situation(request=wish()), "evidence-missing", HONEST),
    "no attestation": (with_proofs(HONEST, D, C), "evidence-missing", HONEST),
    "an attestation alone": (Situation(request=FRONT.prove(wish())), "evidence-missing", HONEST),
    "the attestation before the observations": (with_proofs(HONEST, A, D, C), "evidence-invalid", HONEST),
    "two attestations": (with_proofs(HONEST, D, C, A, A), "evidence-invalid", HONEST),
    "version 1": (
        dataclasses.replace(
            HONEST, version=1, rules=dataclasses.replace(RULES, version_1_profiles=frozenset({SERVER.name}))
        ),
        "evidence-missing",
        HONEST,
    ),
    # --- who attests
    "a stranger attests": (Situation(request=STRANGER.prove(wish(), D, C)), "+validator-unknown", HONEST),
    "attested by a key for other things": (
        Situation(request=PEOPLE.prove(wish(), D, C)),
        "+validator-unknown",
        Situation(request=OTHER.prove(wish(), D, C)),
    ),
    "a stranger attests in the name of a validator": (
        with_proofs(HONEST, D, C, altered(STRANGER.prove(wish(), D, C).proofs[-1], validator=FRONT.key_id)),
        "evidence-invalid",
        HONEST,
    ),
    "attested by a disabled validator": (
        Situation(request=OTHER.prove(wish(), D, C), standing=BLAMED),
        "+reattest",
        Situation(request=OTHER.prove(wish(), D, C)),
    ),
    "another signature": (with_proofs(HONEST, D, C, altered(A, signature=bytes(64))), "evidence-invalid", HONEST),
    "a signature of no length": (with_proofs(HONEST, D, C, altered(A, signature=b"")), "evidence-invalid", HONEST),
    # --- under which nonce
    "an old nonce": (proved(nonce=b"o" * 16), "+reattest", proved(nonce=PREVIOUS_NONCE)),
    "a nonce of no octets": (proved(nonce=b""), "+reattest", HONEST),
    "an old nonce under a newer name": (
        with_proofs(HONEST, D, C, altered(proved(nonce=b"o" * 16).request.proofs[-1], nonce=NONCE)),
        "evidence-invalid",
        HONEST,
    ),
    "a signer without a nonce": (
        dataclasses.replace(HONEST, standing=Standing(boot_id=BOOT_ID)),
        "+reattest",
        HONEST,
    ),
    "another signer's nonce": (proved(signer_id=2, nonce=b"2" * 16), "+reattest", HONEST),
    "another signer": (proved(signer_id=2), "evidence-invalid", HONEST),
    "another boot's nonce": (proved(boot_id=b"B" * 16, nonce=b"2" * 16), "+reattest", HONEST),
    "another boot": (proved(boot_id=b"B" * 16), "evidence-invalid", HONEST),
    "after a restart": (
        dataclasses.replace(HONEST, standing=dataclasses.replace(STANDING, boot_id=b"B" * 16)),
        "evidence-invalid",
        HONEST,
    ),
    # --- over what
    "another request": (with_request(HONEST, request_id=b"R" * 32), "evidence-invalid", HONEST),
    "another CSR": (with_request(HONEST, key_proof=certification_request("Ed25519")), "evidence-invalid", HONEST),
    "another account": (with_request(HONEST, account="mallory"), "evidence-invalid", HONEST),
    "another profile": (
        dataclasses.replace(
            with_request(HONEST, profile="0099-server"),
            rules=dataclasses.replace(RULES, profiles={"0099-server": dataclasses.replace(SERVER, name="0099-server")}),
        ),
        "evidence-invalid",
        HONEST,
    ),
    "another end": (with_request(HONEST, wish_to="90d"), "evidence-invalid", proved(request=wish(wish_to="90d"))),
    "another hash": (with_request(HONEST, signature_hash="sha512"), "evidence-invalid", HONEST),
    "another name": (with_request(HONEST, alt_names=alt_names("DNS,example.org")), "evidence-invalid", HONEST),
    "another common name": (
        with_request(HONEST, attributes=attributes(CN="www.example.org")),
        "evidence-invalid",
        proved(request=wish(attributes=attributes(CN="www.example.org"))),
    ),
    "an observation less than attested": (with_proofs(HONEST, D, A), "evidence-invalid", HONEST),
    "an observation more than attested": (with_proofs(HONEST, D, C, dns(method="http"), A), "evidence-invalid", HONEST),
    "another observation than attested": (with_proofs(HONEST, D, caa(method="x"), A), "evidence-invalid", HONEST),
    "another order than attested": (with_proofs(HONEST, C, D, A), "evidence-invalid", proved(C, D)),
    "an attestation of another one of the batch": (batched(0, place=1), "evidence-invalid", batched(0)),
    "another place in the batch": (
        with_proofs(batched(0), D, C, altered(ATTESTED_BATCH[0], place=1)),
        "evidence-invalid",
        batched(1),
    ),
    "another size of the batch": (
        with_proofs(batched(2), D, C, altered(ATTESTED_BATCH[2], size=4)),
        "evidence-invalid",
        batched(2),
    ),
    "no path in the batch": (
        with_proofs(batched(0), D, C, altered(ATTESTED_BATCH[0], path=())),
        "evidence-invalid",
        batched(0),
    ),
    "a changed member of the batch": (with_request(batched(1), account="mallory"), "evidence-invalid", batched(1)),
    # --- who observed
    "a stranger observed": (proved(dns(by=STRANGER), C), "+validator-unknown", proved(dns(by=OTHER), C)),
    "observed by a key for other things": (proved(D, caa(by=OTHER)), "+validator-unknown", proved(dns(by=OTHER), C)),
    "a stranger observed in the name of a validator": (proved(forged(D), C), "evidence-invalid", HONEST),
    "another validator in the name of this one": (proved(forged(D, by=OTHER), C), "evidence-invalid", HONEST),
    "observed by a disabled validator": (
        dataclasses.replace(proved(dns(by=OTHER), C), standing=BLAMED),
        "+reattest",
        dataclasses.replace(HONEST, standing=BLAMED),
    ),
    "an observation of another's account": (
        proved(dns(account="bob"), C),
        "evidence-invalid",
        proved(dns(account="bob"), caa(account="bob"), request=wish(account="bob")),
    ),
    "an observation of no account": (proved(dns(account=""), C), "evidence-invalid", HONEST),
    "an observation of a kind that is none": (
        proved(dns(), C, FRONT.observe("attestation", "x")),
        "evidence-invalid",
        HONEST,
    ),
    "an observation of a kind that nobody knows": (proved(D, C, FRONT.observe("dns", "x")), "evidence-invalid", HONEST),
    # --- when
    "a domain seen too long ago": (
        proved(dns(observed_at=NOW - dt.timedelta(days=99, seconds=1)), C),
        "+reattest",
        proved(dns(observed_at=NOW - dt.timedelta(days=99)), C),
    ),
    "a CAA record seen too long ago": (
        proved(D, caa(observed_at=NOW - CAA_AGE - dt.timedelta(seconds=1))),
        "+reattest",
        proved(D, caa(observed_at=NOW - CAA_AGE)),
    ),
    "seen in the future": (
        proved(dns(observed_at=NOW + dt.timedelta(minutes=5, seconds=1)), C),
        "+reattest",
        proved(dns(observed_at=NOW + dt.timedelta(minutes=5)), C),
    ),
    "seen in a thousand years": (
        proved(dns(observed_at=dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)), C),
        "+reattest",
        HONEST,
    ),
    # --- about what
    "a name too few": (
        proved(request=wish("www.example.org", "example.org")),
        "evidence-missing",
        proved(D, C, dns("example.org"), caa("example.org"), request=wish("www.example.org", "example.org")),
    ),
    "a name too many": (proved(D, C, dns("example.org")), "evidence-surplus", HONEST),
    "no word on CAA": (proved(D), "evidence-missing", HONEST),
    "CAA alone": (proved(C), "evidence-missing", HONEST),
    "the same observation twice": (proved(D, D, C), "evidence-surplus", proved(D, dns(method="http"), C)),
    "another kind": (proved(FRONT.observe("mailbox-control", "www.example.org"), C), "evidence-surplus", HONEST),
    # --- octets
    "an empty proof": (with_proofs(HONEST, D, C, b""), "evidence-invalid", HONEST),
    "a proof of other octets": (with_proofs(HONEST, b"proof", C, A), "evidence-invalid", HONEST),
    "a cut observation": (proved(D[:-1], C), "evidence-invalid", HONEST),
    "a stretched observation": (proved(D + b"\0", C), "evidence-invalid", HONEST),
    "a cut attestation": (with_proofs(HONEST, D, C, A[:-1]), "evidence-invalid", HONEST),
    "an observation of many octets": (
        proved(dns(primary_key="1" * 4096), C),
        "evidence-invalid",
        proved(dns(primary_key="1" * 3000), C),
    ),
    "an attestation of many octets": (
        with_proofs(HONEST, D, C, altered(A, path=(b"x" * 32,) * 200)),
        "evidence-invalid",
        HONEST,
    ),
    # --- profiles without names to prove
    "proofs that nobody asked for": (
        proved(request=wish(profile=UNPROVED.name)),
        "evidence-surplus",
        Situation(request=wish(profile=UNPROVED.name)),
    ),
    "a responder's key that is not pinned": (
        responder(key_proof=certification_request("Ed25519")),
        "key-not-pinned",
        responder(),
    ),
    "a responder that is not attested": (with_proofs(responder()), "evidence-missing", responder()),
    "a responder with an observation": (
        responder(PEOPLE.observe("name-verified", "Responder")),
        "evidence-surplus",
        responder(),
    ),
    "a responder's pinned key for another sub-CA": (
        with_request(responder(), ocsp_target_ca="assured_2026_2"),
        "evidence-invalid",
        responder(),
    ),
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_gets_no_certificate(name: str) -> None:
    cheat, code, _ = CHEATS[name]
    with pytest.raises((Refused, Unavailable)) as caught:
        cheat.decide()
    assert isinstance(caught.value, Refused | Unavailable)
    assert f"{'+' * isinstance(caught.value, Unavailable)}{caught.value.code}" == code


@pytest.mark.parametrize("name", CHEATS)
def test_beside_the_cheat_there_is_an_honest_way(name: str) -> None:
    _, _, honest = CHEATS[name]
    assert honest.decide().request is honest.request


def test_over_version_1_the_originals_proof_lines_count_nothing() -> None:
    rules = dataclasses.replace(RULES, version_1_profiles=frozenset({UNPROVED.name}))
    request = dataclasses.replace(wish(profile=UNPROVED.name), proofs=(b"anything",))
    assert Situation(request=request, version=1, rules=rules).decide().validators == ()


def test_who_proved_it_is_known_each_once() -> None:
    assert proved(dns(by=OTHER), C).decide().validators == (FRONT.key_id, OTHER.key_id)
    assert HONEST.decide().validators == (FRONT.key_id,)
    assert responder().decide().validators == (FRONT.key_id,)


def test_a_bad_member_of_a_batch_harms_no_other() -> None:
    for member in (0, 2):
        batched(member).decide()
    with pytest.raises(Refused):
        with_proofs(batched(1), D, ATTESTED_BATCH[1]).decide()


def test_everything_that_is_missing_is_listed() -> None:
    situation = proved(D, request=wish("www.example.org", "example.org"))
    with pytest.raises(Refused) as caught:
        situation.decide()
    assert caught.value.message == (
        "The profile 0004-server demands proofs that are missing for the account 'alice': caa-permits for"
        " www.example.org, dns-control for example.org, caa-permits for example.org. Have them proved, or leave such"
        " names out, and ask again."
    )
    assert caught.value.field == "proofs"


def test_without_any_proof_the_attestation_is_on_the_list() -> None:
    with pytest.raises(Refused, match=r"'alice': attestation, dns-control for www\.example\.org, caa-permits for"):
        Situation(request=wish()).decide()


@pytest.mark.parametrize(
    ("situation", "says"),
    [
        (CHEATS["a stranger attests"][0], rf"has no validator {STRANGER.key_id.hex()} for attestation: pin its key"),
        (CHEATS["an old nonce"][0], r"attest the request anew"),
        (
            CHEATS["observed by a disabled validator"][0],
            r"the validator other is disabled by an order of the operators",
        ),
        (CHEATS["seen in the future"][0], r"is dated 2026-11-23 12:35:16, and it is only 2026-11-23 12:30:15 here"),
        (
            CHEATS["a CAA record seen too long ago"][0],
            r"caa-permits of 'www\.example\.org' is from 2026-11-23 05:30:14",
        ),
        (CHEATS["a CAA record seen too long ago"][0], r"counts for 7 hours: observe it anew$"),
    ],
)
def test_what_new_evidence_mends_says_what_to_do(situation: Situation, says: str) -> None:
    with pytest.raises(Unavailable, match=says):
        situation.decide()


def test_a_profile_sets_ages_of_its_own() -> None:
    profile = dataclasses.replace(SERVER, maximum_age_hours=(("caa-permits", 1),))
    rules = dataclasses.replace(RULES, profiles={SERVER.name: profile})
    dataclasses.replace(HONEST, rules=rules).decide()
    with pytest.raises(Unavailable, match="counts for 1 hours"):
        dataclasses.replace(HONEST, rules=rules, now=NOW + dt.timedelta(seconds=1)).decide()


def test_a_shown_value_cannot_rearrange_the_sentence() -> None:
    with pytest.raises(Refused) as caught:
        proved(D, C, dns("\u202eexample.org" * 100)).decide()
    assert caught.value.message.isascii()
    assert len(caught.value.message) < 900
