"""Health: what a person has to look at, and what to do about it.

Judges what the store knows (queue, signers' last words, CRLs, held profiles); reads nothing by itself, prints nothing.
Reports of signers come from the database, and older ones lack some fields: what is absent is not judged.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cassiopeia.duties import Calendar, Coverage, Duty
    from cassiopeia.store.evidence import ValidatorStatus
    from cassiopeia.store.lint_streaks import LintStreak
    from cassiopeia.store.publishers import PublisherStatus
    from cassiopeia.store.records import CrlHeader, QueueStatistics, ServedCrl, SignerStatus

# The client asks every half minute; after this long its silence means something.
_SILENCE_S: Final = 120
# A signer that has been away for so long was taken out of service, if another one is there. (Its CRLs are watched.)
_RETIRED_S: Final = 30 * 86_400
_UNLOCKING_S: Final = 600
_CLOCK_OFFSET_S: Final = 30
_OLDEST_S: Final = 3600
_UNATTESTED_S: Final = 300
_DISK_DAYS: Final = 30
# A web server may be away for a minute; the watch looks every quarter of an hour.
_UNREACHABLE_S: Final = 3_600
_UNWATCHED_S: Final = 6 * 3_600
# Where nobody knows yet how much is written in a day.
_DISK_OCTETS: Final = 256 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Concern:
    """Something that needs a person: a stable code for scripts, what is wrong, what to do, and by when if it has a day.

    `is_near` says that the day is about now.
    """

    code: str
    what: str
    remedy: str
    due: dt.datetime | None = None
    is_near: bool = False

    @property
    def is_urgent(self) -> bool:
        """Whether somebody should get up for it: something does not work, or will not within days."""
        return self.is_near or self.code in _AT_ONCE


@dataclass(frozen=True, kw_only=True, slots=True)
class Situation:
    """What there is to judge. `unpublished`: the authorities whose published CRL is not the one in the store.

    `hears_signers`: whether the client's protocol lets signers say how they are (version 1 does not). `validators`,
    `publishers`: the last word of each. `served`: what `cassiopeia crl watch` has seen last (nothing: it never ran).
    `duties`: what the `calendar` asks for. `coverage`: how far it reaches.
    """

    now: dt.datetime
    queue: QueueStatistics
    signers: tuple[SignerStatus, ...]
    crls: tuple[CrlHeader, ...]
    held: tuple[LintStreak, ...]
    unpublished: Collection[str]
    hears_signers: bool
    validators: tuple[ValidatorStatus, ...] = ()
    publishers: tuple[PublisherStatus, ...] = ()
    served: tuple[ServedCrl, ...] = ()
    duties: tuple[Duty, ...] = ()
    coverage: tuple[Coverage, ...] = ()
    calendar: Calendar | None = None


def concerns(situation: Situation) -> tuple[Concern, ...]:
    """Return everything that needs a person, the most pressing first."""
    found = [
        *_of_crls(situation),
        *_of_served(situation),
        *(_of_duty(each) for each in situation.duties),
        *_of_signers(situation),
        *_of_queue(situation),
        *_of_validators(situation),
        *_of_publishers(situation),
    ]
    return tuple(sorted(found, key=lambda each: (not each.is_urgent, URGENCY.index(each.code))))


_AT_ONCE: Final = (
    "crl-expired",
    "crl-served-wrong",
    "crl-served-stale",
    "journal-differs",
    "signature-mistrusted",
    "signer-halted",
    "signer-never-heard",
    "signer-silent",
    "calendar-gap",
    "crl-unpublished",
    "crl-unreachable",
    "crl-missing",
)
URGENCY: Final = (
    *_AT_ONCE,
    "crl-late",
    "signer-locked",
    "key-away",
    "clock-distrusted",
    "offline-crl-ends",
    "responder-ends",
    "calendar-ends",
    "authority-fills",
    "not-on-signer",
    "not-on-client",
    "validator-silent",
    "validator-unknown",
    "publisher-silent",
    "publisher-alarm",
    "client-bundle",
    "signer-alarm",
    "clock-offset",
    "disk-filling",
    "profile-held",
    "set-aside",
    "oldest-waits",
    "crl-unwatched",
    "successor-needed",
)
"""Every code, the most pressing first."""


def silent_s(signer: SignerStatus, now: dt.datetime) -> float:
    return (now - signer.seen_at).total_seconds()


def validator_silent_s(validator: ValidatorStatus, now: dt.datetime) -> float:
    return (now - validator.seen_at).total_seconds()


def clock_offset_s(signer: SignerStatus) -> float | None:
    """Seconds by which the client's clock is ahead of the signer's; None in reports that do not tell.

    The answer's way through the line is in it: a second or two on a slow one.
    """
    told = signer.report.get("time")
    try:
        moment = dt.datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        return None
    if moment is None or moment.tzinfo is None:
        return None
    return (signer.seen_at - moment).total_seconds()


def disk_days(signer: SignerStatus) -> float | None:
    """Days until the signer's disk is full, at the growth of late; None when that is not known."""
    free, a_day = signer.report.get("free_octets"), signer.report.get("octets_a_day")
    if not isinstance(free, int) or not isinstance(a_day, int) or a_day <= 0:
        return None
    return free / a_day


def hours_left(crl: CrlHeader, now: dt.datetime) -> float:
    return (crl.next_update - now).total_seconds() / 3600


def span(seconds: float) -> str:
    """Seconds as people say them, in the largest unit of which there are two."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _of_duty(duty: Duty) -> Concern:
    return Concern(code=duty.code, what=duty.what, remedy=duty.remedy, due=duty.due, is_near=duty.is_urgent)


def _of_queue(situation: Situation) -> Iterator[Concern]:
    queue = situation.queue
    if aside := sum(queue.set_aside.values()):
        yield Concern(
            code="set-aside",
            what=f"{aside} {'job is' if aside == 1 else 'jobs are'} set aside",
            remedy="read why, mend it, and put each back as `cassiopeia status` shows",
        )
    for each in situation.held:
        if each.held_at is not None:
            name = each.profile or "ocsp"
            yield Concern(
                code="profile-held",
                what=f"profile {name} is held: {each.why}",
                remedy=f"see `cassiopeia status`; then `cassiopeia profile release {name}`",
            )
    if queue.oldest_age_s > _OLDEST_S and sum(queue.waiting.values()) + sum(queue.leased.values()):
        difficulty = f"; what kept it last: {queue.oldest_difficulty}" if queue.oldest_difficulty else ""
        yield Concern(
            code="oldest-waits",
            what=f"the oldest job has waited {span(queue.oldest_age_s)}{difficulty}",
            remedy="it is not lost; if nothing else stands here, see the client's log and the signer's",
        )


def _of_validators(situation: Situation) -> Iterator[Concern]:
    """Requests that could be attested long since, and nobody who does it."""
    queue = situation.queue
    if queue.unattested_s <= _UNATTESTED_S or any(
        validator_silent_s(each, situation.now) <= _SILENCE_S for each in situation.validators
    ):
        return
    count = f"{queue.unattested} {'request waits' if queue.unattested == 1 else 'requests wait'} for evidence"
    heard = min((validator_silent_s(each, situation.now) for each in situation.validators), default=None)
    silent = "no validator was ever heard" if heard is None else f"no validator was heard for {span(heard)}"
    yield Concern(
        code="validator-silent",
        what=f"{count}, the first of them for {span(queue.unattested_s)}, and {silent}",
        remedy="is `cassiopeia validator run` running? see its log; nothing is lost meanwhile",
    )


def _of_publishers(situation: Situation) -> Iterator[Concern]:
    """Where one was ever heard: CRLs may be served by any web server."""
    for each in situation.publishers:
        silence_s = (situation.now - each.seen_at).total_seconds()
        if silence_s > _RETIRED_S:
            continue
        if silence_s > _SILENCE_S:
            yield Concern(
                code="publisher-silent",
                what=f"publisher {each.name} was last heard {span(silence_s)} ago",
                remedy="is `cassiopeia publisher run` running? see its log; without it nobody answers OCSP",
            )
            continue
        for alarm in each.alarms:
            yield Concern(
                code="publisher-alarm",
                what=f"publisher {each.name}: {alarm}",
                remedy='see docs/ocsp.md, "When something is wrong"',
            )


def _of_signers(situation: Situation) -> Iterator[Concern]:
    if not situation.signers and situation.hears_signers:
        yield Concern(
            code="signer-never-heard",
            what="no signer was ever heard",
            remedy="start `cassiopeia client run` and the signer; see the client's log",
        )
    for each in situation.signers:
        silence = silent_s(each, situation.now)
        heard_others = any(silent_s(other, situation.now) <= _SILENCE_S for other in situation.signers)
        if silence > _RETIRED_S and heard_others:
            continue
        if silence > _SILENCE_S:
            # What it said before that may have changed since.
            yield Concern(
                code="signer-silent",
                what=f"signer {each.signer_id} was last heard {span(silence)} ago",
                remedy="does `cassiopeia client run` run, and the signer? does the line stand? see the client's log",
            )
        else:
            yield from _of_word(each)
        yield from _of_disk(each)
        yield from _of_journal(each)


def _of_word(signer: SignerStatus) -> Iterator[Concern]:
    name, report = f"signer {signer.signer_id}", signer.report
    state, reason = report.get("state"), _text(report, "reason")
    if state == "halted":
        yield Concern(
            code="signer-halted",
            what=f"{name} issues nothing: {reason or 'it does not say why'}",
            remedy="see docs/runbook.md; requests wait, and CRLs go on as far as the reason lets them",
        )
    boot_seconds = report.get("boot_seconds")
    if state == "locked" and isinstance(boot_seconds, int) and boot_seconds > _UNLOCKING_S:
        yield Concern(
            code="signer-locked",
            what=f"{name} has no keys yet{f': {reason}' if reason else ''}",
            remedy="a start takes a minute; if this stays, its log says what it waits for (passphrase, token)",
        )
    yield from _of_keys(name, report.get("authorities", ()))
    if warning := _text(report, "clock_warning"):
        yield Concern(
            code="clock-distrusted",
            what=f"{name} does not trust its clock: {warning}",
            remedy="compare it with a clock that you trust, and confirm or correct it by a `confirmClock` order",
        )
    if alarm := _text(report, "evidence_alarm"):
        yield Concern(
            code="validator-unknown",
            what=f"{name} does not take a validator's word: {alarm}",
            remedy='start the signer again behind that; requests wait meanwhile. See docs/runbook.md, "Alarms"',
        )
    if alarm := _text(report, "bundle_alarm"):
        yield Concern(
            code="client-bundle",
            what=f"the client of {name} does not work by its newest bundle: {alarm}",
            remedy="have the bundle made anew, and install it with `cassiopeia client install`",
        )
    for alarm in report.get("alarms", ()):
        yield Concern(code="signer-alarm", what=f"{name}: {alarm}", remedy='see docs/runbook.md, "Alarms"')
    offset = clock_offset_s(signer)
    if offset is not None and abs(offset) > _CLOCK_OFFSET_S:
        yield Concern(
            code="clock-offset",
            what=f"the clock of {name} is {span(abs(offset))} {'behind' if offset > 0 else 'ahead of'} this machine's",
            remedy="find out which of them is wrong and set that one right, before it matters",
        )


def _of_keys(signer: str, authorities: Iterable[Mapping[str, Any]]) -> Iterator[Concern]:
    for each in authorities:
        name = each.get("name")
        if mistrusted := each.get("mistrusted"):
            yield Concern(
                code="signature-mistrusted",
                what=f"{signer} has halted {name}, because a signature by its key was wrong: {mistrusted}",
                remedy='nothing wrong was released; let another library sign: see docs/runbook.md, "A signature was '
                'wrong"',
            )
        if fault := each.get("key_fault"):
            yield Concern(
                code="key-away",
                what=f"{signer} cannot use the key of {name}: {fault}",
                remedy="its requests and CRLs wait, others go on; it tries again by itself. See docs/runbook.md, "
                '"A key cannot be used"',
            )


def _of_disk(signer: SignerStatus) -> Iterator[Concern]:
    days, free = disk_days(signer), signer.report.get("free_octets")
    if days is None and isinstance(free, int) and free < _DISK_OCTETS:
        what = f"the disk of signer {signer.signer_id} has {show_octets(free)} left"
    elif days is not None and days < _DISK_DAYS:
        what = f"the disk of signer {signer.signer_id} is full in {days:.0f} days"
    else:
        return
    yield Concern(
        code="disk-filling",
        what=what,
        remedy="make room or move it to a larger disk; when it is full issuing stops, revocations and CRLs go on",
    )


def _of_journal(signer: SignerStatus) -> Iterator[Concern]:
    journal = signer.report.get("journal")
    if isinstance(journal, dict) and (alarm := _text(journal, "alarm")):
        yield Concern(
            code="journal-differs",
            what=f"the journal of signer {signer.signer_id} is not the one that was copied: {alarm}",
            remedy="it gets no new certificates to sign; see docs/runbook.md before you do anything to it",
        )


def _of_crls(situation: Situation) -> Iterator[Concern]:
    now = situation.now
    authorities = _on_signers(situation)
    for crl in needed_crls(situation):
        left_h = hours_left(crl, now)
        lifetime_h = (crl.next_update - crl.this_update).total_seconds() / 3600
        if left_h <= 0:
            yield Concern(
                code="crl-expired",
                what=f"the CRL of {crl.authority} has run out {span(-left_h * 3600)} ago",
                remedy="every certificate of this sub-CA is refused now: get signer and client going",
            )
        elif left_h < lifetime_h / 2:
            yield Concern(
                code="crl-late",
                what=f"the CRL of {crl.authority} runs out in {span(left_h * 3600)}, and was not signed anew",
                remedy="get signer and client going; the client asks for it by itself",
            )
        if crl.authority in situation.unpublished:
            yield Concern(
                code="crl-unpublished",
                what=f"the CRL of {crl.authority}, number {crl.number}, is not published, so nothing in it counts",
                remedy="see the client's log: has its disk room? may it write there? It tries again by itself",
            )
    stored = {crl.authority for crl in situation.crls}
    for name, each in authorities.items():
        if name not in stored and each.get("issued") and not _has_ended(each, now):
            yield Concern(
                code="crl-missing",
                what=f"there is no CRL of {name}, which has issued certificates",
                remedy="does the client know this sub-CA? install the client bundle of the newest ceremony",
            )


def needed_crls(situation: Situation) -> tuple[CrlHeader, ...]:
    """Without those of sub-CAs whose own certificate has run out.

    One that neither the client nor a signer has any more is taken for such: no bundle drops a sub-CA before its end.
    """
    on_signers, calendar, now = _on_signers(situation), situation.calendar, situation.now
    going = {name for name, each in on_signers.items() if not _has_ended(each, now)}
    if calendar is None:
        return tuple(each for each in situation.crls if each.authority in going or each.authority not in on_signers)
    going |= {each.name for each in calendar.authorities if now <= each.not_after}
    return tuple(each for each in situation.crls if each.authority in going)


def _on_signers(situation: Situation) -> dict[str, dict[str, Any]]:
    """What signers have said of their sub-CAs, by name."""
    return {each["name"]: each for signer in situation.signers for each in signer.report.get("authorities", ())}


def _of_served(situation: Situation) -> Iterator[Concern]:
    """What the world gets, by the last look of `cassiopeia crl watch`."""
    now = situation.now
    watch_silent_s = min(((now - each.seen_at).total_seconds() for each in situation.served), default=0.0)
    if watch_silent_s > _UNWATCHED_S:
        yield Concern(
            code="crl-unwatched",
            what=f"nobody has looked for {span(watch_silent_s)} at the CRLs that the world gets",
            remedy="does `cassiopeia crl watch` run, or its timer? see its log",
        )
        return
    for each in situation.served:
        lasts_s = (now - (each.since or each.seen_at)).total_seconds()
        where = f"the CRL of {each.authority} at {each.url}"
        if each.state == "stale":
            yield Concern(
                code="crl-served-stale",
                what=f"{where} is older than it should be: {each.what}",
                remedy="what was revoked since is still trusted: see to the web server, its copies and caches; an "
                "offline CA's CRL comes from `cassiopeia ceremony crl`",
            )
        elif each.state == "wrong":
            yield Concern(
                code="crl-served-wrong",
                what=f"{where} is none that it should be: {each.what}",
                remedy="find out who has put it there; the right one lies in the client's public directory",
            )
        elif each.state == "unreachable" and lasts_s > _UNREACHABLE_S:
            yield Concern(
                code="crl-unreachable",
                what=f"{where} cannot be fetched for {span(lasts_s)}: {each.what}",
                remedy="whoever insists on it refuses every certificate of this CA: see to web server and name server",
            )


def show_octets(octets: int) -> str:
    for unit, size in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if octets >= 2 * size:
            return f"{octets / size:.0f} {unit}"
    return f"{octets / 1024:.0f} KiB"


def _has_ended(authority: dict[str, Any], now: dt.datetime) -> bool:
    """Whether a sub-CA's own certificate has run out: its CRLs are not needed any more."""
    try:
        return dt.datetime.fromisoformat(str(authority["not_after"])) < now
    except (KeyError, ValueError):
        return False


def _text(report: Any, name: str) -> str:
    value = report.get(name)
    return value if isinstance(value, str) else ""
