"""The calendar of time sub-CAs over random hierarchies: no name twice, no gap, and an extension goes on at its end."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.ceremony.calendar import PlannedAuthority, periods_from, plan_authorities
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.hierarchy import Hierarchy, SignerMachine, check_hierarchy, load_hierarchy
from cassiopeia.ceremony.pins import Pins
from cassiopeia.ceremony.planning import gaps, make_plan
from cassiopeia.core.authority import parse_authority_name
from cassiopeia.core.validity import add_months

DEFAULT = load_hierarchy()
MONTHS = (1, 2, 3, 4, 6, 12)
# Far from the year 9999, and with leap days.
moments = st.datetimes(dt.datetime(2020, 1, 1), dt.datetime(2060, 1, 1), timezones=st.just(dt.UTC))  # noqa: DTZ001 - hypothesis adds the zone


@st.composite
def hierarchies(draw: st.DrawFn) -> Hierarchy:
    """Up to three families with months, spares and validities of their own, and up to three signers."""
    families = DEFAULT.family[: draw(st.integers(1, 3))]
    hierarchy = msgspec.structs.replace(
        DEFAULT,
        time=msgspec.structs.replace(
            DEFAULT.time,
            months=draw(st.sampled_from(MONTHS)),
            periods=draw(st.integers(1, 6)),
            spares=draw(st.integers(0, 2)),
            outlives_years=draw(st.integers(1, 3)),
        ),
        family=tuple(
            msgspec.structs.replace(
                family,
                months=draw(st.none() | st.sampled_from(MONTHS)),
                spares=draw(st.none() | st.integers(0, 2)),
                outlives_years=draw(st.none() | st.integers(1, 3)),
            )
            for family in families
        ),
        signer=tuple(
            SignerMachine(
                id=number, families=tuple(draw(st.sets(st.sampled_from([family.name for family in families]))))
            )
            for number in draw(st.lists(st.integers(1, 126), min_size=1, max_size=3, unique=True))
        ),
    )
    return check_hierarchy(hierarchy, source="drawn")


def by_place(planned: Iterable[PlannedAuthority]) -> dict[tuple[str, int], list[PlannedAuthority]]:
    """Those that are meant to issue, by family and signer, in their order."""
    places: dict[tuple[str, int], list[PlannedAuthority]] = {}
    for each in planned:
        if each.spare == 0:
            places.setdefault((each.family.name, each.signer_id), []).append(each)
    return places


@given(hierarchies(), moments)
def test_names_are_unique_and_say_family_and_year(hierarchy: Hierarchy, now: dt.datetime) -> None:
    planned = plan_authorities(hierarchy, first=now)

    assert len({each.name for each in planned}) == len(planned)
    for each in planned:
        family, year, _ = parse_authority_name(each.name)
        assert (family, year) == (each.family.name, each.period.year)


@given(hierarchies(), moments)
def test_every_family_has_one_that_issues_on_each_of_its_signers_at_every_moment(
    hierarchy: Hierarchy, now: dt.datetime
) -> None:
    places = by_place(plan_authorities(hierarchy, first=now))

    owned = {(family.name, signer) for family in hierarchy.family for signer in hierarchy.signers_of(family)}
    assert set(places) == owned
    for (name, _), those in places.items():
        (family,) = (each for each in hierarchy.family if each.name == name)
        time = hierarchy.time_of(family)
        assert those[0].period.start <= now < those[0].period.end
        for each, following in itertools.pairwise(those):
            assert each.period.end == following.period.start
        # All families go on for as long as [time] does, and not a period longer.
        until = periods_from(now, hierarchy.time)[-1].end
        assert those[-1].period.start < until <= those[-1].period.end
        assert add_months(those[-1].period.start, time.months) == those[-1].period.end
        assert those[-1].period.end <= add_months(
            those[0].period.start, hierarchy.calendar_months(family) + time.months
        )


@given(hierarchies(), moments)
def test_each_period_has_its_spares_which_are_chosen_last_and_none_outlives_its_structure_ca(
    hierarchy: Hierarchy, now: dt.datetime
) -> None:
    plan = make_plan(declaration_of(hierarchy), now=now)
    groups: dict[tuple[str, int, dt.datetime], list[PlannedAuthority]] = {}
    for each in plan.authorities:
        groups.setdefault((each.family.name, each.signer_id, each.period.start), []).append(each)
        years = hierarchy.time_of(each.family).outlives_years
        assert each.not_after == add_months(each.period.end, years * 12) - dt.timedelta(seconds=1)
        assert each.not_after <= plan.structure_ends[each.family.name] <= plan.root_end
    for those in groups.values():
        assert [each.spare for each in those] == list(range(hierarchy.time_of(those[0].family).spares + 1))
        # The lowest number of a period issues first: `core.authority.choose_authority`.
        numbers = [parse_authority_name(each.name)[2] for each in those]
        assert numbers == sorted(numbers)


@given(hierarchies(), moments, st.data())
def test_an_extension_goes_on_where_the_calendar_ended_and_gives_no_number_twice(
    hierarchy: Hierarchy, now: dt.datetime, data: st.DataObject
) -> None:
    made = plan_authorities(hierarchy, first=now)
    taken = {each.name for each in made}
    # Somebody may have changed spares and signers in the meantime.
    later = data.draw(st.sampled_from([hierarchy, more_spares(hierarchy), another_signer(hierarchy)]))
    ends = {place: those[-1].period.end for place, those in by_place(made).items()}
    for family in hierarchy.family:
        for end in {end for (name, _), end in ends.items() if name == family.name}:
            extension = [
                each for each in plan_authorities(later, first=end, taken=taken) if each.family.name == family.name
            ]
            assert not {each.name for each in extension} & taken
            for place, those in by_place(extension).items():
                assert those[0].period.start == ends.get(place, end)


@given(hierarchies(), moments)
def test_numbers_are_never_given_again_in_the_same_period(hierarchy: Hierarchy, now: dt.datetime) -> None:
    first = plan_authorities(hierarchy, first=now)
    again = plan_authorities(hierarchy, first=now, taken={each.name for each in first})

    assert not {each.name for each in first} & {each.name for each in again}
    assert [(each.family.name, each.signer_id, each.period) for each in first] == [
        (each.family.name, each.signer_id, each.period) for each in again
    ]


@given(hierarchies(), moments)
def test_what_is_there_already_is_not_planned_again(hierarchy: Hierarchy, now: dt.datetime) -> None:
    first = plan_authorities(hierarchy, first=now)
    there = {(each.family.name, each.signer_id, each.period) for each in first}

    again = plan_authorities(
        hierarchy,
        first=now,
        taken={each.name for each in first},
        present=lambda family, signer_id, period: (
            hierarchy.time_of(family).spares + 1 if (family.name, signer_id, period) in there else 0
        ),
    )

    assert again == ()


@given(hierarchies(), moments)
def test_a_plan_has_no_gap_until_its_calendar_ends(hierarchy: Hierarchy, now: dt.datetime) -> None:
    plan = make_plan(declaration_of(hierarchy), now=now)

    assert gaps(plan.stretches, now=plan.begin) == ()
    for each in plan.stretches:
        assert plan.begin <= each.issues_from < each.issues_until
    if plan.authorities:
        issuing = [each for each in plan.stretches if each.issues_from < plan.calendar_end]
        places = {(each.family, each.signer_id) for each in plan.stretches}
        for place in places:
            assert (
                max(each.issues_until for each in issuing if (each.family, each.signer_id) == place)
                >= plan.calendar_end
            )


@given(hierarchies(), moments, st.data())
def test_a_hole_in_the_calendar_is_found(hierarchy: Hierarchy, now: dt.datetime, data: st.DataObject) -> None:
    plan = make_plan(declaration_of(hierarchy), now=now)
    if not plan.stretches:
        return
    hole = data.draw(st.sampled_from(plan.stretches))
    place = hole.family, hole.signer_id
    left = [
        each for each in plan.stretches if (each.family, each.signer_id, each.issues_from) != (*place, hole.issues_from)
    ]
    is_last = all(
        each.issues_until <= hole.issues_until for each in plan.stretches if (each.family, each.signer_id) == place
    )

    found = gaps(left, now=plan.begin)

    # The end of a calendar is no gap: that is for `status` to warn of.
    assert [(each.issues_from, each.issues_until) for each in found] == (
        [] if is_last else [(hole.issues_from, hole.issues_until)]
    )


def declaration_of(hierarchy: Hierarchy) -> Declaration:
    return Declaration(source="drawn", hierarchy=hierarchy, profiles={}, pins=Pins())


def more_spares(hierarchy: Hierarchy) -> Hierarchy:
    return msgspec.structs.replace(hierarchy, time=msgspec.structs.replace(hierarchy.time, spares=3))


def another_signer(hierarchy: Hierarchy) -> Hierarchy:
    free = next(number for number in range(1, 127) if number not in {each.id for each in hierarchy.signer})
    changed = msgspec.structs.replace(hierarchy, signer=(SignerMachine(id=free), *hierarchy.signer))
    return check_hierarchy(changed, source="changed")
