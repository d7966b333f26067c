"""Caps: how much the signer lets happen in an hour, so that nobody whom it believes can end the authority overnight.

Certificates are counted for each profile, account and validator, and so are revocations, and refusals, which take room
on the disk. What is counted are entries of the journal and nothing else: at the start the last hour of it is read, and
then each entry is counted as it is written. Reaching a cap refuses nothing for good. Whatever is more is told to come
again, each at a time of its own, one behind the other as the cap lets them through; and the operators hear of it.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cassiopeia.core import evidence
from cassiopeia.errors import PeerError, Refused, Unavailable
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import JournalEntry
from cassiopeia.journal.standing import RaisedCap
from cassiopeia.signer.journal import Journal

_log = logging.getLogger(__name__)

HOUR_S: Final = 3600
STEP_S: Final = 60
"""What happened within the same step is forgotten together: a count is of an hour, and of up to a step more."""

_READ_AT_ONCE: Final = 1_000
# Open intents end by themselves, most of them within seconds, and none lives for longer than this.
_INTENT_LIFE_S: Final = 900
_FIRST_RETRY_S: Final = 5
_SHOWN_NAMES: Final = 5
_SHOWN_LENGTH: Final = 80

_WORDS: Final = {
    "open-intents": "{limit} certificates that wait for their log to be saved",
    "profile-certificates": "{limit} certificates an hour of the profile {name}",
    "account-certificates": "{limit} certificates an hour for the account {name}",
    "validator-certificates": "{limit} certificates an hour on the word of the validator {name}",
    "revocations": "{limit} revocations an hour",
    "refusals": "{limit} refusals an hour",
}


class Window:
    """How often each name came in the last hour. Times are seconds of a clock that only goes forward."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, Counter[str]]] = deque()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, *, at_s: float, times: int = 1) -> None:
        """Count; nothing may come that is older than what was counted last."""
        step = math.floor(at_s / STEP_S)
        if not self._steps or self._steps[-1][0] < step:
            self._steps.append((step, Counter()))
        self._steps[-1][1][name] += times
        self._counts[name] += times

    def count(self, name: str, *, now_s: float) -> int:
        while self._steps and _end_s(self._steps[0][0]) <= now_s:
            _, gone = self._steps.popleft()
            self._counts -= gone  # drops what comes to nothing
        return self._counts[name]

    def falls_to(self, name: str, count: int, *, now_s: float) -> float:
        """When no more than so many will be left of these, if none come."""
        left = self.count(name, now_s=now_s)
        falls = now_s
        for step, counts in self._steps:
            if left <= count:
                break
            left -= counts[name]
            falls = _end_s(step)
        return falls


@dataclass(kw_only=True)
class _Line:
    """Who was told to come again for one cap and name: the next of them at `next_s`, under this `limit`."""

    next_s: float
    limit: int


class Caps:
    """Counts and judges. `limits` are the configured ones by name, `raised` says what operators have raised now.

    `clock` is CLOCK_BOOTTIME in seconds: who sets a clock forward makes no hour pass.
    """

    def __init__(
        self, *, limits: Mapping[str, int], raised: Callable[[], Mapping[str, RaisedCap]], clock: Callable[[], float]
    ) -> None:
        self._limits = limits
        self._raised = raised
        self._clock = clock
        self._windows = {cap: Window() for cap in limits}
        self._lines: dict[tuple[str, str], _Line] = {}

    def follow(self, limits: Mapping[str, int]) -> None:
        """Judge by these limits from now on; what was counted stays counted."""
        self._limits = limits

    def seed(self, journal: Journal, *, now: dt.datetime) -> None:
        """Count what the journal says of the last hour: called once, at the start, before anything is written."""
        counted = [
            (age_s, cap, name, times)
            for age_s, entry, parts in _last_hour(journal, now=now)
            for cap, name, times in _counted(entry, parts)
        ]
        now_s = self._clock()
        for age_s, cap, name, times in reversed(counted):
            self._windows[cap].add(name, at_s=now_s - age_s, times=times)

    def limit(self, cap: str) -> int:
        raised = self._raised().get(cap)
        return max(self._limits[cap], raised.limit if raised else 0)

    # Certificates.

    def check_request(self, *, profile: str, account: str, open_intents: int) -> None:
        """Raise Unavailable for a request that need not be looked at now, because a cap would hold it up."""
        self._check_open(open_intents)
        self._check("profile-certificates", profile)
        self._check("account-certificates", account)

    def check_intent(self, *, profile: str, account: str, validators: tuple[bytes, ...], open_intents: int) -> None:
        """Raise Unavailable for a certificate that is too many."""
        self.check_request(profile=profile, account=account, open_intents=open_intents)
        for key_id in validators:
            self._check("validator-certificates", key_id.hex())

    def count_intent(self, *, profile: str, account: str, validators: tuple[bytes, ...]) -> None:
        """An intent was journaled. It counts whatever becomes of it: an abandoned one has taken room, too."""
        for cap, name in _names(profile, account, validators):
            self._windows[cap].add(name, at_s=self._clock())

    # Revocations.

    def room_to_revoke(self) -> int:
        """How many certificates may be revoked now."""
        count = self._windows["revocations"].count("", now_s=self._clock())
        return max(0, self.limit("revocations") - count)

    def revocation_waits(self, *, taken: int, left: int) -> Unavailable:
        """What to tell whoever wants to revoke more than there is room for; `taken` of them stand."""
        error = self._turned_away("revocations", "")
        done = f"{taken} of these are revoked, and {left} wait" if taken else "these wait"
        return Unavailable(f"{error.message}: {done}", code=error.code, retry_after_s=error.retry_after_s)

    def count_revocations(self, times: int) -> None:
        """So many were journaled without a proof by the key: what that proves is no work of a captured client."""
        if times:
            self._windows["revocations"].add("", at_s=self._clock(), times=times)

    # Refusals.

    def check_refusal(self, refusal: Refused) -> None:
        """Raise Unavailable when no more refusals are written down, so that a flood of bad requests fills no disk."""
        try:
            self._check("refusals", "")
        except Unavailable as error:
            raise Unavailable(
                f"{refusal.message} ({error.message}, so this one is asked again later)",
                code=error.code,
                retry_after_s=error.retry_after_s,
            ) from None
        self._windows["refusals"].add("", at_s=self._clock())

    # What people are told.

    def alarms(self) -> Iterator[str]:
        """A sentence for each cap that holds something up, or would."""
        self._forget_lines()
        by_cap: dict[str, list[str]] = {}
        for cap, name in self._lines:
            if self._lines[cap, name].limit == self.limit(cap):
                by_cap.setdefault(cap, []).append(name)
        for cap, names in by_cap.items():
            shown = ", ".join(f"{each[:_SHOWN_LENGTH]!a}" for each in names[:_SHOWN_NAMES])
            more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
            what = _WORDS[cap].format(limit=self.limit(cap), name=f"{shown}{more}")
            yield f"the cap {cap} is reached: {what}; what is more waits, and goes on by itself"

    def _check_open(self, open_intents: int) -> None:
        if open_intents >= self.limit("open-intents"):
            raise self._turned_away("open-intents", "")

    def _check(self, cap: str, name: str) -> None:
        if not self._has_room(cap, name):
            raise self._turned_away(cap, name)

    def _has_room(self, cap: str, name: str) -> bool:
        return self._windows[cap].count(name, now_s=self._clock()) < self.limit(cap)

    def _turned_away(self, cap: str, name: str) -> Unavailable:
        """Give out the next place in the line: thousands that wait do not come back at once."""
        now_s, limit = self._clock(), self.limit(cap)
        if cap == "open-intents":
            first_s, period_s = now_s + _FIRST_RETRY_S, _INTENT_LIFE_S
        else:
            first_s, period_s = self._windows[cap].falls_to(name, limit - 1, now_s=now_s), HOUR_S
        line = self._lines.get((cap, name))
        if line is None or line.limit != limit:
            self._forget_lines()
            line = self._lines[cap, name] = _Line(next_s=first_s, limit=limit)
            _log.warning("the cap %s (%d) is reached%s", cap, limit, f" for {name[:_SHOWN_LENGTH]!a}" if name else "")
        # A line that is longer than what the cap lets through in a period begins again at its front.
        place_s = max(first_s, line.next_s) if line.next_s <= first_s + period_s else first_s
        line.next_s = place_s + period_s / limit
        what = _WORDS[cap].format(limit=limit, name=f"{name[:_SHOWN_LENGTH]!a}")
        return Unavailable(
            f"the signer's cap is reached, which is {what}",
            code=f"cap-{cap}",
            retry_after_s=max(1, math.ceil(place_s - now_s)),
        )

    def _forget_lines(self) -> None:
        """Nobody waits any more for what has room again, once the last of a line had time to come."""
        now_s = self._clock()
        for key, line in list(self._lines.items()):
            if line.next_s <= now_s and self._has_room(*key):
                del self._lines[key]


def _end_s(step: int) -> int:
    """When what was counted in this step is older than an hour, all of it."""
    return (step + 1) * STEP_S + HOUR_S


def _names(profile: str, account: str, validators: tuple[bytes, ...]) -> Iterator[tuple[str, str]]:
    yield "profile-certificates", profile
    yield "account-certificates", account
    for key_id in validators:
        yield "validator-certificates", key_id.hex()


def _counted(entry: JournalEntry, parts: tuple[bytes, ...]) -> Iterator[tuple[str, str, int]]:
    """For which caps an entry counts, under which names, and how much."""
    body: Any = entries.decode_body(entry) if entry.kind in {"intent", "revocation"} else None
    match body:
        case entries.Intent() if parts[0]:
            part = entries.decode_part(entries.Requested, parts[0])
            validators = validators_of(part.proofs) if body.protocol > 1 else ()
            for cap, name in _names(body.profile, part.account, validators):
                yield cap, name, 1
        case entries.Revocations(entries=revoked, proofs=proofs) if len(revoked) > len(proofs):
            yield "revocations", "", len(revoked) - len(proofs)
        case None if entry.kind == "refusal":
            yield "refusals", "", 1
        case _:
            pass


def validators_of(proofs: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The key ids of all who proved something of an intent, each once."""
    if not proofs:
        return ()
    *observed, attested = proofs
    try:
        key_ids = [evidence.read_observation(each).validator for each in observed]
        key_ids.append(evidence.read_attestation(attested).validator)
    except PeerError as error:
        # A worker has read them before the intent was written; a worker that lies must not keep the signer down.
        _log.error("the journal holds an intent whose proofs cannot be read: %s", error)
        return ()
    return tuple(dict.fromkeys(key_ids))


def _last_hour(journal: Journal, *, now: dt.datetime) -> Iterator[tuple[float, JournalEntry, tuple[bytes, ...]]]:
    """The entries of the last hour, the newest first, each with its age in seconds.

    Ages are reckoned from entry to entry, and none passes where the clock was set: so whoever sets it ends no hour.
    """
    newer, age_s = None, 0.0
    for entry, parts in _backwards(journal):
        if newer is None:
            age_s = max(0.0, (now - entry.time).total_seconds())
        elif newer.kind != "clock":
            age_s += max(0.0, (newer.time - entry.time).total_seconds())
        if age_s > HOUR_S:
            return
        yield age_s, entry, parts
        newer = entry


def _backwards(journal: Journal) -> Iterator[tuple[JournalEntry, tuple[bytes, ...]]]:
    last = journal.size
    while last:
        first = max(1, last - _READ_AT_ONCE + 1)
        for _, octets, parts in reversed(list(journal.entries(first, last - first + 1))):
            yield entries.decode_entry(octets), parts
        last = first - 1
