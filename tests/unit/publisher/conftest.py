"""The publisher is tested on SQLite; that both databases do the same is shown by the store's own tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.publishing import Publishing, make_publishing

from cassiopeia.store.database import open_store, upgrade


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("publisher") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def publishing(tmp_path: Path, store_template: Path) -> Iterator[Publishing]:
    """Nothing is issued yet, and nobody certified."""
    (tmp_path / "store.db").write_bytes(store_template.read_bytes())
    with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        yield make_publishing(tmp_path, store)


@pytest.fixture
def serving(publishing: Publishing) -> Publishing:
    """One certificate is issued, a CRL is signed, and the responder is certified; all of it has been seen."""
    publishing.issue()
    publishing.sign_crl()
    publishing.copy()
    publishing.certify()
    publishing.look()
    return publishing
