"""The signer's own lint: what it costs for a certificate of each kind, beside what it lints, and beside pkilint."""

from __future__ import annotations

import datetime as dt
import functools
import time
from collections.abc import Callable

from cassiopeia.ceremony.profiles import default_profile_texts
from cassiopeia.client import lint_worker
from cassiopeia.core.certificate import assemble_tbs
from cassiopeia.core.profile import parse_profile
from cassiopeia.core.sample import Sample, lint_sample, make_sample, sample_authority, unsound_profiles

_NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
_PROFILES = ("0004-server", "0007-client-mail-a", "0013-server-orga", "9004-unproved-server")
_KEY_KINDS = ("RSA-3072", "P-256", "Ed25519")
_REPETITIONS = 20


def main(*, quick: bool) -> None:
    texts = default_profile_texts()
    profiles = {name: parse_profile(text, name=name, source=name) for name, text in texts.items()}
    print("\nLinting one certificate: microseconds of CPU (best of 20), beside assembling it and pkilint on it")
    print(f"  {'profile':<22} {'key':<9} {'octets':>7} {'assemble':>9} {'own lint':>9} {'pkilint':>8}")
    for name in _PROFILES[:1] if quick else _PROFILES:
        for key_kind in _KEY_KINDS:
            profile = profiles[name]
            sample = make_sample(profile, sample_authority(profile.family), key_kind=key_kind, now=_NOW)
            assemble, own, foreign = (
                _microseconds(work, 20 if quick else 200)
                for work in (
                    functools.partial(assemble_tbs, sample.approved),
                    functools.partial(lint_sample, sample),
                    functools.partial(_pkilint, sample),
                )
            )
            octets = len(sample.tbs_certificate)
            print(f"  {name:<22} {key_kind:<9} {octets:7,} {assemble:9.0f} {own:9.0f} {foreign:8.0f}", flush=True)
    whole = _microseconds(functools.partial(unsound_profiles, list(profiles.values()), []), 1)
    print(f"  samples of all {len(profiles)} profiles, as at a worker's start: {whole / 1000:.0f} ms")


def _pkilint(sample: Sample) -> None:
    lint_worker.lint(sample.tbs_certificate, sample.profile.lint_rules)


def _microseconds(work: Callable[[], object], times: int) -> float:
    """For one of `times` in a row, in the quickest of a few runs."""
    # What takes milliseconds needs no company.
    begun = time.process_time()
    work()
    times = times if time.process_time() - begun < 0.001 else 1  # noqa: PLR2004 - a millisecond
    spans = []
    for _ in range(_REPETITIONS):
        begun = time.process_time()
        for _ in range(times):
            work()
        spans.append((time.process_time() - begun) / times)
    return min(spans) * 1_000_000
