"""Keys that end the process which compares them, or keep it busy for too long: all others go on."""

from __future__ import annotations

import selectors
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.support.known_keys import modulus

from cassiopeia import worker_process
from cassiopeia.signer import examiner
from cassiopeia.signer.examiner import Examiner

TIME_LIMIT_S = 20.0
POISON = modulus(0, 1)
SOUND = [modulus(2, 3), modulus(4, 5), modulus(6, 7)]
# Dies of one key, as if to compare it took for ever.
PROGRAM = """
import os, socket, sys
from cassiopeia.signer import examination
class Fragile(examination.Examination):
    def answer(self, question):
        if isinstance(question, examination.Examine) and bytes.fromhex(sys.argv[1]) in question.moduli:
            os._exit(3)
        return super().answer(question)
Fragile().serve(socket.socket(fileno=int(sys.argv[2])))
"""


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as made:
        yield made


def test_a_key_that_ends_the_process_holds_up_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, selector: selectors.BaseSelector
) -> None:
    monkeypatch.setattr(examiner, "_RESPAWN_DELAY_S", 0.02)
    monkeypatch.setattr(worker_process, "_STOP_TIME_LIMIT_S", 0.3)
    program = tmp_path / "fragile.py"
    program.write_text(PROGRAM)
    verdicts: dict[int, tuple[bytes, ...]] = {}

    def deliver(task: int, _: bytes, others: Sequence[bytes]) -> None:
        verdicts[task] = tuple(others)

    made = Examiner(
        count=lambda: 0,
        feed=lambda _after, _at_most: [],
        selector=selector,
        deliver=deliver,
        command=[sys.executable, str(program), POISON.hex()],
    )
    try:
        for task, each in enumerate([SOUND[0], POISON, *SOUND[1:]]):
            made.submit(task, each)
        deadline = time.monotonic() + TIME_LIMIT_S
        while len(verdicts) < len(SOUND):
            assert time.monotonic() < deadline, f"waited in vain: {verdicts}"
            for key, mask in selector.select(0.05):
                key.data(mask)
            made.pump()
        assert verdicts == {0: (), 2: (), 3: ()}
    finally:
        made.stop()
