"""Frames between a program of ours and the workers that it starts: a 4-octet big-endian length, and MessagePack.

What may stand in a frame is the business of those who talk: they decode the bodies, strictly.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from cassiopeia.errors import PeerError

MAXIMUM_FRAME_OCTETS: Final = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()


def frame(content: msgspec.Struct | Sequence[msgspec.Struct]) -> bytes:
    body = _encoder.encode(content)
    return _LENGTH.pack(len(body)) + body


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
            if length > MAXIMUM_FRAME_OCTETS:
                raise PeerError("it sent a frame over the limit")
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[_LENGTH.size : end]))
            del self._buffer[:end]
        return bodies
