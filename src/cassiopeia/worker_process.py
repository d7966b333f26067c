"""A worker: a program of ours that another one starts, talks to over a socket, and ends.

It inherits the one socket, whose descriptor is its last argument, and nothing else that its starter has open. What it
is asked, how long it may take, and what becomes of work that it takes with it is for the pools that use it.
"""

from __future__ import annotations

import resource
import selectors
import socket
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from cassiopeia.errors import PeerError
from cassiopeia.frames import FrameReader, frame

_RECEIVE_OCTETS = 1 << 20
_STOP_TIME_LIMIT_S = 5.0
_KILL_TIME_LIMIT_S = 2.0
# On top of what a worker has when it begins to parse; a batch of the largest requests takes a third of it.
_MEMORY_FOR_WORK_OCTETS = 256 * 1024 * 1024

# Killed, and not gone: whoever ends the next one looks after them.
_unreaped: list[subprocess.Popen[bytes]] = []


class WorkerProcess:
    """One running worker, in the selector of its starter's loop.

    `hear` is called with the body of each frame and may raise PeerError. `lost` is called when the worker has gone, or
    with the fault when it broke the rules; whoever is called ends the worker with `end`.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        selector: selectors.BaseSelector,
        hear: Callable[[bytes], None],
        lost: Callable[[PeerError | None], None],
    ) -> None:
        self._selector = selector
        self._hear = hear
        self._lost = lost
        self._reader = FrameReader()
        self._closed = False
        self.outgoing = bytearray()
        self.stream, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    [*command, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
                )
        except OSError:
            self.stream.close()
            raise
        self.stream.setblocking(False)
        selector.register(self.stream, selectors.EVENT_READ, self._on_event)

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, content: Sequence[msgspec.Struct]) -> None:
        """Send one frame; what the socket does not take now follows when there is room."""
        self.outgoing += frame(content)
        self._write()

    def end(self) -> int | None:
        """Kill it, if it still runs; return how it ended. None: the kernel holds it, as for a device that hangs."""
        self._close()
        self.process.kill()
        return _wait(self.process)

    def _close(self) -> None:
        self._closed = True
        self._selector.unregister(self.stream)
        self.stream.close()

    def _on_event(self, mask: int) -> None:
        if mask & selectors.EVENT_WRITE and not self._closed:
            self._write()
        # An event of the same turn may have ended it.
        if mask & selectors.EVENT_READ and not self._closed:
            self._read()

    def _write(self) -> None:
        try:
            sent = self.stream.send(self.outgoing) if self.outgoing else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the death shows at the reading side
        del self.outgoing[:sent]
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.outgoing else 0)
        if self._selector.get_key(self.stream).events != events:
            self._selector.modify(self.stream, events, self._on_event)

    def _read(self) -> None:
        try:
            octets = self.stream.recv(_RECEIVE_OCTETS)
        except BlockingIOError:
            return
        except OSError:
            octets = b""
        if not octets:
            self._lost(None)
            return
        try:
            for body in self._reader.feed(octets):
                self._hear(body)
        except PeerError as error:
            self._lost(error)


def stop(workers: Iterable[WorkerProcess]) -> None:
    """Close every stream: workers end by themselves, the stubborn are killed."""
    workers = list(workers)
    for worker in workers:
        worker._close()  # noqa: SLF001 - this module's own
    for worker in workers:
        try:
            worker.process.wait(_STOP_TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            _wait(worker.process)


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """For one that was killed. It may be in the hands of a driver, and nobody shall wait for that."""
    try:
        return process.wait(_KILL_TIME_LIMIT_S)
    except subprocess.TimeoutExpired:
        _unreaped.append(process)
        return None
    finally:
        _unreaped[:] = [each for each in _unreaped if each.poll() is None]


# For the worker itself.


def bound_memory(*, times: int = 1) -> None:
    """Whatever a request makes a parser allocate, the machine keeps its memory, and this process dies of it.

    So many `times` what it has now it may have, and some more for its work.
    """
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _bound(resource.RLIMIT_AS, times * pages * resource.getpagesize() + _MEMORY_FOR_WORK_OCTETS)


def _bound(limit: int, most: int) -> None:
    _, hard = resource.getrlimit(limit)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(limit, (most, most))
