"""Records: how messages become octets inside TLS, version 1 (hex lines) and version 2 (binary, interleaved).

Owns framing, checksums, sequence numbers, fragments and their bounds. Knows codes and handles as numbers only, and
nothing of what a payload means. Wire specification, "Version 1 records" and "Version 2 records". Readers are fed any
octets in any pieces; after a PeerError a reader is of no further use.
"""

from __future__ import annotations

import binascii
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from cassiopeia.errors import InternalError, PeerError

VERSION_1_PAYLOAD_OCTETS: Final = 0xF000
VERSION_1_CLIENT_SESSION: Final = 13
FRAGMENT_OCTETS: Final = 16 * 1024

_HEADER_1: Final = struct.Struct("<HBIHIHH")
_CHECKSUM_OCTETS: Final = 1
_LINE_CHARACTERS: Final = 1 + 2 * (_HEADER_1.size + VERSION_1_PAYLOAD_OCTETS + _CHECKSUM_OCTETS)
_ALL_ONES: Final = 0xFF

_HEADER_2: Final = struct.Struct(">IHIQ")
_MORE_FOLLOWS: Final = 0x8000
_FIRST_SEQUENCE: Final = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One whole message from all its records; version 1 has no handles, there it is 0."""

    code: int
    handle: int
    payload: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Version1Record:
    """One line of version 1; `offset` counts records within the payload."""

    code: int
    session_id: int
    count: int
    total_length: int
    offset: int
    payload: bytes

    def encode(self) -> bytes:
        """The line with its line feed."""
        header = _HEADER_1.pack(
            self.code, 0, self.session_id, self.count, self.total_length, self.offset, len(self.payload)
        )
        body = header + self.payload
        checksum = _ALL_ONES - sum(body) % (_ALL_ONES + 1)
        return b":%b%02X\n" % (binascii.hexlify(body).upper(), checksum)

    @classmethod
    def decode(cls, line: bytes) -> Version1Record:
        """Read a line without its line feed; raises PeerError for whatever `encode` would not have written."""
        try:
            octets = binascii.unhexlify(line[1:])
        except ValueError:
            raise PeerError("a record is not hex") from None
        if line[:1] != b":" or line != line.upper():
            raise PeerError("a record is not a colon and upper-case hex")
        if len(octets) < _HEADER_1.size + _CHECKSUM_OCTETS:
            raise PeerError("a record is shorter than its header")
        if sum(octets) % (_ALL_ONES + 1) != _ALL_ONES:
            raise PeerError("the checksum of a record is wrong")
        code, flags, session_id, count, total_length, offset, length = _HEADER_1.unpack_from(octets)
        payload = octets[_HEADER_1.size : -_CHECKSUM_OCTETS]
        if flags or length != len(payload):
            raise PeerError("a record has flags, or a length that is not its own")
        return cls(
            code=code, session_id=session_id, count=count, total_length=total_length, offset=offset, payload=payload
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MessageLimits:
    """The most octets of one message by its code, of any other message, and of all that are unfinished."""

    by_code: Mapping[int, int]
    otherwise: int
    together: int
    unfinished: int

    def check(self, code: int, octets: int) -> None:
        if octets > self.by_code.get(code, self.otherwise):
            raise PeerError(f"a message with code {code:#x} is longer than its limit")


class Version1Reader:
    """Lines in, messages out. Holds at most one line and one message."""

    def __init__(self, limits: MessageLimits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0
        self._parts: list[Version1Record] = []
        self._missing = 0

    @property
    def incomplete(self) -> bool:
        """Whether the peer owes the rest of a record or message."""
        return bool(self._buffer or self._parts)

    def receive(self, octets: bytes) -> Iterator[Frame]:
        self._buffer += octets
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if max(end, len(self._buffer) if end < 0 else 0) > _LINE_CHARACTERS:
                raise PeerError("a line is longer than any record")
            if end < 0:
                self._searched = len(self._buffer)
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            frame = self._assemble(Version1Record.decode(line))
            if frame is not None:
                yield frame

    def _assemble(self, record: Version1Record) -> Frame | None:
        if not self._parts:
            self._limits.check(record.code, record.total_length)
            self._missing = record.total_length
        first = self._parts[0] if self._parts else record
        # The original compares continuation records only in part; everything that must be the same is compared here.
        same = (record.code, record.session_id, record.count, record.total_length) == (
            first.code,
            first.session_id,
            first.count,
            first.total_length,
        )
        if not same or record.offset != len(self._parts):
            raise PeerError("a record does not continue the payload before it")
        if len(record.payload) != min(self._missing, VERSION_1_PAYLOAD_OCTETS):
            raise PeerError("a record's length does not follow from the total length")
        self._missing -= len(record.payload)
        self._parts.append(record)
        if self._missing:
            return None
        parts, self._parts = self._parts, []
        return Frame(code=record.code, handle=0, payload=b"".join(part.payload for part in parts))


class Version1Writer:
    """Messages in, lines out: the client counts and names session 13, the signer says 0 and 0."""

    def __init__(self, *, counting: bool) -> None:
        self._session_id = VERSION_1_CLIENT_SESSION if counting else 0
        self._counting = counting
        self._count = 0
        self._lines: list[bytes] = []

    @property
    def pending(self) -> bool:
        return bool(self._lines)

    def put(self, code: int, handle: int, payload: bytes, *, bulk: bool = False) -> None:
        """Queue a message; neither handle nor bulk means anything here."""
        del handle, bulk
        if self._counting:
            self._count = (self._count + 1) % 0x10000
        for offset in range(max(1, -(-len(payload) // VERSION_1_PAYLOAD_OCTETS))):
            start = offset * VERSION_1_PAYLOAD_OCTETS
            record = Version1Record(
                code=code,
                session_id=self._session_id,
                count=self._count,
                total_length=len(payload),
                offset=offset,
                payload=payload[start : start + VERSION_1_PAYLOAD_OCTETS],
            )
            self._lines.append(record.encode())

    def take(self, bulk_octets: int | None = None) -> bytes:
        del bulk_octets
        octets = b"".join(self._lines)
        self._lines.clear()
        return octets


@dataclass(kw_only=True, slots=True)
class _Unfinished:
    code: int
    octets: int = 0
    parts: list[bytes] = field(default_factory=list)


class Version2Reader:
    """Records in, messages out; fragments of different handles may be interleaved."""

    def __init__(self, limits: MessageLimits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._sequence = _FIRST_SEQUENCE
        self._unfinished: dict[int, _Unfinished] = {}
        self._unfinished_octets = 0

    @property
    def incomplete(self) -> bool:
        """Whether the peer owes the rest of a record or message."""
        return bool(self._buffer or self._unfinished)

    def receive(self, octets: bytes) -> Iterator[Frame]:
        buffer = self._buffer
        buffer += octets
        start = 0
        while len(buffer) - start >= _HEADER_2.size:
            length, kind, handle, sequence = _HEADER_2.unpack_from(buffer, start)
            if sequence != self._sequence:
                raise PeerError(f"record {sequence} came where {self._sequence} was due")
            code, more = kind & ~_MORE_FOLLOWS, bool(kind & _MORE_FOLLOWS)
            unfinished = self._unfinished.get(handle)
            self._check(unfinished, code, length, more=more)
            end = start + _HEADER_2.size + length
            if end > len(buffer):
                break
            payload = bytes(buffer[start + _HEADER_2.size : end])
            start = end
            self._sequence += 1
            if more:
                self._keep(handle, unfinished or _Unfinished(code=code), payload)
                continue
            if unfinished is not None:
                payload = self._finish(handle, unfinished, payload)
            yield Frame(code=code, handle=handle, payload=payload)
        del buffer[:start]

    def _check(self, unfinished: _Unfinished | None, code: int, length: int, *, more: bool) -> None:
        """Bound a record, and the message that it belongs to, before its payload is waited for."""
        if length > FRAGMENT_OCTETS:
            raise PeerError(f"a record claims {length} octets, more than any may have")
        if unfinished is None:
            self._limits.check(code, length)
            if more and len(self._unfinished) >= self._limits.unfinished:
                raise PeerError("too many messages are unfinished")
        else:
            self._limits.check(code, unfinished.octets + length)
            if unfinished.code != code:
                raise PeerError(f"a fragment with code {code:#x} came amid a message with code {unfinished.code:#x}")
        if more and not length:
            raise PeerError("a fragment is empty")
        if more and self._unfinished_octets + length > self._limits.together:
            raise PeerError("unfinished messages hold more than the session may")

    def _keep(self, handle: int, unfinished: _Unfinished, payload: bytes) -> None:
        self._unfinished[handle] = unfinished
        unfinished.parts.append(payload)
        unfinished.octets += len(payload)
        self._unfinished_octets += len(payload)

    def _finish(self, handle: int, unfinished: _Unfinished, payload: bytes) -> bytes:
        del self._unfinished[handle]
        self._unfinished_octets -= unfinished.octets
        return b"".join((*unfinished.parts, payload))


class Version2Writer:
    """Messages in, records out. What is bulk goes last and in turns, so that it never holds up anything else."""

    def __init__(self) -> None:
        self._sequence = _FIRST_SEQUENCE
        self._records: list[bytes] = []
        self._bulk: deque[tuple[int, int, memoryview]] = deque()

    @property
    def pending(self) -> bool:
        return bool(self._records or self._bulk)

    def put(self, code: int, handle: int, payload: bytes, *, bulk: bool = False) -> None:
        """Queue a message. Only the last message of a handle may be bulk: what follows it would overtake it."""
        rest = memoryview(payload)
        if bulk and len(rest) > FRAGMENT_OCTETS:
            self._bulk.append((code, handle, rest))
            return
        while len(rest) > FRAGMENT_OCTETS:
            self._append(code | _MORE_FOLLOWS, handle, rest[:FRAGMENT_OCTETS])
            rest = rest[FRAGMENT_OCTETS:]
        self._append(code, handle, rest)

    def take(self, bulk_octets: int | None = None) -> bytes:
        """Take everything queued, of bulk at least a fragment and about `bulk_octets` at most (None: all of it)."""
        taken = 0
        while self._bulk and (bulk_octets is None or taken == 0 or taken < bulk_octets):
            code, handle, rest = self._bulk.popleft()
            more = len(rest) > FRAGMENT_OCTETS
            self._append(code | _MORE_FOLLOWS if more else code, handle, rest[:FRAGMENT_OCTETS])
            taken += FRAGMENT_OCTETS
            if more:
                self._bulk.append((code, handle, rest[FRAGMENT_OCTETS:]))
        octets = b"".join(self._records)
        self._records.clear()
        return octets

    def _append(self, kind: int, handle: int, payload: memoryview) -> None:
        self._records.append(_HEADER_2.pack(len(payload), kind, handle, self._sequence))
        self._records.append(payload)  # type: ignore[arg-type] # joined at once, as octets
        self._sequence += 1


def reader_for(version: int, limits: MessageLimits) -> Version1Reader | Version2Reader:
    """Return the reader of one version of the protocol."""
    if version not in (1, 2):
        raise InternalError(f"there is no version {version} of the protocol")
    return Version1Reader(limits) if version == 1 else Version2Reader(limits)


def writer_for(version: int, *, counting: bool) -> Version1Writer | Version2Writer:
    """Return the writer of one version; `counting` is the client's side."""
    return Version1Writer(counting=counting) if version == 1 else Version2Writer()
