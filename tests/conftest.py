"""Rules for the whole suite: no test is skipped unseen, and nothing that a test started outlives the session.

In CI (the environment variable `CI` is set) a skip is a failure: there, everything that a test needs is installed.
`pytest.xfail()` in the middle of a test is a failure everywhere: it is a skip that looks like a result. (The mark
`xfail` lets the test run to its end, and is one.)
Every process that a test starts inherits a mark in its environment; one that still carries it when all tests are over
was forgotten: it is ended, and the session fails.
"""

from __future__ import annotations

import _ssl
import ctypes
import os
import signal
import time
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

MARK = "CASSIOPEIA_TEST_SESSION"
LEFT_RUNNING: pytest.StashKey[list[str]] = pytest.StashKey()
END_BY_THEMSELVES_S = 10.0

# A shared machine may stand still for a moment; an example must not fail for that.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here, because pytest asks no deeper folder for options when it runs the whole suite.
    parser.addoption(
        "--faults", choices=("short", "long"), default="short", help="how long tests/faults looks for faults at random"
    )


def pytest_configure(config: pytest.Config) -> None:
    if _is_controller(config):
        os.environ[MARK] = uuid.uuid4().hex


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_a_skip(report)
    if call.excinfo is not None and call.excinfo.errisinstance(pytest.xfail.Exception):
        report.outcome = "failed"
        report.longrepr = f"pytest.xfail() hides that nothing was tested; call pytest.skip(): {call.excinfo.value}"
        del report.wasxfail  # or the failure would count as expected
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_a_skip(report)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not _is_controller(session.config):
        return
    left = _left_running(os.environ[MARK])
    for process_id in left:
        os.kill(process_id, signal.SIGKILL)
    if left:
        session.config.stash[LEFT_RUNNING] = [f"{process_id}: {command}" for process_id, command in left.items()]
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left = config.stash.get(LEFT_RUNNING, [])
    if left:
        terminalreporter.section("left running by a test, and ended now", red=True)
        for line in left:
            terminalreporter.line(line)


def _is_controller(config: pytest.Config) -> bool:
    """Whether this is the session itself, not one of the workers that pytest-xdist starts."""
    return not hasattr(config, "workerinput")


def _fail_a_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, but in CI everything must run: {reason}"


def _left_running(mark: str) -> dict[int, str]:
    """The processes that tests have started and that do not end by themselves.

    A worker whose program was killed ends when it looks up from its work: from the import of a linter, for instance.
    """
    deadline = time.monotonic() + END_BY_THEMSELVES_S
    while left := dict(_marked_processes(mark)):
        if time.monotonic() > deadline:
            return left
        time.sleep(0.1)
    return {}


def _marked_processes(mark: str) -> Iterator[tuple[int, str]]:
    wanted = f"{MARK}={mark}".encode()
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal() or int(process.name) == os.getpid():
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            is_ours = wanted in (process / "environ").read_bytes().split(b"\0")
        except PermissionError:
            # It belongs to somebody else; or it is a program of ours, which lets nobody but root look into it.
            is_ours = _is_descendant(int(process.name))
        except OSError:  # it ended meanwhile
            continue
        if is_ours:
            yield int(process.name), command.strip()


def _is_descendant(process_id: int) -> bool:
    """Whether a process that the tests started has come of us, by its parents: one that lost its own is not found."""
    while process_id > 1:
        if process_id == os.getpid():
            return True
        try:
            stat = Path(f"/proc/{process_id}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        # proc_pid_stat(5): the name may have anything in it, and ends with the last parenthesis.
        process_id = int(stat.rpartition(")")[2].split()[1])
    return False


@pytest.fixture(autouse=True)
def no_errors_of_others() -> Iterator[None]:
    """Empty OpenSSL's queue of errors after each test.

    The libraries of tokens share it with Python's ssl, leave errors in it, and ssl may take the next one that it finds
    for its own. Programs of ours never do both in one process; the tests of all of them do. A Python that brings an
    OpenSSL of its own inside shares nothing, and shows no such function.
    """
    yield
    openssl = ctypes.CDLL(getattr(_ssl, "__file__", None))
    if hasattr(openssl, "ERR_clear_error"):
        openssl.ERR_clear_error()
