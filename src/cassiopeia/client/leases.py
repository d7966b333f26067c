"""The jobs that one client has in its hands: leased for the session under way, renewed, and given back.

Owns how many are taken at once, which (`company` says whose turn it is), and what a version 1 session is opened for.
What becomes of a job that was answered is for whoever sent it.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Collection
from typing import Final, TypedDict

from cassiopeia.client.company import Company, Next
from cassiopeia.client.crl_sync import CrlSync
from cassiopeia.client.evidence import NonceKeeper
from cassiopeia.client.issuance import Issuance
from cassiopeia.client.journal_copy import JournalCopy
from cassiopeia.store.queue import Queue
from cassiopeia.store.records import Postponement, SignJob

_log = logging.getLogger(__name__)

LEASE_S = 120.0
_LOOK_EVERY_S: Final = 0.2
_SMALLEST_BATCH_JOBS: Final = 4
_BACKLOG_OCTETS: Final = 8 * 1024
_NO_SIGNER: Final = 0


class _Terms(TypedDict):
    """Which jobs are for this client."""

    signer_id: int | None
    authorities: list[str]
    certificates: bool
    nonces: tuple[bytes, ...]


class Leases:
    """Between the queue and those who send: `issuance` gets its jobs from the caller, `crl_sync` takes its own.

    `authorities` are the names of the client's sub-CAs. `ended`, once set, lets nothing more be taken.
    """

    def __init__(
        self,
        *,
        queue: Queue,
        owner: str,
        authorities: Collection[str],
        version: int,
        journal: JournalCopy,
        nonces: NonceKeeper,
        issuance: Issuance,
        crl_sync: CrlSync,
        clock: Callable[[], dt.datetime],
    ) -> None:
        self._queue = queue
        self._owner = owner
        self._authorities = authorities
        self._version = version
        self._journal = journal
        self._nonces = nonces
        self._issuance = issuance
        self._crl_sync = crl_sync
        self._clock = clock
        self._batch_jobs = _SMALLEST_BATCH_JOBS
        self._next_lease = 0.0
        self._next_renewal = 0.0
        self.company = Company(suspect_waits=self._suspect_waits)
        self.signer_id: int | None = None
        self.in_hand: list[SignJob] = []  # version 1 opens a session for the job that it has in hand
        self.ended = False

    def take(self, *, room: int, window: int, backlog: int, now: dt.datetime) -> list[SignJob]:
        """Take as many jobs as there is room for, in batches that grow while the line takes all at once.

        On a slow line (`backlog` octets wait for it) confirmations, revocations and questions must not wait behind
        hundreds of requests.
        """
        company = self._choose()
        if company is not Next.MANY:
            return self._take_suspect(now) if company is Next.SUSPECT else []
        if room < max(1, window // 4) or backlog > _BACKLOG_OCTETS:
            return []
        self._batch_jobs = _SMALLEST_BATCH_JOBS if backlog else min(2 * self._batch_jobs, window)
        return self._take_jobs(min(room, self._batch_jobs), now)

    def take_in_hand(self, *, now: dt.datetime) -> None:
        """Take one certificate for a version 1 session, if there is none yet; what is for CRLs goes its own way."""
        if not self.in_hand:
            company = self._choose()
            if company is not Next.NOTHING:
                self.in_hand = self._take_suspect(now) if company is Next.SUSPECT else self._take_jobs(1, now)

    def renew(self, *, now: dt.datetime) -> None:
        """Hold on to what is under way: on a slow line, or with a busy signer, a request may take minutes."""
        if time.monotonic() < self._next_renewal:
            return
        self._next_renewal = time.monotonic() + LEASE_S / 3
        job_ids = [*self._issuance.job_ids, *self._crl_sync.job_ids]
        if job_ids:
            self._queue.renew(self._owner, job_ids, lease_s=LEASE_S, now=now)

    def let_go(self, *, now: dt.datetime) -> None:
        """What was taken in hand for a version 1 session that there is not: others may reach their signer."""
        jobs, self.in_hand = self.in_hand, []
        if jobs:
            reason = "the signer could not be reached"
            postponements = [
                Postponement(job_id=each.id, delay_s=0, counts=False, reason=reason, lengthens=False) for each in jobs
            ]
            self._queue.retry_later(self._owner, postponements, now=now)

    def _choose(self) -> Next:
        if self.ended:
            return Next.NOTHING
        under_way = bool(self._issuance.under_way) or self._crl_sync.under_way
        return self.company.choose(under_way=under_way, holds=self._holds, long=self._crl_sync.fetches_full)

    def _take_jobs(self, room: int, now: dt.datetime) -> list[SignJob]:
        """Lease up to so many jobs; those for CRLs go where they belong, the others are returned."""
        if time.monotonic() < self._next_lease:
            return []
        jobs = self._queue.lease(self._owner, limit=room, lease_s=LEASE_S, now=now, **self._terms())
        if not jobs:
            self._next_lease = time.monotonic() + _LOOK_EVERY_S
            self.company.found_nothing()
        sign_jobs = []
        for job in jobs:
            if isinstance(job, SignJob):
                sign_jobs.append(job)
            else:
                self._crl_sync.take(job, now=now)
        return sign_jobs

    def _take_suspect(self, now: dt.datetime) -> list[SignJob]:
        """As `_take_jobs`, with one job that is to be alone."""
        job = self._queue.lease_suspect(self._owner, lease_s=LEASE_S, now=now, **self._terms())
        if job is None:
            self.company.found_no_suspect()
            return []
        _log.info("job %d is tried alone: it was in the hands of a client that died, or of a signer", job.id)
        self.company.took(job.id)
        if isinstance(job, SignJob):
            return [job]
        self._crl_sync.take(job, now=now)
        return []

    def _terms(self) -> _Terms:
        return {
            # Version 1 does not say which signer it is: jobs that belong to one are not for it.
            "signer_id": self.signer_id if self._version > 1 else _NO_SIGNER,
            "authorities": list(self._authorities),
            "certificates": self._version == 1 or self._journal.may_issue,
            "nonces": self._nonces.valid,
        }

    def _holds(self, job_id: int) -> bool:
        in_hand = (each.id for each in self.in_hand)
        return job_id in (*self._issuance.job_ids, *self._crl_sync.job_ids, *in_hand)

    def _suspect_waits(self) -> bool:
        return self._queue.suspect_waits(now=self._clock(), **self._terms())
