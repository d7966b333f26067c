"""docs/ceremony.md is typed as it stands, in front of witnesses: each command in it is one that this software has."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import shamir_mnemonic
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.safes import make_safe, put_away_split

from cassiopeia.cli.main import cassiopeia

TEXT = (Path(__file__).parents[2] / "docs" / "ceremony.md").read_text(encoding="utf-8")
BOXES = re.findall(r"^ *```console\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)
LINES = [line.strip()[2:] for box in BOXES for line in box.splitlines()]
OURS = [line for line in LINES if line.startswith("cassiopeia ") and not line.endswith("--version")]


def parse(line: str) -> click.Context:
    """Read a command line as the program does, up to where it would begin to act."""
    words = shlex.split(line.partition(" > ")[0])[1:]
    command: click.Command = cassiopeia
    context = click.Context(command, info_name="cassiopeia")
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"there is no {name} in {context.command_path}"
        command = found
        if not isinstance(command, click.Group):
            return command.make_context(name, words, parent=context)
        context = click.Context(command, info_name=name, parent=context)
    raise AssertionError(line)


@pytest.mark.parametrize("line", OURS)
def test_each_command_is_understood(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Files that have to be there: what the command line says of them is all that is looked at here.
    for word in shlex.split(line)[1:]:
        name = word.rpartition("=")[2]
        if re.fullmatch(r"[a-z0-9_-]+\.(toml|bundle|pem|key|crl|csr|txt)", name):
            (tmp_path / name).touch()
    assert parse(line).params


def test_a_word_that_is_no_option_would_be_seen() -> None:
    with pytest.raises(click.NoSuchOption):
        parse("cassiopeia ceremony run hierarchy.toml --out first --parts 5")
    assert len(OURS) >= 18


def test_keys_are_had_without_this_software_as_it_is_written(tmp_path: Path) -> None:
    """Needs the program `openssl` (Debian: apt-get install openssl)."""
    safe = make_safe()
    _, shares = put_away_split(safe, tmp_path)
    secret = shamir_mnemonic.combine_mnemonics([" ".join(share.words) for share in shares[1:]])
    (tmp_path / "secret.txt").write_text(secret.hex())
    box = next(box for box in BOXES if "openssl" in box and "offline.bundle" in box)
    commands = [line.removeprefix("$ ") for line in box.splitlines()]
    assert len(commands) == 2
    done = subprocess.run(
        ["sh", "-e", "-c", "\n".join(commands)], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    numbers = safe.keys["root"].public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert numbers.hex() in re.sub(r"[:\s]", "", done.stdout)


def test_each_message_that_is_explained_is_one_that_is_given() -> None:
    """What stands in the table of troubles stands in the sources, as far as it is the same each time."""
    sources = "".join(
        path.read_text(encoding="utf-8")
        for directory in ("ceremony", "cli", "core")
        for path in (Path(cassiopeia_directory()) / directory).glob("*.py")
    )
    joined = re.sub(r'"\s*\n\s*f?"', "", sources)
    table = TEXT.partition("## When something goes wrong")[2].partition("\n## ")[0]
    for message in re.findall(r"^\| `([^`]+)`", table, re.MULTILINE):
        if message.startswith("No space left"):
            continue  # the system's own words
        for part in re.split(r" ?\.\.\.,? ?| ?\d ?|'[a-z ]+'", message):
            assert part in joined, f"{message}: {part!r}"


def cassiopeia_directory() -> Path:
    return Path(__file__).parents[2] / "src" / "cassiopeia"
