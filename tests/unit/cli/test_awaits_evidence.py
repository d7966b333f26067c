"""Requests that wait for evidence: what their owners and the operators see of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.client_store import ask, opened_client_store, run
from tests.support.statements import signed_observation
from tests.support.store import demand, request_id, submit, to_attest

from cassiopeia.store.database import Store
from cassiopeia.store.evidence import EvidenceDelay

ID = request_id(1).hex()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        demand(opened)
        yield opened


@pytest.fixture
def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def lapsed(store: Store, now: dt.datetime) -> None:
    [waiting] = to_attest(store, at=now)
    reason = "dns-control of example.org is 100 days old"
    store.evidence.postpone([EvidenceDelay(number=waiting.number, reason=reason, delay_s=60)], now=now)


def test_its_owner_sees_what_it_waits_for(store: Store, now: dt.datetime) -> None:
    submit(store, 1, at=now)
    assert "waits for evidence: no validator has vouched for it yet" in run("request", "show", ID).stdout
    lapsed(store, now)
    shown = run("request", "show", ID).stdout
    assert "waits for evidence: dns-control of example.org is 100 days old" in shown
    [line] = [line for line in run("request", "list").stdout.splitlines() if ID[:12] in line]
    assert "waits for evidence" in line
    assert "is 100 days old" in line
    document = ask("request", "show", ID)
    assert (document["state"], document["awaits_evidence"]) == ("queued", True)


def test_whoever_waits_for_it_is_told(store: Store, now: dt.datetime) -> None:
    submit(store, 1, at=now)
    lapsed(store, now)
    waited = run("request", "wait", ID, "--timeout", "0.2")
    assert waited.exit_code == 1
    assert "still waits after 0.2 seconds (waits for evidence: dns-control of example.org" in waited.stderr


def test_the_status_says_how_many_wait(store: Store, now: dt.datetime) -> None:
    assert "evidence" not in run("status").stdout
    submit(store, 1, at=now - dt.timedelta(minutes=6))
    submit(store, 2, at=now)
    shown = run("status").stdout
    assert "waiting for evidence, until a validator has vouched for them: 2" in shown
    assert "no validator was ever heard" in run("status", "--check").stdout
    store.evidence.save_word("front", {"attested": 3}, now=now)
    assert "validator front, heard 0 seconds ago" in run("status").stdout
    assert "no validator" not in run("status", "--check").stdout
    document = ask("status")
    assert document["queue"]["unattested"] == 2
    assert [(each["name"], each["attested"]) for each in document["validators"]] == [("front", 3)]


def test_old_observations_are_deleted_on_demand(store: Store, now: dt.datetime) -> None:
    ages = (3, 40, 50)
    seen = [now.replace(microsecond=0) - dt.timedelta(days=each) for each in ages]
    store.evidence.put_observations([signed_observation(observed_at=each) for each in seen], now=now)
    assert "2 observations deleted" in run("store", "forget", "--older-than", "30").stdout
    assert [each.observed_at for each in store.evidence.page().items] == seen[:1]
    assert "0 observations" in run("store", "forget", "--older-than", "30").stdout
    assert "1 observation deleted" in run("store", "forget", "--older-than", "2").stdout
    assert run("store", "forget").exit_code == 2
