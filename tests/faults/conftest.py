"""One authority for all tests of this folder, and a copy of it for each.

Needs the `openssl` program (Debian: apt install openssl). `--faults=long` makes the randomised runs many times longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.faults.launcher import Launcher
from tests.faults.system import FaultySystem, copied, make_authority

# The name of a Unix socket has room for a hundred octets.
SHORT_NAME = "fa-"


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--faults") == "long")


@pytest.fixture(scope="package", autouse=True)
def _programs_are_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where writing bytecode is switched off, every program would compile all that it imports."""
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield
        return
    base = tmp_path_factory.getbasetemp()
    # The workers of pytest-xdist have a directory each, beside each other.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("PYTHONDONTWRITEBYTECODE")
        environment.setenv("PYTHONPYCACHEPREFIX", str(shared / "bytecode"))
        yield


@pytest.fixture(scope="package")
def launcher(_programs_are_compiled_once: None) -> Iterator[Launcher]:
    with Launcher() as started:
        yield started


@pytest.fixture(scope="package")
def authority(launcher: Launcher) -> Iterator[Path]:
    with TemporaryDirectory(prefix=SHORT_NAME) as directory:
        make_authority(Path(directory), launcher)
        yield Path(directory)


@pytest.fixture
def system(authority: Path, launcher: Launcher) -> Iterator[FaultySystem]:
    with TemporaryDirectory(prefix=SHORT_NAME) as directory, copied(authority, Path(directory), launcher) as made:
        yield made
