"""Links and listeners over sockets: what Unix sockets and TCP have in common.

Owns non-blocking reading and writing of a connected socket. How the socket came about is `unix`'s and `tcp`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Callable


class SocketLink:
    """A connected stream socket as a `Link`."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self.socket = connected

    def fileno(self) -> int:
        return self.socket.fileno()

    def read(self, maximum: int) -> bytes | None:
        try:
            return self.socket.recv(maximum)
        except BlockingIOError:
            return None
        except (ConnectionError, TimeoutError):
            # Reset, or given up by keep-alive: to the reader an end like any other, TLS knows whether it was in order.
            return b""

    def write(self, octets: bytes) -> int:
        try:
            return self.socket.send(octets)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        self.socket.close()


class SocketListener:
    """A listening stream socket as a `Listener`."""

    def __init__(self, listening: socket.socket, *, on_close: Callable[[], None] = lambda: None) -> None:
        listening.setblocking(False)
        self._socket = listening
        self._on_close = on_close

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self) -> SocketLink | None:
        try:
            connected, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            # ConnectionError: the client was gone before we looked (accept(2), ECONNABORTED).
            return None
        return SocketLink(connected)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._on_close()
        self._socket.close()
