"""Concerns about what the world gets: an older CRL, another one, none, and nobody who looks."""

from __future__ import annotations

import datetime as dt

import pytest
from tests.support.authorities import NOW

from cassiopeia import ops
from cassiopeia.store.records import QueueStatistics, ServedCrl, ServedState

NOTHING = {"sign": 0, "revoke": 0, "crl": 0}


def concerns(*served: ServedCrl) -> list[tuple[str, str]]:
    queue = QueueStatistics(
        waiting=NOTHING,  # type: ignore[arg-type] # the kinds of jobs
        leased=NOTHING,  # type: ignore[arg-type] # as above
        postponed=NOTHING,  # type: ignore[arg-type] # as above
        set_aside=NOTHING,  # type: ignore[arg-type] # as above
        suspected=0,
        unattested=0,
        unattested_s=0,
        oldest_age_s=0,
        oldest_difficulty="",
        issued_last_hour=0,
    )
    situation = ops.Situation(
        now=NOW, queue=queue, signers=(), crls=(), held=(), unpublished=(), hears_signers=False, served=served
    )
    return [(each.code, each.what) for each in ops.concerns(situation)]


def served(state: ServedState, *, lasts: float = 0, age: float = 60, name: str = "a_2026_1") -> ServedCrl:
    seen_at = NOW - dt.timedelta(seconds=age)
    return ServedCrl(
        authority=name,
        url=f"http://pki/{name}.crl",
        state=state,
        what="what was seen",
        number=7,
        this_update=NOW,
        next_update=NOW,
        seen_at=seen_at,
        since=seen_at - dt.timedelta(seconds=lasts),
    )


def test_all_is_well() -> None:
    assert concerns() == []
    assert concerns(served("served")) == []


@pytest.mark.parametrize(
    ("state", "code"), [("stale", "crl-served-stale"), ("wrong", "crl-served-wrong")], ids=["stale", "wrong"]
)
def test_what_is_served_is_not_what_should_be(state: ServedState, code: str) -> None:
    ((found, what),) = concerns(served(state), served("served", name="b_2026_1"))
    assert found == code
    assert "the CRL of a_2026_1 at http://pki/a_2026_1.crl" in what
    assert "what was seen" in what


def test_a_server_may_be_away_for_a_while() -> None:
    assert concerns(served("unreachable", lasts=3_500)) == []
    ((code, what),) = concerns(served("unreachable", lasts=7_200))
    assert code == "crl-unreachable"
    assert "cannot be fetched for 2 hours" in what


def test_a_watch_that_does_not_run_any_more() -> None:
    """What it saw last may have changed since."""
    ((code, what),) = concerns(served("stale", age=86_400), served("wrong", age=90_000))
    assert code == "crl-unwatched"
    assert "24 hours" in what


def test_the_worst_first() -> None:
    found = concerns(served("unreachable", lasts=9_999), served("stale"), served("wrong"))
    assert [code for code, _ in found] == ["crl-served-wrong", "crl-served-stale", "crl-unreachable"]
