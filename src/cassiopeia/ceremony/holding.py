"""Holding a ceremony: the order of its steps, from the hierarchy file to a directory that can be carried away.

Owns what comes before anything is made (objections, the linter, a full rehearsal), and the minutes. What is made stands
in `conducting`, how it is written in `writing`.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from cassiopeia import files
from cassiopeia.ceremony import inspection
from cassiopeia.ceremony.adopting import Adopted, adopt, request_certificates, review_all
from cassiopeia.ceremony.conducting import Outcome, begin, extend, renew_crls
from cassiopeia.ceremony.declaration import Declaration, portable_files
from cassiopeia.ceremony.objections import Objection, Severity
from cassiopeia.ceremony.planning import make_plan
from cassiopeia.ceremony.review import review
from cassiopeia.ceremony.review_changes import review_calendar, review_changes
from cassiopeia.ceremony.review_profiles import review_profiles
from cassiopeia.ceremony.safe import describe
from cassiopeia.ceremony.shares import check_numbers
from cassiopeia.ceremony.sub_ca_request import SubCaRequest
from cassiopeia.ceremony.telling import tell_beginning, tell_objections, tell_rehearsal
from cassiopeia.ceremony.transcript import Minutes
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
# No ceremony was held with this software before: a machine whose clock has stopped says 1970, or the year of its board.
_EARLIEST: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


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
    check_first_clock(clock())
    objections = refuse_errors(declaration, review(make_plan(declaration, now=clock())), say=say)
    tell_clock(None, clock(), say=say)

    def hold(place: Path, title: str, rehearsed_at: dt.datetime | None = None) -> Held:
        minutes = Minutes(title=title)
        outcome, opening = new_opening(begin(declaration, now=clock(), requests=requests), split_into)
        tell_beginning(minutes, outcome, requests=requests, at=clock())
        tell_objections(minutes, objections, at=clock())
        if rehearsed_at is not None:
            tell_rehearsal(minutes, at=rehearsed_at)
        tell_outcome(minutes, outcome, at=clock())
        return write_ceremony(place, outcome, opening, minutes, clock=clock)

    # 1. Everything once with keys that are thrown away: whatever does not work shows before anything counts.
    say("Rehearsal: everything once, with keys that are thrown away.")
    rehearse(out, lambda place: hold(place, "Rehearsal"))
    # 2. And once more.
    say("The rehearsal went well. Now the ceremony: keys, certificates, CRLs, bundles.")
    return hold(out, f"Ceremony 1 of {declaration.hierarchy.organisation}", rehearsed_at=clock())


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
    old = opened.safe
    objections: tuple[Objection, ...] = ()
    is_changed = portable_files(declaration) != portable_files(old.declaration)
    if is_changed:
        found = (
            *review_profiles(make_plan(declaration, now=clock())),
            *review_changes(old.declaration, declaration, record=old.record, now=clock()),
        )
        objections = refuse_errors(declaration, found, say=say)
    outcome = extend(opened.safe, declaration, first=first, periods=periods, now=clock(), requests=requests)
    if not outcome.certified and not is_changed:
        raise OperatorError(
            "everything that the hierarchy wants from that period on is there already: name a later --period, or more "
            "--periods; for a spare more, raise spares in the hierarchy file"
        )
    tell_clock(opened, clock(), say=say)
    objections += refuse_errors(declaration, review_calendar(outcome.safe.record, now=clock()), say=say)
    return _go_on(opened, outcome, out, objections, requests=requests, clock=clock)


def adopt_authorities(
    declaration: Declaration,
    adopted: Sequence[Adopted],
    out: Path,
    *,
    opened: OpenedSafe | None = None,
    split_into: Split | None = None,
    requests: Mapping[str, SubCaRequest] = _NO_REQUESTS,
    clock: Clock,
    say: Say,
) -> Held:
    """Take CAs in that were made elsewhere, and make what is declared below them; raises OperatorError."""
    objections = _ready_to_adopt(declaration, adopted, out, opened, split_into, clock=clock, say=say)
    safe = None if opened is None else opened.safe
    outcome = adopt(declaration, adopted, safe=safe, now=clock(), requests=requests)
    tell_clock(opened, clock(), say=say)
    return _write_adoption(out, outcome, opened, split_into, objections, requests=requests, clock=clock)


def ask_for_certificates(
    declaration: Declaration,
    adopted: Sequence[Adopted],
    out: Path,
    *,
    opened: OpenedSafe | None = None,
    split_into: Split | None = None,
    clock: Clock,
    say: Say,
) -> Held:
    """Make keys for structure CAs, and requests that somebody else's root is to answer; raises OperatorError."""
    objections = _ready_to_adopt(declaration, adopted, out, opened, split_into, clock=clock, say=say)
    safe = None if opened is None else opened.safe
    outcome, asked = request_certificates(declaration, adopted, safe=safe, now=clock())
    tell_clock(opened, clock(), say=say)
    return _write_adoption(out, outcome, opened, split_into, objections, asked=asked, clock=clock)


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
    tell_clock(opened, clock(), say=say)
    found = review_calendar(outcome.safe.record, now=clock())
    objections = refuse_errors(outcome.safe.declaration, found, say=say)
    return _go_on(opened, outcome, out, objections, requests=_NO_REQUESTS, clock=clock)


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


def refuse_errors(declaration: Declaration, objections: Iterable[Objection], *, say: Say) -> tuple[Objection, ...]:
    """These objections, none of which is an error; raises OperatorError for that."""
    objections = tuple(objections)
    errors = [each for each in objections if each.severity is Severity.ERROR]
    if errors:
        more = f" (and {len(errors) - 1} more: see `cassiopeia ceremony plan`)" if len(errors) > 1 else ""
        raise OperatorError(f"{declaration.source}: {errors[0].where}: {errors[0].what}{more}; nothing was made")
    for each in objections:
        if each.severity is Severity.WARNING:
            say(str(each))
    return objections


def check_first_clock(now: dt.datetime) -> None:
    """Raise OperatorError for a time at which nobody can have begun a hierarchy."""
    if now < _EARLIEST:
        raise OperatorError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, when this software did not exist: set the clock"
        )


def check_clock(opened: OpenedSafe, now: dt.datetime) -> None:
    """Raise OperatorError when the last ceremony was later than now."""
    if now < opened.safe.record.made_at:
        raise OperatorError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, and the safe is from "
            f"{describe(opened.safe.record)}: set the clock"
        )


def tell_clock(opened: OpenedSafe | None, now: dt.datetime, *, say: Say) -> None:
    """For people to compare with a watch, and with what they remember: a clock that is ahead looks like any other."""
    said = f"This machine's clock says {now:%Y-%m-%d %H:%M} UTC"
    if opened is not None:
        record = opened.safe.record
        said += f"; this goes on from {describe(record)}. Days between: {(now - record.made_at).days}"
    say(f"{said}.")


def rehearse(out: Path, hold: Callable[[Path], object]) -> None:
    """Hold a ceremony in a directory beside `out`, on the same disk, and leave nothing of it."""
    out = out.absolute()
    scratch = out.with_name(f".{out.name}.rehearsal.{os.getpid()}")
    try:
        _make_scratch(scratch)
        hold(scratch / "rehearsal")
    except OperatorError as error:
        raise OperatorError(f"the rehearsal failed, and nothing was made: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _make_scratch(scratch: Path) -> None:
    try:
        scratch.mkdir(mode=files.SECRET_DIRECTORY)
    except OSError as error:
        raise OperatorError(
            f"{scratch.parent}: cannot make a directory here: {error.strerror}; make it first"
        ) from error


def _ready_to_adopt(
    declaration: Declaration,
    adopted: Sequence[Adopted],
    out: Path,
    opened: OpenedSafe | None,
    split_into: Split | None,
    *,
    clock: Clock,
    say: Say,
) -> tuple[Objection, ...]:
    check_ready(out, split_into, say=say)
    if opened is None:
        check_first_clock(clock())
    else:
        check_clock(opened, clock())
        if split_into is not None:
            raise OperatorError(
                "the safe keeps the secret that it has: leave out --shares, and make other shares afterwards, with "
                "`cassiopeia ceremony share reshare`"
            )
    return refuse_errors(
        declaration,
        [*review_all(declaration, adopted, now=clock()), *review_profiles(make_plan(declaration, now=clock()))],
        say=say,
    )


def _write_adoption(
    out: Path,
    outcome: Outcome,
    opened: OpenedSafe | None,
    split_into: Split | None,
    objections: tuple[Objection, ...],
    *,
    requests: Mapping[str, SubCaRequest] = _NO_REQUESTS,
    asked: Mapping[str, bytes] | None = None,
    clock: Clock,
) -> Held:
    minutes = Minutes(
        title=f"Ceremony {outcome.safe.record.number} of {outcome.safe.declaration.hierarchy.organisation}"
    )
    if opened is None:
        outcome, opening = new_opening(outcome, split_into)
    else:
        opening = Opening(secret=opened.secret, is_new=False)
        minutes.facts["goes on from"] = describe(opened.safe.record)
    tell_beginning(minutes, outcome, requests=requests, at=clock())
    tell_objections(minutes, objections, at=clock())
    tell_outcome(minutes, outcome, at=clock())
    return write_ceremony(out, outcome, opening, minutes, clock=clock, requests=asked)


def _go_on(
    opened: OpenedSafe,
    outcome: Outcome,
    out: Path,
    objections: tuple[Objection, ...],
    *,
    requests: Mapping[str, SubCaRequest],
    clock: Clock,
) -> Held:
    record = opened.safe.record
    title = f"Ceremony {record.number + 1} of {opened.safe.declaration.hierarchy.organisation}"
    minutes = Minutes(title=title, facts={"goes on from": describe(record)})
    tell_beginning(minutes, outcome, requests=requests, at=clock())
    if objections:
        tell_objections(minutes, objections, at=clock())
    tell_outcome(minutes, outcome, at=clock())
    return write_ceremony(out, outcome, Opening(secret=opened.secret, is_new=False), minutes, clock=clock)
