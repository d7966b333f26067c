"""A program that parses requests for the validator: whatever one of them does to a parser, it does it here.

Started by `looking` as `python -m cassiopeia.validation.look_worker DESCRIPTOR`, with a socket at that descriptor. It
holds no key, no database and no line. A CSR that parses, and that its key has signed, has a hash; any other has none.
"""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import sys
from typing import Final

import msgspec

from cassiopeia.core.csr import parse_certification_request, parse_spkac
from cassiopeia.core.request import KeyKind
from cassiopeia.errors import Refused
from cassiopeia.frames import FrameReader, frame
from cassiopeia.worker_process import bound_memory

LOOK_TIME_LIMIT_S: Final = 10
"""A request takes a millisecond; a parser that needs longer than this hangs."""
_RECEIVE_OCTETS: Final = 1 << 20


class LookTask(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Look at this CSR or SPKAC."""

    key_kind: KeyKind
    key_proof: bytes


class Look(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """SHA-256 of the SubjectPublicKeyInfo; empty, with the reason, for what the signer will not certify.

    `is_fatal`: nobody knows what it is, for looking at it ends the process that does.
    """

    key_hash: bytes = b""
    reason: str = ""
    is_fatal: bool = False


def main() -> None:
    """Answer tasks, in order, until the socket closes."""
    # Ctrl-C and a stop by systemd reach the whole group of processes; this one ends when the validator has.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    bound_memory()
    with socket.socket(fileno=int(sys.argv[1])) as stream, contextlib.suppress(ConnectionError):
        _serve(stream)


def look(task: LookTask) -> Look:
    """Parse and verify one request."""
    try:
        parse = parse_certification_request if task.key_kind == "csr" else parse_spkac
        key = parse(task.key_proof)
    except Refused as refusal:
        return Look(reason=refusal.message)
    return Look(key_hash=hashlib.sha256(key.subject_public_key_info).digest())


def _serve(stream: socket.socket) -> None:
    reader = FrameReader()
    decoder = msgspec.msgpack.Decoder(list[LookTask])
    while octets := stream.recv(_RECEIVE_OCTETS):
        for body in reader.feed(octets):
            for task in decoder.decode(body):
                # The validator ends a worker that hangs. Should it be gone itself, this does: SIGALRM kills.
                signal.alarm(2 * LOOK_TIME_LIMIT_S)
                answer = look(task)
                signal.alarm(0)
                stream.sendall(frame(answer))


if __name__ == "__main__":
    main()
