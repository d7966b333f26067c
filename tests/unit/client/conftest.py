"""The client is tested on SQLite; that both databases do the same is shown by the store's own tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
