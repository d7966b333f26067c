from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from tests.support.store import NOW, lease_sign, submit

from cassiopeia.client.succession import lease_owner, take_back
from cassiopeia.store.database import Store


@pytest.fixture(scope="module")
def dead_process() -> int:
    """The id of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    return ended.pid


def held_by(store: Store, owner: str) -> None:
    submit(store, 1)
    assert len(lease_sign(store, owner)) == 1


def test_an_owner_names_client_machine_and_process() -> None:
    assert lease_owner("client") == f"client@{socket.gethostname()}:{os.getpid()}"


@pytest.mark.parametrize("name", ["client", "another", "with@and:5"])
def test_what_a_dead_client_held_is_taken_back(store: Store, name: str, dead_process: int) -> None:
    held_by(store, f"{name}@{socket.gethostname()}:{dead_process}")

    assert take_back(store.queue, lease_owner("client"), now=NOW) == 1

    job = store.queue.lease_suspect(lease_owner("client"), lease_s=60, now=NOW)
    assert job is not None
    assert job.deaths == 1


def test_what_this_process_held_in_an_earlier_life_is_taken_back(store: Store) -> None:
    """As in a container, where every client is process 1."""
    held_by(store, lease_owner("client"))

    assert take_back(store.queue, lease_owner("client"), now=NOW) == 1
    assert store.queue.owners() == ()


@pytest.mark.parametrize(
    "owner",
    [
        f"client@{socket.gethostname()}:{os.getppid()}",  # lives
        f"client@{socket.gethostname()}:1",  # lives, and may belong to somebody else
        "client@elsewhere.example:4000000",
        "client",
    ],
)
def test_what_others_hold_stays(store: Store, owner: str) -> None:
    held_by(store, owner)

    assert take_back(store.queue, lease_owner("client"), now=NOW) == 0
    assert store.queue.owners() == (owner,)


def test_a_process_of_somebody_else_lives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(process_id: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    owner = f"client@{socket.gethostname()}:4000000"
    held_by(store, owner)
    monkeypatch.setattr(os, "kill", forbid)

    assert take_back(store.queue, lease_owner("client"), now=NOW) == 0
    assert store.queue.owners() == (owner,)
