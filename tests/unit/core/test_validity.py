"""Dates: what is wished, what the profile allows, and the one second."""

from __future__ import annotations

import datetime as dt

import pytest

from cassiopeia.core.validity import Validity, add_months, choose_validity, wished_begin, wished_end
from cassiopeia.errors import Refused

NOW = dt.datetime(2026, 11, 23, 12, 30, 15, 999999, tzinfo=dt.UTC)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def choose(
    wish_from: str = "",
    wish_to: str = "",
    *,
    now: dt.datetime = NOW,
    ahead_days: int = 14,
    maximum_days: int = 730,
    lenient: bool = False,
) -> Validity:
    return choose_validity(
        wish_from=wish_from,
        wish_to=wish_to,
        now=now,
        ahead_days=ahead_days,
        maximum_days=maximum_days,
        lenient=lenient,
    )


@pytest.mark.parametrize(
    ("wish_from", "wish_to", "not_before", "not_after"),
    [
        pytest.param("", "", "2026-11-23T12:30:15", "2028-11-22T12:30:14", id="now-and-the-maximum"),
        pytest.param("now", "1y", "2026-11-23T12:30:15", "2027-11-23T12:30:14", id="a-year"),
        pytest.param("2026-11-23", "6m", "2026-11-23T12:30:15", "2027-05-23T12:30:14", id="today-is-now"),
        pytest.param("2026-11-24", "90d", "2026-11-24T00:00:00", "2027-02-21T23:59:59", id="from-tomorrow"),
        pytest.param("2026-12-07", "2027-01-01", "2026-12-07T00:00:00", "2026-12-31T23:59:59", id="day-to-day"),
        pytest.param("", "2028-11-22", "2026-11-23T12:30:15", "2028-11-21T23:59:59", id="within-the-maximum"),
        pytest.param("2026-12-01", "3m", "2026-12-01T00:00:00", "2027-02-28T23:59:59", id="months-from-a-first"),
        pytest.param("", "2y", "2026-11-23T12:30:15", "2028-11-22T12:30:14", id="a-leap-day-beyond-730-days"),
        pytest.param("", "24m", "2026-11-23T12:30:15", "2028-11-22T12:30:14", id="a-leap-day-in-24-months"),
    ],
)
def test_dates_that_are_granted(wish_from: str, wish_to: str, not_before: str, not_after: str) -> None:
    assert choose(wish_from, wish_to) == Validity(not_before=at(not_before), not_after=at(not_after))


@pytest.mark.parametrize(
    ("wish_from", "wish_to", "code", "field"),
    [
        pytest.param("2026-11-22", "", "date-past", "wish_from", id="yesterday"),
        pytest.param("0001-01-01", "", "date-past", "wish_from", id="long-ago"),
        pytest.param("2026-12-08", "", "date-ahead", "wish_from", id="beyond-two-weeks"),
        pytest.param("9999-12-31", "", "date-ahead", "wish_from", id="the-last-day"),
        pytest.param("tomorrow", "", "date-invalid", "wish_from", id="word"),
        pytest.param("2026-02-30", "", "date-invalid", "wish_from", id="no-such-day"),
        pytest.param("2026-11-24 ", "", "date-invalid", "wish_from", id="trailing-blank"),
        pytest.param("\u0662026-11-24", "", "date-invalid", "wish_from", id="other-digits"),
        pytest.param("", "2026-11-23", "date-past", "wish_to", id="ends-today"),
        pytest.param("2026-11-30", "2026-11-30", "date-past", "wish_to", id="ends-as-it-begins"),
        pytest.param("", "2028-11-23", "validity-too-long", "wish_to", id="a-day-beyond-the-maximum"),
        pytest.param("", "731d", "validity-too-long", "wish_to", id="days"),
        pytest.param("", "25m", "validity-too-long", "wish_to", id="months"),
        pytest.param("", "3y", "validity-too-long", "wish_to", id="years"),
        pytest.param("", "9999y", "validity-too-long", "wish_to", id="beyond-the-calendar"),
        pytest.param("", "9999-12-31", "validity-too-long", "wish_to", id="the-last-day-to"),
        pytest.param("", "0y", "date-invalid", "wish_to", id="zero"),
        pytest.param("", "-1y", "date-invalid", "wish_to", id="negative"),
        pytest.param("", "2w", "date-invalid", "wish_to", id="weeks"),
        pytest.param("", "for ever", "date-invalid", "wish_to", id="words"),
        pytest.param("", "1" * 10_000 + "y", "date-invalid", "wish_to", id="huge"),
    ],
)
def test_dates_that_are_refused(wish_from: str, wish_to: str, code: str, field: str) -> None:
    with pytest.raises(Refused) as refusal:
        choose(wish_from, wish_to)
    assert (refusal.value.code, refusal.value.field) == (code, field)
    assert len(refusal.value.message) < 200


def test_a_profile_without_a_head_start_says_so() -> None:
    with pytest.raises(Refused, match="not ahead") as refusal:
        choose("2026-11-24", ahead_days=0)
    assert refusal.value.code == "date-ahead"
    assert choose("2026-11-23", ahead_days=0).not_before == NOW.replace(microsecond=0)


@pytest.mark.parametrize(
    ("wish_from", "wish_to", "not_before", "not_after"),
    [
        pytest.param("", "", "2026-11-23T12:30:15", "2028-11-22T12:30:14", id="nothing"),
        pytest.param("anything", "anything", "2026-11-23T12:30:15", "2028-11-22T12:30:14", id="anything-else"),
        pytest.param("2026-11-20", "6m", "2026-11-23T12:30:15", "2027-05-23T12:30:14", id="past"),
        pytest.param("", "5y", "2026-11-23T12:30:15", "2028-11-22T12:30:14", id="too-long"),
        pytest.param("2026-12-01", "2y", "2026-12-01T00:00:00", "2028-11-29T23:59:59", id="ahead-with-a-leap-day"),
    ],
)
def test_version_1_takes_anything_else_for_the_default(
    wish_from: str, wish_to: str, not_before: str, not_after: str
) -> None:
    granted = choose(wish_from, wish_to, lenient=True)
    assert granted == Validity(not_before=at(not_before), not_after=at(not_after))


@pytest.mark.parametrize(("wish_from", "wish_to"), [("2027-05-01", ""), ("", "2026-01-01")])
def test_version_1_is_refused_what_would_not_be_the_wish(wish_from: str, wish_to: str) -> None:
    with pytest.raises(Refused):
        choose(wish_from, wish_to, lenient=True)


@pytest.mark.parametrize("begin", ["2027-02-28", "2027-03-01", "2028-02-28", "2028-02-29", "2028-03-01", "2099-12-31"])
@pytest.mark.parametrize(
    ("wish_to", "maximum_days"), [("1y", 365), ("12m", 365), ("2y", 730), ("4y", 1460), ("1m", 31)]
)
def test_a_profile_of_365_days_grants_a_year_from_any_day(begin: str, wish_to: str, maximum_days: int) -> None:
    granted = choose("", wish_to, now=at(begin), maximum_days=maximum_days)
    by_calendar = wished_end(wish_to, begin=at(begin))
    assert by_calendar is not None
    end = min(by_calendar, at(begin) + dt.timedelta(days=maximum_days))
    assert granted == Validity(not_before=at(begin), not_after=end - dt.timedelta(seconds=1))


@pytest.mark.parametrize(
    ("begin", "months", "end"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2028-01-31", 1, "2028-02-29"),
        ("2028-02-29", 12, "2029-02-28"),
        ("2028-02-29", 48, "2032-02-29"),
        ("2026-08-31", 6, "2027-02-28"),
        ("2026-12-31", 1, "2027-01-31"),
        ("2026-11-30", 1, "2026-12-30"),
        ("2026-12-01", 12, "2027-12-01"),
    ],
)
def test_months_end_with_their_last_day(begin: str, months: int, end: str) -> None:
    assert add_months(at(begin), months) == at(end)


def test_wishes_that_say_nothing() -> None:
    assert wished_begin("now") is None
    assert wished_end("anything", begin=NOW) is None
    assert wished_begin("2026-05-04") == at("2026-05-04")
