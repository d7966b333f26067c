"""The current CRL of each authority. Numbers only rise (RFC 5280 5.2.3): the transaction that stores one sees to it.

The original signer's CRLs are v1 and have no number: 0 stands for it, and their dates order them.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from sqlalchemy import Connection, func, select, update

from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import insert_or
from cassiopeia.store.models import FAILED_JOB, crl, job
from cassiopeia.store.records import CrlHeader, CrlRecord, Outcome

_NUMBER_DIGITS: Final = 40


class Crls:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, record: CrlRecord, *, now: dt.datetime) -> Outcome:
        """Store a CRL that the client has verified, unless a newer one or another of its number is there.

        What was set aside because no CRL of this authority could be had is done with it.
        """
        with self._database.write() as connection:
            outcome = _put(connection, record, now=now)
            if outcome is Outcome.RECORDED:
                connection.execute(
                    update(job)
                    .where(FAILED_JOB, job.c.kind == "crl", job.c.authority == record.authority)
                    .values(state="done", finished_at=now)
                )
            return outcome

    def get(self, authority: str) -> CrlRecord | None:
        with self._database.read() as connection:
            row = connection.execute(select(crl).where(crl.c.authority == authority)).one_or_none()
        if row is None:
            return None
        return CrlRecord(
            authority=row.authority,
            number=int(row.number, 16),
            this_update=row.this_update,
            next_update=row.next_update,
            der=row.der,
        )

    def headers(self) -> tuple[CrlHeader, ...]:
        """Return what is known of every CRL but its octets, by authority."""
        octets = func.length(crl.c.der).label("octets")
        columns = (crl.c.authority, crl.c.number, crl.c.this_update, crl.c.next_update, crl.c.saved_at, octets)
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).order_by(crl.c.authority)).all()
        return tuple(
            CrlHeader(
                authority=row.authority,
                number=int(row.number, 16),
                this_update=row.this_update,
                next_update=row.next_update,
                octets=row.octets,
                saved_at=row.saved_at,
            )
            for row in rows
        )


def _put(connection: Connection, record: CrlRecord, *, now: dt.datetime) -> Outcome:
    number = f"{record.number:0{_NUMBER_DIGITS}x}"
    values = {
        "number": number,
        "this_update": record.this_update,
        "next_update": record.next_update,
        "der": record.der,
        "saved_at": now,
    }
    first = (
        insert_or(connection.dialect.name, crl).values(authority=record.authority, **values).on_conflict_do_nothing()
    )
    if connection.execute(first.returning(crl.c.authority)).first() is not None:
        return Outcome.RECORDED
    # The comparison stands in the statement: a CRL that another client stores meanwhile is seen by it.
    is_newer = crl.c.number < number
    if record.number == 0:
        is_newer = (crl.c.number == number) & (crl.c.this_update <= record.this_update) & (crl.c.der != record.der)
    newer = update(crl).where(crl.c.authority == record.authority, is_newer).values(values)
    if connection.execute(newer.returning(crl.c.authority)).first() is not None:
        return Outcome.RECORDED
    stored = connection.execute(select(crl.c.number, crl.c.der).where(crl.c.authority == record.authority)).one()
    if stored.number == number and stored.der == record.der:
        return Outcome.ALREADY_RECORDED
    return Outcome.CONFLICT if stored.number == number and record.number else Outcome.SUPERSEDED
