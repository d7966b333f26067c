"""A machine whose clocks obey: what it shows, what it counts, and what is true."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from cassiopeia.signer.clock import Clock

START = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


@dataclass(kw_only=True)
class Machine:
    """`true` and `wall` are seconds since 1970, `boot` is CLOCK_BOOTTIME."""

    true: float = START.timestamp()
    wall: float = START.timestamp()
    boot: float = 1000.0

    def pass_time(self, seconds: float, *, parts_per_million: float = 0) -> None:
        """Awake or suspended: CLOCK_BOOTTIME counts both. The clock that people see may be slewed."""
        self.true += seconds
        self.boot += seconds
        self.wall += seconds * (1 + parts_per_million / 1_000_000)

    def set_clock(self, *, by: dt.timedelta) -> None:
        self.wall += by.total_seconds()

    def power_cut(self, seconds: float = 60) -> None:
        self.true += seconds
        self.wall += seconds
        self.boot = 5.0

    def clock(self, *, offset_s: int = 0, standing: str = "", leap_days: int = 3) -> Clock:
        """What a signer that starts now has."""
        return Clock(
            leap_days=leap_days, offset_s=offset_s, standing=standing, wall=lambda: self.wall, boot=lambda: self.boot
        )

    @property
    def true_time(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(int(self.true), dt.UTC)

    @property
    def shown_time(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(int(self.wall), dt.UTC)
