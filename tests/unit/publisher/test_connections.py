"""Connections that somebody holds on to, of a publisher that really listens."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from urllib.parse import urlsplit

import pytest
from tests.support.publishing import Publishing

from cassiopeia.errors import InternalError
from cassiopeia.publisher.connections import BoundedConnection
from cassiopeia.publisher.service import PublisherService

_PATIENCE_S = 60.0
MODULE = "cassiopeia.publisher.connections"


@contextmanager
def serves(serving: Publishing, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Serves in a thread; tests have the signals."""
    service = PublisherService(serving.config, serving.store)
    monkeypatch.setattr("asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler", lambda *_: None)
    thread = Thread(target=service.run)
    thread.start()
    try:
        address = urlsplit(service.url)
        yield str(address.hostname), int(address.port or 0)
    finally:
        service._server.end()
        thread.join()


def until_closed(connection: socket.socket) -> bytes:
    connection.settimeout(_PATIENCE_S)
    heard = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            heard += part
    return heard


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nHost: ", b"POST /ocsp HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1"]
)
def test_whoever_sends_no_whole_request_is_cut_off(
    serving: Publishing, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(f"{MODULE}._LOOK_S", 0.01)
    monkeypatch.setattr(f"{MODULE}._REQUEST_TIME_LIMIT_S", 0.0)
    monkeypatch.setattr(f"{MODULE}._ANSWER_TIME_LIMIT_S", 0.0)
    with serves(serving, monkeypatch) as address, socket.create_connection(address) as connection:
        connection.sendall(sent)
        assert until_closed(connection) == b""


def test_whoever_does_not_read_the_answer_is_cut_off(serving: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    octets = bytes(4 * 1024 * 1024)
    (serving.config.directory / "long.crl").write_bytes(octets)
    monkeypatch.setattr(f"{MODULE}._LOOK_S", 0.01)
    monkeypatch.setattr(f"{MODULE}._ANSWER_TIME_LIMIT_S", 0.05)
    with serves(serving, monkeypatch) as address, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(b"GET /long.crl HTTP/1.1\r\nHost: x\r\n\r\n" * 16)
        # It says goodbye to one that reads nothing: what was sent meanwhile is less than what was asked for.
        peer = socket.create_connection(address)
        peer.close()
        _wait_until_gone(connection)
        assert len(until_closed(connection)) < 16 * len(octets)


def _wait_until_gone(connection: socket.socket) -> None:
    """Until sending fails, which it does when the other side has cut the line."""
    connection.settimeout(_PATIENCE_S)
    with suppress(ConnectionError):
        while True:  # raises TimeoutError while the other side holds on
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


def test_answers_do_not_wait_for_the_reader(serving: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[int] = []
    made = BoundedConnection.connection_made

    def connection_made(self: BoundedConnection, transport: asyncio.Transport) -> None:
        made(self, transport)
        delays.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(BoundedConnection, "connection_made", connection_made)
    with serves(serving, monkeypatch) as address, socket.create_connection(address) as connection:
        connection.sendall(b"GET /none.crl HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert until_closed(connection).startswith(b"HTTP/1.1 404")
    assert delays == [1]


def test_there_is_an_end_to_how_many_there_are(serving: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{MODULE}._CLOSED_UNHEARD", 1)
    with serves(serving, monkeypatch) as address, socket.create_connection(address) as first:
        first.sendall(b"GET /fingerprints.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(20).startswith(b"HTTP/1.1 404")
        with socket.create_connection(address) as second:
            assert until_closed(second) == b""


def test_a_publisher_whose_watch_has_died_ends(serving: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw must not leave a process that goes on calling certificates good."""

    def fails() -> None:
        raise InternalError("the store refused a statement")

    service = PublisherService(serving.config, serving.store)
    monkeypatch.setattr(serving.store.crls, "headers", fails)
    with pytest.raises(InternalError, match="refused a statement"):
        service.run()
