"""A bad line between client and signer: it loses, doubles, turns, adds and delays octets, breaks, and goes half open.

What goes wrong is fixed by a seed: how many octets pass in each direction before the next fault, and which it is. After
so many faults the line is as good as new, so that whatever waits can drain. A socket that breaks is closed at both
ends; a serial line has no such thing: nothing passes for a while. The framing's own octets (`C0`, `DB` and what may not
follow it) are what is added most.
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from examples.null_modem import NullModem
from tests.support.relay import Direction, Relay

Kind = Literal["drop", "duplicate", "flip", "insert", "delay", "cut", "swallow"]
KINDS: Final[tuple[Kind, ...]] = ("drop", "duplicate", "flip", "insert", "delay", "cut", "swallow")

_CHUNK_OCTETS = 4096
_LONGEST_DELAY_S = 0.3
# So long nothing passes a serial line that was pulled out.
_UNPLUGGED_S = 0.3
_ADDED: Final = (b"\xc0", b"\xdb", b"\xdb\x41", b"\xdb\xc0", b"\xc0\x01\x02\x03\x04\x05\x06\x07\x08", b"\x00" * 64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """At the octet `at` of its direction (counted over all connections) this happens to up to `amount` octets.

    Only to those that come together: a line that waited for more to lose would lose each reset that is to mend it.
    """

    kind: Kind
    at: int
    amount: int
    added: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """What leaves the line next: octets, after a pause, unless the line breaks first or falls silent for good."""

    octets: bytes = b""
    pause_s: float = 0.0
    fault: Literal["", "cut", "swallow"] = ""


class Noise:
    """What happens to one direction. `happened` counts the faults so far."""

    def __init__(self, seed: str, *, kinds: Sequence[Kind], faults: int, gap_octets: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a test that can be repeated
        self._kinds = kinds
        self._gap_octets = gap_octets
        self._left = faults
        self._passed = 0
        self.happened: list[Fault] = []
        self._next = self._draw()

    def pieces(self, octets: bytes) -> Iterator[Piece]:
        """What becomes of octets that came in."""
        while octets:
            fault = self._next
            if fault is None or self._passed + len(octets) <= fault.at:
                self._passed += len(octets)
                yield Piece(octets=octets)
                return
            before = fault.at - self._passed
            if before:
                yield Piece(octets=octets[:before])
            self._passed += before
            octets = octets[before:]
            self.happened.append(fault)
            self._next = self._draw()
            match fault.kind:
                case "drop":
                    octets = octets[fault.amount :]
                case "duplicate":
                    yield Piece(octets=octets[: fault.amount])
                case "flip":
                    octets = bytes([octets[0] ^ 1 << fault.amount % 8]) + octets[1:]
                case "insert":
                    yield Piece(octets=fault.added)
                case "delay":
                    yield Piece(pause_s=_LONGEST_DELAY_S * fault.amount / _CHUNK_OCTETS)
                case "cut" | "swallow":
                    yield Piece(fault=fault.kind)

    def _draw(self) -> Fault | None:
        if not self._left:
            return None
        self._left -= 1
        # The next fault is at least an octet on, or an octet that was turned would be turned back.
        gap = 1 + min(int(self._random.expovariate(1 / self._gap_octets)), 8 * self._gap_octets)
        return Fault(
            kind=self._random.choice(self._kinds),
            at=self._passed + gap,
            amount=min(int(self._random.paretovariate(0.5)), _CHUNK_OCTETS),
            added=self._random.choice(_ADDED),
        )


@dataclass(kw_only=True)
class Noises:
    """Both directions of a line; the same seed gives the same faults at the same octets."""

    seed: int
    kinds: Sequence[Kind] = KINDS
    faults: int = 6
    gap_octets: int = 2000

    def __post_init__(self) -> None:
        self.by_direction: dict[Direction, Noise] = {
            direction: Noise(
                f"{self.seed} {direction}", kinds=self.kinds, faults=self.faults, gap_octets=self.gap_octets
            )
            for direction in ("to_signer", "to_client")
        }

    @property
    def happened(self) -> list[Fault]:
        return [fault for noise in self.by_direction.values() for fault in noise.happened]


class NoisyLine(Relay):
    """A Unix socket at `path` whose connections lead to `signer`, with noise. Use as a context manager.

    A direction that has fallen silent stays so for its connection. When the client gives that up, the signer's end
    stays open, as it would when the client's machine has lost its power; the next connection is as good as new.
    """

    chunk_octets = _CHUNK_OCTETS

    def __init__(self, path: Path, signer: Path, noises: Noises) -> None:
        super().__init__(path, signer)
        self.noises = noises
        self._silent: set[Direction] = set()

    def connected(self) -> None:
        self._silent.clear()

    def is_half_open(self, direction: Direction) -> bool:
        return bool(self._silent) and direction == "to_signer"

    def deliver(self, direction: Direction, octets: bytes, other: socket.socket) -> bool:
        for piece in self.noises.by_direction[direction].pieces(octets):
            if piece.fault == "cut":
                return False
            if piece.fault == "swallow":
                self._silent.add(direction)
            time.sleep(piece.pause_s)
            if direction not in self._silent:
                other.sendall(piece.octets)
        return True


class NoisyModem(NullModem):
    """A serial cable with noise; the first device is the signer's."""

    def __init__(self, noises: Noises) -> None:
        super().__init__()
        self.noises = noises
        self._silent_until: dict[Direction, float] = {"to_signer": 0.0, "to_client": 0.0}

    def _deliver(self, master: int, octets: bytes) -> None:
        direction: Direction = "to_signer" if master == self._ends[0].master else "to_client"
        for piece in self.noises.by_direction[direction].pieces(octets):
            if piece.fault:
                gone: tuple[Direction, ...] = ("to_signer", "to_client") if piece.fault == "cut" else (direction,)
                self._silent_until |= dict.fromkeys(gone, time.monotonic() + _UNPLUGGED_S)
            time.sleep(piece.pause_s)
            if time.monotonic() >= self._silent_until[direction]:
                super()._deliver(master, piece.octets)
