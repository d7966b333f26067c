"""Drafts of orders, made from the signer's own signed word; and the files that they travel in from hand to hand.

Owns what stands in an order (for which signer and boot, as which number, what the time was) and PEM around it. Nobody
here signs: that is done where the operators' keys are.
"""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cassiopeia.config import HIGHEST_SIGNER_ID
from cassiopeia.core import structure
from cassiopeia.core.validity import ONE_SECOND
from cassiopeia.errors import OperatorError, PeerError, SignatureInvalid
from cassiopeia.journal.order import Arguments, ConfirmClock, draft_order, read_order
from cassiopeia.journal.timestamp import verify_timestamp
from cassiopeia.protocol import payload
from cassiopeia.store.database import Store

_LABEL: Final = "CASSIOPEIA ORDER"
# The largest that the store can number; an order with another number is none of ours.
_HIGHEST_SEQUENCE: Final = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """An order that nobody has signed yet.

    `silent` is for how long the signer has not been heard: an order is good only as long as it was not started again.
    """

    octets: bytes
    silent: dt.timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockDraft(Draft):
    """An order that says what the time is, and what comes of it: by how much the signer's clock will be moved."""

    signer_time: dt.datetime
    correction: dt.timedelta


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """What a signer said last of itself: `word` is signed, `asked_at` when that was asked for, `report` its status."""

    word: payload.Timestamp
    asked_at: dt.datetime
    report: Mapping[str, Any]

    def draft(self, arguments: Arguments, *, reason: str) -> bytes:
        """The next order for this signer and boot; raises OperatorError for what no order can say."""
        try:
            octets = draft_order(
                signer_id=self.word.signer_id,
                sequence=int(self.report.get("order_sequence", 0)) + 1,
                boot_id=self.word.boot_id,
                arguments=arguments,
                reason=reason,
            )
            read_order(octets)
        except PeerError as error:
            raise OperatorError(f"there can be no such order: {error}") from error
        return octets


def hear(store: Store, *, journal_keys: Collection[bytes], signer_id: int) -> Heard:
    """What the store holds as the signer's last word; raises OperatorError when there is none, or it is not signed."""
    stored = store.orders.timestamp(signer_id)
    status = next((each for each in store.signers.list() if each.signer_id == signer_id), None)
    if stored is None or status is None:
        raise OperatorError(
            f"signer {signer_id} has not been heard here: is `cassiopeia client run` running, and does the line stand?"
        )
    word = structure.decode(payload.Timestamp, stored.octets)
    try:
        verify_timestamp(word, store.journal_copies.state(signer_id).link.head_keys(journal_keys))
    except SignatureInvalid as error:
        raise OperatorError(
            f"what the store holds as the word of signer {signer_id} is not signed by its journal key: {error}"
        ) from error
    return Heard(word=word, asked_at=stored.asked_at, report=status.report)


def draft_confirm_clock(heard: Heard, *, reason: str, true_time: dt.datetime, now: dt.datetime) -> ClockDraft:
    """An order that says: it is `true_time` now. `now` is what this machine's clock shows."""
    # By this machine's clock it was asked for so long ago; by it alone, right or wrong. The signer said it later, and
    # its seconds since boot are cut off: with a second less, the order sets no clock ahead.
    silent = now - heard.asked_at
    true_then = true_time - silent - ONE_SECOND
    arguments = ConfirmClock(boot_seconds=heard.word.boot_seconds, true_time=true_then.replace(microsecond=0))
    return ClockDraft(
        octets=heard.draft(arguments, reason=reason),
        signer_time=heard.word.time + silent,
        correction=true_then - heard.word.time,
        silent=silent,
    )


def find_authority(heard: Heard, name: str) -> str:
    """The name of a sub-CA that this signer has; raises OperatorError."""
    names = [str(each["name"]) for each in heard.report.get("authorities", ())]
    if name not in names:
        raise OperatorError(
            f"signer {heard.word.signer_id} has no sub-CA named {name}; it has {', '.join(names) or 'none'}"
        )
    return name


def find_validator(heard: Heard, name: str) -> bytes:
    """The key id of a validator of this signer, given its name there or the key id itself; raises OperatorError."""
    validators = heard.report.get("orders", {}).get("validators", ())
    for each in validators:
        if name in (each["name"], each["key_id"]):
            return bytes.fromhex(each["key_id"])
    names = ", ".join(f"{each['name']} ({each['key_id']})" for each in validators)
    raise OperatorError(
        f"signer {heard.word.signer_id} has no validator with the name or key id {name}; it has {names or 'none'}"
    )


def write_order(path: Path, octets: bytes, *, replace: bool = False) -> None:
    """Write an order file: all of it or nothing, and a new one unless `replace`; raises OperatorError."""
    path = path.absolute()
    if not replace and path.exists():
        raise OperatorError(f"{path}: is there already: choose another name")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(payload.encode_pem(_LABEL, octets))
        Path(name).replace(path)
    except OSError as error:
        raise OperatorError(f"{path}: cannot write the order: {error.strerror}") from error


def read_order_file(path: Path) -> bytes:
    """The octets of the order in a file; raises OperatorError."""
    try:
        octets = payload.decode_pem(_LABEL, path.read_bytes())
        order, _ = read_order(octets)
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the order: {error.strerror}") from error
    except PeerError as error:
        raise OperatorError(f"{path}: this is not an order: {error}") from error
    if not 1 <= order.signer_id <= HIGHEST_SIGNER_ID or order.sequence > _HIGHEST_SEQUENCE:
        raise OperatorError(f"{path}: this is not an order: no signer has such a number")
    return octets
