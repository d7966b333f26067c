"""Who may be under way with whom: a job with which a client has died travels alone.

Suspects and the others take turns by time, so that neither starves the other: a turn of the suspects lasts for
`_TURN_S` (or for one suspect that takes longer), and then the others have at least as long, as far as there are any.
A client that starts serves the others first: a suspect that killed the one before it has to wait like everybody else.
Among themselves suspects come in the order in which they became ready, so however many more there will be, each gets
its try after those that were there before it.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Final

_TURN_S: Final = 2.0
_LOOK_EVERY_S: Final = 0.5


class Next(enum.Enum):
    """What to lease now."""

    MANY = "as many jobs as there is room for"
    SUSPECT = "one suspect, while nothing is under way"
    NOTHING = "nothing: something has to be answered first"


class Company:
    """The turns of one client. `suspect_waits` asks the queue; `clock` counts seconds."""

    def __init__(self, *, suspect_waits: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        self._suspect_waits = suspect_waits
        self._clock = clock
        self._alone: int | None = None
        self._turn_began: float | None = None
        self._turn_due = False
        self._others_until = clock() + _TURN_S
        self._look_at = 0.0

    @property
    def alone(self) -> int | None:
        """The job that travels alone, if one does."""
        return self._alone

    @property
    def waits(self) -> bool:
        """Whether nothing is sent before what is under way has been answered."""
        return self._alone is not None or (self._turn_due and self._turn_began is None)

    def choose(self, *, under_way: bool, holds: Callable[[int], bool], long: bool = False) -> Next:
        """Say what to lease; `under_way`: an answer is still to come, `holds`: whether a job is in this client's hands.

        `long`: that answer will take its time, so that no turn of the suspects begins. Behind SUSPECT the caller says
        `took` or `found_no_suspect`, behind MANY that found nothing `found_nothing`.
        """
        now = self._clock()
        if self._alone is not None:
            if under_way or holds(self._alone):
                return Next.NOTHING
            self._alone = None
        if self._turn_began is not None and now - self._turn_began >= _TURN_S:
            self._end_turn(now)
        if self._turn_began is None:
            if long or not self._is_due(now):
                return Next.MANY
            if under_way:
                return Next.NOTHING
            self._turn_began = now
        return Next.SUSPECT

    def took(self, job_id: int) -> None:
        self._alone = job_id

    def found_no_suspect(self) -> None:
        """There is none any more, or another client was quicker."""
        self._end_turn(self._clock())

    def found_nothing(self) -> None:
        """The queue is served otherwise: suspects need not wait for their turn."""
        self._others_until = self._clock()

    def _is_due(self, now: float) -> bool:
        if not self._turn_due and now >= self._others_until and now >= self._look_at:
            self._look_at = now + _LOOK_EVERY_S
            self._turn_due = self._suspect_waits()
        return self._turn_due

    def _end_turn(self, now: float) -> None:
        lasted_s = now - self._turn_began if self._turn_began is not None else 0.0
        self._others_until = now + max(lasted_s, _TURN_S)
        self._turn_began = None
        self._turn_due = False
