"""What the ceremony and its lint worker say to each other. Loads no linter: that is for the worker alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

CERTIFICATE: Final = "certificate"
CRL: Final = "crl"


class ArtefactTask(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Lint this certificate or CRL (DER)."""

    name: str
    kind: Literal["certificate", "crl"]
    octets: bytes


class Remark(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What the linter says: its own code, its words, the place; `grave` is an error or worse."""

    severity: str
    grave: bool
    code: str
    message: str
    place: str

    def __str__(self) -> str:
        return f"{self.code} at {self.place}: {self.message}" if self.message else f"{self.code} at {self.place}"


class ArtefactFindings(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    name: str
    remarks: tuple[Remark, ...]


_tasks = msgspec.msgpack.Decoder(list[ArtefactTask])
_findings = msgspec.msgpack.Decoder(list[ArtefactFindings])
_encoder = msgspec.msgpack.Encoder()


def write_tasks(tasks: Sequence[ArtefactTask]) -> bytes:
    return _encoder.encode(tasks)


def read_tasks(octets: bytes) -> list[ArtefactTask]:
    return _tasks.decode(octets)


def write_findings(findings: Sequence[ArtefactFindings]) -> bytes:
    return _encoder.encode(findings)


def read_findings(octets: bytes) -> list[ArtefactFindings]:
    """Raises msgspec.MsgspecError for what is no answer."""
    return _findings.decode(octets)
