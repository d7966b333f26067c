"""Moving a store to another database, as from SQLite to PostgreSQL: every row as it is, or nothing at all."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, func, insert, select, text

from cassiopeia.errors import OperatorError
from cassiopeia.store.connection import describe_url
from cassiopeia.store.database import open_store, upgrade
from cassiopeia.store.models import METADATA

_ROWS_AT_ONCE: Final = 1_000


def copy_store(source_url: str, target_url: str) -> dict[str, int]:
    """Copy all rows into an empty database (its tables are made); return the number of rows of each table.

    Nothing may write to the source meanwhile: stop client and web first.
    """
    upgrade(target_url)
    with (
        open_store(source_url) as source,
        open_store(target_url) as target,
        source.database.read() as reading,
        target.database.write() as writing,
    ):
        _require_empty(writing, describe_url(target.database.url))
        return {table: _copy_table(reading, writing, table) for table in _table_names()}


def _table_names() -> list[str]:
    """Return the tables so that each comes after those that it refers to."""
    return [table.name for table in METADATA.sorted_tables]


def _copy_table(reading: Connection, writing: Connection, name: str) -> int:
    table = METADATA.tables[name]
    copied = 0
    rows = reading.execution_options(yield_per=_ROWS_AT_ONCE).execute(select(table).order_by(*table.primary_key))
    for part in rows.mappings().partitions():
        writing.execute(insert(table), [dict(row) for row in part])
        copied += len(part)
    if writing.dialect.name == "postgresql" and "id" in table.c:
        # The rows brought their numbers along: the sequence goes on behind the last one.
        writing.execute(
            text(f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), (SELECT max(id) FROM {name}))")  # noqa: S608 -- our own table's name
        )
    return copied


def _require_empty(connection: Connection, where: str) -> None:
    for table in METADATA.sorted_tables:
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise OperatorError(f"{where} is not empty (table {table.name}): copy into a fresh database")
