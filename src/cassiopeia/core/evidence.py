"""Signed statements of validators: what they observed, and which request they vouch for.

Owns the octets, the signatures (Ed25519 behind a tag of its own kind) and the way from octets to values; whether a
statement suffices for a request is `judgement`'s part. An observation says what a validator saw itself, and can be used
again until it is too old. An attestation is for one request, under one nonce of one boot of one signer; a batch of
requests may share its signature, each with a path to the root that was signed (RFC 9162 2.1). Wire specification,
"Proofs"; docs/wire.asn1 is the authority on the octets.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.core import ed25519, merkle, structure
from cassiopeia.errors import InternalError, PeerError, SignatureInvalid

OBSERVATION_TAG: Final = b"cassiopeia/2 observation\0"
ATTESTATION_TAG: Final = b"cassiopeia/2 attestation\0"

ATTESTATION: Final = "attestation"
OBSERVATION_KINDS: Final = ("dns-control", "caa-permits", "mailbox-control", "name-verified", "organisation")
STATEMENT_KINDS: Final = (ATTESTATION, *OBSERVATION_KINDS)
"""What a validator's key can be pinned for."""

KEY_ID_OCTETS: Final = 8
NONCE_OCTETS: Final = 16
MAXIMUM_PROOFS: Final = 512
"""Proofs of one request: two for each of 250 names, and some."""
MAXIMUM_PROOF_OCTETS: Final = 4096
MAXIMUM_BATCH: Final = 1024
"""Requests that one attestation covers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What a validator saw: `kind` is one of `OBSERVATION_KINDS`, `value` the exact name, for this `account` alone.

    `method` says how it was seen; `table` and `primary_key` are the row of the database that it is about (the seed's
    proof line). `validator` is the `key_id` of the key that signs it.
    """

    kind: str
    value: str
    account: str
    method: str
    observed_at: dt.datetime
    table: str
    primary_key: str
    validator: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedObservation:
    """`observation` is the DER of an `Observation`, which `signature` covers behind `OBSERVATION_TAG`."""

    observation: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class AttestedRequest:
    """What an attestation says of one request. Not sent: the signer makes it from what it has.

    `key_hash` is SHA-256 of the SubjectPublicKeyInfo, `observations` SHA-256 of each signed observation that comes
    along, in this order. `subscriber_signature` is room for the subscriber's own word (ACME account keys).
    """

    request_id: bytes
    request_digest: bytes
    key_hash: bytes
    account: str
    observations: tuple[bytes, ...]
    subscriber_signature: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AttestationStatement:
    """What is signed: `root_hash` is that of the tree over the `size` attested requests. Not sent."""

    signer_id: int
    boot_id: bytes
    nonce: bytes
    size: int
    root_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Attestation:
    """What is sent for one request: its place in the batch, the path to the root, and the signature over the root."""

    validator: bytes
    nonce: bytes
    place: int
    size: int
    path: tuple[bytes, ...]
    signature: bytes


def key_id(public_key: bytes) -> bytes:
    """How statements name a validator's key: the first 8 octets of SHA-256 of its DER SubjectPublicKeyInfo."""
    return hashlib.sha256(public_key).digest()[:KEY_ID_OCTETS]


def sign_observation(observation: Observation, key: Ed25519PrivateKey) -> bytes:
    """DER of the signed observation; `observation.validator` must name this key."""
    if observation.validator != key_id(ed25519.public_octets(key)):
        raise InternalError("an observation names another key than the one that signs it")
    octets = structure.encode(observation)
    return structure.encode(SignedObservation(observation=octets, signature=key.sign(OBSERVATION_TAG + octets)))


def read_observation(octets: bytes) -> Observation:
    """What a signed observation says, whoever signed it; raises PeerError."""
    if len(octets) > MAXIMUM_PROOF_OCTETS:
        raise PeerError(f"an observation has at most {MAXIMUM_PROOF_OCTETS} octets")
    return _read(octets)[1]


def verify_observation(octets: bytes, public_key: bytes) -> None:
    """Raise SignatureInvalid unless this key (DER SubjectPublicKeyInfo) has signed the observation."""
    signed, _ = _read(octets)
    _verify(public_key, signed.signature, OBSERVATION_TAG + signed.observation)


def attest(
    requests: Sequence[AttestedRequest], key: Ed25519PrivateKey, *, signer_id: int, boot_id: bytes, nonce: bytes
) -> list[bytes]:
    """DER of an `Attestation` for each of these requests, under one signature."""
    if not 1 <= len(requests) <= MAXIMUM_BATCH:
        raise InternalError(f"an attestation covers 1 to {MAXIMUM_BATCH} requests")
    leaves = [_leaf(each) for each in requests]
    statement = AttestationStatement(
        signer_id=signer_id, boot_id=boot_id, nonce=nonce, size=len(leaves), root_hash=merkle.frontier_of(leaves).root()
    )
    signature = key.sign(ATTESTATION_TAG + structure.encode(statement))
    validator = key_id(ed25519.public_octets(key))
    return [
        structure.encode(
            Attestation(
                validator=validator,
                nonce=nonce,
                place=place,
                size=len(leaves),
                path=merkle.inclusion_path(place, leaves),
                signature=signature,
            )
        )
        for place in range(len(leaves))
    ]


def read_attestation(octets: bytes) -> Attestation:
    """Read an attestation without believing it; raises PeerError."""
    if len(octets) > MAXIMUM_PROOF_OCTETS:
        raise PeerError(f"an attestation has at most {MAXIMUM_PROOF_OCTETS} octets")
    attestation = structure.decode(Attestation, octets)
    if not 0 <= attestation.place < attestation.size <= MAXIMUM_BATCH:
        raise PeerError(f"an attestation covers 1 to {MAXIMUM_BATCH} requests")
    return attestation


def verify_attestation(
    attestation: Attestation, request: AttestedRequest, *, public_key: bytes, signer_id: int, boot_id: bytes
) -> None:
    """Raise SignatureInvalid unless this key has attested exactly this request, for this signer and boot."""
    if attestation.validator != key_id(public_key):
        raise SignatureInvalid("an attestation names another key than the one that signed it")
    root_hash = merkle.root_of_path(
        _leaf(request), number=attestation.place, size=attestation.size, path=attestation.path
    )
    statement = AttestationStatement(
        signer_id=signer_id,
        boot_id=boot_id,
        nonce=attestation.nonce,
        size=attestation.size,
        root_hash=root_hash,
    )
    _verify(public_key, attestation.signature, ATTESTATION_TAG + structure.encode(statement))


def observation_hash(octets: bytes) -> bytes:
    """How an attestation names an observation: SHA-256 of the signed octets."""
    return hashlib.sha256(octets).digest()


def _leaf(request: AttestedRequest) -> bytes:
    return merkle.leaf_hash(structure.encode(request))


def _read_signed(octets: bytes) -> tuple[SignedObservation, Observation]:
    signed = structure.decode(SignedObservation, octets)
    return signed, structure.decode(Observation, signed.observation)


# Observations are used again, and the requests of a batch share one signature: each is read and verified once in a
# while. What raises is not remembered.
_read = functools.lru_cache(maxsize=2048)(_read_signed)
_verify = functools.lru_cache(maxsize=2048)(ed25519.verify)
