"""`cassiopeia signer`: the machine that nobody can reach."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

import click

from cassiopeia.cli.options import config_option, log_format_option, set_up_logging, verbose_option
from cassiopeia.cli.signer_machine import csr, init, install


@click.group()
def signer() -> None:
    """Run the signer, which alone holds the CA keys."""


for _command in (init, install, csr):
    signer.add_command(_command)


@signer.command()
@config_option
@verbose_option
@log_format_option
def run(config_path: Path, verbose: bool, log_format: str) -> None:
    """Serve the one line of this signer until SIGTERM or Ctrl-C.

    The signer unlocks its keys by itself (passphrase file or systemd credential), judges each request that the client
    brings, and uses a CA key only after the client has saved the log. Its configuration is signer.toml. An installed
    bundle that changes is taken over while the signer runs; so is every other file at SIGHUP.
    """
    from cassiopeia.config import load_signer_config  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.process_guard import unlocked_memory  # noqa: PLC0415 - as above
    from cassiopeia.signer.service import Signer  # noqa: PLC0415 - as above
    from cassiopeia.termination import reload_deferred  # noqa: PLC0415 - as above

    set_up_logging(verbose=verbose, log_format=log_format)
    if warning := unlocked_memory():
        logging.getLogger(__name__).warning("%s", warning)
    with reload_deferred():
        Signer(load_signer_config(config_path), config_path=config_path).run()


@signer.command(short_help="Make a lost journal again from the client's copy.")
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="signer.toml of the signer that stands still.",
)
@click.option(
    "--journal",
    "export",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="What `cassiopeia journal export -c client.toml --out FILE` wrote.",
)
@click.option(
    "--key",
    "key_paths",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Trust this journal key (public, PEM): needed when the old key was lost with the disk.",
)
@click.option("--replace", is_flag=True, help="Take the place of a journal that is there, and keep that one aside.")
def rebuild(config_path: Path, export: Path, key_paths: tuple[Path, ...], replace: bool) -> None:
    """Make the signer's journal again from the client's copy, when its disk is lost or was put back to an older state.

    Everything is verified first. Requests that were on their way come out the same, revocations stand, no serial number
    and no CRL number comes twice. After an error nothing has changed. Stop the client before the export, and do not let
    it run before the signer does.
    """
    from cassiopeia.cli.journal_source import read_file, read_public_key  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.config import load_signer_config  # noqa: PLC0415 - as above
    from cassiopeia.signer.rebuild import rebuild as make  # noqa: PLC0415 - as above

    config = load_signer_config(config_path)
    done = make(
        config,
        read_file(export),
        trusted=[read_public_key(each) for each in key_paths],
        now=dt.datetime.now(dt.UTC).replace(microsecond=0),
        replace=replace,
    )
    click.echo(f"The journal of signer {config.signer_id} is made again: {done.entries} entries, epoch {done.epoch}.")
    if done.newest_head > done.copied:
        click.echo(
            f"  entries at its end that are lost: {done.newest_head - done.copied}; what the client knew of them:"
        )
    click.echo(f"  intents written down again: {done.taken_in}, revocations restored: {done.revoked}")
    click.echo(f"  intents that count as confirmed: {done.confirmed}, abandoned: {done.abandoned}")
    if done.missing_parts:
        click.echo(f"  parts that are not in the copy, and stay away: {done.missing_parts}")
    if done.kept_aside is not None:
        click.echo(f"  the journal before it is kept as {done.kept_aside}")
    click.echo("Every entry was verified. Start the signer, then the client; new CRLs are signed at once.")
