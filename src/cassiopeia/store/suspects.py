"""Jobs with which clients have died: each death is written down, and the third one sets a job aside.

Nobody can tell from outside whether a job killed its client or only had the bad luck to be in its hands. So every job
that was is suspected, and tried alone (`Queue.lease_suspect`): an innocent one gets through, a guilty one is set aside
after `MAXIMUM_DEATHS`, with the names and times of all who held it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, select, update

from cassiopeia.store.dialects import among
from cassiopeia.store.models import UtcTime, certificate, job, request
from cassiopeia.store.records import storable

MAXIMUM_DEATHS: Final = 3

_BURY: Final = (
    update(job)
    .where(job.c.id == bindparam("job_id"))
    .values(
        state=bindparam("new_state"),
        lease_owner=None,
        leased_at=None,
        ready_at=bindparam("ready", type_=UtcTime),
        deaths=bindparam("died"),
        dead_holders=bindparam("holders"),
        error=bindparam("reason"),
        finished_at=bindparam("finished", type_=UtcTime),
    )
)


def count_deaths(connection: Connection, rows: Sequence[Row[Any]], how: str, *, now: dt.datetime) -> None:
    """Count one more death for each of these leased jobs (whole rows, locked); `how` is a few words for a person.

    A job goes back into the queue as a suspect, or is set aside.
    """
    last = [row for row in rows if row.deaths + 1 >= MAXIMUM_DEATHS]
    remedies = _remedies(connection, last) if last else {}
    changes = []
    for row in rows:
        # The text is one line a death, whatever the holder calls itself.
        line = " ".join(storable(f"{row.lease_owner}, {_span(row.leased_at, now)}: {how}", limit=400).split())
        is_last = row.id in remedies
        changes.append(
            {
                "job_id": row.id,
                "new_state": "failed" if is_last else "queued",
                "ready": now,
                "died": row.deaths + 1,
                "holders": f"{row.dead_holders}{line}\n",
                "reason": _REASON_ASIDE.format(deaths=row.deaths + 1, line=line, remedy=remedies[row.id])
                if is_last
                else _REASON_SUSPECT.format(deaths=row.deaths + 1, line=line),
                "finished": now if is_last else None,
            }
        )
    if changes:
        connection.execute(_BURY, changes)


_REASON_SUSPECT: Final = f"it is tried alone after death {{deaths}} of {MAXIMUM_DEATHS}: {{line}}"
_REASON_ASIDE: Final = "{deaths} clients died with it in hand, the last one was {line}; {remedy}"


def _span(since: dt.datetime | None, until: dt.datetime) -> str:
    return f"{since:%F %TZ} to {until:%F %TZ}" if since is not None else f"until {until:%F %TZ}"


def _remedies(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, str]:
    """What an operator types to look into each job, and to put it back."""
    names: Select[Any] = (
        select(job.c.id, job.c.authority, request.c.request_id, certificate.c.serial_number)
        .select_from(
            job.outerjoin(request, request.c.id == job.c.request_row).outerjoin(
                certificate, certificate.c.id == job.c.certificate_row
            )
        )
        .where(among(connection, job.c.id, [row.id for row in rows]))
    )
    return {row.id: _remedy(row) for row in connection.execute(names)}


def _remedy(row: Row[Any]) -> str:
    if row.request_id:
        short = row.request_id[:12]
        return f"see `cassiopeia request show {short}`, and put it back with `cassiopeia request retry {short}`"
    if row.serial_number:
        return (
            f"see `cassiopeia certificate show {row.serial_number}`, and put its revocation back with "
            f"`cassiopeia certificate revoke {row.serial_number}`"
        )
    return f"see the clients' logs; the next CRL of {row.authority} is asked for as usual"
