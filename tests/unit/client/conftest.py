"""The client is tested on SQLite; that both databases do the same is shown by the store's own tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.client_loop import Client
from tests.support.signer import Front
from tests.support.syncing import front_with_crl

from cassiopeia.client import leases
from cassiopeia.client import worker as worker_module
from cassiopeia.store.database import Store, open_store, upgrade


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("client") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(tmp_path: Path, store_template: Path) -> Iterator[Store]:
    path = tmp_path / "store.db"
    path.write_bytes(store_template.read_bytes())
    with open_store(f"sqlite:///{path}") as opened:
        yield opened


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with front_with_crl(tmp_path / "journal", now=dt.datetime.now(dt.UTC).replace(microsecond=0)) as made:
        yield made


@pytest.fixture
def make(
    store: Store, front: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Client]]:
    """Make a client's loop, with changes of its configuration, that is impatient to ask and to connect."""
    monkeypatch.setattr(worker_module, "_POLL_S", 0.01)
    monkeypatch.setattr(leases, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(worker_module, "_RECONNECT_FIRST_S", 0.01)
    made: list[Client] = []

    def start(**changes: Any) -> Client:
        made.append(Client(store, front, tmp_path, **changes))
        return made[-1]

    yield start
    for client in made:
        client.close()
