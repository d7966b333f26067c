"""When which time sub-CA issues: periods, and the sub-CAs that a hierarchy wants for them.

Owns the names of time sub-CAs, their numbers and their dates. Makes nothing.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from cassiopeia.ceremony.hierarchy import Family, Hierarchy, TimeLevel
from cassiopeia.core.validity import ONE_SECOND, add_months
from cassiopeia.errors import OperatorError

_MONTHS_A_YEAR: Final = 12
_PERIOD: Final = re.compile(r"(2[0-9]{3})-([1-9][0-9]?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Period:
    """A stretch of the calendar in which one time sub-CA of each family issues: from `start` until before `end`."""

    year: int
    number: int
    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedAuthority:
    """A time sub-CA that is to be made; `spare` is 0 for the one that is meant to issue, 1 for the first spare."""

    name: str
    family: Family
    signer_id: int
    spare: int
    period: Period
    not_after: dt.datetime


def periods_from(now: dt.datetime, time: TimeLevel) -> tuple[Period, ...]:
    """The period that holds `now` (aware), and those that follow it; they are numbered from 1 within each year."""
    now = now.astimezone(dt.UTC)
    first = now.year * _MONTHS_A_YEAR + (now.month - 1) // time.months * time.months
    starts = [first + index * time.months for index in range(time.periods + 1)]
    return tuple(
        Period(
            year=start // _MONTHS_A_YEAR,
            number=start % _MONTHS_A_YEAR // time.months + 1,
            start=_first_of_month(start),
            end=_first_of_month(end),
        )
        for start, end in itertools.pairwise(starts)
    )


def periods_of(hierarchy: Hierarchy, family: Family, *, first: dt.datetime) -> tuple[Period, ...]:
    """The periods of a family, from the one that holds `first` on: as many as `[time]`'s calendar needs to its end."""
    until = periods_from(first, hierarchy.time)[-1].end
    time = hierarchy.time_of(family)
    enough = -(-hierarchy.time.months * hierarchy.time.periods // time.months) + 1
    periods = periods_from(first, msgspec.structs.replace(time, periods=enough))
    return tuple(itertools.takewhile(lambda each: each.start < until, periods))


def period_start(text: str, time: TimeLevel) -> dt.datetime:
    """When the period of this name, as 2027-1, begins; raises OperatorError."""
    found = _PERIOD.fullmatch(text)
    most = _MONTHS_A_YEAR // time.months
    if found is None or int(found[2]) > most:
        raise OperatorError(
            f"{text[:20]!a} is no period of this hierarchy: write the year and a number from 1 to {most}, as 2027-1"
        )
    return _first_of_month(int(found[1]) * _MONTHS_A_YEAR + (int(found[2]) - 1) * time.months)


Present = Callable[[Family, int, Period], int]
"""How many sub-CAs of a family a signer has already for a period."""


def _none_present(family: Family, signer_id: int, period: Period) -> int:  # noqa: ARG001 - a `Present`
    return 0


def plan_authorities(
    hierarchy: Hierarchy, *, first: dt.datetime, taken: Collection[str] = (), present: Present = _none_present
) -> tuple[PlannedAuthority, ...]:
    """The time sub-CAs of every family for the period that holds `first`, and those that follow it.

    In each year they are numbered by period, signer and spare. A name that is `taken` gets the next number that is
    free: numbers are never given twice. Only what is not `present` is planned.
    """
    given = set(taken)
    planned: list[PlannedAuthority] = []
    for family in hierarchy.family:
        for each in _of_family(hierarchy, family, first=first, given=given, present=present):
            given.add(each.name)
            planned.append(each)
    return tuple(planned)


def _of_family(
    hierarchy: Hierarchy, family: Family, *, first: dt.datetime, given: Collection[str], present: Present
) -> Iterator[PlannedAuthority]:
    time = hierarchy.time_of(family)
    places = [(signer_id, spare) for signer_id in hierarchy.signers_of(family) for spare in range(time.spares + 1)]
    for period in periods_of(hierarchy, family, first=first):
        for position, (signer_id, spare) in enumerate(places, start=1):
            if spare < present(family, signer_id, period):
                continue
            number = (period.number - 1) * len(places) + position
            while f"{family.name}_{period.year}_{number}" in given:
                number += 1
            yield PlannedAuthority(
                name=f"{family.name}_{period.year}_{number}",
                family=family,
                signer_id=signer_id,
                spare=spare,
                period=period,
                not_after=add_months(period.end, time.outlives_years * _MONTHS_A_YEAR) - ONE_SECOND,
            )


def _first_of_month(months: int) -> dt.datetime:
    """Midnight UTC of the first of a month, counted in months from the year 0."""
    return dt.datetime(months // _MONTHS_A_YEAR, months % _MONTHS_A_YEAR + 1, 1, tzinfo=dt.UTC)
