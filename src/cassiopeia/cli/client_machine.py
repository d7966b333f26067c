"""`cassiopeia client init` and `install`: making the client's machine, and what a ceremony gives to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cassiopeia.cli.bundles import bundle_argument, dry_run_option, print_bundle, print_changes, read_bundle_file
from cassiopeia.cli.options import config_option

if TYPE_CHECKING:
    from cassiopeia.client.installing import Machine
    from cassiopeia.core.bundle import Bundle


@click.command(short_help="Make a client's machine; its bundle brings the CAs.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--connect",
    required=True,
    metavar="ADDRESS",
    help="Its end of the line: serial:/dev/ttyS0, tcp:IP:PORT, unix:PATH.",
)
@click.option(
    "--signer",
    "signer_link",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="link.pem of the signer.",
)
@click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="journal.pem of the signer, which its journal is known by.",
)
@click.option(
    "--bundle-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="bundle-key.pem of the ceremony; without it, put that into DIRECTORY before a bundle is installed.",
)
def init(directory: Path, connect: str, signer_link: Path, journal: Path, bundle_key: Path | None) -> None:
    """Make a client in DIRECTORY, which must be new or empty: the key of its end of the line, and a store.

    CAs and profiles come with a bundle: `cassiopeia client install`. For PostgreSQL, change store.url in client.toml,
    then run `cassiopeia store upgrade`.
    """
    from cassiopeia.client.machine import ClientFiles, make_client  # noqa: PLC0415 - `--help` must be quick

    given = ClientFiles(
        connect=connect,
        bundle_key=None if bundle_key is None else bundle_key.read_bytes(),
        peers={"signer": signer_link.read_bytes(), "journal": journal.read_bytes()},
    )
    make_client(directory, given)
    click.echo(f"Made a client in {directory}. Carry away, none of it secret:")
    click.echo("  link.pem               to the signer, as peers/client.pem")
    click.echo("Then bring here:")
    if bundle_key is None:
        click.echo("  bundle-key.pem         of the ceremony")
    click.echo(f"  the client's bundle    cassiopeia client install BUNDLE -c {directory / 'client.toml'}")


@click.command(short_help="Install what a ceremony made for clients, or publish what it made for all.")
@config_option
@bundle_argument
@dry_run_option
def install(config_path: Path, bundle: Path, dry_run: bool) -> None:
    """Verify BUNDLE, show what it changes, and put it in force at once, or after any error change nothing.

    A client bundle brings CAs and profiles. A publication bundle brings what the public directory shows of the CAs
    above; a CRL there never goes back to an older one.
    """
    from cassiopeia.client import installing  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.core.bundle import PUBLICATION  # noqa: PLC0415 - as above

    config = load_client_config(config_path)
    machine = installing.client_machine(config)
    octets = read_bundle_file(bundle)
    opened = installing.open_public_bundle(machine, octets)
    print_bundle(opened, octets)
    if opened.kind == PUBLICATION:
        contents, sentences = installing.to_publish(opened, config.publish_directory)
        if not dry_run:
            installing.publish(contents)
        click.echo(f"{'It would be published' if dry_run else 'Published'} in {config.publish_directory}:")
        print_changes(sentences)
        return
    install_on(machine, opened, octets, dry_run=dry_run)


def install_on(machine: Machine, bundle: Bundle, octets: bytes, *, dry_run: bool) -> None:
    """A client bundle, on any machine without CA keys."""
    from cassiopeia.client import installing  # noqa: PLC0415 - as above

    staged = None
    if dry_run:
        is_in_force = installing.rehearse(machine, octets)
    else:
        staged = installing.stage(machine, octets)
        is_in_force = staged.is_in_force
    if is_in_force:
        click.echo("It is installed already; nothing was changed.")
        return
    click.echo("Everything in it is in order. It changes:")
    print_changes(installing.differences(machine, bundle))
    if staged is None:
        click.echo("Nothing was changed: this was a dry run.")
    else:
        installing.activate(machine, staged)
        click.echo(f"Installed in {staged.directory}.")
