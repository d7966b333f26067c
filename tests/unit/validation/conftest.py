"""The validator is tested on SQLite; that both databases do the same is shown by the store's own tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.validating import Site, make_site

from cassiopeia.store.database import upgrade
from cassiopeia.validation.attesting import Attester


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("validation") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def site(tmp_path: Path, store_template: Path) -> Iterator[Site]:
    made = make_site(tmp_path, store_template)
    yield made
    made.store.close()


@pytest.fixture
def attester(site: Site) -> Iterator[Attester]:
    made = Attester.of(site.config, site.store)
    yield made
    made.close()
