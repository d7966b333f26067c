"""The front's side of the worker processes: hands out tasks in batches, signing first, and survives their deaths.

A batch whose worker dies, hangs or breaks the rules is tried again one task at a time; a task that takes a worker with
it twice is answered as deferred. A hostile request costs itself and nothing else, and a worker that was killed for
another reason (by the kernel, for memory) costs nothing at all. Where it was a signature, everything else that waits
for the same key is deferred with it; and a key that ends workers which open it is left out by those that follow: other
sub-CAs go on.
"""

from __future__ import annotations

import logging
import selectors
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from cassiopeia.core.rules import Standing
from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.signer.tasks import (
    Decide,
    Deferred,
    LackingKey,
    Opening,
    Outcome,
    Ready,
    Signed,
    Stands,
    Task,
    TryKey,
    Unusable,
    Usable,
    read_outcomes,
)
from cassiopeia.signer.work_queue import Queued, WorkQueue
from cassiopeia.worker_process import WorkerProcess, stop

_log = logging.getLogger(__name__)

WORKER_DIED: Final = "worker-died"

# Two batches each: while one is being answered, the next already waits in the worker's socket.
_BATCHES_A_WORKER = 2
_BATCH_TIME_LIMIT_S = 30.0
# Until a new worker has its keys: a slow key derivation and dozens of RSA keys on a slow machine need a minute or two.
_START_TIME_LIMIT_S = 300.0
# To open and prove one key. Where a token hangs, others wait for it no longer than this.
_OPENING_TIME_LIMIT_S = 60.0
# So many workers have to end while they open a key until it is left out: one may have been killed for anything.
_ENDED_BY_OPENING = 2
_RESPAWN_DELAY_S = 1.0
_LOOK_AGAIN_S = 5.0


@dataclass
class _Member:
    worker: WorkerProcess
    # Until then it must be ready, and then answer the first of its batches.
    deadline: float
    batches: deque[list[Queued]] = field(default_factory=deque)
    ready: bool = False
    alone: bool = False  # at a task that goes alone
    opening: str = ""  # the sub-CA whose key it opens, before it is ready
    standing: Standing | None = None  # of which it was told last

    @property
    def is_awaited(self) -> bool:
        return not self.ready or bool(self.batches)


class WorkerPool:
    """`count` workers of one configuration, whose sub-CAs are `authorities`.

    `deliver` is called with every outcome, from the caller's loop. It raises PeerError for an outcome that no sound
    worker would give: that worker is then replaced.

    The configuration is that of `config_path`, with the `installation` in the place of the installed bundle if there is
    one: so workers that are replaced know what the others do, whatever was installed meanwhile. A pool that is on trial
    calls `unusable` with the reason as soon as a worker cannot work with this configuration; any other waits for what
    may come, is `outdated` when there is another one, and otherwise raises OperatorError. `began` is called with the
    keys that a worker lacks when it is ready, once the pool is not on trial.
    """

    def __init__(
        self,
        *,
        config_path: Path,
        configuration_hash: bytes,
        count: int,
        authorities: Collection[str] = (),
        selector: selectors.BaseSelector,
        deliver: Callable[[Outcome], None],
        command: Sequence[str] = (sys.executable, "-P", "-m", "cassiopeia.signer.worker"),
        installation: Path | None = None,
        unusable: Callable[[str], None] | None = None,
        began: Callable[[Sequence[LackingKey]], None] = lambda _lacking: None,
    ) -> None:
        self._config_path = config_path
        self._installation = installation
        self._unusable = unusable
        self._heir: WorkerPool | None = None
        self._configuration_hash = configuration_hash
        self._count = count
        self._authorities = authorities
        self._selector = selector
        self._deliver = deliver
        self._command = command
        self._members: list[_Member] = []
        self._queue = WorkQueue()
        self._began = began
        self._ended_by_opening: Counter[str] = Counter()
        self.lacking_keys: dict[str, LackingKey] = {}
        """The keys that a worker lacked when it began, by the names of their sub-CAs."""
        self._respawn_at = 0.0
        self.failure = ""
        self.failure_may_pass = False
        """Whether what the failure is about may be there later, without anybody changing a file."""
        self._shortage = ""
        self.lacking = ""
        """What the workers wait for, in words: a passphrase on a medium that is not plugged in yet."""
        self.outdated = False
        """Whether a new worker found another configuration on the disk than the one of this pool."""

    @property
    def unlocked(self) -> bool:
        """Whether a worker is ready, with all keys but those that it lacks."""
        return any(member.ready for member in self._members)

    @property
    def finished(self) -> bool:
        """Whether a pool that has retired has nothing left to do."""
        return not self._members

    def alarms(self) -> Iterator[str]:
        if self.failure:
            yield f"no new worker can start, those that run go on: {self.failure}"
        if self._shortage:
            yield f"no new worker can be started, and it is tried again: {self._shortage}; has the machine memory left?"

    def start(self) -> None:
        while len(self._members) < self._count:
            self._spawn()

    def submit(self, task: Task) -> None:
        self._queue.submit(task)

    def pump(self) -> None:
        """Hand waiting tasks to workers with room; call after every turn of the loop."""
        if len(self._members) < self._count and time.monotonic() >= self._respawn_at:
            self._respawn()
        for _ in range(_BATCHES_A_WORKER):
            for member in sorted(self._members, key=lambda each: len(each.batches)):
                if member.ready and not member.alone and len(member.batches) < _BATCHES_A_WORKER:
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
                what, limit_s = "did not begin", _START_TIME_LIMIT_S
                if member.ready:
                    what, limit_s = "hung", _BATCH_TIME_LIMIT_S
                elif member.opening:
                    what, limit_s = f"opened the key of {member.opening}", _OPENING_TIME_LIMIT_S
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
        for queued in self._queue.clear():
            if not self._is_dropped(queued):
                heir.inherit(queued)
        for member in list(self._members):
            self._release(member)

    def inherit(self, queued: Queued) -> None:
        """Take over what another pool did not finish, or hand it on to whoever has taken over from this one."""
        if self._heir is not None:
            self._heir.inherit(queued)
        else:
            self._queue.put(queued)

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

    def _is_dropped(self, queued: Queued) -> bool:
        """Whether nobody waits for it any more: a decision by rules that are not in force."""
        return self._heir is not None and isinstance(queued.task, Decide)

    def _respawn(self) -> None:
        try:
            self._spawn()
        except OSError as error:
            if self._unusable is not None:
                raise
            # No memory for a process, or no descriptor: those that run go on.
            if not self._shortage:
                _log.error("no new worker can be started: %s; tries again", error.strerror)
            self._shortage = str(error.strerror)
            self._respawn_at = time.monotonic() + _LOOK_AGAIN_S
        else:
            self._shortage = ""

    def _spawn(self) -> None:
        installation = [] if self._installation is None else [str(self._installation)]
        worker = WorkerProcess(
            [*self._command, *self._left_out(), str(self._config_path), *installation],
            selector=self._selector,
            hear=lambda body: self._hear(member, body),
            lost=lambda fault: self._bury(member, fault),
        )
        member = _Member(worker=worker, deadline=time.monotonic() + _START_TIME_LIMIT_S)
        self._members.append(member)

    def _left_out(self) -> Iterator[str]:
        """Options of a worker that leave out the keys which have ended others."""
        for name, count in self._ended_by_opening.items():
            if count >= _ENDED_BY_OPENING:
                yield from ("--without", name)

    def _give(self, member: _Member) -> None:
        batch, member.alone = self._queue.take(is_free=not member.batches, workers=self._count)
        if not batch:
            return
        member.batches.append(batch)
        if len(member.batches) == 1:
            member.deadline = time.monotonic() + _BATCH_TIME_LIMIT_S
        member.worker.send(list(self._messages(member, batch)))

    def _messages(self, member: _Member, batch: Sequence[Queued]) -> Iterator[Task | Stands]:
        """The tasks, and before them what stands, where the worker was last told something else."""
        for queued in batch:
            task = queued.task
            if isinstance(task, Decide) and task.standing is not None:
                if task.standing != member.standing:
                    member.standing = task.standing
                    yield Stands(standing=task.standing)
                task = msgspec.structs.replace(task, standing=None)
            yield task

    def _hear(self, member: _Member, body: bytes) -> None:
        # One that was released may have said more in the same breath: what nobody waits for.
        if member in self._members:
            self._take(member, read_outcomes(body))

    def _take(self, member: _Member, outcomes: list[Outcome]) -> None:
        match outcomes:
            case [Opening(signing_ca=name)] if not member.ready:
                # One that is not ours is of another configuration, which shows when it is ready.
                member.opening = name if name in self._authorities else ""
                member.deadline = time.monotonic() + _OPENING_TIME_LIMIT_S
            case [Ready(configuration_hash=configuration_hash, lacking=lacking)] if not member.ready:
                if configuration_hash != self._configuration_hash:
                    self.failure = (
                        "profiles, sub-CAs, keys or lists have changed on disk: let the signer take them over "
                        "(systemctl reload, or SIGHUP), or put them back"
                    )
                    self.outdated = True
                    raise PeerError(self.failure)
                if not {each.signing_ca for each in lacking} <= set(self._authorities):
                    raise PeerError("it lacks keys that are not ours")
                member.ready, member.opening = True, ""
                self.failure, self.lacking, self.outdated = "", "", False
                self.lacking_keys.update({each.signing_ca: each for each in lacking})
                if self._unusable is None and self._heir is None:
                    self._began(lacking)
            case [Unusable(message=message, may_come=True)] if not member.ready and self._unusable is None:
                member.opening = ""
                if message != self.lacking:
                    _log.warning("locked: %s; looks again every %g seconds", message, _LOOK_AGAIN_S)
                self.lacking = message
            case [Unusable(message=message, may_come=may_come)] if not member.ready:
                member.opening = ""
                self.failure, self.failure_may_pass = message, may_come
            case _:
                expected = [queued.task.task for queued in member.batches[0]] if member.batches else None
                if [outcome.task for outcome in outcomes] != expected:
                    raise PeerError("it answered what it was not asked")
                batch = member.batches.popleft()
                self._end_batch(member, batch)
                self._note_keys(batch, outcomes)
                member.deadline = time.monotonic() + _BATCH_TIME_LIMIT_S
                wanted = [
                    outcome for queued, outcome in zip(batch, outcomes, strict=True) if not self._is_dropped(queued)
                ]
                faults = [fault for outcome in wanted if (fault := self._deliver_one(outcome)) is not None]
                if faults:
                    raise faults[0]
                if self._heir is not None:
                    self._release(member)

    def _end_batch(self, member: _Member, batch: list[Queued]) -> None:
        if member.alone:
            member.alone = False
            self._queue.done(batch)

    def _note_keys(self, batch: Sequence[Queued], outcomes: Sequence[Outcome]) -> None:
        """A key that has signed ends no workers."""
        for queued, outcome in zip(batch, outcomes, strict=True):
            if queued.signing_ca and isinstance(outcome, Signed | Usable):
                self._queue.trust(queued.signing_ca)
                self._ended_by_opening.pop(queued.signing_ca, None)
                self.lacking_keys.pop(queued.signing_ca, None)

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
        if member.opening:
            self._ended_by_opening[member.opening] += 1
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
            # Only the first batch was under way; the others never reached the worker's hands.
            if position == 0:
                self._end_batch(member, batch)
            for queued in batch:
                if self._is_dropped(queued):
                    continue
                if position == 0:
                    self._suspect(queued)
                elif self._heir is not None:
                    self.inherit(queued)
                else:
                    self._queue.put_back(queued)

    def _suspect(self, queued: Queued) -> None:
        """A worker has ended with it: once is no proof."""
        queued.deaths += 1
        if queued.signing_ca:
            self._queue.distrust(queued.signing_ca)
        # Whether a key can be used again is asked again anyway.
        if queued.deaths == 1 and not isinstance(queued.task, TryKey):
            self.inherit(queued)
            return
        self._deliver(_worker_died(queued))
        # What waits for the same key would end as many workers more.
        for waiting in self._queue.drop(queued.signing_ca) if queued.signing_ca else ():
            self._deliver(_worker_died(waiting))


def _worker_died(queued: Queued) -> Deferred:
    what = "this request"
    if queued.signing_ca:
        what = f"signing with the key of {queued.signing_ca}"
    return Deferred(
        task=queued.task.task,
        code=WORKER_DIED,
        message=f"{what} ended two workers of the signer; a person must look at it",
        retry_after_s=300,
    )
