"""The sample keys of badkeys, each against the checks that must find it, and a sound one (badkeys/ORIGIN.md)."""

from __future__ import annotations

import pytest
from tests.support.badkeys import SAMPLES, modulus, sample

from cassiopeia.core.csr import parse_certification_request
from cassiopeia.core.keycheck import check_public_key, check_strength
from cassiopeia.core.moduli import SMALL_FACTOR_BOUND
from cassiopeia.errors import Refused


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("rsa-roca.key", "key-roca"),
        ("rsa-fermat.csr", "key-close-primes"),
        ("rsa-fermat-hexmodulus.txt", "key-close-primes"),
        ("rsa-fermat-pkcs1.key", "key-close-primes"),
        ("rsa-fermat-pkcs8.key", "key-close-primes"),
        ("rsa-smallfactors-corrupt.key", "key-small-factor"),
    ],
)
def test_a_key_that_gives_itself_away(name: str, code: str) -> None:
    key = sample(name)
    check_public_key(key)
    with pytest.raises(Refused, match="; make a new key") as refusal:
        check_strength(key)
    assert (refusal.value.code, refusal.value.field) == (code, "key")


@pytest.mark.parametrize(
    "name",
    [
        "rsa-ok.key",
        "rsa-debianweak.key",  # only a list tells
        "ec-p256-rfc-example.key",
        "ed25519-rfc-example.key",
        "mldsa44.key",
    ],
)
def test_a_key_that_does_not(name: str) -> None:
    check_public_key(sample(name))
    check_strength(sample(name))


def test_a_factor_beyond_the_bound_is_not_looked_for() -> None:
    """It would cost three times as much; docs/key-checks.md names this key."""
    assert modulus("rsa-smallfactors-valid.key") % 31337 == 0
    assert SMALL_FACTOR_BOUND < 31337
    check_strength(sample("rsa-smallfactors-valid.key"))


def test_the_request_of_a_weak_key_is_itself_in_order() -> None:
    """So that it is the strength that has to refuse it."""
    key = parse_certification_request((SAMPLES / "rsa-fermat.csr").read_bytes())
    assert key.algorithm == "RSA-2048"
