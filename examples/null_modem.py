"""Two serial devices joined by a cable, on a machine that has none: a pair of pseudo-terminals and a thread between.

Octets are counted in both directions, and can be slowed down to a line speed (10 bits an octet: 8N1).
"""

from __future__ import annotations

import os
import selectors
import threading
import time
import tty
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_CHUNK_OCTETS = 4096


@dataclass
class _End:
    """One end: `master` is ours, `slave` is kept open so that the device stays while nobody uses it."""

    master: int
    slave: int
    octets_sent: int = 0
    waiting: bytearray = field(default_factory=bytearray)
    path: str = ""


class NullModem:
    """Use as a context manager; `devices` are the two paths, `octets` what was sent from each."""

    def __init__(self, *, baud: int = 0) -> None:
        self._seconds_an_octet = 10 / baud if baud else 0.0
        self._ends = (_open_end(), _open_end())
        self._stop_reading, self._stop_writing = os.pipe()
        self._thread = threading.Thread(target=self._forward, name="null modem", daemon=True)

    @property
    def devices(self) -> tuple[str, str]:
        return self._ends[0].path, self._ends[1].path

    @property
    def octets(self) -> tuple[int, int]:
        return self._ends[0].octets_sent, self._ends[1].octets_sent

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._stop_writing, b"x")
        self._thread.join()
        for end in self._ends:
            os.close(end.master)
            os.close(end.slave)
        os.close(self._stop_reading)
        os.close(self._stop_writing)

    def _forward(self) -> None:
        first, second = self._ends
        other = {first.master: second, second.master: first}
        mine = {end.master: end for end in self._ends}
        with selectors.DefaultSelector() as selector:
            for end in self._ends:
                os.set_blocking(end.master, False)
                selector.register(end.master, selectors.EVENT_READ)
            selector.register(self._stop_reading, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == self._stop_reading:
                        return
                    octets = os.read(key.fd, _CHUNK_OCTETS)
                    mine[key.fd].octets_sent += len(octets)
                    if self._seconds_an_octet:
                        time.sleep(len(octets) * self._seconds_an_octet)
                    self._deliver(other[key.fd].master, octets)

    def _deliver(self, master: int, octets: bytes) -> None:
        """Write everything; a reader that is slow holds the cable up, as a hardware handshake would."""
        while octets:
            try:
                octets = octets[os.write(master, octets) :]
            except BlockingIOError:
                time.sleep(0.001)


def _open_end() -> _End:
    master, slave = os.openpty()
    tty.setraw(slave)
    return _End(master=master, slave=slave, path=os.ttyname(slave))
