"""What one session's answers hold of the journal already, so that a copy of it need not carry that again.

The signer leaves out the logs that were confirmed in this session and the signatures that it has released. Here they
are kept until their entries are copied, and put back. What the store has in other tables by then is left out of the
copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from cassiopeia.core import merkle, structure
from cassiopeia.errors import Inconsistent, PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal.chain import Chain, Link
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.store.journal_copies import JournalCopies

# Some 20 MB. A copy that is so far behind is fetched whole, in another session, rather than held in memory.
_MAXIMUM_SENT: Final = 20_000
_CRL_SIGNATURES: Final = 64


@dataclass(kw_only=True, slots=True)
class _Sent:
    """A log of this session whose entry was not copied yet; `saved`: `signing_log` has it, and parts are let go."""

    entry: JournalEntry
    log: Log
    leaf: bytes
    saved: bool = False


class SessionShare:
    """The logs and signatures of one session, until they are copied."""

    def __init__(self) -> None:
        self._sent: dict[int, _Sent] = {}
        # By the index of the result; None when the store has its certificate.
        self._signatures: dict[int, bytes | None] = {}
        # By their hash: the answers that bring them name no index.
        self._crl_signatures: dict[bytes, bytes] = {}

    def add_log(self, entry: JournalEntry, log: Log, link: Link) -> None:
        """Take an intent behind what was copied (`link`); raises Inconsistent where it contradicts what came before."""
        index, leaf = entry.index, merkle.leaf_hash(log.entry)
        known, before, behind = (self._sent.get(each) for each in (index, index - 1, index + 1))
        if known is not None and known.log.entry != log.entry:
            raise Inconsistent(index, "another entry of this index was sent before")
        previous_hash = link.last_hash if index == link.size + 1 else before.leaf if before else entry.previous_hash
        if entry.previous_hash != previous_hash:
            raise Inconsistent(index, "it does not follow the entry before it")
        if behind is not None and behind.entry.previous_hash != leaf:
            raise Inconsistent(index, "the entry behind it does not follow it")
        if known is None and len(self._sent) < _MAXIMUM_SENT:
            self._sent[index] = _Sent(entry=entry, log=log, leaf=leaf)

    def log_saved(self, index: int) -> None:
        """`signing_log` has the log of this intent."""
        sent = self._sent.get(index)
        if sent is not None:
            sent.saved = True
            sent.log = _without_parts(sent.log)

    def add_signature(self, index: int, signature: bytes) -> None:
        """Take the signature that is the part of this result."""
        self._signatures[index] = signature

    def certificate_kept(self, index: int) -> None:
        """The store has the certificate of this result."""
        if index in self._signatures:
            self._signatures[index] = None

    def add_crl_signature(self, signature: bytes) -> None:
        while len(self._crl_signatures) >= _CRL_SIGNATURES:
            del self._crl_signatures[next(iter(self._crl_signatures))]
        self._crl_signatures[entries.part_hash(signature)] = signature

    def let_go(self, size: int) -> None:
        """Forget what was copied: the entries up to `size`."""
        self._sent = {index: each for index, each in self._sent.items() if index > size}
        self._signatures = {index: each for index, each in self._signatures.items() if index > size}

    def take(self, chain: Chain, octets: bytes) -> tuple[JournalEntry, Log]:
        """Append the next entry to `chain`, from its octets as they travel, with what was left out put back.

        Raises Inconsistent, or PeerError where something is left out that was never sent.
        """
        index = chain.size + 1
        copied = structure.decode(Log, octets)
        sent = self._sent.get(index)
        if copied.entry:
            entry, log = chain.complete(copied)
            if sent is not None and sent.log.entry != log.entry:
                raise Inconsistent(index, "it is not the entry that was sent as a log")
            log = self._with_signature(entry, log) if sent is None else sent.log
        elif sent is not None:
            entry, log = sent.entry, sent.log
        else:
            # The next session shares no past, so the signer sends everything.
            raise PeerError(f"the signer leaves out entry {index}, which is not known here")
        chain.append(entry, log)
        return entry, log

    def without_kept(self, logs: Sequence[tuple[JournalEntry, Log]], copies: JournalCopies) -> list[Log]:
        """Leave out the parts that other tables have: logs that were saved, in whatever session, and signatures."""
        digests = {
            entry.index: entries.part_hash(entries.encode_log(log))
            for entry, log in logs
            if entry.kind == "intent" and entry.index not in self._sent and all(log.parts)
        }
        saved = copies.saved_logs(digests.values())
        return [_without_parts(log) if digests.get(entry.index) in saved else log for entry, log in logs]

    def _with_signature(self, entry: JournalEntry, log: Log) -> Log:
        if entry.kind == "result" and entry.index in self._signatures:
            return replace(log, parts=(self._signatures[entry.index] or b"",))
        if entry.kind == "crl" and log.parts == (b"",):
            return replace(log, parts=tuple(self._crl_signatures.get(each, b"") for each in entry.parts))
        return log


def _without_parts(log: Log) -> Log:
    return replace(log, parts=(b"",) * len(log.parts))
