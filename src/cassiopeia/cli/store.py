"""`cassiopeia store`: the database's tables, and what is not kept in them for ever."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from cassiopeia.cli.options import config_option


@click.group()
def store() -> None:
    """Look after the database."""


@store.command(short_help="Make the tables, or bring them up to date.")
@config_option
def upgrade(config_path: Path) -> None:
    """Make the tables of an empty database, or bring older ones up to date.

    Needed once for a new PostgreSQL database, and after each new release. It may be run again at any time.
    """
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must not load the database's side
    from cassiopeia.store import database  # noqa: PLC0415 - as above

    database.upgrade(load_client_config(config_path).store_url)
    click.echo("The tables are up to date.")


@store.command(short_help="Delete observations from long ago.")
@config_option
@click.option(
    "--older-than", "days", type=click.IntRange(1, 36_500), required=True, metavar="DAYS", help="Made before so long."
)
def forget(config_path: Path, days: int) -> None:
    """Delete what validators observed more than DAYS ago; what they attested is gone as soon as a request is done.

    Some kinds of observation are good for years: see `cassiopeia validator list`. Of accounts with requests that wait,
    everything stays.
    """
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    with open_store(load_client_config(config_path).store_url) as opened:
        count = opened.evidence.forget(dt.datetime.now(dt.UTC) - dt.timedelta(days=days))
    click.echo(f"{count} {'observation' if count == 1 else 'observations'} deleted.")
