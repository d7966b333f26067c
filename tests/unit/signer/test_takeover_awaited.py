"""What was asked for and could not come into force for what may pass: it comes by itself, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.running_signer import RunningSigner
from tests.unit.signer.test_takeover import add_authority, replace, replayed, status, take_over

from cassiopeia.errors import Unavailable
from cassiopeia.signer import service
from cassiopeia.signer import takeover as takeover_module

ITSELF = "The new configuration is tried again by itself while its files stay as they are"


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningSigner]:
    monkeypatch.setattr(service, "_HOUSEKEEPING_S", 0.1)
    monkeypatch.setattr(takeover_module, "_RETRY_SOON_S", 0.2)
    made = RunningSigner(tmp_path)
    made.run_until(lambda: made.ready)
    yield made
    made.stop()


def not_in_force(running: RunningSigner) -> list[str]:
    return [each for each in status(running).alarms if "not in force" in each]


def full_disk() -> Unavailable:
    return Unavailable("the disk has no room left")


def test_what_may_pass_is_tried_again_and_comes_into_force(
    running: RunningSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_authority(running.directory)
    with monkeypatch.context() as full:
        full.setattr(running.signer._disk, "check", full_disk)
        take_over(running)
        takeover = running.signer._takeover
        running.run_until(lambda: takeover._retries >= 3)
        # Also while it is tried people are told.
        assert [each.partition(": ")[2] for each in not_in_force(running)] == [f"the disk has no room left. {ITSELF}"]
        assert len(status(running).authorities) == 1
    running.run_until(lambda: len(status(running).authorities) == 2)
    assert not_in_force(running) == []
    assert takeover._retry_at is None
    assert replayed(running)[0].kinds["configuration"] == 2


def test_a_passphrase_that_is_put_back_is_enough(running: RunningSigner) -> None:
    add_authority(running.directory)
    passphrase = running.directory / "passphrase"
    aside = passphrase.rename(running.directory / "aside")
    take_over(running)
    (alarm,) = not_in_force(running)
    assert "the passphrase of the CA keys is not there" in alarm
    assert ITSELF in alarm
    aside.rename(passphrase)
    running.run_until(lambda: len(status(running).authorities) == 2)
    assert not_in_force(running) == []


def test_files_that_somebody_edits_meanwhile_wait_until_they_are_asked_for(
    running: RunningSigner, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_authority(running.directory)
    with monkeypatch.context() as full:
        full.setattr(running.signer._disk, "check", full_disk)
        take_over(running)
        replace(running.path, "[signer]\n", "[caps]\nrevocations = 77\n\n[signer]\n")
    running.run_until(lambda: "its files have changed since" in "".join(not_in_force(running)))
    assert "systemctl reload" in "".join(not_in_force(running))
    assert running.signer._takeover._retry_at is None
    assert len(status(running).authorities) == 1
    take_over(running)
    assert len(status(running).authorities) == 2
    assert not_in_force(running) == []


def test_it_is_tried_ever_less_often(running: RunningSigner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takeover_module, "_RETRY_SOON_S", 60.0)
    takeover, delays = running.signer._takeover, []
    monkeypatch.setattr("cassiopeia.signer.takeover.time.monotonic", lambda: 0.0)
    for _ in range(6):
        takeover._fail("the token is away", awaited=running.signer._loaded)
        delays.append(takeover._retry_at)
    assert delays == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0]
