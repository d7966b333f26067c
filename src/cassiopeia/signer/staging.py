"""The process that unpacks a bundle which came over the line: what it is told, and what it answers.

Started by the front process as `python -P -m cassiopeia.signer.staging CONFIG DESCRIPTOR` for one bundle; it talks over
that one descriptor, in frames (`cassiopeia.frames`). CA keys go through its memory, and never through the front's. It
puts nothing in force. `bundle_desk` is the other side.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from pathlib import Path

import msgspec

from cassiopeia.config import load_signer_config
from cassiopeia.errors import OperatorError, PeerError, Unavailable
from cassiopeia.frames import FrameReader, frame
from cassiopeia.process_guard import guard_process, lock_memory
from cassiopeia.signer.installing import stage
from cassiopeia.worker_process import bound_memory


class Unpack(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """Verify this signed bundle, and unpack it beside the one in force."""

    bundle: bytes


class Unpacked(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """It lies in this directory, proved; `is_in_force`: it was installed already."""

    directory: str
    is_in_force: bool


class Unfit(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """It cannot be installed, for this reason; nothing of it is left."""

    reason: str


class NotNow(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """What is needed may come, as a token that is away; nothing of the bundle is left."""

    reason: str
    code: str
    retry_after_s: int


Answer = Unpacked | Unfit | NotNow

_question_decoder = msgspec.msgpack.Decoder(list[Unpack])
_answer_decoder = msgspec.msgpack.Decoder(list[Answer])


def read_answer(body: bytes) -> Answer:
    """Raises PeerError."""
    try:
        (answer,) = _answer_decoder.decode(body)
    except (msgspec.DecodeError, ValueError) as error:
        raise PeerError("the process that unpacks bundles sent an answer that is none") from error
    return answer


def unpack(config_path: Path, bundle: bytes) -> Answer:
    """Do it, by what the configuration says now."""
    try:
        staged = stage(load_signer_config(config_path), bundle, passphrase=None)
    except OperatorError as error:
        return Unfit(reason=str(error))
    except Unavailable as error:
        return NotNow(reason=error.message, code=error.code, retry_after_s=error.retry_after_s)
    return Unpacked(directory=str(staged.directory), is_in_force=staged.is_in_force)


def main() -> None:
    # There will be CA keys in memory.
    guard_process()
    lock_memory()
    # The front decides when to stop: a Ctrl-C on the terminal reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    bound_memory()
    lock_memory()
    path, descriptor = sys.argv[1:]
    # A front that has gone wants no answer.
    with socket.socket(fileno=int(descriptor)) as stream, contextlib.suppress(ConnectionError):
        reader = FrameReader()
        while octets := stream.recv(1 << 20):
            for body in reader.feed(octets):
                (question,) = _question_decoder.decode(body)
                stream.sendall(frame([unpack(Path(path), question.bundle)]))


if __name__ == "__main__":
    main()
