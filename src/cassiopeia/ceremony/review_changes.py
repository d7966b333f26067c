"""Objections to what a later ceremony leaves behind: what is declared no more, and when nothing would issue.

An old hierarchy file in the place of the newest takes away what was added since, and nobody would notice before the
machines do. Nothing here is an error: each of these can be meant.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import Final

from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.objections import Objection, warning
from cassiopeia.ceremony.pins import PinnedKey
from cassiopeia.ceremony.planning import Stretch, gaps
from cassiopeia.ceremony.record import KnownAuthority, Record

_CALENDAR: Final = "calendar"


def review_changes(old: Declaration, new: Declaration, *, record: Record, now: dt.datetime) -> tuple[Objection, ...]:
    """What the new declaration takes away from what there is; `record` is that of the last ceremony."""
    going = [each for each in record.time if each.not_after > now]
    return (
        *_left_out(new, going),
        *_moved(old, new, going),
        *_profiles(old, new),
        *_pins(old, new),
    )


def review_calendar(record: Record, *, now: dt.datetime) -> tuple[Objection, ...]:
    """When some family and signer have no sub-CA that issues, until the end of their calendar or at all."""
    stretches = [
        Stretch(
            name=each.name,
            family=each.family,
            signer_id=each.signer_id,
            issues_from=each.issues_from,
            issues_until=each.issues_until,
        )
        for each in record.time
        if not each.retired and each.issues_from is not None and each.issues_until is not None
    ]
    found = [
        warning(
            "calendar-gap",
            _CALENDAR,
            f"nothing issues for {each.family} on signer {each.signer_id} from {each.issues_from:%Y-%m-%d} until "
            f"{each.issues_until:%Y-%m-%d}: make sub-CAs for that as well",
        )
        for each in gaps(stretches, now=now)
    ]
    issuing = {(each.family, each.signer_id) for each in stretches if each.issues_until > now}
    lost = {
        (each.family, each.signer_id)
        for each in record.time
        if each.retired and each.issues_until is not None and each.issues_until > now
    }
    found += [
        warning(
            "nothing-issues",
            _CALENDAR,
            f"nothing issues for {family} on signer {signer_id} any more: make other sub-CAs with `cassiopeia ceremony "
            "extend`, from the current period on",
        )
        for family, signer_id in sorted(lost - issuing)
    ]
    return tuple(found)


def _left_out(new: Declaration, going: Iterable[KnownAuthority]) -> Iterator[Objection]:
    families: dict[str, dt.datetime] = {}
    signers: dict[int, dt.datetime] = {}
    for each in going:
        families[each.family] = max(each.not_after, families.get(each.family, each.not_after))
        signers[each.signer_id] = max(each.not_after, signers.get(each.signer_id, each.not_after))
    declared = {each.name for each in new.hierarchy.family}
    for family, end in families.items():
        if family not in declared:
            yield warning(
                "family-left-out",
                f"family {family}",
                "is declared no more, and has sub-CAs: they certify nothing any more, and their CRLs go on until "
                f"{end:%Y-%m-%d}",
            )
    known = {each.id for each in new.hierarchy.signer}
    for signer_id, end in signers.items():
        if signer_id not in known:
            yield warning(
                "signer-left-out",
                f"signer {signer_id}",
                "is declared no more, and has sub-CAs: it gets no others, and has to run for their CRLs until "
                f"{end:%Y-%m-%d}; an id is never given to another machine",
            )


def _moved(old: Declaration, new: Declaration, going: Iterable[KnownAuthority]) -> Iterator[Objection]:
    until = max((each.not_after for each in going), default=None)
    if old.hierarchy.url_base != new.hierarchy.url_base and until is not None:
        yield warning(
            "url-moved",
            "url_base",
            f"was {old.hierarchy.url_base!r}, which stands in certificates: serve CRLs there as well until "
            f"{until:%Y-%m-%d}",
        )


def _profiles(old: Declaration, new: Declaration) -> Iterator[Objection]:
    for name in old.profiles:
        if name not in new.profiles:
            yield warning("profile-left-out", f"profile {name}", "goes: nothing is certified by it any more")


def _pins(old: Declaration, new: Declaration) -> Iterator[Objection]:
    kinds: tuple[tuple[str, tuple[PinnedKey, ...], tuple[PinnedKey, ...], str], ...] = (
        ("operator", old.pins.operators, new.pins.operators, "no order that it signs is obeyed any more"),
        ("validator", old.pins.validators, new.pins.validators, "nothing that it states is believed any more"),
        ("OCSP responder", old.pins.responders, new.pins.responders, "it gets no certificate any more"),
    )
    for what, before, after, meaning in kinds:
        kept = {each.pem for each in after}
        for each in before:
            if each.pem not in kept:
                yield warning("key-left-out", f"{what} {each.name}", f"its key is pinned no more: {meaning}")
    if new.pins.quorum < old.pins.quorum:
        yield warning(
            "quorum-lowered",
            "orders.quorum",
            f"{new.pins.quorum} of the operators may loosen what {old.pins.quorum} had to sign before",
        )
