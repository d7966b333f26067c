"""Octet streams between signer and client, whatever carries them.

Owns what every link and listener promises, and the way from an address to one of them. What the octets mean is the
protocol's business; TLS protects every kind of link alike, so that none of them is trusted.
"""

from __future__ import annotations

from typing import Protocol

from cassiopeia.errors import InternalError
from cassiopeia.link.address import Address, SerialAddress, TcpAddress, UnixAddress, parse_address
from cassiopeia.link.serial import SerialListener, open_serial
from cassiopeia.link.tcp import connect_tcp, listen_tcp
from cassiopeia.link.unix import connect_unix, listen_unix

__all__ = ["Address", "Link", "Listener", "open_link", "open_listener", "parse_address"]


class Link(Protocol):
    """A non-blocking stream of octets in both directions, in order.

    Nothing is promised about delivery: what was written may be lost when the link breaks, and only the protocol's
    answers say what arrived. A link that has ended stays ended.
    """

    def fileno(self) -> int:
        """Return the descriptor to wait on; never that of the listener."""
        ...

    def read(self, maximum: int) -> bytes | None:
        """Return up to `maximum` octets, None when none are there yet, and empty octets for ever once it has ended."""
        ...

    def write(self, octets: bytes) -> int:
        """Return how many octets were taken, 0 when none can be now; OSError once the link is broken."""
        ...

    def close(self) -> None:
        """Give the link up; closing twice is harmless."""
        ...


class Listener(Protocol):
    """Where a signer waits for links."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when `accept` is worth a call."""
        ...

    def accept(self) -> Link | None:
        """Return the next link, None when nobody waits; `Unavailable` when the device is not there now."""
        ...

    def close(self) -> None:
        """Stop listening; accepted links live on."""
        ...


def open_link(address: Address) -> Link:
    """Open the client's end. `Unavailable`: nobody answers now; OperatorError: it can't work like this."""
    match address:
        case UnixAddress(path=path):
            return connect_unix(path)
        case TcpAddress(host=host, port=port):
            return connect_tcp(host, port)
        case SerialAddress(device=device, baud=baud):
            return open_serial(device, baud)
        case _:
            raise InternalError(f"no such kind of address: {address!r}")


def open_listener(address: Address) -> Listener:
    """Open the signer's end, or OperatorError."""
    match address:
        case UnixAddress(path=path):
            return listen_unix(path)
        case TcpAddress(host=host, port=port):
            return listen_tcp(host, port)
        case SerialAddress(device=device, baud=baud):
            return SerialListener(device, baud)
        case _:
            raise InternalError(f"no such kind of address: {address!r}")
