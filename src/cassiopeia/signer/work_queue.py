"""What waits for the signer's workers, and in which order it is handed out.

Suspects come first and go alone: tasks that may have ended a worker. So do the signatures of a sub-CA whose key may
have ended one, one of them at a time, so that a token which hangs holds one worker and not all of them. Then come
signatures, a batch for one sub-CA after the other: whatever protects those who rely on certificates, or ends something
begun, comes before decisions, which are new.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from cassiopeia.signer.tasks import Decide, Sign, Task, TryKey

_BATCH_TASKS = 16
# Of checks of proofs, which need no key.
_NO_KEY = ""


@dataclass
class Queued:
    task: Task
    deaths: int = 0

    @property
    def signing_ca(self) -> str:
        """Whose key it uses; empty where it uses none."""
        return self.task.signing_ca if isinstance(self.task, Sign | TryKey) else _NO_KEY


class WorkQueue:
    """What nobody works on yet. Who takes a batch that goes alone says so with `done` when it is over."""

    def __init__(self) -> None:
        self._suspects: deque[Queued] = deque()
        # By sub-CA; whose turn it is stands first.
        self._signing: dict[str, deque[Queued]] = {}
        self._deciding: deque[Queued] = deque()
        self._distrusted: set[str] = set()
        self._alone: set[str] = set()

    def submit(self, task: Task) -> None:
        if isinstance(task, TryKey):
            self._distrusted.add(task.signing_ca)
        self.put(Queued(task))

    def put(self, queued: Queued) -> None:
        """At the end of what is like it; what has met a death is a suspect."""
        if queued.deaths:
            self._suspects.append(queued)
        elif isinstance(queued.task, Decide):
            self._deciding.append(queued)
        else:
            self._signing.setdefault(queued.signing_ca, deque()).append(queued)

    def put_back(self, queued: Queued) -> None:
        """Before what is like it: it was on its way already."""
        queue = self._deciding
        if not isinstance(queued.task, Decide):
            queue = self._signing.setdefault(queued.signing_ca, deque())
        queue.appendleft(queued)

    def take(self, *, is_free: bool, workers: int) -> tuple[list[Queued], bool]:
        """The next batch, and whether it goes alone; `is_free` says that the worker has nothing else to do."""
        waits_alone = next(self._waiting_alone(), None)
        if waits_alone is not None:
            # Nothing is handed out behind other work until it is through: it would wait for a lull that is long in
            # coming.
            return ([self._take_alone(waits_alone)], True) if is_free else ([], False)
        queue = next((each for name, each in self._signing.items() if name not in self._distrusted), None)
        waiting = sum(len(each) for name, each in self._signing.items() if name not in self._distrusted)
        if queue is None:
            queue, waiting = self._deciding, len(self._deciding)
        share = max(1, min(_BATCH_TASKS, waiting // max(1, workers), len(queue)))
        batch = [queue.popleft() for _ in range(min(share, len(queue)))]
        if batch and batch[0].signing_ca in self._signing:
            self._next_turn(batch[0].signing_ca)
        return batch, False

    def done(self, batch: list[Queued]) -> None:
        """A batch that went alone is over, whatever came of it."""
        self._alone.difference_update(each.signing_ca for each in batch)

    def distrust(self, signing_ca: str) -> None:
        """A signature with this key may have ended a worker."""
        self._distrusted.add(signing_ca)

    def trust(self, signing_ca: str) -> None:
        """One has come out."""
        self._distrusted.discard(signing_ca)

    def drop(self, signing_ca: str) -> list[Queued]:
        """Take out everything that needs this key."""
        found = [each for each in self._suspects if each.signing_ca == signing_ca]
        self._suspects = deque(each for each in self._suspects if each.signing_ca != signing_ca)
        return found + list(self._signing.pop(signing_ca, ()))

    def clear(self) -> list[Queued]:
        """Take everything out."""
        signing = [each for queue in self._signing.values() for each in queue]
        found = [*self._suspects, *signing, *self._deciding]
        for queue in (self._suspects, self._deciding, self._signing):
            queue.clear()
        return found

    def _waiting_alone(self) -> Iterator[Queued]:
        """What goes alone and may be taken now: of one key, one at a time."""
        for each in self._suspects:
            if each.signing_ca not in self._alone:
                yield each
        for name in self._distrusted - self._alone:
            yield from self._signing.get(name, ())

    def _take_alone(self, queued: Queued) -> Queued:
        if queued.deaths:
            self._suspects.remove(queued)
        else:
            self._signing[queued.signing_ca].remove(queued)
            self._next_turn(queued.signing_ca)
        if queued.signing_ca != _NO_KEY:
            self._alone.add(queued.signing_ca)
        return queued

    def _next_turn(self, name: str) -> None:
        """Others come first now; a queue that is empty goes."""
        queue = self._signing.pop(name)
        if queue:
            self._signing[name] = queue
