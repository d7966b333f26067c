"""What the runbook says that people see, they do see: its words stand in the programs.

In the runbook, `...` takes the place of what differs from case to case.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
# A command, a file, or a key of a configuration is no message.
_NOT_SAID = re.compile(r"cassiopeia .*|--\S+.*|\[.*\].*|\S+|python -m .*|openssl .*|chmod .*|systemctl .*|cp -a|apt .*")


def messages() -> list[str]:
    """Everything between backticks that is longer than a word; two of them enclose a message with one in it."""
    text = re.sub(r"^```.*?^```", "", RUNBOOK, flags=re.MULTILINE | re.DOTALL)
    text = text.replace("(see `df`)", "(see df)")
    found = (" ".join(each.split()) for each in re.findall(r"`([^`]+)`", text))
    return sorted({each for each in found if not _NOT_SAID.fullmatch(each)})


def literals() -> str:
    """Every string of the programs, what is put into them left out."""
    strings = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [each.value if isinstance(each, ast.Constant) else "\0" for each in node.values]
                strings.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.append(node.value)
    return " ".join("\n".join(strings).replace("`", "").split())


SAID = literals()


def test_the_runbook_quotes_many_messages() -> None:
    assert len(messages()) > 30


@pytest.mark.parametrize("message", messages())
def test_a_message_of_the_runbook_is_one_of_the_programs(message: str) -> None:
    pieces = [each.strip(" ():;,") for each in re.split(r"\.\.\.|\d+", message)]
    missing = [each for each in pieces if len(each) > 3 and each not in SAID]

    assert not missing, missing
