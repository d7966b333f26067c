"""`cassiopeia backup`: one side in one file."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from cassiopeia.cli.journal_source import is_signer_config


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="signer.toml (the signer stands still) or client.toml (the client may run).",
)
@click.option("--without-keys", is_flag=True, help="Leave out every private key and the passphrase.")
def backup(file: Path, config_path: Path, without_keys: bool) -> None:
    """Write the configuration, and all that it names, to the new FILE (mode 600, not encrypted).

    A store in PostgreSQL is not in it: that is for pg_dump. Never put back an old journal to go on with it: a signer
    that is shown what it has forgotten halts, and `cassiopeia signer rebuild` makes it whole.
    """
    from cassiopeia.backup import back_up  # noqa: PLC0415 - `--help` must be quick

    is_signer = is_signer_config(config_path)
    manifest = back_up(
        config_path,
        file,
        is_signer=is_signer,
        without_keys=without_keys,
        now=dt.datetime.now(dt.UTC).replace(microsecond=0),
    )
    click.echo(f"{file}: {len(manifest.members)} files of the {manifest.side}")
    for each in manifest.secrets:
        click.echo(f"  it holds {each}")
    if manifest.secrets:
        click.echo("  whoever reads it has all of that: keep it as you keep the machine")
    for each in manifest.left_out:
        click.echo(f"  not in it: {each}")
