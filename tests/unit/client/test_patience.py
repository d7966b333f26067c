from __future__ import annotations

import datetime as dt

import pytest
from tests.support.store import NOW, after, lease_sign, request_id, submit

from cassiopeia.client import patience
from cassiopeia.store.database import Store


def test_each_try_waits_longer_up_to_half_an_hour() -> None:
    assert [patience.delay_s(failures) for failures in range(1, 8)] == [1, 5, 25, 125, 625, 1800, 1800]


@pytest.mark.parametrize(
    ("told", "postponed", "waits"),
    [(0, 0, 0), (1, 0, 1), (5, 2, 5), (5, 3, 7), (0, 10, 1023), (1, 11, 1800), (1, 10**9, 1800), (3600, 99, 3600)],
)
def test_the_signer_is_heeded_and_asked_ever_less_often(told: int, postponed: int, waits: float) -> None:
    assert patience.as_told(told, postponed=postponed) == waits


def test_a_signer_that_names_a_time_beyond_all_measure_is_asked_after_a_day() -> None:
    assert patience.as_told(10**50, postponed=0) == 24 * 3600


def test_a_job_is_tried_again_later_and_then_set_aside(store: Store) -> None:
    submit(store, 1)
    at = NOW
    for failures in range(1, patience.TRIES):
        (job,) = lease_sign(store, at=at)
        assert job.tries == failures - 1
        patience.try_later(store.queue, "client", [job], now=at)
        wait = dt.timedelta(seconds=patience.delay_s(failures))
        assert lease_sign(store, at=at + wait - dt.timedelta(seconds=0.1)) == []
        at += wait
    (job,) = lease_sign(store, at=at)
    patience.try_later(store.queue, "client", [job], now=at)
    assert lease_sign(store, at=after(1_000_000)) == []
    record = store.requests.find(request_id(1))
    assert record is not None
    assert (record.state, record.set_aside) == ("queued", True)
    assert record.last_error.endswith("its own log says why; tried 6 times")


def test_an_operator_puts_it_back_with_a_clean_slate(store: Store) -> None:
    submit(store, 1)
    for number in range(patience.TRIES):
        (job,) = lease_sign(store, at=after(10_000 * number))
        patience.try_later(store.queue, "client", [job], now=after(10_000 * number))
    store.requests.retry(request_id(1).hex(), now=after(200_000))
    (again,) = lease_sign(store, at=after(200_000))
    assert again.tries == 0


def test_nothing_left_unanswered_changes_nothing(store: Store) -> None:
    submit(store, 1)
    patience.try_later(store.queue, "client", [], now=NOW)
    assert len(lease_sign(store)) == 1
