"""Certificates that a journal has and this store has lost, put back: what `journal recover` writes, and nothing else.

As after a restore of an older database. Each batch is one transaction and may be repeated. A row that is there already
is never made to say something else, but for three things that the journal knows better: a request that waits becomes
issued, and its job done; a certificate that nobody here takes for revoked becomes revoked. A certificate whose request
cannot be its own here (refused, or another one under that id) is kept without a request, so that it can be revoked.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select, update

from cassiopeia.core.request import CertificateRequest
from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import insert_or
from cassiopeia.store.evidence import drop_attestations
from cassiopeia.store.models import OPEN_JOB, certificate, job, request, signing_log
from cassiopeia.store.queue import lock_jobs
from cassiopeia.store.records import RevocationState, serial_text, storable
from cassiopeia.store.requests import keepable, request_values
from cassiopeia.store.turns import PRIORITY

_ROWS_AT_ONCE: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredCertificate:
    """What is compared with a journal."""

    authority: str
    serial_number: str
    der: bytes
    state: RevocationState


@dataclass(frozen=True, kw_only=True, slots=True)
class PastRevocation:
    """A revocation that a journal or a CRL shows. `serial_number` is hexadecimal, as `serial_text` writes it."""

    authority: str
    serial_number: str
    revoked_at: dt.datetime
    reason: int | None
    invalidity_date: dt.datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class PastIssuance:
    """A certificate that was verified, the request that it answers, and the log that was saved before it was signed.

    `digest` is the one that the signer knew the request by. `revocation` is None while the certificate is not revoked.
    """

    signer_id: int
    request: CertificateRequest
    digest: bytes
    log: bytes
    log_hash: bytes
    authority: str
    serial_number: int
    certificate: bytes
    subject: str
    not_before: dt.datetime
    not_after: dt.datetime
    requested_at: dt.datetime
    issued_at: dt.datetime
    revocation: PastRevocation | None


class Recovery(enum.Enum):
    """What became of one certificate."""

    RECOVERED = "recovered"
    """It is here, with its request and its log."""
    COMPLETED = "completed"
    """The same, and the request waited in the queue."""
    ALONE = "alone"
    """It is here without a request: the one that has its id here is refused, or is another one."""
    KNOWN = "known"
    """It was here before."""
    CONFLICT = "conflict"
    """Another certificate has its serial number here: nothing was written."""


def stored_certificates(database: Database) -> Iterator[StoredCertificate]:
    """Every certificate of the store, oldest first; some hundreds at a time are in memory."""
    after = 0
    columns = certificate.c
    selection = select(columns.id, columns.authority, columns.serial_number, columns.der, columns.revocation_state)
    while True:
        with database.read() as connection:
            rows = connection.execute(
                selection.where(columns.id > after).order_by(columns.id).limit(_ROWS_AT_ONCE)
            ).all()
        if not rows:
            return
        for row in rows:
            yield StoredCertificate(
                authority=row.authority,
                serial_number=row.serial_number,
                der=row.der,
                state=row.revocation_state,
            )
        after = rows[-1].id


def waiting_requests(database: Database, request_ids: Iterable[bytes]) -> set[bytes]:
    """Those of these requests that the queue holds: their certificates come by themselves."""
    names = [each.hex() for each in request_ids]
    waiting: set[bytes] = set()
    with database.read() as connection:
        for start in range(0, len(names), _ROWS_AT_ONCE):
            statement = (
                select(request.c.request_id)
                .join(job, job.c.request_row == request.c.id)
                .where(request.c.request_id.in_(names[start : start + _ROWS_AT_ONCE]), OPEN_JOB)
            )
            waiting.update(bytes.fromhex(each) for each in connection.execute(statement).scalars())
    return waiting


def put_certificates(database: Database, past: Sequence[PastIssuance], *, now: dt.datetime) -> tuple[Recovery, ...]:
    """Write these certificates where they are not, each with its request, its log and its job; all of them or none."""
    with database.write() as connection:
        return tuple(_put(connection, each, now=now) for each in past)


def put_revocations(database: Database, past: Collection[PastRevocation]) -> int:
    """Mark those of these certificates as revoked that nobody has asked to revoke; return how many there were.

    A revocation that is under way stays so: the client ends it when the CRL that shows it is published.
    """
    count = 0
    ordered = list(past)
    for start in range(0, len(ordered), _ROWS_AT_ONCE):
        with database.write() as connection:
            for each in ordered[start : start + _ROWS_AT_ONCE]:
                count += connection.execute(
                    update(certificate)
                    .where(
                        certificate.c.serial_number == each.serial_number,
                        certificate.c.authority == each.authority,
                        certificate.c.revocation_state == "none",
                    )
                    .values(_revoked(each))
                ).rowcount
    return count


def _put(connection: Connection, past: PastIssuance, *, now: dt.datetime) -> Recovery:
    # 1. Its request, which another client may be about to finish: then wait for that.
    request_row, is_new = _request_row(connection, past, now=now)
    own = request_row if is_new or (request_row is not None and _waits(connection, request_row)) else None
    # 2. The certificate, unless it is there.
    inserted = connection.execute(
        insert_or(connection.dialect.name, certificate)
        .values(_certificate_values(past, own))
        .on_conflict_do_nothing()
        .returning(certificate.c.id)
    ).first()
    if inserted is None:
        if is_new:
            connection.execute(request.delete().where(request.c.id == request_row))
        return Recovery.KNOWN if _is_stored(connection, past) else Recovery.CONFLICT
    # 3. What belongs to it.
    if own is None:
        return Recovery.ALONE
    connection.execute(
        insert_or(connection.dialect.name, signing_log)
        .values(request_row=own, sha256=past.log_hash, entry=past.log, signer_id=past.signer_id, saved_at=now)
        .on_conflict_do_nothing()
    )
    finished: dict[str, Any] = {"state": "done", "lease_owner": None, "error": "", "finished_at": now}
    if is_new:
        connection.execute(job.insert().values(_job_values(past, own) | finished))
        return Recovery.RECOVERED
    connection.execute(update(request).where(request.c.id == own).values(state="issued", updated_at=now))
    connection.execute(update(job).where(job.c.request_row == own).values(signer_id=past.signer_id, **finished))
    drop_attestations(connection, [own])
    return Recovery.COMPLETED


def _request_row(connection: Connection, past: PastIssuance, *, now: dt.datetime) -> tuple[int | None, bool]:
    """Return the row of this very request, and whether it was written now; None when another one has its id."""
    values = request_values(keepable(past.request), request_id=past.request.request_id, digest=past.digest)
    times = {"created_at": past.requested_at, "updated_at": now}
    inserted = connection.execute(
        insert_or(connection.dialect.name, request)
        .values(**values, **times, state="issued")
        .on_conflict_do_nothing()
        .returning(request.c.id)
    ).first()
    if inserted is not None:
        return int(inserted.id), True
    statement = select(request.c.id, request.c.digest).where(request.c.request_id == values["request_id"])
    stored = connection.execute(statement).one()
    return (int(stored.id) if stored.digest == past.digest else None), False


def _waits(connection: Connection, request_row: int) -> bool:
    """Whether a request has no answer yet; one that was set aside has none either. Locks its job."""
    jobs = connection.execute(select(job.c.id).where(job.c.request_row == request_row)).scalars()
    lock_jobs(connection, list(jobs))
    return connection.execute(select(request.c.state).where(request.c.id == request_row)).scalar() == "queued"


def _is_stored(connection: Connection, past: PastIssuance) -> bool:
    """Whether what has this serial number is this very certificate."""
    statement = select(certificate.c.der).where(
        certificate.c.serial_number == serial_text(past.serial_number), certificate.c.authority == past.authority
    )
    return connection.execute(statement).scalar() == past.certificate


def _certificate_values(past: PastIssuance, request_row: int | None) -> dict[str, Any]:
    kept = keepable(past.request)
    return {
        "serial_number": serial_text(past.serial_number),
        "authority": past.authority,
        "request_row": request_row,
        "account": kept.account,
        "profile": kept.profile,
        "der": past.certificate,
        "subject": storable(past.subject),
        "not_before": past.not_before,
        "not_after": past.not_after,
        "issued_at": past.issued_at,
        **({"revocation_state": "none"} if past.revocation is None else _revoked(past.revocation)),
    }


def _revoked(past: PastRevocation) -> dict[str, Any]:
    return {
        "revocation_state": "revoked",
        "revocation_reason": past.reason,
        "invalidity_date": past.invalidity_date,
        "revocation_requested_at": past.revoked_at,
        "revoked_at": past.revoked_at,
    }


def _job_values(past: PastIssuance, request_row: int) -> dict[str, Any]:
    """A job that nobody will lease: it only says that there was one."""
    return {
        "kind": "sign",
        "priority": PRIORITY["sign"],
        "turn": 0,
        "request_row": request_row,
        "signer_id": past.signer_id,
        "ready_at": past.requested_at,
        "tries": 0,
        "deaths": 0,
        "dead_holders": "",
        "postponed": 0,
        "created_at": past.requested_at,
    }
