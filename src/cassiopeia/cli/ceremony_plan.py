"""`cassiopeia ceremony plan`: look at a hierarchy before anybody makes it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from cassiopeia.cli.options import visible
from cassiopeia.errors import OperatorError

# A hierarchy lives for decades, and certificates end with the year 9999.
_YEARS = range(2000, 2200)


@click.command(short_help="Show what a ceremony would make of a hierarchy, and what there is to object to.")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--from",
    "from_day",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="The day of the ceremony, as 2027-01-15 (without it: today).",
)
@click.option(
    "--show-default", is_flag=True, help="Print the default hierarchy, to copy and change, and do nothing else."
)
def plan(file: Path | None, from_day: dt.datetime | None, *, show_default: bool) -> None:
    """Show what `cassiopeia ceremony run FILE` would make: the tree, the calendar, how much each sub-CA may issue.

    FILE is a hierarchy (TOML). Then all is said that a reviewer would object to: an error (exit status 1) means that
    the authority would not work as declared, a warning that somebody will regret it. Nothing is made.
    """
    # `--help` must not load the crypto library.
    from cassiopeia.ceremony.declaration import load_declaration  # noqa: PLC0415 - as above
    from cassiopeia.ceremony.hierarchy import default_hierarchy_text  # noqa: PLC0415 - as above
    from cassiopeia.ceremony.objections import Severity  # noqa: PLC0415 - as above
    from cassiopeia.ceremony.overview import overview  # noqa: PLC0415 - as above
    from cassiopeia.ceremony.planning import make_plan  # noqa: PLC0415 - as above
    from cassiopeia.ceremony.review import review  # noqa: PLC0415 - as above

    if show_default:
        click.echo(default_hierarchy_text(), nl=False)
        return
    if file is None:
        raise click.UsageError("Missing argument 'FILE'.")
    now = from_day.replace(tzinfo=dt.UTC) if from_day else dt.datetime.now(dt.UTC)
    if now.year not in _YEARS:
        raise click.BadParameter(f"a year from {_YEARS[0]} to {_YEARS[-1]}, please.", param_hint="--from")
    planned = make_plan(load_declaration(file), now=now)
    for line in overview(planned):
        click.echo(visible(line))
    objections = review(planned)
    click.echo("\nObjections" if objections else "\nNothing to object to")
    for each in objections:
        click.echo(visible(f"  {each}"))
    if errors := sum(each.severity is Severity.ERROR for each in objections):
        raise OperatorError(
            f"{errors} of these {'is an error' if errors == 1 else 'are errors'}: mend the hierarchy first"
        )
