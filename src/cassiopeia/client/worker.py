"""The signer client: leases jobs, drives one long-lived session with many requests under way, writes results back.

One loop. Each turn collects what the signer answered and writes it to the store in batches, one transaction for each
kind of answer; `logSaved` leaves only after the commit that saved the logs. A line that drops loses nothing: what was
under way is sent again under the same request id, and the signer gives the same answer.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import logging
import os
import random
import selectors
import signal
import socket
import time
from dataclasses import dataclass, field

import msgspec

from cassiopeia.client import patience
from cassiopeia.client.crl_sync import CrlSync
from cassiopeia.client.publish import Publisher
from cassiopeia.client.succession import lease_owner, take_back
from cassiopeia.config import ClientConfig, load_authorities
from cassiopeia.core import certificate, csr
from cassiopeia.core.authority import Authority
from cassiopeia.core.request import request_digest
from cassiopeia.errors import OperatorError, PeerError, Refused, Unavailable
from cassiopeia.link.credentials import client_tls
from cassiopeia.link.line import Line
from cassiopeia.link.stream import open_link
from cassiopeia.protocol import payload
from cassiopeia.protocol.connection import Connection, reset_nonce
from cassiopeia.protocol.events import (
    CertificateIssued,
    Event,
    HelloReceived,
    LogReceived,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
    StatusReceived,
)
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import Role
from cassiopeia.protocol.session import Session
from cassiopeia.store.database import Store
from cassiopeia.store.records import IssuedResult, Outcome, Postponement, Refusal, SigningLog, SignJob

_log = logging.getLogger(__name__)

_POLL_S = 0.2
_LEASE_S = 120.0
_STATUS_EVERY_S = 30.0
_STATUS_SOON_S = 1.0  # while the signer is about to begin
_ANSWER_TIME_LIMIT_S = 60.0
# A signer on a serial line answers a reset at once; an answer that got lost is not worth waiting for.
_RESET_TIME_LIMIT_S = 5.0
_RECONNECT_FIRST_S = 0.2
_RECONNECT_LAST_S = 30.0
# Behind a version 1 session that ended without an answer: what failed has a delay of its own, others shall not wait.
_RECONNECT_VERSION_1_S = 2.0
_DRAIN_PATIENCE_S = 30.0
_NO_SIGNER = 0
_CRL_RENEW_AFTER = dt.timedelta(hours=24)


@dataclass(kw_only=True)
class _Flight:
    """One job between its request and its certificate. `tbs` is what the log says will be signed."""

    job: SignJob
    subject_public_key_info: bytes
    log: bytes = b""
    tbs: bytes = b""


@dataclass(kw_only=True)
class _Answers:
    """What one turn brought, gathered so that each kind takes one transaction."""

    logs: dict[int, SigningLog] = field(default_factory=dict)
    issued: list[IssuedResult] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    postponements: list[Postponement] = field(default_factory=list)
    set_aside: list[tuple[int, str]] = field(default_factory=list)


class SignerClient:
    """One client process for one signer."""

    def __init__(self, config: ClientConfig, store: Store) -> None:
        self._config = config
        self._store = store
        self._owner = lease_owner(config.name)
        self._authorities: dict[str, Authority] = {
            each.authority.name: each.authority for each in load_authorities(config.authorities)
        }
        self._tls = client_tls(
            certificate=config.certificate, key=config.key, peers=config.peers, version=config.version
        )
        self._crl_sync = CrlSync(
            authorities=self._authorities.values(),
            store=store,
            owner=self._owner,
            publisher=Publisher(config.publish_directory),
            renew_after=_CRL_RENEW_AFTER,
        )
        self._selector = selectors.DefaultSelector()
        self._line: Line | None = None
        self._greeted: Session | None = None
        self._session_used = False
        # Version 1 opens a session for the job that it has in hand.
        self._in_hand: list[SignJob] = []
        self._signer_id: int | None = None
        self._window = config.window if config.version > 1 else 1
        self._session_open = False
        self._reconnect_at = 0.0
        self._reconnect_delay = _RECONNECT_FIRST_S
        self._flights: dict[int, _Flight] = {}
        self._events: list[Event] = []
        self._session_has_ended = False
        self._next_lease = 0.0
        self._next_status = 0.0
        self._seeking_since: float | None = None
        self._owes_release = False
        self._stopping = False

    def run(self, *, drain: bool = False) -> None:
        """Work until SIGTERM or SIGINT, or with `drain` until the queue is empty; raises `OperatorError`."""
        self._wake_on_signals()
        if taken := take_back(self._store.queue, self._owner, now=_now()):
            _log.warning("a client died on this machine with %d jobs in hand: they are in the queue again", taken)
        try:
            while not self._stopping and not (drain and self._is_drained()):
                try:
                    self._connect()
                    for key, mask in self._selector.select(_POLL_S):
                        key.data(mask)
                    self._turn()
                except PeerError as error:
                    self._start_afresh(f"the signer broke the protocol: {error}")
                except Unavailable as error:
                    self._start_afresh(error.message)
            _log.info("stopping" if self._stopping else "drained: the queue is empty")
        finally:
            if self._line is not None:
                self._line.end()
            self._put_flights_back("the client stopped")
            # Revocations and CRLs that had not been answered yet.
            self._store.queue.release(self._owner, now=_now())
            self._selector.close()

    def _is_drained(self) -> bool:
        """Nothing waits and nothing is under way; raises `OperatorError` when the signer stays away."""
        if self._seeking_since is not None and time.monotonic() - self._seeking_since > _DRAIN_PATIENCE_S:
            raise OperatorError(f"the signer at {self._config.connect} does not answer; the queue is as it was")
        # Without work, version 1 has no session.
        in_touch = self._session_open or self._version == 1
        now = _now()
        if not in_touch or self._flights or self._in_hand or self._crl_sync.busy or self._crl_sync.due(now=now):
            return False
        statistics = self._store.queue.statistics(now=now)
        return not any(statistics.waiting.values()) and not any(statistics.leased.values())

    def _start_afresh(self, reason: str) -> None:
        """Forget the session and all that is under way, and go on later, when the store gives the jobs back."""
        if self._line is not None:
            self._line.close()
            self._line = None
        self._events.clear()
        self._flights.clear()
        self._in_hand.clear()
        self._crl_sync.forget()
        self._session_open = self._session_has_ended = False
        self._greeted = None
        self._owes_release = True
        self._back_off(reason)

    def _connect(self) -> None:
        if self._line is not None or time.monotonic() < self._reconnect_at:
            return
        if self._owes_release:
            self._store.queue.release(self._owner, now=_now())
            self._owes_release = False
        if self._version == 1 and not self._has_work(_now()):
            return
        if self._seeking_since is None:
            self._seeking_since = time.monotonic()
        try:
            link = open_link(self._config.connect)
        except Unavailable as error:
            self._let_go()
            self._back_off(str(error))
            return
        self._line = Line(
            link=link,
            connection=Connection(
                role=Role.CLIENT,
                tls=self._tls,
                serial=self._config.connect.is_serial,
                limits=Limits(),
                reset_nonce=reset_nonce(os.urandom),
            ),
            selector=self._selector,
            on_event=self._collect,
            on_session_end=lambda _: self._note_session_end(),
            on_failure=lambda reason: _log.warning("line: %s", reason),
        )
        self._line.flush()

    def _collect(self, _session: Session, event: Event) -> None:
        self._events.append(event)

    def _note_session_end(self) -> None:
        self._session_has_ended = True

    def _turn(self) -> None:
        """Answers first, then whatever there is to send."""
        now = _now()
        events, self._events = self._events, []
        line = self._line
        self._take_answers(events, now)
        if self._session_has_ended:
            # Only now: what the session said last may have been the answers that were waited for.
            self._session_lost()
        if line is None:
            return
        session = self._open_session(line)
        if session is not None and self._version == 1:
            self._work_version_1(line, session, now)
        elif session is not None:
            self._lease(session, now)
            self._crl_sync.send(session, now=now)
            self._ask_status(session)
        self._check_time(line)
        line.flush()
        if line.closed:
            if self._session_has_ended:
                self._session_lost()
            self._line = None
            self._let_go()
            self._back_off()

    def _take_answers(self, events: list[Event], now: dt.datetime) -> None:
        answers = _Answers()
        if self._version == 1 and any(not isinstance(event, LogReceived) for event in events):
            # An answer ends its session: the next one follows at once.
            self._reconnect_delay = 0.0
        for event in events:
            if self._crl_sync.receive(event, now=now):
                continue
            match event:
                case HelloReceived(hello=hello):
                    self._opened(hello)
                case StatusReceived(report=report):
                    self._save_status(report, now)
                case LogReceived() | CertificateIssued() | RequestRefused() | RequestFailed() | RequestAbandoned():
                    self._take_answer(event, answers)
                case _:
                    _log.error("an event that a client never gets: %s", type(event).__name__)
        self._write_back(answers, now)

    def _save_status(self, report: payload.StatusReport | None, now: dt.datetime) -> None:
        """Keep the signer's last word for `cassiopeia status`."""
        if report is None or self._signer_id is None:
            return
        document = json.loads(
            msgspec.json.encode(
                dataclasses.asdict(report) | {"configuration_hash": report.configuration_hash.hex(), "extensions": []}
            )
        )
        self._store.signers.save(self._signer_id, document, now=now)
        if report.state != "running":
            self._next_status = time.monotonic() + _STATUS_SOON_S

    def _take_answer(
        self,
        event: LogReceived | CertificateIssued | RequestRefused | RequestFailed | RequestAbandoned,
        answers: _Answers,
    ) -> None:
        flight = self._flights.get(event.handle)
        if flight is None:
            return  # the line was lost in between; the job is back in the queue
        job = flight.job
        match event:
            case LogReceived(log=log):
                self._take_log(event.handle, flight, log, answers)
                return
            case CertificateIssued():
                self._take_certificate(flight, event, answers)
            case RequestRefused(code=code, field=offending, message=message):
                _log.debug("%s refused: %s", _short(job), message)
                answers.refusals.append(Refusal(job_id=job.id, code=code, field=offending, message=message))
            case RequestFailed(code="worker-died", message=message):
                # It took two of the signer's workers with it: not again before a person has looked at it.
                _log.error("%s set aside: %s", _short(job), message)
                answers.set_aside.append((job.id, message))
            case RequestFailed(message=message, retry_after_s=retry_after_s):
                _log.debug("%s not now: %s", _short(job), message)
                answers.postponements.append(
                    Postponement(job_id=job.id, delay_s=retry_after_s, counts=False, reason=message)
                )
            case RequestAbandoned():
                _log.debug("%s abandoned", _short(job))
        del self._flights[event.handle]

    # Step 9: compare what will be signed with what was asked for, and save it.
    def _take_log(self, handle: int, flight: _Flight, log: bytes, answers: _Answers) -> None:
        flight.log = log
        answers.logs[handle] = SigningLog(job_id=flight.job.id, sha256=hashlib.sha256(log).digest(), entry=log)
        if self._version == 1:
            return  # the log of version 1 is text for people
        try:
            flight.tbs = self._compare(flight, log)
        except PeerError as error:
            _log.error("%s: vetoed: %s", _short(flight.job), error)
            del answers.logs[handle]
            answers.refusals.append(Refusal(job_id=flight.job.id, code="vetoed", message=f"the client's veto: {error}"))
            if self._line is not None and self._line.session is not None:
                self._line.session.abandon(handle, str(error))

    def _compare(self, flight: _Flight, log: bytes) -> bytes:
        """The TBSCertificate in a log entry, if it is what was asked for; raises `PeerError` otherwise."""
        entry = payload.decode_log_entry(log)
        if entry.request_digest != request_digest(flight.job.request):
            raise PeerError("the log is about another request")
        certificate.check_tbs(
            entry.tbs_certificate,
            request=flight.job.request,
            subject_public_key_info=flight.subject_public_key_info,
            authority=self._authority(entry.signing_ca),
        )
        return entry.tbs_certificate

    # Step 11: check the certificate before it is believed.
    def _take_certificate(self, flight: _Flight, issued: CertificateIssued, answers: _Answers) -> None:
        job = flight.job
        try:
            if issued.certificate is None:
                der = certificate.compose_certificate(flight.tbs, issued.signature or b"")
            else:
                der = issued.certificate
            checked = certificate.check_certificate(
                der,
                request=job.request,
                subject_public_key_info=flight.subject_public_key_info,
                authority=self._authority(issued.signing_ca),
            )
        except PeerError as error:
            _log.error("%s: the signer's certificate is not what was asked for: %s", _short(job), error)
            if self._version == 1:
                # Asked again, that signer would make another one.
                answers.set_aside.append((job.id, f"bad certificate: {error}"))
                return
            answers.postponements.append(
                Postponement(job_id=job.id, delay_s=60, counts=True, reason=f"bad certificate: {error}")
            )
            return
        _log.debug("%s certificate verifies, and is what was asked for: written back", _short(job))
        answers.issued.append(
            IssuedResult(
                job_id=job.id,
                authority=issued.signing_ca,
                serial_number=checked.serial_number,
                certificate=der,
                subject=checked.subject,
                not_before=checked.not_before,
                not_after=checked.not_after,
            )
        )

    def _write_back(self, answers: _Answers, now: dt.datetime) -> None:
        """One transaction for each kind; `logSaved` leaves after the commit that saved the logs."""
        results = self._store.results
        if answers.logs:
            outcomes = results.save_logs(self._owner, list(answers.logs.values()), now=now, signer_id=self._signer_id)
            for (handle, log), outcome in zip(answers.logs.items(), outcomes, strict=True):
                if outcome in {Outcome.NOT_HELD, Outcome.UNKNOWN}:
                    # The lease ran out and another client has the job: what it does counts.
                    _log.warning("%s another client works on it now", _short(self._flights.pop(handle).job))
                    continue
                _log.debug("%s log saved, SHA-256 %s", _short(self._flights[handle].job), log.sha256.hex()[:16])
                if self._line is not None and self._line.session is not None:
                    self._line.session.confirm_log(handle)
        if answers.issued:
            outcomes = results.finish_issued(answers.issued, now=now)
            for issued, outcome in zip(answers.issued, outcomes, strict=True):
                if outcome is Outcome.CONFLICT:
                    _log.error(
                        "certificate %032x of %s is not the one that the store has for its request: look into it",
                        issued.serial_number,
                        issued.authority,
                    )
        if answers.refusals:
            results.refuse(self._owner, answers.refusals, now=now)
        if answers.postponements:
            self._store.queue.retry_later(self._owner, answers.postponements, now=now)
        if answers.set_aside:
            self._store.queue.set_aside(self._owner, answers.set_aside, now=now)

    def _authority(self, name: str) -> Authority:
        try:
            return self._authorities[name]
        except KeyError:
            raise PeerError(f"the signer used a sub-CA that this client does not know: {name}") from None

    @property
    def _version(self) -> int:
        return self._config.version

    def _open_session(self, line: Line) -> Session | None:
        """The session, once both sides have said hello (version 1 has none)."""
        session = line.session
        if session is None:
            return None
        if self._greeted is not session:
            self._greeted = session
            if self._version == 1:
                self._is_open()
            else:
                session.hello(
                    payload.Hello(
                        versions=(2,),
                        limits=Limits().as_payload(),
                        capabilities=(payload.DEFLATE_CAPABILITY,),
                    )
                )
        return session if self._session_open else None

    def _opened(self, hello: payload.Hello) -> None:
        if 2 not in hello.versions:  # noqa: PLR2004 - the version of the protocol
            raise PeerError("the signer does not speak version 2")
        self._window = min(self._config.window, hello.limits.open_requests)
        self._signer_id = hello.signer_id
        self._is_open()

    def _is_open(self) -> None:
        self._session_open = True
        self._session_used = False
        self._seeking_since = None
        if self._version == 1:
            # It opens a session for each piece of work; that a session opens is no sign that the signer works.
            self._reconnect_delay = min(self._reconnect_delay, _RECONNECT_VERSION_1_S)
            _log.debug("session open with the signer at %s, protocol version 1", self._config.connect)
            return
        self._reconnect_delay = _RECONNECT_FIRST_S
        self._next_status = 0.0
        _log.info("session open with the signer at %s, protocol version 2", self._config.connect)

    def _lease(self, session: Session, now: dt.datetime) -> None:
        """Take as many jobs as the window has room for, and send them."""
        room = min(self._window - len(self._flights), session.capacity)
        if room >= max(1, self._window // 4):
            self._submit_all(session, self._take_jobs(room, now), now)

    def _take_jobs(self, room: int, now: dt.datetime) -> list[SignJob]:
        """Lease up to so many jobs; those for CRLs go where they belong, the others are returned."""
        if time.monotonic() < self._next_lease:
            return []
        jobs = self._store.queue.lease(
            self._owner,
            limit=room,
            lease_s=_LEASE_S,
            now=now,
            # Version 1 does not say which signer it is: jobs that belong to one are not for it.
            signer_id=self._signer_id if self._version > 1 else _NO_SIGNER,
            authorities=list(self._authorities),
        )
        if not jobs:
            self._next_lease = time.monotonic() + _POLL_S
        sign_jobs = []
        for job in jobs:
            if isinstance(job, SignJob):
                sign_jobs.append(job)
            else:
                self._crl_sync.take(job, now=now)
        return sign_jobs

    def _submit_all(self, session: Session, jobs: list[SignJob], now: dt.datetime) -> None:
        refusals = []
        for job in jobs:
            try:
                self._submit(session, job)
            except Refused as refusal:
                refusals.append(Refusal(job_id=job.id, code=refusal.code, field=refusal.field, message=refusal.message))
        if refusals:
            self._store.results.refuse(self._owner, refusals, now=now)

    def _submit(self, session: Session, job: SignJob) -> None:
        request = job.request
        parse = csr.parse_spkac if request.key_kind == "spkac" else csr.parse_certification_request
        key = parse(request.key_proof)
        handle = session.submit(request)
        self._flights[handle] = _Flight(job=job, subject_public_key_info=key.subject_public_key_info)
        _log.debug("%s sent, profile %s", _short(job), request.profile or request.ocsp_target_ca)

    def _work_version_1(self, line: Line, session: Session, now: dt.datetime) -> None:
        """A session of version 1 carries one certificate, or one revocation and, if need be, the full CRL behind it."""
        if self._flights or self._crl_sync.under_way:
            return
        if self._session_used:
            if not self._crl_sync.send(session, now=now, only_full=True, at_most=1):
                line.end()
            return
        if not self._has_work(now):
            line.end()
            return
        if not self._crl_sync.send(session, now=now, at_most=1):
            jobs, self._in_hand = self._in_hand, []
            self._submit_all(session, jobs, now)
        self._session_used = bool(self._flights) or self._crl_sync.under_way

    def _has_work(self, now: dt.datetime) -> bool:
        """Whether there is something to open a version 1 session for; CRLs go first, a certificate is taken in hand."""
        if not self._crl_sync.due(now=now) and not self._in_hand:
            self._in_hand = self._take_jobs(1, now)
        return bool(self._in_hand) or self._crl_sync.due(now=now)

    def _ask_status(self, session: Session) -> None:
        if self._version > 1 and time.monotonic() >= self._next_status:
            self._next_status = time.monotonic() + _STATUS_EVERY_S
            session.get_status()

    def _check_time(self, line: Line) -> None:
        """A signer that leaves everything unanswered for a minute is as good as gone: the line may be half open."""
        limit_s = _ANSWER_TIME_LIMIT_S if line.connection.handshake_started else _RESET_TIME_LIMIT_S
        if line.unanswered_s > limit_s:
            line.close("the signer keeps silent")

    def _session_lost(self) -> None:
        self._session_has_ended = False
        self._session_open = False
        self._greeted = None
        if self._version > 1:
            self._put_flights_back("the line was lost")
            self._crl_sync.line_lost()
            return
        now = _now()
        jobs = [flight.job for flight in self._flights.values()]
        self._flights.clear()
        patience.try_later(self._store.queue, self._owner, jobs, now=now)
        self._crl_sync.left_unanswered(now=now)

    def _put_flights_back(self, reason: str) -> None:
        """Requests without an answer go back to the queue at once; no try is used up."""
        jobs = [flight.job.id for flight in self._flights.values()]
        self._flights.clear()
        self._put_back(jobs, reason)

    def _let_go(self) -> None:
        """What was taken in hand for a version 1 session that there is not: others may reach their signer."""
        jobs, self._in_hand = [job.id for job in self._in_hand], []
        self._put_back(jobs, "the signer could not be reached")

    def _put_back(self, job_ids: list[int], reason: str) -> None:
        if job_ids:
            postponements = [Postponement(job_id=each, delay_s=0, counts=False, reason=reason) for each in job_ids]
            self._store.queue.retry_later(self._owner, postponements, now=_now())

    def _back_off(self, reason: str = "") -> None:
        """Wait before the next try, longer each time, and never in step with others."""
        if reason:
            _log.warning("%s; trying again", reason)
        self._reconnect_at = time.monotonic() + self._reconnect_delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        self._reconnect_delay = min(max(self._reconnect_delay * 2, _RECONNECT_FIRST_S), _RECONNECT_LAST_S)

    def _wake_on_signals(self) -> None:
        reading, writing = socket.socketpair()
        reading.setblocking(False)
        writing.setblocking(False)
        self._wake = (reading, writing)
        signal.set_wakeup_fd(writing.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._request_stop())
        self._selector.register(reading, selectors.EVENT_READ, lambda _: reading.recv(64))

    def _request_stop(self) -> None:
        self._stopping = True


def _short(job: SignJob) -> str:
    """How log lines name a request: the first octets of its id."""
    return f"request {job.request.request_id.hex()[:8]}:"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
