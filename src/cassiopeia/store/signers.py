"""What each signer said last: one row a signer, for `status` and the web's status page.

A report that is no JSON object was written by somebody else: it says nothing, until the signer has spoken again.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import select

from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import insert_or
from cassiopeia.store.models import signer_status
from cassiopeia.store.records import SignerStatus

_log = logging.getLogger(__name__)


class Signers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, signer_id: int, report: Mapping[str, Any], *, now: dt.datetime) -> None:
        """Keep `report` (anything that JSON can say) as the signer's last word."""
        values = {"report": msgspec.json.encode(report).decode(), "seen_at": now}
        with self._database.write() as connection:
            statement = insert_or(connection.dialect.name, signer_status).values(signer_id=signer_id, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=["signer_id"], set_=values))

    def list(self) -> tuple[SignerStatus, ...]:
        with self._database.read() as connection:
            rows = connection.execute(select(signer_status).order_by(signer_status.c.signer_id)).all()
        return tuple(
            SignerStatus(signer_id=row.signer_id, report=_read(row.signer_id, row.report), seen_at=row.seen_at)
            for row in rows
        )

    def report(self, signer_id: int) -> Mapping[str, Any] | None:
        """What one signer said last, whenever that was; None when it never spoke."""
        with self._database.read() as connection:
            row = connection.execute(
                select(signer_status.c.report).where(signer_status.c.signer_id == signer_id)
            ).one_or_none()
        return None if row is None else _read(signer_id, row.report)


def _read(signer_id: int, report: str) -> Mapping[str, Any]:
    try:
        return msgspec.json.decode(report, type=dict[str, Any])
    except (msgspec.DecodeError, TypeError) as error:
        _log.debug("the status of signer %d in the store is passed over: %s", signer_id, error)
        return {}
