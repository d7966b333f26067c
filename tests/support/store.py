"""Requests, results and times for tests of the store and of what uses it."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute
from cassiopeia.store.database import Store
from cassiopeia.store.evidence import StoredAttestation, UnattestedRequest
from cassiopeia.store.models import request, signing_log
from cassiopeia.store.records import IssuedResult, Outcome, RevokeJob, SignJob

NOW = dt.datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=dt.UTC)


def after(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def request_id(number: int) -> bytes:
    return hashlib.sha256(number.to_bytes(8, "big")).digest()


def certificate_request(**changes: Any) -> CertificateRequest:
    values: dict[str, Any] = {
        "key_kind": "csr",
        "key_proof": b"not judged by the store",
        "profile": "9004-unproved-server",
        "account": "alice",
        "attributes": (SubjectAttribute(type="CN", value="Zoë"),),
        "alt_names": (SubjectAltName(type="DNS", value="example.org"),),
    }
    return CertificateRequest(**{**values, **changes})


def submit(store: Store, number: int, *, account: str = "alice", at: dt.datetime = NOW) -> bytes:
    store.requests.submit(certificate_request(account=account), request_id=request_id(number), now=at)
    return request_id(number)


def lease_sign(store: Store, owner: str = "client", *, limit: int = 100, at: dt.datetime = NOW) -> list[SignJob]:
    jobs = store.queue.lease(owner, limit=limit, lease_s=60, now=at)
    return [job for job in jobs if isinstance(job, SignJob)]


def issued(job: SignJob, **changes: Any) -> IssuedResult:
    digest = hashlib.sha256(job.request.request_id).digest()
    values: dict[str, Any] = {
        "job_id": job.id,
        "authority": "unassured_2026_1",
        "serial_number": 1 << 120 | int.from_bytes(digest[:15], "big"),
        "certificate": b"certificate for " + job.request.request_id,
        "subject": "CN=Zoë",
        "not_before": NOW,
        "not_after": NOW + dt.timedelta(days=90),
    }
    return IssuedResult(**{**values, **changes})


def issue(store: Store, count: int, *, first: int = 0, account: str = "alice") -> list[IssuedResult]:
    """Take requests all the way to their certificates."""
    for number in range(first, first + count):
        submit(store, number, account=account)
    results = [issued(job) for job in lease_sign(store, limit=count)]
    store.results.finish_issued(results, now=NOW)
    return results


def lease_revoke(store: Store, owner: str = "client", *, at: dt.datetime = NOW) -> list[RevokeJob]:
    return [job for job in store.queue.lease(owner, limit=100, lease_s=60, now=at) if isinstance(job, RevokeJob)]


def lease_suspects(store: Store, owner: str = "client", *, at: dt.datetime = NOW) -> list[int]:
    """Lease every suspect there is, one by one; return the ids of their jobs in this order."""
    leased = []
    while job := store.queue.lease_suspect(owner, lease_s=60, now=at):
        leased.append(job.id)
    return leased


def logs_of(store: Store, number: int) -> list[tuple[bytes, bytes]]:
    """Every log that is kept of a request, oldest first: SHA-256 and entry."""
    statement = (
        select(signing_log.c.sha256, signing_log.c.entry)
        .join(request, request.c.id == signing_log.c.request_row)
        .where(request.c.request_id == request_id(number).hex())
        .order_by(signing_log.c.id)
    )
    with store.database.read() as connection:
        return [(row.sha256, row.entry) for row in connection.execute(statement)]


NONCE = b"n" * 16


def demand(store: Store, *profiles: str) -> None:
    """Say that these profiles demand evidence; without any, that of `certificate_request` does."""
    store.evidence.demand(dict.fromkeys(profiles or (certificate_request().profile,), True), now=NOW)


def to_attest(
    store: Store, *, signer_id: int = 1, nonces: Sequence[bytes] = (NONCE,), limit: int = 100, at: dt.datetime = NOW
) -> list[UnattestedRequest]:
    profiles = [certificate_request().profile, ""]
    return list(store.evidence.to_attest(signer_id, nonces, profiles=profiles, limit=limit, now=at))


def attest(
    store: Store, *, signer_id: int = 1, nonce: bytes = NONCE, limit: int = 100, at: dt.datetime = NOW
) -> list[int]:
    """Vouch for what waits for that; return the numbers of the requests."""
    waiting = to_attest(store, signer_id=signer_id, nonces=[nonce], limit=limit, at=at)
    rows = [
        StoredAttestation(
            number=each.number,
            signer_id=signer_id,
            boot_id=b"b" * 16,
            nonce=nonce,
            proofs=(b"seen", b"vouched for " + each.request.request_id),
        )
        for each in waiting
    ]
    assert all(each is Outcome.RECORDED for each in store.evidence.put_attestations(rows, now=at))
    return [each.number for each in waiting]
