"""The original client, imitated: what our signer has to get on with over version 1.

Written from the wire specification's tables alone, with a record codec, a serial framing and a TLS loop of its own:
nothing of ours is imported, so that a mistake of ours is not made twice. `original_signer` is the other side.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

TIME_LIMIT_S = 30.0
CIPHER = "ECDHE-RSA-AES256-GCM-SHA384"
CLIENT_SESSION = 13

# Client to signer.
SET_CSR, SET_SPKAC = 0x01, 0x02
SET_SIGNATURE_TYPE, SET_PROFILE, WISH_FROM, WISH_TO, OCSP_TARGET_CA = 0x10, 0x11, 0x12, 0x13, 0x14
ADD_SAN, ADD_AVA, ADD_PROOF_LINE = 0x18, 0x19, 0x40
SIGN, LOG_SAVED = 0x80, 0x81
GET_TIMESTAMP, GET_STATUS_REPORT = 0xC0, 0xD0
REVOKE, GET_FULL_CRL, ADD_SERIAL = 0x100, 0x101, 0x102
# Signer to client.
SET_LOG, RESPOND_CERTIFICATE, SIGNING_CA = 0x80, 0x81, 0x82
REVOKED, FULL_CRL = 0x100, 0x101

_HEADER = struct.Struct("<HBIHIHH")
_RECORD_OCTETS = 0xF000
_READ_OCTETS = 4096
# What the original always sends: C0, and the same eight octets.
_RESET = bytes.fromhex("C00102030405060708")


class Closed(Exception):
    """The other side has closed, or reset the line: the original says no more than this."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A command with its whole payload, and what its first header said."""

    command: int
    session: int
    count: int
    payload: bytes
    records: int = 1


def encode(command: int, payload: bytes = b"", *, session: int, count: int) -> bytes:
    """The lines of one message."""
    lines = []
    for offset, start in enumerate(range(0, max(len(payload), 1), _RECORD_OCTETS)):
        part = payload[start : start + _RECORD_OCTETS]
        octets = _HEADER.pack(command, 0, session, count, len(payload), offset, len(part)) + part
        lines.append(":" + (octets + bytes([~sum(octets) & 0xFF])).hex().upper() + "\n")
    return "".join(lines).encode()


def decode(lines: Sequence[bytes]) -> Message:
    """One message from all of its lines."""
    parts = []
    for offset, line in enumerate(lines):
        octets = bytes.fromhex(line[1:].decode())
        assert line[:1] == b":"
        assert sum(octets) & 0xFF == 0xFF
        header = _HEADER.unpack(octets[: _HEADER.size])
        parts.append(octets[_HEADER.size : -1])
        assert header[5:] == (offset, len(parts[-1]))
        # The original compares continuation records with the first one.
        first = _HEADER.unpack(bytes.fromhex(lines[0][1:].decode())[: _HEADER.size])
        assert header[:5] == first[:5]
    command, _, session, count, total, _, _ = first
    payload = b"".join(parts)
    assert len(payload) == total
    return Message(command=command, session=session, count=count, payload=payload, records=len(lines))


def _is_whole(lines: Sequence[bytes]) -> bool:
    total = _HEADER.unpack(bytes.fromhex(lines[0][1:].decode())[: _HEADER.size])[4]
    return bool(len(lines) >= -(-total // _RECORD_OCTETS))


class Line(Protocol):
    """Octets in both directions. `read` gives no octets when there are none for a moment, `Closed` at the end."""

    def read(self) -> bytes: ...

    def write(self, octets: bytes) -> None: ...

    def close(self) -> None: ...


class SocketLine:
    """A Unix socket."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.settimeout(0.05)

    def read(self) -> bytes:
        try:
            octets = self._socket.recv(_READ_OCTETS)
        except TimeoutError:
            return b""
        except ConnectionError as error:
            raise Closed from error
        if not octets:
            raise Closed
        return octets

    def write(self, octets: bytes) -> None:
        try:
            self._socket.sendall(octets)
        except ConnectionError as error:
            raise Closed from error

    def close(self) -> None:
        self._socket.close()


class Device:
    """A serial device, as it is."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._descriptor)

    def read(self) -> bytes:
        ready, _, _ = select.select([self._descriptor], [], [], 0.05)
        return os.read(self._descriptor, _READ_OCTETS) if ready else b""

    def write(self, octets: bytes) -> None:
        while octets:
            octets = octets[os.write(self._descriptor, octets) :]

    def close(self) -> None:
        os.close(self._descriptor)


class ClientSerialLine:
    """The client's end of a serial line: reset and ClientHello go out at once, then the echo is waited for."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._before = _RESET
        self._skipped = b""
        self._streaming = False
        self._escaped = False

    def read(self) -> bytes:
        octets = self._device.read()
        if not self._streaming:
            self._skipped += octets
            _, echo, octets = self._skipped.partition(_RESET)
            self._streaming = bool(echo)
        data, self._escaped = unescape(octets, escaped=self._escaped)
        return data

    def write(self, octets: bytes) -> None:
        self._device.write(self._before + escape(octets))
        self._before = b""

    def close(self) -> None:
        self._device.close()


def escape(octets: bytes) -> bytes:
    return b"".join({0xC0: b"\xdb\xdc", 0xDB: b"\xdb\xdd"}.get(each, bytes([each])) for each in octets)


def unescape(octets: bytes, *, escaped: bool) -> tuple[bytes, bool]:
    """Octets of the stream, and whether the last one was half of an escape; anything irregular is `Closed`."""
    data = bytearray()
    for octet in octets:
        if octet == 0xC0 or (escaped and octet not in (0xDC, 0xDD)):
            raise Closed
        if escaped:
            data.append(0xC0 if octet == 0xDC else 0xDB)
        elif octet != 0xDB:
            data.append(octet)
        escaped = octet == 0xDB
    return bytes(data), escaped


class Session:
    """TLS over a line, records in it. `over` is asked while nothing comes: whether to give up."""

    def __init__(
        self,
        line: Line,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        time_limit_s: float = TIME_LIMIT_S,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._line = line
        self._time_limit_s = time_limit_s
        self._over = over
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self._buffer = b""
        self._until(self._tls.do_handshake)

    @property
    def cipher(self) -> tuple[str, str] | None:
        """Cipher suite and version of TLS."""
        found = self._tls.cipher()
        return found and (found[0], found[1])

    def write(self, octets: bytes, *, hold: bool = False) -> None:
        """One TLS record, as the original does for each of its own; what is held goes with the next."""
        self._tls.write(octets)
        if not hold:
            self._flush()

    def receive(self) -> Message:
        """The next message; `Closed` when there will be none."""
        lines: list[bytes] = []
        while not lines or not _is_whole(lines):
            while b"\n" not in self._buffer:
                self._buffer += self._until(lambda: self._tls.read(_READ_OCTETS))
            line, self._buffer = self._buffer.split(b"\n", 1)
            lines.append(line)
        return decode(lines)

    def close(self) -> None:
        """Close TLS without a word; the line stays."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            self._flush()

    def _until(self, step: Callable[[], bytes | None]) -> bytes:
        """Feed TLS until it can take this step."""
        deadline = time.monotonic() + self._time_limit_s
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                if self._over():
                    raise Closed("given up") from None
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                self._incoming.write(self._line.read())
            except ssl.SSLError as error:
                self._flush()
                raise Closed(str(error)) from error
            else:
                self._flush()
                if result == b"":
                    raise Closed("close_notify")
                return result or b""

    def _flush(self) -> None:
        octets = self._outgoing.read()
        if octets:
            self._line.write(octets)


def tls_context(*, server_side: bool, chain: Path, key: Path, trusted: Path) -> ssl.SSLContext:
    """TLS 1.2 with the one cipher suite, no ALPN; the own chain is sent with its root."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHER)
    context.load_cert_chain(chain, key)
    context.load_verify_locations(trusted)
    return context


@dataclass(frozen=True, kw_only=True)
class Certified:
    """What the client has when a certificate came: every answer in its order, to be looked at."""

    answers: list[Message]

    @property
    def log(self) -> bytes:
        return self.answers[0].payload

    @property
    def signing_ca(self) -> str:
        return self.answers[1].payload.decode()

    @property
    def certificate(self) -> bytes:
        """PEM."""
        return self.answers[2].payload


@dataclass(kw_only=True)
class OriginalClient:
    """One TLS session for each piece of work. `address` is `unix:PATH` or `serial:DEVICE`."""

    address: str
    context: ssl.SSLContext
    ciphers: list[tuple[str, str] | None] = field(default_factory=list)

    @contextmanager
    def session(self) -> Iterator[Session]:
        line = self._open()
        try:
            session = Session(line, self.context, server_side=False)
            self.ciphers.append(session.cipher)
            yield session
            session.close()
        finally:
            line.close()

    def certify(self, parts: Sequence[tuple[int, bytes]]) -> Certified:
        """Send the parts of a request, `sign`, and `logSaved` right behind it; `Closed` without a certificate."""
        with self.session() as session:
            self.send(session, [*parts, (SIGN, b""), (LOG_SAVED, b"")])
            answers = [session.receive() for _ in range(3)]
            self.expect_end(session)
        assert [each.command for each in answers] == [SET_LOG, SIGNING_CA, RESPOND_CERTIFICATE]
        assert {(each.session, each.count) for each in answers} == {(0, 0)}
        return Certified(answers=answers)

    def revoke(self, signing_ca: str, serials: Sequence[str], *, full: bool) -> tuple[Message, Message | None]:
        """A revocation and, in the same session, the full CRL if wanted."""
        with self.session() as session:
            self.send(session, [*((ADD_SERIAL, each.encode()) for each in serials), (REVOKE, signing_ca.encode())])
            revoked = session.receive()
            if not full:
                return revoked, None
            # The original answers with the header that it received: session 0, and a count of 1.
            session.write(encode(GET_FULL_CRL, signing_ca.encode(), session=0, count=1))
            crl = session.receive()
            self.expect_end(session)
        return revoked, crl

    def full_crl(self, signing_ca: str) -> Message:
        with self.session() as session:
            self.send(session, [(GET_FULL_CRL, signing_ca.encode())])
            crl = session.receive()
            self.expect_end(session)
        return crl

    def vanish(self, parts: Sequence[tuple[int, bytes]]) -> None:
        """Send this, and be gone without closing TLS."""
        line = self._open()
        self.send(Session(line, self.context, server_side=False), parts)
        line.close()

    @staticmethod
    def send(session: Session, parts: Sequence[tuple[int, bytes]]) -> None:
        for count, (command, payload) in enumerate(parts, start=1):
            session.write(encode(command, payload, session=CLIENT_SESSION, count=count))

    @staticmethod
    def expect_end(session: Session) -> None:
        """The signer closes; anything else is a mistake."""
        try:
            message = session.receive()
        except Closed:
            return
        raise AssertionError(f"the signer said {message.command:x} where it should have closed")

    def _open(self) -> Line:
        kind, _, where = self.address.partition(":")
        if kind == "serial":
            return ClientSerialLine(Device(where))
        connected = socket.socket(socket.AF_UNIX)
        connected.connect(where)
        return SocketLine(connected)
