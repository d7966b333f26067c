"""Shared factors, against the naive way: the gcd of every pair."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.arithmetics import ARITHMETICS

from cassiopeia.core import shared_factors
from cassiopeia.core.shared_factors import SeenModuli

# Small primes, so that pairs often share one; and long ones beside them.
PRIMES = [3, 5, 7, 11, 13, 17, 19, 23, 251, 257, 65537, (1 << 61) - 1, (1 << 89) - 1, (1 << 127) - 1, (1 << 521) - 1]
MODULI = st.lists(st.sampled_from(PRIMES), min_size=1, max_size=4).map(
    lambda factors: math.prod(factors).to_bytes((math.prod(factors).bit_length() + 7) // 8, "big")
)
BATCHES = st.lists(st.tuples(st.booleans(), st.lists(MODULI, max_size=6)), max_size=6)


def share(first: bytes, second: bytes) -> bool:
    return math.gcd(int.from_bytes(first, "big"), int.from_bytes(second, "big")) != 1


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@given(batches=BATCHES, product_octets=st.sampled_from([1, 8, 64, 1 << 18]))
def test_every_pair_is_found_and_no_other(
    arithmetic: Any, batches: list[tuple[bool, list[bytes]]], product_octets: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_factors, "_PRODUCT_OCTETS", product_octets)
        seen = SeenModuli(arithmetic())
        known: list[bytes] = []
        compared: set[frozenset[bytes]] = set()
        for is_remembered, moduli in batches:
            new = [each for each in dict.fromkeys(moduli) if each not in known]
            if is_remembered:
                seen.remember(moduli)
                known += new
                continue
            for each in new:
                compared |= {frozenset({each, other}) for other in known if share(each, other)}
                known.append(each)
            expected = [{other for other in known if frozenset({each, other}) in compared} for each in moduli]
            assert [set(others) for others in seen.examine(moduli)] == expected
        assert len(seen) == len(known)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@given(
    numbers=st.lists(st.integers(min_value=1, max_value=1 << 3000), max_size=5),
    modulus=st.integers(min_value=0, max_value=1 << 900).map(lambda number: 2 * number + 1),
)
def test_a_reduced_product_has_in_common_what_the_product_has(
    arithmetic: Any, numbers: list[int], modulus: int
) -> None:
    made = arithmetic()
    rest = made.reduce([made.number(each) for each in numbers], made.number(modulus))
    common = math.gcd(math.prod(numbers), modulus)
    for factor in (common, modulus // common):
        if factor > 1:
            assert made.common([rest], made.number(factor)) == math.gcd(common, factor)
