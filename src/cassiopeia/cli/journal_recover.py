"""`cassiopeia journal recover`: what the journal has and the store has lost, taken in again."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cassiopeia.cli.journal_source import is_signer_config, open_source
from cassiopeia.cli.options import visible
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.client.journal_recovery import Recovered


@click.command(short_help="Take in again what the store has lost, from the journal.")
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    envvar="CASSIOPEIA_CONFIG",
    required=True,
    help="client.toml, whose store it is; or set CASSIOPEIA_CONFIG.",
)
@click.option("--signer", "signer_id", type=click.IntRange(1, 127), help="Of the client's copies, this signer's.")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read this exported journal, not the client's copy.",
)
@click.option(
    "--key",
    "key_paths",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Trust this journal key (public, PEM) instead of those that the configuration names.",
)
def recover(config_path: Path, signer_id: int | None, file: Path | None, key_paths: tuple[Path, ...]) -> None:
    """Take certificates and revocations that the store has lost in again, from the client's copy of the journal.

    For a client whose database was restored from an older backup: start the client first, which copies the journal,
    then do this. The client may run meanwhile. Nothing that the store says is overwritten, and all may be repeated.
    """
    from cassiopeia.client import journal_recovery  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.config import load_authorities, load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    if is_signer_config(config_path):
        raise OperatorError(f"{config_path}: this is a signer's; name the client.toml whose store it is")
    config = load_client_config(config_path)
    source = open_source(None if file else config_path, file, signer_id=signer_id, keys=key_paths)
    keys = source.keys or config.journal_keys
    if not keys:
        raise OperatorError(f"{config_path}: it names no [journal] keys; say by --key which journal key you trust")
    authorities = {each.authority.name: each.authority for each in load_authorities(config.authorities)}
    material = journal_recovery.Material(items=source.items, logs=source.logs, keys=keys)
    with open_store(config.store_url) as store:
        done = journal_recovery.recover(store, material, authorities, now=dt.datetime.now(dt.UTC))
    for subject, words in _lines(done):
        click.echo(visible(f"{subject:<13} {words}"))
    for each in done.problems:
        click.echo(visible(f"PROBLEM       {each}"))
    if done.problems:
        raise OperatorError(
            f"{source.name}: {len(done.problems):,} things were left as they are, the first: {done.problems[0]}; "
            "`cassiopeia journal verify` says what the journal and the store disagree about"
        )
    click.echo("Nothing else is lost." if done.taken or done.newly_revoked else "Nothing was lost.")


def _lines(done: Recovered) -> list[tuple[str, str]]:
    from cassiopeia.store.recovery import Recovery  # noqa: PLC0415 - as above

    lines = [
        ("journal", f"of signer {done.signer_id}: {done.entries:,} entries, {done.covered:,} of them signed for"),
        ("known", f"{done.known:,} of its certificates were in the store"),
        ("taken in", f"{done.taken:,} certificates, {done.recovered_revoked:,} of them revoked"),
    ]
    if completed := done.outcomes[Recovery.COMPLETED]:
        lines.append(("", f"{completed:,} of their requests waited in the queue, and are issued now"))
    lines += [("", f"{each} has no request here: another one has its id, or was refused") for each in done.alone]
    lines.append(("revoked", f"{done.newly_revoked:,} certificates that the store had, and did not take for revoked"))
    lines += [
        (
            "not here",
            f"{each}: the journal that was read has its octets no longer; an older export may have them (--file)",
        )
        for each in done.bare
    ]
    if done.entries > done.covered:
        lines.append(
            ("left alone", f"the last {done.entries - done.covered:,} entries: nothing signed covers them yet")
        )
    if done.ahead:
        lines.append(
            ("not here", f"{done.ahead:,} entries more that the signer has: let the client run, then do this again")
        )
    return lines
