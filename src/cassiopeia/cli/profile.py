"""`cassiopeia profile`: look after profiles before the signer reads them. Needs no configuration and no database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cassiopeia.errors import ConfigurationError, OperatorError

if TYPE_CHECKING:
    from cassiopeia.core.profile import Profile

_files = click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)
)


@click.group()
def profile() -> None:
    """Check profiles, and import those of the original."""


@profile.command(name="import", short_help="Turn the original's .cfg profiles into ours.")
@_files
@click.option(
    "--out",
    "directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIRECTORY",
    help="Write NAME.toml here for each NAME.cfg, instead of to standard output.",
)
def import_(files: tuple[Path, ...], directory: Path | None) -> None:
    """Turn profiles of the original (.cfg) into ours (TOML).

    Read the result before the signer does: what could not be carried over stands there as a comment, and the
    evidence that the names call for is demanded. No file is overwritten, and one bad profile stops them all.
    """
    from cassiopeia.config import read_text  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.core.legacy_profile import import_profile  # noqa: PLC0415 - as above

    texts = {path: import_profile(read_text(path), name=path.stem, source=str(path)) for path in files}
    if directory is None:
        click.echo("\n".join(texts.values()), nl=False)
        return
    targets = {directory / f"{path.stem}.toml": text for path, text in texts.items()}
    if len(targets) < len(texts):
        raise OperatorError("two of these files have the same name: import them into two directories")
    for target in targets:
        if target.exists():
            raise OperatorError(f"{target}: is there already, and nothing was written: choose another directory")
    for target, text in targets.items():
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
        click.echo(f"{target}: written")


@profile.command(short_help="Say of each profile whether the signer would take it.")
@_files
def check(files: tuple[Path, ...]) -> None:
    """Read our profiles (TOML) as the signer does, and say in one line each what they are or what is wrong."""
    from cassiopeia.config import load_profile  # noqa: PLC0415 - as above

    wrong = 0
    for path in files:
        try:
            click.echo(f"{path}: {_summary(load_profile(path))}")
        except ConfigurationError as error:
            click.echo(str(error))
            wrong += 1
    if wrong:
        raise OperatorError(f"{wrong} of {len(files)} profiles would be refused at the start")


def _summary(read: Profile) -> str:
    signer = f"signed by {read.family}" if read.family else "signed by the sub-CA that the request names"
    evidence = f"demands {', '.join(read.evidence)}" if read.evidence else "demands NO evidence"
    return f"good: {read.title!a}, {signer}, up to {read.maximum_validity_days} days, {evidence}"
