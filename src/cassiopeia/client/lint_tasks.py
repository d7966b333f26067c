"""What the client and its lint workers say to each other, in frames (`cassiopeia.frames`).

The client sends lists of tasks; the worker says first that it is ready, and then answers each task, in order. Loads no
linter: that is for the worker alone.
"""

from __future__ import annotations

from typing import Final

import msgspec

from cassiopeia.errors import PeerError

LINT_TIME_LIMIT_S: Final = 30
"""A lint takes milliseconds; a linter that needs longer than this hangs."""


class LintTask(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Lint this TBSCertificate by RFC 5280 and by these further rules (`core.profile.LINT_RULES`)."""

    number: int
    tbs_certificate: bytes
    rules: tuple[str, ...]


class Finding(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What the linter says: its own code, its words, the place in the certificate; `grave` is an error or worse."""

    code: str
    grave: bool
    severity: str
    message: str
    place: str

    def __str__(self) -> str:
        return f"{self.code} at {self.place}: {self.message}" if self.message else f"{self.code} at {self.place}"


class LintReady(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker has loaded the linter."""


class LintResult(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Everything that was found, the gravest first."""

    number: int
    findings: tuple[Finding, ...]


_task_decoder = msgspec.msgpack.Decoder(list[LintTask])
_answer_decoder = msgspec.msgpack.Decoder(LintReady | LintResult)


def read_tasks(body: bytes) -> list[LintTask]:
    return _task_decoder.decode(body)


def read_answer(body: bytes) -> LintReady | LintResult:
    """Decode strictly; raises PeerError."""
    try:
        answer: LintReady | LintResult = _answer_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise PeerError(f"it sent what is no answer: {error}") from error
    return answer
