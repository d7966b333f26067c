"""One end of a line, sans-I/O: serial framing where the line needs it, TLS over that, a session inside.

Owns the order of the layers and what becomes of each when one of them ends. It reads no file and no clock: time limits
are for whoever owns the link. What is held is bounded: plaintext goes straight into the session (which has limits of
its own), ciphertext that nobody takes ends the connection. Source: wire specification, "Links".
"""

from __future__ import annotations

from collections.abc import Callable

from cassiopeia.errors import InternalError, PeerError
from cassiopeia.protocol.channel import LinkTls, TlsChannel
from cassiopeia.protocol.events import Event
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import Role
from cassiopeia.protocol.session import Session
from cassiopeia.protocol.slip import (
    CONNECTION,
    NONCE_OCTETS,
    Data,
    SlipClient,
    SlipEvent,
    SlipSigner,
    StreamStarted,
    escape,
)

# What TLS says by itself (handshake, alerts, key updates) is short: more waits only if nobody takes it.
_BACKLOG_OCTETS = 256 * 1024


def reset_nonce(random: Callable[[int], bytes]) -> bytes:
    """Return eight fresh octets for a serial reset, none of them C0; `random` is `os.urandom` or alike."""
    nonce = b""
    while len(nonce) < NONCE_OCTETS:
        nonce += random(NONCE_OCTETS - len(nonce)).replace(CONNECTION, b"")
    return nonce


class Connection:
    """A connection from its first octet to its last.

    Everywhere but at the signer's end of a serial line it lives once: a PeerError, `close`, the peer's close_notify or
    a finished session end it, `closed` says so, and what `data_to_send` still gives (an alert, close_notify) should
    go out. A signer's serial line never ends: there a fault only ends the session (`session` is None, and
    `take_failure` says why), and the connection waits for the client's next reset. A new session is a new object.
    """

    def __init__(
        self,
        *,
        role: Role,
        tls: LinkTls,
        limits: Limits,
        serial: bool = False,
        reset_nonce: bytes | None = None,
    ) -> None:
        self._role = role
        self._tls = tls
        self._limits = limits
        self._framing: SlipSigner | SlipClient | None = None
        self._channel: TlsChannel | None = None
        self._session: Session | None = None
        self._outgoing = bytearray()
        self._failure: PeerError | None = None
        self._version = 0
        self._peer_pin = ""
        self.closed = False
        self.wire_octets_in = 0
        self.wire_octets_out = 0
        if not serial:
            self._start_tls()
        elif role is Role.SIGNER:
            self._framing = SlipSigner()
        elif reset_nonce is None:
            raise InternalError("a client's serial connection needs a nonce for its reset")
        else:
            self._framing = SlipClient(reset_nonce)
            self._outgoing += self._framing.reset

    @property
    def session(self) -> Session | None:
        """The session under way: from the end of the handshake until anything ends it."""
        return self._session

    @property
    def handshake_started(self) -> bool:
        """TLS is under way, or done: on a serial line, the reset is complete."""
        return self._channel is not None

    @property
    def established(self) -> bool:
        """The peer is who it should be, and a session is under way."""
        return self._session is not None

    @property
    def version(self) -> int:
        """Version of the newest session, 1 or 2; 0 before the first."""
        return self._version

    @property
    def peer_pin(self) -> str:
        """Pin of the newest session's peer in hex; empty before the first."""
        return self._peer_pin

    def follow(self, *, tls: LinkTls, limits: Limits) -> None:
        """Begin every further session with these: a serial line goes on for ever, and its credentials may change."""
        self._tls, self._limits = tls, limits

    def receive(self, octets: bytes) -> list[Event]:
        """Take octets from the line; return what the session makes of them, or raise PeerError (see the class)."""
        if self.closed:
            return []
        self.wire_octets_in += len(octets)
        events: list[Event] = []
        for part in self._unframe(octets):
            try:
                self._take(part, events)
            except PeerError as error:
                self._fail(error)
        return events

    def receive_eof(self) -> None:
        """The link has ended; nothing that is still to be sent would arrive."""
        self._drop()
        self._outgoing.clear()
        self.closed = True

    def take_failure(self) -> PeerError | None:
        """Return why a serial line's session ended against the rules, once: a signer's end does not raise it."""
        failure, self._failure = self._failure, None
        return failure

    @property
    def has_data_to_send(self) -> bool:
        """Whether another call of `data_to_send` gives something."""
        channel = self._channel.pending if self._channel is not None else 0
        return bool(self._outgoing or channel) or (self._session is not None and self._session.has_data_to_send)

    def data_to_send(self, bulk_octets: int | None = None) -> bytes:
        """Take what goes onto the line: everything that the session has said since the last call is one flight.

        With `bulk_octets`, about so much of what is bulk (full CRLs): call again while `has_data_to_send`, when the
        line has taken this part, so that nothing urgent waits behind a whole CRL.
        """
        if self._channel is not None and self._session is not None:
            flight = self._session.data_to_send(bulk_octets)
            if flight:
                self._channel.send(flight)
            if self._session.finished and not self._session.has_data_to_send:
                self.close()
        self._collect()
        octets = bytes(self._outgoing)
        self._outgoing.clear()
        self.wire_octets_out += len(octets)
        return octets

    def close(self) -> None:
        """End TLS with close_notify, behind everything already sent; what the session did not give yet is lost."""
        if self._channel is not None:
            self._channel.close()
        self._drop()

    def _unframe(self, octets: bytes) -> list[SlipEvent]:
        if self._framing is not None:
            return self._framing.receive(octets)
        return [Data(octets=octets)]

    def _take(self, part: SlipEvent, events: list[Event]) -> None:
        if isinstance(part, Data):
            self._decrypt(part.octets, events)
        elif isinstance(part, StreamStarted):
            # What the old session had still to say would only hold up the answer.
            self._outgoing[:] = part.answer
            self._start_tls()
        elif self._channel is not None:
            raise PeerError(f"the serial line lost its session: {part.reason}")

    def _decrypt(self, octets: bytes, events: list[Event]) -> None:
        # 1. TLS. Behind the end of a session, a serial line's octets are skipped up to the next reset.
        if self._channel is None:
            return
        records = self._channel.receive(octets)
        # 2. The handshake is done: a session for the version that TLS has agreed on.
        if self._session is None and self._channel.version:
            self._version, self._peer_pin = self._channel.version, self._channel.peer_pin
            self._session = Session(role=self._role, version=self._version, limits=self._limits)
        # 3. The session.
        if self._session is not None:
            for record in records:
                events += self._session.receive(record)
        # 4. The peer has closed, or talks without listening.
        if self._channel.closed:
            self._drop()
        elif self._channel.pending + len(self._outgoing) > _BACKLOG_OCTETS:
            raise PeerError(f"the peer takes nothing: more than {_BACKLOG_OCTETS} octets wait for it")

    def _fail(self, error: PeerError) -> None:
        """End TLS; the reason stays on this side."""
        self.close()
        if not self._outlives_sessions:
            raise error
        self._failure = error

    @property
    def _outlives_sessions(self) -> bool:
        return isinstance(self._framing, SlipSigner)

    def _start_tls(self) -> None:
        self._channel = TlsChannel(tls=self._tls, server_side=self._role is Role.SIGNER)

    def _drop(self) -> None:
        """Forget channel and session, but not what TLS has still to say."""
        self._collect()
        self._channel = None
        self._session = None
        self.closed = not self._outlives_sessions

    def _collect(self) -> None:
        if self._channel is not None:
            octets = self._channel.data_to_send()
            self._outgoing += octets if self._framing is None else escape(octets)
