"""The client's veto by lint (step 9): what pkilint finds in exactly the octets that would be signed.

Owns what a finding means: an error or worse vetoes, unless the profile accepts that finding with a reason. The same
finding in many certificates in a row is the linter's fault rather than theirs (`store.lint_streaks`): then the request
waits instead of being refused. Nothing is ever passed without a lint.
"""

from __future__ import annotations

import datetime as dt
import enum
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cassiopeia.client.lint_pool import LintFailure, LintPool
from cassiopeia.client.lint_samples import LintSamples
from cassiopeia.client.lint_tasks import Finding, LintResult, LintTask
from cassiopeia.core.authority import Authority
from cassiopeia.core.profile import Profile
from cassiopeia.store.lint_streaks import HOLD_AFTER, PUT_BACK_FOR, LintStreaks, LintVerdict, Standing

_log = logging.getLogger(__name__)

_NO_LINTER_DELAY_S: Final = 60.0
_SHOWN_FINDINGS: Final = 5
_SHOWN_CHARACTERS: Final = 300


class Verdict(enum.Enum):
    PASSED = "passed"
    REFUSED = "refused"
    LATER = "later"
    SET_ASIDE = "set aside"


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What becomes of a linted request; `delay_s` is for one that waits."""

    number: int
    verdict: Verdict
    reason: str = ""
    delay_s: float = 0.0


class Lint:
    """The lints of one client. Numbers are the caller's, from 0, never used twice."""

    def __init__(self, *, pool: LintPool, profiles: Mapping[str, Profile], streaks: LintStreaks) -> None:
        self._pool = pool
        # A request for an OCSP responder names no profile: it gets the one without a family.
        self._profiles = {(each.name if each.family else ""): each for each in profiles.values()}
        self._streaks = streaks
        self._profile_of: dict[int, str] = {}
        self._samples = LintSamples(pool=pool, profiles=self._profiles, streaks=streaks)

    def submit_samples(self, authorities: Iterable[Authority], *, now: dt.datetime) -> None:
        """Lint a sample of each profile, by these sub-CAs: what none of its requests would pass holds the profile."""
        self._samples.submit(authorities, now=now)

    def release_accepted(self, *, now: dt.datetime) -> None:
        """Let go of profiles that are held for a finding which they accept by now."""
        for streak in self._streaks.suspicious():
            if streak.finding in self._accepted(streak.profile) and self._streaks.release(streak.profile, now=now):
                _log.warning(
                    "profile %s accepts the finding %s by now: it is not held any more", streak.profile, streak.finding
                )

    def submit(self, number: int, profile: str, tbs_certificate: bytes) -> None:
        """Lint a TBSCertificate for a request that named this profile; `decide` will say what it came to."""
        known = self._profiles.get(profile)
        self._profile_of[number] = profile
        self._pool.submit(
            LintTask(number=number, tbs_certificate=tbs_certificate, rules=known.lint_rules if known else ())
        )

    def pump(self) -> None:
        """Keep the workers at it; once each turn of the loop."""
        self._pool.pump()

    def decide(self, *, now: dt.datetime) -> list[Decision]:
        """What the lints that were done since the last call mean for their requests."""
        answers = self._samples.take(self._pool.take(), now=now)
        answers = [each for each in answers if each.number in self._profile_of]
        results = [each for each in answers if isinstance(each, LintResult)]
        verdicts = [self._judge(each) for each in results]
        standings = self._streaks.record(verdicts, now=now) if verdicts else ()
        decisions = [self._failed(each) for each in answers if isinstance(each, LintFailure)]
        for result, verdict, standing in zip(results, verdicts, standings, strict=True):
            decisions.append(_decision(result.number, verdict, standing))
        for each in answers:
            del self._profile_of[each.number]
        return decisions

    def forget(self) -> None:
        """The session is over: what was submitted comes again."""
        self._profile_of.clear()
        self._pool.forget()
        self._samples.submit_again()

    def stop(self) -> None:
        self._pool.stop()

    def _accepted(self, profile: str) -> frozenset[str]:
        known = self._profiles.get(profile)
        return frozenset(each.finding for each in known.lint_allow) if known else frozenset()

    def _judge(self, result: LintResult) -> LintVerdict:
        profile = self._profile_of[result.number]
        accepted = self._accepted(profile)
        vetoing: list[Finding] = []
        for finding in result.findings:
            if finding.grave and finding.code not in accepted:
                vetoing.append(finding)
            else:
                _log.debug("lint, profile %s: %s %s", profile, finding.severity, finding)
        return LintVerdict(
            profile=profile,
            findings=tuple(dict.fromkeys(each.code for each in vetoing)),
            message=_explain(vetoing),
        )

    def _failed(self, failure: LintFailure) -> Decision:
        if failure.died:
            return Decision(number=failure.number, verdict=Verdict.SET_ASIDE, reason=failure.reason)
        return Decision(number=failure.number, verdict=Verdict.LATER, reason=failure.reason, delay_s=_NO_LINTER_DELAY_S)


def _explain(vetoing: list[Finding]) -> str:
    shown = [str(each)[:_SHOWN_CHARACTERS] for each in vetoing[:_SHOWN_FINDINGS]]
    if len(vetoing) > len(shown):
        shown.append(f"and {len(vetoing) - len(shown)} more")
    return "; ".join(shown)


def _decision(number: int, verdict: LintVerdict, standing: Standing) -> Decision:
    if standing is Standing.HOLD_ENDS:
        _log.warning("a certificate of profile %s passed its lint: the profile is not held any more", verdict.profile)
    if not verdict.findings:
        return Decision(number=number, verdict=Verdict.PASSED)
    if standing is Standing.HOLD_BEGINS:
        _log.error(
            "ALARM: profile %s is held: %d certificates in a row were vetoed for the same finding, and its requests "
            "wait now. See `cassiopeia status`. The last one: %s",
            verdict.profile,
            HOLD_AFTER,
            verdict.message,
        )
    if standing in {Standing.HOLD_BEGINS, Standing.HELD}:
        return Decision(
            number=number,
            verdict=Verdict.LATER,
            reason=f"its profile is held, because the linter vetoes one certificate after the other: {verdict.message}",
            delay_s=PUT_BACK_FOR.total_seconds(),
        )
    return Decision(number=number, verdict=Verdict.REFUSED, reason=f"the client's lint vetoed it: {verdict.message}")
