"""Answers that are known: the response files of NIST's algorithm validation, as `cryptography-vectors` carries them.

Owns their syntax: `name = value` lines, `[section]` headings, and blank lines between the vectors. Each value of a
vector is text; the modulus and the exponent of an RSA key stand above the vectors that they count for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import cryptography_vectors

_LINE: Final = re.compile(r"(?P<name>[^=\[]+?)\s*=\s*(?P<value>.*)")
_LASTING: Final = ("section", "n", "e")


def vectors(path: str, *, ends_with: str) -> Iterator[dict[str, str]]:
    """Every vector of this file; `ends_with` is the name of its last value. `section` is the heading above it."""
    found: dict[str, str] = {"section": ""}
    with cryptography_vectors.open_vector_file(f"asymmetric/{path}", "r") as lines:
        for line in lines:
            text = line.strip()
            if text.startswith("#") or not text:
                continue
            if text.startswith("["):
                found = {"section": text.strip("[]")}
            elif matched := _LINE.fullmatch(text):
                found[matched["name"]] = matched["value"]
                if matched["name"] == ends_with:
                    yield found
                    found = {each: value for each, value in found.items() if each in _LASTING}
