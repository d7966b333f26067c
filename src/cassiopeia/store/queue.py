"""The job queue: who works on what, who is next, and what waits.

Rules: a job has one holder at a time. A lease runs out by itself; then somebody died with the job in hand, and it is a
suspect (`suspects`): it stands in a line of its own, and is handed out alone. Revocations come before CRLs, CRLs before
new certificates, and within a kind accounts take turns (`turns`); suspects come in the order in which they became
ready. Nothing here ends a job but the third death and an operator's patience: results are written by `results`.

Clients' clocks decide when a lease has run out: give leases much longer than those clocks may differ. A lease that is
taken over too early costs work and nothing else, because results are written once (`results`).
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, case, func, literal, null, or_, select, update
from sqlalchemy.exc import IntegrityError

from cassiopeia.core.request import Revocation
from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import among
from cassiopeia.store.evidence import attested_proofs, leasable
from cassiopeia.store.lint_streaks import held_profiles, lock_due_probes, of_profiles, record_probe
from cassiopeia.store.models import FAILED_JOB, OPEN_JOB, SUSPECT, UtcTime, certificate, job, request
from cassiopeia.store.records import (
    WAITS,
    CrlJob,
    Job,
    JobKind,
    Outcome,
    Postponement,
    QueueStatistics,
    RevokeJob,
    SetAsideJob,
    SignJob,
    storable,
)
from cassiopeia.store.requests import certificate_request
from cassiopeia.store.suspects import count_deaths
from cassiopeia.store.turns import PRIORITY, enqueue, record_served

MAXIMUM_LEASE: Final = 10_000
"""Jobs in one lease at most: what one statement's parameters can name in every database."""

_IN_TURN: Final = (job.c.priority, job.c.turn, job.c.id)
# First come, first served: however many more become suspects, nobody's wait grows.
_AS_THEY_BECAME_READY: Final = (job.c.priority, job.c.ready_at, job.c.id)
_LAPSED: Final = "it let its lease run out"

_POSTPONE: Final = (
    update(job)
    .where(job.c.id == bindparam("job_id"))
    .values(
        state="queued",
        lease_owner=None,
        ready_at=bindparam("ready", type_=UtcTime),
        tries=job.c.tries + bindparam("tried"),
        postponed=job.c.postponed + bindparam("once_more"),
        error=bindparam("reason"),
        signer_id=case((bindparam("unpinned") == 1, null()), else_=job.c.signer_id),
        unattested=case((bindparam("void") == 1, 1), else_=job.c.unattested),
        reattested=job.c.reattested + bindparam("void"),
    )
)
_SET_ASIDE: Final = (
    update(job)
    .where(job.c.id == bindparam("job_id"))
    .values(state="failed", lease_owner=None, error=bindparam("reason"), finished_at=bindparam("time", type_=UtcTime))
)


class Queue:
    def __init__(self, database: Database) -> None:
        self._database = database

    def lease(
        self,
        owner: str,
        *,
        limit: int,
        lease_s: float,
        now: dt.datetime,
        signer_id: int | None = None,
        authorities: Collection[str] | None = None,
        certificates: bool = True,
        nonces: Collection[bytes] = (),
    ) -> tuple[Job, ...]:
        """Return up to `limit` jobs that `owner` now holds until `now` + `lease_s`, in the order to be done.

        With `signer_id`, jobs that are pinned to another signer stay; with `authorities`, so do revocations and CRLs of
        any other authority; without `certificates`, nothing but revocations and CRLs is given. A job whose holder let
        the lease run out counts one more death, and becomes a suspect. Certificates of a profile that is held
        (`lint_streaks`) stay, but for a probe once in a while; so do those that wait for evidence, or have it under
        another nonce than these.
        """
        eligible = _eligible(
            now=now, signer_id=signer_id, authorities=authorities, certificates=certificates, nonces=nonces
        )
        taken: list[Row[Any]] = []
        with self._database.write() as connection:
            if held := held_profiles(connection):
                taken += _take_probes(connection, eligible, owner, lease_s=lease_s, now=now)
                eligible &= ~of_profiles(held)
            while (room := min(limit, MAXIMUM_LEASE) - len(taken)) > 0:
                rows = _claim(connection, (job.c.deaths == 0) & eligible, _IN_TURN, limit=room)
                queued = [row for row in rows if row.state == "queued"]
                _take(connection, queued, owner, lease_s=lease_s, now=now)
                count_deaths(connection, [row for row in rows if row.state == "leased"], _LAPSED, now=now)
                taken += queued
                if len(queued) == len(rows):
                    break
            served: dict[JobKind, int] = {}
            for row in taken:
                served[row.kind] = max(served.get(row.kind, 0), row.turn)
            record_served(connection, served)
            return _jobs(connection, taken)

    def lease_suspect(
        self,
        owner: str,
        *,
        lease_s: float,
        now: dt.datetime,
        signer_id: int | None = None,
        authorities: Collection[str] | None = None,
        certificates: bool = True,
        nonces: Collection[bytes] = (),
    ) -> Job | None:
        """Return the next suspect, which `owner` now holds and must try alone; otherwise as `lease`."""
        eligible = SUSPECT & _eligible(
            now=now, signer_id=signer_id, authorities=authorities, certificates=certificates, nonces=nonces
        )
        with self._database.write() as connection:
            if held := held_profiles(connection):
                eligible &= ~of_profiles(held)
            while rows := _claim(connection, eligible, _AS_THEY_BECAME_READY, limit=1):
                if rows[0].state == "queued":
                    _take(connection, rows, owner, lease_s=lease_s, now=now)
                    return _jobs(connection, rows)[0]
                count_deaths(connection, rows, _LAPSED, now=now)
            return None

    def suspect_waits(
        self,
        *,
        now: dt.datetime,
        signer_id: int | None = None,
        authorities: Collection[str] | None = None,
        certificates: bool = True,
        nonces: Collection[bytes] = (),
    ) -> bool:
        """Whether `lease_suspect` has something to hand out."""
        eligible = _eligible(
            now=now, signer_id=signer_id, authorities=authorities, certificates=certificates, nonces=nonces
        )
        with self._database.read() as connection:
            if held := held_profiles(connection):
                eligible &= ~of_profiles(held)
            return connection.execute(select(job.c.id).where(SUSPECT, eligible).limit(1)).first() is not None

    def blame(self, owner: str, job_ids: Collection[int], how: str, *, now: dt.datetime) -> int:
        """Count one more death for jobs that `owner` holds, and give them back; return how many those were."""
        with self._database.write() as connection:
            return _blame(connection, owner, how, job.c.id.in_(job_ids), now=now)

    def retry_later(
        self, owner: str, postponements: Sequence[Postponement], *, now: dt.datetime
    ) -> tuple[Outcome, ...]:
        """Put jobs back, each to be leased again after its own delay, and after a validator's word where it says so."""
        with self._database.write() as connection:
            held = held_jobs(connection, owner, [each.job_id for each in postponements])
            changes = [
                {
                    "job_id": each.job_id,
                    "ready": now + dt.timedelta(seconds=each.delay_s),
                    "tried": int(each.counts),
                    "once_more": int(each.lengthens),
                    "reason": storable(WAITS + each.reason if each.reattest else each.reason),
                    "unpinned": int(each.abandoned),
                    "void": int(each.reattest),
                }
                for each in {each.job_id: each for each in postponements}.values()
                if held.get(each.job_id)
            ]
            if changes:
                connection.execute(_POSTPONE, changes)
        return _held_outcomes(held, [each.job_id for each in postponements])

    def set_aside(self, owner: str, jobs: Sequence[tuple[int, str]], *, now: dt.datetime) -> tuple[Outcome, ...]:
        """Take jobs (id and why) out of the queue until an operator puts them back; they lose nothing."""
        with self._database.write() as connection:
            held = held_jobs(connection, owner, [job_id for job_id, _ in jobs])
            changes = [
                {"job_id": job_id, "reason": storable(why), "time": now} for job_id, why in jobs if held.get(job_id)
            ]
            if changes:
                connection.execute(_SET_ASIDE, changes)
        return _held_outcomes(held, [job_id for job_id, _ in jobs])

    def set_aside_jobs(self, *, limit: int) -> tuple[SetAsideJob, ...]:
        """Return what waits for an operator, the latest job first."""
        statement = (
            select(job, request.c.request_id, certificate.c.serial_number)
            .select_from(
                job.outerjoin(request, request.c.id == job.c.request_row).outerjoin(
                    certificate, certificate.c.id == job.c.certificate_row
                )
            )
            .where(FAILED_JOB)
            .order_by(job.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return tuple(
            SetAsideJob(
                id=row.id,
                kind=row.kind,
                request_id=row.request_id or "",
                serial_number=row.serial_number or "",
                authority=row.authority or "",
                reason=row.error,
                set_aside_at=row.finished_at,
                dead_holders=tuple(row.dead_holders.splitlines()),
            )
            for row in rows
        )

    def renew(self, owner: str, job_ids: Collection[int], *, lease_s: float, now: dt.datetime) -> int:
        """Hold on to these jobs until `now` + `lease_s`, as far as `owner` has them; return how many those are."""
        with self._database.write() as connection:
            return connection.execute(
                update(job)
                .where(job.c.id.in_(job_ids), job.c.state == "leased", job.c.lease_owner == owner)
                .values(ready_at=now + dt.timedelta(seconds=lease_s))
            ).rowcount

    def release(self, owner: str, *, now: dt.datetime, death: str = "") -> int:
        """Give back everything that `owner` holds, as when its process ends; return how many jobs it was.

        `death` says how `owner` died: each job counts one more death, as if its lease had run out.
        """
        with self._database.write() as connection:
            if death:
                return _blame(connection, owner, death, literal(value=True), now=now)
            return connection.execute(
                update(job)
                .where(OPEN_JOB, job.c.state == "leased", job.c.lease_owner == owner)
                .values(state="queued", lease_owner=None, ready_at=now)
            ).rowcount

    def hurry(self, signer_id: int, *, now: dt.datetime) -> int:
        """Let jobs that this signer has postponed be leased at once, because its state has changed; return how many."""
        with self._database.write() as connection:
            return connection.execute(
                update(job)
                .where(
                    OPEN_JOB,
                    job.c.state == "queued",
                    job.c.ready_at > now,
                    job.c.postponed > 0,
                    or_(job.c.signer_id.is_(None), job.c.signer_id == signer_id),
                )
                .values(ready_at=now, postponed=0)
            ).rowcount

    def owners(self) -> tuple[str, ...]:
        """Return who holds jobs, also those whose leases have run out."""
        statement = select(job.c.lease_owner).where(OPEN_JOB, job.c.state == "leased").distinct()
        with self._database.read() as connection:
            return tuple(connection.execute(statement.order_by(job.c.lease_owner)).scalars())

    def request_crl(self, authority: str, *, now: dt.datetime) -> bool:
        """Queue a fresh signature over an authority's CRL; False when one is under way already."""
        waiting = select(job.c.id).where(OPEN_JOB, job.c.kind == "crl", job.c.authority == authority)
        with self._database.write() as connection:
            if connection.execute(waiting).first() is not None:
                return False
            try:
                with connection.begin_nested():
                    enqueue(connection, kind="crl", account="", authority=authority, now=now)
            except IntegrityError:  # another client was quicker by a moment: the index lets one in
                return False
            return True

    def statistics(self, *, now: dt.datetime) -> QueueStatistics:
        postponed = (job.c.state == "queued") & (job.c.ready_at > now)
        unattested = (job.c.state == "queued") & (job.c.unattested == 1)
        depth = select(
            job.c.kind,
            job.c.state,
            postponed.label("later"),
            unattested.label("unattested"),
            func.count().label("jobs"),
            func.min(job.c.ready_at).label("ready"),
        ).group_by(job.c.kind, job.c.state, postponed, unattested)
        oldest_open = (
            select(job.c.created_at, job.c.error).where(OPEN_JOB).order_by(job.c.created_at, job.c.id).limit(1)
        )
        hour_ago = now - dt.timedelta(hours=1)
        with self._database.read() as connection:
            rows = connection.execute(depth.where(OPEN_JOB)).all()
            failed = connection.execute(select(job.c.kind, func.count()).where(FAILED_JOB).group_by(job.c.kind)).all()
            suspected = connection.execute(select(func.count()).select_from(job).where(SUSPECT)).scalar_one()
            oldest = connection.execute(oldest_open).first()
            issued = connection.execute(
                select(func.count()).select_from(certificate).where(certificate.c.issued_at > hour_ago)
            ).scalar_one()
        counts: dict[str, Counter[JobKind]] = {"queued": Counter(), "leased": Counter(), "later": Counter()}
        for row in rows:
            counts[row.state][row.kind] += row.jobs
            # What a validator has put off is not put off by the signer.
            counts["later"][row.kind] += row.jobs if row.later and not row.unattested else 0
        could_be_attested = [row.ready for row in rows if row.unattested and not row.later]
        return QueueStatistics(
            waiting=_by_kind(counts["queued"]),
            leased=_by_kind(counts["leased"]),
            postponed=_by_kind(counts["later"]),
            set_aside=_by_kind(Counter(dict(failed))),
            suspected=suspected,
            unattested=sum(row.jobs for row in rows if row.unattested),
            unattested_s=(now - min(could_be_attested)).total_seconds() if could_be_attested else 0.0,
            oldest_age_s=(now - oldest.created_at).total_seconds() if oldest else 0.0,
            oldest_difficulty=oldest.error if oldest else "",
            issued_last_hour=issued,
        )


def held_jobs(connection: Connection, owner: str, job_ids: Collection[int]) -> dict[int, bool]:
    """Lock these jobs for the rest of the transaction; map each that exists to whether `owner` holds it.

    A lease that ran out still counts as held until somebody takes the job over.
    """
    rows = lock_jobs(connection, job_ids).values()
    return {row.id: row.state == "leased" and row.lease_owner == owner for row in rows}


def lock_jobs(connection: Connection, job_ids: Collection[int]) -> dict[int, Row[Any]]:
    """Lock these jobs for the rest of the transaction (SQLite's lock on the whole database does it by itself)."""
    statement: Select[Any] = (
        select(job.c.id, job.c.state, job.c.lease_owner)
        .where(among(connection, job.c.id, job_ids))
        # Everybody locks in this order, so that two clients never wait for each other.
        .order_by(job.c.id)
        .with_for_update()
    )
    return {row.id: row for row in connection.execute(statement)}


def _held_outcomes(held: dict[int, bool], job_ids: Sequence[int]) -> tuple[Outcome, ...]:
    return tuple(
        Outcome.UNKNOWN if job_id not in held else Outcome.RECORDED if held[job_id] else Outcome.NOT_HELD
        for job_id in job_ids
    )


def _eligible(
    *,
    now: dt.datetime,
    signer_id: int | None,
    authorities: Collection[str] | None,
    certificates: bool,
    nonces: Collection[bytes],
) -> ColumnElement[bool]:
    """Open jobs that this client may lease now."""
    eligible = OPEN_JOB & (job.c.ready_at <= now) & leasable(nonces)
    if signer_id is not None:
        eligible &= or_(job.c.signer_id.is_(None), job.c.signer_id == signer_id)
    if authorities is not None:
        eligible &= or_(job.c.authority.is_(None), job.c.authority.in_(authorities))
    if not certificates:
        # By the order of the index: thousands of certificates may wait behind these.
        eligible &= job.c.priority < PRIORITY["sign"]
    return eligible


def _claim(
    connection: Connection, condition: ColumnElement[bool], order: Sequence[ColumnElement[Any]], *, limit: int
) -> Sequence[Row[Any]]:
    """Choose the next jobs and lock them. PostgreSQL steps over those that another client is choosing right now."""
    statement: Select[Any] = select(job).where(condition).order_by(*order).limit(limit)
    return connection.execute(statement.with_for_update(skip_locked=True)).all()


def _take_probes(
    connection: Connection, eligible: ColumnElement[bool], owner: str, *, lease_s: float, now: dt.datetime
) -> list[Row[Any]]:
    """One job of each held profile of which the time for a probe has come."""
    taken: list[Row[Any]] = []
    for profile in lock_due_probes(connection, now=now):
        fresh = (job.c.deaths == 0) & (job.c.state == "queued")
        rows = _claim(connection, eligible & fresh & of_profiles([profile]), _IN_TURN, limit=1)
        if rows:
            _take(connection, rows, owner, lease_s=lease_s, now=now)
            record_probe(connection, profile, now=now)
            taken += rows
    return taken


def _take(connection: Connection, rows: Sequence[Row[Any]], owner: str, *, lease_s: float, now: dt.datetime) -> None:
    if rows:
        connection.execute(
            update(job)
            .where(among(connection, job.c.id, [row.id for row in rows]))
            .values(state="leased", lease_owner=owner, leased_at=now, ready_at=now + dt.timedelta(seconds=lease_s))
        )


def _blame(connection: Connection, owner: str, how: str, which: ColumnElement[bool], *, now: dt.datetime) -> int:
    held: Select[Any] = select(job).where(OPEN_JOB, job.c.state == "leased", job.c.lease_owner == owner, which)
    rows = connection.execute(held.order_by(job.c.id).with_for_update()).all()
    count_deaths(connection, rows, how, now=now)
    return len(rows)


def _jobs(connection: Connection, rows: Sequence[Row[Any]]) -> tuple[Job, ...]:
    request_rows = [row.request_row for row in rows if row.request_row is not None]
    certificate_rows = [row.certificate_row for row in rows if row.certificate_row is not None]
    proofs = attested_proofs(connection, [row.request_row for row in rows if row.nonce is not None])
    requests: dict[int, Row[Any]] = {}
    certificates: dict[int, Row[Any]] = {}
    if request_rows:
        requests = {
            each.id: each
            for each in connection.execute(select(request).where(among(connection, request.c.id, request_rows)))
        }
    if certificate_rows:
        wanted: Select[Any] = select(
            certificate.c.id,
            certificate.c.serial_number,
            certificate.c.revocation_reason,
            certificate.c.invalidity_date,
            certificate.c.revocation_proof,
        ).where(among(connection, certificate.c.id, certificate_rows))
        certificates = {each.id: each for each in connection.execute(wanted)}
    return tuple(
        _job(
            row,
            requests.get(row.request_row),
            certificates.get(row.certificate_row),
            proofs=proofs.get(row.request_row, ()),
        )
        for row in rows
    )


def _job(row: Row[Any], wanted: Row[Any] | None, revoked: Row[Any] | None, *, proofs: tuple[bytes, ...]) -> Job:
    if wanted is not None:
        return SignJob(
            id=row.id,
            request=certificate_request(wanted, proofs=proofs),
            tries=row.tries,
            deaths=row.deaths,
            postponed=row.postponed,
            reattested=row.reattested,
            signer_id=row.signer_id,
            created_at=row.created_at,
        )
    if revoked is not None:
        return RevokeJob(
            id=row.id,
            authority=row.authority,
            revocation=Revocation(
                serial_number=int(revoked.serial_number, 16),
                reason=revoked.revocation_reason,
                invalidity_date=revoked.invalidity_date,
                proof=revoked.revocation_proof,
            ),
            tries=row.tries,
            deaths=row.deaths,
            postponed=row.postponed,
            signer_id=row.signer_id,
            created_at=row.created_at,
        )
    return CrlJob(
        id=row.id,
        authority=row.authority,
        tries=row.tries,
        deaths=row.deaths,
        postponed=row.postponed,
        signer_id=row.signer_id,
        created_at=row.created_at,
    )


def _by_kind(counts: Counter[JobKind]) -> dict[JobKind, int]:
    return {kind: counts[kind] for kind in PRIORITY}
