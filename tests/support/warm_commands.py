"""Commands that start at once: each a process of its own, forked from one that has imported everything already.

Three hundred commands are most of what acceptance tests cost, and importing is most of what a command costs. What a
command does is the same: its arguments, its directory, its output, its exit status. Tests of starting itself (help,
the demo, the two services) take ordinary processes.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT_S = 120.0
_MESSAGE_OCTETS = 1 << 20
_MODULES = (
    *(f"cassiopeia.cli.{name}" for name in ("certificate", "client", "crl", "init", "main", "request", "status")),
    "cassiopeia.ceremony.installation",
    "cassiopeia.config",
    "cassiopeia.core.crl",
    "cassiopeia.store.database",
    "cassiopeia.store.submission",
)


class WarmCommands:
    """Use as a context manager; `run` may be called by several threads."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="warm-")
        self._path = f"{self._directory.name}/socket"

    def __enter__(self) -> Self:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._path)
            listening.listen()
            command = [sys.executable, "-m", "tests.support.warm_commands", str(listening.fileno())]
            self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[listening.fileno()])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._directory.cleanup()

    def run(self, arguments: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str]:
        """`cassiopeia` with these arguments, in this directory."""
        with (
            socket.socket(socket.AF_UNIX) as connection,
            tempfile.TemporaryFile("w+", encoding="utf-8") as output,
            tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        ):
            connection.settimeout(TIME_LIMIT_S)
            connection.connect(self._path)
            message = json.dumps([str(directory), *arguments]).encode()
            socket.send_fds(connection, [message], [output.fileno(), errors.fileno()])
            status = connection.recv(16)
            assert status, f"{' '.join(arguments)}: ended without a status"
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(list(arguments), int(status), output.read(), errors.read())


def serve(listening: socket.socket) -> None:
    """Fork a command for whoever connects, until SIGTERM."""
    for module in _MODULES:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    while True:
        connection, _ = listening.accept()
        with connection:
            if os.fork() == 0:
                listening.close()
                _carry_out(connection)


def _carry_out(connection: socket.socket) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE_OCTETS, 2)
    directory, *arguments = json.loads(message)
    os.chdir(directory)
    for standard, descriptor in zip((1, 2), descriptors, strict=True):
        os.dup2(descriptor, standard)
    status = 1
    try:
        importlib.import_module("cassiopeia.cli.main").main(arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.send(str(status).encode())
    os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
