"""A line in memory: two connections, and every octet between them under the test's eye."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support import conversations, links

from cassiopeia.errors import PeerError
from cassiopeia.protocol.channel import LinkTls
from cassiopeia.protocol.connection import Connection
from cassiopeia.protocol.events import Event
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import Role
from cassiopeia.protocol.session import Session

NONCE = b"abcdefgh"


def signer_end(*, serial: bool = False, tls: LinkTls | None = None) -> Connection:
    return Connection(role=Role.SIGNER, tls=tls or links.signer(), serial=serial, limits=Limits())


def client_end(*, serial: bool = False, tls: LinkTls | None = None, nonce: bytes = NONCE) -> Connection:
    return Connection(
        role=Role.CLIENT,
        tls=tls or links.client(),
        serial=serial,
        limits=Limits(),
        reset_nonce=nonce if serial else None,
    )


@dataclass(kw_only=True)
class MemoryLine:
    """Carries octets in portions of `portion` (0: as they come) and keeps what happened."""

    signer: Connection
    client: Connection
    portion: int = 0
    signer_events: list[Event] = field(default_factory=list)
    client_events: list[Event] = field(default_factory=list)
    to_signer: bytearray = field(default_factory=bytearray)
    to_client: bytearray = field(default_factory=bytearray)
    failures: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Carry everything until both ends are silent."""
        while True:
            upward = self.client.data_to_send()
            self.to_signer += upward
            self._carry(upward, self.signer, self.signer_events)
            downward = self.signer.data_to_send()
            self.to_client += downward
            self._carry(downward, self.client, self.client_events)
            if not upward and not downward:
                return

    def _carry(self, octets: bytes, end: Connection, events: list[Event]) -> None:
        step = self.portion or max(1, len(octets))
        for at in range(0, len(octets), step):
            try:
                events += end.receive(octets[at : at + step])
            except PeerError as error:
                self.failures.append(str(error))


def opened(*, version: int = 2, serial: bool = False, portion: int = 0) -> MemoryLine:
    """A line whose handshake is done; in version 2, `hello` too."""
    if version == 1:
        tls, client_tls = links.signer(peers_1=("client_1",)), links.client_1()
    else:
        tls, client_tls = links.signer(), links.client()
    line = MemoryLine(
        signer=signer_end(serial=serial, tls=tls), client=client_end(serial=serial, tls=client_tls), portion=portion
    )
    line.run()
    greet(line)
    return line


def greet(line: MemoryLine) -> None:
    """The opening of version 2, when the handshake is done."""
    if line.client.version > 1:
        session(line.client).hello(conversations.hello())
        line.run()
        session(line.signer).hello(conversations.hello())
        line.run()
    line.signer_events.clear()
    line.client_events.clear()


def session(end: Connection) -> Session:
    assert end.session is not None
    return end.session
