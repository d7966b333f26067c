"""The end of worker processes that the kernel does not let go."""

from __future__ import annotations

import selectors
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cassiopeia import worker_process
from cassiopeia.worker_process import WorkerProcess, stop


class Held(subprocess.Popen[bytes]):
    """One whose kill takes no effect before it is let go: it is in the hands of a driver."""

    held = True

    def wait(self, timeout: float | None = None) -> int:
        assert timeout is not None, "nobody waits for ever"
        if self.held:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return super().wait(timeout)

    def poll(self) -> int | None:
        return None if self.held else super().poll()


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as made:
        yield made


def start(selector: selectors.BaseSelector) -> WorkerProcess:
    return WorkerProcess(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        selector=selector,
        hear=lambda _body: None,
        lost=lambda _fault: None,
    )


@pytest.mark.parametrize("by_stop", [False, True])
def test_nobody_waits_for_a_process_that_is_killed_and_does_not_end(
    selector: selectors.BaseSelector, monkeypatch: pytest.MonkeyPatch, *, by_stop: bool
) -> None:
    with monkeypatch.context() as held:
        held.setattr("cassiopeia.worker_process.subprocess.Popen", Held)
        worker = start(selector)
    if by_stop:
        stop([worker])
    else:
        assert worker.end() is None
    assert worker_process._unreaped == [worker.process]
    # Whoever ends the next one looks after it.
    worker.process.held = False  # type: ignore[attr-defined] # of the test's class
    worker.process.wait(10)
    assert start(selector).end() == -9
    assert worker_process._unreaped == []
