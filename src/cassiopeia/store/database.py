"""Opening a store, and bringing its tables up to date.

`open_store` never changes a database: it refuses one whose tables are older or newer than this software. `upgrade`
makes the tables, or brings them forward, in one transaction; it may be called by several processes at once.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from sqlalchemy import URL, Connection, inspect, text

from cassiopeia.errors import InternalError, OperatorError, Unavailable
from cassiopeia.store.certificates import Certificates
from cassiopeia.store.connection import Database, create_sqlite_file, describe_url, parse_url
from cassiopeia.store.crls import Crls
from cassiopeia.store.evidence import Evidence
from cassiopeia.store.journal_copies import JournalCopies
from cassiopeia.store.lint_streaks import LintStreaks
from cassiopeia.store.mass_revocation import MassRevocation
from cassiopeia.store.models import SCHEMA_REVISION
from cassiopeia.store.orders import Orders
from cassiopeia.store.publishers import Publishers
from cassiopeia.store.queue import Queue
from cassiopeia.store.requests import Requests
from cassiopeia.store.results import Results
from cassiopeia.store.served_crls import ServedCrls
from cassiopeia.store.signers import Signers

if TYPE_CHECKING:
    from alembic.config import Config

UPGRADE_COMMAND: Final = "cassiopeia store upgrade"
_UPGRADE_LOCK: Final = 0x63617373  # any number that nobody else uses in this database


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """One open database, by subject. Safe to share between threads; a forked process opens its own."""

    database: Database
    requests: Requests
    queue: Queue
    results: Results
    certificates: Certificates
    mass_revocation: MassRevocation
    crls: Crls
    served_crls: ServedCrls
    signers: Signers
    publishers: Publishers
    journal_copies: JournalCopies
    lint_streaks: LintStreaks
    orders: Orders
    evidence: Evidence

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(url: str) -> Store:
    """Open an existing store; raise OperatorError if it is not there or its tables are of another release."""
    parsed = parse_url(url)
    if parsed.drivername == "sqlite+pysqlite" and not Path(parsed.database or "").is_file():
        raise OperatorError(f"there is no database {parsed.database}: make it with `{UPGRADE_COMMAND}`")
    with _reached(parsed):
        database = Database(parsed)
        try:
            with database.read() as connection:
                _check_revision(_revision(connection), parsed)
        except BaseException:
            database.close()
            raise
    return Store(
        database=database,
        requests=Requests(database),
        queue=Queue(database),
        results=Results(database),
        certificates=Certificates(database),
        mass_revocation=MassRevocation(database),
        crls=Crls(database),
        served_crls=ServedCrls(database),
        signers=Signers(database),
        publishers=Publishers(database),
        journal_copies=JournalCopies(database),
        lint_streaks=LintStreaks(database),
        orders=Orders(database),
        evidence=Evidence(database),
    )


def upgrade(url: str) -> str:
    """Make or update the tables of the database at `url`; return its revision before ("" if it was empty)."""
    import alembic.command  # noqa: PLC0415 - takes longer to load than most commands take to run

    parsed = parse_url(url)
    if parsed.drivername == "sqlite+pysqlite":
        create_sqlite_file(parsed)
    with _reached(parsed):
        database = Database(parsed)
        try:
            with database.write() as connection:
                if connection.dialect.name == "postgresql":
                    # A migration takes as long as it takes.
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                    connection.execute(text("SET LOCAL lock_timeout = 0"))
                    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _UPGRADE_LOCK})
                before = _revision(connection)
                if before > SCHEMA_REVISION:
                    raise OperatorError(_newer(parsed, before))
                if not before and inspect(connection).get_table_names():
                    raise OperatorError(f"{describe_url(parsed)} holds other tables: give the store its own database")
                alembic.command.upgrade(_alembic_config(connection), "head")
        finally:
            database.close()
    return before


def _alembic_config(connection: Connection) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - as in `upgrade`

    config = Config()
    migrations = importlib.resources.files("cassiopeia.store") / "migrations"
    # ConfigParser would take a percent sign in the path for its own.
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def _check_revision(revision: str, url: URL) -> None:
    if not revision:
        raise OperatorError(f"{describe_url(url)} holds no tables of ours: make them with `{UPGRADE_COMMAND}`")
    if revision > SCHEMA_REVISION:
        raise OperatorError(_newer(url, revision))
    if revision < SCHEMA_REVISION:
        raise OperatorError(
            f"{describe_url(url)} has tables of an older release ({revision}, this release wants {SCHEMA_REVISION}): "
            f"stop the clients, make a backup and run `{UPGRADE_COMMAND}`"
        )


def _newer(url: URL, revision: str) -> str:
    return (
        f"{describe_url(url)} was upgraded by a newer release ({revision}, this one knows {SCHEMA_REVISION}): "
        f"install that release; `{UPGRADE_COMMAND}` goes forward only"
    )


@contextmanager
def _reached(url: URL) -> Iterator[None]:
    """At opening time a database that does not answer, or is none, is the operator's to mend."""
    try:
        yield
    except InternalError as error:
        raise OperatorError(f"cannot use {describe_url(url)}: {error}") from error
    except Unavailable as error:
        raise OperatorError(f"{error.message}; check the URL and that the database runs") from error
