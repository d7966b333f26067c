"""The signer client: leases jobs, drives one long-lived session with many requests under way, writes results back.

One loop: answers are taken and written back (`issuance`, `crl_sync`), then new work is sent. Owns the line, its time
limits and the leases. A line that drops loses nothing: what was under way is sent again under the same request id, and
the signer gives the same answer.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import random
import selectors
import time
from typing import Any

from cassiopeia.client.composition import Parts, compose
from cassiopeia.client.evidence import say_what_is_demanded
from cassiopeia.client.signer_status import capacity, status_document
from cassiopeia.client.succession import lease_owner, take_back
from cassiopeia.client.takeover import Takeover
from cassiopeia.config import HIGHEST_SIGNER_ID, ClientConfig
from cassiopeia.errors import OperatorError, PeerError, Unavailable
from cassiopeia.link.line import Line
from cassiopeia.link.stream import open_link
from cassiopeia.protocol import payload
from cassiopeia.protocol.connection import Connection, reset_nonce
from cassiopeia.protocol.events import Event, HelloReceived, LogReceived, RequestFailed, StatusReceived
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import Role
from cassiopeia.protocol.session import Session
from cassiopeia.store.database import Store
from cassiopeia.termination import Termination

_log = logging.getLogger(__name__)

_POLL_S = 0.2
_STATUS_EVERY_S = 30.0
_STATUS_SOON_S = 1.0  # while the signer is about to begin
_STATUS_WATCH_S = 15.0  # behind an order
_STATUS_AUTHORITY_S = 0.05  # each sub-CA has 80 octets in it: so a serial line of 115,200 baud has room for all else
_ANSWER_TIME_LIMIT_S = 60.0
# A signer on a serial line answers a reset at once; an answer that got lost is not worth waiting for.
_RESET_TIME_LIMIT_S = 5.0
# One request, while others are answered: from its sending to the log, from the confirmation to the certificate.
_REQUEST_TIME_LIMIT_S = 600.0
_ALONE_TIME_LIMIT_S = 120.0
_RECONNECT_FIRST_S = 0.2
_RECONNECT_LAST_S = 30.0
# Behind a version 1 session that ended without an answer: what failed has a delay of its own, others shall not wait.
_RECONNECT_VERSION_1_S = 2.0
_DRAIN_PATIENCE_S = 30.0
# For the answers of a session that ends because there is another bundle; what was not answered is sent again.
_CHANGE_PATIENCE_S = 30.0


class SignerClient:
    """One client process for one signer."""

    def __init__(self, config: ClientConfig, store: Store) -> None:
        self._store = store
        self._owner = lease_owner(config.name)
        self._selector = selectors.DefaultSelector()
        self._line: Line | None = None
        self._greeted: Session | None = None
        self._session_used = False
        self._signer_id: int | None = None
        self._session_open = False
        self._reconnect_at = 0.0
        self._reconnect_delay = _RECONNECT_FIRST_S
        self._last_word: tuple[Any, ...] | None = None
        self._events: list[Event] = []
        self._session_has_ended = False
        self._next_status = 0.0
        self._watched_until = 0.0
        self._seeking_since: float | None = None
        self._owes_release = False
        self._idle_since = 0.0
        self._takeover = Takeover(config)
        # The parts that take the place of those in use, as soon as these have nothing under way, or at that time.
        self._next_parts: Parts | None = None
        self._change_by = 0.0
        self._adopt(self._compose(config))

    def _compose(self, config: ClientConfig) -> Parts:
        return compose(config, store=self._store, owner=self._owner, selector=self._selector, clock=_now)

    def _adopt(self, parts: Parts) -> None:
        """Work with these from now on."""
        self._config = parts.config
        self._authorities = parts.authorities
        self._profiles = parts.profiles
        self._tls = parts.tls
        self._publisher = parts.publisher
        self._lint = parts.lint
        self._journal = parts.journal
        self._nonces = parts.nonces
        self._issuance = parts.issuance
        self._crl_sync = parts.crl_sync
        self._orders = parts.orders
        self._leases = parts.leases
        self._window = parts.config.window if parts.config.version > 1 else 1
        self._settled = False

    def _settle(self) -> None:
        """Tell the store what this client's profiles mean, before the first job; a store that is away may come."""
        if self._settled or time.monotonic() < self._reconnect_at:
            return
        now = _now()
        if self._version > 1:  # version 1 carries no evidence
            say_what_is_demanded(self._store, self._profiles.values(), now=now)
        if self._lint is not None:
            self._lint.release_accepted(now=now)
            self._lint.submit_samples(self._authorities.values(), now=now)
        self._settled = True

    def run(self, *, drain: bool = False) -> None:
        """Work until SIGTERM or SIGINT, or with `drain` until the queue is empty; raises `OperatorError`."""
        termination = Termination(self._selector)
        if taken := take_back(self._store.queue, self._owner, now=_now()):
            _log.warning("a client died on this machine with %d jobs in hand: they are in the queue again", taken)
        death = ""
        try:
            while not termination.requested and not (drain and self._is_drained()):
                self.step(_POLL_S)
            _log.info("stopping" if termination.requested else "drained: the queue is empty")
        except (OperatorError, Unavailable):
            raise
        except Exception as error:
            # Our own fault, and one of the jobs in hand brought it about.
            death = f"it ended by a fault of its own ({type(error).__name__}: {error})"
            raise
        finally:
            self.close(death=death)
            termination.close()

    def step(self, patience_s: float) -> None:
        """Take what comes within this time, and send what there is; a store or a signer that fails costs a session."""
        try:
            self._settle()
            self._connect()
            for key, mask in self._selector.select(patience_s):
                key.data(mask)
            self._turn()
            self._look_for_another_bundle()
        except PeerError as error:
            self._break_off(f"the signer broke the protocol: {error}")
        except Unavailable as error:
            self._start_afresh(error.message)

    def close(self, *, death: str = "") -> None:
        """End the session in good order, and give back what had not been answered yet; `death` as `Queue.release`."""
        if self._line is not None:
            self._line.end()
        if self._lint is not None:
            self._lint.stop()
        self._store.queue.release(self._owner, now=_now(), death=death)
        self._selector.close()

    def _look_for_another_bundle(self) -> None:
        """Work by another bundle that has come into force: read all of it first, then let what is under way end.

        Nobody is refused anything meanwhile: what waits, waits a moment longer.
        """
        if self._next_parts is None:
            found = self._takeover.look()
            if found is None:
                return
            try:
                self._next_parts = self._compose(found)
            except OperatorError as error:
                self._takeover.failed(error)
                self._next_status = 0.0
                return
            _log.info("another bundle is in force: the session ends when all that is under way is answered")
            self._leases.ended = True
            self._change_by = time.monotonic() + _CHANGE_PATIENCE_S
        busy = self._issuance.under_way or self._crl_sync.under_way or self._orders.busy
        if not busy or time.monotonic() >= self._change_by:
            self._change_over(self._next_parts)

    def _change_over(self, parts: Parts) -> None:
        """End the session in good order, give back what is in hand, and begin anew with these."""
        if self._line is not None:
            self._line.end()
            self._line = None
        if self._lint is not None:
            self._lint.stop()
        self._events.clear()
        self._session_open = self._session_has_ended = False
        self._greeted = self._next_parts = None
        self._adopt(parts)
        self._takeover.done(parts.config)
        # What was put off for want of a sub-CA goes on with the first word of the signer.
        self._last_word = ()
        self._reconnect_at, self._reconnect_delay = 0.0, _RECONNECT_FIRST_S
        self._owes_release = True
        number = parts.config.bundles.number
        _log.info(
            "works by %s now, with %d sub-CAs", f"bundle {number}" if number else "no bundle", len(self._authorities)
        )

    def _is_drained(self) -> bool:
        """Nothing waits and nothing is under way; raises `OperatorError` when the signer stays away."""
        if self._seeking_since is not None and time.monotonic() - self._seeking_since > _DRAIN_PATIENCE_S:
            raise OperatorError(f"the signer at {self._config.connect} does not answer; the queue is as it was")
        # Without work, version 1 has no session.
        in_touch = self._session_open or self._version == 1
        now = _now()
        if (
            not in_touch
            or self._issuance.under_way
            or self._leases.in_hand
            or self._crl_sync.busy
            or self._orders.busy
            or self._crl_sync.due(now=now)
        ):
            self._idle_since = 0.0
            return False
        statistics = self._store.queue.statistics(now=now)
        left = sum(statistics.waiting.values()) + sum(statistics.leased.values())
        lacking = self._crl_sync.lacking
        if not left and not lacking:
            self._journal.hurry()
            return self._journal.settled
        # What is postponed may come due. What stays belongs to another signer or client, or waits for long.
        self._idle_since = self._idle_since or time.monotonic()
        if time.monotonic() - self._idle_since < _DRAIN_PATIENCE_S:
            return False
        if left:
            _log.warning(
                "%d jobs are left: they wait for later or for evidence, or for another signer, or are held; see status",
                left,
            )
        if lacking:
            _log.warning("%d sub-CAs have no CRL that can be published; see status", lacking)
        return True

    def _break_off(self, reason: str) -> None:
        """End a session that makes no sense: its requests may be at fault, as when a line is lost."""
        try:
            self._session_lost(reason)
        except Unavailable as error:
            reason = f"{reason}; {error.message}"
        self._start_afresh(reason)

    def _start_afresh(self, reason: str) -> None:
        """Forget the session and all that is under way, and go on later, when the store gives the jobs back."""
        if self._line is not None:
            self._line.close()
            self._line = None
        self._events.clear()
        self._issuance.forget()
        self._journal.line_lost()
        self._leases.in_hand.clear()
        self._crl_sync.forget()
        self._orders.forget()
        self._nonces.forget()
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
            self._leases.let_go(now=_now())
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
        self._publisher.retry()
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
            self._leases.renew(now=now)
            room = min(self._window - self._issuance.under_way, session.capacity)
            jobs = self._leases.take(room=room, window=self._window, backlog=line.backlog, now=now)
            self._nonces.send(session, now=now)
            if not self._leases.ended:
                self._send_orders(session, now)
                # CRLs first: with a signer that bears few requests at once, certificates would leave them no room.
                self._crl_sync.send(session, now=now, alone=self._leases.company.alone)
            self._ask_status(session)
            self._journal.send(session)
            self._issuance.send(session, jobs)
        self._check_time(line)
        line.flush()
        if line.closed:
            if self._session_has_ended:
                self._session_lost()
            self._line = None
            self._leases.let_go(now=now)
            self._back_off()

    def _take_answers(self, events: list[Event], now: dt.datetime) -> None:
        if self._version == 1 and any(not isinstance(event, LogReceived) for event in events):
            # An answer ends its session: the next one follows at once.
            self._reconnect_delay = 0.0
        if any(not isinstance(event, HelloReceived) for event in events):
            # That a session opens is no sign that the signer works; an answer is.
            self._reconnect_delay = min(self._reconnect_delay, _RECONNECT_FIRST_S)
        alarm = self._journal.alarm
        for event in events:
            if isinstance(event, RequestFailed):
                # "Not now" may be how the signer is: people should hear of it, and of its end.
                self._next_status = min(self._next_status, time.monotonic() + _STATUS_SOON_S)
            if self._version > 1 and self._journal.receive(event):
                continue
            if self._crl_sync.receive(event, now=now):
                continue
            if self._orders.receive(event, now=now):
                # An order may have changed how the signer is, or does so within some seconds.
                self._next_status = 0.0
                self._watched_until = time.monotonic() + _STATUS_WATCH_S
                self._nonces.hurry()
                continue
            if self._nonces.receive(event, now=now):
                continue
            if self._issuance.receive(event):
                continue
            match event:
                case HelloReceived(hello=hello):
                    self._opened(hello)
                case StatusReceived(report=report):
                    self._save_status(report, now)
                case _:
                    _log.error("an event that a client never gets: %s", type(event).__name__)
        session = self._line.session if self._line is not None else None
        if self._lint is not None:
            self._lint.pump()
        self._journal.take_heads()
        self._issuance.write_back(session, signer_id=self._signer_id, now=now)
        self._journal.write_back(now=now)
        if self._journal.alarm != alarm:
            self._next_status = 0.0  # people should see it at once

    def _save_status(self, report: payload.StatusReport | None, now: dt.datetime) -> None:
        """Keep the signer's last word for `cassiopeia status`."""
        if report is None or self._signer_id is None:
            return
        document = status_document(report)
        document["journal"] = self._journal.summary()
        document["evidence_alarm"] = self._issuance.evidence_alarm
        document["bundle_alarm"] = self._takeover.alarm
        self._note_change(self._signer_id, capacity(document), now)
        self._store.signers.save(self._signer_id, document, now=now)
        if report.state != "running" or time.monotonic() < self._watched_until:
            self._next_status = time.monotonic() + max(_STATUS_SOON_S, _STATUS_AUTHORITY_S * len(report.authorities))

    def _note_change(self, signer_id: int, word: tuple[Any, ...], now: dt.datetime) -> None:
        """A signer that has come to run, has another configuration or obeyed an order may do now what it put off."""
        if self._last_word is None:
            self._last_word = word if (said := self._store.signers.report(signer_id)) is None else capacity(said)
        if word != self._last_word and word[0] == "running":
            self._crl_sync.hurry()
            hurried = self._store.queue.hurry(signer_id, now=now)
            _log.info("the signer runs, with what it was given: %d jobs that it had put off go on", hurried)
        self._last_word = word

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
                        present_head=self._journal.present_head(),
                    )
                )
        return session if self._session_open else None

    def _opened(self, hello: payload.Hello) -> None:
        if 2 not in hello.versions:  # noqa: PLR2004 - the version of the protocol
            raise PeerError("the signer does not speak version 2")
        if hello.signer_id is None or not 1 <= hello.signer_id <= HIGHEST_SIGNER_ID or not hello.limits.open_requests:
            raise PeerError("the signer's hello names no signer, or lets nothing in")
        self._window = min(self._config.window, hello.limits.open_requests)
        self._signer_id = self._leases.signer_id = hello.signer_id
        self._journal.opened(hello.signer_id, hello.present_head)
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
        self._next_status = 0.0
        _log.info("session open with the signer at %s, protocol version 2", self._config.connect)

    def _work_version_1(self, line: Line, session: Session, now: dt.datetime) -> None:
        """A session of version 1 carries one certificate, or one revocation and, if need be, the full CRL behind it."""
        if self._issuance.under_way or self._crl_sync.under_way:
            return
        if self._session_used:
            if not self._crl_sync.send(session, now=now, only_full=True, at_most=1):
                line.end()
            return
        if not self._has_work(now):
            line.end()
            return
        if not self._crl_sync.send(session, now=now, at_most=1, alone=self._leases.company.alone):
            jobs, self._leases.in_hand = self._leases.in_hand, []
            self._issuance.send(session, jobs)
        self._session_used = bool(self._issuance.under_way) or self._crl_sync.under_way

    def _has_work(self, now: dt.datetime) -> bool:
        """Whether there is something to open a version 1 session for; CRLs go first, a certificate is taken in hand."""
        if not self._crl_sync.due(now=now):
            self._leases.take_in_hand(now=now)
        return bool(self._leases.in_hand) or self._crl_sync.due(now=now)

    def _send_orders(self, session: Session, now: dt.datetime) -> None:
        if self._signer_id is not None:
            self._orders.send(session, signer_id=self._signer_id, now=now)

    def _ask_status(self, session: Session) -> None:
        if time.monotonic() >= self._next_status and session.capacity:
            self._next_status = time.monotonic() + _STATUS_EVERY_S
            session.get_status()

    def _check_time(self, line: Line) -> None:
        """A signer that leaves everything unanswered for a minute is as good as gone: the line may be half open."""
        limit_s = _ANSWER_TIME_LIMIT_S if line.connection.handshake_started else _RESET_TIME_LIMIT_S
        # Half an answer is none: while one is awaited, silence counts, whoever had the last word.
        waits = not self._session_open or self._issuance.under_way or self._crl_sync.under_way
        if line.unanswered_s > limit_s or (waits and line.silent_s > limit_s):
            line.close("the signer keeps silent")
        limit_s = _ALONE_TIME_LIMIT_S if self._leases.company.waits else _REQUEST_TIME_LIMIT_S
        if self._issuance.longest_wait_s > limit_s or self._crl_sync.overdue:
            line.close("the signer answers, but leaves one request unanswered")

    def _session_lost(self, reason: str = "the line was lost") -> None:
        self._session_has_ended = False
        self._session_open = False
        self._greeted = None
        now = _now()
        if self._version > 1:
            proven = self._issuance.has_issued or self._crl_sync.has_patched
            self._issuance.line_lost(reason, now=now, proven=proven)
            self._journal.line_lost()
            self._crl_sync.line_lost(reason, now=now, proven=proven)
            self._orders.forget()
            self._nonces.forget()
        else:
            self._issuance.left_unanswered(now=now)
            self._crl_sync.left_unanswered(now=now)

    def _back_off(self, reason: str = "") -> None:
        """Wait before the next try, longer each time, and never in step with others."""
        delay = self._reconnect_delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
        if reason:
            _log.warning("%s; again in %.1f seconds", reason, delay)
        self._reconnect_at = time.monotonic() + delay
        self._reconnect_delay = min(max(self._reconnect_delay * 2, _RECONNECT_FIRST_S), _RECONNECT_LAST_S)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
