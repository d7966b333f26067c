"""Orders of the operators: verified, carried out, journaled, and answered once that is durable.

The desk is the only thing that moves the signer's clock, ends a halt, or changes what holds by order (`in_force`: the
fold over every order of the journal, so that it outlives a restart). An order that was obeyed before, whose answer was
lost with the line, is answered again and not obeyed again. One that installs a bundle is verified twice: before the
bundle is unpacked, and before it counts.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable, Collection, Mapping

from cassiopeia.errors import OperatorError, PeerError, Refused, Unavailable
from cassiopeia.journal.entry import SIGNATURE_HALT
from cassiopeia.journal.order import (
    RESTRICTING,
    Arguments,
    ConfirmClock,
    DisableValidator,
    EnableValidator,
    HaltAuthority,
    InstallBundle,
    Order,
    RaiseCap,
    ResumeAuthority,
    read_order,
    verify_order,
)
from cassiopeia.journal.standing import InForce
from cassiopeia.protocol.session import Session
from cassiopeia.signer import answers
from cassiopeia.signer.bundle_desk import BundleDesk, Verdict
from cassiopeia.signer.clock import CODE_PREFIX, Clock
from cassiopeia.signer.gate import Gate
from cassiopeia.signer.journal import Journal
from cassiopeia.steps import step

_log = logging.getLogger(__name__)


class OrderDesk:
    """Obeys orders that enough of the `operators` (DER SubjectPublicKeyInfo) have signed for this boot.

    `authorities` (names), `validators` (key ids) and `caps` (with their configured limits) are what an order can be
    about; without `bundles` none can be installed. `restricted` is called behind each order that restricts: what was
    decided before it has to be decided anew.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        gate: Gate,
        clock: Clock,
        signer_id: int,
        boot_id: bytes,
        operators: Collection[bytes],
        quorum: int,
        authorities: Collection[str] = (),
        validators: Collection[bytes] = (),
        caps: Mapping[str, int] | None = None,
        restricted: Callable[[dt.datetime], None] = lambda _now: None,
        bundles: BundleDesk | None = None,
    ) -> None:
        self._journal = journal
        self._gate = gate
        self._clock = clock
        self._signer_id = signer_id
        self._boot_id = boot_id
        self._restricted = restricted
        self._bundles = bundles
        self.in_force = _read_in_force(journal)
        self.follow(operators=operators, quorum=quorum, authorities=authorities, validators=validators, caps=caps or {})

    def follow(
        self,
        *,
        operators: Collection[bytes],
        quorum: int,
        authorities: Collection[str],
        validators: Collection[bytes],
        caps: Mapping[str, int],
    ) -> None:
        """Obey these operators from now on, in what concerns these."""
        self._operators = operators
        self._quorum = quorum
        self._authorities = authorities
        self._validators = validators
        self._caps = caps

    def requested(self, session: Session, handle: int, octets: bytes) -> None:
        """Obey or refuse; the answer goes out when it is durable what was done."""
        try:
            index = self._journal.index.find_order(octets)
            if index is None:
                _, arguments = self._verify(octets)
                if isinstance(arguments, InstallBundle):
                    self._prepare(session, handle, octets, arguments)
                    return
                index = self._obey(octets)
        except (Refused, Unavailable) as reason:
            _say_no(session, handle, reason)
            return
        self._journal.when_durable(lambda: answers.give(session, lambda: session.send_obeyed(handle, index)))

    def resume(self) -> None:
        """Finish what a crash has left undone of the newest bundle that was ordered.

        To be called before the start is journaled.
        """
        if self.in_force.bundle is None or self._bundles is None:
            return
        index = self._journal.index
        octets = next(each for _, each in reversed(index.orders()) if isinstance(read_order(each)[1], InstallBundle))
        self._bundles.resume(self.in_force.bundle, fresh=(index.find_order(octets) or 0) > index.last_start())

    def _prepare(self, session: Session, handle: int, octets: bytes, wanted: InstallBundle) -> None:
        """Let the bundle be unpacked, and obey when that is done; raises Refused or Unavailable."""
        self._gate.check_revoking()
        if self._bundles is None:
            raise Refused("this signer takes no bundles over the line", code="bundle-unheard")
        bundles = self._bundles

        def done(verdict: Verdict) -> None:
            if isinstance(verdict, Refused | Unavailable):
                answers.give(session, lambda: _say_no(session, handle, verdict))
                return
            try:
                # Meanwhile the operators may have changed, and another order may have been obeyed.
                index = self._journal.index.find_order(octets) or self._obey(octets)
            except (Refused, Unavailable) as error:
                reason = error
                if self.in_force.bundle != wanted:  # else another order for it has been obeyed
                    bundles.discard(verdict)
                answers.give(session, lambda: _say_no(session, handle, reason))
                return
            step("install 1 order appended")
            self._journal.when_durable(lambda: bundles.install(wanted))
            self._journal.when_durable(lambda: answers.give(session, lambda: session.send_obeyed(handle, index)))

        bundles.prepare(wanted, done)

    def _verify(self, octets: bytes) -> tuple[Order, Arguments]:
        return verify_order(
            octets,
            operators=self._operators,
            quorum=self._quorum,
            signer_id=self._signer_id,
            boot_id=self._boot_id,
            last_sequence=self._journal.index.order_sequence(),
        )

    def _obey(self, octets: bytes) -> int:
        order, arguments = self._verify(octets)
        now = self._clock.now()
        begin_epoch: Callable[[], None] | None = None
        if isinstance(arguments, ConfirmClock):
            begin_epoch = self._new_clock_epoch(arguments)
        else:
            # A journal that has lost part of its past is not the one that goes on: what it said would be forgotten.
            self._gate.check_revoking()
            self._check_known(arguments)
        _log.warning("order %d: %s, because: %r", order.sequence, order.action, order.reason)
        # The order still belongs to the clock epoch before it: times of entries fall nowhere but at the next one.
        index = self._journal.record_order(order.sequence, octets, now=now)
        self.in_force = self.in_force.after(arguments, at=self._journal.last_time)
        if begin_epoch is not None:
            begin_epoch()
        if isinstance(arguments, ResumeAuthority):
            self._gate.resume(SIGNATURE_HALT + arguments.authority, now=now)
        if isinstance(arguments, RESTRICTING):
            self._restricted(now)
        return index

    def _new_clock_epoch(self, said: ConfirmClock) -> Callable[[], None]:
        epoch = self._clock.epoch_at(boot_seconds=said.boot_seconds, true_time=said.true_time)

        def begin() -> None:
            self._clock.apply(epoch)
            self._journal.record_clock(machine_time=epoch.machine_time, true_time=epoch.true_time)
            _log.warning(
                "clock: it is %s; the machine's clock is corrected by %d seconds",
                self._clock.now(),
                self._clock.offset_s,
            )
            for code in list(self._journal.index.halts()):
                if code.startswith(CODE_PREFIX):
                    self._gate.resume(code, now=self._clock.now())

        return begin

    def _check_known(self, arguments: Arguments) -> None:
        """Raise Refused for an order about something that this signer does not have."""
        match arguments:
            case HaltAuthority(authority=name) | ResumeAuthority(authority=name):
                if name not in self._authorities:
                    raise Refused(
                        f"this signer has no sub-CA named {name[:80]!a}; it has {', '.join(sorted(self._authorities))}",
                        code="order-authority",
                        field="authority",
                    )
            case DisableValidator(validator=key_id) | EnableValidator(validator=key_id):
                if key_id not in self._validators:
                    raise Refused(
                        f"no validator with the key {key_id.hex()} is pinned in this signer's signer.toml; see "
                        "`cassiopeia status` for those that are",
                        code="order-validator",
                        field="validator",
                    )
            case RaiseCap(cap=cap, limit=limit) if limit < self._caps.get(cap, 0):
                raise Refused(
                    f"the cap {cap} is {self._caps[cap]} in this signer's signer.toml, which {limit} would not raise",
                    code="order-cap",
                    field="limit",
                )
            case _:
                pass


def _say_no(session: Session, handle: int, reason: Refused | Unavailable) -> None:
    if isinstance(reason, Refused):
        _log.warning("an order is refused: %s", reason.message)
        answers.refuse(session, handle, reason)
    else:
        _log.warning("an order has to wait: %s", reason.message)
        answers.fail(session, handle, reason)


def _read_in_force(journal: Journal) -> InForce:
    """What every order of the journal adds up to; raises OperatorError where one cannot be read."""
    in_force = InForce()
    for at, octets in journal.index.orders():
        try:
            _, arguments = read_order(octets)
        except PeerError as error:
            raise OperatorError(
                f"the journal holds an order that this release cannot read ({error}): start the release that obeyed it"
            ) from error
        in_force = in_force.after(arguments, at=at)
    return in_force
