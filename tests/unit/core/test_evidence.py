from __future__ import annotations

import hashlib

import pytest
from tests.support import statements
from tests.support.statements import (
    BOOT_ID,
    OTHER_KEY,
    SIGNER_ID,
    VALIDATOR,
    VALIDATOR_KEY,
    attestations,
    attested,
    observation,
    signed_observation,
)

from cassiopeia.core import evidence, structure
from cassiopeia.core.ed25519 import public_octets
from cassiopeia.errors import InternalError, PeerError, SignatureInvalid


def test_a_key_is_named_by_the_beginning_of_its_hash() -> None:
    assert evidence.key_id(VALIDATOR) == hashlib.sha256(VALIDATOR).digest()[:8]


def test_an_observation_is_signed_behind_its_tag() -> None:
    signed = structure.decode(evidence.SignedObservation, signed_observation())
    assert evidence.OBSERVATION_TAG == b"cassiopeia/2 observation\0"
    assert signed.observation == structure.encode(observation())
    assert evidence.read_observation(signed_observation()) == observation()
    VALIDATOR_KEY.public_key().verify(signed.signature, b"cassiopeia/2 observation\0" + signed.observation)


def test_an_observation_is_that_of_its_key() -> None:
    evidence.verify_observation(signed_observation(OTHER_KEY), public_octets(OTHER_KEY))
    with pytest.raises(SignatureInvalid):
        evidence.verify_observation(signed_observation(OTHER_KEY), VALIDATOR)


def test_nobody_signs_in_the_name_of_another() -> None:
    with pytest.raises(InternalError, match="another key"):
        evidence.sign_observation(observation(), OTHER_KEY)


def test_a_signature_over_one_kind_of_statement_is_none_over_another() -> None:
    """The tags keep them apart, whatever the octets."""
    octets = structure.encode(observation())
    for tag in (evidence.ATTESTATION_TAG, b"cassiopeia/2 order\0", b""):
        signed = evidence.SignedObservation(observation=octets, signature=VALIDATOR_KEY.sign(tag + octets))
        with pytest.raises(SignatureInvalid):
            evidence.verify_observation(structure.encode(signed), VALIDATOR)


def test_statements_are_bounded() -> None:
    large = signed_observation(value="x" * evidence.MAXIMUM_PROOF_OCTETS)
    for read in (evidence.read_observation, evidence.read_attestation):
        with pytest.raises(PeerError, match="at most 4096 octets"):
            read(large)


@pytest.mark.parametrize(("place", "size"), [(0, 0), (1, 1), (5, 2), (0, evidence.MAXIMUM_BATCH + 1)])
def test_a_place_is_one_of_the_batch(place: int, size: int) -> None:
    made = evidence.Attestation(
        validator=bytes(8), nonce=bytes(16), place=place, size=size, path=(), signature=bytes(64)
    )
    with pytest.raises(PeerError, match="1 to 1024 requests"):
        evidence.read_attestation(structure.encode(made))


def test_a_batch_is_bounded_and_its_last_one_fits_into_a_proof() -> None:
    requests = [attested(number) for number in range(evidence.MAXIMUM_BATCH)]
    octets = attestations(requests)[-1]
    assert len(octets) < 600
    verify(octets, requests[-1])
    for wrong in ([], [*requests, attested(1)]):
        with pytest.raises(InternalError, match="1 to 1024 requests"):
            attestations(wrong)


def test_an_attestation_is_that_of_the_key_that_it_names() -> None:
    (octets,) = attestations([attested()], OTHER_KEY)
    with pytest.raises(SignatureInvalid, match="names another key"):
        verify(octets, attested())
    said = evidence.read_attestation(octets)
    pretended = structure.encode(
        evidence.Attestation(
            validator=evidence.key_id(VALIDATOR),
            nonce=said.nonce,
            place=said.place,
            size=said.size,
            path=said.path,
            signature=said.signature,
        )
    )
    with pytest.raises(SignatureInvalid, match="does not verify"):
        verify(pretended, attested())


def verify(octets: bytes, request: evidence.AttestedRequest) -> None:
    evidence.verify_attestation(
        evidence.read_attestation(octets), request, public_key=VALIDATOR, signer_id=SIGNER_ID, boot_id=BOOT_ID
    )


def test_an_observation_is_named_by_its_hash() -> None:
    assert evidence.observation_hash(b"octets") == hashlib.sha256(b"octets").digest()
    assert attested(0, [b"octets"]).observations == (evidence.observation_hash(b"octets"),)
    assert evidence.read_attestation(attestations([attested()])[0]).nonce == statements.NONCE
