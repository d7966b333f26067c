"""One line between signer and client: the octet stream of a `Link` joined to the sans-I/O `Connection`.

Owns reading, writing and interest in a selector, for both roles. It takes no decision: events go to the callback.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable

from cassiopeia.errors import PeerError
from cassiopeia.link.stream import Link
from cassiopeia.protocol.connection import Connection
from cassiopeia.protocol.session import Event, Session

_READ_OCTETS = 256 * 1024
# A peer that does not read is not read from.
_BACKLOG_OCTETS = 4 * 1024 * 1024


class Line:
    """A link with its connection. A serial link outlives its connections: after one dies, the next reset counts."""

    def __init__(
        self,
        *,
        link: Link,
        connect: Callable[[], Connection],
        persistent: bool,
        selector: selectors.BaseSelector,
        on_event: Callable[[Line, Event], None],
        on_session_end: Callable[[Session], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self.link = link
        self.connection = connect()
        self._connect = connect
        self._persistent = persistent
        self._selector = selector
        self._on_event = on_event
        self._on_session_end = on_session_end
        self._on_failure = on_failure
        self._outgoing = bytearray()
        self._session: Session | None = None
        self.closed = False
        selector.register(link, selectors.EVENT_READ, self.on_ready)

    @property
    def session(self) -> Session | None:
        """The session under way, once the handshake is done."""
        return None if self.closed else self.connection.session

    def on_ready(self, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            self._read()
        if not self.closed:
            self.flush()

    def flush(self) -> None:
        """Write what the connection has to say, as far as the link takes it."""
        if self.closed:
            return
        self._outgoing += self.connection.data_to_send()
        try:
            while self._outgoing:
                written = self.link.write(bytes(self._outgoing[:_READ_OCTETS]))
                if not written:
                    break
                del self._outgoing[:written]
        except OSError as error:
            self.close(f"the line broke while writing: {error.strerror}")
            return
        if self.connection.closed and not self._outgoing:
            self._end_connection()
            return
        self._show_interest()

    def close(self, reason: str = "") -> None:
        """Give the line up at once."""
        if self.closed:
            return
        self._session_ended()
        self.closed = True
        self._selector.unregister(self.link)
        self.link.close()
        if reason:
            self._on_failure(reason)

    def _read(self) -> None:
        try:
            octets = self.link.read(_READ_OCTETS)
        except OSError as error:
            self.close(f"the line broke while reading: {error.strerror}")
            return
        if octets is None:
            return
        if not octets:
            self.connection.receive_eof()
            self.close("the other side closed the line")
            return
        try:
            events = self.connection.receive(octets)
        except PeerError as error:
            self._on_failure(str(error))
            self._outgoing += self.connection.data_to_send()
            self._end_connection()
            return
        if self.connection.session is not self._session:
            self._session_ended()
            self._session = self.connection.session
        for event in events:
            self._on_event(self, event)

    def _end_connection(self) -> None:
        """The session is over: a serial line waits for the next reset, any other is closed."""
        self._session_ended()
        if self._persistent:
            self.connection = self._connect()
            self._show_interest()
        else:
            self._write_last()
            self.close()

    def _session_ended(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._on_session_end(session)

    def _write_last(self) -> None:
        try:
            self.link.write(bytes(self._outgoing))
        except OSError:
            # The peer is gone already: the alert was only a courtesy.
            self._outgoing.clear()

    def _show_interest(self) -> None:
        reading = len(self._outgoing) < _BACKLOG_OCTETS
        events = (selectors.EVENT_READ if reading else 0) | (selectors.EVENT_WRITE if self._outgoing else 0)
        if self._selector.get_key(self.link).events != events:
            self._selector.modify(self.link, events, self.on_ready)
