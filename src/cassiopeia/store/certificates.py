"""Certificates: looked up, listed, asked to be revoked. They are written by `results` alone."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, func, select, update

from cassiopeia.core.compromise import KEY_COMPROMISE
from cassiopeia.errors import Refused
from cassiopeia.store.connection import Database
from cassiopeia.store.models import REVOCATION_ASKED, certificate, job, request
from cassiopeia.store.records import REVOCATION_REASONS, CertificateRecord, Page, RevocationState
from cassiopeia.store.turns import enqueue, put_back

_MINIMUM_PREFIX: Final = 4
_SERIAL_DIGITS: Final = 42
_SERIAL: Final = re.compile(r"[0-9a-f]+")


class Certificates:
    def __init__(self, database: Database) -> None:
        self._database = database

    def look_up(self, serial: str, *, authority: str | None = None) -> CertificateRecord:
        """Return the certificate with this serial number, or the only one whose number begins like this.

        Hexadecimal in any case, with or without 0x, colons, blanks or leading zeros. Raises Refused:
        `serial-invalid`, `certificate-unknown`, `serial-ambiguous`.
        """
        with self._database.read() as connection:
            return _record(_look_up(connection, serial, authority))

    def of_request(self, request_id: bytes) -> CertificateRecord | None:
        statement = _selection().where(request.c.request_id == request_id.hex())
        with self._database.read() as connection:
            row = connection.execute(statement).one_or_none()
        return None if row is None else _record(row)

    def page(
        self,
        *,
        account: str | None = None,
        profile: str | None = None,
        authority: str | None = None,
        revocation_state: RevocationState | None = None,
        expires_before: dt.datetime | None = None,
        valid_at: dt.datetime | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page[CertificateRecord]:
        """Return certificates, newest first; `after` is the previous page's `next_page`.

        `valid_at` leaves out what is not yet or no longer valid then, whether revoked or not.
        """
        statement = _selection().order_by(certificate.c.id.desc()).limit(limit + 1)
        conditions = {
            certificate.c.account: account,
            certificate.c.profile: profile,
            certificate.c.authority: authority,
            certificate.c.revocation_state: revocation_state,
        }
        for column, value in conditions.items():
            if value is not None:
                statement = statement.where(column == value)
        if revocation_state not in {None, "none"}:
            statement = statement.where(REVOCATION_ASKED)
        if expires_before is not None:
            statement = statement.where(certificate.c.not_after < expires_before)
        if valid_at is not None:
            statement = statement.where(certificate.c.not_before <= valid_at, certificate.c.not_after >= valid_at)
        if after is not None:
            statement = statement.where(certificate.c.id < after)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        items = tuple(_record(row) for row in rows[:limit])
        return Page(items=items, next_page=items[-1].number if len(rows) > limit else None)

    def last_ends(self, account: str) -> dict[str, dt.datetime]:
        """When the last of this account's certificates ends, by sub-CA."""
        statement = (
            select(certificate.c.authority, func.max(certificate.c.not_after))
            .where(certificate.c.account == account)
            .group_by(certificate.c.authority)
        )
        with self._database.read() as connection:
            return {authority: end for authority, end in connection.execute(statement)}  # noqa: C416 - rows

    def issued_since(self, moment: dt.datetime) -> dict[str, int]:
        """How many certificates each sub-CA has issued since then; those that have issued none are left out."""
        statement = (
            select(certificate.c.authority, func.count())
            .where(certificate.c.issued_at >= moment)
            .group_by(certificate.c.authority)
        )
        with self._database.read() as connection:
            return {authority: count for authority, count in connection.execute(statement)}  # noqa: C416 - rows

    def request_revocation(
        self,
        serial: str,
        *,
        now: dt.datetime,
        authority: str | None = None,
        reason: int | None = None,
        invalidity_date: dt.datetime | None = None,
        proof: bytes | None = None,
    ) -> CertificateRecord:
        """Queue the revocation of one certificate; asking again while it is under way changes nothing.

        But for a `proof` by the compromised key itself (then the reason is keyCompromise): it is added to what waits,
        and that is asked for at once. `reason` is a CRLReason (RFC 5280 5.3.1). Raises Refused as `look_up` does, and
        `already-revoked` (says when), `reason-invalid`.
        """
        # Unspecified is the same as no reason, and shorter in the CRL (RFC 5280 5.3.1 asks to leave it out).
        reason = reason or None
        if reason is not None and reason not in REVOCATION_REASONS:
            raise Refused(
                f"{reason} is no reason for a revocation: use one of {', '.join(map(str, sorted(REVOCATION_REASONS)))}",
                code="reason-invalid",
                field="reason",
            )
        if proof is not None and reason != KEY_COMPROMISE:
            raise Refused(
                "a proof by the compromised key goes with the reason keyCompromise",
                code="reason-invalid",
                field="reason",
            )
        with self._database.write() as connection:
            found = _look_up(connection, serial, authority)
            # The condition stands in the statement, so that of two who ask at once only one queues a job.
            asked = connection.execute(
                update(certificate)
                .where(certificate.c.id == found.id, certificate.c.revocation_state == "none")
                .values(
                    revocation_state="requested",
                    revocation_reason=reason,
                    invalidity_date=invalidity_date,
                    revocation_requested_at=now,
                    revocation_proof=proof,
                )
            )
            if asked.rowcount == 1:
                enqueue(
                    connection,
                    kind="revoke",
                    account=found.account,
                    certificate_row=found.id,
                    authority=found.authority,
                    now=now,
                )
            elif proof is not None:
                _add_proof(connection, found.id, proof, invalidity_date, now=now)
            record = _record(connection.execute(_selection().where(certificate.c.id == found.id)).one())
        if record.revoked_at is not None:
            raise Refused(
                f"certificate {record.serial_number} was revoked on {record.revoked_at:%Y-%m-%d at %H:%M:%S} UTC",
                code="already-revoked",
                field="serial",
            )
        return record

    def retry_revocation(self, record: CertificateRecord, *, now: dt.datetime) -> bool:
        """Put the revocation of this certificate back into the queue; False when it was not set aside."""
        with self._database.write() as connection:
            return put_back(connection, job.c.certificate_row == record.number, now=now) > 0


def _add_proof(
    connection: Connection, row: int, proof: bytes, invalidity_date: dt.datetime | None, *, now: dt.datetime
) -> None:
    """Nothing that the signer has put off keeps it waiting any longer: its cap does not hold for this one."""
    since = {} if invalidity_date is None else {"invalidity_date": invalidity_date}
    added = connection.execute(
        update(certificate)
        .where(certificate.c.id == row, certificate.c.revocation_state == "requested")
        .values(revocation_reason=KEY_COMPROMISE, revocation_proof=proof, **since)
    )
    if added.rowcount == 1:
        connection.execute(
            update(job)
            .where(job.c.certificate_row == row, job.c.state == "queued", job.c.ready_at > now)
            .values(ready_at=now, postponed=0)
        )


def _look_up(connection: Connection, text: str, authority: str | None) -> Row[Any]:
    digits = _digits(text)
    statement = _selection() if authority is None else _selection().where(certificate.c.authority == authority)
    # 1. The whole number: what was typed, with leading zeros as we write them.
    significant = digits.lstrip("0")
    whole = significant if len(significant) % 2 == 0 else f"0{significant}"
    rows = connection.execute(statement.where(certificate.c.serial_number == whole).limit(2)).all()
    # 2. The beginning of one: as it is displayed, or without the zero that it may begin with.
    if not rows and len(digits) >= _MINIMUM_PREFIX:
        for prefix in dict.fromkeys((digits, f"0{digits}")):
            within = statement.where(
                certificate.c.serial_number >= prefix, certificate.c.serial_number < f"{prefix}g"
            ).limit(2)
            rows = [*rows, *connection.execute(within).all()]
    if not rows:
        raise Refused(
            f"there is no certificate with serial number {digits}", code="certificate-unknown", field="serial"
        )
    if len(rows) > 1:
        raise Refused(
            f"more than one certificate has a serial number like {digits}: give all digits, or name the authority",
            code="serial-ambiguous",
            field="serial",
        )
    return rows[0]


def _digits(text: str) -> str:
    digits = re.sub(r"[\s:]", "", text).lower().removeprefix("0x")
    # 42 digits, and zeros that some tools put in front of a number whose first bit is set.
    if not _SERIAL.fullmatch(digits) or not digits.strip("0") or len(digits) > _SERIAL_DIGITS + 2:
        raise Refused("a serial number is hexadecimal, with up to 42 digits", code="serial-invalid", field="serial")
    return digits


def _selection() -> Select[Any]:
    return select(certificate, request.c.request_id).select_from(
        certificate.outerjoin(request, request.c.id == certificate.c.request_row)
    )


def _record(row: Row[Any]) -> CertificateRecord:
    return CertificateRecord(
        number=row.id,
        serial_number=row.serial_number,
        authority=row.authority,
        request_id=row.request_id or "",
        account=row.account,
        profile=row.profile,
        der=row.der,
        subject=row.subject,
        not_before=row.not_before,
        not_after=row.not_after,
        issued_at=row.issued_at,
        revocation_state=row.revocation_state,
        revocation_reason=row.revocation_reason,
        invalidity_date=row.invalidity_date,
        revocation_requested_at=row.revocation_requested_at,
        revoked_at=row.revoked_at,
        revocation_proof=row.revocation_proof,
    )
