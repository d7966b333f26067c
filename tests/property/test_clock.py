"""Whatever a machine's clock does: time never falls within an epoch, no jump dates anything, and orders always help."""

from __future__ import annotations

import datetime as dt

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support.machine_clock import START, Machine

from cassiopeia.signer.clock import IMPLAUSIBLE, TOLERANCE_PPM, TOLERANCE_S, Clock

YEARS = 3 * 365 * 86_400
JUMPS = st.one_of(st.integers(-70, 70), st.integers(-YEARS, YEARS))


class ClockedSigner(RuleBasedStateMachine):
    """A signer that reads the time, writes entries, dies, and is put right by its operators."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()
        self.clock = Clock()
        self.offset_s = 0
        self.last: dt.datetime | None = None
        self.standing = ""
        self.anchor = (0.0, 0.0)

    @initialize(jump=JUMPS)
    def first_start(self, jump: int) -> None:
        self.machine.set_clock(by=dt.timedelta(seconds=jump))
        self.start()

    def start(self) -> None:
        self.clock = self.machine.clock(offset_s=self.offset_s, standing=self.standing)
        self.note_verdict()
        self.anchor = (self.clock.now().timestamp(), self.machine.boot)

    def note_verdict(self) -> None:
        """As the signer does: a halt is journaled, and its code is there at the next start."""
        verdict = self.clock.check(self.last)
        if not verdict.may_issue:
            self.standing = self.standing or verdict.code
        assert verdict.may_issue == (not self.standing)

    @rule(seconds=st.integers(0, 10_000_000), slew=st.integers(-TOLERANCE_PPM // 2, TOLERANCE_PPM // 2))
    def pass_time(self, seconds: int, slew: int) -> None:
        self.machine.pass_time(seconds, parts_per_million=slew)

    @rule(jump=JUMPS)
    def set_clock(self, jump: int) -> None:
        self.machine.set_clock(by=dt.timedelta(seconds=jump))

    @rule()
    def write(self) -> None:
        """An entry never is older than the one before it, unless a clock epoch begins with it."""
        now = self.clock.now()
        assert self.last is None or now >= self.last
        self.last = now

    @rule(seconds=st.integers(1, 10_000_000))
    def restart(self, seconds: int) -> None:
        self.machine.power_cut(seconds)
        self.start()

    @rule(signing=st.integers(0, 100_000))
    def correct(self, signing: int) -> None:
        """An order always helps, however long it takes to be signed."""
        asked_at, asked = self.clock.boot_seconds, self.machine.true_time
        self.machine.pass_time(signing)
        self.clock.apply(self.clock.epoch_at(boot_seconds=asked_at, true_time=asked))
        self.offset_s = self.clock.offset_s
        self.standing = ""
        self.last = self.clock.now()
        self.anchor = (self.last.timestamp(), self.machine.boot)
        assert self.clock.check(self.last).may_issue
        assert dt.timedelta(0) <= self.machine.true_time - self.clock.now() <= dt.timedelta(seconds=2)

    @invariant()
    def time_goes_on_as_long_as_the_machine_has_run(self) -> None:
        """Nobody who sets the machine's clock during a run moves the signer's by more than the tolerance."""
        self.note_verdict()
        elapsed = self.machine.boot - self.anchor[1]
        error = self.clock.now().timestamp() - (self.anchor[0] + elapsed)
        assert abs(error) <= max(TOLERANCE_S, elapsed * TOLERANCE_PPM / 1_000_000) + TOLERANCE_S + 2


TestClockedSigner = ClockedSigner.TestCase
TestClockedSigner.settings = settings(max_examples=60, stateful_step_count=30)


@given(st.integers(-YEARS, YEARS), st.integers(0, YEARS), st.integers(0, 1_000_000))
def test_a_jump_beyond_the_tolerance_stops_issuance(jump: int, before: int, after: int) -> None:
    machine = Machine()
    clock = machine.clock()
    clock.check(START)
    machine.pass_time(before)
    machine.set_clock(by=dt.timedelta(seconds=jump))
    machine.pass_time(after)
    tolerance = max(TOLERANCE_S, (before + after) * TOLERANCE_PPM / 1_000_000)
    assert clock.check(START).may_issue == (abs(jump) <= tolerance)


@given(st.floats(-1e12, 1e12), st.integers(0, 100_000).map(lambda days: START + dt.timedelta(days=days)))
def test_whatever_a_machine_shows_it_dates_nothing_implausible(wall: float, last: dt.datetime) -> None:
    machine = Machine(wall=wall)
    clock = machine.clock()
    verdict = clock.check(last)
    if verdict.code == IMPLAUSIBLE:
        assert clock.now() == last
    else:
        assert last <= clock.now() <= last + dt.timedelta(days=401)
