"""Which sub-CAs of this signer have a key that can be used at this moment, as far as its workers have said.

A sub-CA whose token is away, whose library is missing, or whose key hangs or ends workers, signs nothing until a worker
has tried its key again; nobody else waits for it. What nobody has asked for anew is tried all the same, now and then.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from cassiopeia.core.authority import Idle
from cassiopeia.signer.keystore.token_places import BUSY
from cassiopeia.signer.pool import WORKER_DIED
from cassiopeia.signer.tasks import (
    MISTRUSTED,
    Deferred,
    LackingKey,
    Mistrusted,
    Outcome,
    Sign,
    Signed,
    Task,
    TryKey,
    Usable,
)

_log = logging.getLogger(__name__)

_IDLE: Final = Idle(code="key-away", why="cannot use its key now", retry_after_s=15)
_TRY_EVERY_S: Final = 5.0
# Of a key that ends workers, or signs wrongly: each try may hold one up for its whole time limit, or cost one.
_TRY_DEADLY_FIRST_S: Final = 15.0
_TRY_DEADLY_LAST_S: Final = 600.0
_DOUBLINGS: Final = 6
_DEADLY: Final = frozenset({WORKER_DIED, "key-left-out", MISTRUSTED})
_GONE: Final = "unknown-ca"
# What says nothing of the key: the sub-CA has gone, or others have all places of the token at this moment.
_NOT_THE_KEY: Final = frozenset({_GONE, "busy", BUSY})


@dataclass
class _Away:
    code: str
    message: str
    next_try: float
    tries: int = 0
    trying: bool = False


class KeyWatch:
    """Stands between those who submit tasks and the workers' pool (`submit`), and has keys tried by tasks of its own.

    `mistrusted` is called with a sub-CA and a sentence when its key has given a wrong signature; `lost` and `regained`
    with the name of a sub-CA whose key cannot be used any more, and can be used again. `clock` is monotonic.
    """

    def __init__(
        self,
        *,
        submit: Callable[[Task], None],
        next_task: Callable[[], int],
        mistrusted: Callable[[str, str], None],
        lost: Callable[[str], None],
        regained: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._submit = submit
        self._next_task = next_task
        self._mistrusted = mistrusted
        self._lost = lost
        self._regained = regained
        self._clock = clock
        self._away: dict[str, _Away] = {}
        # How often each key that was proved again, and has signed nothing since, had been tried.
        self._endured: dict[str, int] = {}
        self._tries: dict[int, str] = {}
        self._signing: dict[int, str] = {}

    @property
    def idle(self) -> dict[str, Idle]:
        """The sub-CAs that sign nothing now, for those who decide."""
        return dict.fromkeys(self._away, _IDLE)

    @property
    def reasons(self) -> dict[str, str]:
        """The same with a sentence each, for the operators."""
        return {name: each.message for name, each in sorted(self._away.items())}

    def is_away(self, name: str) -> bool:
        return name in self._away

    def began(self, lacking: Iterable[LackingKey]) -> None:
        """A worker is ready, and lacks these keys."""
        for each in lacking:
            if each.code == MISTRUSTED:
                self._mistrusted(each.signing_ca, each.message)
            if each.code not in _NOT_THE_KEY:
                self._note(each.signing_ca, each.code, each.message)

    def follow(self, names: Collection[str], lacking: Iterable[LackingKey]) -> None:
        """Other workers are in office, for these sub-CAs, and lack these keys."""
        before, self._away = self._away.keys(), {}
        self._endured.clear()
        self.began(lacking)
        for name in before - self._away.keys():
            if name in names:
                self._regained(name)

    def submit(self, task: Task) -> None:
        if isinstance(task, Sign):
            self._signing[task.task] = task.signing_ca
        self._submit(task)

    def delivered(self, outcome: Outcome) -> bool:
        """Learn from a worker's outcome, before anybody else; False when it is not that of a try, but for others."""
        tried = self._tries.pop(outcome.task, "")
        if tried in self._away:
            self._away[tried].trying = False
        name = tried or self._signing.pop(outcome.task, "")
        if tried:
            self._learn_from_try(tried, outcome)
        elif name:
            self._learn(name, outcome)
        return bool(tried)

    def look(self) -> None:
        """Have keys tried whose time has come."""
        now = self._clock()
        for name, away in self._away.items():
            if not away.trying and now >= away.next_try:
                away.trying = True
                away.tries += 1
                task = self._next_task()
                self._tries[task] = name
                self._submit(TryKey(task=task, signing_ca=name))

    def _learn_from_try(self, name: str, outcome: Outcome) -> None:
        match outcome:
            case Usable():
                away = self._away.get(name)
                if away is not None and away.code in _DEADLY:
                    # To be proved is less than to sign what is asked for: that may end workers all the same.
                    self._endured[name] = away.tries
                self._note_use(name)
            case Mistrusted(message=message):
                # Each try costs a worker.
                self._mistrusted(name, message)
                self._note(name, MISTRUSTED, message)
            case Deferred(code=code) if code == _GONE:
                self._away.pop(name, None)
            case _:
                self._learn(name, outcome)

    def _learn(self, name: str, outcome: Outcome) -> None:
        match outcome:
            case Signed():
                self._endured.pop(name, None)
                self._note_use(name)
            case Mistrusted(message=message):
                # It answers. That what it signs is not believed is another matter.
                self._note_use(name)
                self._mistrusted(name, message)
            case Deferred(code=code, message=message) if code not in _NOT_THE_KEY:
                self._note(name, code, message)
            case _:
                pass

    def _note_use(self, name: str) -> None:
        if self._away.pop(name, None) is not None:
            _log.warning("the key of %s can be used again", name)
            self._regained(name)

    def _note(self, name: str, code: str, message: str) -> None:
        away = self._away.get(name)
        if away is None or (away.code, away.message) != (code, message):
            _log.error("ALARM: the key of %s cannot be used: %s", name, message)
            tries, trying = (self._endured.get(name, 0), False) if away is None else (away.tries, away.trying)
            is_new = away is None
            away = self._away[name] = _Away(code=code, message=message, next_try=0.0, tries=tries, trying=trying)
            if is_new:
                self._lost(name)
        delay_s = _TRY_EVERY_S
        if code in _DEADLY:
            delay_s = min(_TRY_DEADLY_FIRST_S * 2 ** min(away.tries, _DOUBLINGS), _TRY_DEADLY_LAST_S)
        away.next_try = self._clock() + delay_s
