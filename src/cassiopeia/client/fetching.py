"""Fetching one document over HTTP as a stranger would: no proxy, no cookie, no redirect, bounded in size and time.

Programs that check certificates fetch CRLs like this, most of them less patiently. What cannot be fetched so is
`Unavailable`, with a sentence that says what the server did.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from cassiopeia import __version__
from cassiopeia.errors import Unavailable

_CODE: Final = "not-fetched"
_SHOWN: Final = 200
_OK: Final = 200
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A document and the media type that the server has given it (lower case, without parameters)."""

    octets: bytes
    media_type: str


def fetch(url: str, *, octets_at_most: int, time_limit_s: float) -> Fetched:
    """GET `url`; raises Unavailable for anything but a whole document of at most that size within that time."""
    begun = time.monotonic()
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        raw = socket.create_connection((parts.hostname or "", port), time_limit_s)
    except (OSError, ValueError, KeyError) as error:
        raise Unavailable(f"cannot connect: {_words(error)}", code=_CODE) from error
    with raw, _ended_after(raw, time_limit_s - (time.monotonic() - begun)) as ended:
        try:
            fetched = _get(parts, raw, octets_at_most)
        except (OSError, ValueError, http.client.HTTPException, Unavailable) as error:
            if isinstance(error, Unavailable) and not ended.is_set():
                raise
            why = _too_slow(time_limit_s) if ended.is_set() else f"no answer: {_words(error)}"
            raise Unavailable(why, code=_CODE) from error
        if ended.is_set():
            raise Unavailable(_too_slow(time_limit_s), code=_CODE)
    return fetched


def _get(parts: SplitResult, raw: socket.socket, octets_at_most: int) -> Fetched:
    host = parts.hostname or ""
    connection = http.client.HTTPConnection(host, parts.port or _PORTS[parts.scheme])
    stream = ssl.create_default_context().wrap_socket(raw, server_hostname=host) if parts.scheme == "https" else raw
    connection.sock = stream
    try:
        connection.request(
            "GET",
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            headers={"User-Agent": f"cassiopeia/{__version__}", "Accept": "*/*", "Connection": "close"},
        )
        with connection.getresponse() as response:
            return _read(response, octets_at_most)
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, octets_at_most: int) -> Fetched:
    if response.status != _OK:
        location = response.headers.get("Location", "")
        to = f" to {location[:_SHOWN]!a}, which few programs follow for a CRL" if location else ""
        raise Unavailable(f"the server answers {response.status}{to}", code=_CODE)
    if encoding := response.headers.get("Content-Encoding", ""):
        raise Unavailable(f"it is sent with the encoding {encoding[:_SHOWN]!a}, which nobody asked for", code=_CODE)
    octets = response.read(octets_at_most + 1)
    if len(octets) > octets_at_most:
        raise Unavailable(f"it has more than {octets_at_most} octets", code=_CODE)
    if response.length:
        raise Unavailable(f"it is cut short: {response.length} octets are missing", code=_CODE)
    return Fetched(octets=octets, media_type=response.headers.get_content_type())


@contextlib.contextmanager
def _ended_after(raw: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Cut the connection when the time is over: a limit for each read alone would let a slow server go on for ever."""
    ended = threading.Event()
    # TLS takes the socket over: its connection is cut by a second name for it.
    same = raw.dup()

    def cut() -> None:
        ended.set()
        with contextlib.suppress(OSError):  # the other side has ended it just now
            same.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, seconds), cut)
    timer.daemon = True
    timer.start()
    try:
        yield ended
    finally:
        timer.cancel()
        timer.join()
        same.close()


def _too_slow(time_limit_s: float) -> str:
    return f"it was not there after {time_limit_s:g} seconds"


def _words(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else ""
    return (text or str(error) or type(error).__name__)[:_SHOWN]
