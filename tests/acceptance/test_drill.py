"""`python -m examples.drill`: a signer's disk is lost, an old one is put back, and the authority goes on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_drill_ends_with_nothing_lost() -> None:
    command = [sys.executable, "-m", "examples.drill"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=400)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert re.findall(r"^([1-9])\. ", done.stdout, re.MULTILINE) == list("123456789")
    assert done.stdout.count(": the same certificate\n") == 5
    assert done.stdout.count("Nothing is wrong.\n") == 3
    told = re.findall(r"(unassured_\d+_\d+): CRL number (\d+)", done.stdout)
    numbers = {name: [int(number) for each, number in told if each == name] for name, _ in told}
    assert len(numbers) == 2
    for first, second, *_ in numbers.values():
        assert first > 65_536
        assert second > 2 * 65_536
    assert "2 certificates are revoked, no less and no more" in done.stdout
    assert "3 certificates are revoked, no less and no more" in done.stdout
    halted = done.stdout.split("7. Somebody")[1].split("the request waits, and is not refused")[0]
    assert "signer 1 halted (the signer's journal is shorter than one that it signed" in halted
