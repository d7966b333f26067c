"""What people type is not shown, and nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cassiopeia.cli import passphrase as asking
from cassiopeia.cli.passphrase import passphrase_for_a_while, read_passphrase
from cassiopeia.errors import OperatorError
from cassiopeia.secret_source import wipe

TIME_LIMIT_S = 60


@pytest.fixture
def wiped(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was in each buffer that was wiped."""
    seen: list[bytes] = []

    def watched(secret: bytearray) -> None:
        seen.append(bytes(secret).rstrip(b"\0"))
        wipe(secret)

    monkeypatch.setattr(asking, "wipe", watched)
    return seen


class Terminal:
    """A terminal at which somebody types, and what it shows."""

    def __init__(self) -> None:
        self.ours, self.theirs = os.openpty()

    def type(self, *lines: tuple[str, str], program: str) -> str:
        """Run a program at this terminal, type a line at each prompt, and return what was to be seen up to "end"."""
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=self.theirs, stdout=self.theirs, stderr=self.theirs
        ) as process:
            os.close(self.theirs)
            shown = b""
            for prompt, line in lines:
                shown += self._until(f"{prompt}: ")
                os.write(self.ours, f"{line}\n".encode())
            shown += self._until("end")
            assert process.wait(TIME_LIMIT_S) == 0
        return shown.decode().strip()

    def _until(self, words: str) -> bytes:
        shown = b""
        while words.encode() not in shown:
            shown += os.read(self.ours, 4096)
        return shown


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    os.close(made.ours)


def test_what_is_typed_at_a_terminal_is_not_shown(terminal: Terminal) -> None:
    program = (
        "import sys, termios\n"
        "from cassiopeia.cli.passphrase import read_passphrase\n"
        "before = termios.tcgetattr(0)\n"
        "given = read_passphrase(None)\n"
        "print(type(given).__name__, given == 'grüne Wiese'.encode(), termios.tcgetattr(0) == before, 'end')\n"
    )

    assert terminal.type(("Passphrase", ""), ("Passphrase", "grüne Wiese"), program=program).replace("\r", "") == (
        "Passphrase: \nPassphrase: \nbytearray True True end"
    )


def test_a_new_one_is_typed_twice_until_both_are_the_same(terminal: Terminal) -> None:
    program = (
        "from cassiopeia.cli.passphrase import read_passphrase\n"
        "print(read_passphrase(None, confirm=True) == b'one', 'end')\n"
    )

    shown = terminal.type(
        ("Passphrase", "one"),
        ("confirmation", "other"),
        ("Passphrase", "one"),
        ("confirmation", "one"),
        program=program,
    )

    assert "The two entered values do not match." in shown
    assert shown.endswith("True end")
    assert "other" not in shown


def test_a_line_from_a_script_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click, "prompt", lambda prompt, **_: f"answer to {prompt}")

    assert read_passphrase(None, prompt="Passphrase of a.key") == b"answer to Passphrase of a.key"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"], ids=["none", "unix", "dos"])
def test_a_file_is_read_without_its_line_end_and_without_a_copy_that_stays(
    tmp_path: Path, wiped: list[bytes], end: str
) -> None:
    path = tmp_path / "passphrase"
    path.write_text(f" green meadow {end}")

    with passphrase_for_a_while(path) as given:
        assert given == b" green meadow "
        assert wiped == [f" green meadow {end}".encode()]

    assert given == bytes(len(" green meadow "))
    assert len(wiped) == 2


def test_it_is_wiped_after_an_error_too(tmp_path: Path) -> None:
    path = tmp_path / "passphrase"
    path.write_text("green meadow")

    with pytest.raises(OperatorError, match="wrong"), passphrase_for_a_while(path) as given:
        raise OperatorError("wrong")

    assert given == bytes(12)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "cannot read the passphrase: No such file or directory", id="no-file"),
        pytest.param("x" * 4097, "has more than 4096 octets", id="another-file"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "passphrase"
    if content is not None:
        path.write_text(content)

    with pytest.raises(OperatorError, match=message):
        read_passphrase(path)
