from __future__ import annotations

import datetime as dt
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.config.toml_writer import toml_document, toml_value
from cassiopeia.errors import InternalError

# TOML knows no surrogates, and 64 bits for a number (TOML 1.0.0, "String", "Integer").
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PLAIN = st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1), st.booleans(), st.lists(TEXTS, max_size=3))
KEYS = st.text("abc_", min_size=1, max_size=5)
TABLES = st.dictionaries(KEYS, PLAIN, max_size=5)


@given(st.dictionaries(KEYS, st.one_of(PLAIN, TABLES, st.lists(TABLES, min_size=1, max_size=3)), max_size=6))
def test_what_is_written_is_read_again(document: dict[str, Any]) -> None:
    assert tomllib.loads(toml_document(document)) == document


def test_moments_are_written_in_utc() -> None:
    moment = dt.datetime(2026, 7, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))

    assert toml_value(moment) == "2026-07-01T00:00:00Z"
    assert tomllib.loads(f"a = {toml_value(moment)}")["a"] == moment


@pytest.mark.parametrize("value", [None, 1.5, dt.datetime(2026, 7, 1), b"x"])  # noqa: DTZ001 - no zone on purpose
def test_what_nobody_needs_is_our_own_bug(value: object) -> None:
    with pytest.raises(InternalError, match="no way to write"):
        toml_value(value)
