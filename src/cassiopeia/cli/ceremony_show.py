"""`cassiopeia ceremony show`: what the safe remembers, which nobody has to open for that."""

from __future__ import annotations

from pathlib import Path

import click

from cassiopeia.cli.ceremony_safe import offline_option
from cassiopeia.cli.options import visible


@click.command(short_help="Show what an offline bundle remembers, without opening it.")
@offline_option
@click.option(
    "--bundle-key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="bundle-key.pem from one of the machines: says whether the bundle is the right one.",
)
def show(offline: Path, bundle_key: Path | None) -> None:
    """Show which ceremony an offline bundle is from, how it opens, and every CA that was made.

    It needs no passphrase and no share. Without --bundle-key, nothing says that the bundle is not somebody else's.
    """
    from cassiopeia.ceremony import safe, unlocking  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.ceremony.overview import remembered  # noqa: PLC0415 - as above

    _, bundle = safe.read_offline(offline)
    if bundle_key is not None:
        unlocking.check_bundle_key(bundle, bundle_key, source=str(offline))
    for line in remembered(safe.kept_record(bundle)):
        click.echo(visible(line))
    if bundle_key is None:
        click.echo("Whether it is the right bundle, only bundle-key.pem of a machine can say: see --bundle-key.")
