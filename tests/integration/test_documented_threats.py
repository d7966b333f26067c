"""The threat model names a test for each line: all of them exist, and so do the modules that it points at."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
SOURCE = ROOT / "src" / "cassiopeia"

CHECKS = "Which check stands where"
RESIDUAL = "Residual risks"
ATTACKERS = (
    "A subscriber",
    "The web's side",
    "The store",
    "The client's machine",
    "The line",
    "A validator",
    "One operator",
    "The signer's disk",
    "A wrong clock",
    "A worker of the signer",
    "The signer, running",
    "The journal's key",
    "The offline directory",
    "A share of the safe",
    "A bundle on its way",
    "The bundle key",
    "The directory `public`",
    "The publisher",
)


def sections() -> dict[str, str]:
    found = {}
    for part in TEXT.split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        found[heading] = body
    return found


def rows(body: str) -> list[list[str]]:
    """The cells of each row of a table but its head."""
    lines = [line for line in body.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@functools.cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef))


def test_every_attacker_has_a_section() -> None:
    assert tuple(sections()) == (*ATTACKERS, RESIDUAL, CHECKS)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_each_line_of_an_attacker_is_shown_by_tests_that_exist(attacker: str) -> None:
    lines = rows(sections()[attacker])
    assert {verb for verb, _, _ in lines} == {"can", "can't"}
    for _, what, shown_by in lines:
        references = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", shown_by)
        assert references, f"nothing shows: {what}"
        assert re.sub(r"`[^`]+`|, ", "", shown_by) == ""
        for path, name in references:
            assert (ROOT / path).is_file(), path
            assert name in names_in(path), f"{path} has no {name}"


def test_each_check_stands_in_a_module_that_exists() -> None:
    lines = rows(sections()[CHECKS])
    assert len(lines) > 20
    for attack, _, where in lines:
        modules = re.findall(r"`([a-z_0-9.]+)`", where)
        assert modules or "](adr/" in where, f"nothing stands against: {attack}"
        for module in modules:
            place = SOURCE / module.replace(".", "/")
            assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file(), module
