"""The calendar of an authority: what its operators have to do next, and by when, in plain words.

Judges dates and counts that the caller has read: which sub-CA issues when, how fast they fill, when offline CRLs and
CAs end, which machine lacks a bundle. Reads nothing by itself and prints nothing. People travel to the safe, so they
are told two months before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cassiopeia.core.authority import Authority, has_room

# Two months, whichever they are.
NOTICE: Final = dt.timedelta(days=62)
# Behind this, it is about days.
_SOON: Final = dt.timedelta(days=14)
# New structure CAs and roots have to reach everybody who trusts the old ones.
_SUCCESSION_NOTICE: Final = dt.timedelta(days=365)
_RATE_WINDOW_DAYS: Final = 30
_RESPONDER_NOTICE: Final = dt.timedelta(days=7)
_RESPONDER_GIVEN_UP: Final = dt.timedelta(days=60)
_ONE_DAY: Final = dt.timedelta(days=1)

CALENDAR_GAP: Final = "calendar-gap"
CALENDAR_ENDS: Final = "calendar-ends"
AUTHORITY_FILLS: Final = "authority-fills"
OFFLINE_CRL_ENDS: Final = "offline-crl-ends"
SUCCESSOR_NEEDED: Final = "successor-needed"
NOT_ON_SIGNER: Final = "not-on-signer"
NOT_ON_CLIENT: Final = "not-on-client"
RESPONDER_ENDS: Final = "responder-ends"
CODES: Final = (
    CALENDAR_GAP,
    OFFLINE_CRL_ENDS,
    RESPONDER_ENDS,
    CALENDAR_ENDS,
    AUTHORITY_FILLS,
    NOT_ON_SIGNER,
    NOT_ON_CLIENT,
    SUCCESSOR_NEEDED,
)
"""Every code, the most pressing first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Duty:
    """Something to do by `due`: a stable code, what will be otherwise, what to do. `is_urgent`: it is about days."""

    code: str
    due: dt.datetime
    what: str
    remedy: str
    is_urgent: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class OfflineCa:
    """Root or structure CA: the end of its certificate, and that of its published CRL (None: there is none to read)."""

    name: str
    issuer: str
    not_after: dt.datetime
    crl_ends: dt.datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Calendar:
    """What there is to judge. `issuers` are the structure CAs of sub-CAs by the sub-CA's name.

    `issued` counts certificates by sub-CA, `recently` those of the last 30 days. `on_signers` are the sub-CAs that each
    signer has told of, as far as it was heard lately; None says that signers do not tell (version 1). `responders` say
    when the newest certificate of an OCSP responder ends, by sub-CA.
    """

    now: dt.datetime
    authorities: tuple[Authority, ...]
    issuers: Mapping[str, str]
    offline: tuple[OfflineCa, ...]
    issued: Mapping[str, int]
    recently: Mapping[str, int]
    on_signers: Mapping[int, frozenset[str]] | None
    responders: Mapping[str, dt.datetime] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Coverage:
    """How far one family of one signer can issue without a gap: until `until`, by `current` now (None: by nobody)."""

    family: str
    signer_id: int
    current: Authority | None
    until: dt.datetime
    resumes: dt.datetime | None


def duties(calendar: Calendar) -> tuple[Duty, ...]:
    """Everything that is due within its notice, by date."""
    found = [
        *_of_coverage(calendar),
        *_of_offline_crls(calendar),
        *_of_successors(calendar),
        *_of_machines(calendar),
        *_of_responders(calendar),
    ]
    return tuple(sorted(found, key=lambda each: (each.due, CODES.index(each.code), each.what)))


def coverage(calendar: Calendar) -> tuple[Coverage, ...]:
    """Each family of each signer, by name: what issues now, and until when somebody will."""
    lines = sorted({(each.family, each.signer_id) for each in calendar.authorities})
    return tuple(_cover(calendar, family, signer_id) for family, signer_id in lines)


def _cover(calendar: Calendar, family: str, signer_id: int) -> Coverage:
    able = _able(calendar, family, signer_id)
    until, current = calendar.now, _issuing_at(able, calendar.now)
    following = current
    while following is not None:
        until = following.issues_until
        following = _issuing_at(able, until)
    later = [each.issues_from for each in able if each.issues_from > until]
    return Coverage(family=family, signer_id=signer_id, current=current, until=until, resumes=min(later, default=None))


def _able(calendar: Calendar, family: str, signer_id: int) -> list[Authority]:
    """The sub-CAs that issue, or will: in order, the one that is chosen first in front (`choose_authority`)."""
    able = [
        each
        for each in calendar.authorities
        if (each.family, each.signer_id) == (family, signer_id)
        and not each.retired
        and each.issues_until > calendar.now
        and has_room(each, calendar.issued)
    ]
    return sorted(able, key=lambda each: (-each.issues_from.timestamp(), -each.year, each.number))


def _issuing_at(able: Iterable[Authority], moment: dt.datetime) -> Authority | None:
    return next((each for each in able if each.issues_from <= moment < each.issues_until), None)


def _of_coverage(calendar: Calendar) -> Iterator[Duty]:
    now = calendar.now
    for each in coverage(calendar):
        whose = f"the family {each.family} of signer {each.signer_id}"
        if each.current is None:
            waits = f"the next one begins on {each.resumes:%F}" if each.resumes else "and there is none to come"
            yield _duty(
                CALENDAR_GAP,
                now,
                now=now,
                what=f"no sub-CA of {whose} issues, {waits}: requests for it wait",
                remedy="make more sub-CAs (`cassiopeia ceremony extend`) and install their bundles",
            )
            continue
        if each.until - now <= NOTICE:
            gap = f", and the next one begins on {each.resumes:%F} only" if each.resumes else ""
            yield _duty(
                CALENDAR_ENDS,
                each.until,
                now=now,
                what=f"the last sub-CA of {whose} issues until {_last_day(each.until)}{gap}",
                remedy="hold a ceremony before that (`cassiopeia ceremony extend`), and install its bundles on signer "
                "and client",
            )
        yield from _of_filling(calendar, each, whose)


def _of_filling(calendar: Calendar, covered: Coverage, whose: str) -> Iterator[Duty]:
    """The sub-CAs of this period will be full before it ends, if it goes on as in the last 30 days."""
    current = covered.current
    members = [
        each
        for each in calendar.authorities
        if (each.family, each.signer_id) == (covered.family, covered.signer_id) and not each.retired
    ]
    a_day = sum(calendar.recently.get(each.name, 0) for each in members) / _RATE_WINDOW_DAYS
    if current is None or not a_day:
        return
    now = calendar.now
    period = [each for each in members if each.issues_from <= now < each.issues_until]
    ends = max(each.issues_until for each in period)
    room = sum(max(0, each.maximum_certificates - calendar.issued.get(each.name, 0)) for each in period)
    days = room / a_day
    if days * 86_400 >= min(NOTICE, ends - now).total_seconds():
        return
    full_at = now + dt.timedelta(days=days)
    names = ", ".join(each.name for each in period if has_room(each, calendar.issued))
    yield _duty(
        AUTHORITY_FILLS,
        full_at,
        now=now,
        what=f"{names} of {whose} will be full about {full_at:%F}, and the next period begins on {ends:%F}: "
        f"room for {room} certificates is left, at {a_day:.0f} a day",
        remedy="make more sub-CAs for this period (`cassiopeia ceremony extend`), and more spares in future",
    )


def _of_offline_crls(calendar: Calendar) -> Iterator[Duty]:
    now = calendar.now
    for each in calendar.offline:
        if each.not_after <= now:
            continue
        if each.crl_ends is None:
            yield _duty(
                OFFLINE_CRL_ENDS,
                now,
                now=now,
                what=f"there is no readable CRL of {each.name} in the public directory",
                remedy="install the publication bundle of the last ceremony (`cassiopeia client install`)",
            )
        elif each.crl_ends - now <= NOTICE:
            when = "ran out" if each.crl_ends <= now else "runs out"
            yield _duty(
                OFFLINE_CRL_ENDS,
                each.crl_ends,
                now=now,
                what=f"the CRL of {each.name} {when} on {each.crl_ends:%F}; whoever checks it then trusts nothing "
                "below",
                remedy="sign it anew at the safe (`cassiopeia ceremony crl`), and install its publication bundle",
            )


def _of_successors(calendar: Calendar) -> Iterator[Duty]:
    """No time sub-CA may outlive the CA above it: new ones of full length end long before that CA does."""
    now = calendar.now
    for each in calendar.offline:
        below = [
            one.not_after - one.issues_from
            for one in calendar.authorities
            if calendar.issuers.get(one.name) == each.name and not one.retired
        ]
        last = each.not_after - max(below, default=dt.timedelta(0))
        if each.not_after > now and last - now <= _SUCCESSION_NOTICE:
            what = (
                f"{each.name} ends on {each.not_after:%F}: sub-CAs below it that begin after {last:%F} would outlive it"
                if below
                else f"{each.name} ends on {each.not_after:%F}"
            )
            yield _duty(
                SUCCESSOR_NEEDED,
                last,
                now=now,
                what=what,
                remedy="plan its successor, and how it reaches everybody who trusts this one",
            )


def _of_machines(calendar: Calendar) -> Iterator[Duty]:
    now = calendar.now
    if calendar.on_signers is None:
        return
    known = {each.name: each for each in calendar.authorities}
    for signer_id, there in sorted(calendar.on_signers.items()):
        expected = {
            each.name: each.issues_from
            for each in calendar.authorities
            if each.signer_id == signer_id and each.issues_until > now and not each.retired
        }
        if lacking := sorted(expected.keys() - there):
            yield _duty(
                NOT_ON_SIGNER,
                max(now, min(expected[each] for each in lacking)),
                now=now,
                what=f"signer {signer_id} does not have {_list(lacking)}, which the client knows",
                remedy="install the signer's bundle of the last ceremony (`cassiopeia signer install`, or by order)",
            )
        if surplus := sorted(there - known.keys()):
            yield _duty(
                NOT_ON_CLIENT,
                now,
                now=now,
                what=f"signer {signer_id} has {_list(surplus)}, which the client does not know",
                remedy="install the client's bundle of the last ceremony (`cassiopeia client install`)",
            )


def _of_responders(calendar: Calendar) -> Iterator[Duty]:
    """They renew themselves when a third of 30 days is left: what has less left has not been renewed."""
    now = calendar.now
    authorities = {each.name: each for each in calendar.authorities}
    for name, end in sorted(calendar.responders.items()):
        # One that ended long ago was given up, and none outlives its sub-CA.
        is_late = -_RESPONDER_GIVEN_UP <= end - now <= _RESPONDER_NOTICE
        if name in authorities and is_late and end + _ONE_DAY < authorities[name].not_after:
            yield _duty(
                RESPONDER_ENDS,
                end,
                now=now,
                what=f"the OCSP responder's certificate under {name} {'ended' if end <= now else 'ends'} on {end:%F}, "
                "and was not renewed: without one, nothing is said of that sub-CA's certificates",
                remedy="do `cassiopeia publisher run`, a validator and the client run? is the responder's key still "
                "pinned? see the publisher's log, and docs/ocsp.md",
            )


def _duty(code: str, due: dt.datetime, *, now: dt.datetime, what: str, remedy: str) -> Duty:
    return Duty(code=code, due=due, what=what, remedy=remedy, is_urgent=due - now <= _SOON)


def _last_day(end: dt.datetime) -> str:
    return f"{end - dt.timedelta(seconds=1):%F}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown  # noqa: PLR2004 - as many as are shown
