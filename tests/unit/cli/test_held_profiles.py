"""A profile that the client holds is seen in `status`, and released by `profile release`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.client_store import ask, opened_client_store, run
from tests.support.store import NOW, lease_sign, submit

from cassiopeia.store.database import Store
from cassiopeia.store.lint_streaks import HOLD_AFTER, LintVerdict

SERVER = "9004-unproved-server"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        yield opened


def hold(store: Store, profile: str) -> None:
    verdict = LintVerdict(profile=profile, findings=("pkix.x", "pkix.y"), message='pkix.x at subject: "\x1b[31m"')
    store.lint_streaks.record([verdict] * HOLD_AFTER, now=NOW)


def test_status_says_what_is_held_since_when_for_what_and_what_to_do(store: Store) -> None:
    hold(store, SERVER)

    text = run("status").stdout

    assert "ALARM: profile 9004-unproved-server is held since 2026-11-23 12:00:00Z" in text
    assert "5 certificates in a row were vetoed for pkix.x" in text
    assert 'the last veto: pkix.x at subject: "\\x1b[31m"' in text
    assert "put it under [[lint.allow]] of the client's profile 9004-unproved-server" in text
    assert "cassiopeia profile release 9004-unproved-server\n" in text
    assert ask("status")["held_profiles"] == [
        {
            "profile": SERVER,
            "finding": "pkix.x",
            "vetoes": 5,
            "message": 'pkix.x at subject: "\x1b[31m"',
            "held_since": NOW.isoformat(),
        }
    ]


def test_status_says_what_the_linter_found_in_a_sample(store: Store) -> None:
    store.lint_streaks.hold_for_sample(SERVER, finding="pkix.x", message="pkix.x at subject", now=NOW)

    text = run("status").stdout

    assert (
        "ALARM: profile 9004-unproved-server is held since 2026-11-23 12:00:00Z, and its requests wait: its sample "
        "certificate has the finding pkix.x\n"
    ) in text
    assert "its sample certificate: pkix.x at subject" in text
    assert "profile 9004-unproved-server is held: its sample certificate has the finding pkix.x" in text
    assert ask("status")["held_profiles"][0]["vetoes"] == 0


def test_status_is_silent_about_profiles_that_are_not_held(store: Store) -> None:
    store.lint_streaks.record([LintVerdict(profile=SERVER, findings=("pkix.x",), message="x")], now=NOW)

    assert "lint" not in run("status").stdout
    assert ask("status")["held_profiles"] == []


def test_a_released_profile_is_leased_again_and_not_trusted_yet(store: Store) -> None:
    submit(store, 1)
    hold(store, SERVER)

    result = run("profile", "release", SERVER)

    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{SERVER}: its requests are sent again; the next lint decides whether that lasts\n"
    assert len(lease_sign(store, at=dt.datetime.now(dt.UTC))) == 1
    assert "lint     profile 9004-unproved-server was released; the next" in run("status").stdout


def test_the_profile_for_ocsp_responders_has_no_name_in_requests(store: Store) -> None:
    hold(store, "")

    assert "profile release ocsp\n" in run("status").stdout
    assert run("profile", "release", "ocsp").exit_code == 0
    assert store.lint_streaks.suspicious()[0].held_at is None


def test_what_is_not_held_is_one_line_that_names_what_is(store: Store) -> None:
    nothing = run("profile", "release", SERVER)
    hold(store, "0004-server")
    another = run("profile", "release", SERVER)

    assert (nothing.exit_code, nothing.stderr) == (1, "cassiopeia: error: no profile is held\n")
    assert another.stderr == f"cassiopeia: error: no profile {SERVER} is held; these are: 0004-server\n"
