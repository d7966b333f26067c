"""How much patience the publisher has with one connection, and how many it has at all.

uvicorn closes a connection that is idle between two requests; it waits for ever for the first request, for the rest of
one that has begun, and for whoever does not read the answer. A few hundred such connections would keep out the world.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

MAXIMUM_CONNECTIONS: Final = 512
"""More than this at once are told to come again (503); each costs some kilobytes."""
# Beyond that, nobody is told anything: a process has 1024 descriptors, and the store needs some.
_CLOSED_UNHEARD: Final = 768
# From the connection, or the answer before, to the end of a request's header fields.
_REQUEST_TIME_LIMIT_S: Final = 10.0
# From there until the last octet of the answer was taken: a CRL of 1 MiB, at 20 kB a second.
_ANSWER_TIME_LIMIT_S: Final = 60.0
_LOOK_S: Final = 1.0


class BoundedConnection(H11Protocol):
    """One connection of HTTP/1.1, cut off when it takes too long over anything."""

    _looking: asyncio.TimerHandle | None = None
    _since = 0.0
    _was: tuple[int, bool] = 0, False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        if len(self.connections) > _CLOSED_UNHEARD:
            transport.abort()
            return
        self._since = self.loop.time()
        self._looking = self.loop.call_later(_LOOK_S, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._looking is not None:
            self._looking.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Cut it off if nothing has come of it for too long."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        now, state = self.loop.time(), (id(self.cycle), is_answering)
        if state != self._was:
            self._since, self._was = now, state
        # What was answered may not have been read yet: then it is not the next request that is waited for.
        is_read = self.transport.get_write_buffer_size() == 0
        limit_s = _ANSWER_TIME_LIMIT_S if is_answering or not is_read else _REQUEST_TIME_LIMIT_S
        if now - self._since >= limit_s:
            self.transport.abort()
            return
        self._looking = self.loop.call_later(_LOOK_S, self._look)
