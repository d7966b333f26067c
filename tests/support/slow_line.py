"""A Unix socket between client and signer that carries only so many octets a second, so that work takes its time."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tests.support.relay import Direction, Relay


class SlowLine(Relay):
    chunk_octets = 512

    def __init__(self, path: Path, signer: Path, *, octets_a_second: int) -> None:
        super().__init__(path, signer)
        self._pause_s = self.chunk_octets / octets_a_second

    def deliver(self, direction: Direction, octets: bytes, other: socket.socket) -> bool:  # noqa: ARG002 - both are slow
        other.sendall(octets)
        time.sleep(self._pause_s)
        return True
