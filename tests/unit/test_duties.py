"""What operators have to do next, and by when: told in time, in words, and no longer than it is so."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.authorities import NOW, default_authority

from cassiopeia import ops
from cassiopeia.core.authority import Authority, parse_authority_name
from cassiopeia.duties import CODES, NOTICE, Calendar, Duty, OfflineCa, coverage, duties

DAY = dt.timedelta(days=1)
YEAR = 365 * DAY
FIRST, SPARE, SECOND = "unassured_2026_1", "unassured_2026_2", "unassured_2026_3"


def sub_ca(name: str, begin: float, end: float, **changes: Any) -> Authority:
    """It issues from `begin` to `end`, in days from now, and lives for two years longer."""
    family, year, number = parse_authority_name(name)
    return dataclasses.replace(
        default_authority(),
        name=name,
        family=family,
        year=year,
        number=number,
        not_before=NOW + begin * DAY,
        issues_from=NOW + begin * DAY,
        issues_until=NOW + end * DAY,
        not_after=NOW + end * DAY + 2 * YEAR,
        **({"maximum_certificates": 1000} | changes),
    )


def calendar(*authorities: Authority, **changes: Any) -> Calendar:
    quiet = Calendar(
        now=NOW,
        authorities=authorities,
        issuers=dict.fromkeys((each.name for each in authorities), "unassured"),
        offline=(),
        issued={},
        recently={},
        on_signers=None,
    )
    return dataclasses.replace(quiet, **changes)


def said(*authorities: Authority, **changes: Any) -> list[str]:
    return [each.code for each in duties(calendar(*authorities, **changes))]


def only(*authorities: Authority, **changes: Any) -> Duty:
    [duty] = duties(calendar(*authorities, **changes))
    assert duty.remedy
    return duty


def offline(name: str = "root", *, crl_days: float | None = 200, years: float = 20, issuer: str = "root") -> OfflineCa:
    return OfflineCa(
        name=name,
        issuer=issuer,
        not_after=NOW + years * YEAR,
        crl_ends=None if crl_days is None else NOW + crl_days * DAY,
    )


def test_every_code_has_its_place_among_the_concerns() -> None:
    assert set(CODES) <= set(ops.URGENCY)
    assert len(set(CODES)) == len(CODES)


def test_nothing_is_due_with_a_full_calendar() -> None:
    assert said(sub_ca(FIRST, -10, 170), sub_ca(SECOND, 170, 350), offline=(offline(),)) == []


class TestCoverage:
    def test_it_goes_from_one_sub_ca_to_the_next(self) -> None:
        [line] = coverage(
            calendar(sub_ca(FIRST, -10, 100), sub_ca(SECOND, 100, 200), sub_ca("unassured_2027_1", 210, 300))
        )

        assert line.current is not None
        assert (line.family, line.signer_id, line.current.name) == ("unassured", 1, FIRST)
        assert (line.until, line.resumes) == (NOW + 200 * DAY, NOW + 210 * DAY)

    def test_each_family_of_each_signer_has_its_own(self) -> None:
        lines = coverage(
            calendar(
                sub_ca(FIRST, -10, 100),
                sub_ca("assured_2026_1", -10, 90),
                sub_ca(SPARE, -10, 80, signer_id=2),
            )
        )
        assert [(each.family, each.signer_id, (each.until - NOW).days) for each in lines] == [
            ("assured", 1, 90),
            ("unassured", 1, 100),
            ("unassured", 2, 80),
        ]

    @pytest.mark.parametrize("how", ["retired", "halted", "full"])
    def test_a_spare_takes_the_place_of_one_that_cannot(self, how: str) -> None:
        changes: dict[str, Any] = {"halted": frozenset({FIRST})} if how == "halted" else {}
        changes |= {"issued": {FIRST: 1000}} if how == "full" else {}
        [line] = coverage(
            calendar(sub_ca(FIRST, -10, 100, retired=how == "retired"), sub_ca(SPARE, -10, 100), **changes)
        )

        assert line.current is not None
        assert (line.current.name, line.until) == (SPARE, NOW + 100 * DAY)

    def test_the_newest_period_issues_first(self) -> None:
        [line] = coverage(calendar(sub_ca(FIRST, -10, 100), sub_ca(SECOND, -5, 90)))

        assert line.current is not None
        assert (line.current.name, line.until) == (SECOND, NOW + 100 * DAY)


class TestCalendarEnds:
    @pytest.mark.parametrize(("days", "urgencies"), [(63, []), (62, [False]), (14, [True])])
    def test_two_months_before(self, days: int, urgencies: list[bool]) -> None:
        found = duties(calendar(sub_ca(FIRST, -100, days)))

        assert [(each.code, each.is_urgent) for each in found] == [("calendar-ends", each) for each in urgencies]

    def test_it_names_the_last_day_and_the_command(self) -> None:
        end = dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
        duty = only(sub_ca(FIRST, -100, (end - NOW) / DAY))

        assert duty.due == end
        assert duty.what == "the last sub-CA of the family unassured of signer 1 issues until 2026-12-31"
        assert "cassiopeia ceremony extend" in duty.remedy

    def test_a_gap_that_comes_is_told_with_its_end(self) -> None:
        duty = only(sub_ca(FIRST, -100, 30), sub_ca(SECOND, 40, 300))

        assert duty.code == "calendar-ends"
        assert duty.what.endswith(", and the next one begins on 2027-01-02 only")

    def test_a_successor_that_is_full_already_covers_nothing(self) -> None:
        assert said(sub_ca(FIRST, -100, 30), sub_ca(SECOND, 30, 300), issued={SECOND: 1000}) == ["calendar-ends"]


class TestCalendarGap:
    def test_nothing_issues(self) -> None:
        duty = only(sub_ca(FIRST, -200, -1))

        assert (duty.code, duty.due, duty.is_urgent) == ("calendar-gap", NOW, True)
        assert duty.what == (
            "no sub-CA of the family unassured of signer 1 issues, and there is none to come: requests for it wait"
        )

    def test_the_next_one_is_named(self) -> None:
        assert ", the next one begins on 2026-12-03: requests" in only(sub_ca(FIRST, 10, 200)).what

    def test_what_stands_in_its_way_is_named(self) -> None:
        duty = only(sub_ca(FIRST, -10, 100), sub_ca(SPARE, -10, 100), halted=frozenset({FIRST}), issued={SPARE: 1000})
        assert f"issues ({FIRST} halted by order, {SPARE} full), and" in duty.what

    def test_a_retired_one_issues_nothing(self) -> None:
        assert only(sub_ca(FIRST, -10, 100, retired=True)).code == "calendar-gap"


class TestFilling:
    def test_a_sub_ca_that_will_be_full_before_its_period_ends(self) -> None:
        # 10 a day, and room for 300: 30 days, and the next one begins in 80.
        duty = only(sub_ca(FIRST, -100, 80), sub_ca(SECOND, 80, 400), issued={FIRST: 700}, recently={FIRST: 300})
        assert (duty.code, duty.due, duty.is_urgent) == ("authority-fills", NOW + 30 * DAY, False)
        assert duty.what == (
            f"{FIRST} of the family unassured of signer 1 will be full about 2026-12-23, and the next one begins on "
            "2027-02-11: room for 300 certificates is left, at 10 a day"
        )

    def test_without_a_next_one(self) -> None:
        assert (
            "and there is no other:" in only(sub_ca(FIRST, -100, 300), issued={FIRST: 700}, recently={FIRST: 300}).what
        )

    @pytest.mark.parametrize(
        ("issued", "recently"),
        [
            pytest.param(700, 0, id="nothing is asked for"),
            pytest.param(370, 300, id="it lasts for more than two months"),
            pytest.param(700, 100, id="it lasts until the next one begins"),
        ],
    )
    def test_enough_room(self, issued: int, recently: int) -> None:
        authorities = sub_ca(FIRST, -100, 80), sub_ca(SECOND, 80, 400)
        assert said(*authorities, issued={FIRST: issued}, recently={FIRST: recently}) == []

    def test_a_spare_is_counted_on(self) -> None:
        period = sub_ca(FIRST, -100, 80), sub_ca(SPARE, -100, 80), sub_ca(SECOND, 80, 400)

        assert said(*period, issued={FIRST: 700}, recently={FIRST: 300}) == []
        # Also when the first is full, and the rate is known of that one alone.
        duty = only(*period, issued={FIRST: 1000, SPARE: 600}, recently={FIRST: 300})
        assert duty.due == NOW + 40 * DAY
        assert duty.what.startswith(f"{SPARE} of the family")

    def test_the_rate_of_one_that_was_retired_goes_on_with_its_successor(self) -> None:
        authorities = sub_ca(FIRST, -100, 80, retired=True), sub_ca(SPARE, -100, 80), sub_ca(SECOND, 80, 400)
        assert said(*authorities, issued={SPARE: 900}, recently={FIRST: 300}) == ["authority-fills"]

    def test_the_next_period_may_be_the_one_that_fills(self) -> None:
        # 40 a day: the next one is full 25 days after it has begun.
        duty = only(sub_ca(FIRST, -100, 5), sub_ca(SECOND, 5, 400), recently={FIRST: 1200}, issued={FIRST: 100})
        assert (duty.code, duty.due) == ("authority-fills", NOW + 30 * DAY)

    def test_the_rate_of_a_new_authority_is_that_of_the_days_it_has(self) -> None:
        # 100 in 4 days are 25 a day.
        duty = only(sub_ca(FIRST, -4, 400), issued={FIRST: 100}, recently={FIRST: 100})
        assert duty.due == NOW + 36 * DAY
        # Within its first day it has one.
        assert said(sub_ca(FIRST, -0.01, 400), issued={FIRST: 10}, recently={FIRST: 10}) == []

    def test_both_are_told_when_it_fills_before_the_calendar_ends(self) -> None:
        assert said(sub_ca(FIRST, -100, 60), issued={FIRST: 700}, recently={FIRST: 300}) == [
            "authority-fills",
            "calendar-ends",
        ]


class TestOfflineCrls:
    @pytest.mark.parametrize(("days", "codes"), [(63, []), (62, ["offline-crl-ends"]), (1, ["offline-crl-ends"])])
    def test_two_months_before_it_ends(self, days: int, codes: list[str]) -> None:
        found = duties(calendar(sub_ca(FIRST, -10, 400), offline=(offline(crl_days=days),)))
        assert [each.code for each in found] == codes
        assert all("the CRL of root runs out on" in each.what and "ceremony crl" in each.remedy for each in found)

    def test_it_has_ended(self) -> None:
        duty = only(sub_ca(FIRST, -10, 400), offline=(offline(crl_days=-3),))
        assert "ran out on 2026-11-20" in duty.what
        assert duty.is_urgent

    def test_there_is_none(self) -> None:
        duty = only(sub_ca(FIRST, -10, 400), offline=(offline("orga", crl_days=None),))
        assert (duty.code, duty.due) == ("offline-crl-ends", NOW)
        assert "no CRL of orga" in duty.what

    def test_a_ca_that_has_ended_needs_none(self) -> None:
        assert said(sub_ca(FIRST, -10, 400), offline=(offline(crl_days=None, years=-1),)) == []


class TestSuccessors:
    def chain(self, *, structure: float = 10, root: float = 20) -> tuple[OfflineCa, ...]:
        return offline(years=root), offline("unassured", years=structure)

    def test_a_year_before_new_sub_cas_would_outlive_the_structure_ca(self) -> None:
        # They live for 410 days and two years: 3.12 years.
        authority = sub_ca(FIRST, -10, 400)
        assert said(authority, offline=self.chain(structure=4.2)) == []

        duty = only(authority, offline=self.chain(structure=4.1))

        assert duty.code == "successor-needed"
        assert duty.due == NOW + 4.1 * YEAR - 2 * YEAR - 410 * DAY
        assert duty.what.startswith("unassured ends on 2030-12-29: sub-CAs below it that begin after 2027-11-15 ")

    def test_a_root_is_needed_for_all_that_stands_below_its_structure_cas(self) -> None:
        [duty] = duties(calendar(sub_ca(FIRST, -10, 400), offline=self.chain(structure=4.1 * 3, root=4.1)))
        assert duty.what.startswith("root ends on ")

    def test_it_is_silent_once_the_newest_sub_cas_stand_below_another_one(self) -> None:
        authorities = sub_ca(FIRST, -10, 200), sub_ca(SECOND, 200, 400)
        chain = (*self.chain(structure=2), offline("unassured2", years=15))

        codes = said(*authorities, offline=chain, issuers={FIRST: "unassured", SECOND: "unassured2"})

        assert codes == []
        assert said(*authorities, offline=chain) == ["successor-needed"]

    def test_nothing_is_asked_for_what_has_ended_or_issues_nothing(self) -> None:
        assert said(sub_ca(FIRST, -10, 400), offline=(offline("unassured", years=-1), offline("old", years=0.5))) == []

    def test_a_sub_ca_of_an_unknown_issuer_says_nothing(self) -> None:
        assert said(sub_ca(FIRST, -10, 400), offline=(offline(years=1),), issuers={}) == []


class TestMachines:
    both = sub_ca(FIRST, -10, 100), sub_ca(SECOND, 100, 400)
    names = frozenset({FIRST, SECOND})

    def machines(self, on_signers: Mapping[int, frozenset[str] | None] | None) -> list[Duty]:
        return list(duties(calendar(*self.both, on_signers=on_signers)))

    @pytest.mark.parametrize(
        "on_signers",
        [
            pytest.param({1: names}, id="both know the same"),
            pytest.param(None, id="version 1"),
            pytest.param({}, id="nobody was ever heard"),
            pytest.param({1: None}, id="not lately"),
        ],
    )
    def test_nothing_to_say(self, on_signers: Mapping[int, frozenset[str] | None] | None) -> None:
        assert self.machines(on_signers) == []

    def test_a_dormant_one_is_missed_by_the_day_on_which_it_begins(self) -> None:
        [duty] = self.machines({1: frozenset({FIRST})})
        assert (duty.code, duty.due, duty.is_urgent) == ("not-on-signer", NOW + 100 * DAY, False)
        assert duty.what == f"signer 1 does not have {SECOND}, which the client knows"

    def test_a_signer_that_holds_nothing(self) -> None:
        [duty] = self.machines({1: frozenset()})
        assert (duty.due, duty.is_urgent) == (NOW, True)
        assert f"{FIRST}, {SECOND}" in duty.what

    def test_a_signer_that_was_never_heard(self) -> None:
        authorities = (*self.both, sub_ca(SPARE, -10, 400, signer_id=2))
        [duty] = duties(calendar(*authorities, on_signers={1: self.names}))
        assert duty.what.startswith(f"signer 2 was never heard, and does not have {SPARE}")

    def test_what_issues_no_more_is_still_needed_for_its_crls(self) -> None:
        old = sub_ca("unassured_2025_1", -400, -10), sub_ca("unassured_2024_1", -900, -2 * 365 - 1)
        [duty] = duties(calendar(*self.both, *old, on_signers={1: self.names}))
        assert duty.what == "signer 1 does not have unassured_2025_1, which the client knows"

    def test_the_client_lacks_one(self) -> None:
        more = frozenset(f"assured_2027_{number}" for number in range(1, 6))
        [duty] = self.machines({1: self.names | more})
        assert duty.code == "not-on-client"
        assert "has assured_2027_1, assured_2027_2, assured_2027_3 and 2 more, which the client does not" in duty.what
        assert "cassiopeia client install" in duty.remedy


def test_what_is_due_first_stands_first() -> None:
    found = duties(
        calendar(sub_ca(FIRST, -100, 40), sub_ca("assured_2026_1", -100, 20), offline=(offline(crl_days=30),))
    )
    assert [each.code for each in found] == ["calendar-ends", "offline-crl-ends", "calendar-ends"]
    assert found[0].due - NOW < NOTICE
