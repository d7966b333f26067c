"""Appending, commits, and what survives."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.journal_records import (
    OTHER_KEY,
    RECORDS,
    crl_record,
    known,
    opened_file,
    record_all,
    record_revocation,
    record_start,
    serial,
)
from tests.support.signer import (
    JOURNAL_KEY,
    NOW,
    PROFILE,
    SIGNING_CA,
    meaningless_tbs,
    open_journal,
    record_intent,
    record_issued,
)

from cassiopeia.core import ed25519, merkle, structure
from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import PeerError, StateUnknown
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.entry import JournalEntry
from cassiopeia.signer.journal import Journal

HOUR = dt.timedelta(hours=1)
YEAR = dt.timedelta(days=365)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(tmp_path / "state")
    yield opened
    opened.close()


def rows(directory: Path) -> list[tuple[int, bytes, bytes]]:
    with opened_file(directory) as database:
        return database.execute("SELECT position, entry, hash FROM entry ORDER BY position").fetchall()


def written(journal: Journal) -> list[JournalEntry]:
    """Every entry, those that wait for their commit included."""
    found = journal._database.execute("SELECT entry FROM entry ORDER BY position").fetchall()
    return [entries.decode_entry(octets) for (octets,) in found]


def parts_of(journal: Journal, position: int) -> list[bytes]:
    found = journal._database.execute("SELECT octets FROM part WHERE position = ? ORDER BY ordinal", (position,))
    return [octets for (octets,) in found]


def test_a_new_journal_is_empty_and_for_nobody_else_to_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "state", signer_id=1, key=JOURNAL_KEY)
    try:
        assert (journal.is_new, journal.size, journal.next_position) == (True, 0, 1)
        assert (journal.head, journal.dirty) == (bytes(32), False)
        assert (journal.index.used_counts(), journal.index.open_intents()) == ({}, [])
        assert (tmp_path / "deep/state").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "deep/state/journal.sqlite").stat().st_mode & 0o777 == 0o600
    finally:
        journal.close()


def test_it_begins_with_its_own_key_signed_by_itself(journal: Journal) -> None:
    (first,) = written(journal)
    assert (first.kind, first.index, first.previous_hash) == ("key", 1, entries.NO_ENTRY)
    assert (first.signer_id, first.epoch, first.time) == (1, 1, NOW)
    body = entries.decode_body(first)
    assert body.public_key == JOURNAL_PUBLIC_KEY
    statement = entries.key_statement(
        signer_id=1, index=1, previous_hash=entries.NO_ENTRY, public_key=JOURNAL_PUBLIC_KEY
    )
    ed25519.verify(JOURNAL_PUBLIC_KEY, body.signature, heads.KEY_TAG + statement)
    assert (journal.is_new, journal.size, journal.commits) == (False, 1, 1)


def test_each_entry_carries_the_hash_of_all_before_it(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    record_all(journal)
    head, after = journal.head, journal.next_position
    journal.close()

    found = rows(tmp_path)

    assert [entries.decode_entry(octets).kind for _, octets, _ in found] == ["key", *(kind for kind, _ in RECORDS)]
    assert [position for position, *_ in found] == list(range(1, after))
    chained = entries.NO_ENTRY
    for position, octets, leaf in found:
        entry = entries.decode_entry(octets)
        assert (entry.index, entry.previous_hash, entry.version) == (position, chained, entries.VERSION)
        chained = merkle.leaf_hash(octets)
        assert leaf == chained
    assert head == chained


def test_an_intents_log_is_the_entry_with_all_that_was_asked_for(journal: Journal) -> None:
    request = CertificateRequest(key_kind="csr", key_proof=b"csr 7", profile=PROFILE, account="alice")
    intent = record_intent(journal, 7)
    journal.commit()
    log = entries.decode_log(intent.log)
    ((_, octets, parts),) = journal.entries(2, 1)
    assert (log.entry, log.parts) == (octets, parts)
    assert intent.log_hash == entries.part_hash(intent.log)
    part = entries.decode_part(entries.Requested, parts[0])
    assert entries.as_request(part, request_id=b"") == request
    assert (part.tbs_certificate, len(part.salt)) == (meaningless_tbs(7), entries.SALT_OCTETS)
    # The salt is new each time: equal requests have parts of unequal hashes.
    second = record_intent(journal, 7, serial_number=serial(8))
    again = entries.decode_log(second.log)
    assert entries.decode_entry(again.entry).parts != entries.decode_entry(log.entry).parts


def test_what_is_about_persons_stands_in_parts_alone(journal: Journal) -> None:
    journal.record_refusal(
        request_id=b"r" * 32, request_digest=b"d" * 32, code="no", field="the field", message="the reason", now=NOW
    )
    intent = record_intent(journal)
    journal.record_abandonment(intent, code="vetoed", reason="the reason", now=NOW)
    journal.record_halt("lost-past", "the reason", now=NOW)
    journal.commit()
    for _, octets, parts in journal.entries(2, 10):
        assert b"the reason" not in octets
        assert b"the field" not in octets
        assert b"alice" not in octets
        assert len(parts) == 1
        assert entries.part_hash(parts[0]) == entries.decode_entry(octets).parts[0]


def test_a_configuration_is_kept_word_for_word(journal: Journal) -> None:
    documents = [("authorities.toml", b"# one\n"), ("profiles/a.toml", b"# two\n")]
    journal.record_configuration(b"h" * 32, documents, now=NOW)
    part = entries.decode_part(entries.Documents, parts_of(journal, 2)[0])
    assert [(each.name, each.octets) for each in part.documents] == documents


def test_what_was_committed_survives_a_process_that_had_no_time_for_anything(tmp_path: Path) -> None:
    """One journal for each kind of entry: the process commits behind it, appends the rest, and is gone."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tests.support.journal_records import RECORDS\n"
        "from tests.support.signer import open_journal\n"
        "for last in range(len(RECORDS)):\n"
        "    journal = open_journal(Path(sys.argv[1]) / str(last))\n"
        "    for number, (_, record) in enumerate(RECORDS):\n"
        "        record(journal)\n"
        "        if number == last:\n"
        "            journal.commit()\n"
        "            print(journal.head.hex(), flush=True)\n"
        "os._exit(9)\n"
    )
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr

    for number, head in enumerate(done.stdout.split()):
        key = OTHER_KEY if RECORDS[number][0] == "key" else JOURNAL_KEY
        journal = open_journal(tmp_path / str(number), key=key)
        assert (journal.size, journal.head.hex()) == (number + 2, head)
        record_start(journal)
        journal.commit()
        journal.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET entry = x'00' WHERE position = 1",
        "UPDATE entry SET hash = entry",
        "UPDATE entry SET position = position + 10",
        "DELETE FROM entry WHERE position = 2",
        "DELETE FROM entry",
        "UPDATE part SET octets = x'00'",
        "UPDATE part SET ordinal = 1",
    ],
)
def test_nothing_is_changed_or_removed(tmp_path: Path, statement: str) -> None:
    journal = open_journal(tmp_path)
    record_start(journal)
    record_intent(journal)
    journal.commit()
    journal.close()

    database = sqlite3.connect(tmp_path / "journal.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match=r"the journal is append-only|removed or stay as they are"):
        database.execute(statement)
    database.close()

    open_journal(tmp_path).close()


# Commits.


def test_what_waits_for_the_disk_is_let_go_in_order_and_after_the_commit(journal: Journal) -> None:
    seen: list[tuple[str, int, bool]] = []

    def wait(name: str) -> None:
        journal.when_durable(lambda: seen.append((name, journal.commits, journal.dirty)))

    record_start(journal)
    wait("first")
    record_start(journal)
    wait("second")
    wait("third")
    assert seen == []
    assert journal.dirty

    journal.commit()

    assert seen == [("first", 2, False), ("second", 2, False), ("third", 2, False)]
    assert not journal.dirty


def test_what_waits_behind_nothing_new_is_let_go_without_a_commit(journal: Journal) -> None:
    seen: list[str] = []
    journal.when_durable(lambda: seen.append("released"))
    assert journal.dirty
    journal.commit()
    assert seen == ["released"]
    assert journal.commits == 1


def test_what_is_asked_for_while_others_are_let_go_waits_for_the_next_commit(journal: Journal) -> None:
    seen: list[str] = []

    def first() -> None:
        record_start(journal)
        journal.when_durable(lambda: seen.append("second"))
        seen.append("first")

    journal.when_durable(first)
    journal.commit()
    assert seen == ["first"]
    assert journal.dirty
    journal.commit()
    assert seen == ["first", "second"]


def test_many_entries_share_one_commit(journal: Journal) -> None:
    for number in range(50):
        record_intent(journal, number)
    assert (journal.size, journal.next_position) == (1, 52)
    journal.commit()
    journal.commit()
    assert (journal.commits, journal.size) == (2, 51)


class FullDisk:
    """A database that fails at one kind of statement."""

    def __init__(self, database: sqlite3.Connection, *, fails_at: str) -> None:
        self._database = database
        self.fails_at = fails_at

    def execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        if statement.lstrip().startswith(self.fails_at):
            raise sqlite3.OperationalError("database or disk is full")
        return self._database.execute(statement, values)

    def close(self) -> None:
        self._database.close()


def test_a_commit_that_fails_leaves_the_state_unknown_and_lets_nothing_go(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    record_start(journal)
    journal.when_durable(lambda: seen.append("released"))
    disk = FullDisk(journal._database, fails_at="COMMIT")
    monkeypatch.setattr(journal, "_database", disk)
    with pytest.raises(StateUnknown, match=r"the journal has failed \(database or disk is full\).*start the signer"):
        journal.commit()
    assert seen == []
    # fsync(2): a second try may succeed and mean nothing.
    disk.fails_at = "nothing"
    with pytest.raises(StateUnknown):
        journal.commit()
    with pytest.raises(StateUnknown):
        record_start(journal)
    assert seen == []


@pytest.mark.parametrize("fails_at", ["BEGIN", "INSERT INTO entry", "INSERT INTO part", "INSERT INTO certificate"])
def test_an_entry_that_cannot_be_written_leaves_the_state_unknown(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    disk = FullDisk(journal._database, fails_at=fails_at)
    monkeypatch.setattr(journal, "_database", disk)
    with pytest.raises(StateUnknown):
        record_intent(journal)
    disk.fails_at = "nothing"
    with pytest.raises(StateUnknown):
        journal.commit()


@pytest.mark.parametrize(
    "read",
    [
        lambda journal: journal.index.find_serial(b"1" * 16),
        lambda journal: journal.index.find_request(b"1" * 32),
        lambda journal: journal.index.is_revoked(b"1" * 16),
        lambda journal: journal.index.crl(SIGNING_CA),
        lambda journal: journal.index.revocation_entries(SIGNING_CA),
        lambda journal: journal.index.used_counts(),
        lambda journal: journal.index.open_intents(),
        lambda journal: list(journal.entries(1, 1)),
        lambda journal: journal.root_at(1),
        lambda journal: record_revocation(journal, 1),
    ],
)
def test_a_journal_that_cannot_be_read_is_a_state_that_nobody_knows(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, read: Callable[[Journal], object]
) -> None:
    monkeypatch.setattr(journal, "_database", FullDisk(journal._database, fails_at="SELECT"))
    with pytest.raises(StateUnknown):
        read(journal)


# Times.


def test_times_never_fall(journal: Journal) -> None:
    record_start(journal, now=NOW + HOUR)
    record_start(journal, now=NOW)
    record_start(journal, now=NOW + 2 * HOUR)
    assert [each.time for each in written(journal)] == [NOW, NOW + HOUR, NOW + HOUR, NOW + 2 * HOUR]
    assert journal.last_time == NOW + 2 * HOUR


def test_nor_over_a_restart(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    record_start(journal, now=NOW + HOUR)
    journal.commit()
    journal.close()
    journal = open_journal(tmp_path)
    assert journal.last_time == NOW + HOUR
    record_start(journal, now=NOW)
    assert written(journal)[-1].time == NOW + HOUR
    journal.close()


def test_but_by_what_operators_say(journal: Journal) -> None:
    record_start(journal, now=NOW + HOUR)
    journal.record_clock(machine_time=NOW + HOUR, true_time=NOW)
    record_start(journal, now=NOW)
    assert [each.time for each in written(journal)] == [NOW, NOW + HOUR, NOW, NOW]


# Copies.


def copy_of(journal: Journal) -> list[tuple[bytes, tuple[bytes, ...]]]:
    return [(octets, parts) for _, octets, parts in journal.entries(1, journal.size)]


def test_a_journal_made_from_a_copy_is_the_same(tmp_path: Path) -> None:
    first = open_journal(tmp_path / "first")
    record_all(first)
    second = Journal(tmp_path / "second", signer_id=1, key=OTHER_KEY)
    for octets, parts in copy_of(first):
        second.append_copy(octets, parts)
    second.commit()
    assert (second.head, second.size) == (first.head, first.size)
    assert second.signed_head() == first.signed_head()
    assert copy_of(second) == copy_of(first)
    # It goes on where the copy ends, in the next epoch.
    second.record_epoch(head=first.signed_head(), now=NOW)
    assert (written(second)[-1].epoch, second.index.epoch()) == (3, 3)
    second.commit()
    second.close()
    first.close()
    open_journal(tmp_path / "second", key=OTHER_KEY).close()


def test_a_copy_may_lack_parts(tmp_path: Path) -> None:
    first = open_journal(tmp_path / "first")
    record_issued(first, 1)
    second = Journal(tmp_path / "second", signer_id=1, key=JOURNAL_KEY)
    for octets, parts in copy_of(first):
        withheld = entries.decode_entry(octets).kind == "result"
        second.append_copy(octets, tuple(b"" for _ in parts) if withheld else parts)
    second.commit()
    assert second.signed_head() == first.signed_head()
    found = known(second)
    assert (found.state, found.signature, found.result_position) == ("issued", b"", 4)
    assert found.tbs_certificate == meaningless_tbs(1)
    second.close()
    first.close()
    open_journal(tmp_path / "second").close()


def test_a_copy_goes_on_where_the_journal_ends(tmp_path: Path) -> None:
    first = open_journal(tmp_path / "first")
    record_start(first)
    record_intent(first)
    first.commit()
    (one, two, three) = copy_of(first)
    second = Journal(tmp_path / "second", signer_id=1, key=JOURNAL_KEY)
    with pytest.raises(PeerError, match="entry 2 of the copy does not follow entry 0"):
        second.append_copy(*two)
    second.append_copy(*one)
    with pytest.raises(PeerError, match="entry 3 of the copy does not follow entry 1"):
        second.append_copy(*three)
    second.append_copy(*two)
    with pytest.raises(PeerError, match="a part of entry 3"):
        second.append_copy(three[0], (b"another",))
    with pytest.raises(PeerError, match="parts"):
        second.append_copy(three[0], ())
    # The same index, behind another past.
    record_start(second)
    with pytest.raises(PeerError, match="entry 3 of the copy does not follow entry 3"):
        second.append_copy(*three)
    assert second.next_position == 4
    second.close()
    first.close()


def test_a_copy_of_another_signers_journal_is_refused(tmp_path: Path) -> None:
    first = open_journal(tmp_path / "first")
    second = Journal(tmp_path / "second", signer_id=2, key=JOURNAL_KEY)
    with pytest.raises(PeerError, match="entry 1 of the copy is one of signer 1, not 2"):
        second.append_copy(*copy_of(first)[0])
    assert second.is_new
    second.close()
    first.close()


# Removing what is about persons.


def test_parts_of_old_entries_are_removed_and_chain_and_heads_stay(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    record_issued(journal, 1)
    journal.record_refusal(request_id=b"", request_digest=b"", code="no", field="", message="No.", now=NOW)
    journal.record_crl(crl_record(), now=NOW)
    record_intent(journal, 2, now=NOW + HOUR)
    journal.commit()
    head, size = journal.signed_head(), journal.size

    assert journal.remove_parts(before=NOW + HOUR, now=NOW + YEAR) == 2

    journal.commit()
    removal = written(journal)[-1]
    assert (removal.kind, entries.decode_body(removal)) == ("removal", entries.Removal(last=6, parts=2))
    # Signatures stay, and so does what is younger.
    assert [bool(parts_of(journal, position)) for position in range(1, size + 1)] == [
        *(False, False, False, True),
        *(False, True, True),
    ]
    assert (known(journal).tbs_certificate, known(journal).signature) == (b"", b"s")
    assert known(journal, 2).tbs_certificate == meaningless_tbs(2)
    assert journal.contains(journal.own_head(head))
    assert journal.remove_parts(before=NOW + HOUR, now=NOW + YEAR) == 0
    assert not journal.dirty
    journal.close()

    journal = open_journal(tmp_path)
    assert journal.contains(journal.own_head(head))
    assert journal.index.removed_up_to() == 6
    assert journal.remove_parts(before=NOW + 2 * HOUR, now=NOW + YEAR) == 1
    journal.commit()
    assert known(journal, 2).tbs_certificate == b""
    journal.close()


def test_what_was_removed_is_nowhere_in_the_file(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.record_refusal(request_id=b"", request_digest=b"", code="no", field="", message="Not Ada.", now=NOW)
    journal.commit()
    journal.close()
    path = tmp_path / "journal.sqlite"
    assert b"Not Ada." in path.read_bytes()
    journal = open_journal(tmp_path)
    journal.remove_parts(before=NOW + YEAR, now=NOW + YEAR)
    journal.commit()
    journal.close()
    assert b"Not Ada." not in path.read_bytes()


def test_nothing_is_removed_that_is_not_on_the_disk_yet(journal: Journal) -> None:
    record_intent(journal)
    assert journal.remove_parts(before=NOW + YEAR, now=NOW + YEAR) == 0
    journal.commit()
    assert journal.remove_parts(before=NOW + YEAR, now=NOW + YEAR) == 1


def test_entries_without_anything_about_persons_are_passed_over(journal: Journal) -> None:
    for _ in range(5):
        record_start(journal)
    journal.commit()
    assert journal.remove_parts(before=NOW + YEAR, now=NOW + YEAR) == 0
    assert not journal.dirty


def test_what_was_removed_before_is_not_removed_again(tmp_path: Path) -> None:
    """As after a rebuild from a copy that lacks parts."""
    first = open_journal(tmp_path / "first")
    record_intent(first)
    first.commit()
    second = Journal(tmp_path / "second", signer_id=1, key=JOURNAL_KEY)
    for octets, parts in copy_of(first):
        second.append_copy(octets, [b""] * len(parts))
    second.commit()
    assert second.remove_parts(before=NOW + YEAR, now=NOW + YEAR) == 0
    second.commit()
    assert written(second)[-1].kind == "intent"
    second.close()
    first.close()


def test_removal_goes_on_in_steps(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cassiopeia.signer.journal._REMOVED_AT_ONCE", 3)
    for number in range(5):
        record_intent(journal, number)
    journal.commit()
    removed = []
    for _ in range(4):
        removed.append(journal.remove_parts(before=NOW + HOUR, now=NOW + YEAR))
        journal.commit()
    assert removed == [2, 3, 0, 0]
    lasts = [entries.decode_body(each).last for each in written(journal) if each.kind == "removal"]
    assert lasts == [3, 6]


# The key.


def test_a_new_key_is_vouched_for_by_the_one_before(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    record_start(journal)
    journal.commit()
    before = journal.head
    new = ed25519.public_octets(OTHER_KEY)

    journal.record_key(OTHER_KEY, now=NOW)
    # What is on the disk is still the old key's to sign.
    heads.verify_head(journal.signed_head(), [JOURNAL_PUBLIC_KEY])
    journal.commit()

    statement = entries.key_statement(signer_id=1, index=3, previous_hash=before, public_key=new)
    body = entries.decode_body(written(journal)[-1])
    assert body.public_key == new
    ed25519.verify(JOURNAL_PUBLIC_KEY, body.signature, heads.KEY_TAG + statement)
    assert heads.verify_head(journal.signed_head(), [new]).size == 3
    ed25519.verify(new, journal.sign(b"tag"), b"tag")
    assert journal.index.public_keys() == [JOURNAL_PUBLIC_KEY, new]
    journal.close()
    journal = open_journal(tmp_path, key=OTHER_KEY)
    assert heads.verify_head(journal.signed_head(), [new]).size == 3
    journal.close()


def test_structures_are_what_is_hashed(journal: Journal) -> None:
    """Octets are kept, not what they say: each entry is its own one encoding."""
    record_all(journal)
    for _, octets, _ in journal.entries(1, 100):
        assert structure.encode(entries.decode_entry(octets)) == octets
