"""Starts a real `cassiopeia` with a plan for its misfortunes: `python -m tests.faults.launcher PLAN COMMAND...`.

PLAN is JSON (`Plan`). What it asks for is put in place before the command line takes over, from outside: production
code has no word for any of it but `cassiopeia.steps.watcher`.
"""

from __future__ import annotations

import datetime as dt
import importlib
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

import msgspec
from tests.faults import invariants, sqlite_faults
from tests.faults.sqlite_faults import DIE_AFTER, DIE_BEFORE, DO_IT, Operation, Verdict

from cassiopeia import steps

# The client's wall clock; the signer's is `time.time`, which `signer.clock` reads.
CLIENT_CLOCK: Final = "cassiopeia.client.worker._now"
_TORN_OCTETS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class DiskFault:
    """What happens to the `nth` operation of this kind on files whose names end with `file`, and, with `on`, to all
    that follow."""

    kind: sqlite_faults.Kind
    do: Literal["io-error", "full", "torn", "kill-before", "kill-after"]
    file: str = ""
    nth: int = 1
    on: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`kill` ends the process when the step of this name is reached for the `nth` time; `pause` only stops it there.

    `constants` are set before anything runs, by their full names. `clock_s` is added to the wall clock, `boot_s` to the
    seconds since the machine was started. Nothing is counted or added before the file `armed_by` exists; without one,
    everything from the start. `trace` is a file that gets the name of every step that was reached, a line each, and
    `heard` one that gets what the peer said (`invariants.Fact`, JSON), both whether armed or not.
    """

    kill: str = ""
    nth: int = 1
    pause: bool = False
    disk: tuple[DiskFault, ...] = ()
    clock_s: float = 0.0
    boot_s: float = 0.0
    constants: dict[str, float] = field(default_factory=dict)
    armed_by: str = ""
    trace: str = ""
    heard: str = ""


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
            self._operations[fault] += 1
            count = self._operations[fault]
            if count == fault.nth or (fault.on and count > fault.nth):
                return _verdict(fault, operation)
        return DO_IT

    def _shift_clocks(self, program: str) -> None:
        """Before anything of ours is imported: `signer.clock` takes these functions as it finds them."""
        wall, clock, shift = time.time, time.clock_gettime, self._plan.clock_s
        time.time = lambda: wall() + (shift if self._is_armed() else 0)
        time.clock_gettime = lambda number: (
            clock(number) + (self._plan.boot_s if number == time.CLOCK_BOOTTIME and self._is_armed() else 0)
        )
        if program == "client":
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


def encode(plan: Plan) -> str:
    return msgspec.json.encode(plan).decode()


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


def main(arguments: list[str]) -> NoReturn:
    plan = msgspec.json.decode(arguments[0], type=Plan)
    Misfortune(plan).install(arguments[1])
    importlib.import_module("cassiopeia.cli.main").main(arguments[1:])
    raise AssertionError("the command line ends by SystemExit")


if __name__ == "__main__":
    main(sys.argv[1:])
