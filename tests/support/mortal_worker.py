"""The signer's real worker with parsers that have faults: what a hostile request may find one day.

Started in the real one's place, with the same arguments. A parser is struck by the words that stand anywhere in what it
is to read; the file `MET` beside the configuration tells of it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from cassiopeia.core import csr, evidence, policy
from cassiopeia.signer import worker

MET = "met"


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> None:
    while True:
        pass


def _eat() -> None:
    eaten: list[bytearray] = []
    while True:
        eaten.append(bytearray(b"x" * (1 << 24)))


def _fall() -> None:
    _fall()


# Whatever the fault, it is the last thing that this process does.
FAULTS: dict[str, Callable[[], None]] = {"crash": _crash, "hang": _hang, "eat": _eat, "fall": _fall}


def word(fault: str) -> str:
    """What a request has to hold so that a parser does this."""
    return f"{fault}.hostile.example"


def mortal(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse_or_die(octets: bytes) -> Any:
        for fault, strike in FAULTS.items():
            if word(fault).encode() in octets:
                with Path(sys.argv[1]).with_name(MET).open("a", encoding="ascii") as file:
                    file.write(f"{fault}\n")
                strike()
        return parse(octets)

    return parse_or_die


def main() -> None:
    with (
        mock.patch.object(policy, "parse_certification_request", mortal(csr.parse_certification_request)),
        mock.patch.object(evidence, "read_observation", mortal(evidence.read_observation)),
    ):
        worker.main()


if __name__ == "__main__":
    main()
