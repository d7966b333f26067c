"""The signer's signed word on time, boot and journal: what it is signed over, and who may have signed it.

Its octets are those of `payload.Timestamp`; Ed25519 (RFC 8032) over the tag and the DER of all but the signature.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cassiopeia.core import ed25519, structure
from cassiopeia.errors import SignatureInvalid
from cassiopeia.journal.head import TIMESTAMP_TAG
from cassiopeia.protocol.payload import Timestamp


def statement(timestamp: Timestamp) -> bytes:
    """What the journal key signs."""
    return TIMESTAMP_TAG + structure.encode(replace(timestamp, signature=None))


def verify_timestamp(timestamp: Timestamp, keys: Iterable[bytes]) -> None:
    """Raise SignatureInvalid unless one of these journal keys (DER SubjectPublicKeyInfo) has signed it."""
    for key in keys:
        try:
            ed25519.verify(key, timestamp.signature or b"", statement(timestamp))
        except SignatureInvalid:
            continue
        return
    raise SignatureInvalid("no known journal key has signed this timestamp")
