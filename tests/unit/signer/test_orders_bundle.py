"""The order that installs a bundle: verified, unpacked, verified again, journaled, in force; and answered last."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.bundles import SignerMachine, make_signer_machine, signed, signer_bundle
from tests.support.conversations import Pair, joined
from tests.support.machine_clock import START, Machine
from tests.support.operators import BOOT_ID, PUBLIC_KEYS, drafted
from tests.support.operators import signed as signed_order
from tests.support.signer import open_journal

from cassiopeia.core.bundle import bundle_hash
from cassiopeia.journal.entry import LOST_PAST, decode_entry
from cassiopeia.journal.order import BlockKey, InstallBundle
from cassiopeia.protocol.events import BundleReceived, Event, OrderObeyed, OrderReceived, RequestFailed, RequestRefused
from cassiopeia.signer.bundle_desk import BundleDesk
from cassiopeia.signer.gate import Gate
from cassiopeia.signer.orders import OrderDesk

TIME_LIMIT_S = 30.0


class Signer:
    """What of a signer obeys, with a real process that unpacks."""

    def __init__(self, directory: Path, machine: SignerMachine) -> None:
        self.directory, self.machine = directory, machine
        self.started = 0
        self.start()

    def start(self) -> None:
        self.pair = joined()
        self.selector = selectors.DefaultSelector()
        self.journal = open_journal(self.directory, now=START)
        self.gate = Gate(self.journal, [])
        clock = Machine().clock()
        clock.check(self.journal.last_time)
        self.installed: list[int] = []
        self.bundles = BundleDesk(self.machine.config, selector=self.selector, installed=self.installed.append)
        self.desk = OrderDesk(
            journal=self.journal,
            gate=self.gate,
            clock=clock,
            signer_id=1,
            boot_id=BOOT_ID,
            operators=PUBLIC_KEYS[:3],
            quorum=2,
            bundles=self.bundles,
        )
        self.desk.resume()
        self.journal.record_start(
            now=START, boot_id=BOOT_ID, boot_seconds=1, configuration_hash=bytes(32), software_version="1"
        )
        self.journal.commit()

    def stop(self) -> None:
        self.bundles.stop()
        self.selector.close()
        self.journal.close()

    def restart(self) -> None:
        self.stop()
        self.start()

    def bring(self, octets: bytes) -> None:
        self.pair.client.send_bundle(octets)
        (event,) = self.pair.to_signer()
        assert isinstance(event, BundleReceived)
        self.bundles.received(self.pair.signer, event.handle, event.bundle)
        self.pair.to_client()

    def send(self, order: bytes, pair: Pair | None = None) -> None:
        pair = pair or self.pair
        pair.client.send_order(order)
        (event,) = pair.to_signer()
        assert isinstance(event, OrderReceived)
        self.desk.requested(pair.signer, event.handle, event.order)

    def answer(self, pair: Pair | None = None) -> Event:
        pair = pair or self.pair
        deadline = time.monotonic() + TIME_LIMIT_S
        while True:
            self.journal.commit()
            if answers := pair.to_client():
                (answer,) = answers
                return answer
            assert time.monotonic() < deadline, "no answer came"
            for key, mask in self.selector.select(0.05):
                key.data(mask)

    def unpack(self) -> None:
        """Until the process has answered; nothing is committed."""
        deadline = time.monotonic() + TIME_LIMIT_S
        while self.bundles._process is not None:
            assert time.monotonic() < deadline, "it does not end"
            for key, mask in self.selector.select(0.05):
                key.data(mask)

    def kinds(self) -> list[str]:
        return [decode_entry(octets).kind for _, octets, _ in self.journal.entries(1, 100)]


@pytest.fixture
def machine(tmp_path: Path) -> SignerMachine:
    return make_signer_machine(tmp_path / "signer")


@pytest.fixture
def signer(tmp_path: Path, machine: SignerMachine) -> Iterator[Signer]:
    made = Signer(tmp_path / "journal", machine)
    yield made
    made.stop()


@pytest.fixture
def bundle(machine: SignerMachine) -> bytes:
    sealing_key = (machine.directory / "sealing.pem").read_bytes()
    return signed(signer_bundle(machine.hierarchy, sealed_to=sealing_key))


def but_for_the_empty(found: dict[str, bytes]) -> dict[str, bytes]:
    """The directory of bundles may have been made."""
    return {name: octets for name, octets in found.items() if name != "bundles"}


def order(bundle: bytes, *operators: int, number: int = 1, **changes: Any) -> bytes:
    arguments = InstallBundle(bundle_hash=bundle_hash(bundle), number=number)
    return signed_order(drafted(arguments, **changes), *(operators or (0, 2)))


def test_it_is_obeyed_when_the_bundle_is_in_force(signer: Signer, bundle: bytes) -> None:
    signer.bring(bundle)
    signer.send(order(bundle))
    assert signer.kinds()[-1] == "start"
    answer = signer.answer()
    assert answer == OrderObeyed(handle=2, index=signer.journal.size)
    assert signer.kinds()[-1] == "order"
    assert signer.machine.config.bundles.number == 1
    assert signer.installed == [1]
    # An answer that was lost with the line is given again, and needs no bundle.
    signer.send(order(bundle))
    assert isinstance(signer.answer(), OrderObeyed)
    assert signer.kinds().count("order") == 1


def test_one_operator_is_not_enough(signer: Signer, bundle: bytes) -> None:
    signer.bring(bundle)
    signer.send(order(bundle, 1))
    answer = signer.answer()
    assert isinstance(answer, RequestRefused)
    assert answer.code == "order-quorum"
    assert signer.bundles._process is None
    assert signer.kinds()[-1] == "start"


def test_without_its_bundle_it_waits(signer: Signer, bundle: bytes) -> None:
    signer.send(order(bundle))
    answer = signer.answer()
    assert isinstance(answer, RequestFailed)
    assert answer.code == "bundle-missing"
    signer.bring(bundle)
    signer.send(order(bundle))
    assert isinstance(signer.answer(), OrderObeyed)


def test_what_cannot_be_installed_is_refused_and_not_journaled(signer: Signer, machine: SignerMachine) -> None:
    sealing_key = (machine.directory / "sealing.pem").read_bytes()
    # A sub-CA whose key is nowhere.
    bundle = signed(signer_bundle(machine.hierarchy, sealed_to=sealing_key, keys=()))
    before = machine.everything()
    signer.bring(bundle)
    signer.send(order(bundle))
    answer = signer.answer()
    assert isinstance(answer, RequestRefused)
    assert answer.code == "order-bundle"
    assert "is not in it, and not on this machine" in answer.message
    assert but_for_the_empty(before) == but_for_the_empty(machine.everything())
    assert signer.kinds()[-1] == "start"
    assert signer.desk.in_force.bundle is None


def test_another_order_that_was_quicker_counts(signer: Signer, bundle: bytes) -> None:
    before = signer.machine.everything()
    signer.bring(bundle)
    signer.send(order(bundle))
    other = joined()
    signer.send(signed_order(drafted(BlockKey(key_hash=b"k" * 32)), 0), other)
    assert isinstance(signer.answer(other), OrderObeyed)
    answer = signer.answer()
    assert isinstance(answer, RequestRefused)
    assert answer.code == "order-sequence"
    assert signer.kinds()[-1] == "order"
    # Nothing is left of what was unpacked for it.
    assert but_for_the_empty(before) == but_for_the_empty(signer.machine.everything())


def test_operators_who_are_dismissed_meanwhile_are_not_obeyed(signer: Signer, bundle: bytes) -> None:
    signer.bring(bundle)
    signer.send(order(bundle, 0, 2))
    signer.desk.follow(operators=PUBLIC_KEYS[:2], quorum=2, authorities=(), validators=(), caps={})
    answer = signer.answer()
    assert isinstance(answer, RequestRefused)
    assert answer.code == "order-quorum"
    assert signer.machine.config.bundles.installed is None


def test_the_same_order_over_two_lines_is_obeyed_once(signer: Signer, bundle: bytes) -> None:
    signer.bring(bundle)
    signer.send(order(bundle))
    second = joined()
    signer.send(order(bundle), second)
    answers = [signer.answer(), signer.answer(second)]
    assert [type(each) for each in answers] == [OrderObeyed, OrderObeyed]
    assert signer.kinds().count("order") == 1
    assert signer.installed == [1]


def test_of_two_orders_for_it_the_one_that_is_refused_takes_nothing_away(signer: Signer, bundle: bytes) -> None:
    signer.bring(bundle)
    signer.send(order(bundle))
    other = joined()
    signer.send(order(bundle, reason="drafted by somebody else at the same time"), other)
    refused = signer.answer(other)
    assert isinstance(refused, RequestRefused)
    assert refused.code == "order-sequence"
    assert isinstance(signer.answer(), OrderObeyed)
    assert signer.installed == [1]
    assert not list(signer.bundles.alarms())


def test_a_line_that_has_gone_changes_nothing(signer: Signer, bundle: bytes) -> None:
    signer.bring(bundle)
    gone = joined()
    signer.send(order(bundle), gone)
    gone.signer.finish()
    signer.send(order(bundle))
    assert isinstance(signer.answer(), OrderObeyed)
    assert gone.signer.data_to_send() == b""


@pytest.mark.parametrize("fails", ["refused", "failed"])
def test_nobody_is_told_no_who_has_gone(signer: Signer, bundle: bytes, fails: str) -> None:
    signer.bring(bundle)
    signer.send(order(bundle))
    signer.pair.signer.data_to_send()
    signer.pair.signer.finish()
    if fails == "refused":
        signer.desk.follow(operators=PUBLIC_KEYS[:1], quorum=1, authorities=(), validators=(), caps={})
        signer.desk._quorum = 2
    else:
        signer.gate.halt(LOST_PAST, "a test", now=START)
    signer.unpack()
    signer.journal.commit()
    assert signer.pair.signer.data_to_send() == b""
    assert "order" not in signer.kinds()


def test_a_signer_that_has_lost_its_past_installs_nothing(signer: Signer, bundle: bytes) -> None:
    signer.gate.halt(LOST_PAST, "a test", now=START)
    signer.bring(bundle)
    signer.send(order(bundle))
    answer = signer.answer()
    assert isinstance(answer, RequestFailed)
    assert answer.code == LOST_PAST
    assert signer.bundles._process is None


def test_a_desk_without_bundles_refuses(signer: Signer, bundle: bytes) -> None:
    signer.desk._bundles = None
    signer.send(order(bundle))
    answer = signer.answer()
    assert isinstance(answer, RequestRefused)
    assert answer.code == "bundle-unheard"
    signer.desk.resume()


def unpack_and_journal(signer: Signer, bundle: bytes) -> None:
    """As far as a signer comes that is killed when the journal has the order, and before the switch."""
    signer.bring(bundle)
    signer.send(order(bundle))
    signer.unpack()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signer.bundles, "install", lambda _wanted: None)  # what a killed process does
        signer.journal.commit()
    assert signer.machine.config.bundles.installed is None


def test_a_crash_between_journal_and_switch_is_finished_at_the_next_start(signer: Signer, bundle: bytes) -> None:
    unpack_and_journal(signer, bundle)
    signer.restart()
    assert signer.machine.config.bundles.number == 1
    assert signer.installed == [1]
    # And not at those after it: people may have put the link back.
    (signer.machine.directory / "bundles/current").unlink()
    signer.restart()
    assert signer.machine.config.bundles.installed is None
    assert signer.installed == []
    assert "was ordered, and is not in force" in next(signer.bundles.alarms())


def test_later_orders_do_not_hide_it(signer: Signer, bundle: bytes) -> None:
    unpack_and_journal(signer, bundle)
    signer.send(signed_order(drafted(BlockKey(key_hash=b"k" * 32), sequence=2), 0), other := joined())
    assert isinstance(signer.answer(other), OrderObeyed)
    signer.restart()
    assert signer.machine.config.bundles.number == 1
