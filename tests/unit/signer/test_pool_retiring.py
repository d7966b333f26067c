"""Two pools side by side: one on trial, one that hands its work over (tests/support/fake_worker.py)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import fake_worker
from tests.unit.signer.test_pool import Front

from cassiopeia import worker_process
from cassiopeia.errors import PeerError
from cassiopeia.signer import pool as pool_module
from cassiopeia.signer.pool import WorkerPool
from cassiopeia.signer.tasks import Deferred, Signed


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_RESPAWN_DELAY_S", 0.05)
    monkeypatch.setattr(worker_process, "_STOP_TIME_LIMIT_S", 0.3)


class Changing(Front):
    """A loop with one pool that serves, and those before it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "good", count=1)
        self._directory = directory
        self.retired: list[WorkerPool] = []
        self.pool.start()
        self.run_until(lambda: self.is_ready(1))

    def on_trial(self, how: str = "good") -> tuple[WorkerPool, list[str]]:
        faults: list[str] = []
        made = WorkerPool(
            config_path=self._directory / how,
            configuration_hash=fake_worker.CONFIGURATION_HASH,
            count=1,
            selector=self.selector,
            deliver=self.outcomes.append,
            command=(sys.executable, str(Path(fake_worker.__file__))),
            unusable=faults.append,
        )
        made.start()
        return made, faults

    def change(self) -> None:
        """A new pool takes over."""
        new, _ = self.on_trial()
        new.take_office()
        self.retired.append(self.pool)
        self.pool = new
        self.retired[-1].retire(new)

    def turn(self) -> None:
        super().turn()
        for each in self.retired:
            each.check_time()

    def end(self) -> None:
        for each in [*self.retired, self.pool]:
            each.end()
        self.selector.close()


def finished(front: Changing) -> bool:
    return front.retired[0].finished


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Changing]:
    made = Changing(tmp_path)
    yield made
    made.end()


def test_what_waits_goes_to_the_heir_and_what_is_signed_is_finished(front: Changing, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    under_way = front.sign(f"wait {gate}")
    front.pool.pump()
    waiting = [front.sign(), front.check_proofs(), front.sign()]
    old = front.process_ids()
    front.change()
    front.run_until_answered(*waiting)
    assert not finished(front)
    gate.touch()
    outcomes = front.run_until_answered(under_way, *waiting)
    signed = outcomes[under_way]
    assert isinstance(signed, Signed)
    assert signed.signature.split()[0] == str(old[0]).encode()
    assert finished(front)
    assert front.retired[0].seconds_to_deadline() is None
    with pytest.raises(ProcessLookupError):
        os.kill(old[0], 0)


def test_decisions_are_dropped_whether_they_wait_or_are_under_way(front: Changing, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    front.decide(f"wait {gate}")
    front.pool.pump()
    front.decide()
    front.change()
    assert front.retired[0].finished  # nobody waits for it
    last = front.sign()
    assert list(front.run_until_answered(last)) == [last]


def test_a_decision_behind_a_signature_is_not_delivered(front: Changing, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    signature = front.sign(f"wait {gate}")
    front.pool.pump()
    front.decide()
    front.pool.pump()  # the second batch of the same worker
    front.change()
    gate.touch()
    assert list(front.run_until_answered(signature)) == [signature]
    assert front.retired[0].finished


def test_what_a_dying_worker_held_is_inherited(front: Changing, tmp_path: Path) -> None:
    once = tmp_path / "once"
    tasks = [front.sign(f"wait {tmp_path / 'never'}"), front.sign(f"die-once {once}")]
    front.pool.pump()
    front.pool.pump()
    front.decide()
    front.pool.pump()
    (old,) = front.process_ids()
    front.change()
    (tmp_path / "never").touch()
    outcomes = front.run_until_answered(*tasks)
    assert all(isinstance(each, Signed) for each in outcomes.values())
    assert [each.task for each in front.outcomes if isinstance(each, Deferred)] == []
    assert front.retired[0].finished
    assert old not in front.process_ids()


def test_a_task_that_ends_workers_of_both_is_deferred(front: Changing, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = front.sign(f"wait {gate}")
    front.pool.pump()
    guilty = front.sign("die")
    front.pool.pump()
    front.change()
    gate.touch()
    outcomes = front.run_until_answered(first, guilty)
    assert isinstance(outcomes[first], Signed)
    assert isinstance(outcomes[guilty], Deferred)


def test_an_heir_that_has_retired_hands_on(front: Changing, tmp_path: Path) -> None:
    task = front.sign(f"wait {tmp_path / 'never'}")
    front.pool.pump()
    (old,) = front.process_ids()
    front.change()
    front.change()
    os.kill(old, signal.SIGKILL)
    (tmp_path / "never").touch()
    outcomes = front.run_until_answered(task)
    assert isinstance(outcomes[task], Signed)
    assert [each.finished for each in front.retired] == [True, True]


def test_a_worker_that_says_more_than_it_was_asked_ends_nobody(front: Changing, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    first = front.sign(f"wait {gate}")
    front.pool.pump()
    front.sign("twice")
    front.pool.pump()
    front.change()
    gate.touch()
    last = front.sign()
    front.run_until(lambda: {first, last} <= {each.task for each in front.outcomes} and front.retired[0].finished)


def test_what_a_released_worker_says_in_the_same_breath_is_for_nobody(front: Changing) -> None:
    [member] = front.pool._members
    front.change()
    assert finished(front)
    front.retired[0]._hear(member, b"\xc1")
    front.retired[0]._bury(member, PeerError("it said what is none"))
    assert finished(front)


@pytest.mark.parametrize(("how", "words"), [("unusable", "passphrase is wrong"), ("lacking", "is not there")])
def test_on_trial_whatever_is_lacking_is_told_and_ends_nothing(front: Changing, how: str, words: str) -> None:
    new, faults = front.on_trial(how)
    front.run_until(lambda: bool(faults))
    assert words in faults[0]
    assert not new.unlocked
    new.end()
    assert new.finished
    front.run_until_answered(front.sign())


def test_on_trial_another_configuration_is_told(front: Changing) -> None:
    new, faults = front.on_trial("changed")
    front.run_until(lambda: bool(faults))
    assert "have changed on disk" in faults[0]
    new.end()


def test_a_pool_whose_files_have_changed_says_so(front: Changing, tmp_path: Path) -> None:
    front.pool._count = 2
    front.pool._config_path = tmp_path / "changed"
    front.run_until(lambda: bool(list(front.pool.alarms())))
    [alarm] = front.pool.alarms()
    assert alarm.startswith("no new worker can start, those that run go on: profiles")
    front.change()
    assert not list(front.retired[0].alarms())


def test_workers_are_told_the_installation(front: Changing, tmp_path: Path) -> None:
    front.pool._installation = tmp_path / "bundles/0007"
    (old,) = front.process_ids()
    os.kill(old, signal.SIGKILL)
    front.run_until(lambda: front.process_ids() not in ([], [old]) and front.is_ready(1))
    (new,) = front.process_ids()
    arguments = Path(f"/proc/{new}/cmdline").read_bytes().decode().split("\0")[:-1]
    assert arguments[-3:-1] == [str(tmp_path / "good"), str(tmp_path / "bundles/0007")]
