"""Programs that look whether something still holds: started, bounded, and ended.

Owns their processes. Each runs without a shell, in a process group of its own, with nothing of ours open, for a limited
time; what it prints is read up to a limit. Status 0 and a method in its first line say that it saw; anything else says
that it did not. What an observation is made of, `renewal` knows.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Final

from cassiopeia.config import CheckProgram

OUTPUT_OCTETS: Final = 64 * 1024
"""What a program may print on each of its two outputs; one that prints more is ended."""
_MESSAGE_CHARACTERS: Final = 200
_METHOD = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?")
# What programs need to run at all; nothing else of our environment is theirs.
_PASSED_ON: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HOME", "SSL_CERT_DIR", "SSL_CERT_FILE")
_READ_OCTETS: Final = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """What is to be looked at."""

    kind: str
    value: str
    account: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a program said of a fact: the `method` by which it saw it; or, without one, the `reason` why it did not."""

    fact: Fact
    method: str
    reason: str


@dataclass(eq=False, kw_only=True)
class _Running:
    fact: Fact
    program: CheckProgram
    process: subprocess.Popen[bytes]
    deadline: float
    output: dict[IO[bytes], bytearray] = field(default_factory=dict)
    reading: set[IO[bytes]] = field(default_factory=set)
    fault: str = ""


class Checks:
    """At most `at_once` programs in the selector of the caller's loop, which calls `pump` every turn."""

    def __init__(
        self, *, at_once: int, selector: selectors.BaseSelector, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_once = at_once
        self._selector = selector
        self._clock = clock
        self._waiting: deque[tuple[Fact, CheckProgram]] = deque()
        self._running: list[_Running] = []
        self._under_way: set[Fact] = set()
        self._findings: list[Finding] = []

    def submit(self, fact: Fact, program: CheckProgram) -> None:
        """Look at a fact as soon as there is room; one that is under way is looked at once."""
        if fact not in self._under_way:
            self._under_way.add(fact)
            self._waiting.append((fact, program))

    def is_under_way(self, fact: Fact) -> bool:
        return fact in self._under_way

    def pump(self) -> list[Finding]:
        """Start what there is room for, end what takes too long; return what is known since the last time."""
        for each in self._running[:]:
            if not each.fault and self._clock() > each.deadline:
                self._end(each, f"took longer than {each.program.timeout_s} seconds")
            if not each.reading:
                self._take(each)
        while self._waiting and len(self._running) < self._at_once:
            self._start(*self._waiting.popleft())
        findings, self._findings = self._findings, []
        return findings

    def stop(self) -> None:
        """End every program, at once, and forget what waits."""
        self._waiting.clear()
        for each in self._running[:]:
            self._end(each, "the validator stops")
            self._take(each)
        self._findings.clear()

    def _start(self, fact: Fact, program: CheckProgram) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - the operator's own program, without a shell
                [*program.command, fact.kind, fact.value, fact.account],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(fact, os.environ),
                # A group of its own: what it starts ends with it.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._found(fact, reason=f"cannot be started ({reason}): {program.command[0]}")
            return
        running = _Running(fact=fact, program=program, process=process, deadline=self._clock() + program.timeout_s)
        self._running.append(running)
        for stream in (process.stdout, process.stderr):
            assert stream is not None  # noqa: S101 - both are pipes
            os.set_blocking(stream.fileno(), False)
            running.output[stream] = bytearray()
            running.reading.add(stream)
            self._selector.register(stream, selectors.EVENT_READ, self._reader(running, stream))

    def _reader(self, running: _Running, stream: IO[bytes]) -> Callable[[int], None]:
        def read(_mask: int) -> None:
            if stream not in running.reading:
                return  # ended by an event of the same turn
            try:
                octets = os.read(stream.fileno(), _READ_OCTETS)
            except BlockingIOError:
                return
            running.output[stream] += octets
            if not octets:
                self._close(running, stream)
            elif len(running.output[stream]) > OUTPUT_OCTETS:
                self._end(running, f"printed more than {OUTPUT_OCTETS} octets")

        return read

    def _close(self, running: _Running, stream: IO[bytes]) -> None:
        running.reading.discard(stream)
        self._selector.unregister(stream)
        stream.close()

    def _end(self, running: _Running, fault: str) -> None:
        running.fault = fault
        _kill_group(running.process)
        for stream in tuple(running.reading):
            self._close(running, stream)

    def _take(self, running: _Running) -> None:
        """What a program said that has closed its outputs; one that runs on behind them is ended in its time."""
        if not running.fault and not _has_ended(running.process):
            return
        _kill_group(running.process)  # and what it left behind
        status = running.process.wait()
        self._running.remove(running)
        output, errors = (bytes(each).decode("utf-8", "backslashreplace") for each in running.output.values())
        first = output.partition("\n")[0].strip()
        if running.fault:
            self._found(running.fact, reason=running.fault)
        elif status != 0:
            self._found(running.fact, reason=_last_words(errors) or f"ended with status {status}, and said nothing")
        elif not _METHOD.fullmatch(first):
            self._found(
                running.fact,
                reason=f"named no method in its first line, as dns or http: {_last_words(first) or 'empty'}",
            )
        else:
            self._found(running.fact, method=first)

    def _found(self, fact: Fact, *, method: str = "", reason: str = "") -> None:
        self._under_way.discard(fact)
        self._findings.append(Finding(fact=fact, method=method, reason=reason))


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without waiting for it: as long as nobody has, its process group is no one else's."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment(fact: Fact, ours: Mapping[str, str]) -> dict[str, str]:
    return {
        **{name: ours[name] for name in _PASSED_ON if name in ours},
        "CASSIOPEIA_KIND": fact.kind,
        "CASSIOPEIA_VALUE": fact.value,
        "CASSIOPEIA_ACCOUNT": fact.account,
    }


def _last_words(text: str) -> str:
    """The last line that says something, for people: bounded, and nothing in it steers a terminal."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in last)[:_MESSAGE_CHARACTERS]
