"""Signals to a process that waits in a selector: they wake its loop, which heeds them when it is convenient.

SIGTERM and SIGINT ask it to end. SIGHUP asks those that can to read their configuration anew; it ends the others, as
everywhere.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
from collections.abc import Iterator


class Termination:
    """`requested` turns true with the first SIGTERM or SIGINT. One a process, made in its main thread.

    With `reloads`, SIGHUP is noted as well; see `take_reload`.
    """

    def __init__(self, selector: selectors.BaseSelector, *, reloads: bool = False) -> None:
        self.requested = False
        self._reload = False
        # signal.set_wakeup_fd: without it a signal between the loop's check and its `select` would wait for an event.
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        selector.register(self._reading, selectors.EVENT_READ, lambda _: self._reading.recv(64))
        signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._request())
        if reloads:
            signal.signal(signal.SIGHUP, lambda *_: self._request_reload())
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def take_reload(self) -> bool:
        """Whether SIGHUP came since this was asked last."""
        reload, self._reload = self._reload, False
        return reload

    def close(self) -> None:
        """Give signals back to the interpreter; the selector forgets the wake-up when it is closed itself."""
        signal.set_wakeup_fd(-1)
        self._reading.close()
        self._writing.close()

    def _request(self) -> None:
        self.requested = True

    def _request_reload(self) -> None:
        self._reload = True


@contextlib.contextmanager
def reload_deferred() -> Iterator[None]:
    """Keep a SIGHUP that comes while the program still starts, until its `Termination` takes it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
