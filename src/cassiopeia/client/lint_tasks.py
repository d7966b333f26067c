"""What the client and its lint workers say to each other, and how it is framed.

A frame is a 4-octet big-endian length and MessagePack. The client sends lists of tasks; the worker says first that it
is ready, and then answers each task, in order. Loads no linter: that is for the worker alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from cassiopeia.errors import PeerError

LINT_TIME_LIMIT_S: Final = 30
"""A lint takes milliseconds; a linter that needs longer than this hangs."""
_MAXIMUM_FRAME_OCTETS: Final = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")


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


_encoder = msgspec.msgpack.Encoder()
_task_decoder = msgspec.msgpack.Decoder(list[LintTask])
_answer_decoder = msgspec.msgpack.Decoder(LintReady | LintResult)


def frame(content: Sequence[LintTask] | LintReady | LintResult) -> bytes:
    body = _encoder.encode(content)
    return _LENGTH.pack(len(body)) + body


def read_tasks(body: bytes) -> list[LintTask]:
    return _task_decoder.decode(body)


def read_answer(body: bytes) -> LintReady | LintResult:
    """Decode strictly; raises PeerError."""
    try:
        answer: LintReady | LintResult = _answer_decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise PeerError(f"it sent what is no answer: {error}") from error
    return answer


class FrameReader:
    """Collects octets of a stream into whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, octets: bytes) -> list[bytes]:
        """Return the bodies that are whole now; raises PeerError."""
        self._buffer += octets
        bodies: list[bytes] = []
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            if length > _MAXIMUM_FRAME_OCTETS:
                raise PeerError("it sent a frame over the limit")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return bodies
