"""What signers said of themselves last, out of the store: their nonces, their clocks, and whom they believe.

The client asks for it. The word on nonce and time (`store.orders`) is signed by the signer's journal key, the status
(`store.signers`) is not. Whoever changes either gains nothing: an attestation under a nonce that no signer gave out is
void, and what a signer does not believe it refuses itself.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

from cassiopeia.core import structure
from cassiopeia.errors import PeerError
from cassiopeia.journal.timestamp import verify_timestamp
from cassiopeia.protocol.payload import Timestamp
from cassiopeia.store.database import Store
from cassiopeia.store.records import SignerStatus

_log = logging.getLogger(__name__)

LIFE: Final = dt.timedelta(minutes=5)
"""A nonce that was the newest within this time holds (wire specification, "Proofs")."""
_STILL_GOOD: Final = dt.timedelta(minutes=4)
# Half of what an observation may be ahead: the clock is trusted no further, and nobody has to look at the seconds.
_WORTH_SAYING: Final = dt.timedelta(minutes=2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A signer that lives: attest under `nonce`. `nonces` hold for a while yet; `ahead` is its clock, less ours.

    `believed` has the kinds of statement that it takes from each validator, by key id, and `disabled` the validators
    that it takes nothing from, by an order; None: it has not said so. While it does not issue, what is attested for it
    would only be kept from other signers.
    """

    signer_id: int
    boot_id: bytes
    nonce: bytes
    nonces: tuple[bytes, ...]
    ahead: dt.timedelta
    believed: Mapping[bytes, frozenset[str]] | None = None
    disabled: frozenset[bytes] = frozenset()
    issues: bool = True

    def doubt(self, validator: bytes, kind: str) -> str:
        """Why it does not take statements of this kind from this validator, as the end of a sentence; else empty."""
        if validator in self.disabled:
            return f"is signed by validator {validator.hex()}, which an order of the operators has disabled"
        if self.believed is not None and kind not in self.believed.get(validator, frozenset()):
            return (
                f"is signed by validator {validator.hex()}, which signer {self.signer_id} has not pinned for {kind}: "
                "see [[validator]] in its signer.toml"
            )
        return ""


@dataclass(kw_only=True)
class _Remembered:
    octets: bytes
    boot_id: bytes
    nonce: bytes
    before: bytes
    since: dt.datetime


_KeyId = Annotated[str, msgspec.Meta(pattern=r"^(?:[0-9a-f]{2})*\Z")]


class _Pinned(msgspec.Struct, frozen=True, kw_only=True):
    key_id: _KeyId
    kinds: frozenset[str]


class _Orders(msgspec.Struct, frozen=True, kw_only=True):
    validators: tuple[_Pinned, ...]
    disabled_validators: tuple[_KeyId, ...]


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    """As the client writes it (`client.signer_status`), of another release perhaps."""

    state: str = "running"
    orders: _Orders | None = None


class Words:
    """Remembers the nonce before the newest one, so that not everything has to be attested anew at every change."""

    def __init__(self, store: Store, journal_keys: Collection[bytes]) -> None:
        self._store = store
        self._journal_keys = journal_keys
        self._remembered: dict[int, _Remembered] = {}
        self._doubted: dict[int, bytes] = {}
        # When words were asked for, by the client's clock, that are too old or too new; None: that was said.
        self._stale: dict[int, dt.datetime | None] = {}

    def live(self, now: dt.datetime) -> tuple[Word, ...]:
        """The signers that were heard lately, by number."""
        found = (self._word(each, now) for each in self._store.signers.list())
        return tuple(each for each in found if each is not None)

    def _word(self, status: SignerStatus, now: dt.datetime) -> Word | None:
        signer_id = status.signer_id
        stored = self._store.orders.timestamp(signer_id)
        # An answer that is dated ahead came before this clock was set back.
        if stored is None:
            return None
        if abs(now - stored.asked_at) > LIFE:
            self._note_stale(signer_id, stored.asked_at, now=now)
            return None
        self._stale.pop(signer_id, None)
        known = self._remembered.get(signer_id)
        try:
            said = structure.decode(Timestamp, stored.octets)
            if known is None or known.octets != stored.octets:
                link = self._store.journal_copies.state(signer_id).link
                verify_timestamp(said, link.head_keys(self._journal_keys))
                if said.signer_id != signer_id:
                    raise PeerError(f"it is the word of signer {said.signer_id}")  # noqa: TRY301 - said as the others
        except PeerError as error:
            self._doubt(signer_id, stored.octets, error)
            return None
        ahead = said.time - stored.asked_at
        report = _said(status)
        known = self._remember(said, stored.octets, known, now=now, ahead=ahead)
        holds = known.before and now - known.since < _STILL_GOOD
        return Word(
            signer_id=signer_id,
            boot_id=said.boot_id,
            nonce=said.nonce,
            nonces=(said.nonce, known.before) if holds else (said.nonce,),
            ahead=ahead,
            believed=_believed(report.orders) if report.orders else None,
            disabled=frozenset(map(bytes.fromhex, report.orders.disabled_validators if report.orders else ())),
            issues=report.state == "running",
        )

    def _remember(
        self, said: Timestamp, octets: bytes, known: _Remembered | None, *, now: dt.datetime, ahead: dt.timedelta
    ) -> _Remembered:
        if known is None or known.boot_id != said.boot_id or known.nonce != said.nonce:
            is_same_boot = known is not None and known.boot_id == said.boot_id
            if not is_same_boot and abs(ahead) > _WORTH_SAYING:
                _log.warning(
                    "the clock of signer %d differs from ours by %.0f seconds: what is seen is dated by the earlier",
                    said.signer_id,
                    ahead.total_seconds(),
                )
            before = known.nonce if known is not None and is_same_boot else b""
            known = _Remembered(octets=octets, boot_id=said.boot_id, nonce=said.nonce, before=before, since=now)
            self._remembered[said.signer_id] = known
        known.octets = octets
        return known

    def _note_stale(self, signer_id: int, asked_at: dt.datetime, *, now: dt.datetime) -> None:
        """Say once that clocks differ: the word is from the future, or there is a new one that is as old."""
        before = self._stale.setdefault(signer_id, asked_at)
        if before is not None and (asked_at > now or asked_at != before):
            self._stale[signer_id] = None
            _log.error(
                "the word of signer %d is dated %.0f minutes %s the clock of this machine, and nothing is attested for "
                "it: set the clock, here or where the client runs",
                signer_id,
                abs(asked_at - now).total_seconds() / 60,
                "ahead of" if asked_at > now else "behind",
            )

    def _doubt(self, signer_id: int, octets: bytes, error: PeerError) -> None:
        """Say so once for each word."""
        if self._doubted.get(signer_id) != octets:
            self._doubted[signer_id] = octets
            _log.error(
                "the word of signer %d in the store is not believed, and nothing is attested for it: %s; is its "
                "journal's key in [journal] keys of validator.toml?",
                signer_id,
                error,
            )


def _said(status: SignerStatus) -> _Status:
    """What matters of a signer's status; a status that this release does not understand says nothing."""
    try:
        return msgspec.convert(status.report, _Status)
    except msgspec.ValidationError as error:
        _log.debug("the status of signer %d in the store is passed over: %s", status.signer_id, error)
        return _Status()


def _believed(orders: _Orders) -> dict[bytes, frozenset[str]]:
    return {bytes.fromhex(each.key_id): each.kinds for each in orders.validators}
