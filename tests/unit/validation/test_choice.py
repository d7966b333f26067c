from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from tests.support.authorities import load_profile
from tests.support.statements import VALIDATOR, observation, signed_observation

from cassiopeia.core.demands import Demand
from cassiopeia.core.evidence import key_id
from cassiopeia.core.judgement import AHEAD
from cassiopeia.core.profile import Profile
from cassiopeia.validation.choice import Choice, Held, choose, read_held

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
PROFILE = load_profile("0004-server")  # caa-permits: 7 hours, dns-control: 99 days
CONTROL = Demand(kind="dns-control", value="www.example.org", name="www.example.org")
CAA = Demand(kind="caa-permits", value="www.example.org", name="www.example.org")


def held(*, ago: dt.timedelta = HOUR, doubt: str = "", **changes: Any) -> Held:
    values = {"account": "momo", "observed_at": NOW - ago, **changes}
    return Held(observation=observation(**values), octets=signed_observation(**values), doubt=doubt)


def chosen(demanded: list[Demand], *given: Held, profile: Profile = PROFILE) -> Choice:
    return choose(demanded, given, account="momo", profile=profile, now=NOW, margin=HOUR / 2)


def test_the_newest_that_is_good_for_each_demand() -> None:
    old, new, caa = held(ago=3 * HOUR), held(ago=2 * HOUR), held(kind="caa-permits")

    assert chosen([CONTROL, CAA], old, caa, new) == Choice(chosen=(new, caa), lapsing=(), lapsed=(), missing=())


def test_what_another_account_proved_is_nothing() -> None:
    assert chosen([CONTROL], held(account="beppo")).missing == (CONTROL,)


def test_what_was_never_proved_is_missing() -> None:
    assert chosen([CONTROL, CAA], held(), held(kind="caa-permits", value="example.org")) == Choice(
        chosen=(held(),), lapsing=(), lapsed=(), missing=(CAA,)
    )


def test_what_is_too_old_has_lapsed() -> None:
    older, old = held(kind="caa-permits", ago=9 * HOUR), held(kind="caa-permits", ago=8 * HOUR)

    choice = chosen([CAA], older, old)

    assert (choice.chosen, choice.missing) == ((), ())
    [lapsed] = choice.lapsed
    assert (lapsed.demand, lapsed.held) == (CAA, old)
    assert lapsed.reason == "has lapsed on 2026-11-23 11:00:00Z"


def test_the_last_moment_is_in_time() -> None:
    last = held(kind="caa-permits", ago=7 * HOUR)

    assert chosen([CAA], last).chosen == (last,)
    assert chosen([CAA], held(kind="caa-permits", ago=7 * HOUR + dt.timedelta(seconds=1))).lapsed


def test_what_will_be_too_old_before_long_is_lapsing() -> None:
    last, other = held(kind="caa-permits", ago=6.75 * HOUR), held()

    assert chosen([CONTROL, CAA], last, other) == Choice(chosen=(other, last), lapsing=(last,), lapsed=(), missing=())


def test_a_date_that_has_not_come_is_not_good_yet() -> None:
    early, tolerated = held(ago=-AHEAD - dt.timedelta(seconds=1)), held(ago=-AHEAD)

    [lapsed] = chosen([CONTROL], early).lapsed
    assert lapsed.reason == "is dated 2026-11-23 12:05:01Z, which has not come by the signer's clock"
    assert chosen([CONTROL], tolerated).chosen == (tolerated,)


def test_what_is_doubted_proves_nothing_and_nothing_is_missing() -> None:
    choice = chosen([CONTROL], held(doubt="is doubted"))

    assert (choice.chosen, choice.missing) == ((), ())
    assert choice.lapsed[0].reason == "is doubted"


def test_only_keys_that_are_known_are_believed() -> None:
    octets = signed_observation()
    keys = {key_id(VALIDATOR): VALIDATOR}

    assert read_held(octets, keys) == Held(observation=observation(), octets=octets)
    assert "is not known here (key " in read_held(octets, {}).doubt
    changed = octets.replace(b"account-1", b"account-2")
    assert read_held(changed, keys).observation.account == "account-2"
    assert "is not signed by the validator that it names" in read_held(changed, keys).doubt


def test_one_that_serves_two_names_goes_along_once() -> None:
    profile = replace(PROFILE, whole_domain=True)
    demanded = [Demand(kind="dns-control", value=name, name=name) for name in ("example.org", "www.example.org")]
    domain, exact = held(value="example.org", ago=2 * HOUR), held(value="www.example.org")

    assert chosen(demanded, domain, exact, profile=profile).chosen == (domain,)
