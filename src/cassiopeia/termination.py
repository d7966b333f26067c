"""Ending a process that waits in a selector: SIGTERM and SIGINT wake the loop, which ends when it is convenient."""

from __future__ import annotations

import selectors
import signal
import socket


class Termination:
    """`requested` turns true with the first SIGTERM or SIGINT. One a process, made in its main thread."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self.requested = False
        # signal.set_wakeup_fd: without it a signal between the loop's check and its `select` would wait for an event.
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        selector.register(self._reading, selectors.EVENT_READ, lambda _: self._reading.recv(64))
        signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._request())

    def close(self) -> None:
        """Give signals back to the interpreter; the selector forgets the wake-up when it is closed itself."""
        signal.set_wakeup_fd(-1)
        self._reading.close()
        self._writing.close()

    def _request(self) -> None:
        self.requested = True
