"""From `sign` to the certificate: steps 5 to 10 of the issuance cycle, for every request under way.

The order is the point. The intent is durable before `setLog` leaves; the confirmation is durable before the CA key is
used; the result is durable before the signature leaves. A crash at any place leaves no certificate, or one that comes
out the same when the client asks again under the same request id.
"""

from __future__ import annotations

import datetime as dt
import functools
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from cassiopeia.core import algorithms, certificate, lint_rules
from cassiopeia.core.authority import Authority, has_room, has_room_for_responder
from cassiopeia.core.crl_size import RESPONDERS
from cassiopeia.core.key_identity import KeyIdentity, identify_certified_key
from cassiopeia.core.request import CertificateRequest, request_digest
from cassiopeia.core.rules import Standing
from cassiopeia.errors import InternalError, PeerError, Refused, Unavailable
from cassiopeia.protocol.session import Session
from cassiopeia.signer import answers
from cassiopeia.signer.caps import Caps
from cassiopeia.signer.exchange import Exchange, as_unavailable, log_text, profile_of, short
from cassiopeia.signer.gate import Gate, check_authority, check_idle, check_order
from cassiopeia.signer.journal import Intent, Journal
from cassiopeia.signer.journal_desk import JournalDesk
from cassiopeia.signer.key_history import KeyHistory
from cassiopeia.signer.open_intents import OpenIntents
from cassiopeia.signer.own_faults import OwnFaults
from cassiopeia.signer.tasks import Decide, Decided, Deferred, Denied, Outcome, Sign, Signed, Task
from cassiopeia.steps import step

_log = logging.getLogger(__name__)

# Wire specification: an intent that nobody confirms ends after 15 minutes.
INTENT_LIFE_S = 15 * 60
# Comparing a key with all others takes seconds at the most, but for a signer that has just started; what was decided
# longer ago is decided anew.
_DECISION_LIFE_S = 60
# Version 1 has no request ids: an identical request within this time gets the same certificate.
_VERSION_1_MEMORY = dt.timedelta(hours=24)
# A serial number that came up before is drawn again, and not for ever.
_MAXIMUM_DECISIONS = 3
_STILL_COMPARED = "the key is still being compared with those of all earlier certificates; send the request again"
_LOG_MISMATCH = "the hash in logSaved is not that of the log: nothing was signed, send the request again"


class IssuanceDesk:
    """Takes requests from sessions, work to the workers (`submit`), entries to the journal; `clock` is monotonic.

    `examine` has the RSA modulus of a task compared with all others; `examined` is to be called when that is done.
    `crl_holds` says whether the CRL of a sub-CA, with so many certificates issued, has room for one more. `mistrusted`
    is called with a sub-CA and a sentence when a worker's signature is wrong.
    """

    def __init__(
        self,
        *,
        boot_id: bytes,
        configuration_hash: bytes,
        authorities: Mapping[str, Authority],
        journal: Journal,
        journal_desk: JournalDesk,
        gate: Gate,
        standing: Callable[[], Standing],
        caps: Caps,
        own_faults: OwnFaults,
        keys: KeyHistory,
        submit: Callable[[Task], None],
        examine: Callable[[int, bytes], None],
        crl_holds: Callable[[str, int], bool],
        mistrusted: Callable[[str, str], None] = lambda _name, _reason: None,
        next_task: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._boot_id = boot_id
        self._configuration_hash = configuration_hash
        self._authorities = authorities
        self._journal = journal
        self._journal_desk = journal_desk
        self._gate = gate
        self._standing = standing
        self._caps = caps
        self._own_faults = own_faults
        self._keys = keys
        self._submit = submit
        self._examine = examine
        self._crl_holds = crl_holds
        self._mistrusted = mistrusted
        self._full: dict[str, int] = {}  # sub-CAs whose CRL is full before they are, with a count that says so
        self._next_task = next_task
        self._clock = clock
        self._exchanges: dict[tuple[int, int], Exchange] = {}
        self._deciding: dict[int, Exchange] = {}
        self._in_decision: set[bytes] = set()
        self._examining: dict[int, tuple[float, Exchange, Decided, KeyIdentity]] = {}
        self._signing: dict[int, tuple[Intent, list[Exchange]]] = {}
        self._open = OpenIntents()
        self._restrictions = 0
        self.issued = journal.index.used_counts()

    def end_open_intents(self, *, now: dt.datetime) -> None:
        """Abandon what no session can confirm any more: called once, at start."""
        for intent in self._journal.index.open_intents():
            self._abandon(intent, code="restart", reason="the signer was started again", now=now)

    def follow(self, *, configuration_hash: bytes, authorities: Mapping[str, Authority], now: dt.datetime) -> None:
        """Judge by another configuration from here on. Intents stand, but for those of sub-CAs that issue no more.

        What is being decided by the old one is decided anew.
        """
        self._configuration_hash, self._authorities = configuration_hash, authorities
        self._full.clear()
        deciding, self._deciding = list(self._deciding.values()), {}
        for exchange in deciding:
            self._in_decision.discard(exchange.name)
            if self._session_lives(exchange):
                exchange.decisions -= 1
                self._decide(exchange, now=now)
        issuing = {name for name, each in authorities.items() if not each.retired}
        over = self._open.of_others(issuing)
        self._end(over, code="authority-retired", reason="its sub-CA issues no more; it is decided anew", now=now)

    def restricted(self, now: dt.datetime) -> None:
        """An order has restricted something: whatever was decided before it, and is not confirmed yet, begins anew."""
        self._restrictions += 1
        reason = "an order of the operators came first; it is decided anew"
        self._end(self._open.every(), code="ordered", reason=reason, now=now)

    def became_idle(self, signing_ca: str, now: dt.datetime) -> None:
        """This sub-CA signs nothing for now: what it has promised and nobody has confirmed is for another one."""
        reason = "its sub-CA signs nothing now; it is decided anew"
        self._end(self._open.of(signing_ca), code="authority-idle", reason=reason, now=now)

    def key_compromised(self, serial_numbers: Collection[bytes], now: dt.datetime) -> None:
        """End these intents as far as they are open: their key has said that it is compromised."""
        its = self._open.among(serial_numbers)
        self._end(its, code="key-blocked", reason="the key of this request is compromised", now=now)

    # Step 5: the request is complete.
    def requested(self, session: Session, handle: int, request: CertificateRequest, *, now: dt.datetime) -> None:
        exchange = Exchange(session=session, handle=handle, request=request, digest=request_digest(request))
        self._exchanges[id(session), handle] = exchange
        step("sign 5 requested")
        if not self._is_new(exchange, now=now) or not self._may_issue(exchange, now=now):
            return
        try:
            self._caps.check_request(profile=profile_of(request), account=request.account, open_intents=len(self._open))
        except Unavailable as error:
            self._fail(exchange, error)
            return
        self._decide(exchange, now=now)

    # Step 9 and 10: the client has saved the log.
    def log_confirmed(self, session: Session, handle: int, log_hash: bytes, *, now: dt.datetime) -> None:
        exchange = self._exchanges[id(session), handle]
        intent = exchange.intent
        if intent is None:
            raise InternalError("a log was confirmed before it was sent")
        if not exchange.confirms(intent, log_hash):
            self._fail(exchange, Unavailable(_LOG_MISMATCH, code="log-mismatch", retry_after_s=1))
            return
        if session.version > 1:
            self._journal_desk.note_log(session, intent.position)
        state = self._journal.index.state(intent.serial_number)
        if state == "issued" and self._release_again(exchange, intent):
            return
        if state is None or state == "abandoned":
            self._fail(exchange, Unavailable("the intent has run out; send the request again", code="intent-ended"))
            return
        # What the key has signed already is given out whatever stands in the way now; the key is not used anew.
        if not self._may_issue(exchange, intent, now=now):
            return
        if state == "intent":
            # Version 1 hashes a text of its own, if anything.
            log_hash = intent.log_hash if session.version > 1 else b""
            self._journal.record_confirmation(intent, log_hash=log_hash, now=now)
            self._open.remove(intent)
            step("sign 10 confirmation appended")
            _log.debug("%s log confirmed by its SHA-256; confirmation journaled", short(exchange.request))
        self._journal.when_durable(lambda: self._sign(intent, exchange, now=now))

    def abandon_requested(self, session: Session, handle: int, reason: str, *, now: dt.datetime) -> None:
        exchange = self._exchanges.get((id(session), handle))
        if exchange is None:
            return  # came together with a request that was answered at once
        intent = exchange.intent
        if intent is None:
            # Nothing is journaled, and nothing will be: what a worker decides comes too late.
            self._say_abandoned(exchange, None)
            return
        state = self._journal.index.state(intent.serial_number)
        if state in {"confirmed", "issued"}:
            # Another session under the same request id: the word that nothing will be signed would be a lie.
            self._fail(exchange, Unavailable("the log of this request is confirmed already", code="log-confirmed"))
            return
        index = self._journal.index.abandoned_at(intent.serial_number)
        if state == "intent":
            index = self._abandon(intent, code="vetoed", reason=reason, now=now)
        self._journal.when_durable(functools.partial(self._say_abandoned, exchange, index))

    def forget(self, session: Session) -> None:
        """The session has ended; its intents live on until they are confirmed under the same id, or run out."""
        for key in [key for key in self._exchanges if key[0] == id(session)]:
            del self._exchanges[key]

    def expire(self, *, now: dt.datetime) -> None:
        """Abandon intents that nobody confirmed in time, and put off keys that wait too long (monotonic clock)."""
        self._end(self._open.late(self._clock()), code="expired", reason="nobody confirmed the log in time", now=now)
        # Whoever gets no answer takes the line for broken. The comparison goes on: a later try finds it done.
        for deadline, exchange, _, _ in self._examining.values():
            if self._clock() > deadline and self._session_lives(exchange):
                self._fail(exchange, Unavailable(_STILL_COMPARED, code="key-compared", retry_after_s=_DECISION_LIFE_S))

    def delivered(self, outcome: Outcome, *, now: dt.datetime) -> bool:
        """Take a worker's outcome; False when it is not one of ours."""
        if outcome.task in self._deciding:
            exchange = self._deciding.pop(outcome.task)
            self._in_decision.discard(exchange.name)
            if isinstance(outcome, Decided):
                self._decided(exchange, outcome, now=now)
            else:
                self._not_decided(exchange, outcome, now=now)
            return True
        if outcome.task in self._signing:
            intent, exchanges = self._signing.pop(outcome.task)
            if isinstance(outcome, Signed):
                self._signed(intent, exchanges, outcome.signature, now=now)
            else:
                self._not_signed(intent, exchanges, outcome)
            return True
        return False

    def examined(self, task: int, *, now: dt.datetime) -> None:
        """The key of this task was compared with all others; what was found stands in the history of keys."""
        deadline, exchange, decided, key = self._examining.pop(task)
        self._in_decision.discard(exchange.name)
        late = self._clock() > deadline or exchange.judged_by != self._configuration_hash
        if late and self._session_lives(exchange):
            self._decide(exchange, now=now)
        else:
            self._record(exchange, decided, key, now=now)

    def _is_new(self, exchange: Exchange, *, now: dt.datetime) -> bool:
        """Whether this request is met for the first time; otherwise answer from what is known."""
        request_id = exchange.request.request_id
        if exchange.name in self._in_decision:
            self._fail(exchange, Unavailable("this request is being decided already", retry_after_s=1))
            return False
        if exchange.session.version > 1:
            known = self._journal.index.find_request(request_id)
        else:
            known = self._journal.index.find_version_1(exchange.digest, since=now - _VERSION_1_MEMORY)
        if known is None:
            return True
        if known.request_digest != exchange.digest:
            refusal = Refused("this request id was used for another request", code="request-id-taken", field="id")
            self._journal_refusal(exchange, refusal, now=now)
            return False
        if not known.tbs_certificate:
            refusal = Refused(
                "the certificate of this request has run out, and what it held was removed", code="removed", field="id"
            )
            self._journal_refusal(exchange, refusal, now=now)
            return False
        exchange.intent = known
        self._journal.when_durable(lambda: self._send_log(exchange, known))
        return False

    def _decide(self, exchange: Exchange, *, now: dt.datetime) -> None:
        exchange.restrictions, exchange.judged_by = self._restrictions, self._configuration_hash
        exchange.decisions += 1
        task = self._next_task()
        self._deciding[task] = exchange
        self._in_decision.add(exchange.name)
        self._submit(
            Decide(
                task=task,
                request=exchange.request,
                version=exchange.session.version,
                now=now,
                issued={**self.issued, **self._full},
                standing=self._standing(),
            )
        )

    # Step 6: a worker approved it. An RSA key that was never seen is compared with all others first.
    def _decided(self, exchange: Exchange, decided: Decided, *, now: dt.datetime) -> None:
        try:
            key = identify_certified_key(decided.tbs_certificate)
        except PeerError as error:
            _log.error("%s a worker approved what is no TBSCertificate: %s", short(exchange.request), error)
            self._fail(exchange, as_unavailable(decided))
            return
        if not self._keys.needs_examination(key):
            self._record(exchange, decided, key, now=now)
            return
        task = self._next_task()
        self._examining[task] = self._clock() + _DECISION_LIFE_S, exchange, decided, key
        self._in_decision.add(exchange.name)
        self._examine(task, key.modulus)

    def _check_recording(self, exchange: Exchange, decided: Decided, key: KeyIdentity) -> Authority:
        """All that must hold at the very moment at which the intent is recorded; raises Unavailable or Refused.

        Much may have come since the worker was asked: a halt, another request for the last place.
        """
        self._keys.check(key, exchange.request.account)
        authority = self._authorities.get(decided.signing_ca)
        if authority is None:
            _log.error("a worker chose a sub-CA that is not ours: %a", decided.signing_ca)
            raise as_unavailable(decided)
        has_place = has_room_for_responder if exchange.request.ocsp_target_ca else has_room
        if not has_place(authority, self.issued):
            raise Unavailable(f"{authority.name} is full; the next sub-CA takes over", retry_after_s=1)
        if not self._crl_holds(authority.name, self.issued.get(authority.name, 0)):
            self._full[authority.name] = authority.maximum_certificates + RESPONDERS
            raise Unavailable(f"the CRL of {authority.name} is full; the next sub-CA takes over", retry_after_s=1)
        self._gate.check_issuing()
        check_idle(authority.name, self._standing())
        if exchange.restrictions != self._restrictions:
            raise Unavailable("an order of the operators came first; it is decided anew", retry_after_s=1)
        self._caps.check_intent(
            profile=profile_of(exchange.request),
            account=exchange.request.account,
            validators=decided.validators,
            open_intents=len(self._open),
        )
        return authority

    # Step 7: the intent becomes durable.
    def _record(self, exchange: Exchange, decided: Decided, key: KeyIdentity, *, now: dt.datetime) -> None:
        if not self._session_lives(exchange):
            return
        if self._journal.index.state(decided.serial_number) is not None:
            self._draw_again(exchange, decided, now=now)
            return
        try:
            authority = self._check_recording(exchange, decided, key)
        except Refused as refusal:
            self._journal_refusal(exchange, refusal, exposes=self._keys.exposed_by(key), now=now)
            return
        except Unavailable as error:
            # The halt that it names may be younger than the last commit.
            self._journal.when_durable(functools.partial(self._fail, exchange, error))
            return
        request = exchange.request
        # Over version 1 nobody names a request: each stands for itself.
        request_id = request.request_id or os.urandom(32)
        intent = self._journal.record_intent(
            request,
            request_id=request_id,
            request_digest=exchange.digest,
            protocol=exchange.session.version,
            boot_id=self._boot_id,
            configuration_hash=self._configuration_hash,
            signing_ca=authority.name,
            serial_number=decided.serial_number,
            algorithm=decided.algorithm,
            tbs_certificate=decided.tbs_certificate,
            now=now,
        )
        step("sign 7 intent appended")
        self._caps.count_intent(profile=profile_of(request), account=request.account, validators=decided.validators)
        self.issued[authority.name] = self.issued.get(authority.name, 0) + 1
        self._open.add(intent, deadline=self._clock() + INTENT_LIFE_S)
        exchange.intent = intent
        _log.debug(
            "%s approved; intent journaled as entry %d: %s will sign serial %s. No CA key has been used yet",
            short(request),
            intent.position,
            intent.signing_ca,
            intent.serial_number.hex(),
        )
        self._journal.when_durable(lambda: self._send_log(exchange, intent))

    def _draw_again(self, exchange: Exchange, decided: Decided, *, now: dt.datetime) -> None:
        """The serial number is in the journal already, whatever became of it there: decide anew, with another."""
        self._own_faults.serial_number_taken(decided.serial_number)
        if exchange.decisions < _MAXIMUM_DECISIONS:
            self._decide(exchange, now=now)
        else:
            self._fail(exchange, Unavailable("the signer draws no new serial numbers", code="internal"))

    def _not_decided(self, exchange: Exchange, outcome: Outcome, *, now: dt.datetime) -> None:
        if isinstance(outcome, Deferred) and outcome.code == lint_rules.CODE:
            self._own_faults.lint_finding(profile_of(exchange.request), outcome.message)
        if not isinstance(outcome, Denied):
            self._fail(exchange, as_unavailable(outcome))
            return
        self._journal_refusal(exchange, Refused(outcome.message, code=outcome.code, field=outcome.field), now=now)

    def _journal_refusal(
        self, exchange: Exchange, refusal: Refused, *, exposes: tuple[bytes, ...] = (), now: dt.datetime
    ) -> None:
        try:
            self._caps.check_refusal(refusal)
        except Unavailable as error:
            self._fail(exchange, error)
            return
        self._journal.record_refusal(
            request_id=exchange.request.request_id,
            request_digest=exchange.digest,
            code=refusal.code,
            field=refusal.field,
            message=refusal.message,
            exposes=exposes,
            now=now,
        )
        _log.debug("%s refused: %s", short(exchange.request), refusal.message)
        self._journal.when_durable(lambda: self._refuse(exchange, refusal))

    # Step 8: the log goes out; no CA key has been used yet.
    def _send_log(self, exchange: Exchange, intent: Intent) -> None:
        step("sign 7 intent durable")
        session = exchange.session
        exchange.log_sent = intent.log if session.version > 1 else log_text(exchange.request, intent)
        self._send(
            exchange,
            lambda: session.send_log(exchange.handle, exchange.log_sent, head=self._journal_desk.newest_head(session)),
        )
        step("sign 8 log sent")

    def _sign(self, intent: Intent, exchange: Exchange, *, now: dt.datetime) -> None:
        step("sign 10 confirmation durable")
        for other, exchanges in self._signing.values():
            if other.serial_number == intent.serial_number:
                exchanges.append(exchange)
                return
        # Signed for another session while this confirmation waited for the disk: never a second signature.
        state = self._journal.index.state(intent.serial_number)
        if state == "issued" and self._release_again(exchange, intent):
            return
        # An order may have come while the confirmation waited for the disk.
        if not self._may_issue(exchange, intent, now=now):
            return
        task = self._next_task()
        self._signing[task] = (intent, [exchange])
        self._submit(
            Sign(task=task, signing_ca=intent.signing_ca, algorithm=intent.algorithm, octets=intent.tbs_certificate)
        )

    # Step 10: the result becomes durable, then the signature leaves.
    def _signed(self, intent: Intent, exchanges: list[Exchange], signature: bytes, *, now: dt.datetime) -> None:
        step("sign 10 signed")
        try:
            # An order may have come while a worker signed, and its answer says that nothing comes out any more. What
            # nobody has seen does not exist; these same octets are signed again when the order is taken back.
            self._check_promised(intent)
        except Refused as refusal:
            for exchange in exchanges:
                self._journal_refusal(exchange, refusal, now=now)
            return
        except Unavailable as error:
            for exchange in exchanges:
                self._journal.when_durable(functools.partial(self._fail, exchange, error))
            return
        try:
            self._check_signature(intent, signature)
        except PeerError as error:
            self._own_faults.signature_wrong(intent.signing_ca)
            self._mistrusted(intent.signing_ca, f"a worker's signature of a certificate is wrong: {error}")
            # The halt is on the disk before anything is told.
            wrong = Unavailable("the signer met an internal error", code="internal")
            for exchange in exchanges:
                self._journal.when_durable(functools.partial(self._fail, exchange, wrong))
            raise
        position = self._journal.record_result(intent, signature=signature, now=now)
        stored = replace(intent, state="issued", signature=signature, result_position=position)
        step("sign 10 result appended")
        for exchange in exchanges:
            _log.debug(
                "%s signed and verified; result journaled as entry %d, released", short(exchange.request), position
            )
            self._journal.when_durable(functools.partial(self._release, exchange, stored))

    def _not_signed(self, intent: Intent, exchanges: list[Exchange], outcome: Outcome) -> None:
        for exchange in exchanges:
            try:
                # What the outcome has brought about says more.
                check_idle(intent.signing_ca, self._standing())
                self._fail(exchange, as_unavailable(outcome))
            except Unavailable as idle:
                self._journal.when_durable(functools.partial(self._fail, exchange, idle))

    def _check_signature(self, intent: Intent, signature: bytes) -> None:
        """Raise PeerError unless this signature is the sub-CA's over the octets of the intent, which were linted.

        Here they meet for the first time: what is journaled and released from now on are these octets, and no worker's.
        """
        authority = self._authorities[intent.signing_ca]
        algorithm = algorithms.algorithm_from_der(intent.algorithm)
        algorithms.verify(authority.public_key, algorithm, signature, intent.tbs_certificate)

    def _release_again(self, exchange: Exchange, intent: Intent) -> bool:
        """Give out the certificate that there is. After a rebuild its signature may be lost: it is made again."""
        stored = self._journal.index.find_serial(intent.serial_number)
        if stored is None or not stored.signature:
            return False
        self._journal.when_durable(lambda: self._release(exchange, stored))
        return True

    def _release(self, exchange: Exchange, stored: Intent) -> None:
        step("sign 10 result durable")
        session = exchange.session
        # Version 2 has all but the signature from the log.
        whole = (
            certificate.compose_certificate(stored.tbs_certificate, stored.signature) if session.version == 1 else b""
        )

        def release() -> None:
            session.send_certificate(
                exchange.handle,
                signing_ca=stored.signing_ca,
                signature=stored.signature,
                index=stored.result_position,
                certificate=whole,
                head=self._journal_desk.newest_head(session),
            )
            if session.version > 1:
                self._journal_desk.note_signature(session, stored.result_position)

        self._send(exchange, release, last=True)
        step("sign 10 released")

    def _may_issue(self, exchange: Exchange, intent: Intent | None = None, *, now: dt.datetime) -> bool:
        """Whether nothing stands in the way, also of signing this intent; otherwise say what does."""
        try:
            self._gate.check_issuing()
            if intent is not None:
                self._check_promised(intent)
        except Refused as refusal:
            self._journal_refusal(exchange, refusal, now=now)
            return False
        except Unavailable as error:
            # The halt that it names may be younger than the last commit.
            self._journal.when_durable(functools.partial(self._fail, exchange, error))
            return False
        return True

    def _check_promised(self, intent: Intent) -> None:
        """Raise Unavailable or Refused for what was decided, and must not be signed by what has come since."""
        check_authority(intent, self._authorities.get(intent.signing_ca))
        check_order(intent, self._standing())
        self._keys.check_promised(intent)

    def _end(self, intents: list[Intent], *, code: str, reason: str, now: dt.datetime) -> None:
        """Abandon these intents, and tell whoever was to confirm them."""
        ended = {each.serial_number: self._abandon(each, code=code, reason=reason, now=now) for each in intents}
        for exchange in self._exchanges.values() if ended else ():
            if exchange.intent is not None and exchange.intent.serial_number in ended:
                index = ended[exchange.intent.serial_number]
                self._journal.when_durable(functools.partial(self._say_abandoned, exchange, index))

    def _abandon(self, intent: Intent, *, code: str, reason: str, now: dt.datetime) -> int:
        """End an intent; return the index of the entry that says so."""
        self._open.remove(intent)
        index = self._journal.record_abandonment(intent, code=code, reason=reason, now=now)
        self.issued[intent.signing_ca] -= 1
        self._full.pop(intent.signing_ca, None)
        step("abandon appended")
        return index

    def _say_abandoned(self, exchange: Exchange, index: int | None) -> None:
        """The signer's word that this intent will never be signed."""
        step("abandon durable")
        session, handle = exchange.session, exchange.handle
        if session.version == 1:
            self._fail(exchange, Unavailable("nobody confirmed the log in time", code="intent-ended"))
            return
        head = None if index is None else self._journal.signed_head()
        self._send(exchange, lambda: session.send_abandoned(handle, index=index, head=head), last=True)

    def _refuse(self, exchange: Exchange, refusal: Refused) -> None:
        self._send(exchange, lambda: answers.refuse(exchange.session, exchange.handle, refusal), last=True)

    def _fail(self, exchange: Exchange, error: Unavailable) -> None:
        self._send(exchange, lambda: answers.fail(exchange.session, exchange.handle, error), last=True)

    def _send(self, exchange: Exchange, send: Callable[[], None], *, last: bool = False) -> None:
        if self._session_lives(exchange):
            send()
        if last:
            self._exchanges.pop((id(exchange.session), exchange.handle), None)

    def _session_lives(self, exchange: Exchange) -> bool:
        return self._exchanges.get((id(exchange.session), exchange.handle)) is exchange and not exchange.session.closed
