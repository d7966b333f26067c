"""What a session tells its owner: one frozen value for each thing that happened on the wire.

`handle` names the request within its session. Nothing here was judged: it is what the peer said.
"""

from __future__ import annotations

from dataclasses import dataclass

from cassiopeia.core.request import CertificateRequest, RevocationRequest
from cassiopeia.protocol.payload import Hello, RevokedAnswer, StatusReport, Timestamp


@dataclass(frozen=True, kw_only=True, slots=True)
class HelloReceived:
    """To a signer: answer with `Session.hello`. To a client: requests may be sent now."""

    hello: Hello


@dataclass(frozen=True, kw_only=True, slots=True)
class SignRequested:
    handle: int
    request: CertificateRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class LogConfirmed:
    """The client has the log; `log_hash` is empty when an original client said so (version 1)."""

    handle: int
    log_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class AbandonRequested:
    handle: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RevocationRequested:
    handle: int
    request: RevocationRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class FullCrlRequested:
    handle: int
    signing_ca: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TimestampRequested:
    handle: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusRequested:
    handle: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LogReceived:
    """`log` is the canonical log (version 2) or the log's text (version 1): make it durable, then confirm it.

    `head` here and below: a signed journal head that came along.
    """

    handle: int
    log: bytes
    head: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateIssued:
    """Version 2 has the signature over the TBSCertificate of the log and a journal index, version 1 the certificate."""

    handle: int
    signing_ca: str
    signature: bytes | None = None
    certificate: bytes | None = None
    index: int | None = None
    head: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RevocationAnswered:
    handle: int
    answer: RevokedAnswer


@dataclass(frozen=True, kw_only=True, slots=True)
class FullCrlReceived:
    handle: int
    der: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRefused:
    """Final."""

    handle: int
    code: str
    field: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestFailed:
    """Not final."""

    handle: int
    code: str
    message: str
    retry_after_s: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestAbandoned:
    """The signer gives its word that nothing was or will be signed for this request.

    The journal's entry at `index` says so, and `head` covers it; there is none where there was no intent.
    """

    handle: int
    index: int | None = None
    head: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TimestampReceived:
    """Version 1 says the time as text only."""

    handle: int
    timestamp: Timestamp | None = None
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class EntriesRequested:
    """The client wants at most so many entries of the journal, from `first` on."""

    handle: int
    first: int
    at_most: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EntriesReceived:
    """Journal entries from `first` on as DER of `journal.entry.Log`, and the newest signed head."""

    handle: int
    first: int
    logs: tuple[bytes, ...]
    head: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderReceived:
    """An order, as its operators signed it."""

    handle: int
    order: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderObeyed:
    """The order is carried out, and journaled at this index."""

    handle: int
    index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleReceived:
    """A signed bundle, for an order that is to come."""

    handle: int
    bundle: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleHeld:
    """The signer keeps the bundle until an order comes, as far as its memory lasts."""

    handle: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusReceived:
    """Version 1 says a short text only."""

    handle: int
    report: StatusReport | None = None
    text: str = ""


Event = (
    HelloReceived
    | SignRequested
    | LogConfirmed
    | AbandonRequested
    | RevocationRequested
    | FullCrlRequested
    | TimestampRequested
    | StatusRequested
    | EntriesRequested
    | OrderReceived
    | BundleReceived
    | LogReceived
    | CertificateIssued
    | RevocationAnswered
    | FullCrlReceived
    | RequestRefused
    | RequestFailed
    | RequestAbandoned
    | TimestampReceived
    | StatusReceived
    | EntriesReceived
    | OrderObeyed
    | BundleHeld
)
