"""The front's side of the worker processes: hands out tasks in batches, signing first, and survives their deaths.

A batch whose worker dies, hangs or breaks the rules is tried again one task at a time; a task that takes a worker with
it twice is answered as deferred. A hostile request costs itself and nothing else, and a worker that was killed for
another reason (by the kernel, for memory) costs nothing at all.
"""

from __future__ import annotations

import logging
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from cassiopeia.core.rules import Standing
from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.signer.tasks import (
    Decide,
    Deferred,
    Outcome,
    Ready,
    Stands,
    Task,
    Unusable,
    read_outcomes,
)
from cassiopeia.worker_process import WorkerProcess, stop

_log = logging.getLogger(__name__)

# Two batches each: while one is being answered, the next already waits in the worker's socket.
_BATCHES_A_WORKER = 2
_BATCH_TASKS = 16
_BATCH_TIME_LIMIT_S = 30.0
# Until a new worker has its keys: a slow key derivation and dozens of RSA keys on a slow machine need a minute or two.
_START_TIME_LIMIT_S = 300.0
_RESPAWN_DELAY_S = 1.0
_LOOK_AGAIN_S = 5.0


@dataclass
class _Queued:
    task: Task
    deaths: int = 0


@dataclass
class _Member:
    worker: WorkerProcess
    # Until then it must be ready, and then answer the first of its batches.
    deadline: float
    batches: deque[list[_Queued]] = field(default_factory=deque)
    ready: bool = False
    standing: Standing | None = None  # of which it was told last

    @property
    def is_awaited(self) -> bool:
        return not self.ready or bool(self.batches)


class WorkerPool:
    """`count` workers of one configuration; `deliver` is called with every outcome, from the caller's loop.

    It raises PeerError for an outcome that no sound worker would give: that worker is then replaced.

    The configuration is that of `config_path`, with the `installation` in the place of the installed bundle if there is
    one: so workers that are replaced know what the others do, whatever was installed meanwhile. A pool that is on trial
    calls `unusable` with the reason as soon as a worker cannot work with this configuration; any other waits for what
    may come, is `outdated` when there is another one, and otherwise raises OperatorError.
    """

    def __init__(
        self,
        *,
        config_path: Path,
        configuration_hash: bytes,
        count: int,
        selector: selectors.BaseSelector,
        deliver: Callable[[Outcome], None],
        command: Sequence[str] = (sys.executable, "-P", "-m", "cassiopeia.signer.worker"),
        installation: Path | None = None,
        unusable: Callable[[str], None] | None = None,
    ) -> None:
        self._config_path = config_path
        self._installation = installation
        self._unusable = unusable
        self._heir: WorkerPool | None = None
        self._configuration_hash = configuration_hash
        self._count = count
        self._selector = selector
        self._deliver = deliver
        self._command = command
        self._members: list[_Member] = []
        self._signing: deque[_Queued] = deque()
        self._deciding: deque[_Queued] = deque()
        self._suspects: deque[_Queued] = deque()
        self._respawn_at = 0.0
        self.failure = ""
        self.lacking = ""
        """What the workers wait for, in words: a passphrase on a medium that is not plugged in yet."""
        self.outdated = False
        """Whether a new worker found another configuration on the disk than the one of this pool."""

    @property
    def unlocked(self) -> bool:
        """Whether a worker has loaded and proved all keys."""
        return any(member.ready for member in self._members)

    @property
    def finished(self) -> bool:
        """Whether a pool that has retired has nothing left to do."""
        return not self._members

    def alarms(self) -> Iterator[str]:
        if self.failure:
            yield f"no new worker can start, those that run go on: {self.failure}"

    def start(self) -> None:
        while len(self._members) < self._count:
            self._spawn()

    def submit(self, task: Task) -> None:
        self._queue_of(task).append(_Queued(task))

    def pump(self) -> None:
        """Hand waiting tasks to workers with room; call after every turn of the loop."""
        if len(self._members) < self._count and time.monotonic() >= self._respawn_at:
            self._spawn()
        for _ in range(_BATCHES_A_WORKER):
            for member in sorted(self._members, key=lambda each: len(each.batches)):
                if member.ready and len(member.batches) < _BATCHES_A_WORKER:
                    self._give(member)

    def seconds_to_deadline(self) -> float | None:
        """Seconds until `check_time` has something to do; None when nothing waits."""
        now = time.monotonic()
        moments = [member.deadline for member in self._members if member.is_awaited]
        if len(self._members) < self._count:
            moments.append(self._respawn_at)
        return max(0.0, min(moments) - now) if moments else None

    def check_time(self) -> None:
        """End workers that hang."""
        now = time.monotonic()
        for member in list(self._members):
            if member.is_awaited and now > member.deadline:
                what, limit_s = (
                    ("hung", _BATCH_TIME_LIMIT_S) if member.ready else ("did not begin", _START_TIME_LIMIT_S)
                )
                _log.error("worker %d %s for %g seconds and is ended", member.worker.pid, what, limit_s)
                self._bury(member)

    def stop(self) -> None:
        """Close every stream: workers end by themselves, the stubborn are killed."""
        members, self._members = self._members, []
        stop(member.worker for member in members)

    def take_office(self) -> None:
        """The trial is over: from now on this pool serves."""
        self._unusable = None

    def retire(self, heir: WorkerPool) -> None:
        """Take no more work: what waits goes to the heir, and signatures under way are finished here.

        Decisions are dropped, also those under way: whoever asked for them asks the heir.
        """
        self._heir, self._count, self.failure, self.outdated = heir, 0, "", False
        waiting = [each for each in (*self._suspects, *self._signing) if not self._is_dropped(each)]
        for queue in (self._suspects, self._signing, self._deciding):
            queue.clear()
        for queued in waiting:
            heir.inherit(queued)
        for member in list(self._members):
            self._release(member)

    def inherit(self, queued: _Queued) -> None:
        """Take over what another pool did not finish, or hand it on to whoever has taken over from this one."""
        if self._heir is not None:
            self._heir.inherit(queued)
        elif queued.deaths:
            self._suspects.append(queued)
        else:
            self._queue_of(queued.task).append(queued)

    def end(self) -> None:
        """Kill every worker at once: nobody waits for what they do."""
        members, self._members = self._members, []
        self._count = 0
        for member in members:
            member.worker.end()

    def _release(self, member: _Member) -> None:
        """End the worker of a pool that has retired, once it has nothing to do that anybody waits for."""
        if all(self._is_dropped(queued) for batch in member.batches for queued in batch):
            self._members.remove(member)
            member.worker.end()

    def _is_dropped(self, queued: _Queued) -> bool:
        """Whether nobody waits for it any more: a decision by rules that are not in force."""
        return self._heir is not None and isinstance(queued.task, Decide)

    def _spawn(self) -> None:
        installation = [] if self._installation is None else [str(self._installation)]
        worker = WorkerProcess(
            [*self._command, str(self._config_path), *installation],
            selector=self._selector,
            hear=lambda body: self._hear(member, body),
            lost=lambda fault: self._bury(member, fault),
        )
        member = _Member(worker=worker, deadline=time.monotonic() + _START_TIME_LIMIT_S)
        self._members.append(member)

    def _give(self, member: _Member) -> None:
        batch = self._next_batch(alone=not member.batches)
        if not batch:
            return
        member.batches.append(batch)
        if len(member.batches) == 1:
            member.deadline = time.monotonic() + _BATCH_TIME_LIMIT_S
        member.worker.send(list(self._messages(member, batch)))

    def _messages(self, member: _Member, batch: Sequence[_Queued]) -> Iterator[Task | Stands]:
        """The tasks, and before them what stands, where the worker was last told something else."""
        for queued in batch:
            task = queued.task
            if isinstance(task, Decide) and task.standing is not None:
                if task.standing != member.standing:
                    member.standing = task.standing
                    yield Stands(standing=task.standing)
                task = msgspec.structs.replace(task, standing=None)
            yield task

    def _next_batch(self, *, alone: bool) -> list[_Queued]:
        if self._suspects:
            # Nothing is handed out behind other work until they are through: they would wait for a lull that is long
            # in coming.
            return [self._suspects.popleft()] if alone else []
        queue = self._signing or self._deciding
        share = max(1, min(_BATCH_TASKS, len(queue) // max(1, self._count)))
        return [queue.popleft() for _ in range(min(share, len(queue)))]

    def _hear(self, member: _Member, body: bytes) -> None:
        # One that was released may have said more in the same breath: what nobody waits for.
        if member in self._members:
            self._take(member, read_outcomes(body))

    def _take(self, member: _Member, outcomes: list[Outcome]) -> None:
        match outcomes:
            case [Ready(configuration_hash=configuration_hash)] if not member.ready:
                if configuration_hash != self._configuration_hash:
                    self.failure = (
                        "profiles, sub-CAs, keys or lists have changed on disk: let the signer take them over "
                        "(systemctl reload, or SIGHUP), or put them back"
                    )
                    self.outdated = True
                    raise PeerError(self.failure)
                member.ready = True
                self.failure, self.lacking, self.outdated = "", "", False
            case [Unusable(message=message, may_come=True)] if not member.ready and self._unusable is None:
                if message != self.lacking:
                    _log.warning("locked: %s; looks again every %g seconds", message, _LOOK_AGAIN_S)
                self.lacking = message
            case [Unusable(message=message)] if not member.ready:
                self.failure = message
            case _:
                expected = [queued.task.task for queued in member.batches[0]] if member.batches else None
                if [outcome.task for outcome in outcomes] != expected:
                    raise PeerError("it answered what it was not asked")
                batch = member.batches.popleft()
                member.deadline = time.monotonic() + _BATCH_TIME_LIMIT_S
                wanted = [
                    outcome for queued, outcome in zip(batch, outcomes, strict=True) if not self._is_dropped(queued)
                ]
                faults = [fault for outcome in wanted if (fault := self._deliver_one(outcome)) is not None]
                if faults:
                    raise faults[0]
                if self._heir is not None:
                    self._release(member)

    def _deliver_one(self, outcome: Outcome) -> PeerError | None:
        """Deliver, and return what is wrong with it: the others of its batch are delivered all the same."""
        try:
            self._deliver(outcome)
        except PeerError as fault:
            return fault
        return None

    def _bury(self, member: _Member, fault: PeerError | None = None) -> None:
        """Forget a dead worker; what it held is tried again alone, or deferred the second time."""
        if member not in self._members:
            return  # as in `_hear`
        if fault is not None:
            _log.error("a worker broke the rules between us, and is replaced: %s", fault)
        self._members.remove(member)
        status = member.worker.end()
        if member.ready:
            held = sum(len(batch) for batch in member.batches)
            _log.error("worker %d is gone (status %d); %d tasks go to others", member.worker.pid, status, held)
        delay_s = 0.0 if member.ready else _LOOK_AGAIN_S if self.lacking else _RESPAWN_DELAY_S
        self._respawn_at = time.monotonic() + delay_s
        if self.failure and self._unusable is not None:
            self._unusable(self.failure)
            return
        if self.failure and not self.unlocked and not self.outdated:
            raise OperatorError(self.failure)
        for position, batch in enumerate(member.batches):
            for queued in batch:
                if self._is_dropped(queued):
                    continue
                # Only the first batch was under way; the others never reached the worker's hands.
                queued.deaths += 1 if position == 0 else 0
                if queued.deaths > 1:
                    self._deliver(
                        Deferred(
                            task=queued.task.task,
                            code="worker-died",
                            message="this request ended two workers of the signer; a person must look at it",
                            retry_after_s=300,
                        )
                    )
                elif queued.deaths == 1 or self._heir is not None:
                    self.inherit(queued)
                else:
                    self._queue_of(queued.task).appendleft(queued)

    def _queue_of(self, task: Task) -> deque[_Queued]:
        """Whatever protects those who rely on certificates, or ends something begun, comes before what is new."""
        return self._deciding if isinstance(task, Decide) else self._signing
