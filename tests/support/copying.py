"""A signer that hands out a journal of the test's own making, and the client that copies it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support.conversations import joined
from tests.support.journal_maker import JournalMaker, journal_key
from tests.support.store import NOW

from cassiopeia.client.journal_copy import JournalCopy
from cassiopeia.core import ed25519
from cassiopeia.errors import Unavailable
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import Log
from cassiopeia.protocol.events import EntriesRequested, Event
from cassiopeia.store.database import Store

PINNED = ed25519.public_octets(journal_key(1))


class Copying:
    """One client's copy of `made`, in one session after the other; `at_once` entries in an answer."""

    def __init__(self, store: Store, made: JournalMaker, *, pinned: Sequence[bytes] = (PINNED,)) -> None:
        self.store = store
        self.made = made
        self.clock = 0.0
        self.at_once = 1_000
        self.copy = JournalCopy(store=store, pinned=tuple(pinned), clock=lambda: self.clock)
        self.pair = joined()
        self.asked: list[int] = []
        self.presented: bytes | None = None

    @property
    def copied(self) -> list[Log]:
        return list(self.store.journal_copies.logs(self.made.signer_id))

    @property
    def size(self) -> int:
        return self.store.journal_copies.state(self.made.signer_id).link.size

    def open(self, head: bytes | None = None, *, shows: bool = True) -> None:
        """Begin a session; the signer shows this head, or its newest, or (not `shows`) none."""
        self.pair = joined()
        self.copy.line_lost()
        self.presented = self.copy.present_head()
        self.copy.opened(self.made.signer_id, (head or self.made.signed_head()) if shows else None)
        self.turn()

    def turn(self, *events: Event) -> None:
        """Take events and write back, as one turn of the client's loop does."""
        for event in events:
            self.copy.receive(event)
        self.copy.take_heads()
        self.copy.write_back(now=NOW)

    def ask(self) -> EntriesRequested | None:
        """Let the client send what is due; return what it asks for."""
        self.copy.send(self.pair.client)
        asked = self.pair.to_signer()
        assert all(isinstance(each, EntriesRequested) for each in asked)
        return asked[0] if asked else None  # type: ignore[return-value] # as was just seen

    def answer(self, asked: EntriesRequested, logs: Sequence[Log], *, first: int = 0, head: bytes = b"") -> None:
        """Answer with these entries, as they travel."""
        travelling = [
            entries.encode_log(Log(entry=log.entry and entries.without_previous(log.entry), parts=log.parts))
            for log in logs
        ]
        head = head or self.made.signed_head()
        self.pair.signer.send_entries(asked.handle, first or asked.first, travelling, head=head)
        self.turn(*self.pair.to_client())

    def say_not_now(self, asked: EntriesRequested) -> None:
        self.pair.signer.send_failed(asked.handle, Unavailable("not now", retry_after_s=9))
        self.turn(*self.pair.to_client())

    def run(self) -> None:
        """Answer truly for as long as the client asks."""
        self.copy.hurry()
        while asked := self.ask():
            self.asked.append(asked.first)
            self.answer(asked, self.made.logs[asked.first - 1 :][: min(asked.at_most, self.at_once)])
            self.copy.hurry()


def begun(signer_id: int = 1) -> JournalMaker:
    made = JournalMaker(signer_id=signer_id)
    made.begin()
    return made
