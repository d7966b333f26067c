"""A client's copy of a journal, kept in memory and put together as a client has to."""

from __future__ import annotations

from tests.support.journal_keys import JOURNAL_PUBLIC_KEY

from cassiopeia.core import merkle, structure
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.head import JournalHead
from cassiopeia.protocol.events import EntriesReceived, LogReceived


class JournalCopy:
    """What a client keeps: the octets of every entry, and what it has from the session itself."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.parts: list[tuple[bytes, ...]] = []
        self.known: dict[int, bytes] = {}
        self.sizes: list[int] = []
        self.withheld: list[int] = []

    def note(self, log: LogReceived) -> LogReceived:
        """A log that the client has saved: it need not come again."""
        octets = entries.decode_log(log.log).entry
        self.known[entries.decode_entry(octets).index] = octets
        return log

    def take(self, event: object) -> JournalHead:
        """Append what came; return the head that came with it."""
        assert isinstance(event, EntriesReceived)
        assert event.first == len(self.entries) + 1
        self.sizes.append(sum(map(len, event.logs)))
        for octets in event.logs:
            log = structure.decode(entries.Log, octets)
            previous = merkle.leaf_hash(self.entries[-1]) if self.entries else entries.NO_ENTRY
            position = len(self.entries) + 1
            if log.entry:
                self.entries.append(entries.put_previous(log.entry, previous))
            else:
                self.withheld.append(position)
                self.entries.append(self.known[position])
            self.parts.append(log.parts)
            entries.check_parts(entries.decode_entry(self.entries[-1]), log.parts)
        return heads.verify_head(event.head, [JOURNAL_PUBLIC_KEY])

    def root(self) -> bytes:
        return merkle.frontier_of([merkle.leaf_hash(each) for each in self.entries]).root()
