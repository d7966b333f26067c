"""`cassiopeia store`: the database's tables."""

from __future__ import annotations

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
