from __future__ import annotations

import datetime as dt
import hashlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.signer import NOW, SIGNING_CA, intent, record_issued

from cassiopeia.errors import OperatorError, StateUnknown
from cassiopeia.signer.journal import CrlRecord, Journal

ANOTHER_CA = "assured_2026_2"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "state")
    yield opened
    opened.close()


def crl(number: int = 1, *, signing_ca: str = SIGNING_CA, entries: int = 0) -> CrlRecord:
    return CrlRecord(
        signing_ca=signing_ca,
        number=number,
        this_update=NOW + dt.timedelta(days=number),
        next_update=NOW + dt.timedelta(days=number + 10),
        entries=entries,
        tbs_hash=b"t" * 32,
        algorithm=b"a",
        signature=b"s%d" % number,
    )


def start(journal: Journal) -> None:
    journal.record_start(now=NOW, boot_id=b"b" * 16, configuration_hash=b"c" * 32)


# Every kind of entry, in the order of a life.
RECORDS: dict[str, Callable[[Journal], object]] = {
    "start": start,
    "intent": lambda journal: journal.record_intent(intent(), now=NOW),
    "confirmation": lambda journal: journal.record_confirmation(
        intent().serial_number, log_hash=intent().log_hash, now=NOW
    ),
    "result": lambda journal: journal.record_result(intent().serial_number, signature=b"s", now=NOW),
    "abandonment": lambda journal: journal.record_abandonment(intent(2).serial_number, reason="veto", now=NOW),
    "refusal": lambda journal: journal.record_refusal(
        request_id=b"r" * 32, request_digest=b"d" * 32, code="name-invalid", field="DNS", message="No.", now=NOW
    ),
    "revocation": lambda journal: journal.record_revocations(SIGNING_CA, [(b"1" * 16, b"entry")], now=NOW),
    "crl": lambda journal: journal.record_crl(crl(), now=NOW),
}


def rows(directory: Path) -> list[tuple[int, str, int, bytes, bytes]]:
    database = sqlite3.connect(directory / "journal.sqlite")
    try:
        return database.execute("SELECT position, kind, at_us, body, hash FROM entry ORDER BY position").fetchall()
    finally:
        database.close()


def test_a_new_journal_is_empty_and_for_nobody_else_to_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "deep" / "state")
    try:
        assert (journal.next_position, journal.head, journal.dirty) == (1, bytes(32), False)
        assert (journal.used_counts(), journal.open_intents()) == ({}, [])
        assert (tmp_path / "deep/state").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "deep/state/journal.sqlite").stat().st_mode & 0o777 == 0o600
    finally:
        journal.close()


def test_each_entry_carries_the_hash_of_all_before_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for record in RECORDS.values():
        record(journal)
    journal.commit()
    head, after = journal.head, journal.next_position
    journal.close()

    found = rows(tmp_path)

    assert [kind for _, kind, *_ in found] == list(RECORDS)
    assert [position for position, *_ in found] == list(range(1, after))
    assert {at_us for _, _, at_us, _, _ in found} == {int(NOW.timestamp() * 1_000_000)}
    chained = bytes(32)
    for _, kind, _, body, hash_ in found:
        chained = hashlib.sha256(chained + kind.encode() + b"\0" + body).digest()
        assert hash_ == chained
    assert head == chained


def test_an_intents_body_is_the_log_that_the_client_hashes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.record_intent(intent(7), now=NOW)
    journal.commit()
    journal.close()
    assert [body for _, _, _, body, _ in rows(tmp_path)] == [intent(7).log]


def test_what_was_committed_survives_a_process_that_had_no_time_for_anything(tmp_path: Path) -> None:
    """One journal for each kind of entry: the process commits behind it, appends the rest, and is gone."""
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from cassiopeia.signer.journal import Journal\n"
        "from tests.unit.signer.test_journal import RECORDS\n"
        "for last in RECORDS:\n"
        "    journal = Journal(Path(sys.argv[1]) / last)\n"
        "    for kind, record in RECORDS.items():\n"
        "        record(journal)\n"
        "        if kind == last:\n"
        "            journal.commit()\n"
        "            print(journal.head.hex(), flush=True)\n"
        "os._exit(9)\n"
    )
    root = Path(__file__).parents[3]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"}
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr

    for kind, head in zip(RECORDS, done.stdout.split(), strict=True):
        journal = Journal(tmp_path / kind)
        assert journal.next_position - 1 == list(RECORDS).index(kind) + 1
        assert journal.head.hex() == head
        start(journal)
        journal.commit()
        journal.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET body = x'00' WHERE position = 1",
        "UPDATE entry SET at_us = at_us + 1",
        "DELETE FROM entry WHERE position = 2",
        "DELETE FROM entry",
    ],
)
def test_nothing_is_changed_or_removed(tmp_path: Path, statement: str) -> None:
    journal = Journal(tmp_path)
    start(journal)
    start(journal)
    journal.commit()
    journal.close()
    before = rows(tmp_path)

    database = sqlite3.connect(tmp_path / "journal.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="the journal is append-only"):
        database.execute(statement)
    database.close()

    assert rows(tmp_path) == before


def test_a_second_signer_is_refused_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    began = time.monotonic()
    with pytest.raises(OperatorError, match="another signer is running on this journal"):
        Journal(tmp_path)
    assert time.monotonic() - began < 3
    # The first one is none the worse for it.
    start(journal)
    journal.commit()
    journal.close()
    Journal(tmp_path).close()


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"x" * 4096, b"no database at all" * 100])
def test_a_file_that_is_no_journal_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal.sqlite").write_bytes(content)
    with pytest.raises(OperatorError, match=r"journal\.sqlite: cannot open the journal"):
        Journal(tmp_path)


def test_a_place_where_nothing_can_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"")
    with pytest.raises(OperatorError, match=r"journal\.sqlite: cannot open the journal"):
        Journal(tmp_path / "state")


def test_a_directory_in_the_journals_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    with pytest.raises(OperatorError, match=r"journal\.sqlite: cannot open the journal: unable to open"):
        Journal(tmp_path)


def test_what_waits_for_the_disk_is_let_go_in_order_and_after_the_commit(tmp_path: Path, journal: Journal) -> None:
    seen: list[tuple[str, int, bool]] = []

    def wait(name: str) -> None:
        journal.when_durable(lambda: seen.append((name, journal.commits, journal.dirty)))

    start(journal)
    wait("first")
    start(journal)
    wait("second")
    wait("third")
    assert seen == []
    assert journal.dirty

    journal.commit()

    assert seen == [("first", 1, False), ("second", 1, False), ("third", 1, False)]
    assert not journal.dirty


def test_what_waits_behind_nothing_new_is_let_go_without_a_commit(journal: Journal) -> None:
    seen: list[str] = []
    journal.when_durable(lambda: seen.append("released"))
    assert journal.dirty
    journal.commit()
    assert seen == ["released"]
    assert journal.commits == 0


def test_what_is_asked_for_while_others_are_let_go_waits_for_the_next_commit(journal: Journal) -> None:
    seen: list[str] = []

    def first() -> None:
        start(journal)
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
        journal.record_intent(intent(number), now=NOW)
    journal.commit()
    journal.commit()
    assert (journal.commits, journal.next_position) == (1, 51)


def test_a_commit_that_fails_leaves_the_state_unknown_and_lets_nothing_go(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    start(journal)
    journal.when_durable(lambda: seen.append("released"))
    disk = FullDisk(journal._database, fails_at="COMMIT")
    monkeypatch.setattr(journal, "_database", disk)
    with pytest.raises(StateUnknown, match=r"the journal has failed \(database or disk is full\)"):
        journal.commit()
    assert seen == []
    # fsync(2): a second try may succeed and mean nothing.
    disk.fails_at = "nothing"
    with pytest.raises(StateUnknown):
        journal.commit()
    with pytest.raises(StateUnknown):
        start(journal)
    assert seen == []


@pytest.mark.parametrize("fails_at", ["BEGIN", "INSERT INTO entry", "INSERT INTO certificate"])
def test_an_entry_that_cannot_be_written_leaves_the_state_unknown(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    disk = FullDisk(journal._database, fails_at=fails_at)
    monkeypatch.setattr(journal, "_database", disk)
    with pytest.raises(StateUnknown):
        journal.record_intent(intent(), now=NOW)
    disk.fails_at = "nothing"
    with pytest.raises(StateUnknown):
        journal.commit()


@pytest.mark.parametrize(
    "read",
    [
        lambda journal: journal.find_serial(b"1" * 16),
        lambda journal: journal.find_request(b"1" * 32),
        lambda journal: journal.is_revoked(b"1" * 16),
        lambda journal: journal.crl(SIGNING_CA),
        lambda journal: journal.revocation_entries(SIGNING_CA),
        lambda journal: journal.used_counts(),
        lambda journal: journal.open_intents(),
        lambda journal: journal.record_revocations(SIGNING_CA, [(b"1" * 16, b"entry")], now=NOW),
    ],
)
def test_a_journal_that_cannot_be_read_is_a_state_that_nobody_knows(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, read: Callable[[Journal], object]
) -> None:
    monkeypatch.setattr(journal, "_database", FullDisk(journal._database, fails_at="SELECT"))
    with pytest.raises(StateUnknown):
        read(journal)


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


def test_an_intent_goes_from_state_to_state(journal: Journal) -> None:
    wanted = intent()
    assert journal.find_request(wanted.request_id) is None
    assert journal.find_serial(wanted.serial_number) is None

    journal.record_intent(wanted, now=NOW)
    assert journal.find_request(wanted.request_id) == journal.find_serial(wanted.serial_number) == wanted
    assert journal.open_intents() == [wanted.serial_number]

    journal.record_confirmation(wanted.serial_number, log_hash=wanted.log_hash, now=NOW)
    confirmed = journal.find_serial(wanted.serial_number)
    assert confirmed is not None
    assert (confirmed.state, confirmed.signature, journal.open_intents()) == ("confirmed", b"", [])

    journal.record_result(wanted.serial_number, signature=b"signature", now=NOW)
    issued = journal.find_request(wanted.request_id)
    assert issued is not None
    assert (issued.result_position, issued.state, issued.signature) == (3, "issued", b"signature")


def test_an_abandoned_intent_answers_no_request_and_its_serial_stays_known(journal: Journal) -> None:
    wanted = intent()
    journal.record_intent(wanted, now=NOW)
    journal.record_abandonment(wanted.serial_number, reason="veto", now=NOW)
    assert journal.find_request(wanted.request_id) is None
    burned = journal.find_serial(wanted.serial_number)
    assert burned is not None
    assert burned.state == "abandoned"
    # The same request has another try.
    second = intent(2, request_id=wanted.request_id)
    journal.record_intent(second, now=NOW)
    assert journal.find_request(wanted.request_id) == second


def test_a_serial_number_is_used_once(journal: Journal) -> None:
    journal.record_intent(intent(), now=NOW)
    with pytest.raises(StateUnknown, match="UNIQUE"):
        journal.record_intent(intent(request_id=b"another"), now=NOW)


def test_used_serials_are_counted_by_sub_ca_without_abandoned_ones(journal: Journal) -> None:
    record_issued(journal, 1, 2)
    journal.record_intent(intent(3), now=NOW)
    journal.record_intent(intent(4, signing_ca=ANOTHER_CA), now=NOW)
    journal.record_intent(intent(5), now=NOW)
    journal.record_abandonment(intent(5).serial_number, reason="", now=NOW)
    assert journal.used_counts() == {SIGNING_CA: 3, ANOTHER_CA: 1}


def test_revocations_keep_the_order_of_each_sub_ca(journal: Journal) -> None:
    journal.record_revocations(SIGNING_CA, [(b"9" * 16, b"nine"), (b"1" * 16, b"one")], now=NOW)
    journal.record_revocations(ANOTHER_CA, [(b"7" * 16, b"seven")], now=NOW)
    journal.record_revocations(SIGNING_CA, [(b"5" * 16, b"five")], now=NOW)
    assert journal.revocation_entries(SIGNING_CA) == [b"nine", b"one", b"five"]
    assert journal.revocation_entries(ANOTHER_CA) == [b"seven"]
    assert [journal.is_revoked(each * 16) for each in (b"9", b"7", b"8")] == [True, True, False]
    with pytest.raises(StateUnknown, match="UNIQUE"):
        journal.record_revocations(SIGNING_CA, [(b"9" * 16, b"again")], now=NOW)


def test_crls_are_found_by_number_and_the_newest_without(journal: Journal) -> None:
    assert journal.crl(SIGNING_CA) is None
    for record in (crl(1), crl(2, entries=3), crl(9, signing_ca=ANOTHER_CA)):
        journal.record_crl(record, now=NOW)
    assert journal.crl(SIGNING_CA) == crl(2, entries=3)
    assert journal.crl(SIGNING_CA, 1) == crl(1)
    assert journal.crl(SIGNING_CA, 3) is None
    assert journal.crl(SIGNING_CA, 0) is None
    with pytest.raises(StateUnknown, match="UNIQUE"):
        journal.record_crl(crl(2), now=NOW)


@pytest.mark.parametrize("number", [1 << 63, (1 << 168) - 1])
def test_a_crl_number_that_no_crl_has_is_not_found(journal: Journal, number: int) -> None:
    """A client may name any number that the wire can hold."""
    assert journal.crl(SIGNING_CA, number) is None
