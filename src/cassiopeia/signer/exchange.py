"""One request of one session on its way to a certificate, and the words by which the signer speaks of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import Unavailable
from cassiopeia.protocol.session import Session
from cassiopeia.signer.journal import Intent
from cassiopeia.signer.tasks import Deferred, Outcome


@dataclass(kw_only=True)
class Exchange:
    """A session that has gone is noticed when something is to be sent."""

    session: Session
    handle: int
    request: CertificateRequest
    digest: bytes
    intent: Intent | None = None
    log_sent: bytes = b""
    decisions: int = 0
    restrictions: int = 0  # orders that restricted something, until this was given to a worker
    judged_by: bytes = b""  # the configuration by which a worker decides, or has decided

    @property
    def name(self) -> bytes:
        """What tells this request from others: its id or, over version 1, which has none, its content."""
        return self.request.request_id if self.session.version > 1 else b"version 1" + self.digest

    def confirms(self, intent: Intent, log_hash: bytes) -> bool:
        """Whether this is the hash of the log that was sent."""
        if self.session.version > 1:
            return log_hash == intent.log_hash
        # The original sends no hash.
        return not log_hash or log_hash == hashlib.sha256(self.log_sent).digest()


def profile_of(request: CertificateRequest) -> str:
    """What the journal calls the profile: of an OCSP responder it is the sub-CA that it speaks for."""
    return request.profile or request.ocsp_target_ca


def as_unavailable(outcome: Outcome) -> Unavailable:
    if isinstance(outcome, Deferred):
        return Unavailable(outcome.message, code=outcome.code, retry_after_s=outcome.retry_after_s)
    return Unavailable("the signer met an internal error", code="internal", retry_after_s=60)


def short(request: CertificateRequest) -> str:
    """How log lines name a request: the first octets of its id (version 1 has none)."""
    return f"request {request.request_id.hex()[:8] or 'without id'}:"


def log_text(request: CertificateRequest, intent: Intent) -> bytes:
    """The log as version 1 sends it: text, a fact a line."""
    lines = [
        f"profile: {request.profile or request.ocsp_target_ca}",
        *(f"name: {each.type}={each.value}" for each in request.attributes),
        *(f"alternative name: {each.type}={each.value}" for each in request.alt_names),
        f"signing CA: {intent.signing_ca}",
        f"serial number: {intent.serial_number.hex()}",
        f"journal entry SHA-256: {intent.log_hash.hex()}",
    ]
    return ("\n".join(lines) + "\n").encode()
