"""The connection to SQLite or PostgreSQL: engine, transactions, and what their errors mean to us.

Owns the settings that durability rests on (SQLite: WAL, `synchronous=FULL`, foreign keys, a busy timeout;
PostgreSQL: UTF-8, commits that wait for the disk). Knows nothing of tables.

Callers see our exception tree alone: a database that is away, locked or full is `Unavailable` (every operation of the
store may be repeated), anything else that a driver raises is our own bug.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cassiopeia.errors import CassiopeiaError, InternalError, OperatorError, Unavailable

BUSY_TIMEOUT_S: Final = 30
# A PostgreSQL that is half gone must not hold a client for ever. What a URL or the server says itself stands.
_PATIENCE_WITH_SERVER: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds
}
_PATIENCE_OF_SERVER: Final = {
    "statement_timeout": "60s",
    "lock_timeout": "30s",
    # A client that was stopped in mid-transaction loses its locks.
    "idle_in_transaction_session_timeout": "300s",
}
_WAL_RETRY_S: Final = 0.02
_BEGIN: Final = "cassiopeia_begin"


class Database:
    """One engine with its pool; safe to share between threads, not between processes."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self._engine = _make_engine(url)
        self._reader = self._engine.execution_options(**{_BEGIN: "BEGIN"})

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that commits at the end, and rolls back when anything is raised."""
        with _our_errors(self.url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with _our_errors(self.url), self._reader.begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()


def parse_url(text: str) -> URL:
    """Raise OperatorError unless `text` is a URL of a kind that the store can keep its word on."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise OperatorError(
            f"{text!r} is no database URL: use sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
        ) from None
    if url.drivername in {"sqlite", "sqlite+pysqlite"}:
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise OperatorError("the store needs a file: use sqlite:///FILE (four slashes for an absolute path)")
        return url.set(drivername="sqlite+pysqlite")
    if url.drivername in {"postgresql", "postgresql+psycopg"}:
        return url.set(drivername="postgresql+psycopg")
    raise OperatorError(
        f"the store cannot live in {url.drivername!r}: use sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"
    )


def describe_url(url: URL) -> str:
    """Name the database for people: never a password."""
    return url.render_as_string(hide_password=True)


def _make_engine(url: URL) -> Engine:
    if url.drivername == "sqlite+pysqlite":
        engine = create_engine(url, hide_parameters=True, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    try:
        patience = {name: value for name, value in _PATIENCE_WITH_SERVER.items() if name not in url.query}
        engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=patience)
    except ModuleNotFoundError:
        raise OperatorError(
            "PostgreSQL needs its driver, which is not installed: pip install 'cassiopeia-ca[postgresql]'"
        ) from None
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver would begin transactions by its own rules (none before SELECT or DDL): we begin them ourselves.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        mode = _switch_to_wal(cursor)
        if mode != "wal":
            raise OperatorError(
                f"SQLite cannot use its write-ahead log here (mode {mode}): put the database on a local disk"
            )
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
    finally:
        cursor.close()


def _switch_to_wal(cursor: Any) -> str:
    """Return the mode that the file is in now. Its first change needs the file alone, and does not wait for that."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            mode: str = cursor.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(_WAL_RETRY_S)
        else:
            return mode


def _begin_sqlite(connection: Connection) -> None:
    # A deferred transaction that writes after it has read fails when another writer was quicker; IMMEDIATE waits.
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        encoding = cursor.execute("SHOW server_encoding").fetchone()[0]
        if encoding != "UTF8":
            raise OperatorError(
                f"the PostgreSQL database is encoded in {encoding}: make one with CREATE DATABASE ... ENCODING 'UTF8'"
            )
        # A log that the client has confirmed must survive a power cut, whatever the server's default is.
        if cursor.execute("SHOW synchronous_commit").fetchone()[0] == "off":
            cursor.execute("SET SESSION synchronous_commit = on")
        for name, value in _PATIENCE_OF_SERVER.items():
            if cursor.execute(f"SHOW {name}").fetchone()[0] == "0":
                cursor.execute(f"SET SESSION {name} = '{value}'")
    connection.commit()


@contextmanager
def _our_errors(url: URL) -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise Unavailable(
            f"the store at {describe_url(url)} does not answer: {_reason(error)}", code="store"
        ) from error
    except DBAPIError as error:
        if type(error.orig) is sqlite3.DatabaseError:
            # SQLITE_CORRUPT, SQLITE_NOTADB: neither waiting nor a repetition helps.
            raise OperatorError(
                f"the store at {describe_url(url)} cannot be read: {_reason(error)}; keep the file, and restore the "
                "newest backup (docs/runbook.md)"
            ) from error
        raise InternalError(f"the store refused a statement: {_reason(error)}") from error
    except SQLAlchemyError as error:
        if isinstance(error, StatementError) and isinstance(error.orig, CassiopeiaError):
            raise error.orig from None  # a column's own complaint about a value
        raise InternalError(f"the store refused a statement: {type(error).__name__}") from error


def _reason(error: SQLAlchemyError) -> str:
    """Return the driver's first line; the statement and its values stay out of messages."""
    origin = getattr(error, "orig", None)
    text = str(origin if origin is not None else type(error).__name__).strip()
    return text.splitlines()[0] if text else type(error).__name__


def create_sqlite_file(url: URL) -> None:
    """Make the database file before SQLite does: readable by owner and group alone (it holds personal data)."""
    assert url.database is not None  # noqa: S101 -- parse_url let no such URL pass
    try:
        os.close(os.open(url.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
    except OSError as error:
        raise OperatorError(f"cannot make the database {url.database}: {error.strerror}") from None
