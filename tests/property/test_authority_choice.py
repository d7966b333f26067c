"""The choice of the sub-CA over random calendars: whoever is chosen may sign, and nobody better was there."""

from __future__ import annotations

import dataclasses
import datetime as dt

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.authorities import NOW, default_authority
from tests.unit.core.test_policy import judge_ocsp, ocsp_request

from cassiopeia.core.authority import Authority, choose_authority
from cassiopeia.errors import Refused, Unavailable

TEMPLATE = dataclasses.replace(default_authority(), maximum_certificates=3)
DAY = dt.timedelta(days=1)


@st.composite
def calendars(draw: st.DrawFn) -> list[Authority]:
    """Sub-CAs of up to two families and signers, with spares of the same period, in any order."""
    authorities = []
    for place in range(draw(st.integers(0, 8))):
        family = draw(st.sampled_from(("unassured", "assured")))
        begin = NOW + draw(st.integers(-4, 2)) * 100 * DAY
        number = draw(st.integers(1, 12))
        authorities.append(
            dataclasses.replace(
                TEMPLATE,
                name=f"{family}_{begin.year}_{number}-{place}",
                family=family,
                year=begin.year,
                number=number,
                signer_id=draw(st.integers(1, 2)),
                not_before=begin,
                issues_from=begin,
                issues_until=begin + draw(st.integers(1, 3)) * 100 * DAY,
                not_after=begin + draw(st.integers(3, 12)) * 100 * DAY,
                retired=draw(st.sampled_from((False, False, False, True))),
            )
        )
    return draw(st.permutations(authorities))


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[Authority], dt.datetime, dict[str, int]]:
    authorities = draw(calendars())
    not_after = NOW + draw(st.integers(1, 1000)) * DAY
    return authorities, not_after, {each.name: draw(st.integers(0, 3)) for each in authorities}


@given(situations())
def test_who_is_chosen_may_sign_and_nobody_better_was_there(
    situation: tuple[list[Authority], dt.datetime, dict[str, int]],
) -> None:
    authorities, not_after, issued = situation
    own = [each for each in authorities if each.family == "unassured" and each.signer_id == 1 and not each.retired]
    able = [
        each
        for each in own
        if each.issues_from <= NOW < each.issues_until and not_after <= each.not_after and issued[each.name] < 3
    ]
    try:
        chosen = choose_authority(
            authorities, family="unassured", signer_id=1, now=NOW, not_after=not_after, issued=issued
        )
    except Unavailable:
        assert not able
    except Refused:
        assert not able
        coming = [each for each in own if each.issues_until > NOW]
        assert coming  # else it would be "not now"
        assert all(each.not_after < not_after for each in coming)
    else:
        assert chosen in able
        assert chosen.issues_from == max(each.issues_from for each in able)
        period = [each for each in able if each.issues_from == chosen.issues_from]
        assert chosen.number == min(each.number for each in period)


@given(situations())
def test_the_order_of_the_list_means_nothing(
    situation: tuple[list[Authority], dt.datetime, dict[str, int]],
) -> None:
    authorities, not_after, issued = situation
    unique = {(each.issues_from, each.number): each for each in authorities}
    first = list(unique.values())
    second = sorted(first, key=lambda each: each.name)

    def outcome(listed: list[Authority]) -> object:
        try:
            return choose_authority(
                listed, family="unassured", signer_id=1, now=NOW, not_after=not_after, issued=issued
            )
        except (Refused, Unavailable) as error:
            return error.code

    assert outcome(first) == outcome(second) == outcome(first[::-1])


@settings(max_examples=50)
@given(situations(), st.data())
def test_a_responders_certificate_comes_from_exactly_the_sub_ca_that_is_named(
    situation: tuple[list[Authority], dt.datetime, dict[str, int]], data: st.DataObject
) -> None:
    authorities, _, issued = situation
    unknown = ("unassured_2099_1", "unassured", "root")
    named = data.draw(st.sampled_from([*(each.name for each in authorities), *unknown]))
    try:
        approved = judge_ocsp(ocsp_request(ocsp_target_ca=named), authorities=tuple(authorities), issued=issued)
    except (Refused, Unavailable):
        # Another one never takes its place: also not a spare of the same period.
        [*good] = (
            each
            for each in authorities
            if each.name == named and each.signer_id == 1 and each.not_before <= NOW < each.not_after - 30 * DAY
        )
        assert not good
    else:
        assert approved.authority.name == named
        assert approved.validity.not_after <= approved.authority.not_after
        assert approved.validity.not_after - approved.validity.not_before <= 30 * DAY
