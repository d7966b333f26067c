"""Holding a ceremony: the order of its steps, from the hierarchy file to a directory that can be carried away.

Owns what comes before anything is made (objections, the linter, a full rehearsal), and the minutes. What is made stands
in `conducting`, how it is written in `writing`.
"""

from __future__ import annotations

import datetime as dt
import shutil
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final

from cassiopeia.ceremony import inspection
from cassiopeia.ceremony.conducting import Outcome, begin, extend, renew_crls
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.objections import Objection, Severity
from cassiopeia.ceremony.planning import make_plan
from cassiopeia.ceremony.review import review
from cassiopeia.ceremony.safe import describe
from cassiopeia.ceremony.shares import check_numbers
from cassiopeia.ceremony.sub_ca_request import SubCaRequest
from cassiopeia.ceremony.transcript import Minutes, tool_versions
from cassiopeia.ceremony.unlocking import OpenedSafe
from cassiopeia.ceremony.writing import (
    Clock,
    Held,
    Opening,
    Split,
    new_opening,
    tell_outcome,
    write_ceremony,
)
from cassiopeia.errors import OperatorError

Say = Callable[[str], None]
"""Tells those who wait what is being done."""

_NO_REQUESTS: Final[Mapping[str, SubCaRequest]] = {}


def run(
    declaration: Declaration,
    out: Path,
    *,
    split_into: Split | None = None,
    requests: Mapping[str, SubCaRequest] = _NO_REQUESTS,
    clock: Clock,
    say: Say,
) -> Held:
    """Make a hierarchy in the new directory `out`, after rehearsing all of it; raises OperatorError."""
    check_ready(out, split_into, say=say)
    objections = refuse_errors(declaration, now=clock(), say=say)

    def hold(place: Path, title: str) -> Held:
        minutes = Minutes(title=title)
        outcome, opening = new_opening(begin(declaration, now=clock(), requests=requests), split_into)
        tell_beginning(minutes, outcome, declaration.source, requests=requests, at=clock())
        _tell_objections(minutes, objections, at=clock())
        tell_outcome(minutes, outcome, at=clock())
        return write_ceremony(place, outcome, opening, minutes, clock=clock)

    # 1. Everything once with keys that are thrown away: whatever does not work shows before anything counts.
    say("Rehearsal: everything once, with keys that are thrown away.")
    rehearse(out, lambda place: hold(place, "Rehearsal"))
    # 2. And once more.
    say("The rehearsal went well. Now the ceremony: keys, certificates, CRLs, bundles.")
    return hold(out, f"Ceremony 1 of {declaration.hierarchy.organisation}")


def extend_hierarchy(
    opened: OpenedSafe,
    declaration: Declaration,
    out: Path,
    *,
    first: dt.datetime,
    periods: int | None = None,
    requests: Mapping[str, SubCaRequest] = _NO_REQUESTS,
    clock: Clock,
    say: Say,
) -> Held:
    """Add the sub-CAs that are declared from `first` on and are not there yet; raises OperatorError."""
    check_ready(out, None, say=say)
    check_clock(opened, clock())
    outcome = extend(opened.safe, declaration, first=first, periods=periods, now=clock(), requests=requests)
    if not outcome.certified and declaration == opened.safe.declaration:
        raise OperatorError(
            "everything that the hierarchy wants from that period on is there already: name a later --period, or more "
            "--periods; for a spare more, raise spares in the hierarchy file"
        )
    return _go_on(opened, outcome, out, declaration.source, requests=requests, clock=clock)


def renew(
    opened: OpenedSafe,
    out: Path,
    *,
    revoke: Collection[str] = (),
    reason: str = "",
    clock: Clock,
    say: Say,
) -> Held:
    """Sign the offline CAs' CRLs anew, with these CAs on them; raises OperatorError."""
    check_ready(out, None, say=say)
    check_clock(opened, clock())
    outcome = renew_crls(opened.safe, now=clock(), revoke=revoke, reason=reason)
    if not outcome.crls:
        raise OperatorError("no CA whose key is in the safe can sign a CRL any more: their certificates have ended")
    return _go_on(opened, outcome, out, opened.safe.declaration.source, requests=_NO_REQUESTS, clock=clock)


def check_ready(out: Path, split_into: Split | None, *, say: Say) -> None:
    """Raise OperatorError for what would only show at the end; `say` what an earlier ceremony left."""
    inspection.require_linter()
    if split_into is not None:
        check_numbers(shares=split_into.shares, threshold=split_into.threshold)
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OperatorError(f"{out}: is there already, and a ceremony is never overwritten: choose another directory")
    for left in sorted(out.parent.glob(f".{out.name}.*")):
        say(f"{left}: was left by a ceremony that was ended by force. Nothing in it is in use: destroy it.")


def refuse_errors(declaration: Declaration, *, now: dt.datetime, say: Say) -> tuple[Objection, ...]:
    """What a reviewer objects to, none of it an error; raises OperatorError for that."""
    objections = review(make_plan(declaration, now=now))
    errors = [each for each in objections if each.severity is Severity.ERROR]
    if errors:
        more = f" (and {len(errors) - 1} more: see `cassiopeia ceremony plan`)" if len(errors) > 1 else ""
        raise OperatorError(f"{declaration.source}: {errors[0].where}: {errors[0].what}{more}; nothing was made")
    for each in objections:
        if each.severity is Severity.WARNING:
            say(str(each))
    return objections


def check_clock(opened: OpenedSafe, now: dt.datetime) -> None:
    """Raise OperatorError when the last ceremony was later than now."""
    if now < opened.safe.record.made_at:
        raise OperatorError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, and the safe is from "
            f"{describe(opened.safe.record)}: set the clock"
        )


def rehearse(out: Path, hold: Callable[[Path], object]) -> None:
    """Hold a ceremony in a directory beside `out`, on the same disk, and leave nothing of it."""
    try:
        scratch = Path(tempfile.mkdtemp(dir=out.absolute().parent, prefix=f".{out.name}.rehearsal."))
    except OSError as error:
        raise OperatorError(f"{out.parent}: cannot make a directory here: {error.strerror}; make it first") from error
    try:
        hold(scratch / "rehearsal")
    except OperatorError as error:
        raise OperatorError(f"the rehearsal failed, and nothing was made: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _go_on(
    opened: OpenedSafe,
    outcome: Outcome,
    out: Path,
    source: str,
    *,
    requests: Mapping[str, SubCaRequest],
    clock: Clock,
) -> Held:
    record = opened.safe.record
    title = f"Ceremony {record.number + 1} of {opened.safe.declaration.hierarchy.organisation}"
    minutes = Minutes(title=title, facts={"goes on from": describe(record)})
    tell_beginning(minutes, outcome, source, requests=requests, at=clock())
    tell_outcome(minutes, outcome, at=clock())
    return write_ceremony(out, outcome, Opening(secret=opened.secret, is_new=False), minutes, clock=clock)


def _tell_objections(minutes: Minutes, objections: tuple[Objection, ...], *, at: dt.datetime) -> None:
    minutes.add(
        "What a reviewer objects to",
        "Whoever asked for this has read these objections, and wants it so." if objections else "Nothing.",
        at=at,
        facts={str(number): str(each) for number, each in enumerate(objections, start=1)},
    )


def tell_beginning(
    minutes: Minutes, outcome: Outcome, source: str, *, requests: Mapping[str, SubCaRequest], at: dt.datetime
) -> None:
    record = outcome.safe.record
    minutes.facts["number"] = str(record.number)
    minutes.facts["root key (SHA-256)"] = record.root_key
    minutes.add("What this was done with", at=at, facts=tool_versions())
    minutes.add(
        "What was asked for",
        f"The hierarchy was read from {source}.",
        at=at,
        facts={f"request for {name}": request.source for name, request in requests.items()},
    )
