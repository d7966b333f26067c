"""Revoking many certificates: which there are, queueing them in batches, and how far it has come.

Everything is asked for by serial number and authority, and each batch is one transaction: whoever stops in the middle
goes on where he was, and a second run changes nothing.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, func, or_, select, update

from cassiopeia.store.connection import Database
from cassiopeia.store.models import REVOCATION_ASKED, certificate, job
from cassiopeia.store.records import RevocationState
from cassiopeia.store.turns import enqueue, put_back

AT_ONCE: Final = 200
"""Certificates in one transaction: a client that works meanwhile does not wait for long."""

_SHOWN: Final = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedCertificate:
    """A certificate by its serial number (as `serial_text` writes it), its authority, and SHA-256 of its DER."""

    serial_number: str
    authority: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """What a run did with so many certificates: `again` were set aside, and are queued again."""

    new: int = 0
    again: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far certificates are. `waiting` by authority; `set_aside` are some of the reasons, with the serial number."""

    revoked: int
    waiting: Mapping[str, int]
    set_aside: int
    reasons: tuple[tuple[str, str], ...]
    not_asked: int
    last_revoked_at: dt.datetime | None
    difficulty: str


class MassRevocation:
    def __init__(self, database: Database) -> None:
        self._database = database

    def authorities(self) -> tuple[str, ...]:
        """Return the names of all authorities of which there are certificates."""
        with self._database.read() as connection:
            return tuple(connection.execute(select(certificate.c.authority).distinct().order_by("authority")).scalars())

    def strangers(self, named: Sequence[NamedCertificate]) -> list[NamedCertificate]:
        """Those that this store does not have, or has otherwise."""
        strange = []
        with self._database.read() as connection:
            for batch in _batches(named):
                columns = (certificate.c.serial_number, certificate.c.authority, certificate.c.der)
                rows = connection.execute(select(*columns).where(_are(batch)))
                known = {(row.serial_number, row.authority): hashlib.sha256(row.der).hexdigest() for row in rows}
                strange += [each for each in batch if known.get((each.serial_number, each.authority)) != each.sha256]
        return strange

    def queue(
        self,
        named: Sequence[NamedCertificate],
        *,
        reason: int | None,
        invalidity_date: dt.datetime | None,
        now: dt.datetime,
    ) -> Iterator[Queued]:
        """Queue the revocation of each that was not asked for yet: one value for each batch, once it is durable."""
        for batch in _batches(named):
            with self._database.write() as connection:
                asked = _ask(connection, batch, reason=reason, invalidity_date=invalidity_date, now=now)
                again = put_back(connection, job.c.certificate_row.in_(_rows_of(batch)), now=now)
            yield Queued(new=asked, again=again)

    def progress(self, named: Sequence[NamedCertificate]) -> Progress:
        counts: Counter[RevocationState] = Counter()
        waiting: Counter[str] = Counter()
        aside: list[tuple[str, str]] = []
        last: dt.datetime | None = None
        difficulty = ""
        with self._database.read() as connection:
            for batch in _batches(named):
                for row in connection.execute(_progress_of(batch)):
                    counts[row.revocation_state] += 1
                    if row.revoked_at is not None:
                        last = row.revoked_at if last is None else max(last, row.revoked_at)
                    elif row.state == "failed":
                        aside.append((row.serial_number, row.error))
                    elif row.revocation_state == "requested":
                        waiting[row.authority] += 1
                        difficulty = difficulty or row.error
        return Progress(
            revoked=counts["revoked"],
            waiting=waiting,
            set_aside=len(aside),
            reasons=tuple(aside[:_SHOWN]),
            not_asked=counts["none"],
            last_revoked_at=last,
            difficulty=difficulty,
        )

    def revoked_since(self, moment: dt.datetime) -> Mapping[str, int]:
        """How many certificates of each authority were revoked since then; no cap counts those that were proved."""
        statement = (
            select(certificate.c.authority, func.count().label("certificates"))
            .where(
                REVOCATION_ASKED,
                certificate.c.revocation_state == "revoked",
                certificate.c.revoked_at > moment,
                certificate.c.revocation_proof.is_(None),
            )
            .group_by(certificate.c.authority)
        )
        with self._database.read() as connection:
            return {row.authority: row.certificates for row in connection.execute(statement)}

    def waiting(self) -> Mapping[str, int]:
        """How many revocations of each authority wait, whoever has asked for them."""
        statement = (
            select(certificate.c.authority, func.count().label("certificates"))
            .where(
                REVOCATION_ASKED,
                certificate.c.revocation_state == "requested",
                certificate.c.revocation_proof.is_(None),
            )
            .group_by(certificate.c.authority)
        )
        with self._database.read() as connection:
            return {row.authority: row.certificates for row in connection.execute(statement)}


def _ask(
    connection: Connection,
    batch: Sequence[NamedCertificate],
    *,
    reason: int | None,
    invalidity_date: dt.datetime | None,
    now: dt.datetime,
) -> int:
    # Locked in this order by everybody, so that two who ask at once wait for each other, and one of them finds nothing.
    columns = (certificate.c.id, certificate.c.account, certificate.c.authority)
    asked = connection.execute(
        select(*columns)
        .where(_are(batch), certificate.c.revocation_state == "none")
        .order_by(certificate.c.id)
        .with_for_update()
    ).all()
    for row in asked:
        connection.execute(
            update(certificate)
            .where(certificate.c.id == row.id)
            .values(
                revocation_state="requested",
                revocation_reason=reason or None,
                invalidity_date=invalidity_date,
                revocation_requested_at=now,
            )
        )
        enqueue(
            connection,
            kind="revoke",
            account=row.account,
            certificate_row=row.id,
            authority=row.authority,
            now=now,
        )
    return len(asked)


def _are(batch: Sequence[NamedCertificate]) -> Any:
    """One of these: by serial number within each authority, as the index has it."""
    by_authority: dict[str, list[str]] = {}
    for each in batch:
        by_authority.setdefault(each.authority, []).append(each.serial_number)
    return or_(
        *(
            (certificate.c.authority == authority) & certificate.c.serial_number.in_(serials)
            for authority, serials in by_authority.items()
        )
    )


def _rows_of(batch: Sequence[NamedCertificate]) -> Select[Any]:
    return select(certificate.c.id).where(_are(batch))


def _progress_of(batch: Sequence[NamedCertificate]) -> Select[Any]:
    columns = (
        certificate.c.serial_number,
        certificate.c.authority,
        certificate.c.revocation_state,
        certificate.c.revoked_at,
        job.c.state,
        job.c.error,
    )
    unfinished = (job.c.certificate_row == certificate.c.id) & (job.c.kind == "revoke") & (job.c.state != "done")
    return select(*columns).select_from(certificate.outerjoin(job, unfinished)).where(_are(batch))


def _batches(named: Sequence[NamedCertificate]) -> Iterator[Sequence[NamedCertificate]]:
    for start in range(0, len(named), AT_ONCE):
        yield named[start : start + AT_ONCE]
