"""A running signer finds another bundle in force on the disk, and takes it over by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.running_signer import RunningSigner
from tests.unit.signer.test_takeover import NEXT_CA, add_authority, replayed, request, status

from cassiopeia.config import CURRENT
from cassiopeia.signer import takeover as takeover_module


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningSigner]:
    made = RunningSigner(tmp_path)
    made.run_until(lambda: made.ready)
    yield made
    made.stop()


def unpack(running: RunningSigner, number: int) -> Path:
    """What an installed bundle looks like: all that the signer has now."""
    place = running.directory / "bundles" / f"{number:04d}"
    place.mkdir(parents=True)
    for each in ["authorities.toml", *(path.name for path in running.directory.glob("*.pem"))]:
        (place / each).write_bytes((running.directory / each).read_bytes())
    for path in running.directory.glob("*.key"):
        (place / path.name).write_bytes(path.read_bytes())
        (place / path.name).chmod(0o600)
    (place / "profiles").mkdir()
    for path in (running.directory / "profiles").iterdir():
        (place / "profiles" / path.name).write_bytes(path.read_bytes())
    (place / "pins.toml").write_text("", encoding="utf-8")
    return place


def switch(running: RunningSigner, number: int) -> None:
    """Put it in force, as whoever installs it does: by one rename."""
    bundles = running.directory / "bundles"
    (bundles / "next").symlink_to(f"{number:04d}")
    (bundles / "next").rename(bundles / CURRENT)


def house_kept(running: RunningSigner) -> None:
    """Housekeeping notices, and the takeover comes to its end."""
    running.signer._next_housekeeping = 0.0
    running.turn()
    running.run_until(lambda: not running.signer._takeover.pending)


def names(running: RunningSigner) -> list[str]:
    return [each.name for each in status(running).authorities]


def not_in_force(running: RunningSigner) -> list[str]:
    return [each for each in status(running).alarms if "not in force" in each]


def test_a_bundle_that_comes_into_force_is_taken_over(running: RunningSigner) -> None:
    house_kept(running)
    assert running.signer._loaded.config.bundles.installed is None
    unpack(running, 1)
    add_authority(running.directory / "bundles/0001")
    house_kept(running)
    before = names(running)
    switch(running, 1)
    house_kept(running)
    assert names(running) == [*before, NEXT_CA]
    handle = request(running)
    running.run_until(lambda: handle in running.answered)
    assert handle in running.issued
    pool = running.signer._pool
    house_kept(running)
    assert running.signer._pool is pool  # the same one is not taken over again
    assert replayed(running)[0].kinds["configuration"] == 2


def test_a_bundle_that_cannot_be_used_leaves_the_one_before_it_in_force(
    running: RunningSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack(running, 1)
    switch(running, 1)
    house_kept(running)
    key = unpack(running, 2) / "ca.key"
    octets = key.read_bytes()
    key.write_bytes(b"no key")
    switch(running, 2)
    house_kept(running)
    [alarm] = not_in_force(running)
    assert "cannot unlock this CA key" in alarm
    # A worker that dies is replaced by one of the bundle that is in force here.
    running.run_until(lambda: running.ready)
    victim = running.signer._pool._members[0].worker.pid
    os.kill(victim, signal.SIGKILL)
    running.run_until(lambda: running.ready and victim not in [m.worker.pid for m in running.signer._pool._members])
    assert not running.signer._pool.failure
    # It is tried again now and then, and not at every look.
    pending = []
    running.signer._takeover.look()
    pending.append(running.signer._takeover.pending)
    monkeypatch.setattr(takeover_module, "_RETRY_S", 0.0)
    key.write_bytes(octets)
    running.signer.take_over("SIGHUP")
    running.run_until(lambda: not running.signer._takeover.pending)
    assert pending == [False]
    assert not not_in_force(running)
    assert running.signer._loaded.config.bundles.number == 2


def test_what_failed_is_tried_again(running: RunningSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    passphrase = running.directory / "passphrase"
    octets = passphrase.read_bytes()
    unpack(running, 1)
    passphrase.unlink()
    monkeypatch.setattr(takeover_module, "_RETRY_S", 0.0)
    switch(running, 1)
    house_kept(running)
    [alarm] = not_in_force(running)
    assert "the passphrase of the CA keys is not there" in alarm
    passphrase.write_bytes(octets)
    passphrase.chmod(0o600)
    house_kept(running)
    assert not not_in_force(running)
    assert running.signer._loaded.config.bundles.number == 1


def test_a_broken_link_is_as_none(running: RunningSigner) -> None:
    unpack(running, 1)
    switch(running, 1)
    house_kept(running)
    switch(running, 7)
    house_kept(running)
    assert running.signer._loaded.config.bundles.number == 1
    running.signer.take_over("SIGHUP")
    [alarm] = not_in_force(running)
    assert "no bundle is unpacked there" in alarm


def test_a_newer_bundle_takes_the_place_of_one_on_trial(running: RunningSigner) -> None:
    unpack(running, 1)
    unpack(running, 2)
    add_authority(running.directory / "bundles/0002")
    switch(running, 1)
    running.signer._takeover.look()
    assert running.signer._takeover.pending
    switch(running, 2)
    house_kept(running)
    assert running.signer._loaded.config.bundles.number == 2
    assert NEXT_CA in names(running)
