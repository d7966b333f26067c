"""TCP on loopback or on a cable of its own between the two machines.

Owns connecting and listening at one IP address; no name is ever looked up.
"""

from __future__ import annotations

import ipaddress
import socket

from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.link.sockets import SocketLink, SocketListener

_CONNECT_TIMEOUT_S = 10.0
_BACKLOG = 8


class TcpListener(SocketListener):
    """A listening TCP socket; its links send each flight at once and notice a dead cable."""

    def accept(self) -> SocketLink | None:
        link = super().accept()
        if link is not None:
            _prepare(link.socket)
        return link


def connect_tcp(host: str, port: int) -> SocketLink:
    """Connect to the signer; waits up to ten seconds."""
    connection = socket.socket(_family(host), socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_TIMEOUT_S)
    try:
        connection.connect((host, port))
        _prepare(connection)
    except OSError as error:
        connection.close()
        reason = error.strerror or "no answer"
        raise Unavailable(f"tcp:{host}:{port}: no signer answers ({reason})", code="link-down") from error
    return SocketLink(connection)


def listen_tcp(host: str, port: int) -> TcpListener:
    """Listen at this address and no other."""
    listening = socket.socket(_family(host), socket.SOCK_STREAM)
    try:
        # A signer that starts again must not wait for the old connections' TIME_WAIT.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise OperatorError(f"tcp:{host}:{port}: cannot listen: {error.strerror}") from error
    return TcpListener(listening)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6


def _prepare(connected: socket.socket) -> None:
    """Send small records at once, and notice within about a minute that the cable is dead (tcp(7))."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
