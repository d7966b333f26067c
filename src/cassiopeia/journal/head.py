"""Signed heads of the journal: what the signer cannot take back. Ed25519 (RFC 8032) over a tagged DER structure.

A head says how many entries there are and what the root of the tree over them is. Whoever holds one can tell later
whether a journal is the one that it was signed for, or a longer one that begins with the same entries.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from cassiopeia.core import structure
from cassiopeia.errors import PeerError, SignatureInvalid

HEAD_TAG: Final = b"cassiopeia/2 journal head\0"
KEY_TAG: Final = b"cassiopeia/2 journal key\0"
TIMESTAMP_TAG: Final = b"cassiopeia/2 timestamp\0"


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalHead:
    """`size` entries under `root_hash` (RFC 9162 2.1.1). `time` is the signer's clock."""

    signer_id: int
    epoch: int
    size: int
    root_hash: bytes
    time: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedHead:
    """`head` is the DER of a `JournalHead`, which `signature` covers behind `HEAD_TAG`."""

    head: bytes
    signature: bytes


def sign_head(head: JournalHead, key: Ed25519PrivateKey) -> bytes:
    """DER of the signed head."""
    octets = structure.encode(head)
    return structure.encode(SignedHead(head=octets, signature=key.sign(HEAD_TAG + octets)))


def read_head(octets: bytes) -> JournalHead:
    """What a signed head says, whoever signed it; raises PeerError."""
    return structure.decode(JournalHead, structure.decode(SignedHead, octets).head)


def verify_head(octets: bytes, keys: Iterable[bytes]) -> JournalHead:
    """Read a head that one of these keys (DER SubjectPublicKeyInfo) signed; raises SignatureInvalid or PeerError."""
    signed = structure.decode(SignedHead, octets)
    for key in keys:
        try:
            verify(key, signed.signature, HEAD_TAG + signed.head)
        except SignatureInvalid:
            continue
        return structure.decode(JournalHead, signed.head)
    raise SignatureInvalid("no known journal key has signed this head")


def verify(public_key: bytes, signature: bytes, octets: bytes) -> None:
    """Raise SignatureInvalid unless the Ed25519 key (DER SubjectPublicKeyInfo) has signed these octets."""
    try:
        load_public_key(public_key).verify(signature, octets)
    except InvalidSignature:
        raise SignatureInvalid("a signature of a journal key does not verify") from None


def load_public_key(octets: bytes) -> Ed25519PublicKey:
    """Read a DER SubjectPublicKeyInfo; raises PeerError unless it is an Ed25519 key."""
    try:
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PeerError("a journal key cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise PeerError("a journal key is not an Ed25519 key")
    return key


def public_octets(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """DER SubjectPublicKeyInfo of a key or its public half."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
