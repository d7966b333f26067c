"""The lint workers as the client sees them: hands out tasks in batches, and outlives their deaths.

A worker is a program of its own (`lint_worker`): it inherits none of the client's TLS session and database. What it had
not answered when it died or hung is tried again, each lint alone: the innocent get through, and the one that ends a
second worker is given up as `died`. While no worker starts at all, nothing is linted and everything is answered as
failed: never as good.
"""

from __future__ import annotations

import importlib.util
import logging
import selectors
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cassiopeia.client.lint_tasks import (
    LINT_TIME_LIMIT_S,
    LintReady,
    LintResult,
    LintTask,
    read_answer,
)
from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.worker_process import WorkerProcess, stop

_log = logging.getLogger(__name__)

# While a worker is at the first half of what it has, the second half is on its way to it.
_TASKS_A_WORKER: Final = 32
_START_TIME_LIMIT_S: Final = 60.0
_STARTS_IN_VAIN: Final = 3
_RESTART_FIRST_S: Final = 1.0
_RESTART_LAST_S: Final = 60.0
WORKER: Final = (sys.executable, "-P", "-m", "cassiopeia.client.lint_worker")
"""The command of a lint worker, but for its descriptor."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LintFailure:
    """There is no result. `died`: this task took two workers with it; otherwise no worker works at all."""

    number: int
    died: bool
    reason: str


@dataclass
class _Queued:
    task: LintTask
    deaths: int = 0


@dataclass
class _Member:
    worker: WorkerProcess
    deadline: float
    tasks: deque[_Queued] = field(default_factory=deque)
    ready: bool = False


class LintPool:
    """`count` workers, in the selector of the client's loop, which calls `pump` every turn."""

    def __init__(self, *, count: int, selector: selectors.BaseSelector, command: Sequence[str] = WORKER) -> None:
        self._count = count
        self._selector = selector
        self._command = command
        self._members: list[_Member] = []
        self._waiting: deque[_Queued] = deque()
        self._suspects: deque[_Queued] = deque()
        self._answers: list[LintResult | LintFailure] = []
        self._starts_in_vain = 0
        self._restart_at = 0.0

    def submit(self, task: LintTask) -> None:
        self._waiting.append(_Queued(task))

    def take(self) -> list[LintResult | LintFailure]:
        """What was answered since the last call, in the order of the answers."""
        answers, self._answers = self._answers, []
        return answers

    def pump(self) -> None:
        """Start workers, end those that hang, and hand out what waits."""
        self._check_time()
        while len(self._members) < self._count and time.monotonic() >= self._restart_at:
            self._spawn()
        if self._starts_in_vain >= _STARTS_IN_VAIN:
            self._give_up()
        ready = sorted((member for member in self._members if member.ready), key=lambda each: len(each.tasks))
        for place, member in enumerate(ready):
            self._give(member, share=-(-len(self._waiting) // (len(ready) - place)))

    def forget(self) -> None:
        """Nobody waits for what was submitted any more; what is being linted is answered all the same."""
        self._waiting.clear()
        self._suspects.clear()
        self._answers.clear()

    def stop(self) -> None:
        """Close every stream: workers end by themselves, the stubborn are killed."""
        members, self._members = self._members, []
        stop(member.worker for member in members)

    def _spawn(self) -> None:
        worker = WorkerProcess(
            self._command,
            selector=self._selector,
            hear=lambda body: self._take(member, read_answer(body)),
            lost=lambda fault: self._bury(member, fault),
        )
        member = _Member(worker=worker, deadline=time.monotonic() + _START_TIME_LIMIT_S)
        self._members.append(member)

    def _check_time(self) -> None:
        now = time.monotonic()
        for member in list(self._members):
            if now > member.deadline and (member.tasks or not member.ready):
                _log.error("lint worker %d hangs and is ended", member.worker.pid)
                self._bury(member)

    def _give_up(self) -> None:
        """No worker starts: whoever waits is told so."""
        for queued in (*self._suspects, *self._waiting):
            self._fail(queued, died=False, reason="the linter does not start; the client's log says why")
        self._suspects.clear()
        self._waiting.clear()

    def _give(self, member: _Member, *, share: int) -> None:
        if self._suspects:
            # By itself, so that it is plain what a death is due to; and soon, so no other work is handed out before.
            batch = [] if member.tasks else [self._suspects.popleft()]
        elif any(queued.deaths for queued in member.tasks) or len(member.tasks) > _TASKS_A_WORKER // 2:
            batch = []
        else:
            batch = [self._waiting.popleft() for _ in range(min(share, _TASKS_A_WORKER - len(member.tasks)))]
        if not batch:
            return
        if not member.tasks:
            member.deadline = time.monotonic() + LINT_TIME_LIMIT_S
        member.tasks.extend(batch)
        member.worker.send([queued.task for queued in batch])

    def _take(self, member: _Member, answer: LintReady | LintResult) -> None:
        match answer:
            case LintReady() if not member.ready:
                member.ready = True
                self._starts_in_vain = 0
            case LintResult(number=number) if member.tasks and member.tasks[0].task.number == number:
                member.tasks.popleft()
                member.deadline = time.monotonic() + LINT_TIME_LIMIT_S
                self._answers.append(answer)
            case _:
                raise PeerError("it answered what it was not asked")

    def _bury(self, member: _Member, fault: PeerError | None = None) -> None:
        """Forget a dead worker: what it has not answered is tried again alone, or failed the second time."""
        if fault is not None:
            _log.error("lint worker %d is replaced: %s", member.worker.pid, fault)
        self._members.remove(member)
        status = member.worker.end()
        self._starts_in_vain += 0 if member.ready else 1
        # Also behind one that had worked: certificates that end workers must not keep the machine busy starting them.
        delay_s = min(_RESTART_FIRST_S * 2 ** max(0, self._starts_in_vain - 1), _RESTART_LAST_S)
        self._restart_at = time.monotonic() + delay_s
        if member.ready:
            _log.error(
                "lint worker %d is gone (status %d); another starts in %.0f seconds, and its work is tried again",
                member.worker.pid,
                status,
                delay_s,
            )
        else:
            _log.error(
                "a lint worker does not start (status %d); again in %.0f seconds. Nothing is confirmed without a lint.",
                status,
                delay_s,
            )
        for queued in member.tasks:
            queued.deaths += 1
            if queued.deaths > 1:
                self._fail(queued, died=True, reason="linting this certificate ended two lint workers")
            else:
                self._suspects.append(queued)

    def _fail(self, queued: _Queued, *, died: bool, reason: str) -> None:
        self._answers.append(LintFailure(number=queued.task.number, died=died, reason=reason))


def require_linter() -> None:
    """Raise OperatorError unless the linter is installed. It is not loaded: that takes the workers' time and memory."""
    if importlib.util.find_spec("pkilint") is None:
        raise OperatorError(
            "the package pkilint, which lints certificates before they are signed, is not installed: "
            "pip install 'cassiopeia-ca[client]'; or set workers = 0 under [lint] in client.toml to issue unlinted"
        )
