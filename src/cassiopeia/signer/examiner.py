"""The front's side of the process that compares RSA keys: fed with what the journal knows, and fed anew when it dies.

One message is under way at a time; what comes meanwhile waits, and goes along with the next one. No key is let through
that was not compared, and none is turned away because the process is not there: it waits.

A verdict is delivered in the turn of the loop in which it comes. Whoever takes it records the key then and there, or
not at all; so the journal holds every key that was let through, and a new process that is fed from it misses none.
"""

from __future__ import annotations

import logging
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from cassiopeia.errors import PeerError
from cassiopeia.signer.examination import Answer, Examine, Examined, Question, Remember, Remembered, read_answers
from cassiopeia.worker_process import WorkerProcess, stop

_log = logging.getLogger(__name__)

# A message of this many RSA-2048 moduli has half a megabyte and costs the front some milliseconds.
_FED_AT_ONCE = 2_000
# In larger batches, comparing them with each other is what takes the time.
_BATCH_KEYS = 128
# So many keys, and 100,000 that were seen, take a second, and ten without GMP.
_TIME_LIMIT_S = 300.0
_RESPAWN_DELAY_S = 1.0
_ALARMING_DEATHS = 3
# Keys that were compared and then refused, or vetoed, are known to the process and to nobody else. So many of them are
# kept, and as many as the journal has keys: feeding it anew costs no more than comparing them did.
_MAXIMUM_SURPLUS = 20_000

Feed = Callable[[int, int], Sequence[tuple[int, bytes]]]
"""Moduli that were seen before, behind a place and at most so many; each with its place."""


class Examiner:
    """`deliver` is called with the task, the modulus and those that share a factor with it, from the caller's loop.

    `also` are moduli to compare with that `feed` does not give; `count` tells how many that could give by now.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        count: Callable[[], int],
        selector: selectors.BaseSelector,
        deliver: Callable[[int, bytes, Sequence[bytes]], None],
        also: Sequence[bytes] = (),
        command: Sequence[str] = (sys.executable, "-P", "-m", "cassiopeia.signer.examination"),
    ) -> None:
        self._feed = feed
        self._count = count
        self._also = list(also)
        self._untold: list[bytes] = []
        self._selector = selector
        self._deliver = deliver
        self._command = command
        self._process: WorkerProcess | None = None
        self._asked: Question | None = None
        self._deadline = 0.0
        self._respawn_at = 0.0
        self._began = 0.0
        self._fed_up_to = -1
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._batch: list[tuple[int, bytes]] = []
        self._deaths = 0
        # How many it knows at most, and with how many it is asked whether those are too many.
        self._known = 0
        self._look_at = 0
        # So many of those that wait first were there when a process died or hung: each is compared alone.
        self._suspects = 0
        self.ready = False
        """Whether it knows all that was seen."""

    @property
    def process_id(self) -> int | None:
        return self._process.pid if self._process else None

    def submit(self, task: int, modulus: bytes) -> None:
        self._waiting.append((task, modulus))

    def remember(self, moduli: Iterable[bytes]) -> None:
        """Compare with these as well, from the next message on."""
        new = [modulus for modulus in moduli if modulus not in self._also]
        self._also += new
        self._untold += new

    def pump(self) -> None:
        """Start the process, feed it, hand it what waits; call after every turn of the loop."""
        if self._asked is None and self._known > self._look_at:
            self._shed()
        if self._process is None:
            if time.monotonic() < self._respawn_at:
                return
            self._spawn()
        if self._asked is None and not self.ready:
            self._feed_more()
        if self._asked is None and self._untold and self.ready:
            untold, self._untold = self._untold, []
            self._ask(Remember(moduli=untold))
        if self._asked is None and self.ready and self._waiting:
            count = min(1 if self._suspects else _BATCH_KEYS, len(self._waiting))
            self._suspects = max(0, self._suspects - count)
            self._batch = [self._waiting.popleft() for _ in range(count)]
            self._ask(Examine(moduli=[modulus for _, modulus in self._batch]))

    def seconds_to_deadline(self) -> float | None:
        """Seconds until `check_time` or `pump` has something to do; None when nothing is awaited."""
        if self._process is None:
            return max(0.0, self._respawn_at - time.monotonic())
        return None if self._asked is None else max(0.0, self._deadline - time.monotonic())

    def check_time(self) -> None:
        """End a process that hangs."""
        if self._asked is not None and time.monotonic() > self._deadline:
            _log.error("the process that compares RSA keys hung for %g seconds and is ended", _TIME_LIMIT_S)
            self._bury()

    def alarms(self) -> Iterator[str]:
        if self._deaths >= _ALARMING_DEATHS:
            yield (
                f"the process that compares new RSA keys with those seen before has ended {self._deaths} times in a"
                " row, and requests with new RSA keys wait: see the signer's log, and whether it has memory enough"
            )

    def stop(self) -> None:
        """Close the stream: the process ends by itself, or is killed."""
        if self._process is not None:
            stop([self._process])
            self._process = None

    def _spawn(self) -> None:
        self._process = WorkerProcess(self._command, selector=self._selector, hear=self._hear, lost=self._bury)
        self._asked, self.ready, self._fed_up_to = None, False, -1
        self._known = self._look_at = 0
        self._began = time.monotonic()

    def _shed(self) -> None:
        """Replace a process that knows far more keys than the journal does: a flood of worthless ones fills no memory.

        What is forgotten was let through by nobody; should it come again, it is compared again.
        """
        count = self._count() + len(self._also)
        self._look_at = count + max(_MAXIMUM_SURPLUS, count)
        if self._process is not None and self._known > self._look_at:
            _log.info("the process that compares RSA keys knows %d, and the journal %d: replaced", self._known, count)
            self._process.end()
            self._process = None

    def _feed_more(self) -> None:
        if self._fed_up_to < 0:
            self._fed_up_to = 0
            moduli, self._untold = self._also, []
        else:
            rows = self._feed(self._fed_up_to, _FED_AT_ONCE)
            moduli = [modulus for _, modulus in rows]
            self._fed_up_to = rows[-1][0] if rows else self._fed_up_to
            self.ready = not rows
        if not self.ready:
            self._ask(Remember(moduli=moduli))

    def _ask(self, question: Question) -> None:
        if self._process is not None:
            self._asked = question
            self._deadline = time.monotonic() + _TIME_LIMIT_S
            self._process.send([question])

    def _hear(self, body: bytes) -> None:
        answers: list[Answer] = read_answers(body)
        asked, self._asked = self._asked, None
        match asked, answers:
            case Remember(), [Remembered(count=count)] if self.ready:
                self._known = count
            case Remember(), [Remembered(count=count, library=library)]:
                self._known = count
                self._look_at = count + max(_MAXIMUM_SURPLUS, count)
                self._feed_more()
                if self.ready:
                    took_s = time.monotonic() - self._began
                    _log.info("new RSA keys are compared with %d, read in %.1f seconds (%s)", count, took_s, library)
            case Examine(), [Examined(others=others)] if len(others) == len(self._batch):
                self._deaths = 0
                self._known += len(self._batch)
                batch, self._batch = self._batch, []
                for (task, modulus), found in zip(batch, others, strict=True):
                    self._deliver(task, modulus, found)
            case _:
                raise PeerError("it answered what it was not asked")
        self.pump()

    def _bury(self, fault: PeerError | None = None) -> None:
        """Forget a dead process; what it held goes to the next one, key by key, and a key that was alone waits last."""
        if self._process is None:
            return
        if fault is not None:
            _log.error("the process that compares RSA keys broke the rules between us: %s", fault)
        process, self._process = self._process, None
        _log.error(
            "the process that compares RSA keys is gone (status %d) and started again; %d keys wait for it",
            process.end(),
            len(self._batch) + len(self._waiting),
        )
        self._deaths += 1
        self._respawn_at = time.monotonic() + (_RESPAWN_DELAY_S if self._deaths > 1 else 0.0)
        if len(self._batch) == 1:
            self._waiting.extend(self._batch)
        else:
            self._waiting.extendleft(reversed(self._batch))
            self._suspects += len(self._batch)
        self._batch, self._asked, self.ready = [], None, False
