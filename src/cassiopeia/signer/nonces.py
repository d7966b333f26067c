"""The nonces under which requests are attested: one at a time, and the one before it still holds.

They change by CLOCK_BOOTTIME, which nobody sets, and are not kept: with the boot they are gone. So an attestation
lives for `LIFE_S` at least and twice that at most, whatever a clock on the other side says (wire specification,
"Proofs").
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from cassiopeia.core.evidence import NONCE_OCTETS

LIFE_S: Final = 300


class Nonces:
    """`boot_seconds` reads CLOCK_BOOTTIME."""

    def __init__(self, boot_seconds: Callable[[], int]) -> None:
        self._boot_seconds = boot_seconds
        self._current = os.urandom(NONCE_OCTETS)
        self._previous: bytes | None = None
        self._since = boot_seconds()

    @property
    def current(self) -> bytes:
        """What is given out, and goes into attestations."""
        return self.valid[0]

    @property
    def valid(self) -> tuple[bytes, ...]:
        """Under which attestations hold, the newest first."""
        age_s = self._boot_seconds() - self._since
        if age_s >= LIFE_S:
            # What was the current one a whole life ago has run out as well.
            self._previous = self._current if age_s < 2 * LIFE_S else None
            self._current = os.urandom(NONCE_OCTETS)
            self._since = self._boot_seconds()
        return (self._current,) if self._previous is None else (self._current, self._previous)
