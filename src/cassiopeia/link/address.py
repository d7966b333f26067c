"""What an operator writes to name a link, parsed once.

Owns the three forms `unix:PATH`, `tcp:HOST:PORT` and `serial:DEVICE[?baud=SPEED]`; it opens nothing. No name is ever
looked up: the host of a TCP link is an IP address.
"""

from __future__ import annotations

import ipaddress
import re
import termios
from dataclasses import dataclass
from typing import Final

from cassiopeia.errors import OperatorError

DEFAULT_BAUD: Final = 115_200
# What this machine's termios knows, as B9600 and the like. B0 means "hang up".
SPEEDS: Final = {int(name[1:]): getattr(termios, name) for name in dir(termios) if re.fullmatch(r"B[1-9][0-9]*", name)}
# sockaddr_un of unix(7): 108 octets with the final NUL.
_UNIX_PATH_OCTETS: Final = 107
_PORTS: Final = range(1, 65_536)
_TCP = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<ipv4>[^:\[\]]+)):(?P<port>[0-9]{1,5})")
_SERIAL = re.compile(r"(?P<device>[^?]+)(?:\?baud=(?P<baud>[0-9]{1,9}))?")


class Address:
    """Base of the three kinds of address; `str()` gives the text that `parse_address` reads."""

    __slots__ = ()

    @property
    def is_serial(self) -> bool:
        """Whether the link never hangs up between sessions, and needs the serial framing."""
        return False


@dataclass(frozen=True, kw_only=True, slots=True)
class UnixAddress(Address):
    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TcpAddress(Address):
    host: str
    port: int

    def __str__(self) -> str:
        return f"tcp:[{self.host}]:{self.port}" if ":" in self.host else f"tcp:{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SerialAddress(Address):
    device: str
    baud: int = DEFAULT_BAUD

    @property
    def is_serial(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"serial:{self.device}?baud={self.baud}"


def parse_address(text: str) -> Address:
    """Parse an address; OperatorError says what is wrong with it."""
    scheme, _, location = text.partition(":")
    if "\0" in text:
        raise OperatorError("a link address holds no NUL character")
    match scheme:
        case "unix":
            return _parse_unix(text, location)
        case "tcp":
            return _parse_tcp(text, location)
        case "serial":
            return _parse_serial(text, location)
        case _:
            raise OperatorError(f"{text!r} is no link address: write unix:PATH, tcp:HOST:PORT or serial:DEVICE")


def _parse_unix(text: str, path: str) -> UnixAddress:
    if not path:
        raise OperatorError(f"{text!r} names no socket: write unix:PATH")
    if len(path.encode(errors="surrogateescape")) > _UNIX_PATH_OCTETS:
        raise OperatorError(f"{text!r} is too long: the system allows {_UNIX_PATH_OCTETS} octets for a socket's path")
    return UnixAddress(path=path)


def _parse_tcp(text: str, location: str) -> TcpAddress:
    parts = _TCP.fullmatch(location)
    if parts is None or int(parts["port"]) not in _PORTS:
        raise OperatorError(f"{text!r} is no TCP address: write tcp:127.0.0.1:PORT or tcp:[::1]:PORT")
    try:
        host = ipaddress.IPv4Address(parts["ipv4"]) if parts["ipv4"] else ipaddress.IPv6Address(parts["ipv6"])
    except ValueError as error:
        raise OperatorError(f"{text!r}: the host must be an IP address, names are not looked up") from error
    return TcpAddress(host=str(host), port=int(parts["port"]))


def _parse_serial(text: str, location: str) -> SerialAddress:
    parts = _SERIAL.fullmatch(location)
    if parts is None:
        raise OperatorError(f"{text!r} is no serial line: write serial:/dev/DEVICE or serial:/dev/DEVICE?baud=SPEED")
    baud = int(parts["baud"] or DEFAULT_BAUD)
    if baud not in SPEEDS:
        known = ", ".join(map(str, sorted(SPEEDS)))
        raise OperatorError(f"{text!r}: this machine has no line speed {baud}; it has {known}")
    return SerialAddress(device=parts["device"], baud=baud)
