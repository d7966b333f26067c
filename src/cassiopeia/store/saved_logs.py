"""Every log that clients have saved, in the order of saving: read when a journal is exported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import select

from cassiopeia.store.connection import Database
from cassiopeia.store.models import signing_log

_ROWS_AT_ONCE: Final = 500


def saved_logs(database: Database, signer_id: int) -> Iterator[bytes]:
    """The logs of this signer's requests, as they were saved; some hundreds at a time are in memory."""
    after = 0
    while True:
        statement = (
            select(signing_log.c.id, signing_log.c.entry)
            .where(signing_log.c.id > after, signing_log.c.signer_id == signer_id)
            .order_by(signing_log.c.id)
            .limit(_ROWS_AT_ONCE)
        )
        with database.read() as connection:
            rows = connection.execute(statement).all()
        if not rows:
            return
        yield from (row.entry for row in rows)
        after = rows[-1].id
