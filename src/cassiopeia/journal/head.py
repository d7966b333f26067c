"""Signed heads of the journal: what the signer cannot take back. Ed25519 (RFC 8032) over a tagged DER structure.

A head says how many entries there are and what the root of the tree over them is. Whoever holds one can tell later
whether a journal is the one that it was signed for, or a longer one that begins with the same entries.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.core import ed25519, structure
from cassiopeia.errors import SignatureInvalid

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
            ed25519.verify(key, signed.signature, HEAD_TAG + signed.head)
        except SignatureInvalid:
            continue
        return structure.decode(JournalHead, signed.head)
    raise SignatureInvalid("no known journal key has signed this head")
