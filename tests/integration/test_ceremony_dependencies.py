"""A ceremony needs no database, no web server and no network: the machine has what the extra `ceremony` brings."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]

# Whatever another extra brings is as good as not installed, and nobody gets a connection.
ALONE = """
import socket, sys
missing = set(sys.argv.pop(1).split(","))
class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Nothing())
def connect(*_):
    raise AssertionError("a connection")
socket.socket.connect = socket.socket.bind = connect
from cassiopeia.cli.main import main
main(sys.argv[1:])
"""


def missing_packages() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        name: {Requirement(each).name for each in listed} for name, listed in project["optional-dependencies"].items()
    }
    needed = extras.pop("ceremony") | {Requirement(each).name for each in project["dependencies"]}
    return set().union(*extras.values()) - needed


@pytest.fixture
def place(tmp_path: Path) -> Path:
    hierarchy = (ROOT / "src" / "cassiopeia" / "ceremony" / "default.toml").read_text(encoding="utf-8")
    (tmp_path / "hierarchy.toml").write_text(hierarchy.replace('"RSA-4096"', '"P-256"'), encoding="utf-8")
    return tmp_path


def run(place: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    environment["PYTHONPATH"] = str(ROOT / "src")
    command = [sys.executable, "-W", "error", "-c", ALONE, ",".join(sorted(missing_packages())), "ceremony"]
    done = subprocess.run(
        [*command, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_other_extras_are_really_left_out() -> None:
    assert {"sqlalchemy", "alembic", "idna", "psycopg", "starlette", "uvicorn"} <= missing_packages()
    assert not {"pkilint", "shamir-mnemonic", "click", "cryptography", "msgspec"} & missing_packages()


def test_a_whole_ceremony_needs_no_more(place: Path) -> None:
    run(place, "plan", "hierarchy.toml")
    run(place, "run", "hierarchy.toml", "--out", "first", "--shares", "3", "--threshold", "2")
    shares = ["first/shares/share-1.txt", "first/shares/share-3.txt"]
    opened_by = ["--offline", "first/offline.bundle", *(f"--share={each}" for each in shares)]
    assert "Together they open it" in run(place, "share", "check", *shares, "--offline", "first/offline.bundle")
    run(place, "crl", *opened_by, "--out", "second")
    run(place, "share", "reshare", *opened_by, "--out", "third")
    assert (place / "third" / "shares" / "share-5.txt").exists()
