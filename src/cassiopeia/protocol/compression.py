"""Deflate with what both sides have as dictionary: what the client has sent need not travel back (wire specification).

Pure functions over octets. Inflating is bounded: a few octets must not become a gigabyte.
"""

from __future__ import annotations

import zlib
from typing import Final

from cassiopeia.errors import PeerError

# RFC 1951: a raw stream refers back at most this far.
WINDOW_OCTETS: Final = 32 * 1024

_RAW: Final = -15
_LEVEL: Final = 6
_MEMORY_LEVEL: Final = 8


def dictionary(previous_log: bytes, sent: list[bytes]) -> bytes:
    """The log before this one, then the request's payloads as sent, in order: of all that the last 32 KiB."""
    return b"".join((previous_log, *sent))[-WINDOW_OCTETS:]


def deflate(octets: bytes, known: bytes) -> bytes:
    """RFC 1951 octets that `inflate` turns back with the same dictionary."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, known)
    return compressor.compress(octets) + compressor.flush()


def inflate(octets: bytes, known: bytes, *, limit: int) -> bytes:
    """Turn back one whole deflate stream and nothing behind it; raises PeerError, also above `limit` octets."""
    decompressor = zlib.decompressobj(_RAW, known)
    try:
        inflated = decompressor.decompress(octets, limit + 1)
    except zlib.error as error:
        raise PeerError("deflated octets cannot be inflated") from error
    if len(inflated) > limit:
        raise PeerError(f"deflated octets inflate to more than {limit}")
    if not decompressor.eof or decompressor.unused_data:
        raise PeerError("deflated octets are cut short, or something follows them")
    return inflated
