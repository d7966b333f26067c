"""Carries orders from the store to the signer, and its answers back.

Orders go one at a time, in the order in which they were sent: each is obeyed only behind the one before it. The client
judges none of them. A line that drops loses nothing: an order is sent again until the signer has said yes or no.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable
from typing import Final

from cassiopeia.client import patience
from cassiopeia.protocol.events import Event, OrderObeyed, RequestFailed, RequestRefused
from cassiopeia.protocol.session import Session
from cassiopeia.store.database import Store
from cassiopeia.store.orders import StoredOrder

_log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 2.0


class OrderCourier:
    """Between the store and one session at a time."""

    def __init__(self, *, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._under_way: tuple[int, StoredOrder] | None = None
        self._next_look = 0.0

    @property
    def busy(self) -> bool:
        """Whether a signer has an order that it has not answered."""
        return self._under_way is not None

    def send(self, session: Session, *, signer_id: int) -> None:
        """Send the next order, as far as the session has room."""
        if self._under_way is None and self._clock() >= self._next_look and session.capacity:
            self._next_look = self._clock() + _LOOK_EVERY_S
            waiting = self._store.orders.waiting(signer_id)
            if waiting:
                self._under_way = session.send_order(waiting[0].octets), waiting[0]
                _log.info("order %d is sent", waiting[0].sequence)

    def receive(self, event: Event, *, now: dt.datetime) -> bool:
        """Take an event of the session; False when it is not about an order."""
        match event:
            case OrderObeyed() | RequestRefused() | RequestFailed():
                if self._under_way is None or event.handle != self._under_way[0]:
                    return isinstance(event, OrderObeyed)
                self._answered(event, self._under_way[1], now=now)
                self._under_way = None
                return True
            case _:
                return False

    def forget(self) -> None:
        """The session has ended: what was not answered is sent again in the next."""
        self._under_way = None
        self._next_look = 0.0

    def _answered(
        self, event: OrderObeyed | RequestRefused | RequestFailed, order: StoredOrder, *, now: dt.datetime
    ) -> None:
        orders = self._store.orders
        # The next order may wait.
        self._next_look = 0.0
        if isinstance(event, OrderObeyed):
            orders.obeyed(order.id, journal_index=event.index, now=now)
            _log.info("order %d is obeyed: entry %d of the signer's journal", order.sequence, event.index)
        elif isinstance(event, RequestRefused):
            orders.refused(order.id, f"{event.code}: {event.message}", now=now)
            _log.warning("order %d is refused: %s", order.sequence, event.message)
        else:
            orders.postponed(order.id, f"{event.code}: {event.message}", now=now)
            self._next_look = self._clock() + patience.as_told(event.retry_after_s)
            _log.warning("order %d: not now: %s", order.sequence, event.message)
