from __future__ import annotations

import pytest
from tests.support.conversations import Pair, hello, joined
from tests.support.store import NOW, after

from cassiopeia.client.orders import OrderCourier
from cassiopeia.errors import Refused, Unavailable
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import BundleHeld, BundleReceived, Event, OrderReceived, RequestRefused, StatusReceived
from cassiopeia.protocol.limits import Limits
from cassiopeia.store.database import Store

SIGNER_ID = 1


def able() -> Pair:
    """A session with a signer that takes bundles."""
    pair = joined()
    pair.client.peer_hello = hello(capabilities=(payload.DEFLATE_CAPABILITY, payload.BUNDLE_CAPABILITY))
    return pair


class Courier:
    """A courier on a real store, and the signer's end of its session in hand."""

    def __init__(self, store: Store) -> None:
        self.store, self.seconds = store, 100.0
        self.courier = OrderCourier(store=store, clock=lambda: self.seconds)
        self.pair = able()

    def put(self, sequence: int, *, bundle: bytes | None = None) -> int:
        return self.store.orders.put(SIGNER_ID, sequence, b"order %d" % sequence, bundle=bundle, now=NOW).id

    def send(self) -> list[Event]:
        """What arrives at the signer."""
        self.courier.send(self.pair.client, signer_id=SIGNER_ID, now=after(5))
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
    courier.courier.send(courier.pair.client, signer_id=SIGNER_ID, now=after(5))
    assert courier.pair.to_signer() == []


# Bundles.


def bring(courier: Courier) -> None:
    """The bundle has come, and the signer holds it."""
    (event,) = courier.send()
    assert isinstance(event, BundleReceived)
    courier.pair.signer.send_bundle_held(event.handle)
    courier.hear()


def test_a_bundle_goes_before_its_order_and_once(courier: Courier) -> None:
    courier.put(1, bundle=b"a bundle")
    (event,) = courier.send()
    assert isinstance(event, BundleReceived)
    assert event.bundle == b"a bundle"
    assert courier.courier.busy
    assert courier.send() == []
    courier.pair.signer.send_bundle_held(event.handle)
    courier.hear()
    (order,) = courier.send()  # at once
    assert isinstance(order, OrderReceived)
    courier.pair.signer.send_failed(order.handle, Unavailable("busy", retry_after_s=5))
    courier.hear()
    courier.seconds += 5
    (order,) = courier.send()
    assert isinstance(order, OrderReceived)
    courier.pair.signer.send_obeyed(order.handle, 7)
    courier.hear()
    assert courier.states() == [(1, "obeyed")]


def test_a_signer_that_holds_it_no_more_gets_it_again(courier: Courier) -> None:
    courier.put(1, bundle=b"a bundle")
    bring(courier)
    (order,) = courier.send()
    assert isinstance(order, OrderReceived)
    courier.pair.signer.send_failed(order.handle, Unavailable("gone", code="bundle-missing", retry_after_s=1))
    courier.hear()
    courier.seconds += 1
    bring(courier)
    assert isinstance(courier.send()[0], OrderReceived)


def test_another_session_gets_it_again(courier: Courier) -> None:
    courier.put(1, bundle=b"a bundle")
    bring(courier)
    courier.courier.forget()
    courier.pair = able()
    bring(courier)


def test_a_refused_bundle_takes_its_order_with_it(courier: Courier) -> None:
    first = courier.put(1, bundle=b"a bundle")
    courier.put(2)
    (event,) = courier.send()
    assert isinstance(event, BundleReceived)
    courier.pair.signer.send_refused(event.handle, Refused("of another hierarchy", code="bundle-invalid"))
    courier.hear()
    assert courier.states() == [(1, "refused"), (2, "waiting")]
    assert courier.store.orders.get(first).answer == "bundle-invalid: of another hierarchy"
    assert courier.store.orders.bundle(first) is None
    (order,) = courier.send()
    assert isinstance(order, OrderReceived)
    assert order.order == b"order 2"


@pytest.mark.parametrize(
    ("capabilities", "bundle", "words"),
    [
        (("deflate",), b"a bundle", "takes no bundle over the line: install it on its machine"),
        ((payload.BUNDLE_CAPABILITY,), bytes(Limits().bundle_octets + 1), "carry it to the signer"),
    ],
    ids=["old signer", "too large"],
)
def test_what_cannot_travel_is_refused_here(
    courier: Courier, capabilities: tuple[str, ...], bundle: bytes, words: str
) -> None:
    order = courier.put(1, bundle=bundle)
    courier.pair.client.peer_hello = hello(capabilities=capabilities)
    assert courier.send() == []
    assert not courier.courier.busy
    stored = courier.store.orders.get(order)
    assert stored.state == "refused"
    assert words in stored.answer


def test_an_order_that_nobody_gave_a_bundle_is_not_sent_for_ever(courier: Courier) -> None:
    order = courier.put(1)
    (event,) = courier.send()
    assert isinstance(event, OrderReceived)
    courier.pair.signer.send_failed(event.handle, Unavailable("gone", code="bundle-missing", retry_after_s=1))
    courier.hear()
    assert (
        courier.store.orders.get(order).answer
        == "bundle-missing: no bundle came with this order: send it with --bundle"
    )


def test_a_bundle_that_is_held_for_nobody_here_is_passed_over(courier: Courier) -> None:
    assert courier.courier.receive(BundleHeld(handle=99), now=NOW)
    assert not courier.courier.busy
