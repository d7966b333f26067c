"""Moduli that can be factored, at the edges of each check; keys that nobody here made are in `tests/vectors`."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import hostile_requests as made
from tests.support.badkeys import modulus

from cassiopeia.core import moduli
from cassiopeia.core.moduli import FERMAT_ROUNDS, SMALL_FACTOR_BOUND, check_modulus, primes
from cassiopeia.errors import Refused

SOUND = made.rsa_key().public_key().public_numbers().n


def code_of(number: int) -> str:
    try:
        check_modulus(number)
    except Refused as refusal:
        return refusal.code
    return ""


def without_small_factors(number: int) -> int:
    """This number or the next odd one above it that no prime up to the bound divides."""
    number |= 1
    while math.gcd(number, moduli._small_primes_product()) != 1:
        number += 2
    return number


def test_a_sound_modulus() -> None:
    assert code_of(SOUND) == ""


def test_primes() -> None:
    assert primes(3, 30) == [3, 5, 7, 11, 13, 17, 19, 23, 29]
    assert len(primes(2, SMALL_FACTOR_BOUND)) == 1229  # the prime-counting function of 10^4


@pytest.mark.parametrize("factor", [3, 5, 7, 743, 751, 757, 9967, 9973])
def test_a_small_factor_is_found(factor: int) -> None:
    assert code_of(factor * without_small_factors(SOUND >> factor.bit_length())) == "key-small-factor"


def test_the_first_factor_that_is_not_looked_for() -> None:
    assert code_of(10007 * without_small_factors(SOUND >> 14)) == ""


@pytest.mark.parametrize("offset", [0, 1, 2, 50, 98, 99])
def test_close_primes_are_found_in_each_round(offset: int) -> None:
    assert code_of(found_in_round(offset)) == "key-close-primes"


@pytest.mark.parametrize("offset", [100, 101, 1000])
def test_further_rounds_are_not_tried(offset: int) -> None:
    assert code_of(found_in_round(offset)) in {"", "key-small-factor"}


def found_in_round(offset: int) -> int:
    """A number of some 2,048 bits for which Fermat's method needs so many rounds beyond the first.

    With `b` the difference of two factors and `a` their mean, `a` is about `b² / 2a` above the root.
    """
    mean = 1 << 1024 | 1 << 500 | 1
    difference = math.isqrt(2 * mean * offset) & ~1
    while (rounds := mean - math.isqrt(mean**2 - difference**2 - 1) - 1) < offset:
        difference += 1 << 504
    number = mean**2 - difference**2
    assert rounds == offset
    return number


def test_what_passes_the_sieve_and_is_no_square_after_all() -> None:
    mean, beyond = 1 << 1024 | 1, 1 + math.prod(moduli._FERMAT_SIEVE)  # leaves 1 modulo each of them
    assert math.isqrt(beyond) ** 2 != beyond
    moduli._check_close_primes(mean**2 - beyond)


@given(st.integers(min_value=3, max_value=10**9).map(lambda number: number | 1))
def test_the_sieve_leaves_out_no_round(number: int) -> None:
    """Against Fermat's method as it stands in textbooks."""
    first = math.isqrt(number - 1) + 1
    tried = (mean * mean - number for mean in range(first, first + FERMAT_ROUNDS))
    expected = any(math.isqrt(square) ** 2 == square for square in tried)
    try:
        moduli._check_close_primes(number)
    except Refused:
        assert expected
    else:
        assert not expected


def test_a_sound_modulus_has_roca_s_fingerprint_by_chance_once_in_two_hundred_million() -> None:
    """27.8 bits are what the paper gives for moduli of 512 bits (Nemec et al. 2017, 3.3)."""
    assert len(moduli._ROCA_POWERS) == 38
    chances = [powers.bit_count() / (prime - 1) for prime, powers in moduli._ROCA_POWERS]
    assert round(math.log2(math.prod(chances)), 1) == -27.8


def test_roca_s_fingerprint_needs_every_prime() -> None:
    """Whatever is added so that the remainder of one prime alone is no power of 65537 takes the fingerprint away."""
    infected = modulus("rsa-roca.key")
    assert code_of(infected) == "key-roca"
    for prime, powers in moduli._ROCA_POWERS:
        others = moduli._ROCA_PRODUCT // prime
        strange = next((rest for rest in range(1, prime) if not powers >> rest & 1), 0)  # 0 is never a power
        step = (strange - infected) * pow(others, -1, prime) % prime
        assert code_of(infected + step * others) != "key-roca"
