"""The injected faults themselves: what is told is what SQLite did, and SQLite believes what it is told."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults import sqlite_faults
from tests.faults.sqlite_faults import DO_IT, Operation, Verdict

ROOT = Path(__file__).resolve().parents[2]
# A page of the write-ahead log and the header of its frame.
PAGE, FRAME_HEADER = 4096, 24
KILLED = """
import sqlite3, sys
from tests.faults import sqlite_faults
sqlite_faults.observe(None)
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA synchronous = FULL")
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE line (words TEXT)")
database.execute("INSERT INTO line VALUES ('first')")
verdict = sqlite_faults.Verdict(first=eval(sys.argv[2]), die=True)
sqlite_faults.observe(lambda each: verdict if each.kind == sys.argv[3] else sqlite_faults.DO_IT)
database.execute("INSERT INTO line VALUES ('second')")
"""


@pytest.fixture(autouse=True)
def _nobody_looks_afterwards() -> Iterator[None]:
    sqlite_faults.observe(None)
    yield
    sqlite_faults.observe(None)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(tmp_path / "some.sqlite", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE line (words TEXT)")
    yield connection
    connection.close()


def _words(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("SELECT words FROM line")]
    finally:
        connection.close()


def test_a_commit_is_its_frames_and_a_sync(database: sqlite3.Connection, tmp_path: Path) -> None:
    seen: list[Operation] = []

    def note(operation: Operation) -> Verdict:
        seen.append(operation)
        return DO_IT

    sqlite_faults.observe(note)
    database.execute("INSERT INTO line VALUES ('first')")

    assert [each.kind for each in seen] == ["write", "write", "sync"]
    assert {each.path for each in seen} == {str(tmp_path / "some.sqlite-wal")}
    assert [len(each.octets) for each in seen] == [FRAME_HEADER, PAGE, 0]
    log = (tmp_path / "some.sqlite-wal").read_bytes()
    assert all(log[each.offset : each.offset + len(each.octets)] == each.octets for each in seen)
    assert b"first" in seen[1].octets


def test_a_failed_sync_fails_the_commit(database: sqlite3.Connection) -> None:
    sqlite_faults.observe(
        lambda each: Verdict(code=sqlite_faults.IOERR_FSYNC) if each.kind == "sync" else sqlite_faults.DO_IT
    )
    with pytest.raises(sqlite3.OperationalError, match="disk I/O error") as failed:
        database.execute("INSERT INTO line VALUES ('first')")
    assert failed.value.sqlite_errorname == "SQLITE_IOERR_FSYNC"


def test_a_full_disk_fails_the_statement_and_nothing_else(database: sqlite3.Connection) -> None:
    sqlite_faults.observe(lambda each: Verdict(code=sqlite_faults.FULL) if each.kind == "write" else DO_IT)
    with pytest.raises(sqlite3.OperationalError, match="database or disk is full"):
        database.execute("INSERT INTO line VALUES ('first')")
    sqlite_faults.observe(None)
    database.execute("INSERT INTO line VALUES ('second')")
    assert database.execute("SELECT words FROM line").fetchall() == [("second",)]


@pytest.mark.parametrize(
    ("first", "kind", "kept"),
    [
        ("0", "write", ["first"]),
        ("1000", "write", ["first"]),
        ("0", "sync", ["first", "second"]),  # a process that dies leaves to the kernel what it has written
        ("None", "sync", ["first", "second"]),
    ],
)
def test_the_process_dies_where_it_is_told_to(tmp_path: Path, first: str, kind: str, kept: list[str]) -> None:
    path = tmp_path / "some.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), first, kind], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert _words(path) == kept


def test_an_observer_that_fails_ends_the_process(tmp_path: Path) -> None:
    """SQLite would take an exception for success: a fault that was not injected must not go unseen."""
    words = (
        "import sqlite3; from tests.faults import sqlite_faults as faults\n"
        f"faults.observe(lambda each: 1 / 0); sqlite3.connect({str(tmp_path / 'x')!r}).execute('CREATE TABLE t (a)')"
    )
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL


def test_files_that_are_left_open_do_not_trouble_the_end_of_the_process(tmp_path: Path) -> None:
    words = (
        "import sqlite3; from tests.faults import sqlite_faults as faults\n"
        f"faults.observe(None); database = sqlite3.connect({str(tmp_path / 'x')!r})\n"
        "database.execute('PRAGMA journal_mode = WAL'); database.execute('CREATE TABLE t (a)')"
    )
    done = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
