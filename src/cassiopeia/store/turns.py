"""How a job enters the queue, anew or again: its priority, and the turn that its account gets.

Fair queueing by start times: a job's turn is one past the last turn of its account, and at least one past the turn
that was served last. Jobs are then served in the order of turn, then age. So an account that hands in a thousand
requests stands in line behind itself alone, one that comes later waits for one job of each other account at most, and
one that was idle has saved nothing up. Serving stays one walk along an index, however many accounts wait.
"""

from __future__ import annotations

import datetime as dt
import functools
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    String,
    bindparam,
    case,
    func,
    insert,
    literal,
    select,
    update,
)

from cassiopeia.store.dialects import insert_or
from cassiopeia.store.models import FAILED_JOB, account_turn, job, profile_evidence, served_turn
from cassiopeia.store.records import JobKind

# What demands evidence waits for a validator first.
_ENQUEUE: Final = insert(job).values(
    unattested=func.coalesce(
        select(profile_evidence.c.demanded)
        .where(profile_evidence.c.profile == bindparam("of_profile", type_=String))
        .scalar_subquery(),
        literal(0),
    )
)

# Revocations and CRLs before new certificates: they protect people who rely on what exists already.
PRIORITY: Final[dict[JobKind, int]] = {"revoke": 0, "crl": 1, "sign": 2}


def enqueue(
    connection: Connection,
    *,
    kind: JobKind,
    account: str,
    now: dt.datetime,
    request_row: int | None = None,
    profile: str = "",
    certificate_row: int | None = None,
    authority: str | None = None,
) -> None:
    """Add a job within the caller's transaction, to be leased from `now` on; `profile` is that of its request."""
    connection.execute(
        _ENQUEUE if kind == "sign" else insert(job),
        {
            "kind": kind,
            "state": "queued",
            "priority": PRIORITY[kind],
            "turn": connection.execute(
                _take_turn(connection.dialect.name), {"of_kind": kind, "of_account": account}
            ).scalar_one(),
            "request_row": request_row,
            "certificate_row": certificate_row,
            "authority": authority,
            "ready_at": now,
            "tries": 0,
            "deaths": 0,
            "dead_holders": "",
            "postponed": 0,
            "error": "",
            "created_at": now,
            **({"of_profile": profile} if kind == "sign" else {}),
        },
    )


def put_back(connection: Connection, jobs: ColumnElement[bool], *, now: dt.datetime) -> int:
    """Queue those of these jobs that were set aside again, with a clean slate; return how many there were.

    They keep their turns, so they are first. A CRL's job stays as it is: the next one asked for takes its place.
    """
    return connection.execute(
        update(job)
        .where(jobs, FAILED_JOB, job.c.kind != "crl")
        .values(
            state="queued",
            ready_at=now,
            finished_at=None,
            tries=0,
            deaths=0,
            dead_holders="",
            postponed=0,
            reattested=0,
        )
    ).rowcount


def record_served(connection: Connection, served: dict[JobKind, int]) -> None:
    """Remember the latest turn served of each kind; a job that comes back late, with an old turn, moves nothing."""
    for kind, turn in sorted(served.items()):
        statement = insert_or(connection.dialect.name, served_turn).values(kind=kind, turn=turn)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["kind"],
                set_={"turn": statement.excluded.turn},
                where=served_turn.c.turn < statement.excluded.turn,
            )
        )


@functools.cache  # building this statement costs more than running it
def _take_turn(dialect: str) -> Executable:
    # The account's row is locked until the commit: requests handed in side by side get turns one behind the other.
    behind_served = (
        select(served_turn.c.turn + 1).where(served_turn.c.kind == bindparam("of_kind", type_=String)).scalar_subquery()
    )
    statement = insert_or(dialect, account_turn).values(
        kind=bindparam("of_kind", type_=String),
        account=bindparam("of_account", type_=String),
        turn=func.coalesce(behind_served, literal(0)),
    )
    next_turn = account_turn.c.turn + 1
    return statement.on_conflict_do_update(
        index_elements=["kind", "account"],
        set_={"turn": case((next_turn > statement.excluded.turn, next_turn), else_=statement.excluded.turn)},
    ).returning(account_turn.c.turn)
