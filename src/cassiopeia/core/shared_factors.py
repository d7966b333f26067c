"""RSA moduli that share a prime factor: whoever sees two of them computes both private keys with one gcd.

Owns the arithmetic that compares each new modulus with every one seen before, and with those that come together with
it. Heninger et al., "Mining Your Ps and Qs" (USENIX Security 2012), found 0.5 % of the TLS servers of the Internet that
way; badly seeded random number generators cause it. Knows nothing of certificates, accounts or where moduli come from.

The moduli seen are kept as products of some hundreds of them. A batch of new ones is multiplied together too, the
products are reduced by that, and only what is left is reduced by each new modulus: the long numbers are walked through
once for a batch, not once for a key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

# Long enough that little is done for each product, short enough that Python multiplies it in some milliseconds.
_PRODUCT_OCTETS: Final = 128 * 1024
_MAXIMUM_OTHERS: Final = 100
_WORD_BITS: Final = 64


class SeenModuli:
    """Every modulus seen so far, in memory: twice its octets and about 150 more for each.

    Moduli are unsigned, big-endian, without leading zeros. A power of two that two of them share is not looked at: keys
    with even moduli are none.
    """

    def __init__(self) -> None:
        self._others: dict[bytes, tuple[bytes, ...]] = {}
        self._products: list[bytes] = []
        self._newest = 1

    def __len__(self) -> int:
        return len(self._others)

    def remember(self, moduli: Iterable[bytes]) -> None:
        """Take these as seen; they are not compared with each other, nor with those before."""
        new = [each for each in dict.fromkeys(moduli) if each not in self._others]
        self._others.update(dict.fromkeys(new, ()))
        for group in _groups(new):
            self._add(_product([_odd(each) for each in group]))

    def examine(self, moduli: Sequence[bytes]) -> list[tuple[bytes, ...]]:
        """With which others each of these shares a factor, up to a hundred; from now on these are seen as well.

        The same modulus again is no other. What was examined before gets what is known of it now.
        """
        new = [each for each in dict.fromkeys(moduli) if each not in self._others]
        numbers = [_odd(each) for each in new]
        batch = _product(numbers)
        rest = self._reduce_all(batch)
        before = 1
        for modulus, number in zip(new, numbers, strict=True):
            self._others[modulus] = ()
            # 1. Everything seen before, and all of this batch that stands before this one, modulo this one.
            left = rest % number * (before % number)
            before *= number
            # 2. Hardly ever: which ones it was.
            if math.gcd(left, number) != 1:
                self._find_others(modulus, number)
        self._add(batch)
        return [self._others[each] for each in moduli]

    def _find_others(self, modulus: bytes, number: int) -> None:
        found = [each for each in self._others if each != modulus and math.gcd(_odd(each), number) != 1]
        self._others[modulus] = tuple(found[:_MAXIMUM_OTHERS])
        for each in found:
            self._others[each] = (*self._others[each], modulus)[:_MAXIMUM_OTHERS]

    def _add(self, product: int) -> None:
        self._newest *= product
        octets = _octets(self._newest)
        if octets >= _PRODUCT_OCTETS:
            self._products.append(self._newest.to_bytes(octets, "little"))
            self._newest = 1

    def _reduce_all(self, modulus: int) -> int:
        """A number that has in common with this odd one what the product of all moduli has in common with it."""
        if modulus == 1:
            return 0
        reduction = _Reduction(modulus)
        rest = reduction.reduce(self._newest)
        for product in self._products:
            rest = reduction.reduce(rest * reduction.reduce_octets(product))
        return rest


class _Reduction:
    """Reduction modulo one odd number without division: Montgomery's, with words as long as the modulus itself.

    Each step divides by a power of two. That has no factor in common with an odd number, so what numbers have in common
    with the modulus stays, and nothing else of them matters here.
    """

    def __init__(self, modulus: int) -> None:
        self._modulus = modulus
        self._octets = _octets(modulus)
        self._bits = 8 * self._octets
        self._mask = (1 << self._bits) - 1
        self._inverse = -_inverse(modulus, self._bits) & self._mask

    def reduce(self, number: int) -> int:
        return self.reduce_octets(number.to_bytes(_octets(number), "little"))

    def reduce_octets(self, octets: bytes) -> int:
        """Of a number in little-endian order; what comes is at most a little longer than the modulus."""
        carried = 0
        for start in range(0, len(octets), self._octets):
            carried += int.from_bytes(octets[start : start + self._octets], "little")
            factor = carried * self._inverse & self._mask
            carried = (carried + factor * self._modulus) >> self._bits
        return carried


def _inverse(odd: int, bits: int) -> int:
    """Inverse modulo 2**bits; each step doubles the bits that are right (Hensel)."""
    known = _WORD_BITS
    inverse = pow(odd & ((1 << known) - 1), -1, 1 << known)
    while known < bits:
        known = min(2 * known, bits)
        mask = (1 << known) - 1
        inverse = inverse * (2 - (odd & mask) * inverse) & mask
    return inverse


def _product(numbers: Sequence[int]) -> int:
    """Of factors of about equal length: that is where Python multiplies quickest."""
    if len(numbers) <= 1:
        return math.prod(numbers)
    half = len(numbers) // 2
    return _product(numbers[:half]) * _product(numbers[half:])


def _groups(moduli: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    """Of as many as make one product."""
    start = octets = 0
    for place, each in enumerate(moduli):
        octets += len(each)
        if octets >= _PRODUCT_OCTETS:
            yield moduli[start : place + 1]
            start, octets = place + 1, 0
    yield moduli[start:]


def _odd(modulus: bytes) -> int:
    """The modulus without its factors of two; 1 for 0."""
    number = int.from_bytes(modulus, "big")
    return number // (number & -number) if number else 1


def _octets(number: int) -> int:
    return max(1, (number.bit_length() + 7) // 8)
