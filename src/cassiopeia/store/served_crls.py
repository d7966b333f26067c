"""What the world was last seen to get of each CRL: one row for each URL that stands in certificates."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

from sqlalchemy import delete, select

from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import insert_or
from cassiopeia.store.models import served_crl
from cassiopeia.store.records import ServedCrl, storable

_NUMBER_DIGITS: Final = 40


class ServedCrls:
    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, seen: Iterable[ServedCrl]) -> None:
        """Replace what was seen before: URLs that are not among these are not watched any more."""
        # In the same order by everybody, so that two who look at once never wait for each other.
        found = {(each.authority, each.url): each for each in seen}
        with self._database.write() as connection:
            rows = connection.execute(select(served_crl)).all()
            before = {(row.authority, row.url): (row.state, row.since) for row in rows}
            for key in sorted({*before} - {*found}):
                of_key = (served_crl.c.authority == key[0]) & (served_crl.c.url == key[1])
                connection.execute(delete(served_crl).where(of_key))
            for _, each in sorted(found.items()):
                values = _values(each, before)
                statement = insert_or(connection.dialect.name, served_crl).values(values)
                connection.execute(statement.on_conflict_do_update(index_elements=["authority", "url"], set_=values))

    def list(self) -> tuple[ServedCrl, ...]:
        """Return what the last look has found, by authority."""
        with self._database.read() as connection:
            rows = connection.execute(select(served_crl).order_by(served_crl.c.authority, served_crl.c.url)).all()
        return tuple(
            ServedCrl(
                authority=row.authority,
                url=row.url,
                state=row.state,
                what=row.what,
                number=None if row.number is None else int(row.number, 16),
                this_update=row.this_update,
                next_update=row.next_update,
                seen_at=row.seen_at,
                since=row.since,
            )
            for row in rows
        )


def _values(seen: ServedCrl, before: dict[tuple[str, str], tuple[str, dt.datetime]]) -> dict[str, object]:
    state, since = before.get((seen.authority, seen.url), ("", seen.seen_at))
    return {
        "authority": seen.authority,
        "url": seen.url,
        "state": seen.state,
        "what": storable(seen.what),
        "number": None if seen.number is None else f"{seen.number:0{_NUMBER_DIGITS}x}",
        "this_update": seen.this_update,
        "next_update": seen.next_update,
        "since": since if state == seen.state else seen.seen_at,
        "seen_at": seen.seen_at,
    }
