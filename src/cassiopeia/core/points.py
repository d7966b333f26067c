"""Points of elliptic curves as public keys: those that give their private key away, and those that are none.

Owns two checks. A small multiple of the generator is found for every multiplier up to 2^20 and its negative, by baby
steps and giant steps, for the curves of NIST (SP 800-186) and for Ed25519. Of an Ed25519 key, which the library takes
in as 32 octets and no more, also the encoding is judged (RFC 8032 5.1.3), and that the point is on the curve and not of
small order; of the other curves the library does that when it loads a key.

All curves are computed with in the one form `y² = x³ + a2 x² + a4 x + b`, Ed25519 as its Montgomery twin (RFC 7748
4.1). Nothing here is secret, so nothing has to take constant time.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cassiopeia.errors import Refused

# Every multiplier up to here is found, up to the sign. The table costs 0.05 ms for each curve and 1,000 points, the
# search 2 µs for each giant step on P-256.
HIGHEST_MULTIPLIER: Final = 1 << 20
_BABY_STEPS: Final = 1 << 14
_GIANT_STEPS: Final = 1 << 5

Point = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """`y² = x³ + a2 x² + a4 x + b` modulo an odd prime; b is not needed to add points that are known to be on it."""

    prime: int
    a2: int
    a4: int
    generator: Point


CURVES: Final[Mapping[str, Curve]] = {
    "P-256": Curve(
        prime=2**256 - 2**224 + 2**192 + 2**96 - 1,
        a2=0,
        a4=-3,
        generator=(
            0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
            0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
        ),
    ),
    "P-384": Curve(
        prime=2**384 - 2**128 - 2**96 + 2**32 - 1,
        a2=0,
        a4=-3,
        generator=(
            int(
                "AA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7",
                16,
            ),
            int(
                "3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F",
                16,
            ),
        ),
    ),
    "P-521": Curve(
        prime=2**521 - 1,
        a2=0,
        a4=-3,
        generator=(
            int(
                "C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3DBAA14B5E77EFE75928FE1DC127A2FFA8"
                "DE3348B3C1856A429BF97E7E31C2E5BD66",
                16,
            ),
            int(
                "11839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E662C97EE72995EF42640C550B9013FAD0"
                "761353C7086A272C24088BE94769FD16650",
                16,
            ),
        ),
    ),
    "Ed25519": Curve(
        prime=2**255 - 19,
        a2=486_662,
        a4=1,
        generator=(9, 14781619447589544791020593568409986887264606134616475288964881837755586237401),
    ),
}

_ED25519_PRIME: Final = CURVES["Ed25519"].prime
_ROOT_OF_MINUS_ONE: Final = pow(2, (_ED25519_PRIME - 1) // 4, _ED25519_PRIME)
# The y of the points whose order divides 8 (table 5 of Chalkias, Garillot, Nikolaenko: Taming the many EdDSAs, 2020).
_Y_OF_ORDER_8: Final = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_Y_OF_SMALL_ORDER: Final = frozenset({0, 1, _ED25519_PRIME - 1, _Y_OF_ORDER_8, _ED25519_PRIME - _Y_OF_ORDER_8})


def check_not_small_multiple(name: str, x: int, y: int) -> None:
    """Raise Refused if this point of the curve `name` is a small multiple of its generator, or the negative of one."""
    curve, steps = CURVES[name], _steps(name)
    if x in steps.baby or _reaches(curve, steps, x, y):
        raise Refused(
            f"The key's private half is a number near zero, so anybody can find it ({name}); make a new key with"
            " another program.",
            code="key-guessable",
            field="key",
        )


def check_ed25519(octets: bytes) -> None:
    """Raise Refused unless these 32 octets are the one encoding of a point that can be somebody's public key."""
    y = int.from_bytes(octets, "little") & ((1 << 255) - 1)
    if y >= _ED25519_PRIME:
        raise Refused(
            "The Ed25519 key writes its point in a way that RFC 8032 forbids; make a new key with another program.",
            code="key-encoding",
            field="key",
        )
    if y in _Y_OF_SMALL_ORDER:
        raise Refused(
            "The Ed25519 key is a point of small order, under which anybody can sign; make a new key with another"
            " program.",
            code="key-point",
            field="key",
        )
    u, v = _montgomery_twin(y)
    check_not_small_multiple("Ed25519", u, v)


def _montgomery_twin(y: int) -> Point:
    """The point (u, v) that belongs to the y of an Edwards point; v up to its sign, so that the key's does not matter.

    There is such a v exactly if there is an x: they differ by a factor that has a square root.
    """
    prime = _ED25519_PRIME
    u = (1 + y) * pow(1 - y, -1, prime) % prime
    square = (u * u + CURVES["Ed25519"].a2 * u + 1) * u % prime
    v = pow(square, (prime + 3) // 8, prime)  # RFC 8032 5.1.3: a root of it, or of its negative
    if (v * v - square) % prime:
        v = v * _ROOT_OF_MINUS_ONE % prime
    if (v * v - square) % prime:
        raise Refused(
            "The Ed25519 key is no point of its curve; make a new key with another program.",
            code="key-point",
            field="key",
        )
    return u, v


@dataclass(frozen=True, kw_only=True, slots=True)
class _Steps:
    """Baby steps: the x of G, 2G .. mG. Giant steps: the points s, 2s .. for s = (2m + 1)G."""

    baby: frozenset[int]
    giant: tuple[Point, ...]


def _reaches(curve: Curve, steps: _Steps, x: int, y: int) -> bool:
    """Whether the point, plus or minus a giant step, is a baby step up to its sign; then it is a small multiple.

    One division serves all steps (Montgomery's trick), and each difference serves the step and its negative.
    """
    prime, baby = curve.prime, steps.baby
    product, before, differences = 1, [], []
    for giant_x, _ in steps.giant:
        difference = giant_x - x
        before.append(product)
        differences.append(difference)
        product = product * difference % prime
    if not product:
        return True  # the point is a giant step itself
    inverse_of_all = pow(product, -1, prime)
    for (giant_x, giant_y), difference, product_before in zip(
        reversed(steps.giant), reversed(differences), reversed(before), strict=True
    ):
        inverse = inverse_of_all * product_before % prime
        inverse_of_all = inverse_of_all * difference % prime
        rest = curve.a2 + x + giant_x
        if (((giant_y - y) * inverse % prime) ** 2 - rest) % prime in baby:
            return True
        if (((giant_y + y) * inverse % prime) ** 2 - rest) % prime in baby:
            return True
    return False


@functools.cache
def _steps(name: str) -> _Steps:
    """Made when the first key of this curve comes: 0.04 to 0.1 s, then 1.5 to 2 MB in each worker."""
    curve = CURVES[name]
    baby = _multiples(curve, curve.generator, _BABY_STEPS)
    twice = _add(curve, baby[-1], baby[-1])
    giant = _multiples(curve, _add(curve, twice, curve.generator), _GIANT_STEPS)
    return _Steps(baby=frozenset(x for x, _ in baby), giant=tuple(giant))


def _multiples(curve: Curve, point: Point, count: int) -> list[Point]:
    """The point times 1, 2 .. `count`, a power of two: each round adds the last one to all, with one division."""
    points = [point]
    while len(points) < count:
        last = points[-1]
        points += [*_add_to_all(curve, last, points[:-1]), _add(curve, last, last)]
    return points


def _add_to_all(curve: Curve, point: Point, others: Sequence[Point]) -> list[Point]:
    """Sums with each of the others, none of which has the same x."""
    prime = curve.prime
    x, y = point
    inverses = _inverses([other_x - x for other_x, _ in others], prime)
    sums = []
    for (other_x, other_y), inverse in zip(others, inverses, strict=True):
        slope = (other_y - y) * inverse % prime
        sum_x = (slope * slope - curve.a2 - x - other_x) % prime
        sums.append((sum_x, (slope * (x - sum_x) - y) % prime))
    return sums


def _add(curve: Curve, first: Point, second: Point) -> Point:
    if first != second:
        return _add_to_all(curve, first, [second])[0]
    x, y = first
    slope = (3 * x * x + 2 * curve.a2 * x + curve.a4) * pow(2 * y, -1, curve.prime) % curve.prime
    sum_x = (slope * slope - curve.a2 - 2 * x) % curve.prime
    return sum_x, (slope * (x - sum_x) - y) % curve.prime


def _inverses(numbers: Sequence[int], prime: int) -> list[int]:
    """The inverses modulo a prime of numbers that have one, for one division and three products each."""
    product, before = 1, []
    for number in numbers:
        before.append(product)
        product = product * number % prime
    inverse_of_all = pow(product, -1, prime)
    inverses = []
    for number, product_before in zip(reversed(numbers), reversed(before), strict=True):
        inverses.append(inverse_of_all * product_before % prime)
        inverse_of_all = inverse_of_all * number % prime
    return inverses[::-1]
