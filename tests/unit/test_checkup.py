"""The doctor's list: nothing is left out of it, and Nagios hears how bad it is."""

from __future__ import annotations

import itertools

import pytest
from tests.support.store import NOW
from tests.unit.test_ops import situation

from cassiopeia import checkup, ops
from cassiopeia.ops import Concern

NEAR = Concern(code="calendar-ends", what="it ends", remedy="extend", is_near=True)
FAR = Concern(code="not-on-signer", what="it is | lacking\nthere", remedy="install")


def lines(*concerns: Concern) -> tuple[checkup.Check, ...]:
    return checkup.examine(situation(), concerns, facts={"configuration": "good", "disk": "large", "bundle": "none"})


def test_every_concern_that_there_is_has_one_line() -> None:
    codes = list(itertools.chain.from_iterable(checkup.CODES_OF.values()))

    assert len(codes) == len(set(codes))
    assert set(codes) == {*ops.URGENCY, "configuration", "disk-low", "bundle-left", "store"}


def test_all_is_well() -> None:
    checks = lines()

    assert [each.name for each in checks] == list(checkup.CODES_OF)
    assert {each.state for each in checks} == {"ok"}
    assert all(each.fact for each in checks)
    assert checkup.worst(checks) == "ok"
    assert checkup.summary(checks) == "CASSIOPEIA OK - nothing needs a person | to_do=0 urgent=0"


def test_a_line_says_what_is_wrong_with_it_alone() -> None:
    checks = {each.name: each for each in lines(FAR)}

    assert checks["bundle"].concerns == (FAR,)
    assert {each.name for each in checks.values() if each.state != "ok"} == {"bundle"}


@pytest.mark.parametrize(
    ("concerns", "state", "code"), [((), "ok", 0), ((FAR,), "warning", 1), ((FAR, NEAR), "critical", 2)]
)
def test_how_bad_it_is(concerns: tuple[Concern, ...], state: str, code: int) -> None:
    worst = checkup.worst(lines(*concerns))
    assert (worst, checkup.exit_code(worst)) == (state, code)


def test_the_summary_is_one_line_with_the_urgent_first_and_no_bar_but_the_plugins_own() -> None:
    text = checkup.summary(lines(FAR, NEAR))
    assert text == "CASSIOPEIA CRITICAL - 2 to do: it ends; it is / lacking there | to_do=2 urgent=1"


def test_what_was_not_looked_at_is_unknown() -> None:
    checks = checkup.examine(None, (), facts={"configuration": "good"}, missing="no store")

    states = {each.name: each.state for each in checks}
    assert states.pop("configuration") == "ok"
    assert set(states.values()) == {"unknown"}
    worst = checkup.worst(checks)
    assert (worst, checkup.exit_code(worst)) == ("unknown", 3)
    assert checkup.summary(checks).startswith("CASSIOPEIA UNKNOWN - disk: not looked at: no store; bundle: ")


def test_what_is_known_to_be_broken_counts_more() -> None:
    broken = Concern(code="configuration", what="wrong", remedy="mend", is_near=True)
    checks = checkup.examine(None, (broken,), facts={"configuration": ""}, missing="no configuration")
    assert checkup.worst(checks) == "critical"


@pytest.mark.parametrize("code", ["crl-expired", "signer-halted", "calendar-gap", "crl-missing"])
def test_what_does_not_work_is_urgent_without_a_day(code: str) -> None:
    assert Concern(code=code, what="", remedy="", due=NOW).is_urgent


@pytest.mark.parametrize("code", ["crl-late", "calendar-ends", "set-aside"])
def test_what_still_works_is_not(code: str) -> None:
    assert not Concern(code=code, what="", remedy="").is_urgent
