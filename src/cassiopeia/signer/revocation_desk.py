"""Revocations and fresh CRLs: journal, sign, journal, release, one CRL of a sub-CA at a time.

Requests that arrive while a CRL is being signed wait for the next, and share it. A proof by the compromised key itself
is verified by a worker first. The statement is ours and the key stands in the journal, so nothing here parses a
stranger's request; but the stranger chose key and signature, a crypto library reads both, and what ends the front ends
it again at each retry, and every CRL with it. A worker that dies costs that one message.
"""

from __future__ import annotations

import datetime as dt
import functools
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace

from cassiopeia.core import algorithms
from cassiopeia.core.authority import Authority
from cassiopeia.core.compromise import CompromiseClaim
from cassiopeia.core.request import RevocationRequest, revocation_digest
from cassiopeia.errors import PeerError, Refused, SignatureInvalid, Unavailable
from cassiopeia.protocol.payload import RevokedAnswer
from cassiopeia.protocol.session import Session
from cassiopeia.signer import answers
from cassiopeia.signer.caps import Caps
from cassiopeia.signer.gate import Gate
from cassiopeia.signer.journal import CrlRecord, Journal
from cassiopeia.signer.pool import WORKER_DIED
from cassiopeia.signer.revocation import Draft, RevocationList
from cassiopeia.signer.tasks import CheckProofs, Deferred, Denied, Outcome, Proved, Sign, Signed, Task
from cassiopeia.steps import step

_RETRY_AFTER_S = 5
_FIRST_DELAY_S = 2.5
_LONGEST_DELAY_S = 300.0
_DOUBLINGS = 7
_NO_TIME = dt.timedelta(0)
# Of a name that a client sent, so many characters are journaled and sent back.
_SHOWN = 80


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    session: Session
    handle: int
    request: RevocationRequest
    proofs: dict[bytes, bytes] = field(default_factory=dict)  # by serial number; none that nobody has verified


@dataclass(frozen=True, kw_only=True)
class _Checking:
    """What goes on once a worker has verified these claims."""

    counter: _Counter
    waiting: _Waiting
    claims: tuple[CompromiseClaim, ...]


@dataclass(kw_only=True)
class _Counter:
    """The work of one sub-CA: what waits for the next CRL, and the CRL being signed with those that wait for it.

    `answers` are the ids of the revocation requests whose answer that CRL will be, whoever is still there to hear it.
    """

    revocations: RevocationList
    next: list[_Waiting] = field(default_factory=list)
    current: list[_Waiting] = field(default_factory=list)
    draft: Draft | None = None
    answers: list[bytes] = field(default_factory=list)
    failures: int = 0
    try_again_at: float = 0.0
    ends_workers: bool = False

    def put_off(self, outcome: Outcome, *, now: float) -> None:
        """It could not be signed: it is tried again for as long as it takes, and ever less often."""
        self.ends_workers = isinstance(outcome, Deferred) and outcome.code == WORKER_DIED
        if self.failures:
            self.try_again_at = now + min(_FIRST_DELAY_S * 2 ** min(self.failures, _DOUBLINGS), _LONGEST_DELAY_S)
        self.failures += 1

    def go_on(self) -> None:
        """Nothing speaks against trying it now."""
        self.failures, self.try_again_at, self.ends_workers = 0, 0.0, False


class RevocationDesk:
    """Keeps the CRLs of all sub-CAs of this signer.

    One whose key `is_away` is not signed until it is not. `mistrusted` is called with a sub-CA and a sentence when a
    worker's signature over a CRL is wrong. `clock` is monotonic.
    """

    def __init__(
        self,
        *,
        lists: Iterable[RevocationList],
        journal: Journal,
        gate: Gate,
        caps: Caps,
        submit: Callable[[Task], None],
        next_task: Callable[[], int],
        resign_after: dt.timedelta,
        end_intents: Callable[[Collection[bytes], dt.datetime], None],
        is_away: Callable[[str], bool] = lambda _name: False,
        mistrusted: Callable[[str, str], None] = lambda _name, _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._counters = {each.authority.name: _Counter(revocations=each) for each in lists}
        self._journal = journal
        self._gate = gate
        self._caps = caps
        self._submit = submit
        self._next_task = next_task
        self._resign_after = resign_after
        self._end_intents = end_intents
        self._is_away = is_away
        self._mistrusted = mistrusted
        self._clock = clock
        self._tasks: dict[int, _Counter] = {}
        self._checks: dict[int, _Checking] = {}

    @property
    def lists(self) -> list[RevocationList]:
        return [counter.revocations for counter in self._counters.values()]

    def holds_another(self, name: str, issued: int) -> bool:
        """Whether the CRL of the sub-CA of this name has room for one certificate more (`RevocationList`)."""
        return self._counters[name].revocations.holds_another(issued)

    def follow(self, authorities: Iterable[Authority], *, lifetime: dt.timedelta, resign_after: dt.timedelta) -> None:
        """Keep the CRLs of these sub-CAs from now on; work under way is finished."""
        before, self._counters = self._counters, {}
        for each in authorities:
            counter = before.get(each.name)
            if counter is None:
                counter = _Counter(revocations=RevocationList(each, self._journal, lifetime=lifetime))
            else:
                counter.revocations.follow(each, lifetime=lifetime)
                counter.go_on()  # another library may sign now
            self._counters[each.name] = counter
        self._resign_after = resign_after

    def requested(self, session: Session, handle: int, request: RevocationRequest, *, now: dt.datetime) -> None:
        waiting = _Waiting(session=session, handle=handle, request=request)
        try:
            self._gate.check_revoking()
            counter = self._counter(request.signing_ca)
            if self._answer_again(counter.revocations, waiting, now=now):
                return
            claims = counter.revocations.claims(request.revocations)
        except Refused as refusal:
            self._refuse(waiting, refusal, now=now)
            return
        except Unavailable as error:
            answers.fail(session, handle, error)
            return
        if claims:
            task = self._next_task()
            self._checks[task] = _Checking(counter=counter, waiting=waiting, claims=claims)
            self._submit(CheckProofs(task=task, claims=claims))
            return
        counter.next.append(waiting)
        self._work(counter, now=now)

    def full_crl_requested(self, session: Session, handle: int, signing_ca: str) -> None:
        try:
            # A signer that has lost its past gives no number out twice.
            self._gate.check_revoking()
            full = self._counter(signing_ca).revocations.full()
        except Refused as refusal:
            answers.refuse(session, handle, refusal)
            return
        except Unavailable as error:
            answers.fail(session, handle, error)
            return
        if full is None:
            missing = Unavailable(f"{signing_ca} has no CRL yet", code="no-crl", retry_after_s=_RETRY_AFTER_S)
            answers.fail(session, handle, missing)
            return
        # The CRL may be signed and not yet durable: its number must not be seen before it can't be forgotten.
        self._journal.when_durable(lambda: answers.give(session, lambda: session.send_full_crl(handle, full)))

    def renew(self, *, now: dt.datetime) -> None:
        """Sign anew every CRL that is missing, behind or too old, while its sub-CA is valid."""
        for counter in self._counters.values():
            current = counter.revocations.current
            # A revocation whose CRL could not be signed, or was lost in a crash, is made up for.
            behind = counter.revocations.is_behind
            # One that is dated ahead was signed by a clock that has been turned back since.
            due = behind or current is None or not _NO_TIME <= now - current.this_update < self._resign_after
            if (
                due
                and counter.draft is None
                and not self._why_unsigned(counter)
                and now <= counter.revocations.authority.not_after
            ):
                self._draft(counter, now=now)

    def try_again(self, name: str) -> None:
        """The key of this sub-CA can be used again: what could not be signed is not put off any longer.

        But for a CRL that has ended workers: it may be that very CRL with which the library cannot cope.
        """
        counter = self._counters.get(name)
        if counter is not None and not counter.ends_workers:
            counter.go_on()

    def delivered(self, outcome: Outcome, *, now: dt.datetime) -> bool:
        """Take a worker's outcome; False when it is not one of ours."""
        checking = self._checks.pop(outcome.task, None)
        if checking is not None:
            self._checked(checking, outcome, now=now)
            return True
        counter = self._tasks.pop(outcome.task, None)
        if counter is None or counter.draft is None:
            return False
        draft, waiting = counter.draft, counter.current
        counter.draft, counter.current = None, []
        fault = _fault(counter.revocations.authority, draft, outcome)
        if isinstance(outcome, Signed) and fault is None:
            step("revoke 4 crl signed")
            counter.go_on()
            record = counter.revocations.complete(draft, outcome.signature, answers=counter.answers, now=now)
            step("revoke 4 crl appended")
            self._journal.when_durable(lambda: _release(counter.revocations, record, waiting))
        else:
            # The revocation itself is journaled and stands: the next CRL has it.
            counter.put_off(outcome, now=self._clock())
            if fault is not None:
                self._mistrusted(counter.revocations.authority.name, f"a worker's signature of a CRL is wrong: {fault}")
            error = Unavailable("the CRL could not be signed now", retry_after_s=_RETRY_AFTER_S)
            # A halt that this has brought about is on the disk before anything is told.
            self._journal.when_durable(functools.partial(_fail_all, waiting, error))
        self._work(counter, now=now)
        if fault is not None:
            raise fault
        return True

    def _checked(self, checking: _Checking, outcome: Outcome, *, now: dt.datetime) -> None:
        waiting = checking.waiting
        match outcome:
            case Proved():
                self._proved(checking, now=now)
            case Denied(code=code, field=offending, message=message):
                self._refuse(waiting, Refused(message, code=code, field=offending), now=now)
            case Deferred(code=code, message=message, retry_after_s=retry_after_s):
                self._fail(waiting, Unavailable(message, code=code, retry_after_s=retry_after_s))
            case _:
                self._fail(waiting, Unavailable("the proofs could not be verified now", retry_after_s=_RETRY_AFTER_S))
                raise PeerError("a worker answered a check of proofs with something else")

    def _proved(self, checking: _Checking, *, now: dt.datetime) -> None:
        try:
            # A worker had it meanwhile.
            self._gate.check_revoking()
        except Unavailable as error:
            self._fail(checking.waiting, error)
            return
        verified = {each.serial_number: each.proof for each in checking.claims}
        checking.counter.next.append(replace(checking.waiting, proofs=verified))
        self._work(checking.counter, now=now)

    def _counter(self, signing_ca: str) -> _Counter:
        try:
            return self._counters[signing_ca]
        except KeyError:
            raise Refused(
                f"this signer has no sub-CA named {signing_ca[:_SHOWN]!a}", code="unknown-ca", field="signingCA"
            ) from None

    def _answer_again(self, revocations: RevocationList, waiting: _Waiting, *, now: dt.datetime) -> bool:
        """Answer a retry: the same id and digest get the same answer; False when it is new, or has no CRL yet."""
        request = waiting.request
        known = self._journal.index.find_revocation(request.request_id) if request.request_id else None
        if known is None:
            return False
        if known.request_digest != revocation_digest(request):
            refusal = Refused("this request id was used for another revocation", code="request-id-taken", field="id")
            self._refuse(waiting, refusal, now=now)
            return True
        record = self._journal.index.crl(known.signing_ca, known.crl_number) if known.crl_number else None
        # A CRL that is dated ahead, by a clock that was turned back since, helps nobody: the next one answers.
        if record is None or not record.signature or record.this_update > now:
            return False
        self._journal.when_durable(lambda: _release(revocations, record, [waiting]))
        return True

    def _refuse(self, waiting: _Waiting, refusal: Refused, *, now: dt.datetime) -> None:
        try:
            self._caps.check_refusal(refusal)
        except Unavailable as error:
            self._fail(waiting, error)
            return
        self._journal.record_refusal(
            request_id=waiting.request.request_id,
            request_digest=b"",
            code=refusal.code,
            field=refusal.field,
            message=refusal.message,
            now=now,
        )
        self._journal.when_durable(
            lambda: answers.give(waiting.session, lambda: answers.refuse(waiting.session, waiting.handle, refusal))
        )

    def _fail(self, waiting: _Waiting, error: Unavailable) -> None:
        self._journal.when_durable(
            lambda: answers.give(waiting.session, lambda: answers.fail(waiting.session, waiting.handle, error))
        )

    def _work(self, counter: _Counter, *, now: dt.datetime) -> None:
        """Begin the next CRL if somebody waits for one; whoever asked for what can't be is refused, nobody else."""
        if counter.draft is not None:
            return
        waiting, counter.next = counter.next, []
        grown = False
        for each in waiting:
            request = each.request
            # One with the same id may have been journaled while this one waited.
            if self._answer_again(counter.revocations, each, now=now):
                continue
            try:
                revoked = counter.revocations.revoke(
                    request.revocations,
                    request_id=request.request_id,
                    request_digest=revocation_digest(request),
                    proofs=each.proofs,
                    at_most=self._caps.room_to_revoke(),
                    now=now,
                )
            except Refused as refusal:
                self._refuse(each, refusal, now=now)
                continue
            self._caps.count_revocations(revoked.taken - len(revoked.proved))
            for serial_number in revoked.proved:
                # What was decided for the same key, and is not confirmed yet, would be issued for a compromised one.
                self._end_intents(self._journal.index.open_for_key_of(serial_number), now)
            grown = grown or revoked.taken > 0
            if revoked.left:
                # What there was room for stands, whatever becomes of the rest: so the longest list comes to its end.
                self._fail(each, self._caps.revocation_waits(taken=revoked.taken, left=revoked.left))
            else:
                counter.current.append(each)
        if not counter.current and not grown:
            return
        step("revoke 2 revocation appended")
        reason = self._why_unsigned(counter)
        if not reason:
            self._draft(counter, now=now)
        else:
            # The revocations are journaled and stand; their ids find the CRL that will list them.
            waiting, counter.current = counter.current, []
            self._journal.when_durable(functools.partial(_put_off, waiting, reason))

    def _why_unsigned(self, counter: _Counter) -> str:
        """Why no CRL of this sub-CA is signed at this moment; empty when nothing stands in the way."""
        obstacle = self._gate.crl_obstacle()
        if obstacle is not None:
            return obstacle.message
        name = counter.revocations.authority.name
        if self._is_away(name):
            return f"the key of {name} cannot be used now"
        if self._clock() < counter.try_again_at:
            return f"{name} could not sign the last one, and is asked again later"
        return ""

    def _draft(self, counter: _Counter, *, now: dt.datetime) -> None:
        draft = counter.draft = counter.revocations.draft(now=now)
        counter.answers = self._journal.index.unanswered_revocations(counter.revocations.authority.name)
        task = self._next_task()
        self._tasks[task] = counter
        signing_ca = counter.revocations.authority.name
        # Durable first: a CRL must never list what the journal could forget.

        def sign() -> None:
            step("revoke 3 revocation durable")
            self._submit(Sign(task=task, signing_ca=signing_ca, algorithm=draft.algorithm.der, octets=draft.tbs))

        self._journal.when_durable(sign)


def _fault(authority: Authority, draft: Draft, outcome: Outcome) -> SignatureInvalid | None:
    """What is wrong with the signature that a worker gave, if it gave any."""
    if isinstance(outcome, Signed):
        try:
            algorithms.verify(authority.public_key, draft.algorithm, outcome.signature, draft.tbs)
        except SignatureInvalid as error:
            return error
    return None


def _put_off(waiting: list[_Waiting], reason: str) -> None:
    error = Unavailable(
        f"the revocation is journaled, no CRL can be signed now: {reason}", retry_after_s=_RETRY_AFTER_S
    )
    _fail_all(waiting, error)


def _fail_all(waiting: list[_Waiting], error: Unavailable) -> None:
    for each in waiting:
        answers.give(each.session, functools.partial(answers.fail, each.session, each.handle, error))


def _release(revocations: RevocationList, record: CrlRecord, waiting: list[_Waiting]) -> None:
    step("revoke 5 crl durable")
    for each in waiting:
        entries = revocations.entries_since(each.request.crl_number, each.request.tbs_hash, record)
        answer = RevokedAnswer(
            date=record.this_update if each.request.revocations else None,
            algorithm=record.algorithm,
            signature=record.signature,
            this_update=record.this_update,
            next_update=record.next_update,
            crl_number=record.number,
            entries=entries,
        )
        answers.give(each.session, functools.partial(each.session.send_revoked, each.handle, answer))
    step("revoke 5 released")
