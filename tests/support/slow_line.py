"""A Unix socket between client and signer that carries only so many octets a second, so that work takes its time."""

from __future__ import annotations

import selectors
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_CHUNK_OCTETS = 512


class SlowLine:
    """Use as a context manager: whoever connects to `path` is connected to `signer`, and hangs up with it."""

    def __init__(self, path: Path, signer: Path, *, octets_a_second: int) -> None:
        self._signer = signer
        self._pause_s = _CHUNK_OCTETS / octets_a_second
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._stopping, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="slow line", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join()
        self._listening.close()
        self._stopping.close()

    def _serve(self) -> None:
        """One connection at a time: there is one client."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._stopping, selectors.EVENT_READ)
            while all(key.fileobj is not self._stopping for key, _ in selector.select()):
                client, _ = self._listening.accept()
                with client, socket.socket(socket.AF_UNIX) as signer, suppress(OSError):
                    signer.connect(str(self._signer))
                    self._carry(client, signer)

    def _carry(self, client: socket.socket, signer: socket.socket) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, (client, signer))
            selector.register(signer, selectors.EVENT_READ, (signer, client))
            selector.register(self._stopping, selectors.EVENT_READ, (self._stopping, self._stopping))
            while True:
                for key, _ in selector.select():
                    heard, other = key.data
                    octets = heard.recv(_CHUNK_OCTETS)
                    if not octets:
                        return
                    other.sendall(octets)
                    time.sleep(self._pause_s)
