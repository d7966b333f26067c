"""A new secret for the safe, split among people anew: when a share is lost, or somebody leaves.

Owns `reshare`: the keys stay what they are, and are encrypted with a new key-encryption key. Old shares open old copies
of the offline bundle for ever, and the new bundle never: what else is to be done about them, `OLD_COPIES` says.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import Final

import msgspec

from cassiopeia.ceremony.conducting import Outcome
from cassiopeia.ceremony.holding import Say, check_clock, check_ready, tell_clock
from cassiopeia.ceremony.safe import describe, make_secret
from cassiopeia.ceremony.shares import share_set, split
from cassiopeia.ceremony.transcript import Minutes, tool_versions
from cassiopeia.ceremony.unlocking import OpenedSafe, as_kept
from cassiopeia.ceremony.writing import Clock, Held, Opening, Split, write_ceremony

OLD_COPIES: Final = (
    """\
The old shares, and the old passphrase if there was one, open every old copy of the offline bundle for ever. \
Destroy them all: the shares, the passphrase's file, and the old bundles on every medium and in every safe.""",
    """\
The keys themselves are the old ones. If somebody may have had enough old shares together with an old bundle, \
new shares help nothing: revoke what those keys have signed, and make a new hierarchy.""",
)
"""What people must know, and do, when a safe has a new secret."""


def reshare(opened: OpenedSafe, out: Path, *, split_into: Split, clock: Clock, say: Say) -> Held:
    """Write the new directory `out`: the offline bundle under a new secret, and the shares of that secret.

    It is a ceremony of its own, with the next number, so that people see which bundle is the newest. Nothing is there
    before the safe was opened again with what was written. Raises OperatorError.
    """
    check_ready(out, split_into, say=say)
    check_clock(opened, clock())
    tell_clock(opened, clock(), say=say)
    # 1. A new secret, and a set of shares that looks like no other.
    old = opened.safe.record
    secret = make_secret()
    shares = split(
        secret,
        shares=split_into.shares,
        threshold=split_into.threshold,
        other_than=old.shares.name if old.shares is not None else "",
    )
    # 2. The same safe, opened by it.
    record = msgspec.structs.replace(
        old,
        number=old.number + 1,
        made_at=clock().astimezone(dt.UTC).replace(microsecond=0),
        shares=as_kept(share_set(shares)),
    )
    outcome = Outcome(
        safe=dataclasses.replace(opened.safe, record=record), time_keys={}, certified=(), crls=(), for_machines=False
    )
    # 3. What people sign.
    minutes = Minutes(
        title=f"Ceremony {record.number} of {opened.safe.declaration.hierarchy.organisation}: new shares",
        facts={"opened": describe(old), "number": str(record.number), "root key (SHA-256)": record.root_key},
    )
    minutes.add("What this was done with", at=clock(), facts=tool_versions())
    minutes.add(
        "The keys were encrypted with a new secret",
        "They are the same keys: no certificate and no CRL changes, and no machine needs a new bundle.",
        at=clock(),
        facts={str(number): name for number, name in enumerate(sorted(opened.safe.keys), start=1)},
    )
    minutes.add(
        "Old copies",
        *OLD_COPIES,
        at=clock(),
        to_fill_in=["Old shares destroyed (numbers)", "Old bundles destroyed (how many)"],
    )
    return write_ceremony(out, outcome, Opening(secret=secret, shares=shares), minutes, clock=clock)
