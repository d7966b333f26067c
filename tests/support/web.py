"""A small web server on loopback that says what a test wants it to say, in whatever way."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Pages:
    """What is served by path: octets, or a function that answers by itself. `asked` are the paths, in order."""

    port: int = 0
    by_path: dict[str, bytes | Callable[[http.server.BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    media_type: str = "application/pkix-crl"
    asked: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@contextmanager
def serving() -> Iterator[Pages]:
    """Serve until the end of the test; a slow answer ends with it (`Pages.ended`)."""
    pages = Pages()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pages.asked.append(self.path)
            page = pages.by_path.get(self.path)
            if page is None:
                self.send_error(404)
            elif isinstance(page, bytes):
                self.send_response(200)
                self.send_header("Content-Type", pages.media_type)
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)
            else:
                page(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
            """Say nothing: the test says what it sees."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    pages.port = server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield pages
    finally:
        pages.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
