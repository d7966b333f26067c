"""A chain takes the next entry and no other, and knows whose heads to believe."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.support.journal_maker import JournalMaker, full_journal, journal_key

from cassiopeia.core import ed25519, structure
from cassiopeia.errors import Inconsistent
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.chain import Chain, Link, no_entries
from cassiopeia.journal.entry import JournalEntry, Log

KEYS = [ed25519.public_octets(journal_key(number)) for number in range(5)]


@pytest.fixture
def made() -> JournalMaker:
    journal = JournalMaker()
    journal.begin()
    return journal


def as_copied(log: Log) -> Log:
    return Log(entry=entries.without_previous(log.entry), parts=log.parts)


def follow(made: JournalMaker, *, pinned: tuple[bytes, ...] = (KEYS[1], KEYS[3]), link: Link | None = None) -> Chain:
    chain = Chain(link or no_entries(1), pinned)
    for log in made.logs[chain.size :]:
        chain.append(*chain.complete(as_copied(log)))
    return chain


def test_a_whole_journal_is_followed_to_every_head() -> None:
    made = full_journal()
    chain = Chain(no_entries(1), (KEYS[1], KEYS[3]))
    for index, log in enumerate(made.logs, 1):
        entry, complete = chain.complete(as_copied(log))
        assert complete == log
        chain.append(entry, complete)
        assert chain.link().root() == heads.read_head(made.signed_head(index)).root_hash
    link = chain.link()
    assert (link.size, link.epoch, link.last_hash) == (made.size, 2, made.previous_hash)
    assert link.keys == (KEYS[1], KEYS[2], KEYS[3])
    assert structure.decode(Link, structure.encode(link)) == link


def test_it_goes_on_where_it_stood(made: JournalMaker) -> None:
    link = follow(made).link()
    made.issue()
    assert follow(made, link=link).link() == follow(made).link()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "entries of version 2 are not known here"),
        ({"index": 5}, "says that it is entry 5"),
        ({"signer_id": 2}, "an entry of signer 2, not 1"),
        ({"epoch": 2}, "an entry of epoch 2, behind one of epoch 1"),
        ({"parts": (b"h" * 32,)}, "has 1 parts, not 0"),
    ],
)
def test_another_entry_is_not_the_next(made: JournalMaker, changes: dict[str, Any], reason: str) -> None:
    chain = follow(made)
    made.confirmation(1, b"h" * 32)
    entry = dataclasses.replace(entries.decode_entry(made.logs[-1].entry), **changes)
    with pytest.raises(Inconsistent, match=f"entry 4: .*{reason}"):
        chain.append(*chain.complete(Log(entry=structure.encode(entry), parts=())))
    assert chain.size == 3


def test_an_entry_behind_another_one_is_not_the_next(made: JournalMaker) -> None:
    chain = follow(made)
    made.confirmation(1, b"h" * 32)
    log = made.logs[-1]
    entry = dataclasses.replace(entries.decode_entry(log.entry), previous_hash=b"p" * 32)
    with pytest.raises(Inconsistent, match="entry 4: it does not follow"):
        chain.append(entry, log)


def test_entries_are_completed_as_the_format_says() -> None:
    for log in full_journal().logs:
        copied = entries.without_previous(log.entry)
        assert Chain(no_entries(1), ()).complete(Log(entry=copied, parts=()))[1].entry == entries.put_previous(
            copied, entries.NO_ENTRY
        )


def test_a_hash_that_came_along_is_not_believed(made: JournalMaker) -> None:
    chain = follow(made)
    made.issue()
    for log in made.logs[3:]:
        lie = Log(entry=entries.put_previous(log.entry, b"p" * 32), parts=log.parts)
        assert chain.complete(lie)[1] == log
        chain.append(*chain.complete(lie))


@pytest.mark.parametrize("octets", [b"", b"\x30", b"\x30\x00", b"\x02\x01\x01" * 6])
def test_octets_that_are_no_entry_are_refused(made: JournalMaker, octets: bytes) -> None:
    with pytest.raises(Inconsistent, match="entry 4: "):
        follow(made).complete(Log(entry=octets, parts=()))


def test_what_is_no_entry_is_named(made: JournalMaker) -> None:
    with pytest.raises(Inconsistent, match="entry 4: a DER element is cut short"):
        follow(made).complete(Log(entry=b"nonsense", parts=()))


def test_a_journal_begins_with_its_key() -> None:
    made = JournalMaker()
    made.halt()
    with pytest.raises(Inconsistent, match="entry 1: the first entry is not a journal key"):
        follow(made)


def test_a_kind_of_a_later_release_is_followed(made: JournalMaker) -> None:
    made.add(entries.Halt(code="x"), b"part", kind="something new")
    assert follow(made).size == 4


def test_a_part_must_be_the_one_that_is_named(made: JournalMaker) -> None:
    chain = follow(made)
    made.halt()
    entry, log = chain.complete(as_copied(made.logs[-1]))
    with pytest.raises(Inconsistent, match=r"entry 4: .*a part of entry 4 is not the one"):
        chain.append(entry, dataclasses.replace(log, parts=(b"another",)))
    chain.append(entry, dataclasses.replace(log, parts=(b"",)))
    assert chain.size == 4


def test_a_key_is_vouched_for_by_the_one_before_it(made: JournalMaker) -> None:
    made.key(journal_key(2))
    link = follow(made).link()
    assert link.head_keys([KEYS[1]]) == (KEYS[2],)
    made.key(journal_key(3), signer=journal_key(1))
    with pytest.raises(Inconsistent, match="entry 5: the new journal key is not signed by the one before it"):
        follow(made)


def test_whose_heads_are_believed(made: JournalMaker) -> None:
    # Nobody has pinned anything of this signer's.
    assert no_entries(1).head_keys([]) == ()
    assert follow(made).link().head_keys([]) == ()
    # Before the first entry, and for a key that is to come: what is pinned.
    assert no_entries(1).head_keys([KEYS[1], KEYS[2]]) == (KEYS[1], KEYS[2])
    assert follow(made).link().head_keys([KEYS[2]]) == (KEYS[2],)
    made.key(journal_key(2))
    link = follow(made).link()
    # The old key counts no more, pinned or not.
    assert link.head_keys([KEYS[1]]) == (KEYS[2],)
    assert link.head_keys([KEYS[1], KEYS[2]]) == (KEYS[2],)
    assert link.head_keys([KEYS[4]]) == (KEYS[4],)


@pytest.mark.parametrize(("key", "pinned"), [(1, ()), (1, (KEYS[1],)), (3, (KEYS[3],))])
def test_a_new_epoch_needs_a_key_that_is_known(made: JournalMaker, key: int, pinned: tuple[bytes, ...]) -> None:
    made.new_epoch(journal_key(key))
    if not pinned:
        with pytest.raises(Inconsistent, match=r"entry 4: epoch 2 is signed with .* into \[journal\] keys"):
            follow(made, pinned=pinned)
        return
    link = follow(made, pinned=pinned).link()
    assert (link.epoch, link.head_keys(pinned)) == (2, (KEYS[key],))


def test_an_older_key_may_open_an_epoch_if_somebody_pins_it(made: JournalMaker) -> None:
    """The operators had a backup of the old key only."""
    made.key(journal_key(2))
    made.new_epoch(journal_key(1))
    link = follow(made, pinned=(KEYS[1],)).link()
    assert (link.keys, link.head_keys([KEYS[1]])) == ((KEYS[2], KEYS[1]), (KEYS[1],))


def test_an_epoch_may_skip_those_that_nobody_copied(made: JournalMaker) -> None:
    made.new_epoch(skipped=2)
    assert follow(made).link().epoch == 4
    made.new_epoch(skipped=entries.MAXIMUM_EPOCHS_SKIPPED + 1)
    with pytest.raises(Inconsistent, match="entry 5: this is an entry of epoch 1006, behind one of epoch 4"):
        follow(made)


def test_an_epoch_has_the_number_of_its_entry(made: JournalMaker) -> None:
    made.new_epoch(number=5)
    with pytest.raises(Inconsistent, match="entry 4: it opens epoch 5, not 2"):
        follow(made)


def test_completing_appends_nothing(made: JournalMaker) -> None:
    chain = Chain(no_entries(1), ())
    entry, _ = chain.complete(as_copied(made.logs[0]))
    assert isinstance(entry, JournalEntry)
    assert chain.size == 0
