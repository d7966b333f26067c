"""Fetching as a stranger would: whole documents, or a sentence that says what the server did."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest
from tests.support.web import Pages, serving

from cassiopeia.client.fetching import Fetched, fetch
from cassiopeia.errors import Unavailable


@pytest.fixture
def web() -> Iterator[Pages]:
    with serving() as pages:
        yield pages


def get(url: str, *, octets_at_most: int = 1000, time_limit_s: float = 20.0) -> Fetched:
    return fetch(url, octets_at_most=octets_at_most, time_limit_s=time_limit_s)


def problem(url: str, **limits: float) -> str:
    with pytest.raises(Unavailable) as caught:
        get(url, **limits)  # type: ignore[arg-type] # some of the limits
    assert caught.value.code == "not-fetched"
    return caught.value.message


def test_a_document_and_its_media_type(web: Pages) -> None:
    web.by_path["/a.crl?b=c"] = b"octets"
    web.media_type = "Application/PKIX-crl; charset=binary"
    assert get(web.url("/a.crl?b=c")) == Fetched(octets=b"octets", media_type="application/pkix-crl")
    assert get(web.url("/a.crl?b=c"), octets_at_most=6).octets == b"octets"
    assert "more than 5 octets" in problem(web.url("/a.crl?b=c"), octets_at_most=5)


def test_nothing_there(web: Pages) -> None:
    assert problem(web.url("/none")) == "the server answers 404"


def test_no_redirect_is_followed(web: Pages) -> None:
    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        request.send_response(301)
        request.send_header("Location", web.url("/other"))
        request.end_headers()

    web.by_path["/a"] = elsewhere
    web.by_path["/other"] = b"octets"
    message = problem(web.url("/a"))
    assert "answers 301" in message
    assert "/other" in message
    assert web.asked == ["/a"]


def test_an_encoding_that_nobody_asked_for(web: Pages) -> None:
    def compressed(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.end_headers()

    web.by_path["/a"] = compressed
    assert "gzip" in problem(web.url("/a"))


def test_a_document_that_is_cut_short(web: Pages) -> None:
    def short(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "10")
        request.end_headers()
        request.wfile.write(b"12345")

    web.by_path["/a"] = short
    assert problem(web.url("/a")) == "it is cut short: 5 octets are missing"


@pytest.mark.parametrize("where", ["headers", "body", "body-of-unknown-length"])
def test_a_server_that_never_ends_its_answer(web: Pages, where: str) -> None:
    """One octet now and then: no single read waits for long."""

    def drip(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        if where != "headers":
            request.send_response(200)
            if where == "body":
                request.send_header("Content-Length", "100000")
            request.end_headers()
        else:
            request.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        try:
            while not web.ended.wait(0.02):
                request.wfile.write(b"x")
                request.wfile.flush()
        except OSError:
            return  # the other side has had enough

    web.by_path["/a"] = drip
    assert problem(web.url("/a"), time_limit_s=0.3) == "it was not there after 0.3 seconds"


def test_no_http_at_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a"

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-none\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert problem(url).startswith("no answer: ")
        thread.join()


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:1/a", "http://127.0.0.1:99999/a", "ftp://127.0.0.1/a", "http://[::1/a", "http://127.0.0.1:x/a"],
)
def test_nobody_to_connect_to(url: str) -> None:
    assert problem(url).startswith("cannot connect: ")


def test_https_wants_a_certificate_that_everybody_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the time limit holds for the handshake, too."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"https://127.0.0.1:{server.getsockname()[1]}/a"
        assert problem(url, time_limit_s=0.3) == "it was not there after 0.3 seconds"
    asked: list[str | None] = []

    class Refusing:
        def wrap_socket(self, _raw: socket.socket, *, server_hostname: str | None) -> ssl.SSLSocket:
            asked.append(server_hostname)
            raise ssl.SSLCertVerificationError("self-signed certificate")

    monkeypatch.setattr(ssl, "create_default_context", Refusing)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert "self-signed" in problem(f"https://127.0.0.1:{server.getsockname()[1]}/a")
    assert asked == ["127.0.0.1"]
