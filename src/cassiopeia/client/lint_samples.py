"""pkilint on sample certificates: at the client's start, whether any request under a profile could pass its lint.

Owns which samples are linted and what their findings mean. What is found in the samples of all common kinds of key,
with no more names than the profile requires, would be found in every certificate: such a profile is held
(`lint_streaks`) before any request is refused for it. A real certificate that passes ends the hold, as any other.
"""

from __future__ import annotations

import datetime as dt
import itertools
import logging
import selectors
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cassiopeia.client.lint_pool import WORKER, LintFailure, LintPool, require_linter
from cassiopeia.client.lint_tasks import Finding, LintResult, LintTask
from cassiopeia.core.authority import Authority
from cassiopeia.core.profile import Profile
from cassiopeia.core.sample import COMMON_KEY_KINDS, KEY_KINDS, Sample, able_authorities, make_sample, sample_authority
from cassiopeia.errors import CassiopeiaError, OperatorError
from cassiopeia.store.lint_streaks import LintStreaks

_log = logging.getLogger(__name__)

_POLL_S = 0.5
_LIBRARY_ERRORS = (ValueError, TypeError, OverflowError)


@dataclass(kw_only=True, eq=False)
class _Trial:
    """The samples of one profile; `findings` are those that veto, of each sample that was linted."""

    name: str
    profile: Profile
    tasks: dict[int, LintTask]
    findings: list[dict[str, Finding]] = field(default_factory=list)


class LintSamples:
    """The samples of one client's profiles, which are called as requests call them. Their numbers are below zero."""

    def __init__(self, *, pool: LintPool, profiles: Mapping[str, Profile], streaks: LintStreaks) -> None:
        self._pool = pool
        self._profiles = profiles
        self._streaks = streaks
        self._numbers = itertools.count(-1, -1)
        self._trials: dict[int, _Trial] = {}  # by the number of each sample that is awaited

    def submit(self, authorities: Iterable[Authority], *, now: dt.datetime) -> None:
        """Lint samples of every profile, by a sub-CA of its family that issues now, where there is one."""
        authorities = tuple(authorities)
        for name, profile in self._profiles.items():
            authority = _choose(profile, authorities, now=now)
            samples = [_sample(profile, authority, key_kind, now=now) for key_kind in COMMON_KEY_KINDS]
            tasks = {
                number: LintTask(number=number, tbs_certificate=sample.tbs_certificate, rules=sample.profile.lint_rules)
                for number, sample in zip(self._numbers, filter(None, samples), strict=False)
            }
            self._trials |= dict.fromkeys(tasks, _Trial(name=name, profile=profile, tasks=tasks))
            for task in tasks.values():
                self._pool.submit(task)

    def submit_again(self) -> None:
        """What the pool has forgotten."""
        for number, trial in self._trials.items():
            self._pool.submit(trial.tasks[number])

    def take(self, answers: Iterable[LintResult | LintFailure], *, now: dt.datetime) -> list[LintResult | LintFailure]:
        """Judge the answers that are about samples; return the others."""
        others = []
        for answer in answers:
            if answer.number >= 0:
                others.append(answer)
            elif (trial := self._trials.pop(answer.number, None)) is not None:
                self._note(trial, answer)
                if trial not in self._trials.values():
                    self._judge(trial, now=now)
        return others

    def _note(self, trial: _Trial, answer: LintResult | LintFailure) -> None:
        if isinstance(answer, LintFailure):
            _log.warning("profile %s: its sample certificate was not linted: %s", trial.profile.name, answer.reason)
            return
        trial.findings.append(_vetoing(trial.profile, answer))

    def _judge(self, trial: _Trial, *, now: dt.datetime) -> None:
        if len(trial.findings) < len(trial.tasks):
            return  # what was not linted proves nothing
        common = _common(trial.findings)
        if not common:
            if self._streaks.release_sample(trial.name, now=now):
                _log.warning("profile %s: its sample certificate passes by now: it is not held", trial.profile.name)
            return
        message = "; ".join(map(str, common))
        if self._streaks.hold_for_sample(trial.name, finding=common[0].code, message=message, now=now):
            _log.error(
                "ALARM: profile %s is held, and its requests wait: the linter vetoes its sample certificate, and would "
                "veto every other. See `cassiopeia status`. What it found: %s",
                trial.profile.name,
                message,
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleVerdict:
    """What pkilint makes of the samples of a profile.

    `always` would veto every certificate; `sometimes` has the codes that veto some, each with words for which.
    """

    always: tuple[Finding, ...]
    sometimes: Mapping[str, tuple[str, ...]]


def lint_profiles(
    profiles: Sequence[Profile], *, now: dt.datetime, command: Sequence[str] = WORKER
) -> list[SampleVerdict]:
    """Lint all samples of these profiles, by sub-CAs that do not exist, in a lint worker of its own.

    Raises OperatorError when the linter is missing, does not start or does not get through.
    """
    require_linter()
    samples = [
        sample
        for profile in profiles
        for key_kind in KEY_KINDS
        for least in (True, False)
        if (sample := _sample(profile, sample_authority(profile.family), key_kind, now=now, least=least)) is not None
    ]
    found = [
        (sample, _vetoing(sample.profile, each)) for sample, each in zip(samples, _lint(samples, command), strict=True)
    ]
    return [_verdict([(one, codes) for one, codes in found if one.profile is profile]) for profile in profiles]


def _verdict(found: Sequence[tuple[Sample, Mapping[str, Finding]]]) -> SampleVerdict:
    always = _common([codes for one, codes in found if one.least and one.key_kind in COMMON_KEY_KINDS])
    sometimes = {code for _, codes in found for code in codes} - {each.code for each in always}
    return SampleVerdict(
        always=tuple(always),
        sometimes={
            code: _which([one for one, codes in found if code in codes], [one for one, _ in found])
            for code in sorted(sometimes)
        },
    )


def _which(some: Sequence[Sample], every: Sequence[Sample]) -> tuple[str, ...]:
    """Words for some samples of a profile: with which keys, and with which names if not with all."""
    least = {each.key_kind for each in some if each.least}
    most = {each.key_kind for each in some if not each.least}
    kinds = list(dict.fromkeys(each.key_kind for each in every))
    words = []
    for chosen, names in (
        (least & most, ""),
        (least - most, " with the fewest names"),
        (most - least, " with all kinds of names"),
    ):
        which = ["every key"] if len(chosen) == len(kinds) else [each for each in kinds if each in chosen]
        words += [f"{each}{names}" for each in which if chosen]
    return tuple(words)


def _lint(samples: Sequence[Sample], command: Sequence[str]) -> Iterator[LintResult]:
    """The results in the order of the samples."""
    results: dict[int, LintResult] = {}
    with selectors.DefaultSelector() as selector:
        pool = LintPool(count=1, selector=selector, command=command)
        try:
            for number, sample in enumerate(samples):
                rules = sample.profile.lint_rules
                pool.submit(LintTask(number=number, tbs_certificate=sample.tbs_certificate, rules=rules))
            while len(results) < len(samples):
                pool.pump()
                for key, mask in selector.select(_POLL_S):
                    key.data(mask)
                for answer in pool.take():
                    if isinstance(answer, LintFailure):
                        raise OperatorError(f"the linter fails: {answer.reason}")
                    results[answer.number] = answer
        finally:
            pool.stop()
    return (results[number] for number in range(len(samples)))


def _vetoing(profile: Profile, result: LintResult) -> dict[str, Finding]:
    """By code, the findings that veto a certificate of this profile."""
    accepted = {each.finding for each in profile.lint_allow}
    return {each.code: each for each in result.findings if each.grave and each.code not in accepted}


def _common(found: Sequence[Mapping[str, Finding]]) -> list[Finding]:
    """What is in all of them."""
    return [each for each in found[0].values() if all(each.code in one for one in found)] if found else []


def _choose(profile: Profile, authorities: Iterable[Authority], *, now: dt.datetime) -> Authority:
    fitting = able_authorities(profile, authorities)
    issuing = [each for each in fitting if each.issues_from <= now < each.issues_until and not each.retired]
    return next(iter(issuing or fitting), None) or sample_authority(profile.family)


def _sample(
    profile: Profile, authority: Authority, key_kind: str, *, now: dt.datetime, least: bool = True
) -> Sample | None:
    try:
        return make_sample(profile, authority, key_kind=key_kind, least=least, now=now)
    except (CassiopeiaError, *_LIBRARY_ERRORS) as error:
        # Not every profile serves every kind of key; and of one that serves none the signer speaks.
        _log.info("profile %s has no sample certificate with a %s key: %s", profile.name, key_kind, error)
        return None
