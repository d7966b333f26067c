"""What every test of the key stores shares."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.crypto_backends import CaKeys


@pytest.fixture(scope="session")
def ca_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaKeys]:
    """A CA key of every kind in every backend."""
    keys = CaKeys(tmp_path_factory.mktemp("ca-keys"))
    yield keys
    keys.close()
