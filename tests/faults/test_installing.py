"""A bundle's installation that anything interrupts: a write that fails, a kill, a second one at the same time.

Whatever happens, what was in force is in force, and the same command afterwards succeeds.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.bundles import (
    BUNDLE_PASSPHRASE,
    FIRST,
    NOW,
    SECOND,
    SignerMachine,
    make_signer_machine,
    signed,
    signer_bundle,
)

from cassiopeia.errors import OperatorError
from cassiopeia.signer.configuration import own_entries
from cassiopeia.signer.installing import activate, stage
from cassiopeia.signer.worker import make_worker

# What changes a disk, as the code calls it.
CALLS = ("open", "fsync", "mkdir", "rename", "replace", "symlink", "chmod", "fchmod")


@pytest.fixture
def machine(tmp_path: Path) -> SignerMachine:
    """Bundle 1, with one sub-CA, is in force."""
    made = make_signer_machine(tmp_path / "signer")
    first = signed(signer_bundle(made.hierarchy, names=[FIRST]))
    activate(made.config, stage(made.config, first, passphrase=BUNDLE_PASSPHRASE, now=NOW))
    return made


@pytest.fixture
def second(machine: SignerMachine) -> bytes:
    return signed(signer_bundle(machine.hierarchy, number=2, keys=[SECOND]))


def install(machine: SignerMachine, octets: bytes) -> None:
    activate(machine.config, stage(machine.config, octets, passphrase=BUNDLE_PASSPHRASE, now=NOW))


class FailingDisk:
    """Every call that changes the disk counts, and one of them, by its number, fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, fail_at: int, error: int = errno.ENOSPC) -> None:
        self.calls = 0
        self._fail_at = fail_at
        self._error = error
        for name in CALLS:
            monkeypatch.setattr(os, name, self._guarded(getattr(os, name)))

    def _guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **named: Any) -> Any:
            # Opening for reading changes nothing.
            is_reading = call.__name__ == "open" and not arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not is_reading:
                self.calls += 1
                if self.calls == self._fail_at:
                    raise OSError(self._error, os.strerror(self._error))
            return call(*arguments, **named)

        return guarded


def test_the_first_bundle_of_a_machine_fails_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = make_signer_machine(tmp_path / "signer")
    octets = signed(signer_bundle(machine.hierarchy))
    before = machine.everything()

    for number in range(1, 30):
        with monkeypatch.context() as patched:
            FailingDisk(patched, fail_at=number, error=errno.EIO)
            with pytest.raises(OperatorError, match=os.strerror(errno.EIO)):
                stage(machine.config, octets, passphrase=BUNDLE_PASSPHRASE, now=NOW)
        left = {name: content for name, content in machine.everything().items() if name != "bundles"}
        assert left == before

    install(machine, octets)
    make_worker(machine.config)


def test_the_disk_fails_at_every_write_in_turn(
    machine: SignerMachine, second: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, was_switched = 0, 0
    while True:
        before = machine.everything()
        with monkeypatch.context() as patched:
            disk = FailingDisk(patched, fail_at=failed + 1)
            try:
                install(machine, second)
            except OperatorError as error:
                assert os.strerror(errno.ENOSPC) in str(error)  # noqa: PT017 - it may also succeed
            else:
                if disk.calls <= failed:
                    break
        failed += 1
        after = machine.everything()
        if machine.config.bundles.number == 1:
            staged = {name for name in after if name.startswith("bundles/0002")}
            assert {name: octets for name, octets in after.items() if name not in staged} == before
            make_worker(machine.config)
            # Whole, or not there at all.
            assert not staged or f"bundles/0002/keys/{SECOND}.key" in staged
            if staged:
                subprocess.run(["rm", "-r", machine.directory / "bundles/0002"], check=True)
        else:
            # The rename is what counts, and only the wait for the disk behind it failed.
            was_switched += 1
            (machine.directory / "bundles/current").unlink()
            (machine.directory / "bundles/current").symlink_to("0001")
            subprocess.run(["rm", "-r", machine.directory / "bundles/0002"], check=True)

    assert failed > 30
    assert was_switched == 1
    assert [each.authority.name for each in own_entries(machine.config)] == [FIRST, SECOND]


INSTALL = """
import os, sys, pathlib
from tests.support.bundles import BUNDLE_KEY, NOW
from cassiopeia import files, installations
from cassiopeia.config import load_signer_config
from cassiopeia.signer.installing import activate, stage

directory, bundle, passphrase, die_at = sys.argv[1:]
calls = 0

def dying(call):
    def wrapped(*arguments, **named):
        global calls
        calls += 1
        if calls == int(die_at):
            os.kill(os.getpid(), 9)
        return call(*arguments, **named)
    return wrapped

for name in ("fsync", "rename", "replace", "symlink", "mkdir"):
    setattr(os, name, dying(getattr(os, name)))
config = load_signer_config(pathlib.Path(directory) / "signer.toml")
staged = stage(config, pathlib.Path(bundle).read_bytes(), passphrase=passphrase.encode(), now=NOW)
activate(config, staged)
"""


@pytest.fixture
def kill_at(machine: SignerMachine, second: bytes, tmp_path: Path) -> Callable[[int], int]:
    (tmp_path / "second.bundle").write_bytes(second)

    def run(number: int) -> int:
        arguments = [str(machine.directory), str(tmp_path / "second.bundle"), BUNDLE_PASSPHRASE.decode(), str(number)]
        return subprocess.run(
            [sys.executable, "-c", INSTALL, *arguments], cwd=Path(__file__).parents[2], check=False
        ).returncode

    return run


@pytest.mark.parametrize("number", [1, 2, 5, 9, 14, 20, 26, 28, 30, 31, 32, 33])
def test_an_installation_that_was_killed_is_done_again(
    machine: SignerMachine, second: bytes, kill_at: Callable[[int], int], number: int
) -> None:
    status = kill_at(number)

    config = machine.config
    if config.bundles.number == 1:
        assert status == -9
        make_worker(config)
        install(machine, second)
    assert machine.config.bundles.number == 2
    make_worker(machine.config)
    assert [path.name for path in (machine.directory / "bundles").glob(".*")] == []


def test_what_was_staged_when_the_machine_died_can_be_put_in_force(machine: SignerMachine, second: bytes) -> None:
    staged = stage(machine.config, second, passphrase=BUNDLE_PASSPHRASE, now=NOW)

    # As a program does that was started afterwards, and knows only where it lies.
    activate(machine.config, type(staged)(directory=staged.directory, number=2, bundle_hash=staged.bundle_hash))

    assert machine.config.bundles.number == 2


def test_two_installations_at_once_do_not_meet(machine: SignerMachine, second: bytes) -> None:
    third = signed(signer_bundle(machine.hierarchy, number=3))
    code = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
    bundles = machine.directory / "bundles"
    with subprocess.Popen(
        [sys.executable, "-c", code, bundles], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        before = machine.everything()
        with pytest.raises(OperatorError, match="another bundle is being installed; wait until that is done"):
            stage(machine.config, third, passphrase=BUNDLE_PASSPHRASE, now=NOW)
        assert machine.everything() == before
        assert other.stdin is not None
        other.stdin.close()
        other.wait()
    install(machine, third)
    with pytest.raises(OperatorError, match="its number is 2, and 3 is in force"):
        stage(machine.config, second, passphrase=BUNDLE_PASSPHRASE, now=NOW)
