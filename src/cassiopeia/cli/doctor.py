"""`cassiopeia doctor`: look at everything, a line each, and say what to do, and by when; also as a Nagios plugin."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cassiopeia.cli.options import config_option, json_option, print_json, visible

if TYPE_CHECKING:
    from cassiopeia.checkup import Check
    from cassiopeia.ops import Concern

_NAME_WIDTH = 15
_INDENT = " " * (_NAME_WIDTH + 10)


@click.command()
@config_option
@json_option
@click.option("--nagios", is_flag=True, help="Answer as a Nagios plugin: one line, then details; status 0, 1, 2 or 3.")
@click.pass_context
def doctor(context: click.Context, config_path: Path, as_json: bool, nagios: bool) -> None:
    """Look at configuration, store, signers, calendar, CRLs and OCSP, and say what to do, and by when.

    Run it as the client's user. The exit status is 1 if anything is to do; with --nagios 1 for a warning, 2 for what
    is urgent, 3 for what could not be looked at.
    """
    from cassiopeia import checkup  # noqa: PLC0415 - `--help` must be quick

    if as_json and nagios:
        raise click.UsageError("Give either --json or --nagios.")
    now = dt.datetime.now(dt.UTC)
    checks = _look(config_path, now=now)
    state = checkup.worst(checks)
    if as_json:
        print_json({"state": state, "checks": [_document(each) for each in checks]})
    elif nagios:
        click.echo(visible(checkup.summary(checks)))
        _print(checks, now=now)
    else:
        _print(checks, now=now)
    context.exit(checkup.exit_code(state) if nagios else int(state != "ok"))


def _look(path: Path, *, now: dt.datetime) -> tuple[Check, ...]:
    from cassiopeia import checkup, ops  # noqa: PLC0415 - as above
    from cassiopeia.client.machine_check import check_machine  # noqa: PLC0415 - as above
    from cassiopeia.client.situation import read_situation  # noqa: PLC0415 - as above
    from cassiopeia.errors import OperatorError, Unavailable  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    machine = check_machine(path)
    if machine.config is None:
        missing = "the configuration has to be mended first"
        return checkup.examine(None, machine.concerns, facts=machine.facts, missing=missing)
    try:
        with open_store(machine.config.store_url) as store:
            situation = read_situation(machine.config, store, now=now)
    except (OperatorError, Unavailable) as error:
        away = ops.Concern(
            code="store",
            what=f"the store cannot be read: {error}",
            remedy="get the database going, or mend what is named there; requests come in again by themselves",
            is_near=True,
        )
        return checkup.examine(
            None,
            (*machine.concerns, away),
            facts=machine.facts | {"store": ""},
            missing="that needs the store",
        )
    return checkup.examine(situation, (*machine.concerns, *ops.concerns(situation)), facts=machine.facts)


def _print(checks: tuple[Check, ...], *, now: dt.datetime) -> None:
    for check in checks:
        name = check.name.ljust(_NAME_WIDTH)
        if not check.concerns:
            click.echo(visible(f"{check.state.upper():8}  {name}{check.fact}"))
        for each in check.concerns:
            state = "CRITICAL" if each.is_urgent else "WARNING "
            click.echo(visible(f"{state}  {name}{each.what}"))
            click.echo(visible(f"{_INDENT}-> {_by(each, now)}{each.remedy}"))


def _by(concern: Concern, now: dt.datetime) -> str:
    return "" if concern.due is None or concern.due <= now else f"by {concern.due:%F}: "


def _document(check: Check) -> dict[str, Any]:
    from cassiopeia.cli.status import concern_document  # noqa: PLC0415 - as above

    return {
        "name": check.name,
        "state": check.state,
        "fact": check.fact,
        "concerns": [concern_document(each) for each in check.concerns],
    }
