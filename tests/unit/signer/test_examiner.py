"""The examiner and its real process: what is compared with what, and that no death of it lets a key through."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.known_keys import modulus

from cassiopeia import worker_process
from cassiopeia.errors import PeerError
from cassiopeia.frames import frame
from cassiopeia.signer import examination, examiner
from cassiopeia.signer.examination import Examination, Examine, Examined, Remember, Remembered, read_answers
from cassiopeia.signer.examiner import Examiner

TIME_LIMIT_S = 20.0
A, B, C, D = modulus(0, 1), modulus(2, 3), modulus(4, 5), modulus(6, 7)
AB, BC = modulus(1, 2), modulus(3, 4)


class Loop:
    """The signer's loop, with nothing in it but the examiner, and a history that grows as the journal's does."""

    def __init__(self, history: Sequence[bytes] = (), **words: Any) -> None:
        self.selector = selectors.DefaultSelector()
        self.history = list(history)
        self.keep = True
        self.verdicts: dict[int, tuple[bytes, ...]] = {}
        self.examiner = Examiner(
            feed=self.feed,
            count=lambda: len(self.history),
            selector=self.selector,
            deliver=self.deliver,
            **words,
        )

    def feed(self, after: int, at_most: int) -> list[tuple[int, bytes]]:
        return list(enumerate(self.history, start=1))[after : after + at_most]

    def deliver(self, task: int, modulus: bytes, others: Sequence[bytes]) -> None:
        assert task not in self.verdicts, "a task was answered twice"
        self.verdicts[task] = tuple(others)
        if self.keep and not others and modulus not in self.history:
            self.history.append(modulus)

    def turn(self) -> None:
        patience = self.examiner.seconds_to_deadline()
        for key, mask in self.selector.select(0.05 if patience is None else min(patience, 0.05)):
            key.data(mask)
        self.examiner.check_time()
        self.examiner.pump()

    def run_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + TIME_LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; the verdicts are {self.verdicts}"
            self.turn()

    def ask(self, *moduli: bytes) -> list[tuple[bytes, ...]]:
        tasks = range(len(self.verdicts) + 1, len(self.verdicts) + 1 + len(moduli))
        for task, each in zip(tasks, moduli, strict=True):
            self.examiner.submit(task, each)
        self.run_until(lambda: self.verdicts.keys() >= set(tasks))
        return [self.verdicts[task] for task in tasks]

    def kill(self, signal_number: int = signal.SIGKILL) -> None:
        assert self.examiner.process_id is not None
        os.kill(self.examiner.process_id, signal_number)


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiner, "_RESPAWN_DELAY_S", 0.02)
    monkeypatch.setattr(worker_process, "_STOP_TIME_LIMIT_S", 0.3)


@pytest.fixture
def make() -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def start(history: Sequence[bytes] = (), **words: Any) -> Loop:
        made.append(Loop(history, **words))
        return made[-1]

    yield start
    for loop in made:
        loop.examiner.stop()
        loop.examiner.stop()
        loop.selector.close()


def program(tmp_path: Path, *lines: str) -> list[str]:
    """A process in the real one's place: `stream` is its socket, `say` sends a frame."""
    path = tmp_path / "examination.py"
    text = [
        "import os, socket, sys, time",
        "from cassiopeia.frames import frame",
        "from cassiopeia.signer.examination import Examined, Remembered",
        "stream = socket.socket(fileno=int(sys.argv[1]))",
        "say = lambda *answers: stream.sendall(frame(answers))",
        *lines,
    ]
    path.write_text("\n".join(text) + "\n")
    return [sys.executable, str(path)]


def test_keys_are_compared_with_the_history_and_with_each_other(make: Callable[..., Loop]) -> None:
    loop = make([A, B])
    assert loop.ask(C, AB, modulus(4, 6), D) == [(modulus(4, 6),), (A, B), (C, D), (modulus(4, 6),)]
    assert loop.ask(modulus(5, 7)) == [(C, D)]


def test_keys_of_the_signers_own_are_compared_too(make: Callable[..., Loop]) -> None:
    loop = make([B], also=[A])
    assert loop.ask(modulus(1, 7), C) == [(A,), ()]


def test_a_long_history_comes_in_pieces_and_keys_wait_for_all_of_it(
    make: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(examiner, "_FED_AT_ONCE", 1)
    loop = make([A, B, C])
    loop.examiner.submit(1, modulus(5, 6))
    assert loop.examiner.ready is False
    with caplog.at_level(logging.INFO):
        loop.run_until(lambda: loop.verdicts)
    assert loop.verdicts == {1: (C,)}
    assert "new RSA keys are compared with 3, read in" in caplog.text


def test_more_than_a_batch_takes_another(make: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examiner, "_BATCH_KEYS", 2)
    assert make().ask(A, B, C, AB, BC) == [(), (), (), (A, B), (B, C)]


def test_keys_that_were_let_through_by_nobody_are_forgotten(
    make: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "_MAXIMUM_SURPLUS", 2)
    loop = make([A])
    loop.keep = False
    assert loop.ask(B) == [()]
    first = loop.examiner.process_id
    assert loop.ask(C) == [()]
    assert loop.examiner.process_id == first
    # One too many: the next one is compared by another process, which knows the journal's alone.
    assert loop.ask(D) == [()]
    assert loop.ask(modulus(3, 5)) == [()]
    assert loop.examiner.process_id != first
    assert loop.ask(AB) == [(A,)]


def test_what_the_journal_has_meanwhile_is_no_surplus(
    make: Callable[..., Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner, "_MAXIMUM_SURPLUS", 1)
    loop = make()
    assert loop.ask(A, B) == [(), ()]
    first = loop.examiner.process_id
    assert [loop.ask(each) for each in (C, D)] == [[()], [()]]
    assert loop.examiner.process_id == first


def test_a_process_that_dies_is_replaced_and_knows_all_again(
    make: Callable[..., Loop], caplog: pytest.LogCaptureFixture
) -> None:
    loop = make([A])
    assert loop.ask(B) == [()]
    first = loop.examiner.process_id
    # 1. While it has nothing to do.
    loop.kill()
    assert loop.ask(AB) == [(A, B)]
    assert loop.examiner.process_id != first
    # 2. While a key is on its way to it, and another waits.
    loop.kill(signal.SIGSTOP)
    loop.examiner.submit(10, C)
    loop.examiner.pump()
    loop.examiner.submit(11, modulus(5, 6))
    loop.kill()
    loop.run_until(lambda: {10, 11} <= loop.verdicts.keys())
    assert (loop.verdicts[10], loop.verdicts[11]) == ((modulus(5, 6),), (C,))
    assert "is gone (status -9) and started again; 2 keys wait for it" in caplog.text
    assert list(loop.examiner.alarms()) == []


def test_a_process_that_dies_again_and_again_alarms_and_keys_wait(make: Callable[..., Loop], tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    lines = [f"if not os.path.exists({str(flag)!r}): os._exit(3)"]
    lines += ["from cassiopeia.signer.examination import Examination", "Examination().serve(stream)"]
    loop = make([A], command=program(tmp_path, *lines))
    loop.examiner.submit(1, AB)
    loop.run_until(lambda: list(loop.examiner.alarms()))
    (alarm,) = loop.examiner.alarms()
    assert "has ended 3 times in a row, and requests with new RSA keys wait" in alarm
    assert loop.verdicts == {}
    flag.touch()
    loop.run_until(lambda: loop.verdicts)
    assert loop.verdicts == {1: (A,)}
    assert list(loop.examiner.alarms()) == []


@pytest.mark.parametrize(
    "lie",
    [
        "stream.sendall(b'\\xff' * 64)",
        "say(Examined(others=[]))",
        "say(Remembered(count=0, library=''), Remembered(count=0, library=''))",
        "say()",
        "stream.sendall(b'\\0\\0\\0\\1\\xc1')",
        "say(Remembered(count=0, library='')); stream.recv(9); say(Examined(others=[[]]))",
    ],
)
def test_one_that_breaks_the_rules_is_replaced(
    make: Callable[..., Loop], tmp_path: Path, lie: str, caplog: pytest.LogCaptureFixture
) -> None:
    flag = tmp_path / "flag"
    lines = [
        f"if not os.path.exists({str(flag)!r}):",
        f"    open({str(flag)!r}, 'w')",
        f"    {lie}",
        "    time.sleep(60)",
    ]
    lines += ["from cassiopeia.signer.examination import Examination", "Examination().serve(stream)"]
    loop = make([A], command=program(tmp_path, *lines))
    assert loop.ask(AB) == [(A,)]
    assert "broke the rules between us" in caplog.text


def test_a_verdict_for_too_few_keys_is_none(make: Callable[..., Loop], tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    lines = [
        f"if not os.path.exists({str(flag)!r}):",
        f"    open({str(flag)!r}, 'w')",
        "    stream.recv(1 << 20); say(Remembered(count=0, library=''))",
        "    stream.recv(1 << 20); say(Examined(others=[[]])); time.sleep(60)",
        "from cassiopeia.signer.examination import Examination",
        "Examination().serve(stream)",
    ]
    loop = make(command=program(tmp_path, *lines))
    # The next process compares them one after the other.
    assert loop.ask(A, modulus(1, 5)) == [(), (A,)]


def test_one_that_hangs_is_ended(
    make: Callable[..., Loop], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flag = tmp_path / "flag"
    lines = [f"if not os.path.exists({str(flag)!r}):", f"    open({str(flag)!r}, 'w')", "    time.sleep(60)"]
    lines += ["from cassiopeia.signer.examination import Examination", "Examination().serve(stream)"]
    loop = make([A], command=program(tmp_path, *lines))
    loop.examiner.submit(1, AB)
    loop.run_until(flag.exists)
    monkeypatch.setattr(loop.examiner, "_deadline", 0.0)
    loop.run_until(lambda: loop.verdicts)
    assert loop.verdicts == {1: (A,)}
    assert "hung for 300 seconds and is ended" in caplog.text


# The process's side.


def test_without_gmp_python_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise OSError("libgmp.so.10: cannot open shared object file")

    monkeypatch.setattr(examination, "GmpArithmetic", absent)
    made = Examination()
    answer = made.answer(Remember(moduli=[A]))
    assert isinstance(answer, Remembered)
    assert (answer.count, answer.library) == (1, "Python; GMP (libgmp10) would be quicker")
    assert made.answer(Examine(moduli=[AB, D])) == Examined(others=[[A], []])


def test_what_is_no_answer_is_the_fault_of_the_process() -> None:
    assert read_answers(frame([Examined(others=[[b"1"]])])[4:]) == [Examined(others=[[b"1"]])]
    for body in (b"", b"\xc1", msgspec.msgpack.encode([{"type": "Examine", "moduli": []}])):
        with pytest.raises(PeerError, match="an answer that is none"):
            read_answers(body)


def test_memory_is_bounded_once_all_is_told_and_before_anything_is_compared() -> None:
    bounded: list[int] = []
    made = Examination(lambda: bounded.append(1))
    made.answer(Remember(moduli=[A]))
    assert not bounded
    made.answer(Examine(moduli=[B]))
    made.answer(Examine(moduli=[C]))
    assert bounded == [1]


def test_the_real_process_has_a_bound(make: Callable[..., Loop]) -> None:
    loop = make([A])
    loop.ask(B)
    limits = Path(f"/proc/{loop.examiner.process_id}/limits").read_text(encoding="ascii")
    (line,) = [each for each in limits.splitlines() if each.startswith("Max address space")]
    assert "unlimited" not in line


def test_what_it_learns_later_is_compared_from_then_on(make: Callable[..., Loop]) -> None:
    loop = make(also=[B])
    assert loop.ask(C) == [()]
    loop.examiner.remember([B, D])
    assert loop.examiner._untold == [D]
    assert loop.ask(modulus(6, 1)) == [(D,)]
    assert loop.examiner._untold == []


def test_what_it_learns_while_it_is_not_there_is_told_with_all_the_rest(make: Callable[..., Loop]) -> None:
    loop = make()
    loop.run_until(lambda: loop.examiner.ready)
    loop.kill()
    loop.examiner.remember([D])
    loop.run_until(lambda: loop.examiner.process_id is None or not loop.examiner.ready)
    assert loop.ask(modulus(6, 1)) == [(D,)]
