"""Serial framing: how a TLS stream starts anew on a line that never hangs up.

Owns the escaping of the data stream and the reset handshake, for both sides, sans-I/O. It has no packets (TLS delimits
itself), no timer and no randomness: the client's nonce is an argument. Memory is constant: at most nine octets are
kept. Source: wire specification, "Serial framing".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from cassiopeia.errors import InternalError

NONCE_OCTETS = 8
CONNECTION = b"\xc0"
ESCAPE = b"\xdb"
_ESCAPED_CONNECTION = b"\xdb\xdc"
_ESCAPED_ESCAPE = b"\xdb\xdd"
# What no sane data stream holds: a bare C0, or DB followed by anything but DC or DD (or by nothing yet).
_IRREGULAR = re.compile(rb"\xc0|\xdb(?![\xdc\xdd])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """Octets of the data stream, unescaped; never empty."""

    octets: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamStarted:
    """The reset is complete: the next data is the first octet of a new TLS session.

    `answer` goes out first, as it is (the signer's echo); it is empty on the client's side.
    """

    answer: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamLost:
    """The data stream has ended; whatever session it carried is dead."""

    reason: str


SlipEvent = Data | StreamStarted | StreamLost


def escape(octets: bytes) -> bytes:
    """Make octets fit for the data stream."""
    return octets.replace(ESCAPE, _ESCAPED_ESCAPE).replace(CONNECTION, _ESCAPED_CONNECTION)


def reset_octets(nonce: bytes) -> bytes:
    """What a client sends to start a stream; the signer's answer is the same octets."""
    return CONNECTION + nonce


class SlipSigner:
    """The signer's side: waits for a reset, answers it, and hands on the stream that follows."""

    def __init__(self) -> None:
        self._state = _SignerState.SKIPPING
        self._pending = b""

    def receive(self, octets: bytes) -> list[SlipEvent]:
        """Take octets from the line; every octet behind a reset's ninth belongs to the new stream."""
        events: list[SlipEvent] = []
        rest = self._pending + octets
        self._pending = b""
        while rest:
            if self._state is _SignerState.SKIPPING:
                rest = self._skip(rest)
            elif self._state is _SignerState.READING_NONCE:
                rest = self._read_nonce(rest, events)
            else:
                rest = self._read_stream(rest, events)
        return events

    def _skip(self, octets: bytes) -> bytes:
        _, connection, rest = octets.partition(CONNECTION)
        if connection:
            self._state = _SignerState.READING_NONCE
        return rest

    def _read_nonce(self, octets: bytes, events: list[SlipEvent]) -> bytes:
        # The nonce is "eight octets of its choice": they are not escaped, and a C0 among them is one of the eight.
        if len(octets) < NONCE_OCTETS:
            self._pending = octets
            return b""
        events.append(StreamStarted(answer=reset_octets(octets[:NONCE_OCTETS])))
        self._state = _SignerState.STREAMING
        return octets[NONCE_OCTETS:]

    def _read_stream(self, octets: bytes, events: list[SlipEvent]) -> bytes:
        data, reason, rest = _unescape(octets)
        if data:
            events.append(Data(octets=data))
        if reason:
            events.append(StreamLost(reason=reason))
            self._state = _SignerState.SKIPPING
            return rest
        self._pending = rest
        return b""


class SlipClient:
    """The client's side: skips everything until its own reset is answered, then hands on the stream.

    A stream that is lost stays lost: the client begins again with a new nonce.
    """

    def __init__(self, nonce: bytes) -> None:
        if len(nonce) != NONCE_OCTETS or CONNECTION in nonce:
            raise InternalError(f"a reset nonce is {NONCE_OCTETS} octets, none of them C0")
        self.reset = reset_octets(nonce)
        self._state = _ClientState.AWAITING_ANSWER
        self._pending = b""

    def receive(self, octets: bytes) -> list[SlipEvent]:
        """Take octets from the line."""
        if self._state is _ClientState.LOST:
            return []
        events: list[SlipEvent] = []
        rest = self._pending + octets
        self._pending = b""
        if self._state is _ClientState.AWAITING_ANSWER:
            before, answer, rest = rest.partition(self.reset)
            if not answer:
                self._pending = _possible_start(before)
                return []
            events.append(StreamStarted(answer=b""))
            self._state = _ClientState.STREAMING
        data, reason, rest = _unescape(rest)
        if data:
            events.append(Data(octets=data))
        if reason:
            events.append(StreamLost(reason=reason))
            self._state = _ClientState.LOST
        else:
            self._pending = rest
        return events


class _SignerState(Enum):
    """Named for what comes next on the line."""

    SKIPPING = "skipping everything up to a C0"
    READING_NONCE = "reading the eight octets of a reset"
    STREAMING = "reading the data stream"


class _ClientState(Enum):
    AWAITING_ANSWER = "skipping everything up to the answer to our reset"
    STREAMING = "reading the data stream"
    LOST = "over"


def _unescape(octets: bytes) -> tuple[bytes, str, bytes]:
    """Return data, why the stream ended (empty: it did not), and the octets not yet used."""
    irregular = _IRREGULAR.search(octets)
    end = irregular.start() if irregular else len(octets)
    # In this order: DB DD DC is an escape followed by a plain DC.
    data = octets[:end].replace(_ESCAPED_CONNECTION, CONNECTION).replace(_ESCAPED_ESCAPE, ESCAPE)
    rest = octets[end:]
    if rest.startswith(CONNECTION):
        return data, "a reset in the middle of the stream", rest
    if len(rest) > 1:
        return data, f"DB followed by {rest[1]:02X} in the stream", rest[1:]
    return data, "", rest


def _possible_start(octets: bytes) -> bytes:
    """Return the tail of `octets` that may be the start of a reset: it begins with the last C0."""
    tail = octets[-NONCE_OCTETS:]
    at = tail.rfind(CONNECTION)
    # A nonce holds no C0, so only the last one can begin an answer that is still incomplete.
    return tail[at:] if at >= 0 else b""
