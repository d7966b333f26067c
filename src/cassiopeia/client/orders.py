"""Carries orders from the store to the signer, and its answers back.

Orders go one at a time, in the order in which they were sent: each is obeyed only behind the one before it. The client
judges none of them. A line that drops loses nothing: an order is sent again until the signer has said yes or no. A
bundle goes before its order, once in a session, or when the signer has it no more.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cassiopeia.client import patience
from cassiopeia.errors import Refused
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import BundleHeld, Event, OrderObeyed, RequestFailed, RequestRefused
from cassiopeia.protocol.session import Session
from cassiopeia.store.database import Store
from cassiopeia.store.orders import StoredOrder

_log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 2.0
_BUNDLE_MISSING: Final = "bundle-missing"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Carried:
    """What is under way: an order, or the bundle that goes before it."""

    handle: int
    order: StoredOrder


class OrderCourier:
    """Between the store and one session at a time."""

    def __init__(self, *, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._under_way: _Carried | None = None
        # The order whose bundle the signer holds.
        self._brought: int | None = None
        self._next_look = 0.0

    @property
    def busy(self) -> bool:
        """Whether a signer has an order, or its bundle, that it has not answered."""
        return self._under_way is not None

    def send(self, session: Session, *, signer_id: int, now: dt.datetime) -> None:
        """Send the next order, or its bundle, as far as the session has room."""
        if self._under_way is None and self._clock() >= self._next_look and session.capacity:
            self._next_look = self._clock() + _LOOK_EVERY_S
            waiting = self._store.orders.waiting(signer_id)
            if waiting:
                self._send(session, waiting[0], now=now)

    def receive(self, event: Event, *, now: dt.datetime) -> bool:
        """Take an event of the session; False when it is not about an order."""
        match event:
            case OrderObeyed() | BundleHeld() | RequestRefused() | RequestFailed():
                carried = self._under_way
                if carried is None or event.handle != carried.handle:
                    return isinstance(event, OrderObeyed | BundleHeld)
                self._under_way = None
                self._answered(event, carried, now=now)
                return True
            case _:
                return False

    def forget(self) -> None:
        """The session has ended: what was not answered is sent again in the next."""
        self._under_way = self._brought = None
        self._next_look = 0.0

    def _send(self, session: Session, order: StoredOrder, *, now: dt.datetime) -> None:
        bundle = None if self._brought == order.id else self._store.orders.bundle(order.id)
        if bundle is None:
            self._under_way = _Carried(handle=session.send_order(order.octets), order=order)
            _log.info("order %d is sent", order.sequence)
            return
        try:
            _check_able(session)
            handle = session.send_bundle(bundle)
        except Refused as refusal:
            self._refused(order, refusal.code, refusal.message, now=now)
            return
        self._under_way = _Carried(handle=handle, order=order)
        _log.info("the bundle of order %d is sent: %d octets", order.sequence, len(bundle))

    def _answered(
        self, event: OrderObeyed | BundleHeld | RequestRefused | RequestFailed, carried: _Carried, *, now: dt.datetime
    ) -> None:
        orders, order = self._store.orders, carried.order
        # The next order may wait.
        self._next_look = 0.0
        match event:
            case BundleHeld():
                self._brought = order.id
            case OrderObeyed():
                orders.obeyed(order.id, journal_index=event.index, now=now)
                _log.info("order %d is obeyed: entry %d of the signer's journal", order.sequence, event.index)
            case RequestRefused():
                self._refused(order, event.code, event.message, now=now)
            case RequestFailed(code=code) if code == _BUNDLE_MISSING and not self._has_bundle(order):
                self._refused(order, code, "no bundle came with this order: send it with --bundle", now=now)
            case RequestFailed():
                self._brought = None if event.code == _BUNDLE_MISSING else self._brought
                orders.postponed(order.id, f"{event.code}: {event.message}", now=now)
                self._next_look = self._clock() + patience.as_told(event.retry_after_s)
                _log.warning("order %d: not now: %s", order.sequence, event.message)

    def _has_bundle(self, order: StoredOrder) -> bool:
        return self._store.orders.bundle(order.id) is not None

    def _refused(self, order: StoredOrder, code: str, message: str, *, now: dt.datetime) -> None:
        self._store.orders.refused(order.id, f"{code}: {message}", now=now)
        _log.warning("order %d is refused: %s", order.sequence, message)


def _check_able(session: Session) -> None:
    if session.peer_hello is None or payload.BUNDLE_CAPABILITY not in session.peer_hello.capabilities:
        raise Refused(
            "this signer is of a release that takes no bundle over the line: install it on its machine, with "
            "`cassiopeia signer install`",
            code="bundle-unheard",
        )
