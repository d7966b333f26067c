"""Starts a real `cassiopeia` with a plan for its misfortunes (`Plan`).

What the plan asks for is put in place before the command line takes over, from outside: production code has no word
for any of it but `cassiopeia.steps.watcher`. Each program is a process of its own, forked from one that has imported
everything already (`serve`), because starting hundreds of them costs more than what they are tested for.
"""

from __future__ import annotations

import datetime as dt
import importlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, Self

import msgspec
from tests.faults import invariants, sqlite_faults
from tests.faults.sqlite_faults import DIE_AFTER, DIE_BEFORE, DO_IT, Operation, Verdict

from cassiopeia import steps

# The client's wall clock; the signer's is `time.time`, which `signer.clock` reads.
CLIENT_CLOCK: Final = "cassiopeia.client.worker._now"
ROOT: Final = Path(__file__).resolve().parents[2]
_TORN_OCTETS = 100
_MESSAGE_OCTETS = 1 << 20
_MODULES = (
    *(f"cassiopeia.cli.{name}" for name in ("client", "main", "signer")),
    "cassiopeia.client.worker",
    "cassiopeia.config",
    "cassiopeia.signer.service",
    "cassiopeia.store.database",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskFault:
    """What happens to the `nth` operation of this kind on files whose names end with `file`, and, with `on`, to all
    that follow, until there is a file `until`."""

    kind: sqlite_faults.Kind
    do: Literal["io-error", "full", "torn", "kill-before", "kill-after"]
    file: str = ""
    nth: int = 1
    on: bool = False
    until: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`kill` ends the process when the step of this name is reached for the `nth` time; `pause` only stops it there.

    `constants` are set before anything runs, by their full names. `clock_s` is added to the wall clock, `boot_s` to
    the seconds since the machine was started. Nothing is counted or added before the file `armed_by` exists; without
    one, everything from the start. `environment` is what the programs that it starts find there. `trace` is a file
    that gets the name of every step that was reached, a line each, and `heard` one that gets what the peer said
    (`invariants.Fact`, JSON), both whether armed or not.
    """

    kill: str = ""
    nth: int = 1
    pause: bool = False
    disk: tuple[DiskFault, ...] = ()
    clock_s: float = 0.0
    boot_s: float = 0.0
    constants: dict[str, float] = field(default_factory=dict)
    armed_by: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    trace: str = ""
    heard: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What to start where."""

    directory: str
    arguments: list[str]
    plan: Plan


class Program:
    """A program that was started: what `subprocess.Popen` can do, as far as it is used."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._said = b""
        self.returncode: int | None = None
        while b" " not in self._said:
            self._hear(None)
        self.pid = int(self._said.split(b" ")[0])

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        while self.returncode is None:
            self._hear(timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _hear(self, timeout: float | None) -> None:
        ready, _, _ = select.select([self._connection], [], [], timeout)
        if not ready:
            raise subprocess.TimeoutExpired("cassiopeia", timeout or 0)
        octets = self._connection.recv(64)
        self._said += octets
        if not octets:
            self.returncode = int(self._said.split(b" ")[1])
            self._connection.close()


class Launcher:
    """Use as a context manager."""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="launcher-")
        self._path = f"{self._directory.name}/socket"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self._path)
            listening.listen()
            command = [sys.executable, "-m", "tests.faults.launcher", str(listening.fileno())]
            environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, pass_fds=[listening.fileno()])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._directory.cleanup()

    def start(self, launch: Launch, *, log: Path) -> Program:
        """Start a program that writes what it prints to the end of `log`."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        with log.open("ab") as file:
            socket.send_fds(connection, [msgspec.json.encode(launch)], [file.fileno()])
        return Program(connection)


class Misfortune:
    """The plan at work in this process."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._armed = not plan.armed_by
        self._steps = 0
        self._operations: Counter[DiskFault] = Counter()

    def install(self, program: str) -> None:
        plan = self._plan
        for name, value in plan.constants.items():
            module, constant = _find(name)
            assert hasattr(module, constant), f"there is no {name}"
            setattr(module, constant, value)
        if plan.clock_s or plan.boot_s:
            self._shift_clocks(program)
        if plan.heard:
            self._listen()
        if plan.kill or plan.trace:
            steps.watcher = self.reached
        if plan.disk:
            sqlite_faults.observe(self.judge)

    def reached(self, step: str) -> None:
        """Note the step, and perhaps end there."""
        if self._plan.trace:
            _append(self._plan.trace, step)
        if step != self._plan.kill or not self._is_armed():
            return
        self._steps += 1
        if self._steps == self._plan.nth:
            os.kill(os.getpid(), signal.SIGSTOP if self._plan.pause else signal.SIGKILL)

    def judge(self, operation: Operation) -> Verdict:
        """What becomes of what SQLite is about to do."""
        if not self._is_armed():
            return DO_IT
        for fault in self._plan.disk:
            if fault.kind != operation.kind or not operation.path.endswith(fault.file):
                continue
            if fault.until and Path(fault.until).exists():
                continue
            self._operations[fault] += 1
            count = self._operations[fault]
            if count == fault.nth or (fault.on and count > fault.nth):
                return _verdict(fault, operation)
        return DO_IT

    def _shift_clocks(self, program: str) -> None:
        wall, clock, shift = time.time, time.clock_gettime, self._plan.clock_s
        time.time = lambda: wall() + (shift if self._is_armed() else 0)
        time.clock_gettime = lambda number: (
            clock(number) + (self._plan.boot_s if number == time.CLOCK_BOOTTIME and self._is_armed() else 0)
        )
        if program == "signer":
            defaults = importlib.import_module("cassiopeia.signer.clock").Clock.__init__.__kwdefaults__
            assert defaults["wall"] is wall
            defaults["wall"] = time.time
        else:
            module, function = _find(CLIENT_CLOCK)
            now = getattr(module, function)
            setattr(module, function, lambda: now() + dt.timedelta(seconds=shift if self._is_armed() else 0))

    def _listen(self) -> None:
        """Note what the peer says, as soon as the session has understood it."""
        session, path = importlib.import_module("cassiopeia.protocol.session").Session, self._plan.heard
        receive = session.receive

        def receive_and_note(self: Any, octets: bytes) -> Any:
            events = receive(self, octets)
            for event in events:
                for fact in invariants.facts(event):
                    _append(path, msgspec.json.encode(fact).decode())
            return events

        session.receive = receive_and_note

    def _is_armed(self) -> bool:
        self._armed = self._armed or Path(self._plan.armed_by).exists()
        return self._armed


def _verdict(fault: DiskFault, operation: Operation) -> Verdict:
    match fault.do:
        case "io-error":
            return Verdict(code=sqlite_faults.IOERR_FSYNC if fault.kind == "sync" else sqlite_faults.IOERR_WRITE)
        case "full":
            return Verdict(code=sqlite_faults.FULL)
        case "torn":
            return Verdict(first=min(_TORN_OCTETS, len(operation.octets) // 2), die=True)
        case "kill-before":
            return DIE_BEFORE
        case "kill-after":
            return DIE_AFTER


def _find(name: str) -> tuple[Any, str]:
    module, _, attribute = name.rpartition(".")
    return importlib.import_module(module), attribute


def _append(path: str, line: str) -> None:
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def serve(listening: socket.socket) -> None:
    """Start a program for whoever connects, until SIGTERM; the connection hears its process id and its end."""
    for module in _MODULES:
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the keepers
    while True:
        connection, _ = listening.accept()
        with connection:
            if os.fork() == 0:
                listening.close()
                _keep(connection)


def _keep(connection: socket.socket) -> NoReturn:
    """Start one program, and wait for its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, (log, *_), _, _ = socket.recv_fds(connection, _MESSAGE_OCTETS, 1)
    process_id = os.fork()
    if process_id == 0:
        connection.close()
        _become(message, log)
    os.close(log)
    connection.sendall(f"{process_id} ".encode())
    _, status = os.waitpid(process_id, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(message: bytes, log: int) -> NoReturn:
    launch = msgspec.json.decode(message, type=Launch)
    os.chdir(launch.directory)
    for standard in (1, 2):
        os.dup2(log, standard)
    os.close(log)
    status = 1
    try:
        os.environ.update(launch.plan.environment)
        Misfortune(launch.plan).install(launch.arguments[0])
        importlib.import_module("cassiopeia.cli.main").main(launch.arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
