"""docs/crypto-backends.md says of each library what `cassiopeia backend list` says, and what is shown in it works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.support.signer import SIGNING_CA, install

from cassiopeia.config import load_signer_config
from cassiopeia.core.algorithms import ALGORITHMS
from cassiopeia.signer.configuration import key_uses
from cassiopeia.signer.keystore.backends import NEEDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "crypto-backends.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def table(heading: str) -> list[dict[str, str]]:
    """The rows of the first table of a section, by their headers."""
    first = re.search(r"(?:^\|.*\n)+", section(heading), re.MULTILINE)
    assert first is not None
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in first[0].splitlines()]
    return [dict(zip(header, row, strict=True)) for row in rows]


def cassiopeia(*arguments: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cassiopeia", *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_table_says_what_the_libraries_can_do() -> None:
    found = {each["name"]: each for each in json.loads(cassiopeia("backend", "list", "--json"))["backends"]}
    assert {name: each["missing"] for name, each in found.items()} == dict.fromkeys(NEEDS, "")

    documented = table("What each can do")

    assert [row["algorithm"] for row in documented] == [each.name for each in ALGORITHMS]
    for row in documented:
        name = row["algorithm"]
        for backend, each in found.items():
            words = [word for word in ("signs", "verifies") if name in each[word]]
            assert row[backend] == (", ".join(words) or "-"), (name, backend)


def test_the_table_names_what_each_needs() -> None:
    documented = {row["backend"].strip("`"): row["what it needs"] for row in table("Why more than one")}

    assert set(documented) == set(NEEDS)
    for name, needs in NEEDS.items():
        assert not needs.extra or f"`pip install 'cassiopeia-ca[{needs.extra}]'`" in documented[name]
        assert not needs.package or f"`apt install {needs.package}`" in documented[name]


def test_every_figure_is_of_something_that_the_library_can_do() -> None:
    able = {row["algorithm"]: row for row in table("What each can do")}

    figures = table("How quick they are")

    assert {row["algorithm"] for row in figures} == {
        name for name in able if not re.search("384With|512With|s-sha[35]", name)
    }
    for row in figures:
        for column, backend in (
            ("OpenSSL", "openssl"),
            ("GnuTLS", "gnutls"),
            ("wolfSSL", "wolfssl"),
            ("SoftHSM", "pkcs11"),
        ):
            assert (row[column] == "-") == ("signs" not in able[row["algorithm"]][backend]), (row, backend)


@pytest.mark.parametrize(
    ("heading", "backend", "verify_with"),
    [
        ("Choosing a backend", "gnutls", ""),
        ("A second opinion", "openssl", "none for it"),
        ("OpenSSL is broken today", "gnutls", "wolfssl"),
    ],
)
def test_the_lines_for_signer_toml_do_what_is_said(
    tmp_path: Path, heading: str, backend: str, verify_with: str
) -> None:
    [shown] = re.findall(r"```toml\n(.*?)```", section(heading), re.DOTALL)
    lines = "\n".join(line.strip() for line in shown.splitlines())
    lines = re.sub(r"^\[authority\.\w+\]", f"[authority.{SIGNING_CA}]", lines, flags=re.MULTILINE)
    signer_toml = install(tmp_path)
    keys = tomllib.loads(lines)["keys"]
    text = signer_toml.read_text(encoding="utf-8").replace(
        "[keys]\n", "[keys]\n" + "".join(f'{name} = "{value}"\n' for name, value in keys.items())
    )
    signer_toml.write_text(text + lines.partition("\n\n")[2], encoding="utf-8")

    use = key_uses(load_signer_config(signer_toml))[SIGNING_CA]
    checked = cassiopeia("backend", "check", "-c", signer_toml)

    assert use.backend == backend
    assert use.verify_with == ("" if verify_with == "none for it" else verify_with)
    assert f"{SIGNING_CA}: " in checked
    assert "and nothing is wrong." in checked


def test_every_command_that_is_shown_is_one() -> None:
    shown = {
        tuple(match)
        for match in re.findall(
            r"cassiopeia (backend|journal|order|signer|ceremony) ([a-z]+)(?: ([a-z]+-authority))?", PAGE
        )
    }

    assert ("backend", "check", "") in shown
    assert ("order", "make", "resume-authority") in shown
    for words in shown:
        assert "Usage: " in cassiopeia(*filter(None, words), "--help")
