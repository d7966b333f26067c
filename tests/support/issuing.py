"""The issuance desk as its tests speak of it: one request, taken as far as they want."""

from __future__ import annotations

from typing import Any

from tests.support.authorities import server_request
from tests.support.conversations import Pair
from tests.support.signer import Front

from cassiopeia.core.request import CertificateRequest
from cassiopeia.protocol.events import (
    CertificateIssued,
    LogReceived,
    RequestFailed,
)
from cassiopeia.signer.journal import Intent

REQUEST_ID = b"r" * 32


def wanted(**changes: Any) -> CertificateRequest:
    return server_request(**({"request_id": REQUEST_ID, "account": "alice"} | changes))


def log_of(front: Front, pair: Pair, request: CertificateRequest | None = None) -> LogReceived:
    answer = front.ask(pair, request or wanted())
    assert isinstance(answer, LogReceived)
    return answer


def certificate_of(front: Front, pair: Pair, request: CertificateRequest | None = None) -> bytes:
    """Take a request all the way; return the signature."""
    log = log_of(front, pair, request)
    issued = front.confirm(pair, log.handle)
    assert isinstance(issued, CertificateIssued)
    assert issued.signature is not None
    return issued.signature


def journaled(front: Front) -> Intent:
    found = front.journal.find_request(REQUEST_ID)
    assert found is not None
    return found


def assert_failed(answer: object, code: str) -> RequestFailed:
    assert isinstance(answer, RequestFailed)
    assert answer.code == code
    return answer


def kinds(front: Front) -> list[str]:
    """Kinds of all entries, uncommitted ones included."""
    return [row[0] for row in front.journal._database.execute("SELECT kind FROM entry ORDER BY position")]
