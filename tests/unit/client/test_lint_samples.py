"""Samples at the client's start: what no request of a profile would pass holds it, and the status says why."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import sys

import pytest
from tests.support.authorities import NOW, default_authority, load_profile
from tests.support.linting import HandPool, finding

from cassiopeia.client import lint_samples
from cassiopeia.client.lint import Lint
from cassiopeia.client.lint_samples import SampleVerdict, lint_profiles
from cassiopeia.client.lint_tasks import Finding
from cassiopeia.core.certificate import read_tbs
from cassiopeia.core.profile import AcceptedFinding, Presence, Profile
from cassiopeia.core.sample import make_sample, sample_authority
from cassiopeia.errors import OperatorError
from cassiopeia.store.database import Store

SERVER = "9004-unproved-server"
X, Y, WARNING = finding("pkix.x"), finding("pkix.y"), finding("pkix.w", grave=False)


def profile(**changes: object) -> Profile:
    return dataclasses.replace(load_profile(SERVER), **changes)  # type: ignore[arg-type] # as the test says


class Desk:
    """A client that has just started, with its pool in the test's hands."""

    def __init__(self, store: Store, *profiles: Profile) -> None:
        self.store = store
        self.pool = HandPool()
        self.lint = Lint(pool=self.pool, profiles={each.name: each for each in profiles}, streaks=store.lint_streaks)
        self.lint.submit_samples([default_authority()], now=NOW)

    def answer(self, *findings: Finding) -> None:
        self.pool.answer(*findings)
        assert self.lint.decide(now=NOW) == []

    @property
    def held(self) -> list[tuple[str, str]]:
        suspicious = self.store.lint_streaks.suspicious()
        return [(each.profile, each.finding) for each in suspicious if each.held_at is not None]


def test_the_samples_are_two_of_each_profile_by_a_sub_ca_of_its_family(store: Store) -> None:
    desk = Desk(store, profile(lint_rules=("serverauth",)), load_profile("0005-client-a"), load_profile("0100-ocsp"))
    tasks = list(desk.pool.tasks.values())
    assert [each.rules for each in tasks] == [("serverauth",)] * 2 + [()] * 4
    assert all(each.number < 0 for each in tasks)
    issuers = [read_tbs(each.tbs_certificate).issuer for each in tasks]
    ours = default_authority().subject
    assert [issuer == ours for issuer in issuers] == [True, True, False, False, True, True]
    assert {read_tbs(each.tbs_certificate).not_before for each in tasks} == {NOW}


def test_a_sub_ca_that_issues_now_is_taken_before_others(store: Store) -> None:
    past = dataclasses.replace(default_authority(), issues_until=NOW - dt.timedelta(days=1), subject=b"\x30\0")
    pool = HandPool()
    lint = Lint(pool=pool, profiles={SERVER: profile()}, streaks=store.lint_streaks)
    lint.submit_samples([past, default_authority()], now=NOW)
    lint.submit_samples(
        [dataclasses.replace(past, issues_until=default_authority().issues_until, retired=True), default_authority()],
        now=NOW,
    )
    lint.submit_samples([past], now=NOW)
    subjects = [read_tbs(each.tbs_certificate).issuer for each in pool.tasks.values()]
    assert subjects[:4] == [default_authority().subject] * 4
    assert subjects[-2:] == [past.subject] * 2


def test_what_every_sample_has_holds_the_profile(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(store, profile(), load_profile("0100-ocsp"))
    desk.answer(Y, X, WARNING)
    assert desk.held == []
    desk.answer(X)
    assert desk.held == [(SERVER, "pkix.x")]
    for _ in range(2):
        desk.answer(Y)
    assert desk.held == [("", "pkix.y"), (SERVER, "pkix.x")]
    [streak] = [each for each in store.lint_streaks.suspicious() if each.profile == SERVER]
    assert streak.message == "its sample certificate: pkix.x at certificate: pkix.x is wrong"
    alarms = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.startswith("ALARM: profile ") for each in alarms] == [True, True]
    # Another client finds the same: it has been said.
    caplog.clear()
    again = Desk(store, profile())
    again.answer(X)
    again.answer(X)
    assert not [each for each in caplog.records if each.levelno == logging.ERROR]


def test_what_only_some_have_or_the_profile_accepts_holds_nothing(store: Store) -> None:
    desk = Desk(store, profile(lint_allow=(AcceptedFinding(finding="pkix.x", reason="known"),)))
    desk.answer(X, Y)
    desk.answer(X, WARNING)
    assert desk.held == []


def test_a_profile_that_was_mended_is_released_at_the_start(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(store, profile())
    desk.answer(X)
    desk.answer(X)
    desk = Desk(store, profile())
    desk.answer(WARNING)
    assert desk.held == [(SERVER, "pkix.x")]
    desk.answer()
    assert desk.held == []
    assert "its sample certificate passes by now" in caplog.text


def test_real_certificates_are_judged_beside_them(store: Store) -> None:
    desk = Desk(store, profile())
    desk.lint.submit(0, SERVER, b"tbs")
    desk.answer(X)
    desk.answer(X)
    desk.pool.answer()
    [decision] = desk.lint.decide(now=NOW)
    assert decision.number == 0
    # It is the proof that some do pass.
    assert desk.held == []


def test_a_session_that_ends_forgets_no_sample(store: Store) -> None:
    desk = Desk(store, profile())
    desk.answer(X)
    waiting = dict(desk.pool.tasks)
    desk.pool.tasks.clear()
    desk.lint.forget()
    assert desk.pool.tasks == waiting
    desk.answer(X)
    assert desk.held == [(SERVER, "pkix.x")]
    # An answer to what was asked twice.
    desk.pool.tasks |= waiting
    desk.answer(X)


@pytest.mark.parametrize("died", [True, False])
def test_what_was_not_linted_proves_nothing(store: Store, caplog: pytest.LogCaptureFixture, *, died: bool) -> None:
    desk = Desk(store, profile())
    desk.pool.fail(died=died)
    assert desk.lint.decide(now=NOW) == []
    desk.answer(X)
    assert desk.held == []
    assert "its sample certificate was not linted: no linter" in caplog.text


def test_a_profile_that_serves_one_kind_of_key_has_one_sample(store: Store) -> None:
    desk = Desk(store, profile(key_usage=("keyEncipherment",)), profile(name="9005-none", key_usage=()))
    assert len(desk.pool.tasks) == 1
    desk.answer(X)
    assert desk.held == [(SERVER, "pkix.x")]


# --- on the spot


def test_all_samples_are_linted_on_the_spot() -> None:
    good = profile(lint_rules=("serverauth",))
    too_long = dataclasses.replace(good, name="9005-too-long", maximum_validity_days=300)
    by_name = dataclasses.replace(
        load_profile("0013-server-orga"),
        lint_allow=(),
        subject=(*good.subject[:-2], *load_profile(SERVER).subject[-2:]),
    )
    first, second, third = lint_profiles([good, too_long, by_name], now=NOW)
    forbidden = "cabf.serverauth.prohibited_subject_public_key_algorithm_encoding"
    assert first.sometimes[forbidden] == ("Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87")
    assert "cabf.serverauth.certificate_validity_period_exceeds_200_days" in {each.code for each in second.always}
    assert "cabf.serverauth.certificate_validity_period_exceeds_200_days" not in second.sometimes
    assert third.always


def test_what_only_more_names_bring_is_said_so() -> None:
    optional = {"C", "L", "O", "OU", "CN"}
    subject = tuple((each, Presence.OPTIONAL if each in optional else given) for each, given in profile().subject)
    [verdict] = lint_profiles([profile(lint_rules=("serverauth",), subject=subject)], now=NOW)
    found = verdict.sometimes["cabf.serverauth.ov.organizational_unit_name_attribute_present"]
    assert found == ("every key with all kinds of names",)


def test_what_only_the_fewest_names_bring_is_said_so() -> None:
    samples = [
        make_sample(profile(), sample_authority("unassured"), key_kind="P-256", least=each) for each in (True, False)
    ]
    assert lint_samples._which(samples[:1], samples) == ("every key with the fewest names",)
    assert lint_samples._which(samples, samples) == ("every key",)


def test_nothing_to_lint_is_nothing_found() -> None:
    assert lint_profiles([profile(key_usage=())], now=NOW) == [SampleVerdict(always=(), sometimes={})]


def test_a_linter_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cassiopeia.client.lint_pool._RESTART_FIRST_S", 0.01)
    monkeypatch.setattr(lint_samples, "_POLL_S", 0.01)
    with pytest.raises(OperatorError, match="the linter fails: the linter does not start"):
        lint_profiles([profile()], now=NOW, command=(sys.executable, "-c", "raise SystemExit(1)"))
