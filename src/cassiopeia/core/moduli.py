"""RSA moduli that anybody can factor: what ROCA left behind, primes close together, small factors.

Owns the checks that look into one modulus alone; sizes and exponents are judged before, in `keycheck`, and factors that
two keys have in common are none of its business. Each check costs well under 0.1 ms for a sound key of 2048 bits
(docs/key-checks.md says how far each goes and what it costs), and raises Refused with a code of its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Final

from cassiopeia.errors import Refused

# Baseline Requirements 6.1.6 ask for 752. To divide by all primes up to here costs 0.05 ms; twice as far costs twice as
# much, and finds one damaged modulus more in a hundred.
SMALL_FACTOR_BOUND: Final = 10_000
# Baseline Requirements 6.1.1.3: "at least 100 rounds".
FERMAT_ROUNDS: Final = 100

_ROCA_GENERATOR: Final = 65537
_ROCA_HIGHEST_PRIME: Final = 167

# Of the numbers that Fermat's method tries, these leave one in five thousand: what is no square modulo all of them is
# no square. Pairwise coprime, each small enough for a table.
_FERMAT_SIEVE: Final = (64, 63, 65, 11, 17, 19, 23, 29)

_ANEW: Final = "make a new key with another program"


def check_modulus(modulus: int) -> None:
    """Raise Refused for an odd modulus that can be factored; the cheap checks come first."""
    _check_roca(modulus)
    _check_close_primes(modulus)
    _check_small_factors(modulus)


def primes(first: int, last: int) -> list[int]:
    """All primes from `first` to `last`, by the sieve of Eratosthenes."""
    candidates = bytearray(b"\x01") * (last + 1)
    candidates[:2] = b"\x00\x00"
    for factor in range(2, math.isqrt(last) + 1):
        if candidates[factor]:
            candidates[factor * factor :: factor] = bytes(len(range(factor * factor, last + 1, factor)))
    return [number for number in range(first, last + 1) if candidates[number]]


def _check_roca(modulus: int) -> None:
    """Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's Attack (CCS 2017), 3.3.

    The primes of these chips are `k * M + 65537 ** a % M`, where M is a product of small primes, so that modulo each of
    them the modulus is a power of 65537, too. Of sound moduli one in 2^27.8 has that property for all 38 by chance.
    """
    residue = modulus % _ROCA_PRODUCT
    for prime, powers in _ROCA_POWERS:
        if not powers >> (residue % prime) & 1:
            return
    raise Refused(
        "The RSA key was made by a chip with the fault ROCA (CVE-2017-15361), so its private key can be computed; make"
        " a new key with a program, or on a device whose maker has mended that.",
        code="key-roca",
        field="key",
    )


def _powers(prime: int) -> int:
    """A bit for each remainder that is a power of 65537 modulo this prime."""
    bits, power = 0, 1
    while not bits >> power & 1:
        bits |= 1 << power
        power = power * _ROCA_GENERATOR % prime
    return bits


def _strictest_first(powers: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(powers, key=lambda each: each[1].bit_count() / each[0]))


_ROCA_PRIMES: Final = primes(3, _ROCA_HIGHEST_PRIME)
_ROCA_PRODUCT: Final = math.prod(_ROCA_PRIMES)
_ROCA_POWERS: Final = _strictest_first((prime, _powers(prime)) for prime in _ROCA_PRIMES)


def _check_close_primes(modulus: int) -> None:
    """Fermat: an odd `p * q` is `a² - b²` with `a` the mean of both; primes close together make `a` near the root.

    Tried are the first 100 numbers from the root upwards. Nearly all are ruled out together, by what squares leave
    modulo a few small numbers, so that the root is all that a sound modulus costs.
    """
    root = math.isqrt(modulus)
    first = root if root * root == modulus else root + 1
    candidates = (1 << FERMAT_ROUNDS) - 1
    for divisor, possible in _fermat_tables():
        candidates &= possible[modulus % divisor] >> (first % divisor)
    while candidates:
        lowest = candidates & -candidates
        mean = first + lowest.bit_length() - 1
        square = mean * mean - modulus
        if math.isqrt(square) ** 2 == square:
            raise Refused(
                f"The RSA key's two primes are so close together that anybody can compute the private key; {_ANEW}.",
                code="key-close-primes",
                field="key",
            )
        candidates ^= lowest


@functools.cache
def _fermat_tables() -> tuple[tuple[int, tuple[int, ...]], ...]:
    """For each divisor and each remainder of the modulus: a bit for each `a` for which `a² - modulus` may be a square.

    The bits go on beyond the divisor, so that shifting them to the first candidate leaves enough of them.
    """
    tables = []
    for divisor in _FERMAT_SIEVE:
        squares = {number * number % divisor for number in range(divisor)}
        numbers = [number * number % divisor for number in range(divisor)] * (2 + FERMAT_ROUNDS // divisor)
        tables.append(
            (
                divisor,
                tuple(
                    sum(1 << at for at, square in enumerate(numbers) if (square - remainder) % divisor in squares)
                    for remainder in range(divisor)
                ),
            )
        )
    return tuple(tables)


def _check_small_factors(modulus: int) -> None:
    if math.gcd(modulus, _small_primes_product()) != 1:
        raise Refused(
            f"The RSA key's modulus has a small factor, so anybody can compute the private key; {_ANEW}.",
            code="key-small-factor",
            field="key",
        )


@functools.cache
def _small_primes_product() -> int:
    return math.prod(primes(3, SMALL_FACTOR_BOUND))
