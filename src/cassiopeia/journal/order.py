"""Orders: the few things that operators can tell a signer over the line, each signed by m of n pinned Ed25519 keys.

An order names its signer, the boot that it is for, and its number: it is obeyed once, there, next, or never. Owns the
octets, the signatures (RFC 8032, over a tag and the DER of the order) and the rules for both; obeying is the signer's
part. Order files pass through many hands, and over a line that an attacker may hold: only what verifies counts.
docs/wire.asn1 is the authority on the octets.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.core import ed25519, structure
from cassiopeia.errors import PeerError, Refused, SignatureInvalid

ORDER_TAG: Final = b"cassiopeia/2 order\0"
CONFIRM_CLOCK: Final = "confirmClock"

MAXIMUM_OCTETS: Final = 64 * 1024
MAXIMUM_SIGNATURES: Final = 64
MAXIMUM_REASON_LENGTH: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What operators sign. `arguments` is the DER of the structure that belongs to `action` (`ARGUMENTS`)."""

    signer_id: int
    sequence: int
    boot_id: bytes
    action: str
    arguments: bytes
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderSignature:
    """`key` is SHA-256 of the operator's SubjectPublicKeyInfo."""

    key: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedOrder:
    """`order` is the DER of an `Order`, which each signature covers behind `ORDER_TAG`."""

    order: bytes
    signatures: tuple[OrderSignature, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfirmClock:
    """When CLOCK_BOOTTIME of this boot was `boot_seconds`, it was `true_time`.

    So an order stays exact for the hours that people need to sign it.
    """

    boot_seconds: int
    true_time: dt.datetime


Arguments = ConfirmClock
ARGUMENTS: Final[dict[str, type[Arguments]]] = {CONFIRM_CLOCK: ConfirmClock}


def draft_order(*, signer_id: int, sequence: int, boot_id: bytes, arguments: Arguments, reason: str) -> bytes:
    """DER of a `SignedOrder` that nobody has signed yet."""
    (action,) = (name for name, kind in ARGUMENTS.items() if isinstance(arguments, kind))
    order = Order(
        signer_id=signer_id,
        sequence=sequence,
        boot_id=boot_id,
        action=action,
        arguments=structure.encode(arguments),
        reason=reason,
    )
    return structure.encode(SignedOrder(order=structure.encode(order), signatures=()))


def sign_order(octets: bytes, key: Ed25519PrivateKey) -> bytes:
    """Add a signature to a `SignedOrder`, in the place of an earlier one by the same key; raises PeerError."""
    signed = read_signed(octets)
    own = OrderSignature(key=key_id(ed25519.public_octets(key)), signature=key.sign(ORDER_TAG + signed.order))
    others = (each for each in signed.signatures if each.key != own.key)
    return structure.encode(replace(signed, signatures=(*others, own)))


def key_id(public_key: bytes) -> bytes:
    """How orders name an operator's key: SHA-256 of its DER SubjectPublicKeyInfo."""
    return hashlib.sha256(public_key).digest()


def read_signed(octets: bytes) -> SignedOrder:
    """Read a `SignedOrder` without looking at what was signed; raises PeerError."""
    if len(octets) > MAXIMUM_OCTETS:
        raise PeerError(f"an order has at most {MAXIMUM_OCTETS} octets")
    signed = structure.decode(SignedOrder, octets)
    if len(signed.signatures) > MAXIMUM_SIGNATURES:
        raise PeerError(f"an order has at most {MAXIMUM_SIGNATURES} signatures")
    return signed


def read_order(octets: bytes) -> tuple[Order, Arguments]:
    """What the order in a `SignedOrder` says, whoever signed it; raises PeerError."""
    order = structure.decode(Order, read_signed(octets).order)
    if order.action not in ARGUMENTS:
        raise PeerError(f"there is no order {order.action[:40]!a}")
    if len(order.reason) > MAXIMUM_REASON_LENGTH:
        raise PeerError(f"the reason of an order has at most {MAXIMUM_REASON_LENGTH} characters")
    return order, structure.decode(ARGUMENTS[order.action], order.arguments)


def describe(order: Order, arguments: Arguments) -> dict[str, str]:
    """An order in words, for whoever has to decide whether to sign it."""
    return {
        "order": order.action,
        "for signer": f"{order.signer_id}, as its number {order.sequence}, until it is started again",
        "says": f"it was {arguments.true_time:%Y-%m-%d %H:%M:%S}Z when the signer's machine had run "
        f"{arguments.boot_seconds} seconds",
        "reason": order.reason,
    }


def verify_order(
    octets: bytes,
    *,
    operators: Collection[bytes],
    quorum: int,
    signer_id: int,
    boot_id: bytes,
    last_sequence: int,
) -> tuple[Order, Arguments]:
    """What this signer has to do, if the order is one that it must obey now; raises Refused.

    `operators` are the pinned keys (DER SubjectPublicKeyInfo), of which `quorum` different ones must have signed;
    `last_sequence` is that of the last order obeyed, 0 before the first.
    """
    try:
        order, arguments = read_order(octets)
    except PeerError as error:
        raise Refused(f"{error}: make it with `cassiopeia order make`", code="order-malformed") from error
    # 1. Who says so? Nothing else is told to whom nobody knows.
    _check_signatures(read_signed(octets), operators=operators, quorum=quorum)
    # 2. Are we meant?
    if order.signer_id != signer_id:
        raise Refused(
            f"this order is for signer {order.signer_id}, and this is signer {signer_id}",
            code="order-signer",
            field="signer_id",
        )
    if order.boot_id != boot_id:
        raise Refused(
            "the signer was started again since this order was made: make it anew, from its newest status",
            code="order-boot",
            field="boot_id",
        )
    # 3. Is it the next one? So nothing is obeyed twice, or in another order than it was meant.
    if order.sequence != last_sequence + 1:
        raise Refused(
            f"this is order {order.sequence}, and the next one that can be obeyed is {last_sequence + 1}: "
            "make it anew, from the signer's newest status",
            code="order-sequence",
            field="sequence",
        )
    return order, arguments


def _check_signatures(signed: SignedOrder, *, operators: Collection[bytes], quorum: int) -> None:
    if not operators:
        raise Refused(
            "this signer knows no operators: name their keys in signer.toml, as operators in [orders]",
            code="order-unheard",
        )
    distinct = frozenset(operators)
    try:
        count = sum(_has_signed(each, signed) for each in distinct)
    except SignatureInvalid as error:
        raise Refused(f"{error}: the file was changed after it was signed", code="order-signature") from error
    if count < quorum:
        raise Refused(
            f"{count} of the {len(distinct)} operators that this signer knows have signed this order, and {quorum} "
            "must: get more signatures (cassiopeia order sign) and send it again",
            code="order-quorum",
            field="signatures",
        )


def _has_signed(public_key: bytes, signed: SignedOrder) -> bool:
    identifier = key_id(public_key)
    for each in signed.signatures:
        if each.key == identifier:
            try:
                ed25519.verify(public_key, each.signature, ORDER_TAG + signed.order)
            except SignatureInvalid:
                raise SignatureInvalid(f"the signature of operator {identifier.hex()[:16]} is wrong") from None
            return True
    return False
