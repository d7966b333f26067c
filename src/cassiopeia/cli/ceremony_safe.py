"""How the commands of a ceremony are told what opens the safe: options, and words that somebody types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.ceremony.shares import Share
    from cassiopeia.ceremony.unlocking import OpenedSafe

_FILE = click.Path(path_type=Path, dir_okay=False)

offline_option = click.option(
    "--offline", type=_FILE, required=True, help="The offline bundle of the last ceremony: what is in the safe."
)
share_option = click.option(
    "--share", "share_files", type=_FILE, multiple=True, help="The file of a share; once for each."
)
typed_option = click.option(
    "--typed",
    type=click.IntRange(0, 16),
    default=0,
    metavar="NUMBER",
    help="Ask for the words of so many shares, besides those in files.",
)
passphrase_option = click.option(
    "--passphrase-file",
    type=_FILE,
    help="The safe's passphrase, where it is not split. Without it: offline.passphrase beside the bundle.",
)


def safe_options(function: Callable[..., None]) -> Callable[..., None]:
    """What each command has that opens the safe: `offline`, `passphrase_file`, `share_files` and `typed`."""
    decorate: Any
    for decorate in (typed_option, share_option, passphrase_option, offline_option):
        function = decorate(function)
    return function


def open_offline(offline: Path, *, passphrase_file: Path | None, share_files: Sequence[Path], typed: int) -> OpenedSafe:
    """Open the safe with what these options say; raises OperatorError."""
    from cassiopeia.ceremony.unlocking import unlock  # noqa: PLC0415 - `--help` must be quick

    return unlock(offline, passphrase_file=passphrase_file, shares=gather_shares(share_files, typed=typed))


def gather_shares(share_files: Sequence[Path], *, typed: int) -> list[tuple[str, Share]]:
    """Shares from files, then from whoever sits there, each with where it came from; raises OperatorError."""
    from cassiopeia.ceremony.shares import read_share_file  # noqa: PLC0415 - as above

    shares = [(str(path), read_share_file(path)) for path in share_files]
    for number in range(1, typed + 1):
        source = "the typed share" if typed == 1 else f"typed share {number} of {typed}"
        shares.append((source, _ask_share(source)))
    return shares


def _ask_share(source: str) -> Share:
    """Words, any number in a line, hidden; the first four letters of each will do."""
    from cassiopeia.ceremony.shares import WORDS, complete_word, read_share  # noqa: PLC0415 - as above

    click.echo(f"For {source}: type its {WORDS} words; the first four letters of each will do.", err=True)
    while True:
        words: list[str] = []
        while len(words) < WORDS:
            line: str = click.prompt(f"Word {len(words) + 1} and on", hide_input=True, err=True)
            for typed in line.split():
                try:
                    words.append(complete_word(typed))
                except OperatorError as error:
                    click.echo(f"word {len(words) + 1}: {error}; go on from there", err=True)
                    break
        try:
            return read_share(" ".join(words), source=source)
        except OperatorError as error:
            click.echo(f"{error}; type them all again, or end with Ctrl-C", err=True)
