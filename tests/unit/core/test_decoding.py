from __future__ import annotations

import pytest

from cassiopeia.core.decoding import explain


@pytest.mark.parametrize(
    ("message", "reason", "key"),
    [
        ("Object contains unknown field `x` - at `$.table`", "this key is not known here", "table.x"),
        ("Object contains unknown field `x`", "this key is not known here", "x"),
        ("Object missing required field `id` - at `$`", "this key is missing", "id"),
        ("Expected `int`, got `str` - at `$.table.id`", "expected int, got str", "table.id"),
        (
            "Expected `str` matching regex '(?#a sub-CA)^x$' - at `$.names[0]`",
            "this has to be a sub-CA",
            "names[0]",
        ),
        ("Invalid enum value 'x' - at `$.kind`", "'x' is none of the values that this key can have", "kind"),
        ("Expected `str` matching regex '(?#a word)^x$' - at `key` in `$.table`", "this has to be a word", "table"),
        ("Whatever comes later", "whatever comes later", ""),
    ],
)
def test_what_the_library_says_is_said_in_our_words(message: str, reason: str, key: str) -> None:
    assert explain(message) == (reason, key)
