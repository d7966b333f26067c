"""The pool with real processes: a tiny worker that dies, hangs or lies on demand (tests/support/fake_worker.py)."""

from __future__ import annotations

import itertools
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support import fake_worker
from tests.support.authorities import NOW, server_request

from cassiopeia import worker_process
from cassiopeia.core.rules import Standing
from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.signer import pool as pool_module
from cassiopeia.signer.pool import WorkerPool
from cassiopeia.signer.tasks import CheckProofs, Decide, Deferred, Denied, Outcome, Sign, Signed

TIME_LIMIT_S = 20.0
NOTHING_STANDS = Standing()


class Front:
    """The signer's loop, with nothing in it but the pool."""

    def __init__(self, how: Path, *, count: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.outcomes: list[Outcome] = []
        self._numbers = itertools.count(1)
        self.pool = WorkerPool(
            config_path=how,
            configuration_hash=fake_worker.CONFIGURATION_HASH,
            count=count,
            selector=self.selector,
            deliver=self.outcomes.append,
            command=(sys.executable, str(Path(fake_worker.__file__))),
        )

    def decide(self, order: str = "", *, standing: Standing = NOTHING_STANDS) -> int:
        task = next(self._numbers)
        request = server_request(account=order, key_proof=b"")
        self.pool.submit(Decide(task=task, request=request, version=2, now=NOW, issued={}, standing=standing))
        return task

    def sign(self, order: str = "") -> int:
        task = next(self._numbers)
        self.pool.submit(Sign(task=task, signing_ca=order, algorithm=b"", octets=b""))
        return task

    def check_proofs(self) -> int:
        task = next(self._numbers)
        self.pool.submit(CheckProofs(task=task, claims=()))
        return task

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Turn the loop, without handing out new work first."""
        deadline = time.monotonic() + TIME_LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; the outcomes are {self.outcomes}"
            self.turn()

    def turn(self) -> None:
        patience = self.pool.seconds_to_deadline()
        for key, mask in self.selector.select(0.05 if patience is None else min(patience, 0.05)):
            key.data(mask)
        self.pool.check_time()
        self.pool.pump()

    def run_until_answered(self, *tasks: int) -> dict[int, Outcome]:
        self.run_until(lambda: {each.task for each in self.outcomes} >= set(tasks))
        numbers = [each.task for each in self.outcomes]
        assert len(numbers) == len(set(numbers)), "a task was answered twice"
        return {each.task: each for each in self.outcomes}

    def process_ids(self) -> list[int]:
        return [member.worker.pid for member in self.pool._members]

    def is_ready(self, count: int) -> bool:
        return sum(member.ready for member in self.pool._members) == count


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_RESPAWN_DELAY_S", 0.05)
    monkeypatch.setattr(worker_process, "_STOP_TIME_LIMIT_S", 0.3)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    """Start a pool whose workers start as `how` says; with `ready`, wait until they have."""
    made: list[Front] = []

    def start(how: str = "good", *, count: int = 1, ready: bool = True) -> Front:
        front = Front(tmp_path / how, count=count)
        made.append(front)
        front.pool.start()
        if ready:
            front.run_until(lambda: front.is_ready(count))
        return front

    yield start
    for front in made:
        front.pool.stop()
        front.selector.close()


def batch_size(outcome: Outcome) -> int:
    if isinstance(outcome, Signed):
        return int(outcome.signature.split()[1])
    assert isinstance(outcome, Denied)
    return int(outcome.field)


def process_of(outcome: Outcome) -> int:
    assert isinstance(outcome, Denied)
    return int(outcome.message)


def assert_deferred(outcome: Outcome) -> None:
    assert isinstance(outcome, Deferred)
    assert (outcome.code, outcome.retry_after_s) == ("worker-died", 300)


def test_workers_are_started_and_stopped(make: Callable[..., Front]) -> None:
    front = make(count=2, ready=False)
    unlocked = [front.pool.unlocked]
    processes = front.process_ids()
    assert len(set(processes)) == 2
    front.run_until(lambda: front.is_ready(2))
    unlocked.append(front.pool.unlocked)
    assert unlocked == [False, True]
    front.pool.stop()
    assert front.process_ids() == []
    for process_id in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process_id, 0)


def test_work_waits_until_a_worker_is_ready(make: Callable[..., Front]) -> None:
    front = make(ready=False)
    task = front.decide()
    front.pool.pump()
    assert not any(member.batches for member in front.pool._members)
    front.run_until_answered(task)


def test_tasks_travel_in_batches_and_come_back_once(make: Callable[..., Front]) -> None:
    front = make(count=2)
    tasks = [front.decide() for _ in range(100)]
    outcomes = front.run_until_answered(*tasks)
    sizes = [batch_size(each) for each in outcomes.values()]
    assert max(sizes) == 16  # what a batch holds
    assert min(sizes) == 1  # the last ones are spread over both
    assert len({process_of(each) for each in outcomes.values()}) == 2
    assert not any(member.batches for member in front.pool._members)


def test_signing_goes_first(make: Callable[..., Front], tmp_path: Path) -> None:
    """What is signed is wanted now, and ends an exchange; a decision begins one. A compromised key waits for none."""
    front = make()
    gate = tmp_path / "gate"
    first = front.decide(f"wait {gate}")
    front.pool.pump()
    decisions = [front.decide() for _ in range(3)]
    signatures = [front.check_proofs(), front.sign(), front.sign()]
    gate.touch()
    front.run_until_answered(first, *decisions, *signatures)
    assert [each.task for each in front.outcomes] == [first, *signatures, *decisions]


def test_a_worker_that_ends_by_itself_is_replaced(make: Callable[..., Front]) -> None:
    front = make()
    (process_id,) = front.process_ids()
    os.kill(process_id, signal.SIGKILL)
    front.run_until(lambda: front.process_ids() not in ([], [process_id]) and front.is_ready(1))
    front.run_until_answered(front.decide())


def test_of_a_batch_that_dies_only_the_guilty_is_deferred(make: Callable[..., Front]) -> None:
    front = make()
    good = [front.decide() for _ in range(3)]
    guilty = front.decide("die")
    good += [front.decide() for _ in range(3)]
    outcomes = front.run_until_answered(*good, guilty)
    assert_deferred(outcomes[guilty])
    # Each suspect was tried with nobody else.
    assert [batch_size(outcomes[each]) for each in good] == [1] * 6


@pytest.mark.parametrize("ask", [Front.decide, Front.sign])
def test_once_is_no_proof_twice_is(
    make: Callable[..., Front], tmp_path: Path, ask: Callable[[Front, str], int]
) -> None:
    """The machine or an operator may have ended the worker."""
    front = make()
    lucky = ask(front, f"die-once {tmp_path}/died")
    assert isinstance(front.run_until_answered(lucky)[lucky], Denied | Signed)
    unlucky = ask(front, "die")
    assert_deferred(front.run_until_answered(unlucky)[unlucky])


def test_what_still_waited_in_a_dead_workers_socket_is_not_suspected(
    make: Callable[..., Front], tmp_path: Path
) -> None:
    front = make()
    gate = tmp_path / "gate"
    killed = front.decide(f"wait {gate}")
    front.pool.pump()
    behind = [front.decide() for _ in range(4)] + [front.sign() for _ in range(2)]
    front.pool.pump()  # the second batch is under way to the worker
    (process_id,) = front.process_ids()
    os.kill(process_id, signal.SIGKILL)
    gate.touch()
    outcomes = front.run_until_answered(killed, *behind)
    assert batch_size(outcomes[killed]) == 1
    assert max(batch_size(outcomes[each]) for each in behind) > 1


def test_suspects_do_not_wait_for_the_queue_to_run_dry(make: Callable[..., Front]) -> None:
    front = make()
    suspects = [front.decide("die"), *(front.decide() for _ in range(4))]
    front.pool.pump()
    others = [front.decide() for _ in range(400)]
    outcomes = front.run_until_answered(*suspects)
    assert_deferred(outcomes[suspects[0]])
    assert len(outcomes) < len(others) / 2


def test_a_worker_that_hangs_is_ended(make: Callable[..., Front], monkeypatch: pytest.MonkeyPatch) -> None:
    front = make(count=2)
    processes = set(front.process_ids())
    monkeypatch.setattr(pool_module, "_BATCH_TIME_LIMIT_S", 0.2)
    guilty = front.decide("hang")
    front.pool.pump()
    good = front.decide()
    outcomes = front.run_until_answered(guilty, good)
    assert_deferred(outcomes[guilty])
    assert isinstance(outcomes[good], Denied)
    front.run_until(lambda: front.is_ready(2))
    assert not processes <= set(front.process_ids())


def test_deadlines_are_those_of_what_is_under_way(make: Callable[..., Front]) -> None:
    front = make()
    assert front.pool.seconds_to_deadline() is None
    front.decide("hang")
    front.pool.pump()
    patience = front.pool.seconds_to_deadline()
    assert patience is not None
    assert 29 < patience <= 30


@pytest.mark.parametrize("lie", ["garbage", "huge", "forget", "twice", "ready-again"])
def test_a_worker_that_breaks_the_rules_is_replaced_and_the_signer_lives(make: Callable[..., Front], lie: str) -> None:
    front = make()
    (process_id,) = front.process_ids()
    task = front.decide(lie)
    outcome = front.run_until_answered(task)[task]
    # Its first answer was a good one in this case, and is not taken back.
    assert isinstance(outcome, Denied if lie == "twice" else Deferred)
    front.run_until(lambda: process_id not in front.process_ids() and front.is_ready(1))
    assert isinstance(front.run_until_answered(task, front.decide())[task + 1], Denied)


def test_a_worker_that_never_begins_is_replaced(
    make: Callable[..., Front], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a token that does not answer. Another worker that has begun long ago is left alone."""
    front = make(count=2)
    lives, dies = front.process_ids()
    monkeypatch.setattr(pool_module, "_START_TIME_LIMIT_S", 0.2)
    front.pool._config_path = tmp_path / "silent"
    os.kill(dies, signal.SIGKILL)
    front.run_until(lambda: "did not begin for 0.2 seconds and is ended" in caplog.text)
    monkeypatch.setattr(pool_module, "_START_TIME_LIMIT_S", TIME_LIMIT_S)
    front.pool._config_path = tmp_path / "good"
    front.run_until(lambda: front.is_ready(2))
    assert lives in front.process_ids()


def test_a_worker_has_a_while_to_begin(make: Callable[..., Front]) -> None:
    front = make("silent", ready=False)
    patience = front.pool.seconds_to_deadline()
    assert patience is not None
    assert 200 < patience <= 300


@pytest.mark.parametrize("how", ["empty", "garbage", "dies"])
def test_a_worker_that_starts_badly_is_tried_again_after_a_while(make: Callable[..., Front], how: str) -> None:
    front = make(how, ready=False)
    (process_id,) = front.process_ids()
    front.run_until(lambda: front.process_ids() not in ([], [process_id]))
    assert not front.pool.unlocked


def test_a_signer_whose_workers_cannot_work_ends_with_their_reason(make: Callable[..., Front]) -> None:
    front = make("unusable", ready=False)
    with pytest.raises(OperatorError, match="the passphrase is wrong"):
        front.run_until(lambda: False)


def test_what_the_workers_lack_is_looked_for_until_it_comes(
    make: Callable[..., Front], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool_module, "_LOOK_AGAIN_S", 0.1)
    front = make("lacking", ready=False)
    (first,) = front.process_ids()
    front.run_until(lambda: front.process_ids() not in ([], [first]))
    front.run_until(lambda: front.process_ids() == [])
    assert front.pool.lacking == "the passphrase is not there"
    assert caplog.text.count("locked: the passphrase is not there; looks again") == 1
    front.pool._config_path = tmp_path / "good"
    front.run_until(lambda: front.is_ready(1))
    assert front.pool.lacking == ""


def test_a_configuration_that_changed_under_the_signer_is_not_used(make: Callable[..., Front]) -> None:
    front = make("changed", ready=False)
    front.run_until(lambda: front.pool.outdated and front.process_ids() == [])
    assert not front.pool.unlocked
    assert "let the signer take them over" in front.pool.failure


def test_while_one_worker_works_another_may_fail_and_come_back(make: Callable[..., Front], tmp_path: Path) -> None:
    front = make(count=2)
    first, second = front.process_ids()
    front.pool._config_path = tmp_path / "unusable"
    os.kill(first, signal.SIGKILL)
    front.run_until(lambda: bool(front.pool.failure))
    assert isinstance(front.run_until_answered(front.decide())[1], Denied)
    # The operator mended it: what was wrong is forgotten, and the next death is one like any other.
    front.pool._config_path = tmp_path / "good"
    front.run_until(lambda: front.is_ready(2))
    for process_id in front.process_ids():
        os.kill(process_id, signal.SIGKILL)
    front.run_until(lambda: second not in front.process_ids() and front.is_ready(2))
    assert isinstance(front.run_until_answered(front.decide())[2], Denied)


def test_a_worker_that_does_not_heed_the_end_is_killed(make: Callable[..., Front]) -> None:
    front = make("stubborn")
    (process_id,) = front.process_ids()
    front.pool.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


def test_a_batch_larger_than_the_socket_takes_is_sent_in_pieces(make: Callable[..., Front], tmp_path: Path) -> None:
    front = make()
    gate = tmp_path / "gate"
    tasks = [front.decide(f"wait {gate}")]
    front.pool.pump()
    for number in range(2, 6):
        request = server_request(key_proof=b"x" * 250_000)
        front.pool.submit(Decide(task=number, request=request, version=2, now=NOW, issued={}))
        tasks.append(number)
    front.turn()
    worker = front.pool._members[0].worker
    assert worker.outgoing
    assert front.selector.get_key(worker.stream).events & selectors.EVENT_WRITE
    gate.touch()
    assert all(isinstance(each, Denied) for each in front.run_until_answered(*tasks).values())
    assert front.selector.get_key(worker.stream).events == selectors.EVENT_READ


def test_an_outcome_that_no_sound_worker_gives_costs_the_worker_and_no_other_outcome(
    make: Callable[..., Front],
) -> None:
    front = make()
    (process_id,) = front.process_ids()
    take = front.pool._deliver

    def deliver(outcome: Outcome) -> None:
        take(outcome)
        if outcome.task == 2:
            raise PeerError("a signature over something else")

    front.pool._deliver = deliver
    tasks = [front.sign() for _ in range(5)]
    front.run_until_answered(*tasks)
    front.run_until(lambda: front.is_ready(1) and front.process_ids() != [process_id])
    front.run_until_answered(front.decide())


def test_a_worker_is_told_what_stands_when_it_has_changed(make: Callable[..., Front]) -> None:
    """And not with each request: thousands of keys may be blocked."""
    front = make()
    one = Standing(blocked_keys=frozenset({b"1" * 32}))
    two = Standing(blocked_keys=frozenset({b"1" * 32, b"2" * 32}))
    told = []
    for standing in (one, one, two, one):
        task = front.decide("told", standing=standing)
        outcome = front.run_until_answered(task)[task]
        assert isinstance(outcome, Denied)
        told.append(outcome.message)
    assert told == ["1", "1", "1,2", "1,2,1"]
    # One that takes another's place knows nothing yet.
    os.kill(front.process_ids()[0], signal.SIGKILL)
    task = front.decide("told", standing=one)
    outcome = front.run_until_answered(task)[task]
    assert isinstance(outcome, Denied)
    assert outcome.message == "1"
