"""One authority for all tests of this folder, and a copy of it for each.

Needs the `openssl` program (Debian: apt install openssl). `--faults=long` makes the randomised runs many times longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.faults.launcher import Launcher
from tests.faults.system import FaultySystem, copied, make_authority
from tests.support.bytecode import compiled_once

# The name of a Unix socket has room for a hundred octets.
SHORT_NAME = "fa-"


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--faults") == "long")


@pytest.fixture(scope="package", autouse=True)
def _programs_are_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with compiled_once(tmp_path_factory):
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
