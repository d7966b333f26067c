"""Unix sockets: signer and client on one machine (trying out, tests) or in containers that share a directory.

Owns the socket's file: its mode, and that a stale one is replaced only if nobody answers there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat

from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.link.sockets import SocketLink, SocketListener

_BACKLOG = 8


def connect_unix(path: str) -> SocketLink:
    """Connect to the signer's socket."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # A full backlog must not hold up the client: it is "not now", as nobody listening is.
    connection.setblocking(False)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError, BlockingIOError) as error:
        connection.close()
        raise Unavailable(f"unix:{path}: no signer answers ({error.strerror})", code="link-down") from error
    except OSError as error:
        connection.close()
        raise OperatorError(f"unix:{path}: cannot connect: {error.strerror}") from error
    return SocketLink(connection)


def listen_unix(path: str, *, mode: int = 0o600) -> SocketListener:
    """Listen on a socket of this mode (0o660 lets its group in)."""
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        # Before listen() nobody can connect, so the mode is never wider than wished.
        os.chmod(path, mode)  # noqa: PTH101 - the address is text, as the socket interface takes it
        listening.listen(_BACKLOG)
        ours = os.stat(path)  # noqa: PTH116 - as above
    except OSError as error:
        listening.close()
        raise OperatorError(f"unix:{path}: cannot listen: {error.strerror}") from error

    def remove() -> None:
        # Only if nobody else has put a socket of theirs there meanwhile.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(path), ours):  # noqa: PTH116 - as above
                os.unlink(path)  # noqa: PTH108 - as above

    return SocketListener(listening, on_close=remove)


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OperatorError(f"unix:{path}: is there already and is no socket: choose another path")
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperatorError(f"unix:{path}: cannot be looked at: {error.strerror}") from error
    try:
        connect_unix(path).close()
    except Unavailable as error:
        if isinstance(error.__cause__, ConnectionRefusedError):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - as above
            return
    raise OperatorError(f"unix:{path}: another signer listens there: stop it first")
