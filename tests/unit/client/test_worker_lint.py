"""The client's loop goes on while the real linter works."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.authorities import PROFILES
from tests.support.client_loop import Client
from tests.support.signer import PROFILE

from cassiopeia.client import worker as worker_module
from cassiopeia.client.worker import SignerClient
from cassiopeia.errors import ConfigurationError, OperatorError
from cassiopeia.store.database import Store
from cassiopeia.store.lint_streaks import HOLD_AFTER, LintVerdict


@pytest.fixture
def make(make: Callable[..., Client]) -> Callable[..., Client]:
    return functools.partial(make, lint_workers=1, profiles=PROFILES)


def hold(store: Store, finding: str) -> None:
    verdict = LintVerdict(profile=PROFILE, findings=(finding,), message=f"{finding} at subject")
    store.lint_streaks.record([verdict] * HOLD_AFTER, now=dt.datetime.now(dt.UTC))


def test_everything_is_linted_and_issued_in_one_session(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(*range(30))
    client.run_until_issued(*range(30))
    assert client.signer.accepted == 1


def test_a_line_that_breaks_during_the_lints_loses_nothing(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(*range(20))
    client.run_until(lambda: bool(client.client._issuance._linting))
    client.signer.hang_up()
    client.run_until_issued(*range(20))


def test_a_held_profile_waits_until_it_is_released(make: Callable[..., Client], store: Store) -> None:
    hold(store, "pkix.x")
    client = make()
    client.submit(1)
    client.submit(2, profile="9099-nobodys")
    client.run_until(lambda: client.state(2) == "refused")  # this signer has no such profile; its turn came, though
    assert client.state(1) == "queued"
    store.lint_streaks.release(PROFILE, now=dt.datetime.now(dt.UTC))
    client.run_until_issued(1)
    assert PROFILE not in {each.profile for each in store.lint_streaks.suspicious()}


def test_a_profile_whose_sample_is_vetoed_is_held_before_anybody_asks(
    make: Callable[..., Client], store: Store
) -> None:
    """This client's sub-CA says nowhere who may be asked about revocations, which the rules for servers demand."""
    client = make()
    client.run_until(lambda: any(each.profile == "0004-server" for each in store.lint_streaks.suspicious()))
    held = {each.profile: each.finding for each in store.lint_streaks.suspicious()}
    assert held["0004-server"] == "cabf.serverauth.subscriber.revocation_information_absent"
    client.submit(1)
    client.run_until_issued(1)


def test_a_profile_that_accepts_the_finding_is_released_when_the_client_starts(
    make: Callable[..., Client], store: Store
) -> None:
    hold(store, "pkix.invalid_uri_syntax")
    client = make()
    client.submit(1)
    client.run_until_issued(1)


def test_draining_leaves_what_is_held(
    make: Callable[..., Client], store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_module, "_DRAIN_PATIENCE_S", 0.1)
    hold(store, "pkix.x")
    client = make()
    client.submit(1)
    client.run_until(client.client._is_drained)
    assert "1 jobs are left: they wait for later or for evidence, or for another signer, or are held" in caplog.text


def test_the_end_leaves_no_worker(make: Callable[..., Client]) -> None:
    client = make()
    client.submit(1)
    client.run_until_issued(1)
    lint = client.client._lint
    assert lint is not None
    [process] = [member.worker.process for member in lint._pool._members]
    client.client.close()
    assert process.returncode == 0


def test_without_workers_nothing_is_linted_and_the_log_says_so(
    make: Callable[..., Client], caplog: pytest.LogCaptureFixture
) -> None:
    client = make(lint_workers=0)
    assert client.client._lint is None
    assert "nothing is linted: client.toml says workers = 0 under [lint]" in caplog.text


def test_a_client_that_cannot_lint_does_not_start(
    make: Callable[..., Client], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(lint_workers=0).client._config
    with pytest.raises(ConfigurationError, match="it has to hold the profiles"):
        SignerClient(dataclasses.replace(config, lint_workers=1, profiles=tmp_path / "gone"), store)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(OperatorError, match="pkilint"):
        SignerClient(dataclasses.replace(config, lint_workers=1), store)
