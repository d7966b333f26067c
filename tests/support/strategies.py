"""Hypothesis strategies for what travels and what is journaled: any instance of a structure, octets in pieces."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
octet_strings = st.binary(max_size=60)
numbers = st.integers(min_value=0, max_value=(1 << 168) - 1)
moments = st.datetimes(min_value=dt.datetime(1950, 1, 1), max_value=dt.datetime(2099, 1, 1)).map(  # noqa: DTZ001 # made aware at once
    lambda moment: moment.replace(tzinfo=dt.UTC, microsecond=0)
)
cuts = st.lists(st.integers(min_value=1, max_value=400), min_size=1, max_size=5)

_SIMPLE: dict[Any, st.SearchStrategy[Any]] = {str: texts, bytes: octet_strings, int: numbers, dt.datetime: moments}


def instances(kind: Any) -> st.SearchStrategy[Any]:
    """Any instance of a structure, from the types of its fields."""
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{each.name: _values(hints[each.name]) for each in dataclasses.fields(kind)})


def _values(hint: Any) -> st.SearchStrategy[Any]:
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if typing.get_origin(hint) is types.UnionType:
        (inner,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
        return st.none() | _values(inner)
    if typing.get_origin(hint) is tuple:
        return tuples(_values(typing.get_args(hint)[0]))
    return st.deferred(lambda: instances(hint))


def tuples(items: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=3).map(tuple)


def pieces(octets: bytes, sizes: Sequence[int]) -> list[bytes]:
    """These octets in pieces of these sizes, over and over."""
    found, start, turn = [], 0, 0
    while start < len(octets):
        end = start + sizes[turn % len(sizes)]
        found.append(octets[start:end])
        start, turn = end, turn + 1
    return found
