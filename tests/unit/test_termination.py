"""Signals that a loop heeds when it is convenient."""

from __future__ import annotations

import os
import selectors
import signal
import threading
from collections.abc import Iterator

import pytest

from cassiopeia.termination import Termination, reload_deferred

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_loop_wakes_and_is_asked_to_end(number: signal.Signals) -> None:
    with selectors.DefaultSelector() as selector:
        termination = Termination(selector, reloads=True)
        os.kill(os.getpid(), number)
        [(key, mask)] = selector.select(10)
        key.data(mask)
        assert (termination.requested, termination.take_reload()) == (True, False)
        termination.close()


def test_a_reload_is_noted_once_and_ends_nothing() -> None:
    with selectors.DefaultSelector() as selector:
        termination = Termination(selector, reloads=True)
        os.kill(os.getpid(), signal.SIGHUP)
        [(key, mask)] = selector.select(10)
        key.data(mask)
        assert [termination.take_reload(), termination.take_reload()] == [True, False]
        assert not termination.requested
        termination.close()


def test_who_does_not_reload_leaves_the_signal_alone() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with selectors.DefaultSelector() as selector:
        termination = Termination(selector)
        assert signal.getsignal(signal.SIGHUP) is before
        termination.close()


def test_a_reload_that_comes_while_the_program_starts_is_not_lost() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # in the background it may be ignored
    with reload_deferred(), selectors.DefaultSelector() as selector:
        # Of this thread alone: with another one, that has it not blocked, it would end this process.
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
        termination = Termination(selector, reloads=True)
        assert termination.take_reload()
        termination.close()
    assert signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
    signal.signal(signal.SIGHUP, before)
