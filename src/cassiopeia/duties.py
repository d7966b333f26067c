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
RATE_WINDOW: Final = dt.timedelta(days=30)
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
    """Root or structure CA: the end of its certificate, and that of its CRL (None: there is none that is its)."""

    name: str
    issuer: str
    not_after: dt.datetime
    crl_ends: dt.datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Calendar:
    """What there is to judge. `issuers` are the structure CAs of sub-CAs by the sub-CA's name.

    `issued` counts certificates by sub-CA, `recently` those of `RATE_WINDOW`. `on_signers` are the sub-CAs that each
    signer has told of, None for one that was not heard lately; all of it is None where signers do not tell (version 1).
    `halted` are those that an order of the operators has halted. `responders` say when the newest certificate of an
    OCSP responder ends, by sub-CA.
    """

    now: dt.datetime
    authorities: tuple[Authority, ...]
    issuers: Mapping[str, str]
    offline: tuple[OfflineCa, ...]
    issued: Mapping[str, int]
    recently: Mapping[str, int]
    on_signers: Mapping[int, frozenset[str] | None] | None
    halted: frozenset[str] = frozenset()
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
    until = _lasts(calendar, able, a_day=0.0)
    later = [each.issues_from for each in able if each.issues_from > until]
    return Coverage(
        family=family,
        signer_id=signer_id,
        current=_issuing_at(able, calendar.now),
        until=until,
        resumes=min(later, default=None),
    )


def _able(calendar: Calendar, family: str, signer_id: int) -> list[Authority]:
    """The sub-CAs that issue, or will: in order, the one that is chosen first in front (`choose_authority`)."""
    able = [
        each
        for each in calendar.authorities
        if (each.family, each.signer_id) == (family, signer_id)
        and not each.retired
        and each.name not in calendar.halted
        and each.issues_until > calendar.now
        and has_room(each, calendar.issued)
    ]
    return sorted(able, key=lambda each: (-each.issues_from.timestamp(), -each.year, each.number))


def _issuing_at(able: Iterable[Authority], moment: dt.datetime) -> Authority | None:
    return next((each for each in able if each.issues_from <= moment < each.issues_until), None)


def _lasts(calendar: Calendar, able: Sequence[Authority], *, a_day: float) -> dt.datetime:
    """The first moment at which none of them issues, when they issue so many certificates a day from now on."""
    room = {each.name: float(each.maximum_certificates - calendar.issued.get(each.name, 0)) for each in able}
    moment = calendar.now
    while (current := _issuing_at((each for each in able if room[each.name] > 0), moment)) is not None:
        # It goes on until it ends, or a newer one begins, or it is full.
        begin = (each.issues_from for each in able if moment < each.issues_from < current.issues_until)
        end = min([current.issues_until, *begin])
        used = a_day * ((end - moment) / _ONE_DAY)
        if used < room[current.name]:
            room[current.name] -= used
            moment = end
        else:
            moment += room[current.name] / a_day * _ONE_DAY
            room[current.name] = 0.0
    return moment


def _a_day(calendar: Calendar, covered: Coverage) -> float:
    """Certificates a day of a family and signer lately: in 30 days, or since its first sub-CA began to issue."""
    line = [
        each for each in calendar.authorities if (each.family, each.signer_id) == (covered.family, covered.signer_id)
    ]
    since = calendar.now - min(each.issues_from for each in line)
    window = max(_ONE_DAY, min(RATE_WINDOW, since))
    return sum(calendar.recently.get(each.name, 0) for each in line) / (window / _ONE_DAY)


def _of_coverage(calendar: Calendar) -> Iterator[Duty]:
    now = calendar.now
    for each in coverage(calendar):
        whose = f"the family {each.family} of signer {each.signer_id}"
        if each.current is None:
            yield _gap(calendar, each, whose)
            continue
        if each.until - now <= NOTICE:
            gap = f", and the next one begins on {each.resumes:%F} only" if each.resumes else ""
            yield _duty(
                CALENDAR_ENDS,
                each.until,
                now=now,
                what=f"the last sub-CA of the family {each.family} of signer {each.signer_id} issues until "
                f"{_last_day(each.until)}{gap}",
                remedy="hold a ceremony before that (`cassiopeia ceremony extend`), and install its bundles on client "
                "and signer",
            )
        yield from _of_filling(calendar, each, whose)


def _gap(calendar: Calendar, covered: Coverage, whose: str) -> Duty:
    """Nobody issues. Why not, as far as it can be told: what would issue is halted, or full."""
    now = calendar.now
    of_now = [
        each
        for each in calendar.authorities
        if (each.family, each.signer_id) == (covered.family, covered.signer_id)
        and not each.retired
        and each.issues_from <= now < each.issues_until
    ]
    halted = sorted(each.name for each in of_now if each.name in calendar.halted)
    full = sorted(each.name for each in of_now if not has_room(each, calendar.issued))
    reasons = [f"{_list(names)} {state}" for names, state in ((halted, "halted by order"), (full, "full")) if names]
    reason = f" ({', '.join(reasons)})" if reasons else ""
    waits = f"the next one begins on {covered.resumes:%F}" if covered.resumes else "and there is none to come"
    return _duty(
        CALENDAR_GAP,
        now,
        now=now,
        what=f"no sub-CA of {whose} issues{reason}, {waits}: requests for it wait",
        remedy="make more sub-CAs for now (`cassiopeia ceremony extend`), and install their bundles on client and "
        "signer",
    )


def _of_filling(calendar: Calendar, covered: Coverage, whose: str) -> Iterator[Duty]:
    """Nobody will issue because all are full, if it goes on as in the last 30 days."""
    now, a_day = calendar.now, _a_day(calendar, covered)
    if not a_day:
        return
    able = _able(calendar, covered.family, covered.signer_id)
    full_at = _lasts(calendar, able, a_day=a_day)
    if full_at >= covered.until or full_at - now > NOTICE:
        return
    of_then = [each for each in able if each.issues_from <= full_at < each.issues_until]
    room = sum(each.maximum_certificates - calendar.issued.get(each.name, 0) for each in of_then)
    after = min((each.issues_from for each in able if each.issues_from > full_at), default=None)
    following = f"the next one begins on {after:%F}" if after else "there is no other"
    yield _duty(
        AUTHORITY_FILLS,
        full_at,
        now=now,
        what=f"{_list(sorted(each.name for each in of_then))} of {whose} will be full about {full_at:%F}, and "
        f"{following}: room for {room} certificates is left, at {a_day:.3g} a day",
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
                what=f"there is no CRL of {each.name} in the public directory that is good",
                remedy="install the publication bundle of the last ceremony (`cassiopeia client install`); if somebody "
                "else runs this CA, let `cassiopeia crl watch` look at its CRL",
            )
        elif each.crl_ends - now <= NOTICE:
            when = "ran out on" if each.crl_ends <= now else "runs out on"
            yield _duty(
                OFFLINE_CRL_ENDS,
                each.crl_ends,
                now=now,
                what=f"the CRL of {each.name} {when} {each.crl_ends:%F}; whoever checks it then trusts nothing below",
                remedy="sign it anew at the safe (`cassiopeia ceremony crl`), and install its publication bundle",
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


def _of_successors(calendar: Calendar) -> Iterator[Duty]:
    """No time sub-CA may outlive a CA above it: new ones of full length end long before that CA does.

    What has a successor already is silent: the last sub-CAs of its families stand below another one.
    """
    now = calendar.now
    issuer_of = {each.name: each.issuer for each in calendar.offline}
    last: dict[tuple[str, int], Authority] = {}
    for one in calendar.authorities:
        line = one.family, one.signer_id
        if not one.retired and (line not in last or last[line].issues_from < one.issues_from):
            last[line] = one
    for each in calendar.offline:
        below = [
            one.not_after - one.issues_from
            for one in last.values()
            if each.name in _above(calendar.issuers.get(one.name, ""), issuer_of)
        ]
        if not below or each.not_after <= now:
            continue
        ends = each.not_after - max(below)
        if ends - now <= _SUCCESSION_NOTICE:
            yield _duty(
                SUCCESSOR_NEEDED,
                ends,
                now=now,
                what=f"{each.name} ends on {each.not_after:%F}: sub-CAs below it that begin after {ends:%F} would "
                "outlive it",
                remedy="plan its successor, and how it reaches everybody who trusts this one",
            )


def _above(name: str, issuer_of: Mapping[str, str]) -> set[str]:
    """This offline CA, and those above it."""
    found: set[str] = set()
    while name in issuer_of and name not in found:
        found.add(name)
        name = issuer_of[name]
    return found


def _of_machines(calendar: Calendar) -> Iterator[Duty]:
    """A sub-CA that one side lacks: dormant ones are not missed before their day, and then it is late."""
    now = calendar.now
    if not calendar.on_signers:
        return  # nobody was ever heard: `ops` says so
    known = {each.name for each in calendar.authorities}
    expected: dict[int, dict[str, dt.datetime]] = {}
    for each in calendar.authorities:
        # Also those that issue no more: their CRLs go on.
        if each.not_after > now:
            expected.setdefault(each.signer_id, {})[each.name] = each.issues_from
    for signer_id, names in sorted(expected.items()):
        there = calendar.on_signers.get(signer_id, frozenset())
        if there is None:
            continue  # silent: `ops` says so
        if lacking := sorted(names.keys() - there):
            lacks = "does not have" if signer_id in calendar.on_signers else "was never heard, and does not have"
            yield _duty(
                NOT_ON_SIGNER,
                max(now, min(names[each] for each in lacking)),
                now=now,
                what=f"signer {signer_id} {lacks} {_list(lacking)}, which the client knows",
                remedy="install the signer's bundle of the last ceremony (`cassiopeia signer install`, or by order)",
            )
    for signer_id, there in sorted(calendar.on_signers.items()):
        if surplus := sorted((there or frozenset()) - known):
            yield _duty(
                NOT_ON_CLIENT,
                now,
                now=now,
                what=f"signer {signer_id} has {_list(surplus)}, which the client does not know",
                remedy="install the client's bundle of the last ceremony (`cassiopeia client install`)",
            )


def _duty(code: str, due: dt.datetime, *, now: dt.datetime, what: str, remedy: str) -> Duty:
    return Duty(code=code, due=due, what=what, remedy=remedy, is_urgent=due - now <= _SOON)


def _last_day(end: dt.datetime) -> str:
    return f"{end - dt.timedelta(seconds=1):%F}"


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown  # noqa: PLR2004 - as many as are shown
