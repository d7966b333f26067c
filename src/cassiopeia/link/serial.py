"""Serial lines: the link that carries octets and nothing else.

Owns a terminal device in raw mode (8N1, no flow control, no signals, no modem lines) and its exclusive use. It keeps
whatever waits in the device's buffer: the reset handshake of the framing sorts out what is stale. Source: wire
specification, "Serial framing"; termios(3).
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import termios

from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.link.address import SPEEDS

# What a line says that hangs up: EIO from a pseudo-terminal without its other end or a device that was pulled out.
_HUNG_UP = frozenset({errno.EIO, errno.ENXIO, errno.ENODEV})
_MISSING = frozenset({errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO})


class SerialLink:
    """A terminal device as a `Link`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ended = False

    @property
    def closed(self) -> bool:
        """Given up by `close`."""
        return self._descriptor < 0

    def fileno(self) -> int:
        return self._descriptor

    def read(self, maximum: int) -> bytes | None:
        if self._ended:
            return b""
        try:
            octets = os.read(self._descriptor, maximum)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno not in _HUNG_UP:
                raise
            octets = b""
        self._ended = not octets
        return octets

    def write(self, octets: bytes) -> int:
        try:
            return os.write(self._descriptor, octets)
        except BlockingIOError:
            return 0

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class SerialListener:
    """A serial line has one link. It is given out once, and again after it was closed."""

    def __init__(self, device: str, baud: int) -> None:
        self._device = device
        self._baud = baud
        self._link: SerialLink | None = None
        # Opened at once: a wrong device must be found at the start.
        self._ready: SerialLink | None = open_serial(device, baud)
        # The device itself is the link's to wait on; this descriptor is always readable.
        self._descriptor = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._descriptor

    def accept(self) -> SerialLink | None:
        """Return the link, None while it is in use; `Unavailable` if the device is gone."""
        if self._link is not None and not self._link.closed:
            return None
        link, self._ready = self._ready or open_serial(self._device, self._baud), None
        self._link = link
        return link

    def close(self) -> None:
        if self._ready is not None:
            self._ready.close()
            self._ready = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def open_serial(device: str, baud: int) -> SerialLink:
    """Open a line for ourselves alone. `Unavailable`: it is not there; OperatorError: it will not do."""
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _MISSING:
            raise Unavailable(f"serial:{device}: is not there ({error.strerror})", code="link-down") from error
        raise OperatorError(f"serial:{device}: cannot be opened: {error.strerror}") from error
    try:
        _claim(descriptor, device)
        _configure(descriptor, baud)
    except BaseException:
        os.close(descriptor)
        raise
    return SerialLink(descriptor)


def _claim(descriptor: int, device: str) -> None:
    if not stat.S_ISCHR(os.fstat(descriptor).st_mode) or not os.isatty(descriptor):
        raise OperatorError(f"serial:{device}: is not a serial line")
    try:
        # Released by the system when the process ends, however it ends (TIOCEXCL is not, on a pseudo-terminal).
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OperatorError(f"serial:{device}: another process uses it: stop that one first") from error


def _configure(descriptor: int, baud: int) -> None:
    """Raw mode, 8N1: every octet passes as it is, in both directions."""
    speed = SPEEDS[baud]
    controls = termios.tcgetattr(descriptor)[6]
    # With VMIN 1 a non-blocking read tells "nothing yet" (EAGAIN) from the end.
    controls[termios.VMIN] = 1
    controls[termios.VTIME] = 0
    # CLOCAL: the three-wire cable has no modem lines. Two stop bits, parity and hang-up on close are left out.
    cflag = termios.CS8 | termios.CREAD | termios.CLOCAL
    termios.tcsetattr(descriptor, termios.TCSANOW, [0, 0, cflag, 0, speed, speed, controls])
