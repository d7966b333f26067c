"""`cassiopeia restore`: what `backup` has written, as it was."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("directory", type=click.Path(path_type=Path))
def restore(file: Path, directory: Path) -> None:
    """Take a backup out of FILE into DIRECTORY, which must be new or empty.

    Everything is compared with the backup's manifest; after an error nothing is left.
    """
    from cassiopeia.restore import restore as take_out  # noqa: PLC0415 - `--help` must be quick

    manifest = take_out(file, directory)
    click.echo(
        f"{directory}: the {manifest.side} as it was on {manifest.made_at:%Y-%m-%d %H:%M:%S}Z,"
        f" {len(manifest.members)} files, all of them as they were backed up"
    )
    elsewhere = sorted(each.name for each in manifest.members if each.name.startswith("elsewhere/"))
    for each in elsewhere:
        click.echo(
            f"  move {directory / each} to {each.removeprefix('elsewhere')}, or name it anew in the configuration"
        )
    for each in manifest.left_out:
        click.echo(f"  was not in the backup: {each}")
    if manifest.side == "signer":
        click.echo(
            "Its journal is old if the signer has worked since. Then make it whole before you start it: "
            "cassiopeia signer rebuild --replace"
        )
