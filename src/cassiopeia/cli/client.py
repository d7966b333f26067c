"""`cassiopeia client`: between the database and the signer."""

from __future__ import annotations

from pathlib import Path

import click

from cassiopeia.cli.client_machine import init, install
from cassiopeia.cli.options import config_option, log_format_option, set_up_logging, verbose_option


@click.group()
def client() -> None:
    """Run the signer client, which takes jobs from the database to the signer."""


for _command in (init, install):
    client.add_command(_command)


@client.command()
@config_option
@click.option("--drain", is_flag=True, help="Stop when the queue is empty, or the signer stays away for half a minute.")
@verbose_option
@log_format_option
def run(config_path: Path, drain: bool, verbose: bool, log_format: str) -> None:
    """Work on the queue until SIGTERM or Ctrl-C.

    It takes certificates, revocations and CRLs to the signer and back. When the line drops, requests wait in the
    database and are sent again; nothing is lost. Its configuration is client.toml.
    """
    from cassiopeia.client.worker import SignerClient  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.config import check_installed, load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    set_up_logging(verbose=verbose, log_format=log_format)
    config = load_client_config(config_path)
    check_installed(config.bundles, config.authorities, command="client install")
    with open_store(config.store_url) as store:
        SignerClient(config, store).run(drain=drain)
