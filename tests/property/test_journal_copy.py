"""Whatever comes in whatever pieces, the copy is the journal, or nothing of what is wrong is believed."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.conversations import TIMESTAMP
from tests.support.copying import PINNED, Copying
from tests.support.journal_maker import JournalMaker, full_journal, journal_key

from cassiopeia.core import ed25519
from cassiopeia.errors import PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.protocol.events import TimestampReceived
from cassiopeia.store.database import Store, open_store, upgrade

KEYS = (PINNED, ed25519.public_octets(journal_key(3)))
_SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@functools.cache
def whole() -> tuple[JournalMaker, tuple[bytes, ...]]:
    """A journal with two keys and two epochs, and the head that its signer gave at each size."""
    made = full_journal()
    return made, tuple(_heads(made))


def _heads(made: JournalMaker) -> list[bytes]:
    """As `full_journal` makes them: the keys of its later entries sign from there on."""
    signed, key, epoch = [], journal_key(1), 1
    for index, log in enumerate(made.logs, 1):
        entry = entries.decode_entry(log.entry)
        if entry.kind == "key" and index > 1:
            key = journal_key(2)
        if entry.kind == "epoch":
            key, epoch = journal_key(3), entry.epoch
        made.journal_key = key
        signed.append(made.signed_head(index, epoch=epoch))
    return signed


@functools.cache
def template() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        upgrade(f"sqlite:///{path}")
        return path.read_bytes()


class Life:
    """A signer that grows, and a client that hears of it in pieces."""

    def __init__(self, store: Store) -> None:
        made, self.heads = whole()
        self.made = JournalMaker()
        self.made.logs = list(made.logs)
        self.size = 1
        self.copying = Copying(store, self.made, pinned=KEYS)
        self.open()

    def open(self) -> None:
        self.copying.open(self.heads[self.size - 1])

    def hear(self) -> None:
        stamp = dataclasses.replace(TIMESTAMP, head=self.heads[self.size - 1])
        self.copying.turn(TimestampReceived(handle=99, timestamp=stamp))

    def answer(self, at_most: int) -> None:
        self.copying.copy.hurry()
        asked = self.copying.ask()
        if asked is not None:
            logs = self.made.logs[asked.first - 1 : min(self.size, asked.first - 1 + at_most)]
            self.copying.answer(asked, logs, head=self.heads[self.size - 1])


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(1, 9)),
        st.tuples(st.just("hear"), st.just(0)),
        st.tuples(st.just("answer"), st.integers(1, 12)),
        st.tuples(st.just("line lost"), st.just(0)),
    ),
    max_size=30,
)


def live(life: Life, steps: list[tuple[str, int]]) -> None:
    for what, number in steps:
        match what:
            case "grow":
                life.size = min(life.size + number, life.made.size)
            case "hear":
                life.hear()
            case "answer":
                life.answer(number)
            case _:
                life.open()


def finish(life: Life) -> None:
    life.size = life.made.size
    life.open()
    while life.copying.size < life.size and not life.copying.copy.alarm:
        life.answer(1_000)


@given(steps=_STEPS)
@_SETTINGS
def test_the_copy_becomes_the_journal(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        path.write_bytes(template())
        with open_store(f"sqlite:///{path}") as store:
            life = Life(store)
            live(life, steps)
            assert not life.copying.copy.alarm
            assert life.copying.copied == life.made.logs[: life.copying.size]
            finish(life)
            assert life.copying.copied == life.made.logs
            proof = store.journal_copies.state(1).proof
            assert proof is not None
            assert proof.size == life.made.size


@given(steps=_STEPS, place=st.integers(1, 40), octet=st.integers(0, 400), bit=st.integers(0, 7))
@example(steps=[], place=1, octet=0, bit=0)
@_SETTINGS
def test_a_journal_that_was_changed_is_not_believed(
    steps: list[tuple[str, int]], place: int, octet: int, bit: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        path.write_bytes(template())
        with open_store(f"sqlite:///{path}") as store:
            life = Life(store)
            true = list(life.made.logs)
            index = place % len(true)
            changed = bytearray(true[index].entry)
            changed[octet % len(changed)] ^= 1 << bit
            life.made.logs[index] = dataclasses.replace(true[index], entry=bytes(changed))
            try:
                live(life, steps)
                finish(life)
            except PeerError:
                pass  # the session ends: these octets are no entry at all
            state = store.journal_copies.state(1)
            proven = state.proof.size if state.proof is not None else 0
            copied = life.copying.copied
            # What a signed head has proven is the true journal, word for word: the change is in none of it, unless it
            # was in what does not travel, the hash of the entry before.
            assert copied[:proven] == true[:proven]
            assert proven <= index or entries.without_previous(bytes(changed)) == entries.without_previous(
                true[index].entry
            )
