from __future__ import annotations

import pytest
from tests.support.store import NOW, after, lease_sign, request_id, submit

from cassiopeia.client.losses import Losses
from cassiopeia.store.database import Store
from cassiopeia.store.records import Job

OWNER = "client"


def settle(store: Store, losses: Losses, jobs: list[Job], *, at: float = 0, proven: bool = False) -> None:
    losses.settle(store.queue, OWNER, jobs, "the line was lost", now=after(at), proven=proven)


def lease(store: Store, *, at: float = 0) -> list[Job]:
    return list(lease_sign(store, OWNER, at=after(at)))


def suspect(store: Store, *, at: float) -> Job:
    job = store.queue.lease_suspect(OWNER, lease_s=60, now=after(at))
    assert job is not None
    return job


def test_a_line_that_is_lost_now_and_then_harms_nobody(store: Store) -> None:
    losses = Losses()
    for number in range(5):
        submit(store, number)
        jobs = lease(store)
        assert len(jobs) == 1
        settle(store, losses, jobs)
        # The next session answers that one, and is lost with another.
        [job] = lease(store)
        assert (job.deaths, job.tries, job.postponed) == (0, 0, 0)
        store.queue.set_aside(OWNER, [(job.id, "answered")], now=NOW)


def test_what_was_under_way_twice_in_a_row_is_suspected(store: Store) -> None:
    losses = Losses()
    for number in range(3):
        submit(store, number)
    settle(store, losses, lease(store)[:2])
    # The third was not sent before.
    settle(store, losses, lease(store))
    assert store.queue.statistics(now=NOW).suspected == 2
    record = store.requests.find(request_id(0))
    assert record is not None
    assert record.last_error.startswith("it is tried alone after death 1 of 3: client, ")
    assert record.last_error.endswith("the line was lost twice in a row while it was under way")


def test_a_suspect_is_set_aside_when_the_signer_works_and_it_alone_loses_the_line(store: Store) -> None:
    losses = Losses()
    submit(store, 1)
    for _ in range(2):
        settle(store, losses, lease(store))
    # Three times may be the line's fault.
    waits = [0, 1, 3, 0, 0]
    at = 0
    for wait in waits:
        settle(store, losses, [suspect(store, at=at)], at=at, proven=True)
        at += wait
    [job] = store.queue.set_aside_jobs(limit=9)
    assert len(job.dead_holders) == 3
    assert "while it alone was under way" in job.reason


def test_a_signer_that_can_do_nothing_sets_nothing_aside(store: Store) -> None:
    """Its disk is broken: whatever it is asked, it ends. Its suspects wait ever longer, and lose nothing."""
    losses = Losses()
    submit(store, 1)
    for _ in range(2):
        settle(store, losses, lease(store))
    at = 0.0
    for wait in (0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1800, 1800, 1800):
        settle(store, losses, [suspect(store, at=at)], at=at)
        assert not store.queue.suspect_waits(now=after(at + wait - 0.1))
        at += wait
    assert suspect(store, at=at).deaths == 1


@pytest.mark.parametrize("proven", [False, True])
def test_nothing_under_way_is_nothing_to_settle(store: Store, *, proven: bool) -> None:
    settle(store, Losses(), [], proven=proven)
    assert store.queue.statistics(now=NOW).suspected == 0
