"""Dates, whatever is wished and whenever: within every limit, and exact to the second."""

from __future__ import annotations

import calendar
import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.core.validity import ONE_SECOND, Validity, add_months, choose_validity, wished_end
from cassiopeia.errors import Refused

MOMENTS = st.datetimes(
    min_value=dt.datetime(2020, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=dt.datetime(2100, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=st.just(dt.UTC),
)
DAYS_NEAR = st.integers(-40, 1200)
DURATIONS = st.builds("{}{}".format, st.integers(0, 10_000), st.sampled_from("ymdw"))


@st.composite
def wishes(draw: st.DrawFn, now: dt.datetime) -> str:
    day = f"{now + dt.timedelta(days=draw(DAYS_NEAR)):%Y-%m-%d}"
    return draw(st.one_of(st.just(""), st.just(day), DURATIONS, st.text(max_size=12), st.dates().map(str)))


@st.composite
def choices(draw: st.DrawFn) -> dict[str, object]:
    now = draw(MOMENTS)
    return {
        "now": now,
        "wish_from": draw(wishes(now)),
        "wish_to": draw(wishes(now)),
        "ahead_days": draw(st.integers(0, 14)),
        "maximum_days": draw(st.integers(1, 1825)),
        "lenient": draw(st.booleans()),
    }


def granted(choice: dict[str, object]) -> Validity | None:
    try:
        return choose_validity(**choice)  # type: ignore[arg-type] # drawn to fit
    except Refused as refusal:
        assert refusal.field in ("wish_from", "wish_to")  # noqa: PT017 - both outcomes are fine, this is the rest of it
        return None


@given(choices())
def test_never_beyond_a_limit(choice: dict[str, object]) -> None:
    validity = granted(choice)
    if validity is not None:
        now, ahead_days, maximum_days = choice["now"], choice["ahead_days"], choice["maximum_days"]
        assert isinstance(now, dt.datetime)
        assert isinstance(ahead_days, int)
        assert isinstance(maximum_days, int)
        floor = now.replace(microsecond=0)
        assert floor <= validity.not_before <= floor + dt.timedelta(days=ahead_days)
        assert validity.not_before <= validity.not_after
        assert validity.not_after - validity.not_before + ONE_SECOND <= dt.timedelta(days=maximum_days)
        assert validity.not_before.microsecond == validity.not_after.microsecond == 0


@given(MOMENTS, st.integers(1, 1825), st.booleans())
def test_without_a_wish_exactly_the_maximum_less_one_second(now: dt.datetime, days: int, lenient: bool) -> None:  # noqa: FBT001 - drawn
    validity = choose_validity(wish_from="", wish_to="", now=now, ahead_days=0, maximum_days=days, lenient=lenient)
    assert validity.not_before == now.replace(microsecond=0)
    assert validity.not_after - validity.not_before == dt.timedelta(days=days, seconds=-1)


@given(MOMENTS, st.integers(1, 1825), st.booleans())
def test_days_wished_are_days_granted(now: dt.datetime, days: int, lenient: bool) -> None:  # noqa: FBT001 - drawn
    validity = choose_validity(
        wish_from="", wish_to=f"{days}d", now=now, ahead_days=0, maximum_days=1825, lenient=lenient
    )
    assert validity.not_after - validity.not_before == dt.timedelta(days=days, seconds=-1)


@given(MOMENTS, st.integers(0, 600))
def test_months_clamp_to_the_end_of_the_month(begin: dt.datetime, months: int) -> None:
    end = add_months(begin, months)
    assert (end.year * 12 + end.month) - (begin.year * 12 + begin.month) == months
    assert end.timetz() == begin.timetz()
    assert end.day == min(begin.day, calendar.monthrange(end.year, end.month)[1])


@given(MOMENTS, st.integers(1, 9999), st.integers(1, 9999), st.sampled_from("ymd"))
def test_a_longer_wish_never_ends_earlier(begin: dt.datetime, one: int, other: int, unit: str) -> None:
    shorter, longer = sorted((one, other))
    ends = wished_end(f"{shorter}{unit}", begin=begin), wished_end(f"{longer}{unit}", begin=begin)
    assert ends[0] is not None
    assert ends[1] is not None
    assert begin < ends[0] <= ends[1]
