"""`cassiopeia publisher`: CRLs, CA certificates and OCSP for the world."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from cassiopeia.cli.bundles import bundle_argument, dry_run_option, print_bundle, read_bundle_file
from cassiopeia.cli.options import configuration, log_format_option, set_up_logging, verbose_option
from cassiopeia.errors import OperatorError

# As in `publisher.key`, which `--help` must not load; a test holds them together.
_KEY_ALGORITHMS: Final = ("P-256", "P-384", "RSA-2048", "RSA-3072", "Ed25519")
# It names a file, too.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_publisher_option = configuration("publisher.toml", variable="CASSIOPEIA_PUBLISHER")


@click.group()
def publisher() -> None:
    """Serve CRLs and CA certificates, and answer OCSP with a key that the signer knows."""


@publisher.command(short_help="Make another publisher: its key and publisher.toml.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--client",
    "client_path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="client.toml of the client whose store and public directory it will use.",
)
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="ADDRESS:PORT", help="Where to serve.")
@click.option(
    "--key-algorithm",
    default="P-256",
    show_default=True,
    type=click.Choice(_KEY_ALGORITHMS),
    metavar="ALGORITHM",
    help=f"The kind of key that signs OCSP answers: {', '.join(_KEY_ALGORITHMS)}.",
)
def init(directory: Path, client_path: Path, listen: str, key_algorithm: str) -> None:
    """Make a publisher in DIRECTORY, which must be new or empty, and print what the signer has to be told.

    Its key never leaves DIRECTORY; the signer learns the public half, and certifies it under each of its sub-CAs.
    """
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.publisher.installation import make_publisher, pinning_toml  # noqa: PLC0415 - as above

    name = directory.absolute().name
    if not _NAME.fullmatch(name):
        raise OperatorError(f"{name!a} is no name for a publisher: call DIRECTORY by letters, digits and . _ -")
    public = make_publisher(directory, load_client_config(client_path), listen=listen, key_algorithm=key_algorithm)
    click.echo(public.decode(), nl=False)
    click.echo(
        f"{directory}: made. Now pin its key on the signer: name the file responder.pem in the hierarchy, as "
        f"ocsp.responders, and install the bundle of the next ceremony; or save what was printed above as "
        f"responders/{name}.pem beside signer.toml, and add to signer.toml:\n",
        err=True,
    )
    click.echo(pinning_toml(name), err=True)
    click.echo(f"Then: cassiopeia publisher run -c {directory / 'publisher.toml'}", err=True)


@publisher.command(short_help="Install the CAs that a ceremony gives to clients.")
@_publisher_option
@bundle_argument
@dry_run_option
def install(config_path: Path, bundle: Path, dry_run: bool) -> None:
    """Verify BUNDLE, which is the one for clients, show what it changes, and put it in force at once.

    After any error nothing has changed. A publisher that runs takes it over by itself.
    """
    from cassiopeia.cli.client_machine import install_on  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.client import installing  # noqa: PLC0415 - as above
    from cassiopeia.config.publisher import load_publisher_config  # noqa: PLC0415 - as above
    from cassiopeia.core.bundle import CLIENT  # noqa: PLC0415 - as above
    from cassiopeia.publisher.installation import publisher_machine  # noqa: PLC0415 - as above

    machine = publisher_machine(load_publisher_config(config_path))
    octets = read_bundle_file(bundle)
    opened = installing.open_public_bundle(machine, octets, kinds=(CLIENT,))
    print_bundle(opened, octets)
    install_on(machine, opened, octets, dry_run=dry_run)


@publisher.command(short_help="Serve until SIGTERM or Ctrl-C.")
@_publisher_option
@verbose_option
@log_format_option
def run(config_path: Path, verbose: bool, log_format: str) -> None:
    """Serve CRLs, CA certificates and OCSP until SIGTERM or Ctrl-C.

    It asks for its own certificates by itself, and renews them. What it says comes from CRLs and journal entries that
    it has verified.
    """
    from cassiopeia.config import check_installed  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.config.publisher import load_publisher_config  # noqa: PLC0415 - as above
    from cassiopeia.publisher.service import PublisherService  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    set_up_logging(verbose=verbose, log_format=log_format)
    config = load_publisher_config(config_path)
    check_installed(config.bundles, config.authorities, command="publisher install")
    with open_store(config.store_url) as store:
        PublisherService(config, store).run()
