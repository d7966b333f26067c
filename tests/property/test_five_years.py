"""Five years of an authority, day by day: random calendars, volumes, halts, and operators who come when they are told.

Sub-CAs are chosen by the policy's own rule, and the duties are those that `status` would have told on each day.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.property.test_calendar import declaration_of, hierarchies
from tests.support.authorities import default_authority
from tests.support.ca_keys import largest_crl

from cassiopeia.ceremony.calendar import Period, periods_of
from cassiopeia.ceremony.hierarchy import Family, Hierarchy
from cassiopeia.ceremony.planning import make_plan
from cassiopeia.core.authority import HALTED_BY_ORDER, Authority, choose_authority
from cassiopeia.core.crl_size import MAXIMUM_OCTETS, RESPONDERS
from cassiopeia.core.validity import add_months
from cassiopeia.duties import (
    AUTHORITY_FILLS,
    CALENDAR_ENDS,
    CALENDAR_GAP,
    RATE_WINDOW,
    Calendar,
    duties,
)
from cassiopeia.errors import Refused, Unavailable

DAY = dt.timedelta(days=1)
DAYS = 5 * 365 + 2
LEAF = 90 * DAY
# No two months that follow each other have fewer days.
TWO_MONTHS = 59
# So long the rate is that of fewer days than the duties look back for.
_LEARNING = RATE_WINDOW // DAY + 1
_LOOK_EVERY = 5
TEMPLATE = default_authority()


@dataclass(kw_only=True)
class Line:
    """One family of one signer: what it has, what it has issued, and what was so on each day."""

    hierarchy: Hierarchy
    family: Family
    signer_id: int
    start: dt.datetime
    a_day: int
    maximum: int
    authorities: list[Authority]
    issued: Counter[str] = field(default_factory=Counter)
    halted: frozenset[str] = frozenset()
    days: list[Calendar] = field(default_factory=list)
    gaps: list[int] = field(default_factory=list)
    told_since: int | None = None
    last_numbers: Counter[int] = field(default_factory=Counter)

    def calendar(self, day: int) -> Calendar:
        before = self.days[day - RATE_WINDOW // DAY].issued if day >= RATE_WINDOW // DAY else {}
        return Calendar(
            now=self.start + day * DAY,
            authorities=tuple(self.authorities),
            issuers={},
            offline=(),
            issued=dict(self.issued),
            recently={name: count - before.get(name, 0) for name, count in self.issued.items()},
            on_signers=None,
            halted=self.halted,
        )

    def choose(self, day: int, *, lasts: dt.timedelta = LEAF) -> Authority:
        now = self.start + day * DAY
        return choose_authority(
            self.authorities,
            family=self.family.name,
            signer_id=self.signer_id,
            now=now,
            not_after=now + lasts,
            issued=self.issued,
            idle=dict.fromkeys(self.halted, HALTED_BY_ORDER),
        )

    def add(self, period: Period) -> None:
        """One sub-CA more for this period, as a ceremony makes it."""
        years = self.hierarchy.time_of(self.family).outlives_years
        self.last_numbers[period.year] += 1
        number = 100 + self.last_numbers[period.year]
        self.authorities.append(
            dataclasses.replace(
                TEMPLATE,
                name=f"{self.family.name}_{period.year}_{number}",
                family=self.family.name,
                year=period.year,
                number=number,
                signer_id=self.signer_id,
                not_before=period.start,
                issues_from=period.start,
                issues_until=period.end,
                not_after=add_months(period.end, years * 12) - dt.timedelta(seconds=1),
                maximum_certificates=self.maximum,
            )
        )


@dataclass(frozen=True, kw_only=True)
class Event:
    """What operators do to a sub-CA that issues on this day: it is halted for some days, or retired for good."""

    day: int
    halts_for: int
    """0: it is retired."""


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """A line of a hierarchy whose first ceremony is held at any moment."""
    hierarchy = draw(hierarchies())
    start = draw(st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2030, 1, 1), timezones=st.just(dt.UTC)))  # noqa: DTZ001 - hypothesis adds the zone
    plan = make_plan(declaration_of(hierarchy), now=start)
    places = sorted({(each.family, each.signer_id) for each in plan.stretches})
    name, signer_id = draw(st.sampled_from(places)) if places else (hierarchy.family[0].name, 1)
    [family] = (each for each in hierarchy.family if each.name == name)
    maximum = draw(st.sampled_from((300, 3_000, TEMPLATE.maximum_certificates)))
    # From sub-CAs that are never full to such as last for three weeks.
    a_day = draw(st.integers(0, maximum // 20))
    ends = {each.name: each.not_after for each in plan.authorities}
    return Line(
        hierarchy=hierarchy,
        family=family,
        signer_id=signer_id,
        start=plan.begin,
        a_day=a_day,
        maximum=maximum,
        authorities=[
            dataclasses.replace(
                TEMPLATE,
                name=each.name,
                family=each.family,
                year=each.issues_from.year,
                number=int(each.name.rpartition("_")[2]),
                signer_id=each.signer_id,
                not_before=each.issues_from,
                issues_from=each.issues_from,
                issues_until=each.issues_until,
                not_after=ends[each.name],
                maximum_certificates=maximum,
            )
            for each in plan.stretches
            if (each.family, each.signer_id) == (name, signer_id)
        ],
    )


events = st.lists(
    st.builds(Event, day=st.integers(1, DAYS - 1), halts_for=st.sampled_from((0, 1, 10, 100))), max_size=4
)


@settings(
    max_examples=25,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(lines().filter(lambda each: each.authorities), events, st.none() | st.integers(0, TWO_MONTHS - 4))
def test_five_years(line: Line, halts: list[Event], reaction: int | None) -> None:
    """`reaction`: so many days after they are told the operators have held a ceremony; None: they never do."""
    resumes: dict[int, set[str]] = {}
    for day in range(DAYS):
        _let_operators_halt(line, day, halts, resumes)
        line.days.append(line.calendar(day))
        if reaction is not None and day % _LOOK_EVERY == 0:
            _let_operators_extend(line, day, reaction)
        _issue(line, day)
        if day % _LOOK_EVERY == 0:
            _check_choice(line, day)

    _check_warnings(line)
    # Who comes when he is told never has a gap, if there was time to tell him, and nobody has halted anything.
    lasts_long = line.a_day * (2 * TWO_MONTHS + _LEARNING + _LOOK_EVERY) <= line.maximum
    if reaction is not None and not halts and lasts_long:
        assert [day for day in line.gaps if day > 2 * TWO_MONTHS] == []
    _check_sizes(line)


def _issue(line: Line, day: int) -> None:
    """A day's certificates. What does not fit at its end waits; a day on which nobody can issue at all is a gap."""
    left = line.a_day
    is_first = True
    while is_first or left:
        chosen = _chosen(line, day)
        if chosen is None:
            line.gaps += [day] * is_first
            return
        is_first = False
        now = line.start + day * DAY
        assert now + LEAF <= chosen.not_after
        assert chosen.issues_from <= now < chosen.issues_until
        taken = min(left, chosen.maximum_certificates - line.issued[chosen.name])
        line.issued[chosen.name] += taken
        left -= taken


def _chosen(line: Line, day: int) -> Authority | None:
    """A leaf of three months may have to wait, and is never refused."""
    try:
        return line.choose(day)
    except Unavailable:
        return None


def _check_choice(line: Line, day: int) -> None:
    """Whatever is wished for: one sub-CA issues, or none; and the duties know of it."""
    chosen = set()
    for months in (1, 3, 12, 24, 36):
        lasts = months * 30 * DAY
        try:
            authority = line.choose(day, lasts=lasts)
        except (Unavailable, Refused):
            continue
        assert line.start + day * DAY + lasts <= authority.not_after
        chosen.add(authority.name)
    assert len(chosen) <= 1
    said = {each.code for each in duties(line.calendar(day))}
    assert (CALENDAR_GAP in said) == (not chosen)


def _check_warnings(line: Line) -> None:
    """Each gap was told on every day of the two months before it, as far as nobody has brought it about by himself."""
    for day in line.gaps:
        if day - 1 in line.gaps:
            continue
        changed = max((each for each in _changes(line) if each <= day), default=0)
        learnt = _resumed(line, day) + _LEARNING
        for before in (1, 20, 40, TWO_MONTHS):
            looked = day - before
            if looked < max(changed, 2) or (before > 1 and looked < learnt):
                continue
            said = {each.code for each in duties(line.days[looked])}
            assert said & {CALENDAR_ENDS, AUTHORITY_FILLS, CALENDAR_GAP}, (day, looked)


def _changes(line: Line) -> Iterator[int]:
    """The days on which something was halted, resumed or retired."""
    before: tuple[Mapping[str, bool], frozenset[str]] | None = None
    for day, calendar in enumerate(line.days):
        state = ({each.name: True for each in calendar.authorities if each.retired}, calendar.halted)
        if before is not None and state != before:
            yield day
        before = state


def _resumed(line: Line, day: int) -> int:
    """The day after the gap before this one: the rate is learnt anew from there."""
    return max((each + 1 for each in line.gaps if each < day), default=0)


def _let_operators_halt(line: Line, day: int, halts: list[Event], resumes: dict[int, set[str]]) -> None:
    line.halted -= resumes.pop(day, set())
    for event in halts:
        if event.day != day:
            continue
        chosen = _chosen(line, day)
        if chosen is None:
            continue
        if event.halts_for:
            line.halted |= {chosen.name}
            resumes.setdefault(day + event.halts_for, set()).add(chosen.name)
        else:
            line.authorities = [
                dataclasses.replace(each, retired=each.retired or each.name == chosen.name) for each in line.authorities
            ]


def _let_operators_extend(line: Line, day: int, reaction: int) -> None:
    told = duties(line.days[day])
    if not told:
        line.told_since = None
        return
    line.told_since = day if line.told_since is None else line.told_since
    if day - line.told_since < reaction:
        return
    line.told_since = None
    now = line.start + day * DAY
    for each in told:
        if each.code == CALENDAR_ENDS:
            for period in periods_of(line.hierarchy, line.family, first=each.due):
                line.add(period)
        else:  # it is full, or will be: more for the period in which that is so
            [period, *_] = periods_of(line.hierarchy, line.family, first=max(now, each.due))
            line.add(period)


def _check_sizes(line: Line) -> None:
    """All that a sub-CA has issued, with as many OCSP responders as it may have, is revoked at once."""
    for each in line.authorities:
        assert line.issued[each.name] <= each.maximum_certificates
        assert line.issued[each.name] + RESPONDERS <= each.crl_room.entries
    fullest = max(line.issued.values(), default=0) + RESPONDERS
    entry = TEMPLATE.crl_room.entry_octets
    assert (
        len(largest_crl("ML-DSA-87" if fullest * entry < MAXIMUM_OCTETS // 2 else "RSA-2048", octets=fullest * entry))
        <= MAXIMUM_OCTETS
    )
