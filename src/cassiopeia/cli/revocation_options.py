"""What commands that revoke have in common: reasons by name, and since when a key has been bad."""

from __future__ import annotations

import datetime as dt
from typing import Final

import click

# RFC 5280 5.3.1; certificateHold and removeFromCRL are left out, because a revocation here is for ever.
REASONS: Final = {
    "unspecified": 0,
    "keyCompromise": 1,
    "cACompromise": 2,
    "affiliationChanged": 3,
    "superseded": 4,
    "cessationOfOperation": 5,
    "privilegeWithdrawn": 9,
    "aACompromise": 10,
}


def parse_past_day(context: click.Context, parameter: click.Parameter, text: str | None) -> dt.datetime | None:
    """RFC 5280 5.3.2: the invalidity date may be before the revocation; after it, it says nothing."""
    del context, parameter
    if text is None:
        return None
    try:
        day = dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no day: write YYYY-MM-DD.") from None
    if day > dt.datetime.now(dt.UTC):
        raise click.BadParameter(f"{text} is in the future: leave it out, or say since when the key has been bad.")
    return day
