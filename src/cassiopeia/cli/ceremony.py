"""`cassiopeia ceremony`: what happens on a machine without a network, once in a while, around the offline keys."""

from __future__ import annotations

import click

from cassiopeia.cli.ceremony_adopt import adopt
from cassiopeia.cli.ceremony_hold import crl, extend, run
from cassiopeia.cli.ceremony_plan import plan
from cassiopeia.cli.ceremony_share import share
from cassiopeia.cli.ceremony_show import show


@click.group()
def ceremony() -> None:
    """Make a hierarchy of CAs on a machine without a network, and extend it later.

    docs/ceremony.md is the checklist for the day.
    """


ceremony.add_command(plan)
ceremony.add_command(run)
ceremony.add_command(extend)
ceremony.add_command(crl)
ceremony.add_command(adopt)
ceremony.add_command(share)
ceremony.add_command(show)
