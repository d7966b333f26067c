from __future__ import annotations

import datetime as dt

import pytest
from tests.support.machine_clock import START, Machine

from cassiopeia import RELEASE_YEAR
from cassiopeia.errors import InternalError, Refused
from cassiopeia.signer.clock import BACK, DRIFT, IMPLAUSIBLE, LEAP, Clock

SECOND = dt.timedelta(seconds=1)
MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)


def correct(clock: Clock, machine: Machine) -> None:
    """Operators say the truth."""
    clock.apply(clock.epoch_at(boot_seconds=clock.boot_seconds, true_time=machine.true_time))


def test_the_machines_own_clocks_are_read_by_default() -> None:
    clock = Clock()
    assert clock.check(None).state == "fine"
    assert abs(clock.now() - dt.datetime.now(dt.UTC)) < DAY
    assert clock.now().microsecond == 0
    assert clock.boot_seconds > 0


def test_nothing_is_dated_before_the_clock_was_compared() -> None:
    with pytest.raises(InternalError, match="before it was compared"):
        Machine().clock().now()


@pytest.mark.parametrize(
    ("gap", "state", "code"),
    [
        (dt.timedelta(0), "fine", ""),
        (-MINUTE, "fine", ""),
        (-MINUTE - SECOND, "suspicious", BACK),
        (-30 * DAY, "suspicious", BACK),
        (-30 * DAY - SECOND, "implausible", IMPLAUSIBLE),
        (-365 * DAY, "implausible", IMPLAUSIBLE),
        (3 * DAY, "fine", ""),
        (3 * DAY + SECOND, "suspicious", LEAP),
        (365 * DAY, "suspicious", LEAP),
        (400 * DAY, "suspicious", LEAP),
        (400 * DAY + SECOND, "implausible", IMPLAUSIBLE),
    ],
)
def test_at_the_start_the_clock_is_compared_with_the_newest_entry(gap: dt.timedelta, state: str, code: str) -> None:
    verdict = Machine().clock().check(START - gap)
    assert (verdict.state, verdict.code) == (state, code)
    assert verdict.may_issue == (state == "fine")
    assert verdict.may_renew_crls == (state != "implausible")
    assert bool(verdict.message) == (state != "fine")
    if verdict.message:
        assert "cassiopeia order make confirm-clock" in verdict.message


def test_a_first_start_believes_what_is_plausible() -> None:
    assert Machine().clock().check(None).state == "fine"
    assert Machine(wall=Machine().wall + 1000 * DAY.total_seconds()).clock().check(None).state == "fine"


def test_a_machine_without_a_battery_boots_in_1970() -> None:
    machine = Machine(wall=12.0)
    clock = machine.clock()
    verdict = clock.check(None)
    assert (verdict.code, clock.now()) == (IMPLAUSIBLE, dt.datetime(RELEASE_YEAR, 1, 1, tzinfo=dt.UTC))
    assert "1970-01-01 00:00:12Z" in verdict.message
    correct(clock, machine)
    assert (clock.check(None).state, clock.now()) == ("fine", machine.true_time)


def test_before_this_release_no_clock_is_right_whatever_the_journal_says() -> None:
    before = dt.datetime(RELEASE_YEAR, 1, 1, tzinfo=dt.UTC) - SECOND
    assert Machine(wall=before.timestamp()).clock().check(before - MINUTE).code == IMPLAUSIBLE


@pytest.mark.parametrize("gap", [-2 * MINUTE, -20 * DAY, -365 * DAY, 500 * DAY])
def test_a_clock_that_cannot_be_right_dates_nothing(gap: dt.timedelta) -> None:
    """The newest entry is the latest time that there is proof of; from there on time is counted."""
    machine = Machine()
    last = START - gap
    clock = machine.clock()
    clock.check(last)
    assert clock.now() == last
    machine.pass_time(DAY.total_seconds())
    machine.set_clock(by=5 * DAY)
    clock.check(last)
    assert clock.now() == last + DAY


def test_a_long_absence_is_dated_by_the_clock() -> None:
    """CRLs have to be signed, and most often it is true."""
    clock = Machine().clock()
    assert clock.check(START - 20 * DAY).code == LEAP
    assert clock.now() == START


def test_a_jump_behind_a_leap_changes_neither_the_verdict_nor_the_time() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.check(START - 20 * DAY)
    machine.set_clock(by=DAY)
    machine.pass_time(60)
    assert (clock.check(START).code, clock.now()) == (LEAP, START + MINUTE)


@pytest.mark.parametrize("seconds", [-61, 61, 3600, -365 * 86_400, 365 * 86_400])
def test_a_jump_during_a_run_is_seen_by_whoever_reads_the_time(seconds: int) -> None:
    machine = Machine()
    clock = machine.clock()
    clock.check(START - MINUTE)
    machine.pass_time(600)
    assert clock.now() == machine.true_time
    machine.set_clock(by=seconds * SECOND)
    machine.pass_time(10)
    assert clock.now() == machine.true_time
    verdict = clock.check(START)
    assert (verdict.state, verdict.code) == ("suspicious", DRIFT)
    machine.pass_time(5 * 86_400)
    assert clock.now() == machine.true_time
    machine.set_clock(by=-seconds * SECOND)
    assert clock.check(START).code == DRIFT


@pytest.mark.parametrize("seconds", [-60, -2, 1, 60])
def test_small_corrections_are_followed_and_time_never_falls(seconds: int) -> None:
    machine = Machine()
    clock = machine.clock()
    clock.check(None)
    before = clock.now()
    machine.set_clock(by=seconds * SECOND)
    assert clock.check(None).state == "fine"
    assert clock.now() == max(before, machine.shown_time)
    machine.pass_time(61)
    assert clock.now() == machine.shown_time


def test_a_clock_may_be_slewed_for_weeks_as_far_as_the_kernel_does() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.check(None)
    for _ in range(60):
        machine.pass_time(86_400, parts_per_million=450)
        assert clock.check(None).state == "fine"
    machine.pass_time(30 * 86_400, parts_per_million=3000)
    assert clock.check(None).code == DRIFT


def test_a_suspended_machine_that_wakes_up_is_no_jump() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.check(None)
    machine.pass_time(20 * 86_400)
    assert clock.check(START).state == "fine"
    assert clock.now() == machine.true_time


def test_entries_never_become_older() -> None:
    machine = Machine()
    clock = machine.clock()
    last = START + 30 * SECOND
    assert clock.check(last).state == "fine"
    assert clock.now() == last
    clock.check(last + 20 * SECOND)
    assert clock.now() == last + 20 * SECOND
    machine.pass_time(51)
    assert clock.now() == machine.true_time


def test_operators_correct_the_time_and_it_holds_across_restarts() -> None:
    machine = Machine()
    machine.set_clock(by=-365 * DAY)
    clock = machine.clock()
    assert clock.check(START - MINUTE).code == IMPLAUSIBLE
    asked_at, asked = clock.boot_seconds, machine.true_time
    machine.pass_time(7200)  # people sign the order
    epoch = clock.epoch_at(boot_seconds=asked_at, true_time=asked)
    assert epoch.machine_time == machine.shown_time
    assert epoch.true_time == machine.true_time
    clock.apply(epoch)
    assert clock.check(epoch.true_time).may_issue
    assert clock.now() == machine.true_time
    assert clock.offset_s == 365 * 86_400

    machine.power_cut()
    again = machine.clock(offset_s=clock.offset_s)
    assert again.check(epoch.true_time).may_issue
    assert again.now() == machine.true_time


def test_a_correction_backwards_begins_an_epoch_in_which_time_is_earlier() -> None:
    machine = Machine()
    machine.set_clock(by=100 * DAY)
    clock = machine.clock()
    assert clock.check(START).code == LEAP
    assert clock.now() == START + 100 * DAY  # entries and CRLs were dated so
    correct(clock, machine)
    assert clock.now() == START
    assert clock.check(START).may_issue


def test_what_an_earlier_run_found_stands_until_it_is_ended() -> None:
    machine = Machine()
    clock = machine.clock(standing=DRIFT)
    verdict = clock.check(START - MINUTE)
    assert (verdict.state, verdict.code) == ("suspicious", DRIFT)
    assert "an earlier run" in verdict.message
    correct(clock, machine)
    assert clock.check(START).may_issue


def test_what_is_found_now_counts_more_than_what_was_found_before() -> None:
    machine = Machine()
    assert machine.clock(standing=DRIFT).check(START - 500 * DAY).code == IMPLAUSIBLE
    assert machine.clock(standing=DRIFT).check(START - 10 * DAY).code == LEAP


def test_a_clock_that_was_set_right_needs_its_correction_no_longer() -> None:
    """The order that says so is the same: what the time was."""
    machine = Machine()
    machine.set_clock(by=-200 * DAY)
    clock = machine.clock()
    clock.check(START - MINUTE)
    correct(clock, machine)
    machine.set_clock(by=200 * DAY)
    verdict = clock.check(START)
    assert verdict.code == DRIFT
    assert "was the machine's clock set right?" in verdict.message
    assert clock.now() == machine.true_time
    correct(clock, machine)
    assert (clock.check(START).may_issue, clock.offset_s, clock.now()) == (True, 0, machine.true_time)


def test_an_order_for_a_moment_that_has_not_come_is_refused() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.check(None)
    with pytest.raises(Refused, match="make the order anew") as refused:
        clock.epoch_at(boot_seconds=clock.boot_seconds + 10, true_time=START)
    assert (refused.value.code, refused.value.field) == ("order-clock", "boot_seconds")


def test_a_time_that_cannot_have_been_is_refused() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.check(None)
    with pytest.raises(Refused, match=f"this release is of {RELEASE_YEAR}") as refused:
        clock.epoch_at(boot_seconds=1, true_time=dt.datetime(1926, 11, 23, tzinfo=dt.UTC))
    assert (refused.value.code, refused.value.field) == ("order-clock", "true_time")


@pytest.mark.parametrize("wall", [-5.0, 1e15])
def test_whatever_number_a_machine_shows_is_survived(wall: float) -> None:
    machine = Machine(wall=wall)
    clock = machine.clock()
    assert clock.check(START).code == IMPLAUSIBLE
    assert clock.now() == START


def test_a_moment_counts_in_minutes_hours_and_days() -> None:
    messages = [Machine().clock().check(START + gap).message for gap in (2 * MINUTE, dt.timedelta(hours=5), 6 * DAY)]
    for message, words in zip(
        messages, ["2 minutes behind", "5 hours behind", "6 days behind the newest journal entry"], strict=True
    ):
        assert words in message
    assert "61 seconds behind" in Machine().clock().check(START + 61 * SECOND).message
