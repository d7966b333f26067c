"""One authority for all tests that only look at it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tests.support.ceremonies import Ceremony, hold_ceremony

from cassiopeia.ceremony.hierarchy import Hierarchy, load_hierarchy, with_key_algorithm, with_periods
from cassiopeia.ceremony.installation import Installation, initialise

NOW = dt.datetime(2026, 11, 23, 12, 34, 56, 789, tzinfo=dt.UTC)


@pytest.fixture(scope="session")
def now() -> dt.datetime:
    return NOW


@pytest.fixture(scope="session")
def hierarchy() -> Hierarchy:
    """The default hierarchy with quick keys, and few of them: one period, no spares."""
    return with_periods(with_key_algorithm(load_hierarchy(), "P-256"), 1, spares=0)


@pytest.fixture(scope="session")
def ceremony(hierarchy: Hierarchy) -> Ceremony:
    return hold_ceremony(hierarchy, now=NOW)


@pytest.fixture(scope="session")
def installation(hierarchy: Hierarchy, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Only for looking: whoever changes files makes one for itself."""
    directory: Path = tmp_path_factory.mktemp("installation") / "ca"
    return initialise(
        directory, hierarchy=hierarchy, now=NOW, url_base="http://ca.example.org/", demo_profiles=True, version_1=True
    )
