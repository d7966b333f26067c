from __future__ import annotations

import pytest
from tests.support.conversations import joined
from tests.support.store import NOW, after

from cassiopeia.client.orders import OrderCourier
from cassiopeia.errors import Refused, Unavailable
from cassiopeia.protocol.events import Event, OrderReceived, RequestRefused, StatusReceived
from cassiopeia.store.database import Store

SIGNER_ID = 1


class Courier:
    """A courier on a real store, and the signer's end of its session in hand."""

    def __init__(self, store: Store) -> None:
        self.store, self.seconds = store, 100.0
        self.courier = OrderCourier(store=store, clock=lambda: self.seconds)
        self.pair = joined()

    def put(self, sequence: int) -> int:
        return self.store.orders.put(SIGNER_ID, sequence, b"order %d" % sequence, now=NOW).id

    def send(self) -> list[Event]:
        """What arrives at the signer."""
        self.courier.send(self.pair.client, signer_id=SIGNER_ID)
        return list(self.pair.to_signer())

    def hear(self) -> None:
        for event in self.pair.to_client():
            assert self.courier.receive(event, now=after(5))

    def states(self) -> list[tuple[int, str]]:
        return [(each.sequence, each.state) for each in reversed(self.store.orders.list(limit=9))]


@pytest.fixture
def courier(store: Store) -> Courier:
    return Courier(store)


def test_orders_go_one_at_a_time(courier: Courier) -> None:
    courier.put(1)
    courier.put(2)
    (first,) = courier.send()
    assert isinstance(first, OrderReceived)
    assert first.order == b"order 1"
    assert courier.courier.busy
    courier.seconds += 100
    assert courier.send() == []
    courier.pair.signer.send_obeyed(first.handle, 7)
    courier.hear()
    assert courier.states() == [(1, "obeyed"), (2, "waiting")]
    assert courier.store.orders.list(limit=9)[1].journal_index == 7
    (second,) = courier.send()  # at once
    assert isinstance(second, OrderReceived)
    assert second.order == b"order 2"


def test_a_refusal_is_final(courier: Courier) -> None:
    courier.put(1)
    (event,) = courier.send()
    assert isinstance(event, OrderReceived)
    courier.pair.signer.send_refused(event.handle, Refused("too few have signed", code="order-quorum"))
    courier.hear()
    (order,) = courier.store.orders.list(limit=9)
    assert (order.state, order.answer) == ("refused", "order-quorum: too few have signed")
    assert not courier.courier.busy


def test_not_now_is_asked_again_when_the_signer_said(courier: Courier) -> None:
    courier.put(1)
    (event,) = courier.send()
    assert isinstance(event, OrderReceived)
    courier.pair.signer.send_failed(event.handle, Unavailable("busy", retry_after_s=60))
    courier.hear()
    (order,) = courier.store.orders.waiting(SIGNER_ID)
    assert order.answer == "busy: busy"
    courier.seconds += 59
    assert courier.send() == []
    courier.seconds += 1
    assert len(courier.send()) == 1


def test_what_the_line_lost_is_sent_again(courier: Courier) -> None:
    courier.put(1)
    assert len(courier.send()) == 1
    courier.courier.forget()
    assert not courier.courier.busy
    courier.pair = joined()
    assert len(courier.send()) == 1


def test_the_store_is_not_asked_all_the_time(courier: Courier) -> None:
    assert courier.send() == []
    courier.put(1)
    assert courier.send() == []
    courier.seconds += 2
    assert len(courier.send()) == 1


def test_orders_of_other_signers_stay(courier: Courier) -> None:
    courier.store.orders.put(2, 1, b"order", now=NOW)
    assert courier.send() == []


def test_answers_to_others_are_left_to_them(courier: Courier) -> None:
    assert not courier.courier.receive(RequestRefused(handle=99, code="no", field="", message=""), now=NOW)
    assert not courier.courier.receive(StatusReceived(handle=99), now=NOW)
    courier.put(1)
    courier.send()
    assert not courier.courier.receive(RequestRefused(handle=99, code="no", field="", message=""), now=NOW)
    assert courier.courier.busy


def test_a_session_without_room_is_left_alone(courier: Courier, monkeypatch: pytest.MonkeyPatch) -> None:
    courier.put(1)
    monkeypatch.setattr(type(courier.pair.client), "capacity", property(lambda _: 0))
    courier.courier.send(courier.pair.client, signer_id=SIGNER_ID)
    assert courier.pair.to_signer() == []
