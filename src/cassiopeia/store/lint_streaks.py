"""Vetoes of one finding in a row, by profile: the sign that the linter is at fault and not the requests.

The fifth veto in a row holds the profile's queue: its jobs are not leased (`queue`), and what this finding vetoes from
then on is to be put back instead of refused. Only a certificate without a veto ends a hold; a release lets jobs out
again, and the next veto of the same finding holds at once. A hold looks after itself, too: once in a while one job is
let out as a probe, so that nobody can stop a profile for good with five bad requests.

Profiles are called as requests call them; requests for OCSP responders name none.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, exists, select, update

from cassiopeia.store.connection import Database
from cassiopeia.store.dialects import insert_or
from cassiopeia.store.models import OPEN_JOB, job, lint_streak, request
from cassiopeia.store.records import storable

HOLD_AFTER: Final = 5
"""So many vetoes of one finding in a row, each of another request, are the linter's fault rather than theirs."""
PROBE_EVERY: Final = dt.timedelta(minutes=15)
PUT_BACK_FOR: Final = dt.timedelta(minutes=20)
"""How long what is put back waits at least: longer than until the next probe, which is to be another request."""
_MAXIMUM_FINDING_LENGTH: Final = 255


@dataclass(frozen=True, kw_only=True, slots=True)
class LintVerdict:
    """What a lint came to: the vetoing findings (codes, the gravest first), and what people are told of them."""

    profile: str
    findings: tuple[str, ...] = ()
    message: str = ""


class Standing(enum.Enum):
    """What a verdict means for its profile."""

    FREE = "free"
    """The verdict counts as it is."""
    HOLD_BEGINS = "hold begins"
    """This veto completes the streak: put its request back, and raise the alarm."""
    HELD = "held"
    """This veto is one more of the kind: put its request back."""
    HOLD_ENDS = "hold ends"
    """This certificate is good: the profile's jobs are leased again."""


_OF_A_SAMPLE: Final = "its sample certificate: "


@dataclass(frozen=True, kw_only=True, slots=True)
class LintStreak:
    """Vetoes of `finding` in a row; `held_at` is None after a release, until the next lint decides.

    Or a finding in the profile's sample certificate, without any veto: then `message` says so.
    """

    profile: str
    finding: str
    length: int
    message: str
    held_at: dt.datetime | None

    @property
    def is_of_a_sample(self) -> bool:
        return self.message.startswith(_OF_A_SAMPLE)

    @property
    def why(self) -> str:
        """Why the profile is held, in words."""
        if self.is_of_a_sample:
            return f"its sample certificate has the finding {self.finding}"
        return f"{self.length} certificates in a row were vetoed for {self.finding}"


class LintStreaks:
    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, verdicts: Sequence[LintVerdict], *, now: dt.datetime) -> tuple[Standing, ...]:
        """Count verdicts, each of another request, in the order in which they came."""
        if not self._matter(verdicts):
            return (Standing.FREE,) * len(verdicts)
        with self._database.write() as connection:
            streaks = _lock(connection, sorted({each.profile for each in verdicts}), now=now)
            standings = tuple(_count(streaks[each.profile], each, now=now) for each in verdicts)
            for streak in streaks.values():
                if streak.changed:
                    connection.execute(
                        update(lint_streak)
                        .where(lint_streak.c.profile == streak.profile)
                        .values(
                            finding=streak.finding,
                            length=streak.length,
                            message=storable(streak.message),
                            held_at=streak.held_at,
                            updated_at=now,
                        )
                    )
        return standings

    def suspicious(self) -> tuple[LintStreak, ...]:
        """Return the streaks that hold their profile, and those that were released and not disproved yet."""
        statement = select(lint_streak).where(lint_streak.c.length >= HOLD_AFTER).order_by(lint_streak.c.profile)
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return tuple(
            LintStreak(
                profile=row.profile,
                finding=row.finding,
                length=row.length,
                message=row.message,
                held_at=row.held_at,
            )
            for row in rows
        )

    def hold_for_sample(self, profile: str, *, finding: str, message: str, now: dt.datetime) -> bool:
        """Hold a profile at once for a finding in its sample certificate; False when it is held for this already."""
        with self._database.write() as connection:
            streak = _lock(connection, [profile], now=now)[profile]
            if streak.held_at is not None and streak.finding == finding[:_MAXIMUM_FINDING_LENGTH]:
                return False
            connection.execute(
                update(lint_streak)
                .where(lint_streak.c.profile == profile)
                .values(
                    finding=finding[:_MAXIMUM_FINDING_LENGTH],
                    length=HOLD_AFTER,
                    message=storable(_OF_A_SAMPLE + message),
                    held_at=now,
                    updated_at=now,
                )
            )
        return True

    def release_sample(self, profile: str, *, now: dt.datetime) -> bool:
        """Release a profile whose sample certificate passes by now; False unless that was why it was held."""
        held = any(each.profile == profile and each.is_of_a_sample for each in self.suspicious())
        return held and self.release(profile, now=now)

    def release(self, profile: str, *, now: dt.datetime) -> bool:
        """Lease the profile's jobs again, those that were put back too; False when it was not held."""
        with self._database.write() as connection:
            released = connection.execute(
                update(lint_streak)
                .where(lint_streak.c.profile == profile, lint_streak.c.held_at.is_not(None))
                .values(held_at=None, updated_at=now)
            ).rowcount
            if released:
                connection.execute(
                    update(job)
                    .where(OPEN_JOB, job.c.state == "queued", job.c.ready_at > now, of_profiles([profile]))
                    .values(ready_at=now)
                )
        return bool(released)

    def _matter(self, verdicts: Sequence[LintVerdict]) -> bool:
        """Whether there is anything to write; with good certificates there mostly is not, and that is to be cheap."""
        if any(each.findings for each in verdicts):
            return True
        profiles = {each.profile for each in verdicts}
        begun = select(lint_streak.c.profile).where(lint_streak.c.length > 0)
        with self._database.read() as connection:
            return any(profile in profiles for profile in connection.execute(begun).scalars())


def held_profiles(connection: Connection) -> tuple[str, ...]:
    """Return the profiles whose jobs are not to be leased: mostly none."""
    held = select(lint_streak.c.profile).where(lint_streak.c.held_at.is_not(None))
    return tuple(connection.execute(held).scalars())


def of_profiles(profiles: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition that a job is for a certificate of one of these profiles."""
    return exists(select(request.c.id).where(request.c.id == job.c.request_row, request.c.profile.in_(profiles)))


def due_probes(connection: Connection, *, now: dt.datetime) -> tuple[str, ...]:
    """Return the held profiles of which one job may be leased now."""
    return tuple(connection.execute(_due(now)).scalars())


def lock_due_probes(connection: Connection, *, now: dt.datetime) -> tuple[str, ...]:
    """The same, by this client alone until it commits."""
    return tuple(connection.execute(_due(now).with_for_update(skip_locked=True)).scalars())


def record_probe(connection: Connection, profile: str, *, now: dt.datetime) -> None:
    connection.execute(update(lint_streak).where(lint_streak.c.profile == profile).values(updated_at=now))


def _due(now: dt.datetime) -> Select[Any]:
    due: Select[Any] = select(lint_streak.c.profile).where(
        lint_streak.c.held_at.is_not(None), lint_streak.c.updated_at <= now - PROBE_EVERY
    )
    return due.order_by(lint_streak.c.profile)


@dataclass
class _Streak:
    profile: str
    finding: str
    length: int
    message: str
    held_at: dt.datetime | None
    changed: bool = False


def _lock(connection: Connection, profiles: Sequence[str], *, now: dt.datetime) -> dict[str, _Streak]:
    """Lock the profiles' rows for the rest of the transaction; rows are never deleted, so that this can't miss one."""
    empty = [
        {"profile": each, "finding": "", "length": 0, "message": "", "held_at": None, "updated_at": now}
        for each in profiles
    ]
    connection.execute(insert_or(connection.dialect.name, lint_streak).on_conflict_do_nothing(), empty)
    rows: Select[Any] = (
        select(lint_streak).where(lint_streak.c.profile.in_(profiles)).order_by(lint_streak.c.profile).with_for_update()
    )
    return {row.profile: _streak(row) for row in connection.execute(rows)}


def _streak(row: Row[Any]) -> _Streak:
    return _Streak(
        profile=row.profile, finding=row.finding, length=row.length, message=row.message, held_at=row.held_at
    )


def _count(streak: _Streak, verdict: LintVerdict, *, now: dt.datetime) -> Standing:
    suspicious = streak.length >= HOLD_AFTER
    codes = [code[:_MAXIMUM_FINDING_LENGTH] for code in verdict.findings]
    if not codes:
        if not streak.length:
            return Standing.FREE
        streak.finding, streak.length, streak.message, streak.held_at = "", 0, "", None
        streak.changed = True
        return Standing.HOLD_ENDS if suspicious else Standing.FREE
    if streak.length and streak.finding in codes:
        streak.length += 1
    elif suspicious:
        return Standing.FREE  # another fault, which says nothing about the finding that is suspected
    else:
        streak.finding, streak.length = codes[0], 1
    streak.message = verdict.message
    streak.changed = True
    if streak.length < HOLD_AFTER:
        return Standing.FREE
    if streak.held_at is not None:
        return Standing.HELD
    streak.held_at = now
    return Standing.HOLD_BEGINS
