"""Who is connected to the signer: its listener, its lines, and what each of them may cost.

Owns when a connection is taken, when one has to make room for another, and with which credentials. What is said on
the lines is for the desks.
"""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable

from cassiopeia.config import SignerConfig
from cassiopeia.errors import Unavailable
from cassiopeia.link.credentials import LinkTls, Version1Tls, signer_tls
from cassiopeia.link.line import Line
from cassiopeia.link.stream import Link, Listener, open_listener
from cassiopeia.protocol.connection import Connection
from cassiopeia.protocol.events import Event
from cassiopeia.protocol.message import Role
from cassiopeia.protocol.session import Session

_log = logging.getLogger(__name__)

# A slow serial line needs seconds for a handshake, any other link much less.
_HANDSHAKE_TIME_LIMIT_S = 10.0
_SERIAL_HANDSHAKE_TIME_LIMIT_S = 60.0


class Lines:
    """Takes connections once it is opened; every event and the end of every session go to the callbacks."""

    def __init__(
        self,
        config: SignerConfig,
        *,
        selector: selectors.BaseSelector,
        on_event: Callable[[Session, Event], None],
        on_session_end: Callable[[Session], None],
    ) -> None:
        self._config = config
        self._tls = link_tls(config)
        self._selector = selector
        self._on_event = on_event
        self._on_session_end = on_session_end
        self._listener: Listener | None = None
        self.open_ones: list[Line] = []
        self.listening = False

    def open(self) -> None:
        """Listen; raises `OperatorError` where that is not possible."""
        self._listener = open_listener(self._config.listen)
        self.listen(wanted=True)

    def close(self) -> None:
        """End every line in good order, and listen no more."""
        for line in list(self.open_ones):
            line.end()
        if self._listener is not None:
            self._listener.close()

    def flush(self) -> None:
        """Write what there is to say; call after every turn of the loop."""
        for line in list(self.open_ones):
            line.flush()
        self.open_ones = [line for line in self.open_ones if not line.closed]

    def keep_house(self) -> None:
        """End what does not come to an end, and look again for a device that went away."""
        if not self.listening and not self.open_ones:
            self.listen(wanted=True)
        for line in self.open_ones:
            line.check_time(
                handshake_limit_s=_SERIAL_HANDSHAKE_TIME_LIMIT_S
                if self._config.listen.is_serial
                else _HANDSHAKE_TIME_LIMIT_S,
                request_limit_s=self._config.limits.request_seconds,
            )

    def follow(self, config: SignerConfig, tls: LinkTls) -> None:
        """Take connections as this configuration says; whoever it no longer pins is cut off."""
        pins_change = (tls.own_pins, tls.peer_pins) != (self._tls.own_pins, self._tls.peer_pins)
        self._config, self._tls = config, tls
        for line in self.open_ones:
            line.connection.follow(tls=tls, limits=config.limits)
            if pins_change and _is_doubtful(line.connection, tls):
                _log.warning("line: ended, for its peer is not pinned any more, or had not proved yet who it is")
                line.end()

    def listen(self, *, wanted: bool) -> None:
        if self._listener is None:
            return
        if wanted:
            self._selector.register(self._listener, selectors.EVENT_READ, lambda _: self.accept())
        else:
            self._selector.unregister(self._listener)
        self.listening = wanted

    def accept(self) -> None:
        if self._listener is None:
            return
        try:
            link = self._listener.accept()
        except Unavailable as error:
            # A serial device that went away (an adapter pulled out) may come back: housekeeping looks again.
            self.listen(wanted=False)
            _log.warning("line: %s", error)
            return
        if link is None:
            return
        if len(self.open_ones) >= self._config.sessions and not self._make_room():
            _log.warning("refused a connection: %d sessions are open already", len(self.open_ones))
            link.close()
            return
        if self._config.listen.is_serial:
            self.listen(wanted=False)  # its one link is in use
        self.open_ones.append(self._open_line(link))

    def _make_room(self) -> bool:
        """Whoever has not proved yet who he is must not keep out those who can: the oldest such line goes."""
        for line in self.open_ones:
            if line.session is None:
                line.close("ended before its handshake was done: others wait")
                self.open_ones.remove(line)
                return True
        return False

    def _open_line(self, link: Link) -> Line:
        return Line(
            link=link,
            connection=Connection(
                role=Role.SIGNER, tls=self._tls, serial=self._config.listen.is_serial, limits=self._config.limits
            ),
            selector=self._selector,
            on_event=self._on_event,
            on_session_end=self._on_session_end,
            on_failure=lambda reason: _log.warning("line: %s", reason),
        )


def _is_doubtful(connection: Connection, tls: LinkTls) -> bool:
    """Whether the peer is not one of these, or is about to be proved by other credentials."""
    if connection.session is None:
        return connection.handshake_started
    return connection.peer_pin not in tls.peer_pins.get(connection.version, frozenset())


def link_tls(config: SignerConfig) -> LinkTls:
    """The signer's credentials on its line; raises `OperatorError`."""
    version_1 = config.version_1
    return signer_tls(
        certificate=config.certificate,
        key=config.key,
        peers=config.peers,
        version_1=None
        if version_1 is None
        else Version1Tls(certificate=version_1.certificate, key=version_1.key, peers=version_1.peers),
    )
