"""Opening a journal: what it is made of is looked at, all of it, before anything is written."""

from __future__ import annotations

import random
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.journal_records import OTHER_KEY, opened_file, record_all, record_start
from tests.support.signer import JOURNAL_KEY, NOW, open_journal, record_intent, record_issued

from cassiopeia.core import merkle, structure
from cassiopeia.errors import OperatorError, StateUnknown
from cassiopeia.journal import entry as entries
from cassiopeia.signer.journal import Journal

DAMAGED = (
    r"journal\.sqlite: the journal is damaged \(.*\); keep this file, and make .* `cassiopeia signer rebuild --help`"
)
APPLICATION_ID = 0x4341534A


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    """The directory of a journal of seven entries, four of them with a part."""
    journal = open_journal(tmp_path)
    journal.record_configuration(b"c" * 32, [("authorities.toml", b"# nothing\n")], now=NOW)
    record_issued(journal, 1)
    journal.record_refusal(request_id=b"", request_digest=b"", code="no", field="", message="No.", now=NOW)
    record_start(journal)
    journal.commit()
    journal.close()
    yield tmp_path
    assert not list(tmp_path.glob("*-shm"))


def open_again(directory: Path) -> int:
    """Open, look how many entries there are, close."""
    journal = Journal(directory, signer_id=1, key=JOURNAL_KEY)
    journal.close()
    return journal.size


def change(directory: Path, *statements: str) -> None:
    with opened_file(directory) as database:
        for statement in statements:
            database.execute(statement)


def assert_damaged(directory: Path, reason: str = "") -> None:
    with pytest.raises(OperatorError, match=DAMAGED) as caught:
        open_again(directory)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


# Who may open it.


def test_a_second_signer_is_refused_at_once(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    refusals: list[BaseException] = []

    def second() -> None:
        try:
            open_journal(tmp_path)
        except OperatorError as error:
            refusals.append(error)

    # Waiting for the first one to end, it would not come back.
    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert "another signer is running on this journal" in str(refusals[0])
    # The first one is none the worse for it.
    record_start(journal)
    journal.commit()
    journal.close()
    assert open_again(tmp_path) == 2


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"x" * 4096, b"no database at all" * 100])
def test_a_file_that_is_no_journal_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    with pytest.raises(OperatorError, match=r"journal\.sqlite: (cannot open the journal|the journal is damaged)"):
        open_again(tmp_path)
    assert (tmp_path / "journal.sqlite").read_bytes() == content


def test_a_place_where_nothing_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(OperatorError, match=r"journal\.sqlite: cannot open the journal"):
        open_again(tmp_path / "state")


def test_a_directory_in_the_journals_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    with pytest.raises(OperatorError, match=r"journal\.sqlite: cannot open the journal: unable to open"):
        open_again(tmp_path)


def test_a_database_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE entry (position INTEGER PRIMARY KEY, words TEXT)")
    database.commit()
    database.close()
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(OperatorError, match=r"no journal of this release; move it away, or set \[signer\]"):
        open_again(tmp_path)
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_journal_says_that_it_is_one(written: Path) -> None:
    with opened_file(written) as database:
        assert database.execute("PRAGMA application_id").fetchall() == [(APPLICATION_ID,)]
        assert database.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    change(written, "PRAGMA application_id = 1")
    with pytest.raises(OperatorError, match="no journal of this release"):
        open_again(written)


def test_opening_changes_nothing(written: Path) -> None:
    """Not even where the disk is full."""
    before = (written / "journal.sqlite").read_bytes()
    assert open_again(written) == 7
    assert (written / "journal.sqlite").read_bytes() == before


def test_a_journal_that_has_not_begun_is_opened_again(tmp_path: Path) -> None:
    for _ in range(2):
        journal = Journal(tmp_path, signer_id=1, key=JOURNAL_KEY)
        assert journal.is_new
        journal.close()
    # A power cut between the file and what is in it.
    change(tmp_path, "DROP TABLE part", "DROP TABLE halt", "PRAGMA user_version = 0")
    open_journal(tmp_path).close()
    assert open_again(tmp_path) == 1


# Whose it is.


def test_the_journal_of_another_signer_is_refused(written: Path) -> None:
    with pytest.raises(OperatorError, match=r"the journal of signer 1, not of signer 2: set \[signer\] id or state"):
        Journal(written, signer_id=2, key=JOURNAL_KEY)
    assert open_again(written) == 7


def test_another_key_than_the_newest_is_refused(written: Path) -> None:
    with pytest.raises(OperatorError, match=r"the journal key of signer\.toml is not the one that signed this journal"):
        Journal(written, signer_id=1, key=OTHER_KEY)
    journal = open_journal(written)
    journal.record_key(OTHER_KEY, now=NOW)
    journal.commit()
    journal.close()
    with pytest.raises(OperatorError, match="put the right key file back"):
        Journal(written, signer_id=1, key=JOURNAL_KEY)
    Journal(written, signer_id=1, key=OTHER_KEY).close()


def test_a_journal_that_begins_without_a_key_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path, signer_id=1, key=JOURNAL_KEY)
    record_start(journal)
    journal.commit()
    journal.close()
    with pytest.raises(OperatorError, match="journal key"):
        open_again(tmp_path)


# Damage.


def test_every_octet_of_every_entry_counts(written: Path) -> None:
    path = written / "journal.sqlite"
    whole = path.read_bytes()
    place = random.Random(7)  # noqa: S311 - which octets are flipped is no secret
    with opened_file(written) as database:
        stored = database.execute("SELECT position, entry, hash FROM entry ORDER BY position").fetchall()
    for position, octets, leaf in stored:
        for at in sorted(place.sample(range(len(octets)), 12)):
            flipped = bytearray(octets)
            flipped[at] ^= 1 << place.randrange(8)
            with opened_file(written) as database:
                database.execute("UPDATE entry SET entry = ? WHERE position = ?", (bytes(flipped), position))
            assert_damaged(written, f"entry {position}")
            path.write_bytes(whole)
        flipped = bytearray(leaf)
        flipped[place.randrange(32)] ^= 1
        with opened_file(written) as database:
            database.execute("UPDATE entry SET hash = ? WHERE position = ?", (bytes(flipped), position))
        assert_damaged(written, f"entry {position} is not the one that was written")
        path.write_bytes(whole)
    assert open_again(written) == 7


def test_every_octet_of_every_part_counts(written: Path) -> None:
    path = written / "journal.sqlite"
    whole = path.read_bytes()
    place = random.Random(8)  # noqa: S311 - as above
    with opened_file(written) as database:
        stored = database.execute("SELECT position, octets FROM part ORDER BY position").fetchall()
    assert [position for position, _ in stored] == [2, 3, 5, 6]
    for position, octets in stored:
        for _ in range(8):
            flipped = bytearray(octets)
            flipped[place.randrange(len(octets))] ^= 1 << place.randrange(8)
            with opened_file(written) as database:
                database.execute("UPDATE part SET octets = ? WHERE position = ?", (bytes(flipped), position))
            assert_damaged(written, f"a part of entry {position} is not the one that was written")
            path.write_bytes(whole)
    assert open_again(written) == 7


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE entry SET position = 8 WHERE position = 7", "entry 8 is not"),
        ("UPDATE entry SET position = position + 100", "entry 101 is not"),
        ("UPDATE entry SET position = position - 1", "entry 0 is not"),
        ("INSERT INTO entry SELECT 0, entry, hash FROM entry WHERE position = 1", "entry 0 is not"),
        ("DELETE FROM entry WHERE position = 1", "entry 2 is not"),
        ("DELETE FROM entry WHERE position = 4", "entry 5 is not"),
        ("UPDATE entry SET entry = (SELECT entry FROM entry WHERE position = 4) WHERE position = 5", "entry 5 is not"),
        ("UPDATE entry SET entry = x''", "entry 1: this is not the DER of a JournalEntry"),
        ("UPDATE part SET position = 4 WHERE position = 3", "a part of entry 4 is not"),
        ("UPDATE part SET position = 99 WHERE position = 3", "parts of entries that it does not have"),
        ("UPDATE part SET position = 0 WHERE position = 3", "parts of entries that it does not have"),
        ("UPDATE part SET ordinal = 1 WHERE position = 3", "a part of entry 3 is not"),
        ("UPDATE part SET ordinal = -1 WHERE position = 3", "a part of entry 3 is not"),
        ("INSERT INTO part VALUES (3, 1, x'00')", "a part of entry 3 is not"),
        ("INSERT INTO part VALUES (1, 0, x'00')", "a part of entry 1 is not"),
        ("INSERT INTO part VALUES (8, 0, x'00')", "parts of entries that it does not have"),
    ],
)
def test_what_is_not_where_it_was_written_is_damage(written: Path, statement: str, reason: str) -> None:
    change(written, statement)
    assert_damaged(written, reason)


def test_entries_are_damaged_also_when_their_hash_is_made_to_fit(written: Path) -> None:
    """The next one names the hash of the one before."""
    with opened_file(written) as database:
        ((octets,),) = database.execute("SELECT entry FROM entry WHERE position = 4").fetchall()
        other = octets.replace(b"confirmation", b"confirmatiom")
        database.execute("UPDATE entry SET entry = ?, hash = ? WHERE position = 4", (other, merkle.leaf_hash(other)))
    assert_damaged(written, "entry 4: journal entries of the kind 'confirmatiom' are not known here")


def test_an_entry_that_says_nothing_that_can_be_read_is_named(tmp_path: Path) -> None:
    """No signer writes it; its tables could not be made."""
    journal = open_journal(tmp_path)
    head = journal.head
    journal.close()
    entry = entries.JournalEntry(
        version=1, signer_id=1, epoch=1, index=2, previous_hash=head, time=NOW, kind="halt", body=b"?", parts=()
    )
    octets = structure.encode(entry)
    with opened_file(tmp_path) as database:
        database.execute("INSERT INTO entry VALUES (2, ?, ?)", (octets, merkle.leaf_hash(octets)))
        database.execute("PRAGMA user_version = 0")
    assert_damaged(tmp_path, "this is not the DER of a Halt")


@pytest.mark.parametrize("kind", ["entry", "part"])
def test_more_than_are_looked_at_at_once_are_looked_at_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("cassiopeia.signer.journal._ROWS_AT_ONCE", 4)
    journal = open_journal(tmp_path)
    for number in range(20):
        record_intent(journal, number)
    journal.commit()
    journal.close()
    assert open_again(tmp_path) == 21
    column = {"entry": "hash", "part": "octets"}[kind]
    change(tmp_path, f"UPDATE {kind} SET {column} = zeroblob(32) WHERE position = 18")  # noqa: S608 - two words of ours
    assert_damaged(tmp_path, "entry 18 is not the one that was written")


def test_a_file_with_a_flipped_octet_is_refused_or_says_the_same(written: Path) -> None:
    """Wherever it is: what stands in the journal is what was written, or the signer does not start."""
    path = written / "journal.sqlite"
    whole = path.read_bytes()
    journal = open_journal(written)
    expected = list(journal.entries(1, 10))
    journal.close()
    path.write_bytes(whole)
    place = random.Random(9)  # noqa: S311 - as above
    refused = 0
    for _ in range(150):
        flipped = bytearray(whole)
        flipped[place.randrange(len(whole))] ^= 1 << place.randrange(8)
        path.write_bytes(flipped)
        try:
            journal = Journal(written, signer_id=1, key=JOURNAL_KEY)
        except (OperatorError, StateUnknown):
            refused += 1
        else:
            assert list(journal.entries(1, 10)) == expected
            journal.close()
    assert refused
    path.write_bytes(whole)
    assert open_again(written) == 7


def test_what_sqlite_finds_wrong_with_the_file_is_said(written: Path) -> None:
    path = written / "journal.sqlite"
    with path.open("r+b") as file:
        # The number of free pages, of which there is none (SQLite's file format, 1.5).
        file.seek(36)
        file.write((1).to_bytes(4, "big"))
    assert_damaged(written, "freelist")


def test_a_file_that_ends_too_early_is_refused(written: Path) -> None:
    path = written / "journal.sqlite"
    whole = path.read_bytes()
    for size in range(4096, len(whole), 4096):
        path.write_bytes(whole[:size])
        with pytest.raises(OperatorError):
            open_again(written)


# What opening cannot see.


def test_the_chain_says_nothing_of_entries_that_are_gone_from_its_end(written: Path) -> None:
    """Only a head that somebody holds does (`test_journal_desk`)."""
    journal = open_journal(written)
    head = journal.own_head(journal.signed_head())
    journal.close()
    change(written, "DELETE FROM entry WHERE position = 7")
    journal = open_journal(written)
    assert (journal.size, journal.contains(head)) == (6, False)
    journal.close()


def test_a_part_that_is_gone_is_gone(written: Path) -> None:
    """It may have been removed for its age, or the journal made again without it."""
    change(written, "DELETE FROM part")
    journal = open_journal(written)
    assert [parts for _, _, parts in journal.entries(2, 2)] == [(b"",), (b"",)]
    journal.close()


def test_all_that_a_signer_writes_is_read_again(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    record_all(journal)
    size, head = journal.size, journal.head
    journal.close()
    journal = Journal(tmp_path, signer_id=1, key=OTHER_KEY)
    assert (journal.size, journal.head, journal.commits) == (size, head, 0)
    assert journal.index.public_keys()[0] == JOURNAL_PUBLIC_KEY
    assert journal.index.epoch() == 2
    journal.close()
