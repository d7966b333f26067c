"""The dates of a certificate, from the subscriber's wishes and the profile's limits.

Owns the arithmetic of RFC 5280 4.1.2.5. All times are whole seconds in UTC. A validity is half-open: a certificate that
is wished from one day to another, or for `1y`, runs up to the instant at which that day begins or that year is over.
Since notAfter itself is still valid (RFC 5280 4.1.2.5), it is one second before: the validity less one second.
"""

from __future__ import annotations

import calendar
import datetime as dt
import re
from dataclasses import dataclass
from typing import Final

from cassiopeia.errors import Refused

ONE_SECOND: Final = dt.timedelta(seconds=1)

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION = re.compile(r"([1-9][0-9]{0,3})([ymd])")
_MONTHS_A_YEAR: Final = 12
_DAYS_IN_FOUR_YEARS: Final = 1461
_LATEST: Final = dt.datetime(9999, 12, 31, tzinfo=dt.UTC)  # RFC 5280 4.1.2.5: what GeneralizedTime can say


@dataclass(frozen=True, kw_only=True, slots=True)
class Validity:
    """notBefore and notAfter, both inclusive."""

    not_before: dt.datetime
    not_after: dt.datetime


def choose_validity(
    *,
    wish_from: str,
    wish_to: str,
    now: dt.datetime,
    ahead_days: int,
    maximum_days: int,
    lenient: bool,
) -> Validity:
    """Dates within the profile's limits, or Refused (`date-invalid`, `date-past`, `date-ahead`, `validity-too-long`).

    `lenient` is for version 1, which says "anything else for now" and "anything else for the profile's maximum", and
    whose clients hear no reasons: what is not understood, a beginning that is past and an end too far away become the
    default, which is never more than the wish.
    """
    now = now.replace(microsecond=0)
    # 1. notBefore: now, or the first instant of the wished day.
    begin = _begin(wish_from, now=now, lenient=lenient)
    if begin - now > dt.timedelta(days=ahead_days):
        until = f"at most {ahead_days} days ahead" if ahead_days else "not ahead: leave the date out"
        raise Refused(
            f"The certificate cannot begin on {wish_from}; this profile begins {until}.",
            code="date-ahead",
            field="wish_from",
        )
    # 2. The end: the wish, at most the profile's.
    latest = begin + dt.timedelta(days=maximum_days)
    end = wished_end(wish_to, begin=begin)
    if end is None:
        if wish_to and not lenient:
            raise Refused(
                f"The end {wish_to[:20]!a} is not understood; write a day, as 2027-05-01, or a time, as 2y, 6m, 90d.",
                code="date-invalid",
                field="wish_to",
            )
        end = latest
    if end > latest:
        if not (lenient or _is_a_leap_day_too_long(wish_to, end - latest, maximum_days)):
            raise Refused(
                f"The end {wish_to} is too far away; this profile lasts at most {maximum_days} days.",
                code="validity-too-long",
                field="wish_to",
            )
        end = latest
    if end <= begin:
        raise Refused(
            f"The end {wish_to} is not after the beginning, {begin:%Y-%m-%d}; wish for a later one.",
            code="date-past",
            field="wish_to",
        )
    return Validity(not_before=begin, not_after=end - ONE_SECOND)


def wished_end(wish_to: str, *, begin: dt.datetime) -> dt.datetime | None:
    """The instant at which the wished validity is over, or None for a wish that says nothing."""
    if (day := _parse_day(wish_to)) is not None:
        return day
    if (duration := _DURATION.fullmatch(wish_to)) is None:
        return None
    count, unit = int(duration[1]), duration[2]
    try:
        if unit == "d":
            return begin + dt.timedelta(days=count)
        return add_months(begin, count * (_MONTHS_A_YEAR if unit == "y" else 1))
    except (OverflowError, ValueError):  # beyond the year 9999
        return _LATEST


def wished_begin(wish_from: str) -> dt.datetime | None:
    """The first instant of the wished day, or None for a wish that names no day."""
    return _parse_day(wish_from)


def add_months(moment: dt.datetime, months: int) -> dt.datetime:
    """The same day and time of a later month; its last day where it has no such day."""
    year, month = divmod(moment.year * _MONTHS_A_YEAR + moment.month - 1 + months, _MONTHS_A_YEAR)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def _begin(wish_from: str, *, now: dt.datetime, lenient: bool) -> dt.datetime:
    if wish_from in ("", "now"):
        return now
    day = _parse_day(wish_from)
    if day is None:
        if lenient:
            return now
        raise Refused(
            f"The beginning {wish_from[:20]!a} is not understood; leave it out, or wish for a day, as 2027-05-01.",
            code="date-invalid",
            field="wish_from",
        )
    if day.date() == now.date():
        return now
    if day < now:
        if lenient:
            return now
        raise Refused(
            f"The beginning {wish_from} is in the past; leave it out to begin now.", code="date-past", field="wish_from"
        )
    return day


def _is_a_leap_day_too_long(wish_to: str, excess: dt.timedelta, maximum_days: int) -> bool:
    """Whether years or months are too long only where the calendar puts a day more into them.

    A profile of 365 days grants `1y`, as 365 days, also when 29 February lies in between.
    """
    in_months = _DURATION.fullmatch(wish_to) is not None and not wish_to.endswith("d")
    return in_months and excess <= dt.timedelta(days=1 + maximum_days // _DAYS_IN_FOUR_YEARS)


def _parse_day(text: str) -> dt.datetime | None:
    if not _DATE.fullmatch(text):
        return None
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    except ValueError:  # as 2026-02-30
        return None
