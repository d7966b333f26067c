"""What each publisher said last: that it runs, and what keeps it from answering; one row a publisher, for `status`.

A report that is none of ours was written by somebody else: it says nothing, until the publisher has spoken again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import select

from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import insert_or
from cassiopeia.store.models import publisher_status
from cassiopeia.store.records import storable


@dataclass(frozen=True, kw_only=True, slots=True)
class PublisherStatus:
    """A publisher's last word on itself; `alarms` are sentences, each about something that a person has to mend."""

    name: str
    alarms: tuple[str, ...]
    seen_at: dt.datetime


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    alarms: tuple[str, ...] = ()


class Publishers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, name: str, alarms: Sequence[str], *, now: dt.datetime) -> None:
        """Keep this as the publisher's last word."""
        report = _Report(alarms=tuple(storable(each) for each in alarms))
        values = {"report": msgspec.json.encode(report).decode(), "seen_at": now}
        with self._database.write() as connection:
            statement = insert_or(connection.dialect.name, publisher_status).values(name=name, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))

    def list(self) -> tuple[PublisherStatus, ...]:
        with self._database.read() as connection:
            rows = connection.execute(select(publisher_status).order_by(publisher_status.c.name)).all()
        return tuple(
            PublisherStatus(name=row.name, alarms=_read(row.report).alarms, seen_at=row.seen_at) for row in rows
        )


def _read(report: str) -> _Report:
    try:
        return msgspec.json.decode(report, type=_Report)
    except (msgspec.DecodeError, TypeError):
        return _Report()
