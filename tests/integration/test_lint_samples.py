"""Two linters that share no code agree about the sample certificates of every default profile."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.support.authorities import NOW, PROFILES, load_profile

from cassiopeia.client.lint_samples import lint_profiles
from cassiopeia.core.profile import Profile
from cassiopeia.core.sample import KEY_KINDS, fault, lint_sample, make_sample, sample_authority

NAMES = sorted(each.stem for each in Path(PROFILES).glob("*.toml"))
# What the CA/Browser Forum allows no server and no mailbox, and RFC 5280 everybody.
FORBIDDEN_KEYS = {
    "cabf.serverauth.prohibited_subject_public_key_algorithm_encoding": (
        "Ed25519",
        "ML-DSA-44",
        "ML-DSA-65",
        "ML-DSA-87",
    ),
    "cabf.smime.prohibited_spki_algorithm_encoding": ("P-521",),
}


def without_rules(profile: Profile) -> Profile:
    """RFC 5280 alone, with nothing accepted but what the linter gets wrong."""
    return dataclasses.replace(profile, lint_rules=())


def test_the_signers_own_lint_finds_nothing() -> None:
    for name in NAMES:
        profile = load_profile(name)
        for key_kind in KEY_KINDS:
            for least in (True, False):
                lint_sample(make_sample(profile, sample_authority(profile.family), key_kind=key_kind, least=least))
        assert fault(profile, ()) == ""


def test_pkilint_finds_nothing_by_rfc_5280() -> None:
    for name, verdict in zip(
        NAMES, lint_profiles([without_rules(load_profile(each)) for each in NAMES], now=NOW), strict=True
    ):
        assert (name, verdict.always, verdict.sometimes) == (name, (), {})


def test_by_the_rules_of_the_forum_pkilint_objects_to_kinds_of_keys_alone() -> None:
    for name, verdict in zip(NAMES, lint_profiles([load_profile(each) for each in NAMES], now=NOW), strict=True):
        assert (name, verdict.always) == (name, ())
        assert verdict.sometimes.items() <= FORBIDDEN_KEYS.items()
