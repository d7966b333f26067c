"""One running system for all tests that leave others alone; the whole of it driven from outside.

Needs the `openssl` program (Debian: apt install openssl).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from examples.system import System
from tests.support.acceptance import (
    QuickSystem,
    check_logs,
    make_authority,
    make_key,
    make_request,
    start,
    wait_for_crls,
)
from tests.support.bytecode import compiled_once
from tests.support.warm_commands import WarmCommands

SHORT_NAME = "ca-"
QUICK_KEYS = ("--unproved-profiles", "--key-algorithm", "P-256")


@pytest.fixture(scope="package", autouse=True)
def _commands_are_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with compiled_once(tmp_path_factory):
        yield


@pytest.fixture(scope="package")
def commands(_commands_are_compiled_once: None) -> Iterator[WarmCommands]:
    with WarmCommands() as warm:
        yield warm


@pytest.fixture(scope="package")
def running(commands: WarmCommands) -> Iterator[System]:
    """A signer and a client over a Unix socket, and a validator. Whatever a test submits here, all must live on."""
    with (
        TemporaryDirectory(prefix=SHORT_NAME) as directory,
        QuickSystem(directory=Path(directory), init_options=QUICK_KEYS, commands=commands) as system,
    ):
        make_authority(system)
        start(system)
        system.start_validator()
        wait_for_crls(system)
        yield system
        for name in ("validator", "client", "signer"):
            system.stop(name)
        check_logs(system)


@pytest.fixture
def quick_init() -> tuple[str, ...]:
    return QUICK_KEYS


@pytest.fixture
def short_path() -> Iterator[Path]:
    """As `tmp_path`, but short: the name of a Unix socket has room for a hundred octets."""
    with TemporaryDirectory(prefix=SHORT_NAME) as directory:
        yield Path(directory)


@pytest.fixture
def alone(short_path: Path, commands: WarmCommands) -> Iterator[System]:
    """A system of the test's own, made and not started."""
    with QuickSystem(directory=short_path, init_options=QUICK_KEYS, commands=commands) as system:
        make_authority(system)
        yield system


@pytest.fixture(scope="package")
def key(running: System) -> str:
    return make_key(running, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


@pytest.fixture(scope="package")
def csr(running: System, key: str) -> str:
    """A sound request by a P-256 key."""
    return make_request(running, key)
