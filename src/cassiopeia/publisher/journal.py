"""A signer's journal as the publisher reads it, out of the client's copy: what was issued and revoked, beyond doubt.

Every entry is chained to the one before, and nothing counts before a head that the signer has signed covers it: whoever
writes into the database can hold entries back, and can invent none. Reads on from where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from cassiopeia.core import structure
from cassiopeia.errors import Inconsistent, PeerError, SignatureInvalid
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.chain import Chain, Link, no_entries
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.publisher.known import KnownCertificates
from cassiopeia.publisher.serials import SerialTable
from cassiopeia.store.journal_copies import JournalCopies, SeenHead

_log = logging.getLogger(__name__)


class SignerJournal:
    """The journal of one signer; `pinned` are the keys that its heads may be signed with (`journal.chain.Link`).

    A long journal takes half a minute to read: `is_stopping` is asked now and then whether nobody wants that any more.
    """

    def __init__(
        self, signer_id: int, pinned: Collection[bytes], *, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self.signer_id = signer_id
        self._pinned = pinned
        self._is_stopping = is_stopping
        self._link: Link = no_entries(signer_id)
        self._pending: dict[int, tuple[str, int]] = {}
        self.alarm = ""
        self.is_whole = False

    @property
    def size(self) -> int:
        """How many entries were read."""
        return self._link.size

    def read_on(self, copies: JournalCopies, known: dict[str, KnownCertificates]) -> None:
        """Take what has come since, as far as a signed head covers it; `known` learns it.

        What is not as it should be is logged, and kept in `alarm` for as long as it stays so. Raises Unavailable, and
        OperatorError for rows that are missing.
        """
        state = copies.state(self.signer_id)
        try:
            if state.proof is not None and state.proof.size > self._link.size:
                self._take(state.proof, copies, known)
            self._note("")
        except PeerError as error:
            self._note(f"the copy of the journal of signer {self.signer_id} cannot be believed: {error}")
        newest = state.head.size if state.head is not None else 0
        self.is_whole = not self.alarm and self._link.size > 0 and self._link.size >= max(newest, state.link.size)

    def _take(self, proof: SeenHead, copies: JournalCopies, known: dict[str, KnownCertificates]) -> None:
        # 1. Every entry up to the head, chained.
        chain = Chain(self._link, self._pinned)
        found = _Found(pending=dict(self._pending))
        while chain.size < proof.size:
            if self._is_stopping():
                return
            row = copies.stored(self.signer_id, chain.size + 1)
            if row is None:
                raise Inconsistent(chain.size + 1, "it ends before the head that it was proved with")
            first, logs = row
            for log in logs[chain.size + 1 - first : proof.size + 1 - first]:
                entry = structure.decode(JournalEntry, log.entry)
                # The parts are about persons: they are not asked for here.
                chain.append(entry, Log(entry=log.entry, parts=(b"",) * len(entry.parts)))
                found.take(entry)
        # 2. The head is signed, and is that of these very entries.
        link = chain.link()
        head = heads.verify_head(proof.octets, link.head_keys(self._pinned))
        if (head.signer_id, head.size) != (self.signer_id, link.size) or head.root_hash != link.root():
            raise SignatureInvalid(f"the signed head over {head.size} entries is that of another journal")
        # 3. Now it counts.
        found.teach(known)
        self._link, self._pending = link, found.pending
        _log.debug("journal of signer %d: read up to entry %d", self.signer_id, link.size)

    def _note(self, alarm: str) -> None:
        if alarm and alarm != self.alarm:
            _log.error("%s; what was read before stands, and nothing new is called good", alarm)
        elif self.alarm and not alarm:
            _log.info("the copy of the journal of signer %d can be read on", self.signer_id)
        self.alarm = alarm


@dataclass(kw_only=True)
class _Found:
    """What entries say, before it counts. `pending`: intents of which nothing has come yet, by their index."""

    pending: dict[int, tuple[str, int]]
    issued: dict[str, SerialTable] = field(default_factory=dict)
    revoked: list[tuple[str, bytes]] = field(default_factory=list)

    def take(self, entry: JournalEntry) -> None:
        match entry.kind:
            case "intent":
                intent: entries.Intent = _body(entries.Intent, entry)
                self.pending[entry.index] = intent.signing_ca, int.from_bytes(intent.serial_number, "big")
            case "result":
                result: entries.Result = _body(entries.Result, entry)
                # Behind a new epoch, results are written down a second time.
                if result.intent in self.pending:
                    signing_ca, serial_number = self.pending.pop(result.intent)
                    self.issued.setdefault(signing_ca, SerialTable()).add(serial_number, entry.index)
            case "abandonment":
                abandonment: entries.Abandonment = _body(entries.Abandonment, entry)
                self.pending.pop(abandonment.intent, None)
            case "revocation":
                revocations: entries.Revocations = _body(entries.Revocations, entry)
                self.revoked.append((revocations.signing_ca, b"".join(revocations.entries)))

    def teach(self, known: dict[str, KnownCertificates]) -> None:
        for name, table in self.issued.items():
            known.setdefault(name, KnownCertificates()).learn_issued(table)
        for name, octets in self.revoked:
            known.setdefault(name, KnownCertificates()).learn_revoked(octets)


def _body(kind: type[Any], entry: JournalEntry) -> Any:
    return structure.decode(kind, entry.body)
