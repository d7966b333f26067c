"""Passphrases that people give: from a file, or typed without being shown. They stay in octets that can be wiped.

Whoever gets one wipes it. A terminal is read without a line of text between; where there is none (a pipe, a script),
the line that is read stays in memory until the process ends.
"""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from cassiopeia.errors import OperatorError
from cassiopeia.secret_source import wipe

_MOST_OCTETS: Final = 4096
_LOCAL_MODES: Final = 3  # of what termios.tcgetattr gives


@contextmanager
def passphrase_for_a_while(file: Path | None, *, confirm: bool = False) -> Iterator[bytearray]:
    """The passphrase as long as the block lasts; then it is wiped."""
    passphrase = read_passphrase(file, confirm=confirm)
    try:
        yield passphrase
    finally:
        wipe(passphrase)


def read_passphrase(file: Path | None, *, prompt: str = "Passphrase", confirm: bool = False) -> bytearray:
    """From the file, without its line end, or from whoever sits there; raises OperatorError."""
    if file is not None:
        return _from_file(file)
    while True:
        first = _ask(prompt)
        if not confirm:
            return first
        second = _ask("Repeat for confirmation")
        is_same = first == second
        wipe(second)
        if is_same:
            return first
        wipe(first)
        click.echo("Error: The two entered values do not match.", err=True)


def _from_file(path: Path) -> bytearray:
    buffer = bytearray(_MOST_OCTETS + 1)
    try:
        # Unbuffered, straight into what is wiped.
        with path.open("rb", buffering=0) as stream:
            length = stream.readinto(buffer) or 0
        if length > _MOST_OCTETS:
            raise OperatorError(f"{path}: this is no passphrase: it has more than {_MOST_OCTETS} octets")
        return _without_line_end(buffer, length)
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the passphrase: {error.strerror}") from error
    finally:
        wipe(buffer)


def _ask(prompt: str) -> bytearray:
    if not sys.stdin.isatty():
        line: str = click.prompt(prompt, hide_input=True, err=True)
        return bytearray(line.encode())
    while True:
        typed = _from_terminal(sys.stdin.fileno(), prompt)
        if typed:
            return typed


def _from_terminal(descriptor: int, prompt: str) -> bytearray:
    shown = termios.tcgetattr(descriptor)
    hidden = [*shown]
    hidden[_LOCAL_MODES] &= ~termios.ECHO
    buffer = bytearray(_MOST_OCTETS + 1)
    try:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, hidden)
        click.echo(f"{prompt}: ", nl=False, err=True)
        # A terminal gives one line at a time (termios(3)), and no line is longer.
        length = os.readv(descriptor, [buffer])
        if not length:
            raise click.Abort
        return _without_line_end(buffer, length)
    finally:
        wipe(buffer)
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, shown)
        click.echo(err=True)


def _without_line_end(buffer: bytearray, length: int) -> bytearray:
    while length and buffer[length - 1] in b"\r\n":
        length -= 1
    return buffer[:length]
