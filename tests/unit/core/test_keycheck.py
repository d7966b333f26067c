"""Which public keys are certified, and what the refusals say. The hostile encodings are in `test_csr`."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from tests.support import hostile_requests as made

from cassiopeia.core.keycheck import check_public_key, check_strength
from cassiopeia.errors import Refused

MODULUS = made.rsa_key().public_key().public_numbers().n


@pytest.mark.parametrize(
    ("public_key", "description"),
    [
        (ec.generate_private_key(ec.SECP256R1()).public_key(), "P-256"),
        (ec.generate_private_key(ec.SECP384R1()).public_key(), "P-384"),
        (ec.generate_private_key(ec.SECP521R1()).public_key(), "P-521"),
        (ed25519.Ed25519PrivateKey.generate().public_key(), "Ed25519"),
        (mldsa.MLDSA44PrivateKey.generate().public_key(), "ML-DSA-44"),
        (mldsa.MLDSA65PrivateKey.generate().public_key(), "ML-DSA-65"),
        (mldsa.MLDSA87PrivateKey.generate().public_key(), "ML-DSA-87"),
        (made.rsa_key().public_key(), "RSA-2048"),
    ],
)
def test_a_key_that_may_be_certified_is_described(public_key: PublicKeyTypes, description: str) -> None:
    assert check_public_key(public_key) == description
    check_strength(public_key)


@pytest.mark.parametrize(
    ("public_key", "says"),
    [
        (x25519.X25519PrivateKey.generate().public_key(), "Keys of this kind are not certified; use RSA"),
        (ed448.Ed448PrivateKey.generate().public_key(), "Keys of this kind are not certified; use RSA"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "on the curve secp256k1 are not certified; use RSA"),
    ],
)
def test_other_kinds_of_keys_are_refused(public_key: PublicKeyTypes, says: str) -> None:
    with pytest.raises(Refused, match=says) as refusal:
        check_public_key(public_key)
    assert (refusal.value.code, refusal.value.field) == ("key-unsupported", "key")


@pytest.mark.parametrize("exponent", [65537, 65539, 2**256 - 1])
def test_rsa_exponents_at_the_edges_of_what_is_allowed(exponent: int) -> None:
    assert check_public_key(_rsa(MODULUS, exponent)) == "RSA-2048"


@pytest.mark.parametrize("exponent", [3, 17, 65535, 2**256 + 1])
def test_rsa_exponents_beyond_the_edges(exponent: int) -> None:
    with pytest.raises(Refused, match="65537") as refusal:
        check_public_key(_rsa(MODULUS, exponent))
    assert refusal.value.code == "key-weak"


@pytest.mark.parametrize(
    ("bits", "code"),
    [(1024, "key-weak"), (2040, "key-weak"), (2052, "key-weak"), (8200, "key-unsupported"), (16384, "key-unsupported")],
)
def test_rsa_sizes_beyond_the_edges(bits: int, code: str) -> None:
    with pytest.raises(Refused, match=f"{bits} bits") as refusal:
        check_public_key(_rsa((1 << bits) - 1, 65537))
    assert refusal.value.code == code


@pytest.mark.parametrize("bits", [2048, 2056, 3072, 4096, 8192])
def test_rsa_sizes_within_the_edges(bits: int) -> None:
    assert check_public_key(_rsa((1 << bits) - 1, 65537)) == f"RSA-{bits}"


def test_an_even_modulus() -> None:
    with pytest.raises(Refused, match="even") as refusal:
        check_public_key(_rsa(MODULUS + 1, 65537))
    assert refusal.value.code == "key-weak"


@pytest.mark.parametrize(
    ("public_key", "code"),
    [
        (rsa.RSAPublicNumbers(65537, MODULUS - MODULUS % 9).public_key(), "key-small-factor"),
        (ec.derive_private_key(5, ec.SECP256R1()).public_key(), "key-guessable"),
        (ec.derive_private_key(6, ec.SECP384R1()).public_key(), "key-guessable"),
        (ec.derive_private_key(7, ec.SECP521R1()).public_key(), "key-guessable"),
        (ed25519.Ed25519PublicKey.from_public_bytes(bytes(32)), "key-point"),
    ],
)
def test_each_kind_of_key_gets_the_checks_of_its_kind(public_key: PublicKeyTypes, code: str) -> None:
    """How far each check goes is shown where it is: `test_moduli`, `test_points`."""
    with pytest.raises(Refused, match="; make a new key") as refusal:
        check_strength(public_key)
    assert (refusal.value.code, refusal.value.field) == (code, "key")


def _rsa(modulus: int, exponent: int) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()
