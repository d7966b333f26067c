"""The publisher as a process: one thread that watches the store, and one loop that answers whoever asks.

Ends by itself when it is told to (SIGTERM, SIGINT), and lets go what is under way. It holds no CA key, writes nothing
but requests for its own certificates into the store, and nothing at all into what it serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.applications import Starlette

from cassiopeia.config.publisher import HttpAddress, PublisherConfig
from cassiopeia.errors import OperatorError
from cassiopeia.publisher.answering import Answerer
from cassiopeia.publisher.connections import MAXIMUM_CONNECTIONS, BoundedConnection
from cassiopeia.publisher.key import load_responder_key
from cassiopeia.publisher.responder import Responder
from cassiopeia.publisher.site import Site
from cassiopeia.publisher.watching import Watch
from cassiopeia.store.database import Store

_log = logging.getLogger(__name__)

_WAITING_CONNECTIONS: Final = 256
_KEEP_ALIVE_S: Final = 5
_STOP_TIME_LIMIT_S: Final = 5


class PublisherService:
    """One publisher; opens its socket when it is made, so that a wrong address is heard of at once."""

    def __init__(self, config: PublisherConfig, store: Store) -> None:
        key = load_responder_key(config.key)
        if not config.directory.is_dir():
            raise OperatorError(
                f"{config.directory}: there is no such directory; http.directory has to name what the client publishes"
            )
        answerer = Answerer(key, holds=config.holds)
        self._watch = Watch(
            config=config,
            store=store,
            responder=Responder(key, directory=config.certificates, store=store),
            answerer=answerer,
        )
        site = Site(directory=config.directory, answerer=answerer, path=config.path, cached=config.cached)
        self._failure: BaseException | None = None
        self._socket = _listen(config.listen)
        self._server = _Server(_uvicorn_config(site.application()))

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port, *_ = self._socket.getsockname()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; raises what has ended the watch, without which nothing may be answered."""
        _log.info("serving at %s", self.url)
        watching = threading.Thread(target=self._watch_on, name="watch")
        watching.start()
        try:
            asyncio.run(self._serve())
        finally:
            _log.info("stopping")
            self._watch.stop()
            watching.join()
            self.close()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Give the address back."""
        self._socket.close()

    def _watch_on(self) -> None:
        try:
            self._watch.run()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the process, and is raised there
            self._failure = error
            self._server.end()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._server.end)
        await self._server.serve(sockets=[self._socket])


class _Server(uvicorn.Server):
    def end(self) -> None:
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are this process's own business: uvicorn would raise them again when it has ended."""
        yield


def _uvicorn_config(application: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.ERROR,  # whoever sends nonsense shall not fill the disk with words about it
        access_log=False,  # who asks about which certificate is nobody's business
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAXIMUM_CONNECTIONS,
        backlog=_WAITING_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_STOP_TIME_LIMIT_S,
    )


def _listen(address: HttpAddress) -> socket.socket:
    """A socket in the place of this address; raises OperatorError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # Only where the protocol is named, asyncio sets TCP_NODELAY: without it, each answer but the first waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address.host, address.port))
        listening.listen(_WAITING_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise OperatorError(
            f"cannot listen at {address.host}:{address.port}: {error.strerror}; see http.listen in publisher.toml: is "
            "another program there?"
        ) from error
    return listening
