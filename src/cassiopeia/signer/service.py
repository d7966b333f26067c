"""The signer's front process: owns the line, TLS, records and the only journal writer. It holds no CA key.

One loop. Each turn takes what the line and the workers brought, commits the journal once for all of it, and lets out
what waited for that commit.
"""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import os
import selectors
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia import __version__
from cassiopeia.config import SignerConfig
from cassiopeia.core.authority import Authority
from cassiopeia.core.key_identity import identify_key
from cassiopeia.core.rules import Standing
from cassiopeia.core.sample import unsound_profiles
from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.journal.entry import SIGNATURE_HALT
from cassiopeia.journal.standing import RaisedCap
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import (
    AbandonRequested,
    BundleReceived,
    EntriesRequested,
    Event,
    FullCrlRequested,
    HelloReceived,
    LogConfirmed,
    OrderReceived,
    RevocationRequested,
    SignRequested,
    StatusRequested,
    TimestampRequested,
)
from cassiopeia.protocol.session import Session
from cassiopeia.signer import answers, weak_keys
from cassiopeia.signer.bundle_desk import BundleDesk
from cassiopeia.signer.caps import Caps
from cassiopeia.signer.clock import CODE_PREFIX, Clock
from cassiopeia.signer.configuration import Loaded, load
from cassiopeia.signer.disk import GROWTH_WINDOW, DiskReserve, octets_a_day
from cassiopeia.signer.examiner import Examiner
from cassiopeia.signer.gate import MISTRUSTED_KEY, Gate, Obstacle
from cassiopeia.signer.issuance import IssuanceDesk
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.journal_desk import JournalDesk
from cassiopeia.signer.journal_key import load_journal_key
from cassiopeia.signer.key_history import KeyHistory
from cassiopeia.signer.key_watch import KeyWatch
from cassiopeia.signer.lines import Lines
from cassiopeia.signer.nonces import Nonces
from cassiopeia.signer.orders import OrderDesk
from cassiopeia.signer.own_faults import OwnFaults
from cassiopeia.signer.pool import WorkerPool
from cassiopeia.signer.revocation import RevocationList
from cassiopeia.signer.revocation_desk import RevocationDesk
from cassiopeia.signer.status_report import authority_statuses, standing_orders
from cassiopeia.signer.takeover import Candidate, Takeover, describe
from cassiopeia.signer.tasks import Mistrusted, Outcome, Task
from cassiopeia.steps import step
from cassiopeia.termination import Termination

_log = logging.getLogger(__name__)

# Entries wait this long for company before they are committed; the disk takes about as long for one as for many.
_LINGER_S = 0.003
_HOUSEKEEPING_S = 5.0
_ESTIMATE_EVERY_S = 600.0


class Signer:
    """One signer with its journal, workers and lines."""

    def __init__(self, config: SignerConfig, *, config_path: Path) -> None:
        self._config = config
        self._selector = selectors.DefaultSelector()
        self._boot_id = os.urandom(16)
        self._tasks = itertools.count(1)
        self._dirty_since: float | None = None
        self._next_housekeeping = 0.0
        self._announced = False
        self._clock_halt = ""
        loaded = self._loaded = load(config)
        self._authorities = loaded.authorities
        self._lines = Lines(config, selector=self._selector, on_event=self._on_event, on_session_end=self._forget)
        self._octets_a_day = 0
        self._doubt = ""
        self._next_estimate = 0.0
        self._journal = Journal(config.state, signer_id=config.signer_id, key=load_journal_key(config.journal_key))
        # Behind the journal: a second signer on it ends with one line; and the reserve belongs to whoever has it.
        self._missing_lists = weak_keys.report(config.weak_keys)
        loaded.report()
        self._disk = DiskReserve(config.state, config.disk_reserve_octets)
        self._clock = Clock(
            leap_days=config.clock_leap_days,
            offset_s=self._journal.index.clock_offset_s(),
            standing=next((code for code in self._journal.index.halts() if code.startswith(CODE_PREFIX)), ""),
        )
        self._gate = Gate(self._journal, [self._clock_obstacle, self._disk_obstacle])
        self._key_watch = KeyWatch(
            submit=self._submit,
            next_task=lambda: next(self._tasks),
            mistrusted=self._mistrusted,
            lost=lambda name: self._issuance.became_idle(name, self._clock.now()),
            regained=self._regained,
        )
        self._caps = Caps(limits=config.caps, raised=self._raised_caps, clock=lambda: self._clock.boot_seconds)
        self._own_faults = OwnFaults(unsound_profiles(loaded.profiles.values(), loaded.authorities.values()))
        self._alarmed: list[Callable[[], Iterable[str]]] = [
            self._caps.alarms,
            self._own_faults.alarms,
            lambda: self._missing_lists,
            lambda: self._loaded.unused_tables,
        ]
        self._nonces = Nonces(lambda: self._clock.boot_seconds)
        self._config_path = config_path
        self._pool = self._make_pool(loaded)
        self._retired: list[WorkerPool] = []
        self._takeover = Takeover(
            loaded,
            config_path=config_path,
            now=self._clock.now,
            make_pool=self._make_pool,
            hindrance=self._hindrance,
        )
        own_moduli = _own_moduli(self._authorities.values())
        self._keys = KeyHistory(self._journal.index, own=own_moduli)
        self._examiner = Examiner(
            feed=lambda after, at_most: self._journal.index.moduli(after=after, at_most=at_most),
            count=self._journal.index.count_moduli,
            also=tuple(own_moduli),
            selector=self._selector,
            deliver=self._examined,
        )
        self._alarmed += [self._keys.alarms, self._examiner.alarms, self._takeover.alarms]
        self._journal_desk = JournalDesk(
            journal=self._journal,
            gate=self._gate,
            signer_id=config.signer_id,
            boot_id=self._boot_id,
            boot_seconds=lambda: self._clock.boot_seconds,
            nonces=self._nonces,
        )
        self._issuance = IssuanceDesk(
            boot_id=self._boot_id,
            configuration_hash=loaded.digest,
            authorities=loaded.authorities,
            journal=self._journal,
            journal_desk=self._journal_desk,
            gate=self._gate,
            standing=self._standing,
            caps=self._caps,
            own_faults=self._own_faults,
            keys=self._keys,
            submit=self._key_watch.submit,
            examine=self._examiner.submit,
            crl_holds=self._crl_holds,
            mistrusted=self._mistrusted,
            next_task=lambda: next(self._tasks),
        )
        self._bundles = BundleDesk(
            config,
            selector=self._selector,
            installed=lambda number: self.take_over(f"bundle {number} was installed by an order"),
        )
        self._alarmed.append(self._bundles.alarms)
        self._orders = OrderDesk(
            journal=self._journal,
            gate=self._gate,
            clock=self._clock,
            signer_id=config.signer_id,
            boot_id=self._boot_id,
            operators=config.operators,
            quorum=config.quorum,
            authorities=loaded.authorities,
            validators=[each.key_id for each in config.validators],
            caps=config.caps,
            restricted=self._issuance.restricted,
            bundles=self._bundles,
        )
        self._revocation = RevocationDesk(
            lists=[
                RevocationList(each, self._journal, lifetime=dt.timedelta(days=config.crl_lifetime_days))
                for each in loaded.authorities.values()
            ],
            journal=self._journal,
            gate=self._gate,
            caps=self._caps,
            submit=self._key_watch.submit,
            next_task=lambda: next(self._tasks),
            resign_after=dt.timedelta(hours=config.crl_resign_hours),
            end_intents=self._issuance.key_compromised,
            is_away=self._key_watch.is_away,
            mistrusted=self._mistrusted,
        )

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, take files that have changed over at SIGHUP.

        Raises `OperatorError` if it can't start, `StateUnknown` when it must stop.
        """
        self._lines.open()
        termination = Termination(self._selector, reloads=True)
        try:
            self._start()
            while not termination.requested:
                ready = self._selector.select(self._patience())
                for key, mask in ready:
                    key.data(mask)
                if termination.take_reload():
                    self.take_over("SIGHUP")
                self._turn(idle=not ready)
            self._journal.commit()
        finally:
            # After `StateUnknown` nothing is committed any more: what the disk has is found out at the next start.
            self._stop()
            termination.close()

    def take_over(self, why: str) -> None:
        """Begin to take over what the disk says now: installed bundle, `signer.toml` and all that these name.

        Requests go on meanwhile. As soon as new workers have unlocked and proved all keys, everything changes in one
        turn of the loop; where anything is wrong, nothing does, and log and alarms say so.
        """
        self._takeover.begin(why)

    def _start(self) -> None:
        self._pool.start()
        self._clock.check(None if self._journal.is_new else self._journal.last_time)
        now = self._clock.now()
        if self._journal.is_new:
            self._journal.begin(now=now)
        self._check_clock()
        # By a clock that is in doubt no hour has passed since the last entry.
        may_issue = self._clock.check(self._journal.last_time).may_issue
        self._caps.seed(self._journal, now=now if may_issue else self._journal.last_time)
        self._record_configuration(now=now)
        self._orders.resume()
        self._journal.record_start(
            now=now,
            boot_id=self._boot_id,
            boot_seconds=self._clock.boot_seconds,
            configuration_hash=self._loaded.digest,
            software_version=__version__,
        )
        self._issuance.end_open_intents(now=now)
        self._journal.commit()
        self._own_faults.report()
        if not self._config.operators:
            _log.warning("no order can reach this signer: signer.toml names no operators (see `cassiopeia order key`)")
        _log.info("locked: unlocking %d sub-CA keys", len(self._authorities))

    def _record_configuration(self, *, now: dt.datetime) -> None:
        if self._journal.index.configuration_hash() != self._loaded.digest:
            self._journal.record_configuration(self._loaded.digest, self._loaded.documents, now=now)

    def _stop(self) -> None:
        self._lines.close()
        self._takeover.stop()
        for pool in [*self._retired, self._pool]:
            pool.stop()
        self._examiner.stop()
        self._bundles.stop()
        self._journal.close()
        self._selector.close()
        _log.info("stopped")

    def _submit(self, task: Task) -> None:
        self._pool.submit(task)

    def _make_pool(self, loaded: Loaded, unusable: Callable[[str], None] | None = None) -> WorkerPool:
        return WorkerPool(
            config_path=self._config_path,
            configuration_hash=loaded.digest,
            count=loaded.config.workers or os.cpu_count() or 1,
            authorities=loaded.authorities.keys(),
            selector=self._selector,
            deliver=self._delivered,
            installation=loaded.config.bundles.installed,
            unusable=unusable,
            began=self._key_watch.began,
        )

    def _put_in_force(self, new: Candidate) -> None:
        """Everything in one turn: no request is judged half by the old configuration and half by the new one."""
        old, self._loaded = self._loaded, new.loaded
        config, authorities = new.loaded.config, new.loaded.authorities
        now = self._clock.now()
        # 1. The journal first: what is written behind this was judged by it.
        self._record_configuration(now=now)
        step("take over 1 configuration appended")
        # 2. The workers: what waits goes to the new ones, what the old ones sign they finish.
        before, self._pool = self._pool, new.pool
        before.retire(self._pool)
        self._retired.append(before)
        # 3. Whoever judges, counts, signs or is heard by it.
        self._config, self._authorities, self._missing_lists = config, authorities, new.missing_lists
        self._caps.follow(config.caps)
        mended = {name for name, profile in old.profiles.items() if new.loaded.profiles.get(name) != profile}
        self._own_faults.follow(new.unsound_profiles, mended=mended)
        own_moduli = _own_moduli(authorities.values())
        self._keys.follow(own_moduli)
        self._examiner.remember(own_moduli)
        self._bundles.follow(config)
        self._orders.follow(
            operators=config.operators,
            quorum=config.quorum,
            authorities=authorities,
            validators=[each.key_id for each in config.validators],
            caps=config.caps,
        )
        self._revocation.follow(
            authorities.values(),
            lifetime=dt.timedelta(days=config.crl_lifetime_days),
            resign_after=dt.timedelta(hours=config.crl_resign_hours),
        )
        self._clock.allow_leap(config.clock_leap_days)
        self._disk.resize(config.disk_reserve_octets)
        self._issuance.follow(configuration_hash=new.loaded.digest, authorities=authorities, now=now)
        self._key_watch.follow(authorities, new.pool.lacking_keys.values())
        self._lines.follow(config, new.tls)
        self._own_faults.report()
        self._next_housekeeping = 0.0
        _log.info("the new configuration is in force: %s", "; ".join(describe(old, new.loaded)))

    def _turn(self, *, idle: bool) -> None:
        """What follows every round of events: time limits, work for the pool, one commit, answers."""
        for pool in [*self._retired, self._pool]:
            pool.check_time()
        self._retired = [pool for pool in self._retired if not pool.finished]
        candidate = self._takeover.turn()
        if candidate is not None:
            self._put_in_force(candidate)
        elif self._pool.outdated and not self._pool.unlocked and not self._takeover.pending:
            # Nobody is left who knows the old configuration, or it changed while the signer started.
            if self._takeover.failure:
                raise OperatorError(self._takeover.failure)
            self.take_over("no worker knows the old one any more")
        self._examiner.check_time()
        self._bundles.check_time()
        self._check_clock()
        self._announce()
        if time.monotonic() >= self._next_housekeeping:
            self._keep_house()
        self._pool.pump()
        self._examiner.pump()
        if self._journal.dirty:
            self._dirty_since = self._dirty_since or time.monotonic()
            if idle or time.monotonic() - self._dirty_since >= _LINGER_S:
                self._journal.commit()
                self._dirty_since = None
                self._pool.pump()
        self._lines.flush()

    def _check_clock(self) -> None:
        """What is found wrong with the clock stands in the journal until operators have said what the time is."""
        verdict = self._clock.check(self._journal.last_time)
        if verdict.code and verdict.code != self._clock_halt:
            _log.error("halted (%s): %s", verdict.code, verdict.message)
        self._clock_halt = verdict.code
        if not verdict.may_issue:
            self._gate.halt(verdict.code, verdict.message, now=self._clock.now())

    def _clock_obstacle(self) -> Obstacle | None:
        verdict = self._clock.check(self._journal.last_time)
        if verdict.may_issue:
            return None
        return Obstacle(code=verdict.code, message=verdict.message, stops_crls=not verdict.may_renew_crls)

    def _disk_obstacle(self) -> Obstacle | None:
        full = self._disk.check()
        return None if full is None else Obstacle(code=full.code, message=full.message)

    def _crl_holds(self, name: str, issued: int) -> bool:
        return self._revocation.holds_another(name, issued)

    def _hindrance(self, candidate: Candidate) -> str:
        """Why a new configuration does not come into force now."""
        # What room is left is for revocations and CRLs.
        full = self._disk.check()
        if full is not None:
            return full.message
        # Nothing that works is given up for something that does not.
        unusable = {*self._key_watch.idle, *self._gate.mistrusted}
        worse = [
            each for name, each in candidate.pool.lacking_keys.items() if name in self._authorities.keys() - unusable
        ]
        return "; ".join(each.message for each in worse)

    def _mistrusted(self, name: str, reason: str) -> None:
        """A signature of this sub-CA was wrong: it signs no more certificates until operators resume it."""
        if name not in self._gate.mistrusted:
            _log.error("ALARM: a sub-CA is halted: %s: %s", name, reason)
            self._gate.halt(SIGNATURE_HALT + name, reason, now=self._clock.now())
            self._issuance.became_idle(name, self._clock.now())

    def _regained(self, name: str) -> None:
        self._revocation.try_again(name)
        self._next_housekeeping = 0.0

    def _announce(self) -> None:
        """Log once that the keys are unlocked."""
        if not self._announced and self._pool.unlocked:
            self._announced = True
            _log.info("running: signer %d serves %s", self._config.signer_id, self._config.listen)
            self._next_housekeeping = 0.0

    def _patience(self) -> float:
        if self._journal.dirty:
            return 0.0
        until_housekeeping = max(0.0, self._next_housekeeping - time.monotonic())
        deadlines = [each.seconds_to_deadline() for each in (self._pool, *self._retired)]
        deadlines += [each.seconds_to_deadline() for each in (self._examiner, self._takeover, self._bundles)]
        return min([until_housekeeping, *(each for each in deadlines if each is not None)])

    def _keep_house(self) -> None:
        self._next_housekeeping = time.monotonic() + _HOUSEKEEPING_S
        now = self._clock.now()
        self._issuance.expire(now=now)
        # What is removed is gone for good: never by a clock that is in doubt.
        if self._loaded.retention is not None and self._clock.check(self._journal.last_time).may_issue:
            # By whole days: the journal says so each time, and that shall not be at every look.
            midnight = (now - self._loaded.retention).replace(hour=0, minute=0, second=0)
            self._journal.remove_parts(before=midnight, now=now)
        self._revocation.renew(now=now)
        self._disk.check()
        if time.monotonic() >= self._next_estimate:
            self._next_estimate = time.monotonic() + _ESTIMATE_EVERY_S
            growth = self._journal.growth_since(now - GROWTH_WINDOW)
            self._octets_a_day = octets_a_day(growth, beginning=self._journal.first_time, now=now)
        self._lines.keep_house()
        self._takeover.look()
        self._key_watch.look()

    def _on_event(self, session: Session, event: Event) -> None:
        if session.closed:
            return  # nobody is there to be answered
        now = self._clock.now()
        match event:
            case HelloReceived(hello=hello):
                self._greeted(session, hello.present_head, now=now)
            case SignRequested(handle=handle, request=request):
                self._issuance.requested(session, handle, request, now=now)
            case LogConfirmed(handle=handle, log_hash=log_hash):
                self._issuance.log_confirmed(session, handle, log_hash, now=now)
            case AbandonRequested(handle=handle, reason=reason):
                self._issuance.abandon_requested(session, handle, reason, now=now)
            case RevocationRequested(handle=handle, request=revocation):
                self._revocation.requested(session, handle, revocation, now=now)
            case FullCrlRequested(handle=handle, signing_ca=signing_ca):
                self._revocation.full_crl_requested(session, handle, signing_ca)
            case TimestampRequested(handle=handle):
                self._journal_desk.timestamp_requested(session, handle, now=now)
            case EntriesRequested(handle=handle, first=first, at_most=at_most):
                self._journal_desk.entries_requested(session, handle, first, at_most)
            case OrderReceived(handle=handle, order=order):
                self._orders.requested(session, handle, order)
            case BundleReceived(handle=handle, bundle=bundle):
                self._bundles.received(session, handle, bundle)
            case StatusRequested(handle=handle):
                # What it tells (numbers of CRLs, a halt) must be on the disk before anybody sees it.
                self._journal.when_durable(
                    lambda: answers.give(session, lambda: session.send_status(handle, self._status(now)))
                )
            case _:
                _log.error("an event that a signer never gets: %s", type(event).__name__)

    def _greeted(self, session: Session, presented: bytes | None, *, now: dt.datetime) -> None:
        """Look at the newest head that the client holds, then answer with ours."""
        if presented:
            try:
                self._journal_desk.presented(presented, now=now)
                self._doubt = ""
            except PeerError as error:
                # It gets our head all the same, and can tell whether the signer is the one that it knows.
                self._doubt = (
                    f"{error}: is this the journal that its copy is of, or was this signer's disk put back to before "
                    "its journal key was changed?"
                )
                _log.error("%s", self._doubt)
        # A halt that this brought about is on the disk before anything else is said.
        self._journal.when_durable(lambda: answers.give(session, lambda: session.hello(self._hello(session))))

    def _forget(self, session: Session) -> None:
        self._issuance.forget(session)
        self._journal_desk.forget(session)

    def _delivered(self, outcome: Outcome) -> None:
        now = self._clock.now()
        desks = (self._issuance.delivered, self._revocation.delivered)
        if not self._key_watch.delivered(outcome) and not any(take(outcome, now=now) for take in desks):
            _log.warning("a worker answered a task that nobody waits for")
        if isinstance(outcome, Mistrusted) and not self._takeover.failure:
            # Whatever made it may have spoilt more than this. But while the disk has a configuration that cannot come
            # into force, no new worker can take the place of one that says so itself.
            raise PeerError(f"its key of {outcome.signing_ca} gave a wrong signature")

    def _examined(self, task: int, modulus: bytes, others: Sequence[bytes]) -> None:
        self._keys.note(modulus, others)
        self._issuance.examined(task, now=self._clock.now())

    def _hello(self, session: Session) -> payload.Hello:
        return payload.Hello(
            versions=(2,),
            limits=session.limits.as_payload(),
            capabilities=(payload.DEFLATE_CAPABILITY, payload.BUNDLE_CAPABILITY),
            signer_id=self._config.signer_id,
            boot_id=self._boot_id,
            present_head=self._journal.signed_head(),
        )

    def _status(self, now: dt.datetime) -> payload.StatusReport:
        state, reason = self._state()
        verdict = self._clock.check(self._journal.last_time)
        return payload.StatusReport(
            state=state,
            reason=reason,
            software_version=__version__,
            time=now,
            boot_seconds=self._clock.boot_seconds,
            configuration_hash=self._loaded.digest,
            profiles=tuple(sorted(self._loaded.profiles)),
            authorities=authority_statuses(
                self._revocation.lists,
                issued=self._issuance.issued,
                mistrusted=self._gate.mistrusted,
                key_faults=self._key_watch.reasons,
            ),
            boot_id=self._boot_id,
            free_octets=self._disk.free_octets,
            octets_a_day=self._octets_a_day,
            clock_warning=verdict.message,
            order_sequence=self._journal.index.order_sequence(),
            orders=standing_orders(self._config, self._orders.in_force, caps=self._caps, raised=self._raised_caps()),
            alarms=self._alarms(),
        )

    def _alarms(self) -> tuple[str, ...]:
        """What goes on, and needs a person all the same: a sentence each, of everything here that can tell."""
        return tuple(alarm for ask in (*self._alarmed, self._pool.alarms) for alarm in ask())

    def _standing(self) -> Standing:
        """What requests are judged by beside the rules."""
        in_force = self._orders.in_force
        return Standing(
            boot_id=self._boot_id,
            nonces=self._nonces.valid,
            disabled_validators=in_force.disabled_validators,
            blocked_keys=in_force.blocked_keys,
            halted_authorities=in_force.halted_authorities,
            idle_authorities={**self._key_watch.idle, **dict.fromkeys(self._gate.mistrusted, MISTRUSTED_KEY)},
        )

    def _raised_caps(self) -> Mapping[str, RaisedCap]:
        raised = self._orders.in_force.raised_caps
        return self._orders.in_force.raised(now=self._clock.now()) if raised else raised

    def _state(self) -> tuple[str, str]:
        """How the signer is, in one word and in a sentence."""
        if not self._pool.unlocked:
            return "locked", self._pool.lacking or "the workers are unlocking their keys"
        if self._authorities.keys() <= self._key_watch.idle.keys():
            return "locked", "; ".join(self._key_watch.reasons.values())
        if reasons := self._gate.reasons():
            return "halted", "; ".join(each.message for each in reasons)
        return "running", self._doubt


def _own_moduli(authorities: Iterable[Authority]) -> dict[bytes, str]:
    """The RSA moduli of sub-CAs, each with its sub-CA's name."""
    keys = {
        each.name: identify_key(each.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        for each in authorities
    }
    return {key.modulus: name for name, key in keys.items() if key.modulus}
