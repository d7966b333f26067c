"""A line in a selector: its patience, and what its owner is told when the link itself fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.support import conversations
from tests.support.lines import client_end, signer_end
from tests.support.wire import End, Loop, running_loop

from cassiopeia.errors import PeerError
from cassiopeia.link import line
from cassiopeia.link.sockets import SocketLink
from cassiopeia.protocol.connection import Connection


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class BrokenLink(SocketLink):
    """A link that fails when it is read or written, as a device can."""

    def read(self, maximum: int) -> bytes | None:  # noqa: ARG002 - it fails before it looks
        raise OSError(5, "Input/output error")

    def write(self, octets: bytes) -> int:  # noqa: ARG002 - as above
        raise OSError(5, "Input/output error")


@pytest.fixture
def loop() -> Iterator[Loop]:
    with running_loop() as made:
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(line, "time", made)
    return made


def join(loop: Loop, one: Connection, other: Connection) -> tuple[End, End]:
    first, second = socket.socketpair()
    return loop.add(SocketLink(first), one), loop.add(SocketLink(second), other)


def open_line(loop: Loop) -> tuple[End, End]:
    signer, client = join(loop, signer_end(), client_end())
    loop.run_until(lambda: signer.established and client.established)
    return signer, client


def test_a_handshake_that_does_not_end_is_ended(loop: Loop, clock: Clock) -> None:
    near, far = socket.socketpair()
    with far:
        signer = loop.add(SocketLink(near), signer_end())
        clock.now += 10
        signer.line.check_time(handshake_limit_s=10, request_limit_s=900)
        assert signer.failures == []
        clock.now += 1
        signer.line.check_time(handshake_limit_s=10, request_limit_s=900)
    assert signer.failures == ["nothing complete came within 10 seconds"]
    assert signer.closed


def test_a_request_that_stays_half_is_ended_and_an_idle_line_is_not(loop: Loop, clock: Clock) -> None:
    signer, client = open_line(loop)
    client.session.hello(conversations.hello())
    loop.run_until(lambda: len(signer.events) == 1)
    clock.now += 100_000
    signer.line.check_time(handshake_limit_s=10, request_limit_s=900)
    assert not signer.failures
    # The first octets of a record's header.
    assert client.connection._channel is not None
    client.connection._channel.send(b"\0\0\0")
    loop.run_until(lambda: signer.session.incomplete)
    clock.now += 901
    signer.line.check_time(handshake_limit_s=10, request_limit_s=900)
    assert signer.failures == ["nothing complete came within 900 seconds"]
    loop.run_until(lambda: client.closed)


def test_a_line_knows_how_long_it_has_waited_for_an_answer(loop: Loop, clock: Clock) -> None:
    _, client = open_line(loop)
    assert client.line.unanswered_s == 0
    clock.now += 5
    client.session.hello(conversations.hello())
    client.line.flush()
    clock.now += 7
    assert client.line.unanswered_s == 7
    assert client.line.silent_s == 7


def test_half_an_answer_is_followed_by_silence(loop: Loop, clock: Clock) -> None:
    signer, client = open_line(loop)
    client.session.hello(conversations.hello())
    client.line.flush()
    clock.now += 7
    assert signer.connection._channel is not None
    signer.connection._channel.send(b"\0\0\0")
    signer.line.flush()
    loop.run_until(lambda: client.session.incomplete)
    clock.now += 5
    assert client.line.unanswered_s == 0
    assert client.line.silent_s == 5


def test_a_link_that_fails_is_told_once(loop: Loop) -> None:
    near, far = socket.socketpair()
    with far:
        client = loop.add(BrokenLink(near), client_end())
        client.line.flush()
        client.line.flush()
        client.line.close("again")
    assert client.closed
    assert client.failures == ["the line broke while writing: Input/output error"]


def test_a_link_that_cannot_be_read_is_closed(loop: Loop) -> None:
    near, far = socket.socketpair()
    with far:
        signer = loop.add(BrokenLink(near), signer_end())
        far.send(b"x")
        loop.run_until(lambda: signer.closed)
    assert signer.failures == ["the line broke while reading: Input/output error"]


def test_the_end_of_the_link_ends_line_and_session(loop: Loop) -> None:
    signer, client = open_line(loop)
    session = signer.session
    client.line.close()
    loop.run_until(lambda: signer.closed)
    assert signer.ended == [session]


def test_a_fault_of_the_peer_is_the_owners_to_log(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    signer, client = open_line(loop)

    def fail(_: bytes) -> list[object]:
        raise PeerError("nonsense")

    monkeypatch.setattr(signer.connection, "receive", fail)
    client.session.hello(conversations.hello())
    loop.run_until(lambda: bool(signer.failures))
    assert signer.failures == ["nonsense"]


def test_nothing_there_yet_is_no_end(loop: Loop) -> None:
    signer, _ = open_line(loop)
    signer.line._read()
    assert not signer.closed
