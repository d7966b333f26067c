"""Signed statements: what was encoded comes back, and not one bit of what was signed can be another one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import statements
from tests.support.operators import BOOT_ID, PUBLIC_KEYS, confirm_clock, signed
from tests.support.statements import VALIDATOR, VALIDATOR_KEY, attestations, attested, signed_observation
from tests.support.strategies import instances, moments, octet_strings, texts

from cassiopeia.core import evidence, structure
from cassiopeia.core.evidence import AttestedRequest, Observation
from cassiopeia.errors import PeerError, Refused, SignatureInvalid
from cassiopeia.journal import order

STRUCTURES = [
    Observation,
    evidence.SignedObservation,
    AttestedRequest,
    evidence.AttestationStatement,
    evidence.Attestation,
    order.Order,
    order.OrderSignature,
    order.SignedOrder,
    *order.ARGUMENTS.values(),
]

observations = st.builds(
    Observation,
    **dict.fromkeys(("kind", "value", "account", "method", "table", "primary_key"), texts),
    observed_at=moments,
    validator=st.just(evidence.key_id(VALIDATOR)),
)
requests = st.builds(
    AttestedRequest,
    request_id=octet_strings,
    request_digest=octet_strings,
    key_hash=octet_strings,
    account=texts,
    observations=st.lists(octet_strings, max_size=3).map(tuple),
    subscriber_signature=st.none() | octet_strings,
)


@pytest.mark.parametrize("kind", STRUCTURES, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_structure_comes_back(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(instances(kind))
    assert structure.decode(kind, structure.encode(value)) == value


@given(observation=observations)
def test_what_was_observed_comes_back(observation: Observation) -> None:
    octets = evidence.sign_observation(observation, VALIDATOR_KEY)
    evidence.verify_observation(octets, VALIDATOR)
    assert evidence.read_observation(octets) == observation


@given(batch=st.lists(requests, min_size=1, max_size=20), nonce=octet_strings)
def test_each_of_a_batch_is_attested_and_no_other(batch: list[AttestedRequest], nonce: bytes) -> None:
    made = [evidence.read_attestation(each) for each in attestations(batch, nonce=nonce)]
    for place, attestation in enumerate(made):
        assert (attestation.place, attestation.size, attestation.nonce) == (place, len(batch), nonce)
        for request in batch:
            if request == batch[place]:
                verify(attestation, request)
            else:
                with pytest.raises(SignatureInvalid):
                    verify(attestation, request)


@given(data=st.data(), batch=st.lists(requests, min_size=1, max_size=5))
def test_an_attestation_is_for_everything_that_it_says(data: st.DataObject, batch: list[AttestedRequest]) -> None:
    place = data.draw(st.integers(0, len(batch) - 1))
    attestation = evidence.read_attestation(attestations(batch)[place])
    field = data.draw(st.sampled_from(dataclasses.fields(AttestedRequest))).name
    other = dataclasses.replace(batch[place], **{field: getattr(data.draw(requests), field)})
    if other != batch[place]:
        with pytest.raises(SignatureInvalid):
            verify(attestation, other)
    with pytest.raises(SignatureInvalid):
        verify(attestation, batch[place], signer_id=2)
    with pytest.raises(SignatureInvalid):
        verify(attestation, batch[place], boot_id=b"another boot")
    with pytest.raises(SignatureInvalid):
        verify(dataclasses.replace(attestation, nonce=b"another nonce"), batch[place])


def test_no_bit_of_an_observation_can_be_another_one() -> None:
    octets = signed_observation()
    evidence.verify_observation(octets, VALIDATOR)
    for changed in with_one_bit_flipped(octets):
        with pytest.raises(PeerError):
            evidence.verify_observation(changed, VALIDATOR)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_no_bit_of_an_attestation_can_be_another_one(size: int) -> None:
    batch = [attested(number, [signed_observation()]) for number in range(size)]
    octets = attestations(batch)[size // 2]
    verify(evidence.read_attestation(octets), batch[size // 2])
    for changed in with_one_bit_flipped(octets):
        with pytest.raises(PeerError):
            verify(evidence.read_attestation(changed), batch[size // 2])


def test_no_bit_of_an_order_can_be_another_one() -> None:
    octets = signed(confirm_clock(), 0)
    obey(octets)
    for changed in with_one_bit_flipped(octets):
        with pytest.raises(Refused):
            obey(changed)


@given(octets=st.binary(max_size=200))
def test_octets_without_sense_are_no_statement(octets: bytes) -> None:
    for read in (evidence.read_observation, evidence.read_attestation, order.read_order):
        with pytest.raises(PeerError):
            read(octets)


def verify(
    attestation: evidence.Attestation,
    request: AttestedRequest,
    *,
    signer_id: int = statements.SIGNER_ID,
    boot_id: bytes = statements.BOOT_ID,
) -> None:
    evidence.verify_attestation(attestation, request, public_key=VALIDATOR, signer_id=signer_id, boot_id=boot_id)


def obey(octets: bytes) -> None:
    order.verify_order(octets, operators=PUBLIC_KEYS[:1], quorum=1, signer_id=1, boot_id=BOOT_ID, last_sequence=0)


def with_one_bit_flipped(octets: bytes) -> list[bytes]:
    """Every input that differs from these octets by exactly one bit."""
    number = int.from_bytes(octets, "big")
    return [(number ^ 1 << bit).to_bytes(len(octets), "big") for bit in range(8 * len(octets))]
