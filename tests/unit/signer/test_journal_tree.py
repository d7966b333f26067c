"""The hash tree over the journal, and the heads that are signed for it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.journal_records import OTHER_KEY, opened_file, record_start
from tests.support.signer import JOURNAL_KEY, NOW, open_journal, record_intent

from cassiopeia.core import ed25519, merkle
from cassiopeia.errors import InternalError, PeerError
from cassiopeia.journal import head as heads
from cassiopeia.journal.head import JournalHead
from cassiopeia.signer.journal import Journal

SIZE = 300


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(tmp_path)
    yield opened
    opened.close()


def leaves(journal: Journal) -> list[bytes]:
    return [merkle.leaf_hash(octets) for _, octets, _ in journal.entries(1, journal.size)]


def head_over(journal: Journal, size: int) -> JournalHead:
    root_hash = merkle.frontier_of(leaves(journal)[:size]).root()
    return JournalHead(signer_id=1, epoch=1, size=size, root_hash=root_hash, time=NOW)


def test_the_root_of_every_size_is_that_of_the_tree_over_as_many_entries(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(SIZE - 1):
        record_start(journal)
    journal.commit()
    hashes = leaves(journal)
    expected = [merkle.frontier_of(hashes[:size]).root() for size in range(SIZE + 1)]
    assert [journal.root_at(size) for size in range(SIZE + 1)] == expected
    journal.close()
    # What is kept of it serves the next start, too.
    journal = open_journal(tmp_path)
    assert [journal.root_at(size) for size in range(SIZE + 1)] == expected
    journal.close()


def test_the_root_is_known_after_every_entry(journal: Journal) -> None:
    hashes = leaves(journal)
    for number in range(2, SIZE):
        record_start(journal)
        hashes.append(journal.head)
        assert journal.root_at(number) == merkle.frontier_of(hashes).root()


def test_kept_hashes_that_were_damaged_are_mended_at_the_start(tmp_path: Path) -> None:
    """They are not what the journal says: they follow from it."""
    journal = open_journal(tmp_path)
    for _ in range(SIZE - 1):
        record_start(journal)
    journal.commit()
    expected = [journal.root_at(size) for size in range(SIZE + 1)]
    journal.close()
    with opened_file(tmp_path) as database:
        database.execute("UPDATE subtree SET hash = zeroblob(32) WHERE number % 2 = 0")
        database.execute("DELETE FROM subtree WHERE number = 1")
    journal = open_journal(tmp_path)
    assert [journal.root_at(size) for size in range(SIZE + 1)] == expected
    journal.close()


@pytest.mark.parametrize("size", [-1, 2, 1 << 70])
def test_there_is_no_root_over_entries_that_are_not_there(journal: Journal, size: int) -> None:
    with pytest.raises(InternalError, match="the journal has 1 entries"):
        journal.root_at(size)


# Signed heads.


def test_a_head_covers_all_that_is_on_the_disk_and_nothing_else(journal: Journal) -> None:
    record_start(journal, now=NOW + dt.timedelta(hours=1))
    assert heads.read_head(journal.signed_head()).size == 1
    journal.commit()
    head = heads.verify_head(journal.signed_head(), [JOURNAL_PUBLIC_KEY])
    assert head == JournalHead(
        signer_id=1,
        epoch=1,
        size=2,
        root_hash=merkle.frontier_of(leaves(journal)).root(),
        time=NOW + dt.timedelta(hours=1),
    )


def test_one_signature_for_each_commit(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[int] = []

    def sign(head: JournalHead, key: object) -> bytes:
        signed.append(head.size)
        return b"head %d" % head.size

    monkeypatch.setattr(heads, "sign_head", sign)
    # None, while nobody asks.
    record_start(journal)
    journal.commit()
    assert signed == []
    assert [journal.signed_head() for _ in range(3)] == [b"head 2"] * 3
    for _ in range(20):
        record_intent(journal, len(signed) + journal.next_position)
        assert journal.signed_head() == b"head 2"
    journal.commit()
    # What waits for nothing new commits nothing.
    journal.when_durable(lambda: None)
    journal.commit()
    journal.commit()
    assert journal.signed_head() == b"head 22"
    assert signed == [2, 22]


def test_a_head_is_the_same_after_a_restart(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    for _ in range(70):
        record_start(journal)
    journal.commit()
    head = journal.signed_head()
    journal.close()
    journal = open_journal(tmp_path)
    assert journal.signed_head() == head
    journal.close()


def test_the_epoch_stands_in_heads(journal: Journal) -> None:
    journal.record_epoch(head=journal.signed_head(), now=NOW)
    assert heads.read_head(journal.signed_head()).epoch == 1
    journal.commit()
    assert heads.read_head(journal.signed_head()).epoch == 2
    record_start(journal)
    journal.commit()
    assert heads.read_head(journal.signed_head()).epoch == 2


def test_the_journal_signs_other_things_too(journal: Journal) -> None:
    ed25519.verify(JOURNAL_PUBLIC_KEY, journal.sign(b"tag octets"), b"tag octets")


# Heads that others hold.


def test_every_head_that_was_signed_is_contained_for_ever(journal: Journal) -> None:
    signed = []
    for _ in range(150):
        record_start(journal)
        journal.commit()
        signed.append(journal.signed_head())
    assert all(journal.contains(journal.own_head(each)) for each in signed)


def test_a_head_of_more_entries_or_of_others_is_not(journal: Journal) -> None:
    for _ in range(99):
        record_start(journal)
    journal.commit()
    for size in (0, 1, 2, 63, 64, 65, 100):
        assert journal.contains(head_over(journal, size))
    assert not journal.contains(JournalHead(signer_id=1, epoch=1, size=101, root_hash=journal.head, time=NOW))
    for size in (0, 1, 64, 99, 100):
        other = head_over(journal, (size + 1) % 101)
        assert not journal.contains(JournalHead(signer_id=1, epoch=1, size=size, root_hash=other.root_hash, time=NOW))


def test_a_head_by_any_key_that_this_journal_had_is_its_own(journal: Journal) -> None:
    old = journal.signed_head()
    journal.record_key(OTHER_KEY, now=NOW)
    journal.commit()
    assert journal.own_head(old).size == 1
    assert journal.own_head(journal.signed_head()).size == 2


def test_a_head_of_anybody_else_is_refused(journal: Journal) -> None:
    described = head_over(journal, 1)
    with pytest.raises(PeerError, match="not this signer's"):
        journal.own_head(heads.sign_head(described, OTHER_KEY))
    foreign = JournalHead(signer_id=2, epoch=1, size=1, root_hash=described.root_hash, time=NOW)
    with pytest.raises(PeerError, match="a journal head of signer 2"):
        journal.own_head(heads.sign_head(foreign, JOURNAL_KEY))


def test_octets_that_are_no_head_are_refused(journal: Journal) -> None:
    whole = journal.signed_head()
    for octets in (b"", b"\0", whole[:-1], whole + b"\0"):
        with pytest.raises(PeerError):
            journal.own_head(octets)
    place = random.Random(3)  # noqa: S311 - which bits are flipped is no secret
    for _ in range(200):
        flipped = bytearray(whole)
        flipped[place.randrange(len(whole))] ^= 1 << place.randrange(8)
        with pytest.raises(PeerError):
            journal.own_head(bytes(flipped))


# Epochs.


def test_a_head_that_an_epoch_ended_with_is_outlived(tmp_path: Path) -> None:
    """The copy that the journal was made again from was shorter than what its signer had signed."""
    first = open_journal(tmp_path / "first")
    for _ in range(3):
        record_start(first)
        first.commit()
    copied = [(octets, parts) for _, octets, parts in first.entries(1, 2)]
    within, ended = head_over(first, 3), first.signed_head()
    record_start(first)
    first.commit()
    beyond = heads.read_head(first.signed_head())

    second = Journal(tmp_path / "second", signer_id=1, key=JOURNAL_KEY)
    for octets, parts in copied:
        second.append_copy(octets, parts)
    assert not second.outlived(within)
    second.record_epoch(head=ended, now=NOW)
    second.commit()
    assert second.outlived(within)
    assert second.outlived(heads.read_head(ended))
    # Nobody said so of what came behind.
    assert not second.outlived(beyond)
    # What was copied is there, or it was never this journal's: a signer that went on from an old disk has forked.
    assert second.contains(head_over(second, 2))
    assert not second.outlived(dataclasses.replace(within, size=2))
    # Nor of the epoch that has begun.
    assert not second.outlived(heads.read_head(second.signed_head()))
    second.close()
    first.close()


def test_a_head_of_an_epoch_that_nobody_copied_is_outlived(tmp_path: Path) -> None:
    """Made again, lost before it was copied, and made again: a client holds a head of the epoch in between."""
    first = open_journal(tmp_path / "first")
    record_start(first)
    first.commit()
    copied = [(octets, parts) for _, octets, parts in first.entries(1, 2)]
    record_start(first)
    first.commit()
    beyond = heads.read_head(first.signed_head())
    first.close()
    journals: list[Journal] = []
    for name, number in (("lost", 2), ("made", 3)):
        again = Journal(tmp_path / name, signer_id=1, key=JOURNAL_KEY)
        for octets, parts in copied:
            again.append_copy(octets, parts)
        again.record_epoch(head=journals[0].signed_head() if journals else b"", number=number, now=NOW)
        for _ in range(3):
            record_start(again)
        again.commit()
        journals.append(again)
    lost, made = journals
    ended = heads.read_head(lost.signed_head())
    assert (ended.epoch, ended.size) == (2, 6)
    assert all(made.outlived(dataclasses.replace(ended, size=size)) for size in (3, 4, 5, 6))
    record_start(lost)
    lost.commit()
    # What nobody knew of, what was copied, and the epoch before, of which nobody knows how it ended.
    assert not made.outlived(heads.read_head(lost.signed_head()))
    assert not made.outlived(dataclasses.replace(ended, size=2))
    assert not made.outlived(beyond)
    lost.close()
    made.close()


def test_an_epoch_that_began_without_any_head_outlives_none(journal: Journal) -> None:
    before = heads.read_head(journal.signed_head())
    journal.record_epoch(head=b"", now=NOW)
    journal.commit()
    assert not journal.outlived(before)
