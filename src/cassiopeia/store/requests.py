"""Requests for certificates: handed in once for ever, looked up, listed.

A request id names a request for ever: handing the same in again changes nothing (wire specification, "Requests").
Whether a request is a good one is not judged here; only what no database could hold is turned away.
"""

from __future__ import annotations

import datetime as dt
import re
import typing
from dataclasses import replace
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, select

from cassiopeia.core.request import CertificateRequest, KeyKind, SubjectAltName, SubjectAttribute, request_digest
from cassiopeia.errors import Refused
from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import insert_or
from cassiopeia.store.models import certificate, job, request
from cassiopeia.store.records import (
    MAXIMUM_NAME_LENGTH,
    WAITS,
    Page,
    RequestRecord,
    RequestState,
    check_text,
    storable,
)
from cassiopeia.store.turns import enqueue, put_back

_REQUEST_ID_OCTETS: Final = 32
_MINIMUM_PREFIX: Final = 4
# What is kept of a refused request: enough to look into it, never a store full of somebody's megabytes.
_MAXIMUM_REFUSED_OCTETS: Final = 65_536
_HEXADECIMAL: Final = re.compile(r"[0-9a-f]+")


class Requests:
    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, wanted: CertificateRequest, *, request_id: bytes, now: dt.datetime) -> RequestRecord:
        """Queue a request; the same id with the same content returns what is there already.

        Raises Refused: `request-id-taken` when the id names another request, `text-invalid` or `text-too-long` when
        no database could hold it.
        """
        _check_texts(wanted)
        return self._insert(wanted, request_id, refusal=None, now=now)

    def record_refusal(
        self, wanted: CertificateRequest, *, request_id: bytes, refusal: Refused, now: dt.datetime
    ) -> RequestRecord:
        """Keep a request that was refused before it was queued, so that its owner finds the reason.

        Whatever is in it can be kept: text that no database holds is made visible or cut, an oversized key proof or
        list of names is left out. Otherwise as `submit`.
        """
        return self._insert(keepable(wanted), request_id, refusal=refusal, now=now)

    def find(self, request_id: bytes) -> RequestRecord | None:
        with self._database.read() as connection:
            return find_request(connection, request_id)

    def look_up(self, text: str) -> RequestRecord:
        """Return the request whose id, or the only one whose id's beginning, is `text`; raise Refused else."""
        prefix = text.strip().lower()
        if not _HEXADECIMAL.fullmatch(prefix) or len(prefix) < _MINIMUM_PREFIX:
            raise Refused(
                f"a request id is hexadecimal; give at least its first {_MINIMUM_PREFIX} digits",
                code="request-id-invalid",
                field="request id",
            )
        with self._database.read() as connection:
            statement = _selection().where(request.c.request_id >= prefix, request.c.request_id < f"{prefix}g").limit(2)
            rows = connection.execute(statement).all()
        if not rows:
            raise Refused(f"there is no request {prefix}", code="request-unknown", field="request id")
        if len(rows) > 1:
            raise Refused(
                f"more than one request begins with {prefix}: give more digits",
                code="request-ambiguous",
                field="request id",
            )
        return _record(rows[0])

    def retry(self, text: str, *, now: dt.datetime) -> RequestRecord:
        """Put a set-aside request's job back into the queue.

        Raises Refused as `look_up` does, and `not-set-aside`.
        """
        record = self.look_up(text)
        with self._database.write() as connection:
            jobs = put_back(connection, job.c.request_row == record.number, now=now)
            found = find_request(connection, record.request.request_id) or record
        if not jobs:
            raise Refused(
                f"request {found.request.request_id.hex()} is not set aside: it is {found.state}",
                code="not-set-aside",
                field="request id",
            )
        return found

    def page(
        self,
        *,
        account: str | None = None,
        profile: str | None = None,
        state: RequestState | None = None,
        after: int | None = None,
        limit: int = 50,
    ) -> Page[RequestRecord]:
        """Return requests, newest first; `after` is the previous page's `next_page`."""
        statement = _selection().order_by(request.c.id.desc()).limit(limit + 1)
        if account is not None:
            statement = statement.where(request.c.account == account)
        if profile is not None:
            statement = statement.where(request.c.profile == profile)
        if state is not None:
            statement = statement.where(request.c.state == state)
        if after is not None:
            statement = statement.where(request.c.id < after)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        items = tuple(_record(row) for row in rows[:limit])
        return Page(items=items, next_page=items[-1].number if len(rows) > limit else None)

    def _insert(
        self, wanted: CertificateRequest, request_id: bytes, *, refusal: Refused | None, now: dt.datetime
    ) -> RequestRecord:
        if len(request_id) != _REQUEST_ID_OCTETS:
            raise Refused(
                f"a request id has {_REQUEST_ID_OCTETS} octets, not {len(request_id)}",
                code="request-id-invalid",
                field="request id",
            )
        digest = request_digest(wanted)
        with self._database.write() as connection:
            statement = insert_or(connection.dialect.name, request).on_conflict_do_nothing().returning(request.c.id)
            inserted = connection.execute(
                statement,
                {
                    **request_values(wanted, request_id=request_id, digest=digest),
                    "created_at": now,
                    "updated_at": now,
                    **_refusal_values(refusal),
                },
            ).first()
            if inserted is not None and refusal is None:
                enqueue(
                    connection,
                    kind="sign",
                    account=wanted.account,
                    profile=wanted.profile,
                    request_row=inserted.id,
                    now=now,
                )
            record = find_request(connection, request_id)
        if record is None or record.digest != digest:
            raise Refused(
                "this request id already names another request: choose a new one",
                code="request-id-taken",
                field="request id",
            )
        return record


def find_request(connection: Connection, request_id: bytes) -> RequestRecord | None:
    row = connection.execute(_selection().where(request.c.request_id == request_id.hex())).one_or_none()
    return None if row is None else _record(row)


def request_values(wanted: CertificateRequest, *, request_id: bytes, digest: bytes) -> dict[str, Any]:
    """What a row of the request table says of a request, but for its state and its times."""
    return {
        "request_id": request_id.hex(),
        "digest": digest,
        "account": wanted.account,
        "profile": wanted.profile,
        "key_kind": wanted.key_kind,
        "key_proof": wanted.key_proof,
        "signature_hash": wanted.signature_hash,
        "wish_from": wanted.wish_from,
        "wish_to": wanted.wish_to,
        "attributes": _encode_pairs(wanted.attributes),
        "alt_names": _encode_pairs(wanted.alt_names),
        "ocsp_target_ca": wanted.ocsp_target_ca,
    }


def certificate_request(row: Row[Any], *, proofs: tuple[bytes, ...] = ()) -> CertificateRequest:
    """Return the request that a row of the request table holds, and these proofs with it.

    A row that somebody else has written, and that nobody can read, is a request without key or names: whoever gets it
    refuses it, and goes on with the next.
    """
    unreadable = CertificateRequest(key_kind="csr", key_proof=b"", account=row.account, profile=row.profile)
    try:
        unreadable = replace(unreadable, request_id=bytes.fromhex(row.request_id))
        attributes, alt_names = _decode_pairs(row.attributes), _decode_pairs(row.alt_names)
    except (ValueError, msgspec.DecodeError):
        return unreadable
    if row.key_kind not in typing.get_args(KeyKind):
        return unreadable
    return CertificateRequest(
        request_id=unreadable.request_id,
        account=row.account,
        profile=row.profile,
        key_kind=row.key_kind,
        key_proof=row.key_proof,
        signature_hash=row.signature_hash,
        wish_from=row.wish_from,
        wish_to=row.wish_to,
        attributes=tuple(SubjectAttribute(type=kind, value=value) for kind, value in attributes),
        alt_names=tuple(SubjectAltName(type=kind, value=value) for kind, value in alt_names),
        ocsp_target_ca=row.ocsp_target_ca,
        proofs=proofs,
    )


def _selection() -> Select[Any]:
    return select(
        request,
        job.c.tries,
        job.c.error,
        job.c.dead_holders,
        job.c.state.label("job_state"),
        job.c.unattested,
        certificate.c.serial_number,
        certificate.c.authority,
    ).select_from(
        request.outerjoin(job, job.c.request_row == request.c.id).outerjoin(
            certificate, certificate.c.request_row == request.c.id
        )
    )


def _record(row: Row[Any]) -> RequestRecord:
    awaits_evidence = row.job_state == "queued" and row.unattested == 1
    return RequestRecord(
        number=row.id,
        request=certificate_request(row),
        digest=row.digest,
        state=row.state,
        refusal_code=row.refusal_code or "",
        refusal_field=row.refusal_field or "",
        refusal_message=row.refusal_message or "",
        created_at=row.created_at,
        updated_at=row.updated_at,
        tries=row.tries or 0,
        last_error=row.error or (f"{WAITS}no validator has vouched for it yet" if awaits_evidence else ""),
        set_aside=row.job_state == "failed",
        awaits_evidence=awaits_evidence,
        dead_holders=tuple((row.dead_holders or "").splitlines()),
        serial_number=row.serial_number or "",
        authority=row.authority or "",
    )


def _refusal_values(refusal: Refused | None) -> dict[str, str]:
    if refusal is None:
        return {"state": "queued"}
    return {
        "state": "refused",
        "refusal_code": storable(refusal.code),
        "refusal_field": storable(refusal.field),
        "refusal_message": storable(refusal.message),
    }


def _short_texts(wanted: CertificateRequest) -> dict[str, str]:
    return {
        "account": wanted.account,
        "profile": wanted.profile,
        "key_kind": wanted.key_kind,
        "signature_hash": wanted.signature_hash,
        "wish_from": wanted.wish_from,
        "wish_to": wanted.wish_to,
        "ocsp_target_ca": wanted.ocsp_target_ca,
    }


def _check_texts(wanted: CertificateRequest) -> None:
    for field, text in _short_texts(wanted).items():
        check_text(text, field=field)
    for attribute in wanted.attributes:
        check_text(attribute.type, field="subject")
        check_text(attribute.value, field=attribute.type)
    for alt_name in wanted.alt_names:
        check_text(alt_name.type, field="subject_alt_name")
        # A URI or a DNS name may be longer than an index entry: names are kept in a column without an index.
        check_text(alt_name.value, field=alt_name.type, limit=_MAXIMUM_REFUSED_OCTETS)


def keepable(wanted: CertificateRequest) -> CertificateRequest:
    """Return as much of a request as any database can hold."""
    texts: dict[str, Any] = {
        field: storable(text, limit=MAXIMUM_NAME_LENGTH) for field, text in _short_texts(wanted).items()
    }
    texts["key_kind"] = texts["key_kind"][:8]
    attributes = tuple(
        SubjectAttribute(type=storable(each.type), value=storable(each.value)) for each in wanted.attributes
    )
    alt_names = tuple(SubjectAltName(type=storable(each.type), value=storable(each.value)) for each in wanted.alt_names)
    return replace(
        wanted,
        **texts,
        key_proof=wanted.key_proof if len(wanted.key_proof) <= _MAXIMUM_REFUSED_OCTETS else b"",
        attributes=attributes if len(_encode_pairs(attributes)) <= _MAXIMUM_REFUSED_OCTETS else (),
        alt_names=alt_names if len(_encode_pairs(alt_names)) <= _MAXIMUM_REFUSED_OCTETS else (),
    )


def _encode_pairs(pairs: tuple[SubjectAttribute, ...] | tuple[SubjectAltName, ...]) -> str:
    return msgspec.json.encode([(each.type, each.value) for each in pairs]).decode()


_pair_decoder: Final = msgspec.json.Decoder(list[tuple[str, str]])


def _decode_pairs(text: str) -> list[tuple[str, str]]:
    return _pair_decoder.decode(text)
