"""A Unix socket between client and signer that carries what each says to the other, as its subclasses think fit."""

from __future__ import annotations

import abc
import selectors
import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

Direction = Literal["to_signer", "to_client"]


class Relay(abc.ABC):
    """Use as a context manager: whoever connects to `path` is connected to `signer`, and hangs up with it.

    One connection at a time: there is one client.
    """

    chunk_octets = 4096

    def __init__(self, path: Path, signer: Path) -> None:
        self._signer = signer
        self._stack = ExitStack()
        self._listening = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        self._listening.bind(str(path))
        self._listening.listen()
        self._stopping, self._stop = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name=type(self).__name__, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.close()
        self._thread.join()
        self._stopping.close()
        self._stack.close()

    def connected(self) -> None:  # noqa: B027 - most lines need not know
        """There is a new connection."""

    @abc.abstractmethod
    def deliver(self, direction: Direction, octets: bytes, other: socket.socket) -> bool:
        """Give `other` what it shall have of these octets; False breaks the connection."""

    def is_half_open(self, direction: Direction) -> bool:  # noqa: ARG002 - for those that know better
        """Whether the signer does not hear that the side which spoke in this direction has hung up."""
        return False

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._stopping, selectors.EVENT_READ)
            while all(key.fileobj is not self._stopping for key, _ in selector.select()):
                client, _ = self._listening.accept()
                with client, suppress(OSError), socket.socket(socket.AF_UNIX) as signer:
                    signer.connect(str(self._signer))
                    self.connected()
                    if self._carry(client, signer):
                        self._stack.enter_context(signer.dup())

    def _carry(self, client: socket.socket, signer: socket.socket) -> bool:
        """Until one side hangs up; whether the line is half open then."""
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ, ("to_signer", signer))
            selector.register(signer, selectors.EVENT_READ, ("to_client", client))
            selector.register(self._stopping, selectors.EVENT_READ, ("", self._stopping))
            while True:
                for key, _ in selector.select():
                    direction, other = key.data
                    if not direction:
                        return False
                    assert isinstance(key.fileobj, socket.socket)
                    octets = key.fileobj.recv(self.chunk_octets)
                    if not octets:
                        return self.is_half_open(direction)
                    if not self.deliver(direction, octets, other):
                        return False
