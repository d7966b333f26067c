"""The issuance desk as its tests speak of it: one request, taken as far as they want."""

from __future__ import annotations

from typing import Any

from tests.support.authorities import server_request
from tests.support.conversations import Pair
from tests.support.signer import Front

from cassiopeia.core.request import CertificateRequest
from cassiopeia.journal.entry import (
    Intent,
    JournalEntry,
    Requested,
    decode_body,
    decode_entry,
    decode_log,
    decode_part,
)
from cassiopeia.protocol.events import (
    CertificateIssued,
    LogReceived,
    RequestFailed,
)
from cassiopeia.signer.journal import Intent as KnownIntent

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


def journaled(front: Front) -> KnownIntent:
    found = front.journal.index.find_request(REQUEST_ID)
    assert found is not None
    return found


def assert_failed(answer: object, code: str) -> RequestFailed:
    assert isinstance(answer, RequestFailed)
    assert answer.code == code
    return answer


def kinds(front: Front) -> list[str]:
    """Kinds of all entries behind the journal's key, uncommitted ones included."""
    rows = front.journal._database.execute("SELECT entry FROM entry ORDER BY position").fetchall()
    return [decode_entry(octets).kind for (octets,) in rows][1:]


def intent_in(log: bytes) -> tuple[JournalEntry, Intent, Requested]:
    """What a log that a client received says: the entry, its body and its part."""
    decoded = decode_log(log)
    entry = decode_entry(decoded.entry)
    (part,) = decoded.parts
    return entry, decode_body(entry), decode_part(Requested, part)
