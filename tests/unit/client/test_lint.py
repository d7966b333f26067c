"""What a finding means for its request and for its profile."""

from __future__ import annotations

import dataclasses
import logging

import pytest
from tests.support.authorities import NOW, load_profile
from tests.support.linting import HandPool, finding
from tests.support.store import after

from cassiopeia.client.lint import Decision, Lint, Verdict
from cassiopeia.client.lint_tasks import Finding
from cassiopeia.core.profile import AcceptedFinding, Profile
from cassiopeia.store.database import Store
from cassiopeia.store.lint_streaks import HOLD_AFTER, PUT_BACK_FOR

SERVER = "9004-unproved-server"
X, Y, WARNING = finding("pkix.x"), finding("pkix.y"), finding("pkix.w", grave=False)


def profile(name: str = SERVER, *accepted: str, rules: tuple[str, ...] = ()) -> Profile:
    allow = tuple(AcceptedFinding(finding=each, reason="known") for each in accepted)
    return dataclasses.replace(load_profile(name), lint_allow=allow, lint_rules=rules)


class Desk:
    """The desk with a pool in the test's hands."""

    def __init__(self, store: Store, *profiles: Profile) -> None:
        self.pool = HandPool()
        self.lint = Lint(pool=self.pool, profiles={each.name: each for each in profiles}, streaks=store.lint_streaks)
        self.number = 0

    def submit(self, name: str = SERVER) -> int:
        self.number += 1
        self.lint.submit(self.number, name, b"tbs")
        return self.number

    def judge(self, *findings: Finding, name: str = SERVER) -> Decision:
        """One request of this profile, in which this was found."""
        self.submit(name)
        self.pool.answer(*findings)
        [decision] = self.lint.decide(now=NOW)
        return decision

    def verdicts(self, count: int, *findings: Finding) -> list[Verdict]:
        return [self.judge(*findings).verdict for _ in range(count)]


def test_a_profiles_rules_go_with_the_octets(store: Store) -> None:
    desk = Desk(store, profile(rules=("serverauth",)), profile("0100-ocsp", rules=("smime",)))
    for name in (SERVER, "", "0001-client"):
        desk.submit(name)
    assert [task.rules for task in desk.pool.tasks.values()] == [("serverauth",), ("smime",), ()]
    assert {task.tbs_certificate for task in desk.pool.tasks.values()} == {b"tbs"}


def test_nothing_found_passes(store: Store) -> None:
    desk = Desk(store, profile())
    assert desk.judge() == Decision(number=1, verdict=Verdict.PASSED)


def test_less_than_an_error_passes_and_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "cassiopeia")
    assert Desk(store, profile()).judge(WARNING).verdict is Verdict.PASSED
    assert "WARNING pkix.w at certificate" in caplog.text


def test_an_error_vetoes_with_every_finding(store: Store) -> None:
    decision = Desk(store, profile()).judge(X, WARNING, Y)
    assert decision.verdict is Verdict.REFUSED
    assert decision.reason == (
        "the client's lint vetoed it: pkix.x at certificate: pkix.x is wrong; pkix.y at certificate: pkix.y is wrong"
    )


def test_many_findings_are_cut_short(store: Store) -> None:
    long = finding("pkix." + "x" * 5_000)
    decision = Desk(store, profile()).judge(*[long] * 9)
    assert len(decision.reason) < 2_000
    assert decision.reason.endswith("; and 4 more")


def test_what_the_profile_accepts_vetoes_nothing(store: Store) -> None:
    desk = Desk(store, profile(SERVER, "pkix.x"))
    assert desk.judge(X).verdict is Verdict.PASSED
    decision = desk.judge(X, Y)
    assert decision.verdict is Verdict.REFUSED
    assert "pkix.x" not in decision.reason


def test_what_one_profile_accepts_vetoes_under_another_and_under_one_nobody_knows(store: Store) -> None:
    desk = Desk(store, profile(SERVER, "pkix.x"), profile("9001-unproved-client"))
    assert desk.judge(X, name="9001-unproved-client").verdict is Verdict.REFUSED
    assert desk.judge(X, name="0001-client").verdict is Verdict.REFUSED


def test_the_fifth_in_a_row_waits_and_raises_the_alarm(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(store, profile())
    assert desk.verdicts(HOLD_AFTER - 1, X) == [Verdict.REFUSED] * 4
    assert "ALARM" not in caplog.text
    for _ in range(3):
        decision = desk.judge(X)
        assert (decision.verdict, decision.delay_s) == (Verdict.LATER, PUT_BACK_FOR.total_seconds())
        assert "its profile is held" in decision.reason
    [alarm] = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "ALARM: profile 9004-unproved-server is held: 5 certificates in a row" in alarm.getMessage()
    assert "cassiopeia status" in alarm.getMessage()
    assert desk.judge().verdict is Verdict.PASSED
    assert "is not held any more" in caplog.text
    assert desk.judge(X).verdict is Verdict.REFUSED


def test_a_profile_that_accepts_the_finding_by_now_is_released_at_the_start(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    Desk(store, profile()).verdicts(HOLD_AFTER, X)
    Desk(store, profile(SERVER, "pkix.y")).lint.release_accepted(now=after(1))
    assert store.lint_streaks.suspicious()[0].held_at is not None
    again = Desk(store, profile(SERVER, "pkix.x"))
    again.lint.release_accepted(now=after(2))
    assert store.lint_streaks.suspicious()[0].held_at is None
    assert "accepts the finding pkix.x by now" in caplog.text
    caplog.clear()
    again.lint.release_accepted(now=after(3))
    assert caplog.text == ""
    assert again.judge(X).verdict is Verdict.PASSED
    assert store.lint_streaks.suspicious() == ()


def test_a_lint_that_ends_workers_is_set_aside(store: Store) -> None:
    desk = Desk(store, profile())
    desk.submit()
    desk.pool.fail(died=True)
    [decision] = desk.lint.decide(now=NOW)
    assert (decision.verdict, decision.reason) == (Verdict.SET_ASIDE, "no linter")


def test_without_a_linter_nothing_passes_and_nothing_is_refused(store: Store) -> None:
    desk = Desk(store, profile())
    for _ in range(9):
        desk.submit()
        desk.pool.fail(died=False)
    decisions = desk.lint.decide(now=NOW)
    assert {each.verdict for each in decisions} == {Verdict.LATER}
    assert {each.delay_s for each in decisions} == {60.0}
    assert store.lint_streaks.suspicious() == ()


def test_what_was_forgotten_counts_for_nothing(store: Store) -> None:
    desk = Desk(store, profile())
    for _ in range(HOLD_AFTER):
        desk.submit()
    desk.lint.forget()
    for _ in range(HOLD_AFTER):
        desk.pool.answer(X)
    assert desk.lint.decide(now=NOW) == []
    assert store.lint_streaks.suspicious() == ()


def test_verdicts_of_one_turn_are_counted_in_the_order_of_the_answers(store: Store) -> None:
    desk = Desk(store, profile())
    numbers = [desk.submit() for _ in range(6)]
    for _ in range(6):
        desk.pool.answer(X)
    decisions = desk.lint.decide(now=NOW)
    assert [each.number for each in decisions] == numbers
    assert [each.verdict for each in decisions] == [Verdict.REFUSED] * 4 + [Verdict.LATER] * 2
