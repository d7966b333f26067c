"""One line between signer and client: the octet stream of a `Link` joined to the sans-I/O `Connection`.

Owns reading, writing, interest in a selector and the clock that the connection does not have, for both roles. It takes
no decision about what is said: events go to the callback.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable

from cassiopeia.errors import PeerError
from cassiopeia.link.stream import Link
from cassiopeia.protocol.connection import Connection
from cassiopeia.protocol.events import Event
from cassiopeia.protocol.session import Session

_READ_OCTETS = 256 * 1024
# So much of what is bulk (full CRLs) is taken at once, and a peer that does not read is not read from.
_BULK_OCTETS = 16 * 1024
_BACKLOG_OCTETS = 4 * 1024 * 1024


class Line:
    """A link with its connection. At the signer's end of a serial line, sessions come and go on one connection."""

    def __init__(
        self,
        *,
        link: Link,
        connection: Connection,
        selector: selectors.BaseSelector,
        on_event: Callable[[Session, Event], None],
        on_session_end: Callable[[Session], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self.connection = connection
        self.closed = False
        self._link = link
        self._selector = selector
        self._on_event = on_event
        self._on_session_end = on_session_end
        self._on_failure = on_failure
        self._outgoing = bytearray()
        self._session: Session | None = None
        self._progress_at = self._heard_at = time.monotonic()
        self._asked_at = 0.0
        selector.register(link, selectors.EVENT_READ, self._on_ready)

    @property
    def session(self) -> Session | None:
        """The session under way, once the handshake is done."""
        return None if self.closed else self.connection.session

    @property
    def unanswered_s(self) -> float:
        """Seconds since something was sent after which nothing was heard; 0 when the peer has the last word."""
        return time.monotonic() - self._asked_at if self._asked_at > self._heard_at else 0.0

    @property
    def silent_s(self) -> float:
        """Seconds since the last octet was heard, or since something was said after it."""
        return time.monotonic() - max(self._asked_at, self._heard_at)

    @property
    def backlog(self) -> int:
        """Octets that were said and that the link has not taken yet, but for what is bulk."""
        return len(self._outgoing)

    def flush(self) -> None:
        """Write what the connection has to say, as far as the link takes it."""
        if self.closed:
            return
        if self.session is not None:
            # A confirmation that came before the log it confirms counts once that log was sent (version 1).
            self._hand_over(self.session, self.session.take_events())
        try:
            self._write()
        except OSError as error:
            # Once the connection has ended in good order, its close_notify is only a courtesy.
            self.close("" if self.connection.closed else f"the line broke while writing: {error.strerror}")
            return
        if self.connection.closed and not self._outgoing:
            self.close()
            return
        reading = selectors.EVENT_READ if len(self._outgoing) < _BACKLOG_OCTETS else 0
        waiting = self._outgoing or self.connection.has_data_to_send
        events = reading | (selectors.EVENT_WRITE if waiting else 0)
        if self._selector.get_key(self._link).events != events:
            self._selector.modify(self._link, events, self._on_ready)

    def check_time(self, *, handshake_limit_s: float, request_limit_s: float) -> None:
        """End a connection whose handshake, or whose half-sent request, does not come to an end."""
        session, now = self.session, time.monotonic()
        if session is None and self.connection.handshake_started:
            limit_s = handshake_limit_s
        elif session is not None and session.incomplete:
            limit_s = request_limit_s
        else:
            self._progress_at = now
            return
        if now - self._progress_at > limit_s:
            self._progress_at = now
            self._on_failure(f"nothing complete came within {limit_s:g} seconds")
            self.end()

    def end(self) -> None:
        """Close TLS behind everything that was said, then the line: the peer hears that this is the end."""
        self.flush()
        if not self.closed:
            self.connection.close()
            self.flush()
        if not self.closed and self.connection.closed:
            self.close("the other side does not take what is sent")

    def close(self, reason: str = "") -> None:
        """Give the line up at once."""
        if self.closed:
            return
        self.closed = True
        self._notice_session()
        self._selector.unregister(self._link)
        self._link.close()
        if reason:
            self._on_failure(reason)

    def _on_ready(self, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            self._read()
        self.flush()

    def _read(self) -> None:
        try:
            octets = self._link.read(_READ_OCTETS)
        except OSError as error:
            self.close(f"the line broke while reading: {error.strerror}")
            return
        if octets is None:
            return
        if not octets:
            self.connection.receive_eof()
            self.close()
            return
        self._heard_at = time.monotonic()
        session = self.connection.session
        try:
            events = self.connection.receive(octets)
        except PeerError as error:
            self._on_failure(str(error))
            events = []
        failure = self.connection.take_failure()
        if failure is not None:
            self._on_failure(str(failure))
        # What a session said last may come with its end: its owner gets both, in this order. A session that began and
        # ended within these octets is not worth telling: nobody waits for an answer.
        session = session or self.connection.session
        if session is not None:
            self._hand_over(session, events)
        self._notice_session()

    def _hand_over(self, session: Session, events: list[Event]) -> None:
        for event in events:
            self._progress_at = time.monotonic()
            self._on_event(session, event)

    def _write(self) -> None:
        """Keep little beyond what the link takes, so that a full CRL never holds up what is said behind it."""
        while True:
            if len(self._outgoing) < _BULK_OCTETS:
                self._outgoing += self.connection.data_to_send(_BULK_OCTETS)
                self._notice_session()
            if not self._outgoing:
                return
            written = self._link.write(bytes(self._outgoing[:_READ_OCTETS]))
            if not written:
                return
            del self._outgoing[:written]
            if self._asked_at <= self._heard_at:
                self._asked_at = time.monotonic()

    def _notice_session(self) -> None:
        """Tell the owner when the session it knew has ended, whatever ended it."""
        if self.session is self._session:
            return
        ended, self._session = self._session, self.session
        self._progress_at = time.monotonic()
        if ended is not None:
            self._on_session_end(ended)
