"""How long to wait for what did not work; and what becomes of work that a version 1 signer leaves without an answer.

A signer that says "not now" is asked again as it told, and ever later while it goes on saying so: no try is used up,
and thousands of jobs that wait for the same thing do not fill the line. When its state changes they are asked again
at once (`Queue.hurry`).

Version 1 has no words for a refusal: the session ends, and nobody on this side can tell whether the request was at
fault, the signer, or the line. So each such job is tried again, later and later, while others go first; at last it is
set aside, and a person looks into the signer's log. It is never lost, and it never holds up the next one.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence

from cassiopeia.store.queue import Queue
from cassiopeia.store.records import Job, Postponement

_log = logging.getLogger(__name__)

TRIES = 6
# 1 second, 5, 25, 125, 625: what is wrong for a quarter of an hour is not going to mend itself.
_FIRST_DELAY_S = 1.0
_LONGER_EACH_TIME = 5
LONGEST_DELAY_S = 1800.0
_LONGEST_TOLD_S = 24 * 3600
_REATTESTED_AT_ONCE = 3
_LONGEST_REATTEST_S = 300.0

_REASON = "the signer closed the session without a word, as version 1 does for every error; its own log says why"


def delay_s(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return float(min(_FIRST_DELAY_S * _LONGER_EACH_TIME ** (failures - 1), LONGEST_DELAY_S))


def as_told(retry_after_s: int, *, postponed: int = 0) -> float:
    """Seconds to wait when the signer says how long, and has said so `postponed` times in a row before.

    Never less than it says, but within reason: the wire can hold numbers of 50 digits.
    """
    grown = min(2.0 ** min(postponed, 64) - 1, LONGEST_DELAY_S)
    return max(float(min(retry_after_s, _LONGEST_TOLD_S)), grown)


def reattested_s(times: int) -> float:
    """Seconds before a request is attested anew that the signer has sent back for that `times` times in a row before.

    A nonce that ran out on the way or a restart cost nothing. Evidence that is no good again and again is the
    validator's fault, and must not keep the line busy.
    """
    return 0.0 if times < _REATTESTED_AT_ONCE else min(2.0 ** (min(times, 64) - 2), _LONGEST_REATTEST_S)


def try_later(queue: Queue, owner: str, jobs: Sequence[Job], *, now: dt.datetime) -> None:
    """Use up one try of each, and put it back into the queue or set it aside."""
    postponements = []
    aside = []
    for job in jobs:
        tries = job.tries + 1
        if tries >= TRIES:
            aside.append((job.id, f"{_REASON}; tried {tries} times"))
            _log.error("job %d: %s; tried %d times, set aside", job.id, _REASON, tries)
            continue
        delay = delay_s(tries)
        postponements.append(Postponement(job_id=job.id, delay_s=delay, counts=True, reason=_REASON))
        _log.warning("job %d: %s; again in %g seconds (try %d of %d)", job.id, _REASON, delay, tries + 1, TRIES)
    if postponements:
        queue.retry_later(owner, postponements, now=now)
    if aside:
        queue.set_aside(owner, aside, now=now)
