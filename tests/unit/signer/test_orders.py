from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.conversations import Pair, joined
from tests.support.machine_clock import START, Machine
from tests.support.operators import BOOT_ID, PUBLIC_KEYS, confirm_clock, signed
from tests.support.signer import open_journal

from cassiopeia.errors import Unavailable
from cassiopeia.journal.entry import ClockEpoch, OrderObeyed, decode_body, decode_entry
from cassiopeia.journal.order import ConfirmClock
from cassiopeia.protocol import events
from cassiopeia.signer.clock import CODE_PREFIX
from cassiopeia.signer.gate import Gate, Obstacle
from cassiopeia.signer.orders import OrderDesk

DAY = dt.timedelta(days=1)


class Signer:
    """What of a signer obeys: its journal, gate, clock and desk, on a machine whose clock can be set."""

    def __init__(self, directory: Path, machine: Machine) -> None:
        self.directory, self.machine = directory, machine
        self.pair = joined()
        self.start()

    def start(self) -> None:
        self.journal = open_journal(self.directory, now=START)
        halts = self.journal.index.halts()
        self.clock = self.machine.clock(
            offset_s=self.journal.index.clock_offset_s(),
            standing=next((code for code in halts if code.startswith(CODE_PREFIX)), ""),
        )
        self.gate = Gate(self.journal, [self.obstacle])
        self.turn()
        self.desk = OrderDesk(
            journal=self.journal,
            gate=self.gate,
            clock=self.clock,
            signer_id=1,
            boot_id=BOOT_ID,
            operators=PUBLIC_KEYS[:2],
            quorum=2,
        )

    def restart(self) -> None:
        self.journal.close()
        self.pair = joined()
        self.start()

    def turn(self) -> None:
        verdict = self.clock.check(self.journal.last_time)
        if not verdict.may_issue:
            self.gate.halt(verdict.code, verdict.message, now=self.clock.now())
        self.journal.commit()

    def obstacle(self) -> Obstacle | None:
        verdict = self.clock.check(self.journal.last_time)
        return None if verdict.may_issue else Obstacle(code=verdict.code, message=verdict.message)

    def tell(self, order: bytes) -> events.Event:
        """Carry an order over the line, and the answer back once it is durable."""
        self.pair.client.send_order(order)
        for event in self.pair.to_signer():
            assert isinstance(event, events.OrderReceived)
            self.desk.requested(self.pair.signer, event.handle, event.order)
        self.journal.commit()
        (answer,) = self.pair.to_client()
        return answer

    def order(self, *numbers: int, **changes: Any) -> bytes:
        said = ConfirmClock(boot_seconds=self.clock.boot_seconds, true_time=self.machine.true_time)
        return signed(confirm_clock(**({"arguments": said} | changes)), *(numbers or (0, 1)))

    def kinds(self) -> list[str]:
        return [decode_entry(octets).kind for _, octets, _ in self.journal.entries(1, 100)]


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Signer]:
    made = Signer(tmp_path, Machine())
    yield made
    made.journal.close()


def test_an_order_corrects_the_clock_and_ends_the_halt(signer: Signer) -> None:
    signer.machine.set_clock(by=-365 * DAY)
    signer.restart()
    with pytest.raises(Unavailable) as refused:
        signer.gate.check_issuing()
    assert refused.value.code == "clock-implausible"

    order = signer.order()
    signer.machine.pass_time(3600)
    answer = signer.tell(order)

    assert isinstance(answer, events.OrderObeyed)
    signer.gate.check_issuing()
    assert signer.clock.now() == signer.machine.true_time
    assert signer.kinds() == ["key", "halt", "order", "clock", "resume"]
    (_, octets, _), (_, clock, _) = list(signer.journal.entries(answer.index, 2))
    assert decode_body(decode_entry(octets)) == OrderObeyed(sequence=1, order=order)
    assert decode_body(decode_entry(clock)) == ClockEpoch(
        machine_time=signer.machine.shown_time, true_time=signer.machine.true_time
    )


def test_what_was_ordered_holds_after_a_restart(signer: Signer) -> None:
    signer.machine.set_clock(by=-365 * DAY)
    signer.restart()
    signer.tell(signer.order())
    signer.machine.power_cut(600)
    signer.restart()
    signer.gate.check_issuing()
    assert signer.clock.now() == signer.machine.true_time
    assert signer.kinds().count("halt") == 1


def test_a_halt_outlives_a_restart_with_a_clock_that_looks_right_again(signer: Signer) -> None:
    signer.machine.set_clock(by=DAY)
    signer.turn()
    signer.machine.power_cut()
    signer.restart()
    with pytest.raises(Unavailable) as refused:
        signer.gate.check_issuing()
    assert refused.value.code == "clock-drift"
    signer.tell(signer.order())
    signer.gate.check_issuing()


def test_the_clock_may_be_turned_back(signer: Signer) -> None:
    signer.machine.set_clock(by=100 * DAY)
    signer.restart()
    assert signer.journal.last_time == START + 100 * DAY
    assert isinstance(signer.tell(signer.order()), events.OrderObeyed)
    assert signer.journal.last_time == signer.clock.now() == START


def test_confirming_a_clock_that_is_right_changes_nothing(signer: Signer) -> None:
    """A long absence: the clock was right, and somebody has to say so."""
    signer.machine.power_cut(20 * 86_400)
    signer.restart()
    assert signer.clock.check(signer.journal.last_time).code == "clock-leap"
    signer.tell(signer.order())
    signer.gate.check_issuing()
    assert signer.clock.offset_s == 0


def test_other_halts_stand(signer: Signer) -> None:
    signer.gate.halt("lost-past", "shorter than it was", now=START)
    signer.tell(signer.order())
    assert set(signer.journal.index.halts()) == {"lost-past"}


def test_an_answer_that_was_lost_is_given_again(signer: Signer) -> None:
    order = signer.order()
    first = signer.tell(order)
    signer.restart()
    again = signer.tell(order)
    assert isinstance(first, events.OrderObeyed)
    assert isinstance(again, events.OrderObeyed)
    assert again.index == first.index
    assert signer.kinds() == ["key", "order", "clock"]


@pytest.mark.parametrize(
    ("numbers", "changes", "code"),
    [
        ((0,), {}, "order-quorum"),
        ((0, 2), {}, "order-quorum"),
        ((0, 1), {"sequence": 2}, "order-sequence"),
        ((0, 1), {"signer_id": 2}, "order-signer"),
        ((0, 1), {"boot_id": b"another boot"}, "order-boot"),
        ((0, 1), {"arguments": ConfirmClock(boot_seconds=10**9, true_time=START)}, "order-clock"),
        ((0, 1), {"arguments": ConfirmClock(boot_seconds=1, true_time=START - 9999 * DAY)}, "order-clock"),
    ],
)
def test_a_refused_order_changes_nothing(
    signer: Signer, numbers: tuple[int, ...], changes: dict[str, Any], code: str, caplog: pytest.LogCaptureFixture
) -> None:
    signer.machine.set_clock(by=-DAY)
    signer.turn()
    before = signer.clock.now()
    answer = signer.tell(signer.order(*numbers, **changes))
    assert isinstance(answer, events.RequestRefused)
    assert answer.code == code
    assert answer.message in caplog.text
    assert (signer.clock.now(), signer.clock.offset_s) == (before, 0)
    assert signer.kinds() == ["key", "halt"]
    assert isinstance(signer.tell(signer.order()), events.OrderObeyed)


def test_nobody_is_answered_who_has_gone(signer: Signer) -> None:
    gone = joined()
    gone.client.send_order(signer.order())
    (event,) = gone.to_signer()
    assert isinstance(event, events.OrderReceived)
    signer.desk.requested(gone.signer, event.handle, event.order)
    gone.signer.data_to_send()
    gone.signer.finish()
    signer.journal.commit()
    assert isinstance(gone, Pair)
    assert gone.signer.data_to_send() == b""
    assert "order" in signer.kinds()
