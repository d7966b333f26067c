"""What orders add up to: for any orders in any order, the last word on each thing stands, and on nothing else."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.journal.order import (
    CAPS,
    LONGEST_RAISE_HOURS,
    Arguments,
    BlockKey,
    ConfirmClock,
    DisableValidator,
    EnableValidator,
    HaltAuthority,
    RaiseCap,
    ResumeAuthority,
    UnblockKey,
)
from cassiopeia.journal.standing import InForce

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
NAMES = st.sampled_from(["assured_2026_1", "assured_2026_2"])
KEY_IDS = st.sampled_from([b"a" * 8, b"b" * 8])
HASHES = st.sampled_from([b"a" * 32, b"b" * 32])
ORDERS = st.one_of(
    st.builds(HaltAuthority, authority=NAMES),
    st.builds(ResumeAuthority, authority=NAMES),
    st.builds(DisableValidator, validator=KEY_IDS),
    st.builds(EnableValidator, validator=KEY_IDS),
    st.builds(BlockKey, key_hash=HASHES),
    st.builds(UnblockKey, key_hash=HASHES),
    st.builds(
        RaiseCap,
        cap=st.sampled_from(list(CAPS)),
        limit=st.integers(1, 10),
        hours=st.integers(1, LONGEST_RAISE_HOURS),
    ),
    st.builds(ConfirmClock, boot_seconds=st.integers(0, 9), true_time=st.just(NOW)),
)
PAIRS: tuple[tuple[type[Arguments], type[Arguments], str], ...] = (
    (HaltAuthority, ResumeAuthority, "halted_authorities"),
    (DisableValidator, EnableValidator, "disabled_validators"),
    (BlockKey, UnblockKey, "blocked_keys"),
)


def fold(orders: list[tuple[Arguments, dt.datetime]], *, begin: InForce | None = None) -> InForce:
    in_force = begin or InForce()
    for arguments, at in orders:
        in_force = in_force.after(arguments, at=at)
    return in_force


def about(arguments: Arguments) -> str | bytes:
    match arguments:
        case HaltAuthority(authority=name) | ResumeAuthority(authority=name):
            return name
        case DisableValidator(validator=octets) | EnableValidator(validator=octets):
            return octets
        case BlockKey(key_hash=octets) | UnblockKey(key_hash=octets):
            return octets
        case _:
            return ""


def timed(orders: list[Arguments]) -> list[tuple[Arguments, dt.datetime]]:
    return [(each, NOW + dt.timedelta(hours=number)) for number, each in enumerate(orders)]


@given(st.lists(ORDERS, max_size=30))
def test_the_last_word_stands(orders: list[Arguments]) -> None:
    in_force = fold(timed(orders))
    for restricts, loosens, field in PAIRS:
        last = {about(each): type(each) for each in orders if isinstance(each, restricts | loosens)}
        assert getattr(in_force, field) == {name for name, kind in last.items() if kind is restricts}


@given(st.lists(ORDERS, max_size=30), st.integers(0, 1000))
def test_a_cap_is_raised_by_the_newest_order_about_it_and_no_longer_than_that_says(
    orders: list[Arguments], hours: int
) -> None:
    now = NOW + dt.timedelta(hours=hours)
    raised = fold(timed(orders)).raised(now=now)
    newest: dict[str, tuple[RaiseCap, dt.datetime]] = {}
    for each, at in timed(orders):
        if isinstance(each, ConfirmClock):
            newest.clear()
        elif isinstance(each, RaiseCap):
            newest[each.cap] = each, at
    expected = {cap: each.limit for cap, (each, at) in newest.items() if now < at + dt.timedelta(hours=each.hours)}
    assert {cap: each.limit for cap, each in raised.items()} == expected


@given(st.lists(ORDERS, max_size=30), st.integers(0, 30))
def test_a_restart_in_between_changes_nothing(orders: list[Arguments], place: int) -> None:
    every = timed(orders)
    assert fold(every[place:], begin=fold(every[:place])) == fold(every)


@given(st.lists(ORDERS, max_size=30), ORDERS)
def test_a_restriction_said_twice_is_said_once(orders: list[Arguments], last: Arguments) -> None:
    once = fold(timed([*orders, last]))
    if not isinstance(last, RaiseCap):
        assert fold([(last, NOW)], begin=once) == once
