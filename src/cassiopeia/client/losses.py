"""What becomes of jobs that were under way when the line was lost.

They go back to the queue and use up no try: lines break, signers restart. But a job that ends the signer itself would
be the first to be sent again, and end it again, for ever. So whatever was under way at two losses in a row is suspected
(`store.suspects`) and travels alone from then on. A suspect that was alone when the line was lost waits ever longer.
Lines are lost by themselves, too: it is blamed only from the fourth time in a row on, and only if the signer was proven
to work in that session: else it may be the signer that cannot go on, whatever it is asked.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection

from cassiopeia.client import patience
from cassiopeia.store.queue import Queue
from cassiopeia.store.records import Job, Postponement

_log = logging.getLogger(__name__)

_CHANCE = 3
"""Losses in a row, each of one job alone, that may be the line's fault."""
_TWICE = "{reason} twice in a row while it was under way"
_ALONE = "{reason} while it alone was under way, as several times before, and the signer had just done other work"


class Losses:
    """Remembers what was under way at the last loss of one kind of work."""

    def __init__(self) -> None:
        self._before: set[int] = set()

    def settle(
        self, queue: Queue, owner: str, jobs: Collection[Job], reason: str, *, now: dt.datetime, proven: bool
    ) -> None:
        """Give `jobs` back to the queue, as the module says; `reason` is a sentence for people, without its stop."""
        suspects = [job for job in jobs if job.deaths]
        fresh = [job for job in jobs if not job.deaths]
        twice = [job.id for job in fresh if job.id in self._before]
        self._before = {job.id for job in fresh} - set(twice)
        if twice:
            _log.warning("%s: %d requests were under way both times; they are tried alone now", reason, len(twice))
            queue.blame(owner, twice, _TWICE.format(reason=reason), now=now)
        guilty = [job for job in suspects if proven and job.postponed >= _CHANCE]
        if guilty:
            queue.blame(owner, [job.id for job in guilty], _ALONE.format(reason=reason), now=now)
        postponements = [
            Postponement(job_id=job.id, delay_s=0, counts=False, reason=reason, lengthens=False)
            for job in fresh
            if job.id in self._before
        ]
        postponements += [
            Postponement(
                job_id=job.id, delay_s=patience.as_told(0, postponed=job.postponed), counts=False, reason=reason
            )
            for job in suspects
            if job not in guilty
        ]
        if postponements:
            queue.retry_later(owner, postponements, now=now)
