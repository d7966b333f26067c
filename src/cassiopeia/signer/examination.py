"""The process that compares RSA keys with all that were seen before: what it is told and asked, and what it answers.

Started by the front process as `python -m cassiopeia.signer.examination DESCRIPTOR`; it talks over that one descriptor,
in frames (`cassiopeia.frames`) of lists of one message, answers each, and keeps what it is told in memory alone. It
holds no key, reads no file and parses no request. `examiner` is the other side.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from cassiopeia.core.shared_factors import PythonArithmetic, SeenModuli
from cassiopeia.errors import PeerError
from cassiopeia.frames import FrameReader, frame
from cassiopeia.signer.gmp import GmpArithmetic
from cassiopeia.worker_process import bound_memory

# The front replaces this process when it knows twice as many keys as the journal, and some thousands; comparing takes
# less than what it then has. Beyond that something is wrong, and it ends before the machine has no memory left.
_GROWTH = 4


class Remember(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """These moduli (unsigned, big-endian) were seen before; they were compared when they were new."""

    moduli: list[bytes]


class Examine(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Compare these with all that were seen, and with each other; from now on they are seen, too."""

    moduli: list[bytes]


class Remembered(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """How many moduli it compares with now, and by which library."""

    count: int
    library: str


class Examined(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """For each modulus, in order, the others that it has a factor in common with."""

    others: list[list[bytes]]


Question = Remember | Examine
Answer = Remembered | Examined

_question_decoder = msgspec.msgpack.Decoder(list[Question])
_answer_decoder = msgspec.msgpack.Decoder(list[Answer])


def read_answers(body: bytes) -> list[Answer]:
    try:
        return _answer_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise PeerError("the examiner sent an answer that is none") from error


class Examination:
    """All that was seen, compared by the quickest arithmetic of this machine; `bound` is called once all is told."""

    def __init__(self, bound: Callable[[], None] = lambda: None) -> None:
        self._bound: Callable[[], None] | None = bound
        self._seen: SeenModuli[Any]
        try:
            self._seen, self._library = SeenModuli(GmpArithmetic()), "GMP"
        except OSError:
            self._seen, self._library = SeenModuli(PythonArithmetic()), "Python; GMP (libgmp10) would be quicker"

    def answer(self, question: Question) -> Answer:
        if isinstance(question, Remember):
            self._seen.remember(question.moduli)
            return Remembered(count=len(self._seen), library=self._library)
        if self._bound is not None:
            self._bound()
            self._bound = None
        return Examined(others=[list(others) for others in self._seen.examine(question.moduli)])

    def serve(self, stream: socket.socket) -> None:
        """Answer until the front closes the stream."""
        reader = FrameReader()
        while octets := stream.recv(1 << 20):
            for body in reader.feed(octets):
                stream.sendall(frame([self.answer(question) for question in _question_decoder.decode(body)]))


def main() -> None:
    # The front decides when to stop: a Ctrl-C on the terminal reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # A front that has gone wants no answer.
    with socket.socket(fileno=int(sys.argv[1])) as stream, contextlib.suppress(ConnectionError):
        Examination(lambda: bound_memory(times=_GROWTH)).serve(stream)


if __name__ == "__main__":
    main()
