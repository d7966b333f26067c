"""`cassiopeia signer`: the machine that nobody can reach."""

from __future__ import annotations

from pathlib import Path

import click

from cassiopeia.cli.options import config_option, log_format_option, set_up_logging, verbose_option


@click.group()
def signer() -> None:
    """Run the signer, which alone holds the CA keys."""


@signer.command()
@config_option
@verbose_option
@log_format_option
def run(config_path: Path, verbose: bool, log_format: str) -> None:
    """Serve the one line of this signer until SIGTERM or Ctrl-C.

    The signer unlocks its keys by itself (passphrase file or systemd credential), judges each request that the client
    brings, and uses a CA key only after the client has saved the log. Its configuration is signer.toml.
    """
    from cassiopeia.config import load_signer_config  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.signer.service import Signer  # noqa: PLC0415 - as above

    set_up_logging(verbose=verbose, log_format=log_format)
    Signer(load_signer_config(config_path), config_path=config_path).run()
