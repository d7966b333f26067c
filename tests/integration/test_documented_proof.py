"""docs/journal.md tells a stranger how to check a proof and an export by hand: both are run here, word for word.

Needs openssl 3, bash and sha256sum (Debian: apt install openssl).
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.journal_maker import JournalMaker, full_journal, journal_key
from tests.support.journal_sites import export_file, write_public_key

from cassiopeia.cli.main import cassiopeia

DOCUMENT = (Path(__file__).parents[2] / "docs" / "journal.md").read_text(encoding="utf-8")


def snippet(language: str, first: str) -> str:
    """The block of code that begins with this comment."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if block.startswith(first))
    return found


def run(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def made() -> JournalMaker:
    return full_journal()


@pytest.fixture
def place(made: JournalMaker, tmp_path: Path) -> Path:
    """A directory with what the stranger has."""
    export_file(tmp_path / "journal.export", made)
    write_public_key(tmp_path / "journal.pem", journal_key(3))
    arguments = ["journal", "prove", made.serial(4).hex(), "--file", f"{tmp_path}/journal.export"]
    arguments += ["--out", f"{tmp_path}/proof.json"]
    assert CliRunner().invoke(cassiopeia, arguments).exit_code == 0
    return tmp_path


def check_proof(place: Path) -> subprocess.CompletedProcess[str]:
    return run(place, "bash", "-c", snippet("bash", "# Check a proof"))


def test_a_stranger_checks_a_proof(made: JournalMaker, place: Path) -> None:
    done = check_proof(place)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Signature Verified Successfully\n"
        f"entry 4 of {made.size}: intent\n"
        f"entry 5 of {made.size}: confirmation\n"
        f"entry 6 of {made.size}: result\n"
        f"entry 14 of {made.size}: revocation\n"
    )


@pytest.mark.parametrize("index", [1, 2, 3, 16, 28, 29])
def test_a_stranger_checks_every_place(made: JournalMaker, place: Path, index: int) -> None:
    """Whatever the shape of the path."""
    from cassiopeia.journal.proof import Proof, ProvedEntry, encode_proof  # noqa: PLC0415 - only here
    from cassiopeia.journal.replay import Replay  # noqa: PLC0415 - only here

    replay = Replay()
    for log in made.logs:
        replay.append(log)
    proved = ProvedEntry(log=made.logs[index - 1], path=replay.prove(index, made.size))
    proof = Proof(entries=(proved,), head=made.signed_head(), public_key=b"")
    (place / "proof.json").write_bytes(encode_proof(proof))

    assert f"entry {index} of {made.size}: " in check_proof(place).stdout


def test_a_stranger_finds_a_wrong_key(place: Path) -> None:
    write_public_key(place / "journal.pem", journal_key(2))

    done = check_proof(place)

    assert done.returncode != 0
    assert "entry" not in done.stdout


@pytest.mark.parametrize("field", ["entry", "parts", "path"])
def test_a_stranger_finds_a_lie(place: Path, field: str) -> None:
    proof = json.loads((place / "proof.json").read_text())
    shown = proof["entries"][0]
    if field == "path":
        shown["path"][0] = "00" * 32
    elif field == "parts":
        shown["parts"] = [base64.b64encode(b"another part").decode()]
    else:
        octets = bytearray(base64.b64decode(shown["entry"]))
        octets[-1] ^= 1
        shown["entry"] = base64.b64encode(octets).decode()
    (place / "proof.json").write_text(json.dumps(proof))

    done = check_proof(place)

    assert done.returncode != 0
    assert "entry" not in done.stdout


def test_a_stranger_checks_an_export(made: JournalMaker, place: Path) -> None:
    done = run(place, sys.executable, "-c", snippet("python", "# Check an export"))

    proof = json.loads((place / "proof.json").read_text())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{made.size} {proof['root_hash']}\n"


def test_a_stranger_finds_a_lie_in_an_export(place: Path) -> None:
    lines = (place / "journal.export").read_text().splitlines()
    del lines[5]
    (place / "journal.export").write_text("\n".join(lines))

    assert "entry 5 does not follow" in run(place, sys.executable, "-c", snippet("python", "# Check an export")).stderr
