"""Keeps the client's copy of every CRL in step with the signer: patch, verify, store, publish.

A CRL is believed only when its signature verifies under the sub-CA's certificate. When a patched one does not, the full
CRL is asked for; that is rare (another client was faster, or the copy was lost).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from cassiopeia.client import patience
from cassiopeia.client.losses import Losses
from cassiopeia.client.publish import Publisher
from cassiopeia.core import crl
from cassiopeia.core.authority import Authority
from cassiopeia.core.request import Revocation, RevocationRequest, revocation_digest
from cassiopeia.errors import PeerError
from cassiopeia.protocol.events import Event, FullCrlReceived, RequestFailed, RequestRefused, RevocationAnswered
from cassiopeia.protocol.payload import RevokedAnswer
from cassiopeia.protocol.session import Session
from cassiopeia.steps import step
from cassiopeia.store.database import Store
from cassiopeia.store.records import CrlJob, CrlRecord, Outcome, Postponement, Refusal, RevokeJob

_log = logging.getLogger(__name__)

# One message stays well under the signer's limit for a request.
_REVOCATIONS_A_MESSAGE = 100
_PROVED_A_MESSAGE = 20  # a signature of ML-DSA-87 has 4,627 octets
_RETRY_S = 30.0
_UNPUBLISHED_RETRY_S = 60.0
# Clocks differ by minutes; whatever is dated further ahead was signed by one that is wrong.
_AHEAD_AT_MOST = dt.timedelta(hours=1)
_AHEAD_RETRY_S = 600.0
# A full CRL has a megabyte, which takes minutes on a slow serial line.
_ANSWER_TIME_LIMIT_S = 600.0
_FULL_CRL_TIME_LIMIT_S = 3600.0
_NOT_NOW = "the signer could not answer"
_UNPUBLISHED = "it is signed, and could not be published yet: see the client's log, and make room"
_AHEAD = "its CRL is dated ahead of time: is the signer's clock wrong? see cassiopeia status"
_REQUEST_TAG = b"cassiopeia/2 revocation request\0"
_CRL_NUMBER_OCTETS = 20  # RFC 5280 5.2.3
_LONG_AGO = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(kw_only=True)
class _Counter:
    """What is under way for one sub-CA: one message at a time, because each answer patches the copy before it.

    `postponed` and `unanswered` count in a row: what the signer put off, and what it left without an answer. No more
    than `together` revocations travel in one message: fewer, where the signer has room for fewer. `capped_until`: its
    cap keeps those waiting that no compromised key has proved.
    """

    authority: Authority
    copy: crl.Crl | None = None
    handle: int | None = None
    jobs: list[RevokeJob | CrlJob] = field(default_factory=list)
    waiting: list[RevokeJob | CrlJob] = field(default_factory=list)
    full_wanted: bool = False
    fetches_full: bool = False
    not_before: dt.datetime = _LONG_AGO
    capped_until: dt.datetime = _LONG_AGO
    asked_at: float = 0.0
    together: int = _REVOCATIONS_A_MESSAGE
    postponed: int = 0
    unanswered: int = 0


class CrlSync:
    """Revocations and CRLs of every sub-CA that the client knows."""

    def __init__(
        self,
        *,
        authorities: Iterable[Authority],
        store: Store,
        owner: str,
        publisher: Publisher,
        renew_after: dt.timedelta,
    ) -> None:
        self._counters = {each.name: _Counter(authority=each) for each in authorities}
        self._store = store
        self._owner = owner
        self._publisher = publisher
        self._renew_after = renew_after
        self._losses = Losses()
        self._has_patched = False
        self._has_told_unsigned = False
        for name, counter in self._counters.items():
            record = store.crls.get(name)
            if record is not None:
                self._take_copy(name, counter, record.der)

    def _take_copy(self, name: str, counter: _Counter, der: bytes) -> None:
        """Start from what the store has; what is in a database is no more to be believed than what is on a line."""
        try:
            counter.copy = crl.check_crl(der, authority=counter.authority)
        except PeerError as error:
            _log.error("CRL of %s: the store's copy is not used: %s", name, error)
            return
        # The directory may lag behind the store: a crash between the two.
        self._publisher.publish_crl(name, der)

    @property
    def busy(self) -> bool:
        return any(each.handle is not None or each.waiting for each in self._counters.values())

    @property
    def lacking(self) -> int:
        """How many sub-CAs have no CRL yet that could be published."""
        return sum(each.copy is None for each in self._counters.values())

    @property
    def under_way(self) -> bool:
        """Whether an answer is still to come in this session."""
        return any(each.handle is not None for each in self._counters.values())

    @property
    def fetches_full(self) -> bool:
        """Whether a full CRL is under way: a megabyte."""
        return any(each.handle is not None and each.fetches_full for each in self._counters.values())

    @property
    def has_patched(self) -> bool:
        """Whether the signer has signed a CRL in this session."""
        return self._has_patched

    @property
    def overdue(self) -> bool:
        """Whether the signer has left something unanswered for longer than it can take."""
        now = time.monotonic()
        return any(
            now - each.asked_at > (_FULL_CRL_TIME_LIMIT_S if each.fetches_full else _ANSWER_TIME_LIMIT_S)
            for each in self._counters.values()
            if each.handle is not None
        )

    @property
    def job_ids(self) -> list[int]:
        """The jobs that wait to be sent or answered."""
        return [job.id for each in self._counters.values() for job in (*each.jobs, *each.waiting)]

    def take(self, job: RevokeJob | CrlJob, *, now: dt.datetime) -> None:
        """Put a leased job to the others of its sub-CA."""
        counter = self._counters.get(job.authority)
        if counter is None:
            message = f"this client knows no sub-CA named {job.authority}: its authorities.toml must list it"
            self._store.results.refuse(
                self._owner, [Refusal(job_id=job.id, code="unknown-ca", message=message)], now=now
            )
            return
        not_before = max(counter.not_before, counter.capped_until if _is_capped(job) else _LONG_AGO)
        if now < not_before:
            # The signer has just said "not now" to another one.
            self._postpone([job], _NOT_NOW, now=now, delay_s=(not_before - now).total_seconds())
            return
        # A job that waited here for longer than its lease comes again.
        if all(each.id != job.id for each in (*counter.waiting, *counter.jobs)):
            counter.waiting.append(job)

    def due(self, *, now: dt.datetime) -> bool:
        """Whether `send` would send something."""
        return any(self._is_due(each, now=now) for each in self._counters.values())

    def send(
        self,
        session: Session,
        *,
        now: dt.datetime,
        only_full: bool = False,
        at_most: int | None = None,
        alone: int | None = None,
    ) -> int:
        """Send what is due for every sub-CA that has nothing under way, as far as the session has room.

        While the job `alone` is in the client's hands nothing but it is sent. Returns how many messages that were.
        """
        sent = 0
        for counter in self._counters.values():
            if sent == at_most or not session.capacity:
                break
            if alone is not None and all(each.id != alone for each in (*counter.jobs, *counter.waiting)):
                continue
            if self._is_due(counter, now=now) and (counter.full_wanted or not only_full):
                _send_one(counter, session, alone=alone)
                sent += 1
        return sent

    def _is_due(self, counter: _Counter, *, now: dt.datetime) -> bool:
        if counter.handle is not None or now < counter.not_before:
            return False
        if counter.full_wanted or counter.waiting or counter.copy is None:
            return True
        # The original's CRLs end after a day: with ten seconds left it would be late.
        half_life = (counter.copy.next_update - counter.copy.this_update) / 2
        return now - counter.copy.this_update >= min(self._renew_after, half_life)

    def receive(self, event: Event, *, now: dt.datetime) -> bool:
        """Take an event of the session; False when it is not about a CRL of ours."""
        handle = getattr(event, "handle", None)
        counter = next((each for each in self._counters.values() if each.handle == handle is not None), None)
        if counter is None:
            return False
        counter.handle = None
        match event:
            case RevocationAnswered(answer=answer):
                self._patch(counter, answer, now=now)
            case FullCrlReceived(der=octets):
                self._replace(counter, octets, now=now)
            case RequestRefused(code=code, field=offending, message=message):
                self._refused(counter, code, offending, message, now=now)
            case RequestFailed(code="worker-died", message=message):
                # Which of them it was is found out when each is alone; the CRL itself waits ever longer.
                _log.error("CRL of %s: %s", counter.authority.name, message)
                self._store.queue.blame(self._owner, [job.id for job in counter.jobs], message, now=now)
                counter.jobs = []
                counter.unanswered += 1
                self._put_back(counter, now=now, delay_s=patience.delay_s(counter.unanswered), reason=message)
            case RequestFailed(code="cap-revocations") if len(counter.jobs) > 1:
                # Too many for what is left of this hour: half of them may have room, and a single one has its turn.
                counter.together = len(counter.jobs) // 2
                counter.waiting[:0] = counter.jobs
                counter.jobs = []
            case RequestFailed(code="cap-revocations", message=message, retry_after_s=retry_after_s):
                _log.warning("CRL of %s: %s", counter.authority.name, message)
                self._wait_for_room(counter, message, retry_after_s, now=now)
            case RequestFailed(code=code, message=message, retry_after_s=retry_after_s):
                if code == "no-crl":
                    self._tell_unsigned(message)
                else:
                    _log.warning("CRL of %s: %s", counter.authority.name, message)
                delay_s = patience.as_told(retry_after_s, postponed=counter.postponed)
                counter.postponed += 1
                self._put_back(counter, now=now, delay_s=delay_s, reason=message)
            case _:
                raise PeerError(f"{type(event).__name__} is no answer to a revocation")
        return True

    def hurry(self) -> None:
        """The signer's state has changed: ask at once what it put off."""
        for counter in self._counters.values():
            counter.not_before = counter.capped_until = _LONG_AGO
            counter.postponed = 0

    def line_lost(self, reason: str, *, now: dt.datetime, proven: bool) -> None:
        """The session is gone: what was under way goes back to the queue. A revocation may safely be sent twice.

        What was under way twice in a row, or alone, is dealt with as requests are (`losses`), and what has no job waits
        ever longer: a CRL that ends the signer must not keep certificates from it.
        """
        jobs = []
        for counter in self._counters.values():
            if counter.handle is None:
                continue
            counter.handle = None
            counter.unanswered += 1
            jobs += counter.jobs
            counter.jobs = []
            if counter.unanswered > 1:
                self._put_back(counter, now=now, delay_s=patience.delay_s(counter.unanswered - 1), reason=reason)
        self._has_patched = False
        self._losses.settle(self._store.queue, self._owner, jobs, reason, now=now, proven=proven)

    def forget(self) -> None:
        """Nothing is under way any more: the queue gives the jobs anew."""
        for counter in self._counters.values():
            counter.handle = None
            counter.jobs = []
            counter.waiting = []
        self._has_patched = False

    def left_unanswered(self, *, now: dt.datetime) -> None:
        """The same in version 1, where it may mean no: jobs use up a try, and what has no job waits ever longer."""
        for counter in self._counters.values():
            if counter.handle is None:
                continue
            counter.handle = None
            if counter.full_wanted or not counter.jobs:
                counter.unanswered += 1
                delay_s = patience.delay_s(counter.unanswered)
                counter.not_before = now + dt.timedelta(seconds=delay_s)
                name = counter.authority.name
                _log.warning("CRL of %s: the signer closed without a word; again in %g seconds", name, delay_s)
            patience.try_later(self._store.queue, self._owner, counter.jobs, now=now)
            counter.jobs = []

    def _patch(self, counter: _Counter, answer: RevokedAnswer, *, now: dt.datetime) -> None:
        name = counter.authority.name
        try:
            new_entries = self._new_entries(counter, answer)
            copy = crl.patch(
                counter.copy,
                authority=counter.authority,
                algorithm_der=answer.algorithm,
                this_update=answer.this_update,
                next_update=answer.next_update,
                crl_number=answer.crl_number,
                new_entries=new_entries,
                signature=answer.signature,
            )
        except PeerError as error:
            _log.warning("CRL of %s: the patched copy does not verify (%s); asking for the full CRL", name, error)
            counter.full_wanted = True
            return
        _note_dropped_dates(counter, new_entries)
        self._accept(counter, copy, crl.compose_crl(copy.tbs, copy.signature), now=now, new_entries=new_entries)

    def _new_entries(self, counter: _Counter, answer: RevokedAnswer) -> bytes:
        """Version 2 sends the entries; version 1 leaves them to the client, all of one date and without reasons."""
        if answer.crl_number or answer.date is None:
            return answer.entries
        known = set(crl.entry_serials(counter.copy.entries)) if counter.copy else set()
        serials = [job.revocation.serial_number for job in counter.jobs if isinstance(job, RevokeJob)]
        return b"".join(
            crl.encode_revocation(Revocation(serial_number=each), answer.date) for each in serials if each not in known
        )

    def _replace(self, counter: _Counter, der: bytes, *, now: dt.datetime) -> None:
        try:
            full = crl.check_crl(der, authority=counter.authority)
            _check_nothing_is_lost(counter.copy, full)
        except PeerError as error:
            _log.error("CRL of %s: the signer's full CRL is not taken: %s", counter.authority.name, error)
            self._put_back(counter, now=now, delay_s=_RETRY_S)
            return
        counter.full_wanted = False
        self._accept(counter, full, der, now=now, new_entries=b"")

    def _accept(self, counter: _Counter, copy: crl.Crl, der: bytes, *, now: dt.datetime, new_entries: bytes) -> None:
        """A verified CRL: store it, publish it, and only then call revoked what it lists.

        `new_entries` are the last ones of it, those that a patch has added.
        """
        step("revoke 6 patched")
        name = counter.authority.name
        record = CrlRecord(
            authority=name, number=copy.number, this_update=copy.this_update, next_update=copy.next_update, der=der
        )
        counter.unanswered = counter.postponed = 0
        counter.together = min(2 * counter.together, _REVOCATIONS_A_MESSAGE)
        self._has_patched = True
        if copy.this_update > now + _AHEAD_AT_MOST:
            # Verifiers would refuse it, and with it every certificate that the published one lets them accept.
            _log.error(
                "CRL of %s: number %d is dated %s, which has not come: it is not published; is the signer's clock "
                "wrong? `cassiopeia status` says what to do",
                name,
                copy.number,
                f"{copy.this_update:%F %H:%M}Z",
            )
            self._postpone(counter.jobs, _AHEAD, now=now, delay_s=_AHEAD_RETRY_S)
            counter.jobs = []
            counter.not_before = now + dt.timedelta(seconds=_AHEAD_RETRY_S)
            return
        outcome = self._store.crls.put(record, now=now)
        if outcome is Outcome.CONFLICT:
            _log.error("CRL of %s: the store holds another one with number %d: look into it", name, copy.number)
            self._put_back(counter, now=now, delay_s=_RETRY_S)
            return
        step("revoke 6 stored")
        stored = self._store.crls.get(name) if outcome is Outcome.SUPERSEDED else None
        if stored is not None:
            # Another client was faster: what is newer stays, in the directory as in the store.
            copy, der = crl.read_crl(stored.der), stored.der
        counter.copy = copy
        if not self._publisher.publish_crl(name, der):
            # What is not published is not revoked: whoever checks a certificate does not see it yet.
            self._postpone(counter.jobs, _UNPUBLISHED, now=now, delay_s=_UNPUBLISHED_RETRY_S)
            counter.jobs = []
            return
        step("revoke 6 published")
        number = f"number {copy.number}" if copy.number else "version 1"
        _log.info("CRL of %s: %s published, valid until %s", name, number, f"{copy.next_update:%F %H:%M}Z")
        self._finish_jobs(counter, copy, now=now, new_entries=new_entries)

    def _finish_jobs(self, counter: _Counter, copy: crl.Crl, *, now: dt.datetime, new_entries: bytes) -> None:
        listed = set(crl.entry_serials(new_entries))
        if any(isinstance(job, RevokeJob) and job.revocation.serial_number not in listed for job in counter.jobs):
            # It was revoked before, or this is the full CRL, or another client's.
            listed = set(crl.entry_serials(copy.entries))
        done = [job for job in counter.jobs if isinstance(job, CrlJob) or job.revocation.serial_number in listed]
        if done:
            job_ids = [job.id for job in done]
            self._store.results.finish_revoked(job_ids, revoked_at=copy.this_update, now=now)
            step("revoke 6 finished")
        counter.jobs = [job for job in counter.jobs if job not in done]
        if counter.jobs:
            name = counter.authority.name
            _log.error("CRL of %s: it lacks revocations that were asked for; they go back to the queue", name)
            self._put_back(counter, now=now, delay_s=_RETRY_S)

    def _refused(self, counter: _Counter, code: str, offending: str, message: str, *, now: dt.datetime) -> None:
        """The signer refuses a message for one member: that one ends, the others are sent again."""
        guilty = [
            job for job in counter.jobs if isinstance(job, RevokeJob) and _serial_field(job) == offending
        ] or counter.jobs
        refusals = [Refusal(job_id=job.id, code=code, field=offending, message=message) for job in guilty]
        self._store.results.refuse(self._owner, refusals, now=now)
        counter.waiting[:0] = [job for job in counter.jobs if job not in guilty]
        counter.jobs = []
        counter.not_before = now + dt.timedelta(seconds=_RETRY_S if not guilty else 0)
        _log.warning("CRL of %s: refused: %s", counter.authority.name, message)

    def _tell_unsigned(self, message: str) -> None:
        """A fresh signer signs one CRL after the other: that is said once, and `status` says what stays missing."""
        if not self._has_told_unsigned:
            _log.info("%s, as it is in a new signer; asked for again, and for any other, until it is signed", message)
        self._has_told_unsigned = True

    def _put_back(self, counter: _Counter, *, now: dt.datetime, delay_s: float, reason: str = _NOT_NOW) -> None:
        """Ask nothing more for this sub-CA until then; another client may."""
        self._postpone([*counter.jobs, *counter.waiting], reason, now=now, delay_s=delay_s)
        counter.jobs = []
        counter.waiting = []
        counter.not_before = now + dt.timedelta(seconds=delay_s)

    def _wait_for_room(self, counter: _Counter, reason: str, retry_after_s: int, *, now: dt.datetime) -> None:
        """The cap is reached. What is proved by the compromised key itself goes on, and so does the CRL."""
        delay_s = patience.as_told(retry_after_s, postponed=counter.postponed)
        counter.postponed += 1
        counter.capped_until = now + dt.timedelta(seconds=delay_s)
        asked = [*counter.jobs, *counter.waiting]
        self._postpone([job for job in asked if _is_capped(job)], reason, now=now, delay_s=delay_s)
        counter.waiting = [job for job in asked if not _is_capped(job)]
        counter.jobs = []

    def _postpone(self, jobs: Iterable[RevokeJob | CrlJob], reason: str, *, now: dt.datetime, delay_s: float) -> None:
        postponements = [Postponement(job_id=job.id, delay_s=delay_s, counts=False, reason=reason) for job in jobs]
        if postponements:
            self._store.queue.retry_later(self._owner, postponements, now=now)


def _note_dropped_dates(counter: _Counter, new_entries: bytes) -> None:
    """A list that has to keep room for other revocations says no invalidity date: see ADR 9."""
    wanted = {
        job.revocation.serial_number
        for job in counter.jobs
        if isinstance(job, RevokeJob) and job.revocation.invalidity_date is not None
    }
    for revocation, _ in crl.read_revocations(new_entries) if wanted else ():
        if revocation.serial_number in wanted and revocation.invalidity_date is None:
            _log.warning(
                "CRL of %s: %x is revoked without its invalidity date, for which the list has no room",
                counter.authority.name,
                revocation.serial_number,
            )


def _is_proved(job: RevokeJob | CrlJob) -> bool:
    return isinstance(job, RevokeJob) and job.revocation.proof is not None


def _is_capped(job: RevokeJob | CrlJob) -> bool:
    """Whether the signer's cap on revocations can keep it waiting."""
    return isinstance(job, RevokeJob) and job.revocation.proof is None


def _serial_field(job: RevokeJob) -> str:
    """How a signer names a revocation that it refuses."""
    return f"{job.revocation.serial_number:x}"


def _send_one(counter: _Counter, session: Session, *, alone: int | None) -> None:
    if not counter.full_wanted:
        # What was left unanswered before (version 1) goes alone, so that it takes no other with it; so do suspects.
        # What compromised keys have proved goes before the others, and without them: those may have to wait.
        counter.waiting.sort(key=lambda job: (job.id != alone, not _is_proved(job)))
        proved = _is_proved(counter.waiting[0]) if counter.waiting else False
        fresh = sum(
            1
            for _ in itertools.takewhile(
                lambda job: not job.tries and not job.deaths and _is_proved(job) == proved, counter.waiting
            )
        )
        together = max(1, min(fresh, _PROVED_A_MESSAGE if proved else counter.together))
        counter.jobs = counter.waiting[:together]
        del counter.waiting[:together]
    counter.fetches_full = counter.full_wanted or (counter.copy is None and not counter.jobs)
    if counter.fetches_full:
        counter.handle = session.get_full_crl(counter.authority.name)
    else:
        counter.handle = session.revoke(_request(counter))
        step("revoke 1 sent")
    counter.asked_at = time.monotonic()


def _check_nothing_is_lost(copy: crl.Crl | None, full: crl.Crl) -> None:
    """Revocations only grow: a CRL without one that was published comes from a signer that has lost its past."""
    lost = set(crl.entry_serials(copy.entries) if copy else ()) - set(crl.entry_serials(full.entries))
    if lost:
        raise PeerError(
            f"it lacks {len(lost)} revocations that are published, {min(lost):x} among them: "
            "has the signer lost its journal? Do not go on before somebody has looked"
        )


def _request(counter: _Counter) -> RevocationRequest:
    copy = counter.copy
    request = RevocationRequest(
        signing_ca=counter.authority.name,
        revocations=tuple(job.revocation for job in counter.jobs if isinstance(job, RevokeJob)),
        crl_number=copy.number if copy else 0,
        tbs_hash=hashlib.sha256(copy.tbs).digest() if copy else b"",
    )
    return replace(request, request_id=_request_id(request)) if request.revocations else request


def _request_id(request: RevocationRequest) -> bytes:
    """What the same message is called after any crash, so that it gets the same answer: SHA-256 of all that it says."""
    held = request.crl_number.to_bytes(_CRL_NUMBER_OCTETS, "big") + request.tbs_hash
    return hashlib.sha256(_REQUEST_TAG + revocation_digest(request) + held).digest()
