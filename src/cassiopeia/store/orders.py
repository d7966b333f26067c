"""Orders of the operators on their way to a signer, what it answered, and its signed word that they are made from.

The store judges none of it: an order is octets that a signer verifies, and whoever makes one from a timestamp verifies
that first.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Row, delete, insert, select, update

from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import insert_or
from cassiopeia.store.models import WAITING_ORDER, order_bundle, signer_order, signer_timestamp
from cassiopeia.store.records import storable

OrderState = Literal["waiting", "obeyed", "refused"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredOrder:
    """`octets` are those of a `journal.order.SignedOrder`; `answer` is what the signer said last, for people.

    `journal_index` is where the signer's journal says that the order was obeyed.
    """

    id: int
    signer_id: int
    sequence: int
    octets: bytes
    state: OrderState
    answer: str
    journal_index: int | None
    created_at: dt.datetime
    updated_at: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredTimestamp:
    """DER of a `payload.Timestamp`, and when it was asked for, by the client's clock: the signer said it after that."""

    octets: bytes
    asked_at: dt.datetime


class Orders:
    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self, signer_id: int, sequence: int, octets: bytes, *, now: dt.datetime, bundle: bytes | None = None
    ) -> StoredOrder:
        """Send an order, and the signed bundle that it is about; one that waits already is sent once, in its place."""
        with self._database.write() as connection:
            for row in connection.execute(_waiting(signer_id)):
                if row.octets == octets:
                    return _record(row)
            statement = insert(signer_order).values(
                signer_id=signer_id,
                sequence=sequence,
                octets=octets,
                state="waiting",
                answer="",
                created_at=now,
                updated_at=now,
            )
            sent = _record(connection.execute(statement.returning(signer_order)).one())
            if bundle is not None:
                connection.execute(insert(order_bundle).values(order_row=sent.id, octets=bundle))
            return sent

    def bundle(self, order_id: int) -> bytes | None:
        """The bundle that an order is about; None when it is about none, or answered for good."""
        with self._database.read() as connection:
            statement = select(order_bundle.c.octets).where(order_bundle.c.order_row == order_id)
            return connection.execute(statement).scalar_one_or_none()

    def waiting(self, signer_id: int) -> tuple[StoredOrder, ...]:
        """Return what has not been answered for good, in the order in which it was sent."""
        with self._database.read() as connection:
            return tuple(map(_record, connection.execute(_waiting(signer_id))))

    def get(self, order_id: int) -> StoredOrder:
        with self._database.read() as connection:
            return _record(connection.execute(select(signer_order).where(signer_order.c.id == order_id)).one())

    def obeyed(self, order_id: int, *, journal_index: int, now: dt.datetime) -> None:
        self._answer(order_id, now=now, state="obeyed", answer="", journal_index=journal_index)

    def refused(self, order_id: int, message: str, *, now: dt.datetime) -> None:
        self._answer(order_id, now=now, state="refused", answer=storable(message))

    def postponed(self, order_id: int, message: str, *, now: dt.datetime) -> None:
        """The signer has said "not now": the order waits on."""
        self._answer(order_id, now=now, answer=storable(message))

    def list(self, *, limit: int) -> tuple[StoredOrder, ...]:
        """Return the newest orders, the newest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(signer_order).order_by(signer_order.c.id.desc()).limit(limit))
            return tuple(map(_record, rows))

    def save_timestamp(self, signer_id: int, octets: bytes, *, asked_at: dt.datetime) -> None:
        """Keep the signer's newest signed word on its time, boot and journal."""
        values = {"octets": octets, "asked_at": asked_at}
        with self._database.write() as connection:
            statement = insert_or(connection.dialect.name, signer_timestamp).values(signer_id=signer_id, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=["signer_id"], set_=values))

    def timestamp(self, signer_id: int) -> StoredTimestamp | None:
        with self._database.read() as connection:
            row = connection.execute(
                select(signer_timestamp).where(signer_timestamp.c.signer_id == signer_id)
            ).one_or_none()
        return None if row is None else StoredTimestamp(octets=row.octets, asked_at=row.asked_at)

    def _answer(self, order_id: int, *, now: dt.datetime, **values: Any) -> None:
        """Write down an answer; what was answered for good stays as it is, and its bundle is not needed any more."""
        with self._database.write() as connection:
            connection.execute(
                update(signer_order)
                .where(signer_order.c.id == order_id, WAITING_ORDER)
                .values(updated_at=now, **values)
            )
            if "state" in values:
                connection.execute(delete(order_bundle).where(order_bundle.c.order_row == order_id))


def _waiting(signer_id: int) -> Any:
    return select(signer_order).where(WAITING_ORDER, signer_order.c.signer_id == signer_id).order_by(signer_order.c.id)


def _record(row: Row[Any]) -> StoredOrder:
    return StoredOrder(
        id=row.id,
        signer_id=row.signer_id,
        sequence=row.sequence,
        octets=row.octets,
        state=row.state,
        answer=row.answer,
        journal_index=row.journal_index,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
