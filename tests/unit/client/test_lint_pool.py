"""The lint workers' keeper, over real processes whose program is a few lines of the test's own."""

from __future__ import annotations

import importlib.util
import os
import selectors
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cassiopeia import worker_process
from cassiopeia.client import lint_pool
from cassiopeia.client.lint_pool import LintFailure, LintPool, require_linter
from cassiopeia.client.lint_tasks import LintResult, LintTask
from cassiopeia.errors import OperatorError

# What it does with a task stands in the task: "die", "hang", "lie"; "once FILE" dies if that file is not there yet.
PROGRAM = """
import contextlib, os, pathlib, signal, socket, sys
from cassiopeia.client.lint_tasks import LintReady, LintResult, read_tasks
from cassiopeia.frames import FrameReader, frame


def work(verb, argument):
    if verb == "once" and not os.path.exists(argument):
        pathlib.Path(argument).touch()
        verb = "die"
    if verb == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if verb == "hang":
        signal.pause()
    if verb == "lie":
        stream.sendall(b"\\0\\0\\0\\1?")


stream = socket.socket(fileno=int(sys.argv[1]))
with stream, contextlib.suppress(ConnectionError):
    stream.sendall(frame(LintReady()))
    reader = FrameReader()
    while octets := stream.recv(65536):
        for body in reader.feed(octets):
            for task in read_tasks(body):
                verb, _, argument = task.tbs_certificate.decode().partition(" ")
                work(verb, argument)
                number = task.number + 1_000 * (verb == "other")
                stream.sendall(frame(LintResult(number=number, findings=())))
"""


class Keeper:
    """A pool and its loop."""

    def __init__(self, *, count: int = 1, program: str = PROGRAM) -> None:
        self.selector = selectors.DefaultSelector()
        self.pool = LintPool(count=count, selector=self.selector, command=[sys.executable, "-c", program])
        self.answers: list[LintResult | LintFailure] = []

    def submit(self, *verbs: str) -> None:
        for number, verb in enumerate(verbs):
            self.pool.submit(LintTask(number=number, tbs_certificate=verb.encode(), rules=()))

    def turn(self) -> None:
        self.pool.pump()
        for key, mask in self.selector.select(0.05):
            key.data(mask)
        self.answers += self.pool.take()

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.turn()

    def ask(self, *verbs: str) -> dict[int, LintResult | LintFailure]:
        """Answers by the number of the task, when all are there."""
        self.submit(*verbs)
        self.until(lambda: len(self.answers) >= len(verbs))
        return {each.number: each for each in self.answers}

    @property
    def pids(self) -> list[int]:
        return [member.worker.pid for member in self.pool._members]

    def close(self) -> None:
        self.pool.stop()
        self.selector.close()


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint_pool, "_RESTART_FIRST_S", 0.0)


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    opened = Keeper()
    yield opened
    opened.close()


def good(number: int) -> LintResult:
    return LintResult(number=number, findings=())


def test_every_task_is_answered_in_order(keeper: Keeper) -> None:
    keeper.ask(*["lint"] * 100)
    assert keeper.answers == [good(number) for number in range(100)]


def test_several_workers_share_the_work() -> None:
    keeper = Keeper(count=2)
    try:
        keeper.until(lambda: all(member.ready for member in keeper.pool._members) and len(keeper.pids) == 2)
        keeper.submit(*["lint"] * 10)
        keeper.pool.pump()
        assert [len(member.tasks) for member in keeper.pool._members] == [5, 5]
        keeper.until(lambda: len(keeper.answers) == 10)
    finally:
        keeper.close()


def test_tasks_larger_than_the_sockets_buffer_arrive(keeper: Keeper) -> None:
    answers = keeper.ask(*["lint " + "x" * 1_000_000] * 4)
    assert answers == {number: good(number) for number in range(4)}


def test_a_lint_that_dies_once_is_tried_again_alone(keeper: Keeper, tmp_path: Path) -> None:
    answers = keeper.ask("lint", f"once {tmp_path / 'first'}", "lint", "lint")
    assert answers == {number: good(number) for number in range(4)}


def test_a_lint_that_dies_twice_is_given_up_and_costs_no_other(
    keeper: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    answers = keeper.ask("lint", "die", "lint", "die", "lint")
    assert [answers[number] for number in (0, 2, 4)] == [good(0), good(2), good(4)]
    for number in (1, 3):
        failure = answers[number]
        assert isinstance(failure, LintFailure)
        assert failure.died
    # One death by the first of the two, and one by each of them alone.
    assert len([each for each in caplog.messages if "is gone (status -9)" in each]) == 3


def test_a_lint_that_hangs_is_given_up(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint_pool, "LINT_TIME_LIMIT_S", 0.2)
    answers = keeper.ask("hang", "lint")
    assert isinstance(answers[0], LintFailure)
    assert answers[1] == good(1)


def test_a_worker_that_was_killed_or_stopped_from_outside_is_replaced(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper.ask("lint")
    [first] = keeper.pids
    os.kill(first, signal.SIGKILL)
    keeper.until(lambda: keeper.pids not in ([], [first]))
    keeper.until(lambda: keeper.pool._members[0].ready)
    [second] = keeper.pids
    os.kill(second, signal.SIGSTOP)
    monkeypatch.setattr(lint_pool, "LINT_TIME_LIMIT_S", 0.2)
    keeper.answers.clear()
    assert keeper.ask("lint", "lint") == {0: good(0), 1: good(1)}
    assert second not in keeper.pids


def test_another_worker_starts_in_place_of_a_dead_one_but_not_at_once(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.ask("lint")
    monkeypatch.setattr(lint_pool, "_RESTART_FIRST_S", 60.0)
    [first] = keeper.pids
    os.kill(first, signal.SIGKILL)
    keeper.until(lambda: keeper.pids == [])
    keeper.turn()
    assert keeper.pids == []
    assert "is gone (status -9); another starts in 60 seconds" in caplog.text
    keeper.pool._restart_at = 0.0
    keeper.turn()
    assert len(keeper.pids) == 1


@pytest.mark.parametrize("verb", ["lie", "other"])
def test_a_worker_that_answers_nonsense_is_replaced(
    keeper: Keeper, verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    answers = keeper.ask(verb, "lint")
    assert isinstance(answers[0], LintFailure)
    assert answers[1] == good(1)
    assert "is replaced: it " in caplog.text


def test_while_no_worker_starts_everything_fails_and_nothing_passes(caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper(program="raise SystemExit(3)")
    try:
        answers = keeper.ask("lint", "lint")
        for each in answers.values():
            assert isinstance(each, LintFailure)
            assert not each.died
        assert "a lint worker does not start (status 3)" in caplog.text
        keeper.answers.clear()
        assert isinstance(keeper.ask("lint")[0], LintFailure)
    finally:
        keeper.close()


def test_a_worker_that_starts_after_all_ends_the_failures(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    keeper = Keeper(program=f"import os\nif not os.path.exists({str(mended)!r}): raise SystemExit(3)\n{PROGRAM}")
    try:
        keeper.ask("lint")
        mended.touch()
        keeper.answers.clear()
        keeper.until(lambda: bool(keeper.pool._members) and keeper.pool._members[0].ready)
        assert keeper.ask("lint") == {0: good(0)}
    finally:
        keeper.close()


def test_a_worker_that_never_says_it_is_ready_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint_pool, "_START_TIME_LIMIT_S", 0.1)
    monkeypatch.setattr(worker_process, "_STOP_TIME_LIMIT_S", 0.1)
    keeper = Keeper(program="import signal; signal.pause()")
    try:
        assert isinstance(keeper.ask("lint")[0], LintFailure)
    finally:
        keeper.close()


def test_what_was_forgotten_is_not_linted(keeper: Keeper) -> None:
    keeper.submit(*["die"] * 3)
    keeper.pool.forget()
    assert keeper.ask("lint") == {0: good(0)}


def test_at_the_end_nobody_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "_STOP_TIME_LIMIT_S", 0.1)
    keeper = Keeper(count=2)
    keeper.until(lambda: len(keeper.pids) == 2 and all(member.ready for member in keeper.pool._members))
    keeper.submit("hang", "lint")
    keeper.turn()
    processes = [member.worker.process for member in keeper.pool._members]
    keeper.close()
    assert sorted(process.returncode for process in processes) == [-signal.SIGKILL, 0]


def test_without_the_linter_the_operator_is_told_which_package_and_which_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_linter()
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(OperatorError, match=r"pkilint.*not installed: pip install 'cassiopeia-ca\[client\]'"):
        require_linter()
