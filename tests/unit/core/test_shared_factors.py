"""Keys with a prime in common: before, in the same batch, across products, and what is no other key."""

from __future__ import annotations

import math
from itertools import pairwise
from math import gcd
from typing import Any

import pytest
from tests.support.arithmetics import ARITHMETICS
from tests.support.known_keys import modulus, prime

from cassiopeia.core import shared_factors
from cassiopeia.core.shared_factors import SeenModuli

A, B, C, D = modulus(0, 1), modulus(2, 3), modulus(4, 5), modulus(6, 7)


def number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


@pytest.fixture(params=ARITHMETICS)
def seen(request: pytest.FixtureRequest) -> SeenModuli[Any]:
    return SeenModuli(request.param())


def test_keys_without_a_common_prime_pass(seen: SeenModuli[Any]) -> None:
    seen.remember([A])
    assert seen.examine([B, C]) == [(), ()]
    assert seen.examine([D]) == [()]
    assert len(seen) == 4
    assert seen.examine([]) == []


def test_a_prime_of_a_key_that_was_remembered_is_found(seen: SeenModuli[Any]) -> None:
    seen.remember([A, B])
    assert seen.examine([C, modulus(1, 6)]) == [(), (A,)]


def test_a_prime_of_a_key_that_was_examined_before_is_found(seen: SeenModuli[Any]) -> None:
    assert seen.examine([A]) == [()]
    other = modulus(0, 2)
    assert seen.examine([other]) == [(A,)]
    # The first one is no better: whoever asks for it again is told so.
    assert seen.examine([A]) == [(other,)]


def test_two_of_one_batch_find_each_other(seen: SeenModuli[Any]) -> None:
    seen.remember([D])
    assert seen.examine([A, B, modulus(1, 4)]) == [(modulus(1, 4),), (), (A,)]


def test_both_primes_may_be_those_of_others(seen: SeenModuli[Any]) -> None:
    """The gcd is the whole key then, and still no key is taken for itself."""
    seen.remember([A, B])
    assert seen.examine([modulus(1, 2)]) == [(A, B)]


def test_each_of_many_primes_finds_its_keys(seen: SeenModuli[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """However the shared part is put together, and in whatever part others have it, all are named in their order."""
    several = number(prime(1) * prime(3) * prime(5))
    everything = number(prime(0) * prime(1) * prime(2) * prime(3) * prime(4) * prime(5))
    for at_once in (1, 2, 64):
        monkeypatch.setattr(shared_factors, "_COMPARED_AT_ONCE", at_once)
        fresh = SeenModuli(seen._arithmetic)
        fresh.remember([A, B, modulus(0, 6), several, C, D])
        assert fresh.examine([everything]) == [(A, B, modulus(0, 6), several, C)]


def test_what_only_looks_like_a_prime_hides_nobody(seen: SeenModuli[Any]) -> None:
    # 341 = 11 * 31 passes Fermat's test for the base 2 (Sarrus, 1819).
    moduli = [number(factor * prime(place)) for place, factor in enumerate((11, 31, 341))]
    seen.remember(moduli)
    assert seen.examine([number(341 * prime(3))]) == [tuple(moduli)]


def test_no_gcd_is_computed_with_each_key_for_a_prime_alone(
    seen: SeenModuli[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []

    def counted(first: int, second: int) -> int:
        computed.append(second)
        return gcd(first, second)

    seen.remember(number(prime(0) * factor) for factor in range(3, 103, 2))
    seen.remember(number(prime(1) * factor) for factor in range(3, 103, 2))
    monkeypatch.setattr(math, "gcd", counted)
    (others,) = seen.examine([modulus(0, 7)])
    assert len(others) == 50
    assert len(computed) <= 3


def test_the_same_key_again_is_no_other(seen: SeenModuli[Any]) -> None:
    seen.remember([A, A])
    assert (len(seen), seen.examine([A, B, B])) == (1, [(), (), ()])
    assert (len(seen), seen.examine([B])) == (2, [()])


def test_keys_of_other_lengths_are_compared_too(seen: SeenModuli[Any]) -> None:
    short = (prime(0) * 1000003).to_bytes(131, "big").lstrip(b"\0")
    long = (prime(0) * prime(1) * prime(2)).to_bytes(384, "big")
    assert seen.examine([short]) == [()]
    assert seen.examine([long]) == [(short,)]


def test_many_products_are_looked_through(seen: SeenModuli[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_factors, "_PRODUCT_OCTETS", 3 * 256)
    places = [pair for pair in pairwise(range(8)) if pair != (6, 7)]
    seen.remember(modulus(*pair) for pair in places)
    for first, second in places:
        fresh = SeenModuli(seen._arithmetic)
        fresh.remember(seen._others)
        assert len(fresh._products) > 1
        (others,) = fresh.examine([modulus(first, 7)])
        assert modulus(first, second) in others
    # However they come, there are only a few short products: each is less than half as long as the one before it.
    single = SeenModuli(seen._arithmetic)
    monkeypatch.setattr(shared_factors, "_PRODUCT_OCTETS", 1 << 20)
    for number in range(100):
        single.examine([(2 * number + 3).to_bytes(2, "big")])
    assert all(shorter * 2 <= longer for (longer, _), (shorter, _) in pairwise(single._products))


def test_no_more_than_a_hundred_are_named(seen: SeenModuli[Any]) -> None:
    moduli = [(prime(0) * number).to_bytes(132, "big").lstrip(b"\0") for number in range(3, 221, 2)]
    seen.remember(moduli)
    (others,) = seen.examine([modulus(0, 1)])
    assert others == tuple(moduli[:100])
    for number in range(221, 441, 2):
        seen.examine([(prime(0) * number).to_bytes(132, "big").lstrip(b"\0")])
    assert len(seen.examine([moduli[0]])[0]) == 100


def test_what_is_no_modulus_shares_nothing(seen: SeenModuli[Any]) -> None:
    nonsense = [b"", b"\1", b"\2", b"\x10"]
    assert seen.examine(nonsense) == [(), (), (), ()]
    assert seen.examine([A, b"\4"]) == [(), ()]
