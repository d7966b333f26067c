"""The signer starts with nothing installed but requirements/signer.txt: the promise behind "the signer has the fewest".

Needs a package index (the one that pip is configured for) or pip's cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

NOT_THE_SIGNERS = ("sqlalchemy", "alembic", "psycopg", "idna", "pkilint", "regex")

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import cassiopeia.signer
names = [module.name for module in pkgutil.walk_packages(cassiopeia.signer.__path__, "cassiopeia.signer.")]
for name in names:
    importlib.import_module(name)
print(len(names))
ours = {name for name in sys.modules if name.startswith("cassiopeia.")}
strangers = {name for name in ours if name.split(".")[1] in {"client", "store", "validation", "web", "ceremony"}}
assert not strangers, strangers
"""


@pytest.fixture(scope="module")
def signer_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("signer")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    python = directory / "bin" / "python"
    pip_install = (python, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "install")
    subprocess.run([*pip_install, "--require-hashes", "-r", ROOT / "requirements" / "signer.txt"], check=True)
    return python


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
    environment["PYTHONPATH"] = str(ROOT / "src")
    return subprocess.run(
        [python, "-W", "error", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_every_module_of_the_signer_is_importable(signer_python: Path) -> None:
    result = run(signer_python, "-c", IMPORT_EVERYTHING)

    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 0


def test_the_command_line_of_the_signer_starts(signer_python: Path) -> None:
    result = run(signer_python, "-m", "cassiopeia", "signer", "run", "--help")

    assert result.returncode == 0, result.stderr
    assert "Usage:" in result.stdout


def test_the_crypto_libraries_are_looked_at_without_their_extras(signer_python: Path) -> None:
    listed = run(signer_python, "-m", "cassiopeia", "backend", "list", "--json")
    checked = run(signer_python, "-m", "cassiopeia", "backend", "check")
    asked = run(signer_python, "-m", "cassiopeia", "backend", "check", "--backend", "pkcs11")

    assert (listed.returncode, listed.stderr) == (0, "")
    found = {each["name"]: each for each in json.loads(listed.stdout)["backends"]}
    # pyca/cryptography brings cffi, and so the libraries of the system are reached without an extra.
    assert [name for name, each in found.items() if not each["available"]] == ["pkcs11"]
    assert "(pip install 'cassiopeia-ca[pkcs11]')" in found["pkcs11"]["missing"]
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith(" checks, and nothing is wrong.\n")
    assert asked.returncode == 1
    assert "the crypto backend pkcs11 is not installed" in asked.stderr


@pytest.mark.parametrize(
    "module", ["cli.journal", "cli.journal_check", "cli.journal_source", "cli.signer", "backup", "restore"]
)
def test_what_operators_do_at_the_signers_machine_needs_no_more(signer_python: Path, module: str) -> None:
    result = run(signer_python, "-c", f"import cassiopeia.{module}")

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("module", NOT_THE_SIGNERS)
def test_what_the_database_side_needs_is_not_there(signer_python: Path, module: str) -> None:
    result = run(signer_python, "-c", f"import {module}")

    assert f"No module named '{module}'" in result.stderr
