"""A whole session over each real kind of link: Unix socket, TCP on loopback, and a pair of pseudo-terminals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from examples.null_modem import NullModem
from tests.support import conversations, links
from tests.support.lines import client_end, signer_end
from tests.support.wire import End, Loop, accept, free_port, running_loop

from cassiopeia.link.stream import Address, open_link, open_listener, parse_address
from cassiopeia.protocol.events import FullCrlReceived, FullCrlRequested, HelloReceived, SignRequested


@dataclass(kw_only=True)
class Wire:
    """Where both ends are opened."""

    loop: Loop
    stack: ExitStack
    signer_address: Address
    client_address: Address

    def open(self) -> tuple[End, End]:
        listener = open_listener(self.signer_address)
        self.stack.callback(listener.close)
        client = self.connect()
        signer = self.loop.add(accept(listener), signer_end(serial=self.signer_address.is_serial))
        return signer, client

    def connect(self, *, nonce: bytes = b"abcdefgh", name: str = "client") -> End:
        serial = self.client_address.is_serial
        connection = client_end(serial=serial, nonce=nonce, tls=links.client(name=name))
        return self.loop.add(open_link(self.client_address), connection)


@pytest.fixture(params=["unix", "tcp", "serial"])
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Wire]:
    with ExitStack() as stack:
        if request.param == "serial":
            signer, client = (f"serial:{path}" for path in stack.enter_context(NullModem()).devices)
        else:
            signer = client = f"unix:{tmp_path}/link" if request.param == "unix" else f"tcp:127.0.0.1:{free_port()}"
        loop = stack.enter_context(running_loop())
        yield Wire(loop=loop, stack=stack, signer_address=parse_address(signer), client_address=parse_address(client))


@pytest.fixture
def serial_wire() -> Iterator[Wire]:
    with ExitStack() as stack:
        signer, client = stack.enter_context(NullModem()).devices
        loop = stack.enter_context(running_loop())
        yield Wire(
            loop=loop,
            stack=stack,
            signer_address=parse_address(f"serial:{signer}"),
            client_address=parse_address(f"serial:{client}"),
        )


def greet(wire: Wire, signer: End, client: End) -> None:
    wire.loop.run_until(lambda: client.established)
    client.session.hello(conversations.hello())
    wire.loop.run_until(lambda: any(isinstance(event, HelloReceived) for event in signer.events))
    signer.session.hello(conversations.hello())
    wire.loop.run_until(lambda: any(isinstance(event, HelloReceived) for event in client.events))
    signer.events.clear()
    client.events.clear()


def test_a_request_and_a_large_answer_pass(wire: Wire) -> None:
    signer, client = wire.open()
    greet(wire, signer, client)
    request = conversations.certificate_request(key_proof=bytes(range(256)) * 40)
    handle = client.session.submit(request)
    wire.loop.run_until(lambda: len(signer.events) == 1)
    assert signer.events == [SignRequested(handle=handle, request=request)]

    wanted = client.session.get_full_crl("unassured_2026_2")
    wire.loop.run_until(lambda: len(signer.events) == 2)
    assert signer.events[1] == FullCrlRequested(handle=wanted, signing_ca="unassured_2026_2")
    crl = bytes(range(256)) * 3000
    signer.session.send_full_crl(wanted, crl)
    wire.loop.run_until(lambda: len(client.events) == 1)
    assert client.events == [FullCrlReceived(handle=wanted, der=crl)]
    assert signer.failures == client.failures == []
    assert client.connection.wire_octets_in > len(crl)


def test_a_client_that_closes_ends_the_session_in_order(wire: Wire) -> None:
    signer, client = wire.open()
    greet(wire, signer, client)
    session = signer.session
    client.connection.close()
    wire.loop.run_until(lambda: signer.ended == [session])
    assert client.closed
    # The signer's end of a serial line waits for the next client.
    wire.loop.run_until(lambda: signer.closed is not wire.signer_address.is_serial)
    assert signer.failures == client.failures == []


def test_a_stranger_is_turned_away_with_its_pin_in_the_log(wire: Wire) -> None:
    listener = open_listener(wire.signer_address)
    wire.stack.callback(listener.close)
    client = wire.connect(name="stranger")
    signer = wire.loop.add(accept(listener), signer_end(serial=wire.signer_address.is_serial))
    wire.loop.run_until(lambda: bool(signer.failures and client.failures))
    assert "the peer's link certificate has the pin" in signer.failures[0]
    assert "unknown ca" in client.failures[0]
    assert signer.events == []


def test_a_new_client_on_a_serial_line_takes_over_from_one_that_vanished(serial_wire: Wire) -> None:
    signer, first = serial_wire.open()
    greet(serial_wire, signer, first)
    old = signer.session
    first.line.close()
    assert not signer.closed
    second = serial_wire.connect(nonce=b"ABCDEFGH")
    greet(serial_wire, signer, second)
    assert signer.ended == [old]
    assert signer.failures == ["the serial line lost its session: a reset in the middle of the stream"]
    second.session.submit(conversations.certificate_request())
    serial_wire.loop.run_until(lambda: len(signer.events) == 1)


def test_a_signer_that_starts_again_on_a_serial_line_is_found_by_the_next_reset(serial_wire: Wire) -> None:
    signer, first = serial_wire.open()
    greet(serial_wire, signer, first)
    signer.line.close()
    first.line.close()
    # Octets of the old session still arrive at the new signer: they are skipped.
    signer, second = serial_wire.open()
    greet(serial_wire, signer, second)
    assert second.established
