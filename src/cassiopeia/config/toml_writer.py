"""TOML out of plain values (TOML 1.0.0): the standard library reads it, but does not write it.

Knows what the generated files need: texts, numbers, booleans, moments, lists of these, tables and arrays of tables;
a table within a table is an inline one. What is None is left out.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import Any

from cassiopeia.errors import InternalError


def toml_document(document: Mapping[str, Any]) -> str:
    """The document as text: plain values first, then tables, then arrays of tables, each in the order given."""
    plain = {key: value for key, value in document.items() if not _is_table(value) and not _is_table_array(value)}
    parts = [_table(plain)] if plain else []
    for key, value in document.items():
        if _is_table(value):
            parts.append(f"[{key}]\n{_table(value)}")
        elif _is_table_array(value):
            parts.extend(f"[[{key}]]\n{_table(each)}" for each in value)
    return "\n".join(parts)


def toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        # A JSON string is a TOML basic string but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(each) for each in value)}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {toml_value(each)}' for key, each in value.items() if each is not None)}}}"
    raise InternalError(f"no way to write a {type(value).__name__} as TOML")


def _table(values: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {toml_value(value)}\n" for key, value in values.items() if value is not None)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_table_array(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(_is_table(each) for each in value)
