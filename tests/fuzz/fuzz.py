"""Coverage-guided fuzzing of what comes from outside: `python tests/fuzz/fuzz.py TARGET` (names: `TARGETS`).

Needs atheris (`pip install atheris`), which nothing else here needs; libFuzzer's options follow the target, for example
`-max_total_time=600 var/fuzz`. The suite runs the same functions over their seeds and mutated inputs.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

# Untyped, and nothing that a type checker must find installed.
atheris: Any = importlib.import_module("atheris")

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

with atheris.instrument_imports(include=["cassiopeia.protocol", "cassiopeia.journal", "cassiopeia.core"]):
    from tests.fuzz import evidence_target, journal_target, request_target, session_target

TARGETS = {
    "session": (session_target.exercise, session_target.seeds),
    "payload": (session_target.exercise_payload, session_target.payload_seeds),
    "journal": (journal_target.exercise_journal, journal_target.journal_seeds),
    "evidence": (evidence_target.exercise_evidence, evidence_target.evidence_seeds),
    "request": (request_target.fuzz_one_input, request_target.request_seeds),
}


def main() -> None:
    name = next((argument for argument in sys.argv[1:] if argument in TARGETS), "session")
    exercise, seeds = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"{name}-{number}").write_bytes(seed)
        options = [argument for argument in sys.argv[1:] if argument != name]
        # The first folder takes new inputs; seeds come last and are only read.
        atheris.Setup([sys.argv[0], *options, folder], lambda octets: exercise(octets) and None)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
