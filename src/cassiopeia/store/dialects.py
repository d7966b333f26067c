"""The two things that SQLAlchemy spells differently for our two databases."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import BigInteger, Column, ColumnElement, Connection, Table, any_, bindparam
from sqlalchemy.dialects import postgresql, sqlite


def insert_or(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if dialect == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


def among(connection: Connection, column: Column[int], numbers: Collection[int]) -> ColumnElement[bool]:
    """Return the condition that `column` is one of `numbers`.

    On PostgreSQL all of them are one parameter: the driver would spend more time on a hundred placeholders than the
    server on the statement.
    """
    if connection.dialect.name == "postgresql":
        return column == any_(bindparam(None, list(numbers), type_=postgresql.ARRAY(BigInteger)))
    return column.in_(numbers)
