"""What goes into the store and comes out of it: frozen values, and the rules for text that a database can hold.

Values that callers hand in check themselves when they are made, so that a batch never carries a member that the
database would choke on.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

from cassiopeia.core.request import CertificateRequest, Revocation
from cassiopeia.errors import InternalError, Refused

JobKind = Literal["sign", "revoke", "crl"]
RequestState = Literal["queued", "refused", "issued"]
RevocationState = Literal["none", "requested", "revoked"]
ServedState = Literal["served", "stale", "wrong", "unreachable"]

MAXIMUM_NAME_LENGTH: Final = 255
"""Characters of an account, a profile, a wish: what an index entry can hold in every database."""
_MAXIMUM_MESSAGE_LENGTH: Final = 2_000

WAITS: Final = "waits for evidence: "
"""How the reason begins for which a request stands apart from the queue (`RequestRecord.last_error`)."""

# RFC 5280 5.3.1 without unspecified (which is left out), certificateHold and removeFromCRL (revocations only grow).
REVOCATION_REASONS: Final = frozenset({1, 2, 3, 4, 5, 9, 10})

_Item = TypeVar("_Item")


class Outcome(enum.Enum):
    """What became of one member of a batch; only the first changed anything."""

    RECORDED = "recorded"
    ALREADY_RECORDED = "already recorded"
    """The same fact was there before: a repetition, or another client was first."""
    CONFLICT = "conflict"
    """The store holds something else (a refusal, another certificate): nothing was changed; look into it."""
    NOT_HELD = "not held"
    """The lease ran out and another holder took over, or the job is finished: the result is not ours to write."""
    SUPERSEDED = "superseded"
    """A newer CRL is stored already."""
    UNKNOWN = "unknown"
    """There is no such job, or it is of another kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SignJob:
    """A leased request for a certificate, with the proofs that a validator attested for this signer.

    `reattested` counts how often in a row the signer has wanted them anew. Of every job: `tries` that were used up,
    `deaths` of clients that had it in hand (with one it is tried alone), and how often in a row the signer has
    `postponed` it.
    """

    id: int
    request: CertificateRequest
    tries: int
    deaths: int
    postponed: int
    reattested: int = 0
    signer_id: int | None
    created_at: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class RevokeJob:
    """A leased revocation of one certificate."""

    id: int
    authority: str
    revocation: Revocation
    tries: int
    deaths: int
    postponed: int
    signer_id: int | None
    created_at: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class CrlJob:
    """A leased wish for a fresh signature over one authority's CRL."""

    id: int
    authority: str
    tries: int
    deaths: int
    postponed: int
    signer_id: int | None
    created_at: dt.datetime


Job = SignJob | RevokeJob | CrlJob


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRecord:
    """One request as stored. `number` orders requests by age and is the key of paging.

    `tries`, `last_error` and `set_aside` tell how its job fares; a set-aside request waits for an operator, one that
    `awaits_evidence` for a validator. `dead_holders` says of each client that died with it who it was, from when until
    when, and how.
    """

    number: int
    request: CertificateRequest
    digest: bytes
    state: RequestState
    refusal_code: str
    refusal_field: str
    refusal_message: str
    created_at: dt.datetime
    updated_at: dt.datetime
    tries: int
    last_error: str
    set_aside: bool
    awaits_evidence: bool
    dead_holders: tuple[str, ...]
    serial_number: str
    authority: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificateRecord:
    """One certificate as stored. `serial_number` (as `serial_text` writes it) and `request_id` are hexadecimal."""

    number: int
    serial_number: str
    authority: str
    request_id: str
    account: str
    profile: str
    der: bytes
    subject: str
    not_before: dt.datetime
    not_after: dt.datetime
    issued_at: dt.datetime
    revocation_state: RevocationState
    revocation_reason: int | None
    invalidity_date: dt.datetime | None
    revocation_requested_at: dt.datetime | None
    revoked_at: dt.datetime | None
    revocation_proof: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningLog:
    """A log entry that the signer sent for a job, and its SHA-256."""

    job_id: int
    sha256: bytes
    entry: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedResult:
    """A certificate that the client has checked; `subject` is text for people."""

    job_id: int
    authority: str
    serial_number: int
    certificate: bytes
    subject: str
    not_before: dt.datetime
    not_after: dt.datetime

    def __post_init__(self) -> None:
        serial_text(self.serial_number)
        _require_name(self.authority)
        _require_aware(self.not_before, self.not_after)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """The signer's no to one job, or the client's veto."""

    job_id: int
    code: str
    message: str
    field: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Postponement:
    """Not now. `counts` says whether a try is used up (outages and stale evidence use up none).

    `abandoned`: the signer has signed that the intent is over, so that any signer may have the job next.
    `lengthens`: it counts as one more "not now" in a row; not so when the job was never looked at. `reattest`: its
    evidence is void, and a validator has to vouch for it anew.
    """

    job_id: int
    delay_s: float
    counts: bool
    reason: str
    abandoned: bool = False
    lengthens: bool = True
    reattest: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CrlRecord:
    """The current CRL of one authority."""

    authority: str
    number: int
    this_update: dt.datetime
    next_update: dt.datetime
    der: bytes

    def __post_init__(self) -> None:
        # RFC 5280 5.2.3: at most 20 octets, not negative.
        if not 0 <= self.number < 1 << 160:
            raise InternalError("a CRL number has at most 20 octets")
        _require_name(self.authority)
        _require_aware(self.this_update, self.next_update)


@dataclass(frozen=True, kw_only=True, slots=True)
class CrlHeader:
    """What a status page needs of a CRL, without its octets."""

    authority: str
    number: int
    this_update: dt.datetime
    next_update: dt.datetime
    octets: int
    saved_at: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedCrl:
    """What an outsider got of one CA's CRL at one URL of its certificates, and what is to be said of it.

    `state`: as it should be; older than it should be; not this CA's; nothing. Number and dates are None where there was
    no CRL, the number also in one without. `since`: it has been so, in every look (None: this look is the first).
    """

    authority: str
    url: str
    state: ServedState
    what: str
    number: int | None
    this_update: dt.datetime | None
    next_update: dt.datetime | None
    seen_at: dt.datetime
    since: dt.datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerStatus:
    """A signer's last word, as its client heard it."""

    signer_id: int
    report: Mapping[str, Any]
    seen_at: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueStatistics:
    """Depth of the queue for each kind of job. `waiting` includes `postponed`, not `leased`.

    `suspected` are those that are tried alone, waiting or leased; set-aside jobs wait for an operator. Of those that
    wait, `unattested` do so for a validator, the one that could have been attested first for `unattested_s` (0: none).
    `oldest_age_s` is the age of the oldest open job (0 when there is none), `oldest_difficulty` what kept it last ("":
    nothing did).
    """

    waiting: Mapping[JobKind, int]
    leased: Mapping[JobKind, int]
    postponed: Mapping[JobKind, int]
    set_aside: Mapping[JobKind, int]
    suspected: int
    unattested: int
    unattested_s: float
    oldest_age_s: float
    oldest_difficulty: str
    issued_last_hour: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAsideJob:
    """A job that waits for an operator, and why: of a request, of a certificate to revoke, or of an authority's CRL.

    `request_id` and `serial_number` are hexadecimal; they and `authority` are empty where the kind of job has none.
    `dead_holders` as in `RequestRecord`.
    """

    id: int
    kind: JobKind
    request_id: str
    serial_number: str
    authority: str
    reason: str
    set_aside_at: dt.datetime
    dead_holders: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page(Generic[_Item]):
    """Some items, newest first; `next_page` is what to ask the next page with (None: that was the last)."""

    items: tuple[_Item, ...]
    next_page: int | None


def serial_text(serial_number: int) -> str:
    """Lower-case hexadecimal with whole octets and no more, as `openssl` prints it but for the case."""
    # RFC 5280 4.1.2.2 says 20 octets; the original signer's have 21.
    if not 0 < serial_number < 1 << 168:
        raise InternalError("a serial number is positive and has at most 21 octets")
    text = f"{serial_number:x}"
    return text if len(text) % 2 == 0 else f"0{text}"


def check_text(text: str, *, field: str, limit: int = MAXIMUM_NAME_LENGTH) -> None:
    """Raise Refused unless every database can hold `text` unchanged; the default limit is that of an indexed column."""
    if storable(text, limit=len(text)) != text:
        raise Refused(
            f"the {field} contains a character that is not allowed (NUL, or no Unicode at all)",
            code="text-invalid",
            field=field,
        )
    if len(text) > limit:
        raise Refused(f"the {field} is longer than {limit} characters", code="text-too-long", field=field)


def storable(text: str, *, limit: int = _MAXIMUM_MESSAGE_LENGTH) -> str:
    """Return `text` as any database can hold it: NUL and lone surrogates made visible, cut at `limit` characters.

    For text that must be kept whatever it is: messages, and requests that were refused because of it.
    """
    visible = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")
    return visible[:limit]


def _require_aware(*times: dt.datetime) -> None:
    if any(time.tzinfo is None for time in times):
        raise InternalError("the store takes aware datetimes only")


def _require_name(name: str) -> None:
    if storable(name, limit=MAXIMUM_NAME_LENGTH) != name:
        raise InternalError(f"an authority's name has at most {MAXIMUM_NAME_LENGTH} characters, and no NUL")
