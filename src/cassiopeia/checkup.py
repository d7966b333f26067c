"""The doctor's list: everything that is looked at, and what was found, a line for each.

Puts the concerns of `ops`, and what was seen of the machine itself, in the order in which a person reads them, and
says in Nagios' terms how bad it is. Reads nothing and prints nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cassiopeia.ops import Concern, Situation, needed_crls, silent_s, span, validator_silent_s

State = Literal["ok", "warning", "critical", "unknown"]

CODES_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "configuration": ("configuration",),
    "disk": ("disk-low",),
    "bundle": ("bundle-left", "client-bundle", "not-on-signer", "not-on-client"),
    "store": ("store",),
    "signers": (
        "signer-never-heard",
        "signer-silent",
        "signer-halted",
        "signer-locked",
        "signer-alarm",
        "clock-distrusted",
        "clock-offset",
        "disk-filling",
        "journal-differs",
        "signature-mistrusted",
        "key-away",
    ),
    "validators": ("validator-silent", "validator-unknown"),
    "queue": ("profile-held", "set-aside", "oldest-waits"),
    "calendar": ("calendar-gap", "calendar-ends", "authority-fills", "successor-needed"),
    "CRLs": ("crl-expired", "crl-unpublished", "crl-missing", "crl-late"),
    "CRLs served": ("crl-served-wrong", "crl-served-stale", "crl-unreachable", "crl-unwatched"),
    "offline CRLs": ("offline-crl-ends",),
    "OCSP": ("responder-ends", "publisher-silent", "publisher-alarm"),
}
"""What is looked at, in this order, and the codes of what may be wrong with it."""

_ONE_SECOND: Final = dt.timedelta(seconds=1)
_EXIT: Final[Mapping[State, int]] = {"ok": 0, "warning": 1, "critical": 2, "unknown": 3}


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was looked at. `fact` is what there is to say while all is well, or why it was not looked at."""

    name: str
    fact: str
    concerns: tuple[Concern, ...] = ()
    was_looked_at: bool = True

    @property
    def state(self) -> State:
        if any(each.is_urgent for each in self.concerns):
            return "critical"
        if self.concerns:
            return "warning"
        return "ok" if self.was_looked_at else "unknown"


def examine(
    situation: Situation | None, concerns: Iterable[Concern], *, facts: Mapping[str, str], missing: str = ""
) -> tuple[Check, ...]:
    """Every line of the list; `facts` are those of the machine, by name.

    Without a `situation` only the machine was looked at, and `missing` says why.
    """
    found = tuple(concerns)
    told = dict(facts) | ({} if situation is None else _facts(situation))
    return tuple(
        Check(
            name=name,
            fact=told.get(name, f"not looked at: {missing}"),
            concerns=tuple(each for each in found if each.code in codes),
            was_looked_at=name in told,
        )
        for name, codes in CODES_OF.items()
    )


def worst(checks: Sequence[Check]) -> State:
    """As Nagios ranks them: what is known to be broken counts more than what is not known."""
    states = {each.state for each in checks}
    ranked: tuple[State, ...] = ("critical", "unknown", "warning")
    return next((each for each in ranked if each in states), "ok")


def exit_code(state: State) -> int:
    """That of a Nagios plugin."""
    return _EXIT[state]


def summary(checks: Sequence[Check]) -> str:
    """All in one line, the most pressing first; without what would end or split a plugin's line."""
    state = worst(checks)
    concerns = sorted((each for check in checks for each in check.concerns), key=lambda each: not each.is_urgent)
    unknown = [f"{each.name}: {each.fact}" for each in checks if each.state == "unknown"]
    told = "; ".join([each.what for each in concerns] or unknown) or "nothing needs a person"
    count = f"{len(concerns)} to do: " if concerns else ""
    # In a plugin's output a vertical bar begins the measurements.
    text = " ".join(told.replace("|", "/").split())
    urgent = sum(each.is_urgent for each in concerns)
    return f"CASSIOPEIA {state.upper()} - {count}{text} | to_do={len(concerns)} urgent={urgent}"


def _facts(situation: Situation) -> dict[str, str]:
    now = situation.now
    facts = {"store": "it answers, and its tables are of this release"}
    facts["signers"] = (
        ", ".join(
            f"signer {each.signer_id} {_state(each.report)}, heard {span(silent_s(each, now))} ago"
            for each in situation.signers
        )
        or "over version 1 of the protocol a signer does not say how it is"
    )
    facts["validators"] = (
        ", ".join(f"{each.name}, heard {span(validator_silent_s(each, now))} ago" for each in situation.validators)
        or "none was ever heard, and nothing waits for one"
    )
    waiting = sum(situation.queue.waiting.values()) + sum(situation.queue.leased.values())
    facts["queue"] = f"{waiting} waiting, the oldest for {span(situation.queue.oldest_age_s)}" if waiting else "empty"
    until = min((each.until for each in situation.coverage), default=None)
    facts["calendar"] = (
        f"every family of every signer has a sub-CA that issues, at least until {until - _ONE_SECOND:%F}"
        if until
        else "there is no sub-CA"
    )
    needed = needed_crls(situation)
    ends = min((each.next_update for each in needed if each.next_update > now), default=None)
    facts["CRLs"] = (
        f"{len(needed)} stored and published, the first of them ends {ends:%F %H:%M}Z" if ends else "none yet"
    )
    looked = max((each.seen_at for each in situation.served), default=None)
    facts["CRLs served"] = (
        f"{len(situation.served)} URLs give what they should, seen {span((now - looked).total_seconds())} ago"
        if looked
        else "nobody looks at what the world gets: let `cassiopeia crl watch` run, or its timer"
    )
    return facts | _facts_of_calendar(situation)


def _facts_of_calendar(situation: Situation) -> dict[str, str]:
    calendar = situation.calendar
    ends = [] if calendar is None else [each.crl_ends for each in calendar.offline if each.crl_ends is not None]
    responders = {} if calendar is None else calendar.responders
    good = [each for each in responders.values() if each > situation.now]
    return {
        "offline CRLs": f"{len(ends)} published, the first of them ends on {min(ends):%F}" if ends else "none needed",
        "OCSP": f"certificates of a responder for {len(good)} sub-CAs, the first of them ends on {min(good):%F}"
        if good
        else "no publisher has a certificate, and none is about to end",
    }


def _state(report: Mapping[str, object]) -> str:
    state = report.get("state")
    return state if isinstance(state, str) else "unknown"
