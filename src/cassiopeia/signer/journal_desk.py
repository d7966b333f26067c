"""The journal over the line: heads that clients hold and are given, copies of entries, the signer's word on the time.

Keeps for each session what the client is known to have already (logs that it has confirmed, signatures that it was
given), so that a copy of the journal does not carry that again.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from cassiopeia.core import structure
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.entry import LOST_PAST
from cassiopeia.protocol import payload
from cassiopeia.protocol.session import Session
from cassiopeia.signer import answers
from cassiopeia.signer.gate import Gate
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.nonces import Nonces

_log = logging.getLogger(__name__)

_COPIED_OCTETS: Final = 128 * 1024
_REMEMBERED: Final = 100_000


@dataclass(kw_only=True)
class _Shared:
    """What one session's client has: the newest head, and entries that it need not be sent."""

    head_size: int = 0
    logs: set[int] = field(default_factory=set)
    signatures: set[int] = field(default_factory=set)


class JournalDesk:
    """Shares the journal with clients; `boot_seconds` reads CLOCK_BOOTTIME."""

    def __init__(
        self,
        *,
        journal: Journal,
        gate: Gate,
        signer_id: int,
        boot_id: bytes,
        boot_seconds: Callable[[], int],
        nonces: Nonces,
    ) -> None:
        self._journal = journal
        self._gate = gate
        self._signer_id = signer_id
        self._boot_id = boot_id
        self._boot_seconds = boot_seconds
        self._nonces = nonces
        self._sessions: dict[int, _Shared] = {}

    def presented(self, octets: bytes, *, now: dt.datetime) -> None:
        """Look at the head that a client holds; raises PeerError for one that is not ours.

        One that this journal does not begin with proves that entries are lost: the signer halts. What was lost when
        the journal was made again from a copy is known.
        """
        head = self._journal.own_head(octets)
        if self._journal.contains(head) or self._journal.outlived(head):
            return
        reason = (
            f"a client holds a head of {head.size} entries (epoch {head.epoch}) that this signer has signed; its "
            f"journal has {self._journal.size} and does not contain them"
        )
        _log.critical("halted: %s", reason)
        self._gate.halt(LOST_PAST, reason, now=now)

    def newest_head(self, session: Session) -> bytes | None:
        """The signed head, when this session has not had it yet: once for each commit is enough."""
        if session.version == 1:
            return None
        shared = self._shared(session)
        if shared.head_size == self._journal.size:
            return None
        shared.head_size = self._journal.size
        return self._journal.signed_head()

    def note_log(self, session: Session, position: int) -> None:
        """The client has confirmed this log."""
        _remember(self._shared(session).logs, position)

    def note_signature(self, session: Session, position: int) -> None:
        """The client was given the signature that is the part of this entry."""
        _remember(self._shared(session).signatures, position)

    def forget(self, session: Session) -> None:
        self._sessions.pop(id(session), None)

    def entries_requested(self, session: Session, handle: int, first: int, at_most: int) -> None:
        """Send entries that are on the disk, as many as fit one message."""
        shared = self._shared(session)
        first = min(max(first, 1), self._journal.size + 1)
        logs: list[bytes] = []
        octets = 0
        position = first - 1
        for position, entry, parts in self._journal.entries(
            first, min(at_most, payload.MAXIMUM_ENTRIES), bare=shared.logs | shared.signatures
        ):
            log = structure.encode(_copied(shared, position, entry, parts))
            octets += len(log)
            if logs and octets > _COPIED_OCTETS:
                position -= 1  # noqa: PLW2901 - this one goes into the next message
                break
            logs.append(log)
        # What was handed over now need not be remembered, nor what came before it.
        shared.logs = {each for each in shared.logs if each > position}
        shared.signatures = {each for each in shared.signatures if each > position}
        shared.head_size = self._journal.size
        session.send_entries(handle, first, logs, head=self._journal.signed_head())

    def timestamp_requested(self, session: Session, handle: int, *, now: dt.datetime) -> None:
        """The signer's word: time, boot, and how far the journal goes. It is given when that is on the disk."""

        def answer() -> None:
            timestamp = payload.Timestamp(
                time=now,
                signer_id=self._signer_id,
                boot_id=self._boot_id,
                boot_seconds=self._boot_seconds(),
                nonce=self._nonces.current,
                head=self._journal.signed_head(),
            )
            signature = self._journal.sign(heads.TIMESTAMP_TAG + structure.encode(timestamp))
            answers.give(session, lambda: session.send_timestamp(handle, replace(timestamp, signature=signature)))

        self._journal.when_durable(answer)

    def _shared(self, session: Session) -> _Shared:
        return self._sessions.setdefault(id(session), _Shared())


def _remember(positions: set[int], position: int) -> None:
    """A client that never asks for entries does not make us remember for ever what it has: it gets them whole."""
    if len(positions) >= _REMEMBERED:
        positions.clear()
    positions.add(position)


def _copied(shared: _Shared, position: int, entry: bytes, parts: tuple[bytes, ...]) -> entries.Log:
    return entries.Log(entry=b"" if position in shared.logs else entries.without_previous(entry), parts=parts)
