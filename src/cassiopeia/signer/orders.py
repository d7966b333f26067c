"""Orders of the operators: verified, carried out, journaled, and answered once that is durable.

The desk is the only thing that moves the signer's clock or ends a halt. An order that was obeyed before, whose answer
was lost with the line, is answered again and not obeyed again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection

from cassiopeia.errors import Refused
from cassiopeia.journal.order import ConfirmClock, verify_order
from cassiopeia.protocol.session import Session
from cassiopeia.signer import answers
from cassiopeia.signer.clock import CODE_PREFIX, Clock
from cassiopeia.signer.gate import Gate
from cassiopeia.signer.journal import Journal

_log = logging.getLogger(__name__)


class OrderDesk:
    """Obeys orders that `quorum` of the `operators` (DER SubjectPublicKeyInfo) have signed for this boot."""

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
    ) -> None:
        self._journal = journal
        self._gate = gate
        self._clock = clock
        self._signer_id = signer_id
        self._boot_id = boot_id
        self._operators = operators
        self._quorum = quorum

    def requested(self, session: Session, handle: int, octets: bytes) -> None:
        """Obey or refuse; the answer goes out when it is durable what was done."""
        try:
            index = self._journal.index.find_order(octets) or self._obey(octets)
        except Refused as refusal:
            _log.warning("an order is refused: %s", refusal.message)
            answers.refuse(session, handle, refusal)
            return
        self._journal.when_durable(lambda: answers.give(session, lambda: session.send_obeyed(handle, index)))

    def _obey(self, octets: bytes) -> int:
        order, arguments = verify_order(
            octets,
            operators=self._operators,
            quorum=self._quorum,
            signer_id=self._signer_id,
            boot_id=self._boot_id,
            last_sequence=self._journal.index.order_sequence(),
        )
        _log.warning("order %d: %s, because: %r", order.sequence, order.action, order.reason)
        return self._confirm_clock(order.sequence, octets, arguments)

    def _confirm_clock(self, sequence: int, octets: bytes, said: ConfirmClock) -> int:
        epoch = self._clock.epoch_at(boot_seconds=said.boot_seconds, true_time=said.true_time)
        # The order still belongs to the epoch before it: times of entries fall nowhere but at the next one.
        index = self._journal.record_order(sequence, octets, now=self._clock.now())
        self._clock.apply(epoch)
        self._journal.record_clock(machine_time=epoch.machine_time, true_time=epoch.true_time)
        _log.warning(
            "clock: it is %s; the machine's clock is corrected by %d seconds", self._clock.now(), self._clock.offset_s
        )
        for code in list(self._journal.index.halts()):
            if code.startswith(CODE_PREFIX):
                self._gate.resume(code, now=self._clock.now())
        return index
