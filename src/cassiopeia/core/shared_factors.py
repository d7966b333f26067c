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
from typing import Final, Generic, Protocol, TypeVar

# Long enough that little is done for each product, short enough that two are multiplied in some milliseconds.
_PRODUCT_OCTETS: Final = 256 * 1024
_MAXIMUM_OTHERS: Final = 100
_COMPARED_AT_ONCE: Final = 64
# Two are enough for a key that has both its primes in common with others.
_MAXIMUM_PARTS: Final = 3
_WORD_BITS: Final = 64

Number = TypeVar("Number")


class Arithmetic(Protocol[Number]):
    """Positive numbers, as some library keeps them: one comes with Python, another may be quicker."""

    def number(self, value: int) -> Number: ...

    def multiply(self, first: Number, second: Number) -> Number: ...

    def reduce(self, numbers: Sequence[Number], modulus: Number) -> Number:
        """What has in common with this odd modulus whatever the product of the numbers has in common with it."""
        ...

    def common(self, numbers: Sequence[Number], modulus: Number) -> int:
        """What the product of the numbers and the modulus, which is much shorter, have in common; 1 if nothing."""
        ...


class SeenModuli(Generic[Number]):
    """Every modulus seen so far, in memory: twice its octets and some 250 more for each.

    Moduli are unsigned, big-endian, without leading zeros. A power of two that two of them share is not looked at: keys
    with even moduli are none.
    """

    def __init__(self, arithmetic: Arithmetic[Number]) -> None:
        self._arithmetic = arithmetic
        self._others: dict[bytes, tuple[bytes, ...]] = {}
        # Each with its length in octets, which at least halves from one to the next, but for those that are full.
        self._products: list[tuple[int, Number]] = []

    def __len__(self) -> int:
        return len(self._others)

    def remember(self, moduli: Iterable[bytes]) -> None:
        """Take these as seen; they are not compared with each other, nor with those before."""
        new = [each for each in dict.fromkeys(moduli) if each not in self._others]
        self._others.update(dict.fromkeys(new, ()))
        for group in _groups(new):
            self._add(group, self._product([self._number(each) for each in group]))

    def examine(self, moduli: Sequence[bytes]) -> list[tuple[bytes, ...]]:
        """With which others each of these shares a factor, up to a hundred; from now on these are seen as well.

        The same modulus again is no other. What was examined before gets what is known of it now.
        """
        new = [each for each in dict.fromkeys(moduli) if each not in self._others]
        numbers = [self._number(each) for each in new]
        if new:
            batch = self._product(numbers)
            rest = self._arithmetic.reduce([product for _, product in self._products], batch)
            before = self._arithmetic.number(1)
            for modulus, number in zip(new, numbers, strict=True):
                self._others[modulus] = ()
                # 1. Everything seen before, and all of this batch that stands before this one.
                common = self._arithmetic.common([rest, before], number)
                if common != 1:
                    # 2. Hardly ever: which ones it was.
                    self._find_others(modulus, common)
                before = self._arithmetic.multiply(before, number)
            self._add(new, batch)
        return [self._others[each] for each in moduli]

    def _find_others(self, modulus: bytes, common: int) -> None:
        others = [each for each in self._others if each != modulus]
        found = [others[place] for place in sorted(_sharing([_odd(each) for each in others], common))]
        self._others[modulus] = tuple(found[:_MAXIMUM_OTHERS])
        for each in found:
            self._others[each] = (*self._others[each], modulus)[:_MAXIMUM_OTHERS]

    def _add(self, moduli: Sequence[bytes], product: Number) -> None:
        octets = sum(map(len, moduli))
        while self._products:
            before, earlier = self._products[-1]
            if before >= 2 * octets or before + octets > _PRODUCT_OCTETS:
                break
            self._products.pop()
            octets, product = before + octets, self._arithmetic.multiply(earlier, product)
        self._products.append((octets, product))

    def _product(self, numbers: Sequence[Number]) -> Number:
        """Of factors of about equal length: that is the quickest way."""
        if len(numbers) == 1:
            return numbers[0]
        half = len(numbers) // 2
        return self._arithmetic.multiply(self._product(numbers[:half]), self._product(numbers[half:]))

    def _number(self, modulus: bytes) -> Number:
        return self._arithmetic.number(_odd(modulus))


class PythonArithmetic:
    """Python's own integers; division is Montgomery's, with words as long as the modulus itself.

    Each of its steps divides by a power of two. That has no factor in common with an odd number, so what numbers have
    in common with the modulus stays, and nothing else of them matters here.
    """

    def number(self, value: int) -> int:
        return value

    def multiply(self, first: int, second: int) -> int:
        return first * second

    def reduce(self, numbers: Sequence[int], modulus: int) -> int:
        octets = (modulus.bit_length() + 7) // 8
        mask = (1 << 8 * octets) - 1
        inverse = -_inverse(modulus, 8 * octets) & mask
        rest = 1
        for number in numbers:
            rest = _reduce(rest * _reduce(number, modulus, inverse, octets), modulus, inverse, octets)
        return rest

    def common(self, numbers: Sequence[int], modulus: int) -> int:
        return math.gcd(math.prod(number % modulus for number in numbers), modulus)


def _sharing(numbers: Sequence[int], common: int) -> set[int]:
    """At which places the numbers are that have a factor in common with this one, which is more than 1.

    Mostly it is one prime: a division of each number tells, and a gcd of some dozens at a time that no part is left.
    """
    found: set[int] = set()
    parts = [common]
    for start in range(0, len(numbers), _COMPARED_AT_ONCE):
        group = dict(enumerate(numbers[start : start + _COMPARED_AT_ONCE], start))
        waiting = list(parts)
        while waiting:
            part = waiting.pop()
            rests = {place: number % part for place, number in group.items()}
            found |= {place for place, rest in rests.items() if not rest}
            left = {place: rest for place, rest in rests.items() if rest}
            product = 1
            for rest in left.values():
                product = product * rest % part
            if math.gcd(product, part) == 1:
                continue
            partly = {place: math.gcd(rest, part) for place, rest in left.items()}
            found |= {place for place, divisor in partly.items() if divisor != 1}
            # From here on each part is looked for alone; keys that were made up of many primes get no more of that.
            if len(parts) < _MAXIMUM_PARTS:
                divisor = next(divisor for divisor in partly.values() if divisor != 1)
                parts.remove(part)
                parts += [divisor, part // divisor]
    return found


def _reduce(number: int, modulus: int, inverse: int, octets: int) -> int:
    """What comes is at most a little longer than the modulus."""
    bits, mask = 8 * octets, (1 << 8 * octets) - 1
    source = number.to_bytes((number.bit_length() + 7) // 8, "little")
    carried = 0
    for start in range(0, len(source), octets):
        carried += int.from_bytes(source[start : start + octets], "little")
        factor = carried * inverse & mask
        carried = (carried + factor * modulus) >> bits
    return carried


def _inverse(odd: int, bits: int) -> int:
    """Inverse modulo 2**bits; each step doubles the bits that are right (Hensel)."""
    known = _WORD_BITS
    inverse = pow(odd & ((1 << known) - 1), -1, 1 << known)
    while known < bits:
        known = min(2 * known, bits)
        mask = (1 << known) - 1
        inverse = inverse * (2 - (odd & mask) * inverse) & mask
    return inverse & ((1 << bits) - 1)


def _groups(moduli: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
    """Of as many as make one product."""
    start = octets = 0
    for place, each in enumerate(moduli):
        octets += len(each)
        if octets >= _PRODUCT_OCTETS or place + 1 == len(moduli):
            yield moduli[start : place + 1]
            start, octets = place + 1, 0


def _odd(modulus: bytes) -> int:
    """The modulus without its factors of two; 1 for 0."""
    number = int.from_bytes(modulus, "big")
    if number & 1:
        return number
    return number // (number & -number) if number else 1
