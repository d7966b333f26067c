"""What msgspec says of a file that has not the right shape, in the words of this software.

Owns the sentences that people read about unknown, missing and mistyped keys, for profiles and configuration alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_FORM: Final = re.compile(r"matching regex '\(\?#([^)]*)\)")
_FIELD_WORDS: Final[Mapping[str, str]] = {
    "Object contains unknown field": "this key is not known here",
    "Object missing required field": "this key is missing",
}
_ENUM_WORDS: Final = "Invalid enum value "


def explain(message: str) -> tuple[str, str]:
    """Reason and key of what msgspec says as "REASON - at `$.table.key`"."""
    reason, _, where = message.partition(" - at ")
    # Of the name of a table it says "`key` in `$.table`".
    key = where.rpartition("` in `")[2].strip("`").removeprefix("$").removeprefix(".")
    for words, meaning in _FIELD_WORDS.items():
        if reason.startswith(words):
            field = reason.removeprefix(words).strip(" `")
            return meaning, f"{key}.{field}" if key else field
    if (form := _FORM.search(reason)) is not None:
        return f"this has to be {form[1]}", key
    if reason.startswith(_ENUM_WORDS):
        return f"{reason.removeprefix(_ENUM_WORDS)} is none of the values that this key can have", key
    return reason[:1].lower() + reason[1:].replace("`", ""), key
