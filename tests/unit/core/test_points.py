"""Points as public keys: small multiples of the generators, and what is no point at all."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.core import points
from cassiopeia.core.points import CURVES, HIGHEST_MULTIPLIER, check_ed25519, check_not_small_multiple
from cassiopeia.errors import Refused

CURVE_OF: dict[str, ec.EllipticCurve] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
REACH = (2 * points._BABY_STEPS + 1) * points._GIANT_STEPS + points._BABY_STEPS
PRIME = 2**255 - 19


def multiple(name: str, multiplier: int) -> tuple[int, int]:
    """By OpenSSL, which computes with none of our code."""
    numbers = ec.derive_private_key(multiplier, CURVE_OF[name]).public_key().public_numbers()
    return numbers.x, numbers.y


def code_of(name: str, point: tuple[int, int]) -> str:
    try:
        check_not_small_multiple(name, *point)
    except Refused as refusal:
        return refusal.code
    return ""


def code_of_ed25519(octets: bytes) -> str:
    try:
        check_ed25519(octets)
    except Refused as refusal:
        return refusal.code
    return ""


@pytest.mark.parametrize("name", CURVE_OF)
def test_the_generators_are_those_of_the_library(name: str) -> None:
    assert CURVES[name].generator == multiple(name, 1)


@pytest.mark.parametrize(
    "multiplier",
    [
        *(1, 2, 3, 1000, 65537),
        *(points._BABY_STEPS - 1, points._BABY_STEPS, points._BABY_STEPS + 1),
        *(2 * points._BABY_STEPS, 2 * points._BABY_STEPS + 1, 2 * points._BABY_STEPS + 2),
        *(HIGHEST_MULTIPLIER - 1, HIGHEST_MULTIPLIER, REACH),
    ],
)
@pytest.mark.parametrize("name", CURVE_OF)
def test_a_small_multiple_and_its_negative_are_found(name: str, multiplier: int) -> None:
    x, y = multiple(name, multiplier)
    assert code_of(name, (x, y)) == "key-guessable"
    assert code_of(name, (x, CURVES[name].prime - y)) == "key-guessable"


@given(st.integers(min_value=1, max_value=HIGHEST_MULTIPLIER))
def test_every_multiplier_up_to_the_highest_is_found(multiplier: int) -> None:
    assert code_of("P-256", multiple("P-256", multiplier)) == "key-guessable"


def test_that_is_what_the_documents_promise() -> None:
    assert HIGHEST_MULTIPLIER == 2**20 <= REACH


@pytest.mark.parametrize("name", CURVE_OF)
def test_the_first_multiplier_that_is_not_found(name: str) -> None:
    assert code_of(name, multiple(name, REACH + 1)) == ""


@pytest.mark.parametrize("name", CURVE_OF)
def test_other_keys_are_no_small_multiples(name: str) -> None:
    numbers = ec.generate_private_key(CURVE_OF[name]).public_key().public_numbers()
    assert code_of(name, (numbers.x, numbers.y)) == ""


def test_ed25519_keys_are_sound() -> None:
    for _ in range(20):
        assert code_of_ed25519(ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()) == ""


# The base point (RFC 8032 5.1) and its multiples, as edwards25519 computes them by the addition law of its own form.
@pytest.mark.parametrize("multiplier", [1, 2, 3, 8, 12345, HIGHEST_MULTIPLIER])
@pytest.mark.parametrize("sign", [0, 1])
def test_a_small_multiple_of_the_ed25519_base_point(multiplier: int, sign: int) -> None:
    y = edwards_multiple(multiplier)
    assert code_of_ed25519((y | sign << 255).to_bytes(32, "little")) == "key-guessable"


@pytest.mark.parametrize("multiplier", [REACH + 1, 2**64 + 1])
def test_greater_multiples_of_the_ed25519_base_point(multiplier: int) -> None:
    assert code_of_ed25519(edwards_multiple(multiplier).to_bytes(32, "little")) == ""


def edwards_multiple(multiplier: int) -> int:
    """The y of this multiple of the base point, doubling and adding as RFC 8032 5.1.4 does, in affine coordinates."""
    d = -121665 * pow(121666, -1, PRIME) % PRIME
    base_y = 4 * pow(5, -1, PRIME) % PRIME
    base_x = 15112221349535400772501151409588531511454012693041857206046113283949847762202

    def add(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = first, second
        product = d * x1 * x2 * y1 * y2
        return (
            (x1 * y2 + x2 * y1) * pow(1 + product, -1, PRIME) % PRIME,
            (y1 * y2 + x1 * x2) * pow(1 - product, -1, PRIME) % PRIME,
        )

    result, power = (0, 1), (base_x, base_y)
    for bit in reversed(f"{multiplier:b}"):
        if bit == "1":
            result = add(result, power)
        power = add(power, power)
    return result[1]


@pytest.mark.parametrize("excess", range(19))
@pytest.mark.parametrize("sign", [0, 1])
def test_a_y_beyond_the_prime_is_no_encoding(excess: int, sign: int) -> None:
    assert code_of_ed25519((PRIME + excess | sign << 255).to_bytes(32, "little")) == "key-encoding"


@pytest.mark.parametrize("y", [2, 7, 8])
def test_a_y_that_no_point_has(y: int) -> None:
    assert code_of_ed25519(y.to_bytes(32, "little")) == "key-point"
