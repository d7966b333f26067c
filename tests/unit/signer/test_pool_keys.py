"""The pool and keys that end workers or hang: one sub-CA waits, and no other (tests/support/fake_worker.py)."""

from __future__ import annotations

import itertools
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.support import fake_worker

from cassiopeia import worker_process
from cassiopeia.signer import pool as pool_module
from cassiopeia.signer.pool import WORKER_DIED, WorkerPool
from cassiopeia.signer.tasks import Deferred, LackingKey, Outcome, Sign, Signed, TryKey, Usable

TIME_LIMIT_S = 30.0


class Front:
    """The signer's loop, with nothing in it but the pool."""

    def __init__(self, how: Path, *, count: int, authorities: Sequence[str] = ("sick",)) -> None:
        self.selector = selectors.DefaultSelector()
        self.outcomes: dict[int, Outcome] = {}
        self.began: list[Sequence[LackingKey]] = []
        self._numbers = itertools.count(1)
        self.pool = WorkerPool(
            config_path=how,
            configuration_hash=fake_worker.CONFIGURATION_HASH,
            count=count,
            authorities=authorities,
            selector=self.selector,
            deliver=self._deliver,
            command=(sys.executable, str(Path(fake_worker.__file__))),
            began=self.began.append,
        )
        self.pool.start()

    def _deliver(self, outcome: Outcome) -> None:
        assert outcome.task not in self.outcomes
        self.outcomes[outcome.task] = outcome

    def sign(self, name: str) -> int:
        task = next(self._numbers)
        self.pool.submit(Sign(task=task, signing_ca=name, algorithm=b"", octets=b""))
        return task

    def try_key(self, name: str) -> int:
        task = next(self._numbers)
        self.pool.submit(TryKey(task=task, signing_ca=name))
        return task

    def run_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIME_LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; the outcomes are {self.outcomes}"
            for key, mask in self.selector.select(0.02):
                key.data(mask)
            self.pool.check_time()
            self.pool.pump()

    def run_until_answered(self, *tasks: int) -> list[Outcome]:
        self.run_until(lambda: self.outcomes.keys() >= set(tasks))
        return [self.outcomes[each] for each in tasks]


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_RESPAWN_DELAY_S", 0.05)
    monkeypatch.setattr(worker_process, "_STOP_TIME_LIMIT_S", 0.3)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Front]]:
    made: list[Front] = []

    def start(
        how: str = "good", *, count: int = 2, ready: bool = True, authorities: Sequence[str] = ("sick",)
    ) -> Front:
        front = Front(tmp_path / how, count=count, authorities=authorities)
        made.append(front)
        if ready:
            front.run_until(lambda: front.pool.unlocked)
        return front

    yield start
    for front in made:
        front.pool.stop()
        front.selector.close()


def codes(outcomes: Sequence[Outcome]) -> set[str]:
    return {each.code for each in outcomes if isinstance(each, Deferred)}


def test_what_waits_for_a_key_that_ends_workers_is_put_off_with_it(make: Callable[..., Front]) -> None:
    front = make()
    sick = [front.sign("die") for _ in range(40)]
    sound = [front.sign("sound") for _ in range(40)]
    assert all(isinstance(each, Signed) for each in front.run_until_answered(*sound))
    put_off = front.run_until_answered(*sick)
    assert codes(put_off) == {WORKER_DIED}
    first = put_off[0]
    assert isinstance(first, Deferred)
    assert first.message == ("signing with the key of die ended two workers of the signer; a person must look at it")


def test_a_key_that_hangs_holds_one_worker_at_a_time(
    make: Callable[..., Front], monkeypatch: pytest.MonkeyPatch
) -> None:
    front = make()
    monkeypatch.setattr(pool_module, "_BATCH_TIME_LIMIT_S", 1.0)
    front.run_until_answered(*[front.sign("hang") for _ in range(30)])
    monkeypatch.setattr(pool_module, "_BATCH_TIME_LIMIT_S", 600.0)
    sick, sound = front.try_key("hang"), []
    for _ in range(20):
        front.sign("hang")
        sound.append(front.sign("sound"))
    # One worker hangs for as long as it likes, the other does all that is left.
    assert all(isinstance(each, Signed) for each in front.run_until_answered(*sound))
    assert sick not in front.outcomes


def test_a_try_ends_one_worker_at_the_most(make: Callable[..., Front], caplog: pytest.LogCaptureFixture) -> None:
    front = make(count=1)
    (outcome,) = front.run_until_answered(front.try_key("die"))
    assert isinstance(outcome, Deferred)
    assert outcome.code == WORKER_DIED
    assert caplog.text.count("is gone") == 1


@pytest.mark.parametrize("how", ["dies-opening", "hangs-opening"])
def test_a_key_that_ends_those_who_open_it_is_left_out(
    make: Callable[..., Front], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_OPENING_TIME_LIMIT_S", 0.5)
    front = make(how)
    front.run_until(lambda: len(front.began) == 2)
    assert [[each.signing_ca for each in lacking] for lacking in front.began] == [["sick"], ["sick"]]
    assert front.pool.lacking_keys.keys() == {"sick"}
    assert isinstance(front.run_until_answered(front.sign("sound"))[0], Signed)
    # Once it has been used again, those that follow open it.
    assert list(front.pool._left_out()) == ["--without", "sick"]
    assert isinstance(front.run_until_answered(front.try_key("sick"))[0], Usable)
    assert list(front.pool._left_out()) == []
    assert front.pool.lacking_keys == {}


def test_a_worker_that_lacks_keys_which_are_not_ours_is_replaced(
    make: Callable[..., Front], caplog: pytest.LogCaptureFixture
) -> None:
    front = make("lacks", ready=False, authorities=["another"])
    front.run_until(lambda: caplog.text.count("is replaced: it lacks keys that are not ours") > 2)
    assert front.pool.lacking_keys == {}
    assert not front.pool.unlocked


def test_nobody_is_told_to_leave_out_what_is_not_ours(make: Callable[..., Front]) -> None:
    front = make("dies-opening", ready=False, authorities=["another"])
    first = front.pool._members[:]
    front.run_until(lambda: not any(each in first for each in front.pool._members))
    front.run_until(lambda: len(front.pool._members) == 2)
    assert list(front.pool._left_out()) == []


def test_no_room_for_a_process_ends_nobody_else(make: Callable[..., Front], monkeypatch: pytest.MonkeyPatch) -> None:
    front = make()
    front.run_until(lambda: all(each.ready for each in front.pool._members))
    with monkeypatch.context() as scarce:

        def no_room(*_: object, **__: object) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        scarce.setattr(pool_module, "WorkerProcess", no_room)
        scarce.setattr(pool_module, "_LOOK_AGAIN_S", 0.05)
        os.kill(front.pool._members[0].worker.pid, signal.SIGKILL)
        front.run_until(lambda: list(front.pool.alarms()) != [])
        (alarm,) = front.pool.alarms()
        assert "Resource temporarily unavailable" in alarm
        assert all(isinstance(each, Signed) for each in front.run_until_answered(front.sign("sound")))
    front.run_until(lambda: [each.ready for each in front.pool._members] == [True] * 2)
    assert list(front.pool.alarms()) == []
