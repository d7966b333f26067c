"""All that health is judged by, read once: the store, the public directory, the calendar."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

from cassiopeia import duties
from cassiopeia.client.calendar import read_calendar
from cassiopeia.config import ClientConfig
from cassiopeia.ops import Situation
from cassiopeia.store.database import Store

# A CRL that was stored a moment ago may be on its way into the directory.
_PUBLISHING_S: Final = 60


def read_situation(config: ClientConfig, store: Store, *, now: dt.datetime) -> Situation:
    """What `ops.concerns` judges; raises `OperatorError` and `Unavailable`."""
    calendar = read_calendar(config, store, now=now)
    return Situation(
        now=now,
        queue=store.queue.statistics(now=now),
        signers=store.signers.list(),
        crls=store.crls.headers(),
        held=store.lint_streaks.suspicious(),
        unpublished=_unpublished(store, config.publish_directory, now=now),
        hears_signers=config.version > 1,
        validators=store.evidence.validators(),
        publishers=store.publishers.list(),
        served=store.served_crls.list(),
        duties=duties.duties(calendar),
        coverage=duties.coverage(calendar),
        calendar=calendar,
    )


def _unpublished(store: Store, directory: Path, *, now: dt.datetime) -> set[str]:
    """The authorities whose file in the public directory is not the CRL that the store has."""
    found = set()
    for header in store.crls.headers():
        if (now - header.saved_at).total_seconds() < _PUBLISHING_S:
            continue
        record = store.crls.get(header.authority)
        try:
            published = (directory / f"{header.authority}.crl").read_bytes()
        except OSError:
            published = b""
        if record is not None and record.der != published:
            found.add(header.authority)
    return found
