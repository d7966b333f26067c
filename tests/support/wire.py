"""Ends of real lines that run in the test's own loop: what they heard, and a way to wait for it."""

from __future__ import annotations

import os
import select
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cassiopeia.link.line import Line
from cassiopeia.link.stream import Link, Listener
from cassiopeia.protocol.connection import Connection
from cassiopeia.protocol.events import Event
from cassiopeia.protocol.session import Session

TIME_LIMIT_S = 20.0


class Loop:
    """Drives every line that was added, and collects what other descriptors give."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self._ends: list[End] = []

    def add(self, link: Link, connection: Connection) -> End:
        end = End(self, link, connection)
        self._ends.append(end)
        return end

    def collect(self, descriptor: int) -> bytearray:
        """Gather whatever comes from this descriptor."""
        gathered = bytearray()

        def read(_: int) -> None:
            octets = os.read(descriptor, 65_536)
            gathered.extend(octets)
            if not octets:
                self.selector.unregister(descriptor)

        self.selector.register(descriptor, selectors.EVENT_READ, read)
        return gathered

    def run_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIME_LIMIT_S
        while not condition():
            heard = [(end.failures, end.events, end.closed) for end in self._ends]
            assert time.monotonic() < deadline, f"waited in vain; the ends have {heard}"
            for end in self._ends:
                end.line.flush()
            if not condition():
                for key, mask in self.selector.select(0.05):
                    key.data(mask)

    def close(self) -> None:
        for end in self._ends:
            end.line.close()
        self.selector.close()


class End:
    """One line, with everything that it told its owner."""

    def __init__(self, loop: Loop, link: Link, connection: Connection) -> None:
        self.connection = connection
        self.events: list[Event] = []
        self.ended: list[Session] = []
        self.failures: list[str] = []
        self.line = Line(
            link=link,
            connection=connection,
            selector=loop.selector,
            on_event=lambda _, event: self.events.append(event),
            on_session_end=self.ended.append,
            on_failure=self.failures.append,
        )

    @property
    def closed(self) -> bool:
        return self.line.closed

    @property
    def established(self) -> bool:
        return self.connection.established

    @property
    def session(self) -> Session:
        assert self.connection.session is not None
        return self.connection.session


@contextmanager
def running_loop() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.close()


def accept(listener: Listener) -> Link:
    """Wait for the next link."""
    deadline = time.monotonic() + TIME_LIMIT_S
    while time.monotonic() < deadline:
        select.select([listener], [], [], TIME_LIMIT_S)
        link = listener.accept()
        if link is not None:
            return link
    raise AssertionError("nobody came")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
