"""What the signer's front process and its workers say to each other: frames (`cassiopeia.frames`) of lists.

Tasks carry unjudged requests to the workers; outcomes come back typed and are decoded strictly, so a worker that was
taken over by a hostile request can lie, but it can't make the front run anything.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

import msgspec

from cassiopeia.core.compromise import CompromiseClaim
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Standing
from cassiopeia.errors import PeerError

MAXIMUM_WORDS: Final = 4_000
"""So many characters a worker says at the most: much of it is journaled, copied by clients, and sent in each status."""
Words = Annotated[str, msgspec.Meta(max_length=MAXIMUM_WORDS)]


class Decide(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Judge this request and assemble its TBSCertificate, as of `now`, given the counts `issued` by each sub-CA.

    `standing` is what has changed since the worker read its rules; without one, the worker was told so before.
    """

    task: int
    request: CertificateRequest
    version: int
    now: dt.datetime
    issued: dict[str, int]
    standing: Standing | None = Standing()


class Stands(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """What stands for every `Decide` behind this that brings nothing of its own; it has no outcome.

    Thousands of keys may be blocked: a worker is told when something has changed, and not with each request.
    """

    standing: Standing


class Sign(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Sign these octets with the key of `signing_ca`; `algorithm` is the DER of an AlgorithmIdentifier."""

    task: int
    signing_ca: str
    algorithm: bytes
    octets: bytes


class CheckProofs(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Verify that each of these certificates' own keys says that it is compromised."""

    task: int
    claims: tuple[CompromiseClaim, ...]


class TryKey(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """See whether the key of this sub-CA, which could not be used, can be used again."""

    task: int
    signing_ca: str


class Decided(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The request is approved: what will be signed, once the log is safe. `validators`: key ids of who proved it."""

    task: int
    signing_ca: str
    serial_number: bytes
    algorithm: bytes
    tbs_certificate: bytes
    validators: tuple[bytes, ...] = ()


class Signed(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    task: int
    signature: bytes


class Mistrusted(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The key gave a signature that does not verify, which is not told. `signing`, `verifying`: by which libraries."""

    task: int
    signing_ca: str
    signing: str
    verifying: str
    message: Words


class Usable(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The key of a `TryKey` was proved, and signs."""

    task: int


class Proved(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Every one of the proofs holds."""

    task: int


class Denied(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The policy says no: final."""

    task: int
    code: Words
    field: Words
    message: Words


class Deferred(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Not now: the same task may succeed later."""

    task: int
    code: Words
    message: Words
    retry_after_s: int


class Opening(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The worker, which has only begun, is about to open and prove the key of this sub-CA."""

    signing_ca: str
    task: int = 0


class LackingKey(msgspec.Struct, frozen=True, kw_only=True):
    """A sub-CA whose key a worker cannot use: a stable code, and a sentence that says what to do."""

    signing_ca: str
    code: Words
    message: Words


MISTRUSTED = "signature-wrong"
"""Code of a key that has given wrong signatures when it was to be proved."""


class Ready(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The worker has unlocked and proved its keys, but for those that are `lacking`, under this configuration."""

    configuration_hash: bytes
    lacking: tuple[LackingKey, ...] = ()
    task: int = 0


class Unusable(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """The worker can't work at all; `message` is for the operator. `may_come`: what it lacks may be there later."""

    message: Words
    may_come: bool = False
    task: int = 0


Task = Decide | Sign | CheckProofs | TryKey
Outcome = Decided | Signed | Mistrusted | Usable | Proved | Denied | Deferred | Opening | Ready | Unusable

_task_decoder = msgspec.msgpack.Decoder(list[Task | Stands])
_outcome_decoder = msgspec.msgpack.Decoder(list[Outcome])


def shortened(words: str) -> str:
    """As much of it as a worker may say."""
    return words[:MAXIMUM_WORDS]


def read_tasks(body: bytes) -> list[Task | Stands]:
    return _task_decoder.decode(body)


def read_outcomes(body: bytes) -> list[Outcome]:
    try:
        return _outcome_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise PeerError("a worker sent an outcome that is none") from error
