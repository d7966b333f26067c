"""Certificates under way in one session: sent, compared, logged, checked, written back (steps 4, 9 and 11).

Answers are gathered, and `write_back` takes one transaction for each kind of them; `logSaved` leaves only after the
commit that saved the logs. What the signer says is believed when it proves to be what was asked for, and not before.
"""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cassiopeia.client import patience
from cassiopeia.client.evidence import is_never_proved
from cassiopeia.client.journal_copy import JournalCopy
from cassiopeia.client.lint import Decision, Lint, Verdict
from cassiopeia.client.losses import Losses
from cassiopeia.core import certificate, csr
from cassiopeia.core.authority import Authority
from cassiopeia.core.certificate import CheckedTbs, IssuedCertificate
from cassiopeia.core.profile import Profile
from cassiopeia.core.request import request_digest
from cassiopeia.errors import Inconsistent, PeerError, Refused, Unavailable
from cassiopeia.journal import entry as entries
from cassiopeia.protocol.events import (
    CertificateIssued,
    Event,
    LogReceived,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
)
from cassiopeia.protocol.session import Session
from cassiopeia.steps import step
from cassiopeia.store.database import Store
from cassiopeia.store.journal_copies import SeenHead
from cassiopeia.store.records import IssuedResult, Outcome, Postponement, Refusal, SigningLog, SignJob

_log = logging.getLogger(__name__)

_UNKNOWN_AUTHORITY_DELAY_S = 300.0
_BAD_CERTIFICATE_DELAY_S = 60.0
_BAD_CERTIFICATE_TRIES = 3
_UNTRUSTED_DELAY_S = 300.0
_SAME_PROFILES = "Have signer, client and validators the same profiles?"
_WRITTEN = frozenset({Outcome.RECORDED, Outcome.ALREADY_RECORDED})


class _UnknownAuthority(PeerError):
    """The signer used a sub-CA of which this client has no certificate."""


@dataclass(kw_only=True)
class _Flight:
    """One job between its request and its certificate. `tbs` is what the log says will be signed, and was compared.

    Its log is confirmed when it is `saved` and has `passed` the lint. `put_back` is how the job goes on once the signer
    has abandoned the intent, `refusal` why it ends then. `intent` is the place of the log's entry in the signer's
    journal.
    """

    job: SignJob
    subject_public_key_info: bytes
    tbs: CheckedTbs | None = None
    intent: int = 0
    saved: bool = False
    passed: bool = False
    confirmed: bool = False
    vetoed: bool = False
    put_back: Decision | None = None
    refusal: str = ""
    # When the signer was asked last, on the monotonic clock; None while it has answered.
    asked_at: float | None = field(default_factory=time.monotonic)


@dataclass(kw_only=True)
class _Answers:
    """What was gathered since the last `write_back`; logs and vetoes by handle."""

    logs: dict[int, SigningLog] = field(default_factory=dict)
    vetoes: dict[int, str] = field(default_factory=dict)
    issued: list[IssuedResult] = field(default_factory=list)
    # The places of their results in the signer's journal (version 1 has none).
    places: list[int | None] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    postponements: list[Postponement] = field(default_factory=list)
    set_aside: list[tuple[int, str]] = field(default_factory=list)


class Issuance:
    """The certificates that one client has under way."""

    def __init__(
        self,
        *,
        authorities: Mapping[str, Authority],
        store: Store,
        owner: str,
        version: int,
        profiles: Mapping[str, Profile],
        lint: Lint | None = None,
        journal: JournalCopy | None = None,
    ) -> None:
        self._authorities = authorities
        self._store = store
        self._owner = owner
        self._version = version
        # As requests name them: those for OCSP responders name none.
        self._profiles = {each.name if each.family else "": each for each in profiles.values()}
        # Version 1 says what it has signed when it has signed it.
        self._lint = lint if version > 1 else None
        self._lint_numbers = itertools.count()
        self._linting: dict[int, int] = {}  # handles by number
        # Version 1 knows of no journal.
        self._journal = journal if version > 1 else None
        self._flights: dict[int, _Flight] = {}
        self._answers = _Answers()
        self._losses = Losses()
        self._has_issued = False
        self._evidence_alarm = ""
        # Requests whose logs were confirmed before the linter vetoed them: their certificates exist, and are fetched.
        self._vetoed_too_late: set[bytes] = set()

    @property
    def has_issued(self) -> bool:
        """Whether the signer has made a certificate in this session."""
        return self._has_issued

    @property
    def evidence_alarm(self) -> str:
        """What is wrong with the validators, as far as this signer is concerned; "" since evidence was taken again."""
        return self._evidence_alarm

    @property
    def longest_wait_s(self) -> float:
        """Seconds that the signer has left one request unanswered; what waits for this side does not count."""
        now = time.monotonic()
        return max((now - each.asked_at for each in self._flights.values() if each.asked_at), default=0.0)

    @property
    def job_ids(self) -> list[int]:
        """The jobs whose requests wait for their answer."""
        return [flight.job.id for flight in self._flights.values()]

    @property
    def under_way(self) -> int:
        """How many requests wait for their answer."""
        return len(self._flights)

    def send(self, session: Session, jobs: Iterable[SignJob]) -> None:
        """Send requests; with the next `write_back`, what can never be sent is refused, what finds no room put back."""
        for job in jobs:
            try:
                self._send_one(session, job)
            except Refused as refusal:
                self._refuse(job, refusal.code, refusal.field, refusal.message)
            except Unavailable as error:
                self._postpone(job, error.message, delay_s=0, lengthens=False)

    def receive(self, event: Event) -> bool:
        """Take an event of the session; False when it is not about a certificate."""
        match event:
            case LogReceived() | CertificateIssued() | RequestRefused() | RequestFailed() | RequestAbandoned():
                flight = self._flights.get(event.handle)
                if flight is not None:  # else the line was lost in between, and the job is back in the queue
                    self._take(event, flight)
                return True
            case _:
                return False

    def write_back(self, session: Session | None, *, signer_id: int | None, now: dt.datetime) -> None:
        """Write what was gathered, then confirm the logs to `session` (None: it has ended)."""
        self._take_lints(session, now=now)
        if self._journal is not None and self._journal.alarm:
            self._take_back_unconfirmed(self._journal.alarm)
        answers, self._answers = self._answers, _Answers()
        results, queue = self._store.results, self._store.queue
        if session is not None:
            for handle, reason in answers.vetoes.items():
                if handle in self._flights:
                    session.abandon(handle, reason)
                    self._flights[handle].asked_at = time.monotonic()
        if answers.logs:
            outcomes = results.save_logs(
                self._owner, list(answers.logs.values()), now=now, signer_id=signer_id, head=self._unsaved_head
            )
            self._head_saved()
            step("sign 9 log stored")
            for (handle, log), outcome in zip(answers.logs.items(), outcomes, strict=True):
                self._confirm(session, handle, log, outcome)
        if answers.issued:
            outcomes = results.finish_issued(answers.issued, now=now, head=self._unsaved_head)
            self._head_saved()
            step("sign 11 written back")
            for issued, place, outcome in zip(answers.issued, answers.places, outcomes, strict=True):
                if self._journal is not None and place is not None and outcome in _WRITTEN:
                    self._journal.certificate_kept(place)
                if outcome is Outcome.CONFLICT:
                    reason = (
                        f"certificate {issued.serial_number:032x} of {issued.authority} is not the one that the store "
                        "has for its request, or for its serial number"
                    )
                    _log.error("%s: stop the signer, and find out why there are two", reason)
                    # As a job that is done already it stays done.
                    answers.set_aside.append((issued.job_id, f"{reason}; the client's log and the signer's have it"))
        if answers.refusals:
            results.refuse(self._owner, answers.refusals, now=now)
        if answers.postponements:
            queue.retry_later(self._owner, answers.postponements, now=now)
        if answers.set_aside:
            queue.set_aside(self._owner, answers.set_aside, now=now)

    def line_lost(self, reason: str, *, now: dt.datetime, proven: bool) -> None:
        """Requests without an answer go back to the queue at once; no try is used up.

        One that was under way when the line was lost twice in a row is suspected of having ended the signer. A suspect
        is blamed once more if the signer is `proven` to work: it has done something else in this session.
        """
        flights, self._flights = self._flights, {}
        self._forget_lints()
        self._has_issued = False
        jobs = [flight.job for flight in flights.values()]
        self._losses.settle(self._store.queue, self._owner, jobs, reason, now=now, proven=proven)

    def left_unanswered(self, *, now: dt.datetime) -> None:
        """The same in version 1, where it may mean no: a try is used up."""
        flights, self._flights = self._flights, {}
        patience.try_later(self._store.queue, self._owner, [each.job for each in flights.values()], now=now)

    def forget(self) -> None:
        """Nothing is under way any more: the queue gives the jobs anew."""
        self._flights.clear()
        self._has_issued = False
        self._answers = _Answers()
        self._forget_lints()

    def _send_one(self, session: Session, job: SignJob) -> None:
        request = job.request
        parse = csr.parse_spkac if request.key_kind == "spkac" else csr.parse_certification_request
        key = parse(request.key_proof)
        handle = session.submit(request)
        step("sign 4 sent")
        self._flights[handle] = _Flight(job=job, subject_public_key_info=key.subject_public_key_info)
        _log.debug("%s sent, profile %s", _short(job), request.profile or request.ocsp_target_ca)

    def _take(
        self,
        event: LogReceived | CertificateIssued | RequestRefused | RequestFailed | RequestAbandoned,
        flight: _Flight,
    ) -> None:
        job = flight.job
        match event:
            case LogReceived(handle=handle, log=log):
                self._take_log(handle, flight, log)
                return
            case _ if flight.vetoed:
                pass  # refused already, whatever the signer says to that
            case CertificateIssued():
                self._take_certificate(flight, event)
            case RequestRefused(code="evidence-missing", message=message) if not job.request.proofs:
                # This side did not know that the profile demands any: the subscriber is not at fault.
                self._attest_anew(job, message)
            case RequestRefused(code="evidence-missing", message=message) if not self._is_never_proved(job):
                # Nor here: what the signer wants besides, no validator was told to send, or it left it out.
                self._note_evidence_alarm(f"the signer misses what no validator has sent: {message} {_SAME_PROFILES}")
                self._attest_anew(job, message)
            case RequestRefused(code="evidence-surplus" | "evidence-invalid", message=message):
                # Nor here: what came along is a validator's work, and that of whoever gave it other profiles.
                self._note_evidence_alarm(
                    f"the signer takes nothing of what a validator has put together: {message} {_SAME_PROFILES}"
                )
                self._attest_anew(job, message)
            case RequestRefused(code=code, field=offending, message=message):
                self._refuse(job, code, offending, message)
            case RequestFailed(code="reattest", message=message):
                self._attest_anew(job, message)
            case RequestFailed(code="worker-died", message=message):
                # It took two of the signer's workers with it: not again before a person has looked at it.
                _log.error("%s set aside: %s", _short(job), message)
                self._answers.set_aside.append((job.id, message))
            case RequestFailed(code="log-confirmed") if not flight.tbs:
                # What was confirmed once is not what was asked for, says this release: a person has to decide.
                self._answers.set_aside.append((job.id, f"its log was confirmed before; now {flight.refusal}"))
            case RequestFailed(code="log-confirmed"):
                # By an earlier run, which then ended, or by another client: a refusal would deny what is signed.
                _log.error(
                    "%s vetoed too late: the certificate exists, and is fetched. Is it to be revoked?", _short(job)
                )
                self._vetoed_too_late.add(job.request.request_id)
                self._postpone(job, "vetoed too late: its log was confirmed before", delay_s=0, lengthens=False)
            case RequestFailed(message=message, retry_after_s=retry_after_s):
                if event.code == "validator-unknown":
                    self._note_evidence_alarm(message)
                self._postpone(job, message, delay_s=patience.as_told(retry_after_s, postponed=job.postponed))
            case RequestAbandoned() if flight.put_back is not None:
                self._abandoned(flight, event, flight.put_back.reason, delay_s=flight.put_back.delay_s)
            case RequestAbandoned() if flight.refusal:
                self._refuse(job, "vetoed", "", flight.refusal)
            case RequestAbandoned():
                self._abandoned(flight, event, "the signer has abandoned the intent", delay_s=0)
        del self._flights[event.handle]

    def _abandoned(self, flight: _Flight, event: RequestAbandoned, reason: str, *, delay_s: float) -> None:
        """Only what a signed head covers sets a job free to go to another signer."""
        vouched = self._journal is not None and self._journal.vouches(event.index, event.head)
        self._postpone(flight.job, reason, delay_s=delay_s, abandoned=vouched)

    # Step 9: compare what will be signed with what was asked for, and save it.
    def _take_log(self, handle: int, flight: _Flight, log: bytes) -> None:
        flight.asked_at = None
        try:
            if self._version > 1:  # the log of version 1 is text for people
                flight.tbs = self._compare(flight, log)
        except _UnknownAuthority as error:
            # A lack on this side: the signer was given a new sub-CA first. Nobody's request is at fault.
            self._veto(handle, flight, str(error))
            self._postpone(flight.job, str(error), delay_s=_UNKNOWN_AUTHORITY_DELAY_S)
            return
        except Inconsistent as error:
            # The signer's journal is at fault, not the request.
            self._veto(handle, flight, str(error))
            self._postpone(flight.job, str(error), delay_s=_UNTRUSTED_DELAY_S)
            return
        except PeerError as error:
            # As for the linter's veto: not before the signer has said that nothing is signed.
            _log.error("%s vetoed: %s", _short(flight.job), error)
            flight.refusal = f"the client's veto: {error}"
            self._answers.vetoes[handle] = str(error)
            return
        step("sign 9 compared")
        if flight.job.request.proofs:
            self._evidence_alarm = ""
        if self._lint is None or flight.tbs is None or flight.job.request.request_id in self._vetoed_too_late:
            flight.passed = True
        else:
            number = next(self._lint_numbers)
            self._linting[number] = handle
            self._lint.submit(number, flight.job.request.profile, flight.tbs.octets)
        log_hash = entries.part_hash(log)
        self._answers.logs[handle] = SigningLog(job_id=flight.job.id, sha256=log_hash, entry=log)

    # Step 9, too: lint what was compared, while its log is being saved.
    def _take_lints(self, session: Session | None, *, now: dt.datetime) -> None:
        for decision in self._lint.decide(now=now) if self._lint is not None else ():
            handle = self._linting.pop(decision.number)
            flight = self._flights.get(handle)
            if flight is None or flight.vetoed:
                continue  # the signer's last word came first, or another client has the job
            if decision.verdict is Verdict.PASSED:
                flight.passed = True
                self._confirm_if_ready(session, handle, flight)
                continue
            match decision.verdict:
                case Verdict.REFUSED:
                    # Not before the signer has said that nothing is signed: an earlier run may have let it.
                    _log.error("%s vetoed: %s", _short(flight.job), decision.reason)
                    flight.refusal = decision.reason
                    self._answers.vetoes[handle] = decision.reason
                case Verdict.SET_ASIDE:
                    self._veto(handle, flight, decision.reason)
                    self._answers.set_aside.append((flight.job.id, decision.reason))
                case Verdict.LATER:
                    # When the signer has abandoned the intent the job is free to go to another signer.
                    flight.put_back = decision
                    self._answers.vetoes[handle] = decision.reason

    def _forget_lints(self) -> None:
        self._linting.clear()
        if self._lint is not None:
            self._lint.forget()

    def _veto(self, handle: int, flight: _Flight, reason: str) -> None:
        _log.error("%s vetoed: %s", _short(flight.job), reason)
        flight.vetoed = True
        self._answers.vetoes[handle] = reason

    def _take_back_unconfirmed(self, reason: str) -> None:
        """The signer's journal is not to be trusted: nothing that it has not been let sign yet is left with it."""
        for handle, flight in self._flights.items():
            if not (flight.confirmed or flight.vetoed or flight.put_back or flight.refusal):
                self._answers.logs.pop(handle, None)
                flight.vetoed = True
                self._answers.vetoes[handle] = reason
                self._postpone(flight.job, reason, delay_s=_UNTRUSTED_DELAY_S)

    @property
    def _unsaved_head(self) -> SeenHead | None:
        return self._journal.unsaved_head if self._journal is not None else None

    def _head_saved(self) -> None:
        if self._journal is not None:
            self._journal.head_saved()

    def _compare(self, flight: _Flight, log: bytes) -> CheckedTbs:
        """The TBSCertificate in a log, if all of it is what was asked for; raises `PeerError` otherwise."""
        request = flight.job.request
        # 1. It is a whole intent, and about this request.
        entry, read = entries.read_log(log)
        if entry.kind != "intent" or len(read.parts) != 1:
            raise PeerError(f"the log is of the kind {entry.kind}, with {len(read.parts)} parts: it is no intent")
        intent: entries.Intent = entries.decode_body(entry)
        part = entries.decode_part(entries.Requested, read.parts[0])
        if (intent.request_id, intent.request_digest) != (request.request_id, request_digest(request)):
            raise PeerError("the log is about another request")
        logged = entries.as_request(part, request_id=intent.request_id)
        # A signer that is asked again answers with what it was sent first, and that had the proofs of that time.
        if replace(logged, proofs=request.proofs) != request:
            raise PeerError("the log holds another request than the one that was made")
        # 2. What will be signed is what was asked for, and what the entry says of it is true.
        authority = self._authority(intent.signing_ca)
        tbs = certificate.check_tbs(
            part.tbs_certificate,
            request=request,
            subject_public_key_info=flight.subject_public_key_info,
            authority=authority,
        )
        if int.from_bytes(intent.serial_number, "big") != tbs.says.serial_number:
            raise PeerError("the log names another serial number than the certificate")
        # 3. It has its place in the journal that is known here.
        if self._journal is not None:
            self._journal.saw_log(entry, read)
        flight.intent = entry.index
        return tbs

    # Step 11: check the certificate before it is believed.
    def _take_certificate(self, flight: _Flight, issued: CertificateIssued) -> None:
        job = flight.job
        try:
            checked = self._checked(flight, issued)
        except PeerError as error:
            _log.error("%s the signer's certificate is not what was asked for: %s", _short(job), error)
            reason = f"bad certificate: {error}"
            # Asked again, a signer of version 1 would make another one; any other gives the same, whole this time?
            if self._version == 1 or job.tries + 1 >= _BAD_CERTIFICATE_TRIES:
                self._answers.set_aside.append((job.id, reason))
            else:
                self._postpone(job, reason, delay_s=_BAD_CERTIFICATE_DELAY_S, counts=True)
            return
        step("sign 11 certificate checked")
        self._has_issued = True
        self._vetoed_too_late.discard(job.request.request_id)
        _log.debug("%s certificate verifies, and is what was asked for: written back", _short(job))
        self._answers.places.append(issued.index)
        self._answers.issued.append(
            IssuedResult(
                job_id=job.id,
                authority=issued.signing_ca,
                serial_number=checked.serial_number,
                certificate=checked.der,
                subject=checked.subject,
                not_before=checked.not_before,
                not_after=checked.not_after,
            )
        )

    def _checked(self, flight: _Flight, issued: CertificateIssued) -> IssuedCertificate:
        """The certificate, if it is the one that was asked for; raises `PeerError` otherwise."""
        authority = self._authority(issued.signing_ca)
        if issued.certificate is not None:  # version 1
            return certificate.check_certificate(
                issued.certificate,
                request=flight.job.request,
                subject_public_key_info=flight.subject_public_key_info,
                authority=authority,
            )
        if flight.tbs is None or flight.tbs.authority is not authority:
            raise PeerError(f"no log said that {authority.name} would sign")
        # The signature alone has come, and goes onto the octets that were compared in step 9.
        return certificate.complete_certificate(flight.tbs, issued.signature or b"")

    def _confirm(self, session: Session | None, handle: int, log: SigningLog, outcome: Outcome) -> None:
        flight = self._flights.get(handle)
        if flight is None:
            return  # the signer's last word to this request came right behind its log
        if self._journal is not None and outcome is not Outcome.UNKNOWN:
            self._journal.log_saved(flight.intent)
        if outcome in {Outcome.NOT_HELD, Outcome.UNKNOWN}:
            # The lease ran out and another client has the job: what it does counts.
            _log.warning("%s another client works on it now", _short(flight.job))
            abandoned = flight.put_back or flight.refusal
            flight.vetoed = True
            if session is not None and not abandoned:
                session.abandon(handle, "another client works on it")
                flight.asked_at = time.monotonic()
            return
        _log.debug("%s log saved, SHA-256 %s", _short(flight.job), log.sha256.hex()[:16])
        flight.saved = True
        self._confirm_if_ready(session, handle, flight)

    def _confirm_if_ready(self, session: Session | None, handle: int, flight: _Flight) -> None:
        if flight.saved and flight.passed and session is not None and self._trusts_journal:
            session.confirm_log(handle)
            flight.confirmed = True
            flight.asked_at = time.monotonic()
            step("sign 9 confirmed")

    @property
    def _trusts_journal(self) -> bool:
        """Without a signed head that verifies in this session, nothing is let be signed."""
        return self._journal is None or self._journal.trusted

    def _refuse(self, job: SignJob, code: str, offending: str, message: str) -> None:
        _log.debug("%s refused: %s", _short(job), message)
        self._answers.refusals.append(Refusal(job_id=job.id, code=code, field=offending, message=message))

    def _postpone(
        self,
        job: SignJob,
        reason: str,
        *,
        delay_s: float,
        counts: bool = False,
        abandoned: bool = False,
        lengthens: bool = True,
    ) -> None:
        _log.debug("%s not now: %s", _short(job), reason)
        self._answers.postponements.append(
            Postponement(
                job_id=job.id,
                delay_s=delay_s,
                counts=counts,
                reason=reason,
                abandoned=abandoned,
                lengthens=lengthens,
            )
        )

    def _attest_anew(self, job: SignJob, reason: str) -> None:
        """Its evidence does not hold, or not any more: no try is used up, and a validator vouches for it anew."""
        _log.debug("%s attested anew: %s", _short(job), reason)
        self._answers.postponements.append(
            Postponement(
                job_id=job.id,
                delay_s=patience.reattested_s(job.reattested),
                counts=False,
                reason=reason,
                lengthens=False,
                reattest=True,
            )
        )

    def _is_never_proved(self, job: SignJob) -> bool:
        """Whether the subscriber has to do something about it; a profile that is not known here is the signer's."""
        profile = self._profiles.get(job.request.profile)
        return profile is not None and is_never_proved(self._store, profile, job.request)

    def _note_evidence_alarm(self, message: str) -> None:
        if message != self._evidence_alarm:
            _log.error("%s", message)
        self._evidence_alarm = message

    def _authority(self, name: str) -> Authority:
        try:
            return self._authorities[name]
        except KeyError:
            raise _UnknownAuthority(
                f"this client does not know the sub-CA {name}: install the client bundle of the same ceremony "
                "(cassiopeia client install)"
            ) from None


def _short(job: SignJob) -> str:
    """How log lines name a request: the first octets of its id."""
    return f"request {job.request.request_id.hex()[:8]}:"
