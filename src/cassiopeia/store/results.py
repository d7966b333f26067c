"""What the signer answered, written back: logs, certificates, refusals, revocations.

Each call is one transaction, and what belongs together is written together: there is never a certificate without its
request marked issued and its job done. Every call may be repeated; the first writes, the others say that they were
late. No member of a batch takes the others with it: values check themselves when they are made (`records`), text is
made storable, a certificate that collides with another is left out by ON CONFLICT DO NOTHING, and each member gets
its own `Outcome`, in the order in which the batch came.

A log, a certificate, a revocation are facts: they are written whoever brings them, holder or not, because what was
signed exists. A refusal is an opinion: only the holder's counts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, bindparam, select, update

from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import among, insert_or
from cassiopeia.store.evidence import drop_attestations
from cassiopeia.store.journal_copies import SeenHead, put_head
from cassiopeia.store.models import UtcTime, certificate, job, request, signing_log
from cassiopeia.store.queue import held_jobs, lock_jobs
from cassiopeia.store.records import (
    IssuedResult,
    Outcome,
    Refusal,
    SigningLog,
    serial_text,
    storable,
)

_REFUSE_REQUEST: Final = (
    update(request)
    .where(request.c.id == bindparam("request_row"), request.c.state == "queued")
    .values(
        state="refused",
        refusal_code=bindparam("code"),
        refusal_field=bindparam("field"),
        refusal_message=bindparam("message"),
        updated_at=bindparam("time", type_=UtcTime),
    )
)
# A revocation or a CRL that the signer refuses is not forgotten: it waits for an operator.
_REFUSE_OTHER: Final = (
    update(job)
    .where(job.c.id == bindparam("job_id"))
    .values(state="failed", lease_owner=None, error=bindparam("error"), finished_at=bindparam("time", type_=UtcTime))
)


class Results:
    def __init__(self, database: Database) -> None:
        self._database = database

    def save_logs(
        self,
        owner: str,
        logs: Sequence[SigningLog],
        *,
        now: dt.datetime,
        signer_id: int | None = None,
        head: SeenHead | None = None,
    ) -> tuple[Outcome, ...]:
        """Keep log entries; once this has returned they survive a power cut, and `logSaved` may be sent.

        Jobs that `owner` holds are pinned to `signer_id`: a request belongs to the signer that answered `setLog`.
        NOT_HELD: the entry is kept, but another client works on the job now, so do not confirm. `head`, here and below,
        is a signed head of the signer's journal that is to be kept as well.
        """
        with self._database.write() as connection:
            held = held_jobs(connection, owner, [each.job_id for each in logs])
            jobs = _requests_of(connection, held)
            values = [
                {
                    "request_row": jobs[each.job_id].request_row,
                    "sha256": each.sha256,
                    "entry": each.entry,
                    "signer_id": signer_id,
                    "saved_at": now,
                }
                for each in logs
                if each.job_id in jobs
            ]
            if values:
                connection.execute(insert_or(connection.dialect.name, signing_log).on_conflict_do_nothing(), values)
            pinned = [job_id for job_id in jobs if held[job_id]]
            if pinned and signer_id is not None:
                connection.execute(
                    update(job)
                    .where(among(connection, job.c.id, pinned))
                    # The signer was content with the evidence.
                    .values(signer_id=signer_id, reattested=0)
                )
            _put_head(connection, head, now=now)
        return tuple(
            Outcome.UNKNOWN if each.job_id not in jobs else Outcome.RECORDED if held[each.job_id] else Outcome.NOT_HELD
            for each in logs
        )

    def finish_issued(
        self, results: Sequence[IssuedResult], *, now: dt.datetime, head: SeenHead | None = None
    ) -> tuple[Outcome, ...]:
        """Write certificates back, each with its request's and its job's new state.

        CONFLICT: the request was refused, or has another certificate, or the serial number is taken; nothing of that
        member was written.
        """
        with self._database.write() as connection:
            # 1. Lock the jobs: a second client that finishes the same ones waits here, and then finds them done (which
            #    a join in the locking statement would not see: it takes the other table's rows as they were before).
            jobs = _sign_jobs(connection, lock_jobs(connection, [each.job_id for each in results]))
            # 2. The certificates of requests that still wait for one; whatever collides is left out.
            fresh: dict[int, IssuedResult] = {}
            for each in results:
                if each.job_id in jobs and jobs[each.job_id].state == "queued":
                    fresh.setdefault(each.job_id, each)
            written = _insert_certificates(connection, fresh.values(), jobs, now=now)
            # 3. Their requests and jobs.
            if written:
                connection.execute(
                    update(request)
                    .where(among(connection, request.c.id, [jobs[job_id].request_row for job_id in written]))
                    .values(state="issued", updated_at=now)
                )
                _finish_jobs(connection, written, now=now)
                _drop_proofs(connection, [jobs[job_id] for job_id in written])
            # 4. The others: a repetition is fine, anything else is to be looked into.
            others = [each for each in results if each.job_id in jobs and fresh.get(each.job_id) is not each]
            others += [each for job_id, each in fresh.items() if job_id not in written]
            repeated = _stored_certificates(connection, [jobs[each.job_id].request_row for each in others])
            _put_head(connection, head, now=now)
        outcomes = []
        for each in results:
            if each.job_id not in jobs:
                outcomes.append(Outcome.UNKNOWN)
            elif each.job_id in written and fresh[each.job_id] is each:
                outcomes.append(Outcome.RECORDED)
            elif repeated.get(jobs[each.job_id].request_row) == each.certificate:
                outcomes.append(Outcome.ALREADY_RECORDED)
            else:
                outcomes.append(Outcome.CONFLICT)
        return tuple(outcomes)

    def refuse(self, owner: str, refusals: Sequence[Refusal], *, now: dt.datetime) -> tuple[Outcome, ...]:
        """End requests as refused, for good. A refused revocation or CRL is set aside for an operator instead."""
        with self._database.write() as connection:
            held = held_jobs(connection, owner, [each.job_id for each in refusals])
            jobs = _requests_of(connection, held)
            first = {each.job_id: each for each in reversed(refusals) if held.get(each.job_id)}
            requests = [
                {
                    "request_row": jobs[job_id].request_row,
                    "code": storable(each.code),
                    "field": storable(each.field),
                    "message": storable(each.message),
                    "time": now,
                }
                for job_id, each in first.items()
                if job_id in jobs
            ]
            other = [
                {"job_id": job_id, "error": storable(f"{each.code}: {each.message}"), "time": now}
                for job_id, each in first.items()
                if job_id not in jobs
            ]
            if requests:
                connection.execute(_REFUSE_REQUEST, requests)
                refused = [job_id for job_id in first if job_id in jobs]
                _finish_jobs(connection, refused, now=now)
                _drop_proofs(connection, [jobs[job_id] for job_id in refused])
            if other:
                connection.execute(_REFUSE_OTHER, other)
        outcomes = []
        for each in refusals:
            if each.job_id not in held:
                outcomes.append(Outcome.UNKNOWN)
            elif first.get(each.job_id) is each:
                outcomes.append(Outcome.RECORDED)
            else:
                outcomes.append(Outcome.NOT_HELD)
        return tuple(outcomes)

    def finish_revoked(
        self, job_ids: Sequence[int], *, revoked_at: dt.datetime, now: dt.datetime
    ) -> tuple[Outcome, ...]:
        """Mark revocations, and CRLs freshly signed, as done: the CRL that shows them is stored and published."""
        with self._database.write() as connection:
            rows = _revocation_jobs(connection, lock_jobs(connection, job_ids))
            unfinished = [job_id for job_id, row in rows.items() if row.state != "done"]
            if unfinished:
                certificates = [rows[job_id].certificate_row for job_id in unfinished]
                connection.execute(
                    update(certificate)
                    .where(
                        among(connection, certificate.c.id, [row for row in certificates if row is not None]),
                        certificate.c.revocation_state == "requested",
                    )
                    .values(revocation_state="revoked", revoked_at=revoked_at)
                )
                _finish_jobs(connection, unfinished, now=now)
        finished = set(unfinished)
        return tuple(
            Outcome.UNKNOWN
            if job_id not in rows
            else Outcome.RECORDED
            if job_id in finished
            else Outcome.ALREADY_RECORDED
            for job_id in job_ids
        )


def _put_head(connection: Connection, head: SeenHead | None, *, now: dt.datetime) -> None:
    if head is not None:
        put_head(connection, head, now=now)


def _requests_of(connection: Connection, job_ids: Collection[int]) -> dict[int, Row[Any]]:
    """Map those jobs that are sign jobs to their request's row, and to whether it is attested."""
    statement: Select[Any] = select(job.c.id, job.c.request_row, job.c.nonce).where(
        among(connection, job.c.id, job_ids), job.c.kind == "sign"
    )
    return {row.id: row for row in connection.execute(statement)}


def _sign_jobs(connection: Connection, job_ids: Collection[int]) -> dict[int, Row[Any]]:
    """Map those jobs that are sign jobs to their request's row, state, account and profile."""
    statement: Select[Any] = (
        select(job.c.id, job.c.request_row, job.c.nonce, request.c.state, request.c.account, request.c.profile)
        .select_from(job.join(request, request.c.id == job.c.request_row))
        .where(among(connection, job.c.id, job_ids))
    )
    return {row.id: row for row in connection.execute(statement)}


def _insert_certificates(
    connection: Connection, results: Collection[IssuedResult], jobs: Mapping[int, Row[Any]], *, now: dt.datetime
) -> set[int]:
    """Return the ids of the jobs whose certificates were written."""
    if not results:
        return set()
    values: list[dict[str, Any]] = [
        {
            "serial_number": serial_text(each.serial_number),
            "authority": each.authority,
            "request_row": jobs[each.job_id].request_row,
            "account": jobs[each.job_id].account,
            "profile": jobs[each.job_id].profile,
            "der": each.certificate,
            "subject": storable(each.subject),
            "not_before": each.not_before,
            "not_after": each.not_after,
            "issued_at": now,
            "revocation_state": "none",
        }
        for each in results
    ]
    connection.execute(insert_or(connection.dialect.name, certificate).on_conflict_do_nothing(), values)
    # None of these requests had a certificate before: those that have one now were written. (RETURNING would say so
    # too, but with it the drivers cannot send the rows one behind the other through a prepared statement.)
    request_rows = [each["request_row"] for each in values]
    written = set(
        connection.execute(
            select(certificate.c.request_row).where(among(connection, certificate.c.request_row, request_rows))
        ).scalars()
    )
    return {each.job_id for each in results if jobs[each.job_id].request_row in written}


def _stored_certificates(connection: Connection, request_rows: Collection[int]) -> dict[int, bytes]:
    if not request_rows:
        return {}
    statement = select(certificate.c.request_row, certificate.c.der).where(
        among(connection, certificate.c.request_row, request_rows)
    )
    return {row.request_row: row.der for row in connection.execute(statement)}


def _revocation_jobs(connection: Connection, job_ids: Collection[int]) -> dict[int, Row[Any]]:
    statement: Select[Any] = select(job.c.id, job.c.state, job.c.certificate_row).where(
        among(connection, job.c.id, job_ids), job.c.kind != "sign"
    )
    return {row.id: row for row in connection.execute(statement)}


def _drop_proofs(connection: Connection, jobs: Collection[Row[Any]]) -> None:
    """What was attested of these requests has served."""
    drop_attestations(connection, [row.request_row for row in jobs if row.nonce is not None])


def _finish_jobs(connection: Connection, job_ids: Collection[int], *, now: dt.datetime) -> None:
    connection.execute(
        update(job)
        .where(among(connection, job.c.id, job_ids))
        .values(state="done", lease_owner=None, finished_at=now, error="")
    )
