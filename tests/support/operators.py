"""Operators' keys, and orders that they sign."""

from __future__ import annotations

import datetime as dt
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia.core.ed25519 import public_octets
from cassiopeia.journal.order import Arguments, ConfirmClock, draft_order, sign_order

OPERATORS = tuple(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(1, 5))
PUBLIC_KEYS = tuple(public_octets(key) for key in OPERATORS)
BOOT_ID = b"b" * 16
TRUE_TIME = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


def public_pem(number: int = 0) -> bytes:
    return OPERATORS[number].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def confirm_clock(**changes: Any) -> bytes:
    """An order that nobody has signed yet."""
    values: dict[str, Any] = {
        "signer_id": 1,
        "sequence": 1,
        "boot_id": BOOT_ID,
        "arguments": ConfirmClock(boot_seconds=1000, true_time=TRUE_TIME),
        "reason": "the battery was empty",
    }
    return draft_order(**(values | changes))


def drafted(arguments: Arguments, **changes: Any) -> bytes:
    """Any order that nobody has signed yet."""
    return confirm_clock(**({"arguments": arguments, "reason": "a test"} | changes))


def signed(octets: bytes, *numbers: int) -> bytes:
    """The order with signatures of these operators."""
    for number in numbers:
        octets = sign_order(octets, OPERATORS[number])
    return octets
