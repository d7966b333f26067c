"""Orders: the few things that operators can tell a signer over the line, signed with pinned Ed25519 keys.

An order names its signer, the boot that it is for, and its number: it is obeyed once, there, next, or never. One that
restricts what the signer does needs one operator; one that loosens it needs the quorum. Owns the octets, the
signatures (RFC 8032, over a tag and the DER of the order) and the rules for both; what orders add up to is `standing`'s
part, obeying the signer's. Order files pass through many hands, and over a line that an attacker may hold: only what
verifies counts. docs/wire.asn1 is the authority on the octets.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.core import ed25519, structure
from cassiopeia.core.bundle import HIGHEST_NUMBER
from cassiopeia.core.evidence import KEY_ID_OCTETS
from cassiopeia.errors import PeerError, Refused, SignatureInvalid

ORDER_TAG: Final = b"cassiopeia/2 order\0"

MAXIMUM_OCTETS: Final = 64 * 1024
MAXIMUM_SIGNATURES: Final = 64
MAXIMUM_REASON_LENGTH: Final = 500
MAXIMUM_NAME_LENGTH: Final = 255
LONGEST_RAISE_HOURS: Final = 30 * 24

CAPS: Final[Mapping[str, int]] = {
    "open-intents": 20_000,
    "profile-certificates": 100_000,
    "account-certificates": 100_000,
    "validator-certificates": 100_000,
    "revocations": 100_000,
    "refusals": 100_000,
}
"""Every cap, and the highest that it can be: beyond that it would hold back neither an attacker nor the use of memory.

Certificates, revocations and refusals are counted by the hour; open intents are those that wait for a confirmation.
"""

_HASH_OCTETS: Final = 32


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


@dataclass(frozen=True, kw_only=True, slots=True)
class HaltAuthority:
    """The sub-CA of this name signs no certificate; its CRLs go on."""

    authority: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeAuthority:
    """What halted the sub-CA of this name is over."""

    authority: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DisableValidator:
    """Nothing that the validator with this `evidence.key_id` says is believed, whenever it said it."""

    validator: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class EnableValidator:
    """The validator with this key id is believed again."""

    validator: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockKey:
    """No certificate is signed for this public key: SHA-256 of its SubjectPublicKeyInfo."""

    key_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class UnblockKey:
    """This public key may be certified again."""

    key_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RaiseCap:
    """The cap of this name (`CAPS`) is at least `limit` for so many hours, counted from when the order is obeyed."""

    cap: str
    limit: int
    hours: int


@dataclass(frozen=True, kw_only=True, slots=True)
class InstallBundle:
    """The signed bundle with this hash (`bundle.bundle_hash`), which has this number, is what the signer works by."""

    bundle_hash: bytes
    number: int


Arguments = (
    ConfirmClock
    | HaltAuthority
    | ResumeAuthority
    | DisableValidator
    | EnableValidator
    | BlockKey
    | UnblockKey
    | RaiseCap
    | InstallBundle
)
ARGUMENTS: Final[dict[str, type[Arguments]]] = {
    "confirmClock": ConfirmClock,
    "haltAuthority": HaltAuthority,
    "resumeAuthority": ResumeAuthority,
    "disableValidator": DisableValidator,
    "enableValidator": EnableValidator,
    "blockKey": BlockKey,
    "unblockKey": UnblockKey,
    "raiseCap": RaiseCap,
    "installBundle": InstallBundle,
}
RESTRICTING: Final = (HaltAuthority, DisableValidator, BlockKey)
"""What any one operator may order. Whatever is not named here loosens, and needs the quorum."""


def draft_order(*, signer_id: int, sequence: int, boot_id: bytes, arguments: Arguments, reason: str) -> bytes:
    """DER of a `SignedOrder` that nobody has signed yet; raises PeerError for arguments that no order can have."""
    _check_arguments(arguments)
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
    arguments = structure.decode(ARGUMENTS[order.action], order.arguments)
    _check_arguments(arguments)
    return order, arguments


def needed_signatures(arguments: Arguments, quorum: int) -> int:
    """How many operators must sign such an order, where `quorum` must sign one that loosens."""
    return 1 if isinstance(arguments, RESTRICTING) else quorum


def describe(order: Order, arguments: Arguments) -> dict[str, str]:
    """An order in words, for whoever has to decide whether to sign it."""
    restricts = isinstance(arguments, RESTRICTING)
    return {
        "order": order.action,
        "for signer": f"{order.signer_id}, as its number {order.sequence}, until it is started again",
        "says": explain(arguments),
        "kind": "restricts what the signer does: one operator's signature is enough"
        if restricts
        else "loosens what the signer does, or could: as many operators must sign as its signer.toml asks for (quorum)",
        "reason": order.reason,
    }


def explain(arguments: Arguments) -> str:
    """What an order does, in a sentence."""
    match arguments:
        case ConfirmClock():
            return (
                f"it was {arguments.true_time:%Y-%m-%d %H:%M:%S}Z when the signer's machine had run "
                f"{arguments.boot_seconds} seconds: the signer's clock is set by that, a halt for the clock ends, and "
                "so do raised caps"
            )
        case HaltAuthority():
            return (
                f"the sub-CA {arguments.authority} signs no certificate until it is resumed, not even those "
                "that were confirmed; its CRLs and revocations go on, and so do other sub-CAs"
            )
        case ResumeAuthority():
            return f"the sub-CA {arguments.authority} signs certificates again"
        case DisableValidator():
            return (
                f"the validator with the key {arguments.validator.hex()} is not believed until it is enabled: requests "
                "that rest on what it said wait for another validator"
            )
        case EnableValidator():
            return (
                f"the validator with the key {arguments.validator.hex()} is believed again, also in what it said before"
            )
        case BlockKey():
            return (
                f"no certificate is signed for the public key with SHA-256 {arguments.key_hash.hex()}, whoever asks; "
                "certificates that exist are not revoked by this"
            )
        case UnblockKey():
            return f"the public key with SHA-256 {arguments.key_hash.hex()} may be certified again"
        case RaiseCap():
            return (
                f"the cap {arguments.cap} is raised to {arguments.limit} "
                f"{'at a time' if arguments.cap == 'open-intents' else 'an hour'}, for {arguments.hours} hours from "
                "when the signer obeys, or until another order raises it or confirms the clock"
            )
        case InstallBundle():
            return (
                f"the signer installs bundle {arguments.number} with the SHA-256 {arguments.bundle_hash.hex()}: the "
                "sub-CAs and profiles in it, and the keys of validators, operators and OCSP responders, take the "
                "place of those that it got in the same way before"
            )


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

    `operators` are the pinned keys (DER SubjectPublicKeyInfo), of which `quorum` different ones must have signed, or
    one, if the order restricts; `last_sequence` is that of the last order obeyed, 0 before the first.
    """
    try:
        order, arguments = read_order(octets)
    except PeerError as error:
        raise Refused(f"{error}: make it with `cassiopeia order make`", code="order-malformed") from error
    # 1. Who says so? Nothing else is told to whom nobody knows.
    _check_signatures(read_signed(octets), operators=operators, needed=needed_signatures(arguments, quorum))
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


def _check_signatures(signed: SignedOrder, *, operators: Collection[bytes], needed: int) -> None:
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
    if count < needed:
        raise Refused(
            f"{count} of the {len(distinct)} operators that this signer knows have signed this order, and {needed} "
            "must: get more signatures (cassiopeia order sign) and send it again",
            code="order-quorum",
            field="signatures",
        )


def _check_arguments(arguments: Arguments) -> None:
    """Raise PeerError for what no signer could obey, whatever it knows."""
    match arguments:
        case HaltAuthority(authority=name) | ResumeAuthority(authority=name):
            if not 0 < len(name) <= MAXIMUM_NAME_LENGTH:
                raise PeerError(f"the name of a sub-CA has 1 to {MAXIMUM_NAME_LENGTH} characters")
        case DisableValidator(validator=octets) | EnableValidator(validator=octets):
            if len(octets) != KEY_ID_OCTETS:
                raise PeerError(f"the key id of a validator has {KEY_ID_OCTETS} octets")
        case BlockKey(key_hash=octets) | UnblockKey(key_hash=octets):
            if len(octets) != _HASH_OCTETS:
                raise PeerError(f"the hash of a key has {_HASH_OCTETS} octets")
        case RaiseCap(cap=cap, limit=limit, hours=hours):
            if cap not in CAPS:
                raise PeerError(f"there is no cap {cap[:40]!a}: they are {', '.join(CAPS)}")
            if not 1 <= limit <= CAPS[cap]:
                raise PeerError(f"the cap {cap} can be raised to {CAPS[cap]} at most")
            if not 1 <= hours <= LONGEST_RAISE_HOURS:
                raise PeerError(f"a cap is raised for 1 to {LONGEST_RAISE_HOURS} hours")
        case InstallBundle(bundle_hash=octets, number=number):
            if len(octets) != _HASH_OCTETS:
                raise PeerError(f"the hash of a bundle has {_HASH_OCTETS} octets")
            if not 1 <= number <= HIGHEST_NUMBER:
                raise PeerError(f"bundles are counted from 1 to {HIGHEST_NUMBER}")
        case ConfirmClock():
            pass  # what time it can be is judged by the signer's clock


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
