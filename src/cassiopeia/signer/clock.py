"""The signer's clock: the one place where the signer reads the time, and where it doubts what it reads.

Nobody on the line tells the signer the time. It has the machine's clock, what operators said of that clock by a signed
order (`ClockEpoch`, in the journal), CLOCK_BOOTTIME, which nobody can set and which counts while the machine is
suspended, and the time of the newest journal entry, before which it cannot be now.

At the start the machine's clock is compared with the newest entry; during a run with CLOCK_BOOTTIME, every time that
it is read. From the moment it is found wrong, time goes on along CLOCK_BOOTTIME from the last moment that can be relied
on: nothing is ever dated by a clock that has just jumped. What was found stands until operators confirm or correct the
time (`apply`), across restarts too: it is journaled as a halt, whose code comes back as `standing`.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from cassiopeia import RELEASE_YEAR
from cassiopeia.errors import InternalError, Refused
from cassiopeia.journal.entry import ClockEpoch

CODE_PREFIX: Final = "clock-"
BACK: Final = "clock-back"
LEAP: Final = "clock-leap"
DRIFT: Final = "clock-drift"
IMPLAUSIBLE: Final = "clock-implausible"

TOLERANCE_S: Final = 60
# What adjtimex(2) lets a clock be slewed by at most; a crystal that is worse is broken.
TOLERANCE_PPM: Final = 500
BACK_AT_MOST: Final = dt.timedelta(days=30)
AHEAD_AT_MOST: Final = dt.timedelta(days=400)
_LONGEST_USE: Final = dt.timedelta(days=100 * 366)
_RELEASED: Final = dt.datetime(RELEASE_YEAR, 1, 1, tzinfo=dt.UTC)
_REMEDY: Final = (
    "compare with a clock that you trust, then confirm or correct the time: cassiopeia order make confirm-clock"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockVerdict:
    """What is thought of the clock: a stable code (empty when it is fine) and a sentence for the operator."""

    state: Literal["fine", "suspicious", "implausible"]
    code: str = ""
    message: str = ""

    @property
    def may_issue(self) -> bool:
        return self.state == "fine"

    @property
    def may_renew_crls(self) -> bool:
        return self.state != "implausible"


FINE: Final = ClockVerdict(state="fine")


class Clock:
    """The time as far as the signer knows it. `check` comes first, with what the journal says.

    `offset_s` is what the newest clock epoch of the journal adds to the machine's clock, `standing` the code of a halt
    that an earlier run found reason for and nobody has ended. `wall` and `boot` are seconds: since 1970, and of
    CLOCK_BOOTTIME.
    """

    def __init__(
        self,
        *,
        leap_days: int = 3,
        offset_s: int = 0,
        standing: str = "",
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._leap = dt.timedelta(days=leap_days)
        self._offset_s = offset_s
        self._standing = standing
        self._wall = wall
        self._boot = boot
        self._verdict: ClockVerdict | None = None
        # From the anchor on, CLOCK_BOOTTIME says what the time must be; `_floor_s` is what was said last.
        self._anchor_s = self._anchor_boot_s = self._floor_s = 0.0
        self._on_boot_time = False

    @property
    def boot_seconds(self) -> int:
        """CLOCK_BOOTTIME, whole seconds: what operators refer to when they say what the time was."""
        return int(self._boot())

    @property
    def offset_s(self) -> int:
        """By how much operators have corrected the machine's clock."""
        return self._offset_s

    def allow_leap(self, days: int) -> None:
        """How far the clock may be ahead at a start, which is when it is asked."""
        self._leap = dt.timedelta(days=days)

    def check(self, last_entry: dt.datetime | None) -> ClockVerdict:
        """Compare, given the time of the journal's newest entry (None: it is empty); cheap enough for every turn."""
        if self._verdict is None:
            self._verdict = self._begin(last_entry)
        elif last_entry is not None:
            self._floor_s = max(self._floor_s, last_entry.timestamp())
        self._reckon()
        return self._verdict

    def now(self) -> dt.datetime:
        """The time that entries, certificates and CRLs carry: whole seconds, UTC, never falling within an epoch."""
        # RFC 5280 4.1.2.5: no fractions of a second.
        self._floor_s = max(self._floor_s, self._reckon())
        return _moment(self._floor_s)

    def epoch_at(self, *, boot_seconds: int, true_time: dt.datetime) -> ClockEpoch:
        """What operators say (it was `true_time` at `boot_seconds` of this boot), as an epoch that begins now.

        Raises Refused for what cannot be.
        """
        elapsed_s = self._boot() - boot_seconds
        if elapsed_s < -1:
            raise Refused(
                f"this boot has lasted {self.boot_seconds} seconds and not yet {boot_seconds}: make the order anew "
                "from the signer's newest status",
                code="order-clock",
                field="boot_seconds",
            )
        if not _RELEASED <= true_time <= _RELEASED + _LONGEST_USE:
            raise Refused(
                f"it cannot be {_shown(true_time)}: this release is of {RELEASE_YEAR}; give the true time",
                code="order-clock",
                field="true_time",
            )
        wall_s = self._wall()
        machine_s = int(wall_s)
        # Rather a second behind than ahead: a certificate must not be from the future.
        offset_s = math.floor(true_time.timestamp() + elapsed_s - wall_s)
        return ClockEpoch(machine_time=_moment(machine_s), true_time=_moment(machine_s + offset_s))

    def apply(self, epoch: ClockEpoch) -> None:
        """Operators have spoken: a new clock epoch begins, in which time may begin earlier than it was believed."""
        self._offset_s = _offset_s(epoch)
        self._standing = ""
        self._verdict = FINE
        self._anchor(self._corrected_s())
        self._floor_s = self._anchor_s

    def _begin(self, last_entry: dt.datetime | None) -> ClockVerdict:
        """The comparison at the start; sets the moment from which CLOCK_BOOTTIME counts."""
        shown = _moment(self._corrected_s())
        verdict = self._compare(shown, last_entry)
        if verdict is FINE and self._standing:
            verdict = ClockVerdict(
                state="suspicious",
                code=self._standing,
                message=f"the clock shows {_shown(shown)}; an earlier run had reason to doubt it; {_REMEDY}",
            )
        if last_entry is not None:
            self._floor_s = last_entry.timestamp()
        if verdict.code == BACK or not verdict.may_renew_crls:
            # The newest entry is the latest time that there is proof of.
            self._anchor(max(self._floor_s, _RELEASED.timestamp()) if last_entry is None else self._floor_s)
            self._on_boot_time = True
        else:
            self._anchor(self._corrected_s())
        return verdict

    def _compare(self, shown: dt.datetime, last_entry: dt.datetime | None) -> ClockVerdict:
        if shown < _RELEASED:
            return self._implausible(f"the clock shows {_shown(shown)}, and this release is of {RELEASE_YEAR}")
        if last_entry is None:
            return FINE
        gap = shown - last_entry
        compared = f"the clock shows {_shown(shown)}, {_span(gap)} the newest journal entry"
        if not -BACK_AT_MOST <= gap <= AHEAD_AT_MOST:
            return self._implausible(compared)
        if gap < -dt.timedelta(seconds=TOLERANCE_S):
            return self._suspicious(BACK, compared, gap)
        if gap > self._leap:
            return self._suspicious(LEAP, compared, gap)
        return FINE

    def _reckon(self) -> float:
        """Seconds since 1970: by the machine's clock while it keeps pace with CLOCK_BOOTTIME, else by the latter."""
        if self._verdict is None:
            raise InternalError("the clock was read before it was compared with the journal")
        elapsed_s = self._boot() - self._anchor_boot_s
        expected_s = self._anchor_s + elapsed_s
        if self._on_boot_time:
            return expected_s
        corrected_s = self._corrected_s()
        drift_s = corrected_s - expected_s
        if abs(drift_s) <= max(TOLERANCE_S, elapsed_s * TOLERANCE_PPM / 1_000_000):
            return corrected_s
        self._on_boot_time = True
        if self._verdict is FINE:
            drift = dt.timedelta(seconds=round(drift_s))
            self._verdict = self._suspicious(
                DRIFT,
                f"the machine's clock has jumped to {_shown(_moment(corrected_s))}, {_span(drift)} the time that has "
                "passed since the start",
                drift,
            )
        return expected_s

    def _suspicious(self, code: str, what: str, by: dt.timedelta) -> ClockVerdict:
        hint = ""
        # Whoever sets a wrong clock right moves it by what the correction adds; the rest is the time away.
        away = by - dt.timedelta(seconds=self._offset_s)
        if self._offset_s and -dt.timedelta(seconds=TOLERANCE_S) <= away <= self._leap:
            hint = " (was the machine's clock set right? then the correction that was ordered is no longer needed)"
        message = f"{what}{hint}: nothing is issued, CRLs are signed on; {_REMEDY}"
        return ClockVerdict(state="suspicious", code=code, message=message)

    def _implausible(self, what: str) -> ClockVerdict:
        message = f"{what}: nothing is issued, no CRL is signed; {_REMEDY}"
        return ClockVerdict(state="implausible", code=IMPLAUSIBLE, message=message)

    def _anchor(self, seconds: float) -> None:
        self._anchor_s, self._anchor_boot_s = seconds, self._boot()
        self._on_boot_time = False

    def _corrected_s(self) -> float:
        return self._wall() + self._offset_s


def _offset_s(epoch: ClockEpoch) -> int:
    return round((epoch.true_time - epoch.machine_time).total_seconds())


def _moment(seconds: float) -> dt.datetime:
    # A machine may show any number; year 9999 is where datetime and GeneralizedTime end.
    return dt.datetime.fromtimestamp(min(max(int(seconds), 0), 253_402_300_799), dt.UTC)


def _shown(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


def _span(difference: dt.timedelta) -> str:
    seconds = abs(difference.total_seconds())
    where = "behind" if difference < dt.timedelta(0) else "ahead of"
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} {where}"
    return f"{seconds:.0f} seconds {where}"
