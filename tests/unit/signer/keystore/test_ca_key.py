"""Kinds of CA key: what they are called, and which of them no CA may have."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.support import badkeys
from tests.support.authorities import rsa_key

from cassiopeia.core.algorithms import algorithms_for
from cassiopeia.errors import OperatorError
from cassiopeia.signer.keystore.ca_key import (
    CA_KEY_ALGORITHMS,
    ca_key_algorithm,
    check_ca_key,
    encrypt_ca_key,
    make_ca_key,
)

SLOW = "RSA-4096"


@pytest.mark.parametrize("algorithm", [each for each in CA_KEY_ALGORITHMS if each != SLOW])
def test_a_key_is_made_of_every_kind_and_may_be_a_cas(algorithm: str) -> None:
    public_key = make_ca_key(algorithm).public_key()

    assert ca_key_algorithm(public_key) == algorithm
    check_ca_key(public_key)
    assert algorithms_for(public_key)


def test_a_key_is_locked_with_a_passphrase_that_may_be_wiped() -> None:
    key = make_ca_key("P-521")

    encrypted = encrypt_ca_key(key, bytearray(b"correct horse"))

    assert b"ENCRYPTED PRIVATE KEY" in encrypted
    assert load_pem_private_key(encrypted, b"correct horse").public_key() == key.public_key()


def test_a_passphrase_that_no_key_can_be_locked_with_is_said() -> None:
    key = make_ca_key("P-256")
    assert encrypt_ca_key(key, bytearray(1023 * b"a"))
    with pytest.raises(OperatorError, match="passphrase of 1024 octets: take one with 1023 at the most"):
        encrypt_ca_key(key, bytearray(1024 * b"a"))


@pytest.mark.parametrize(
    ("public_key", "name"),
    [
        (rsa.RSAPublicNumbers(65537, (1 << 1023) + 1).public_key(), "RSA-1024"),
        (ec.generate_private_key(ec.SECP256K1()).public_key(), "secp256k1"),
        (dsa.generate_private_key(2048).public_key(), "DSAPublicKey"),
    ],
    ids=["rsa-1024", "secp256k1", "dsa"],
)
def test_a_key_of_another_kind_is_no_cas(public_key: PublicKeyTypes, name: str) -> None:
    with pytest.raises(OperatorError, match=f"this is a key {name}, and a CA has one of RSA-2048, RSA-3072, "):
        check_ca_key(public_key)


@pytest.mark.parametrize(
    ("public_key", "reason"),
    [
        (rsa.RSAPublicNumbers(3, rsa_key().public_key().public_numbers().n).public_key(), "public exponent"),
        (badkeys.sample("rsa-roca.key"), "ROCA"),
        (badkeys.sample("rsa-fermat-pkcs8.key"), "close together"),
        (ec.derive_private_key(5, ec.SECP256R1()).public_key(), "anybody"),
    ],
    ids=["small-exponent", "roca", "close-primes", "small"],
)
def test_a_key_that_anybody_can_find_is_no_cas(public_key: PublicKeyTypes, reason: str) -> None:
    with pytest.raises(OperatorError, match=rf"this key must not be a CA's: .*{reason}"):
        check_ca_key(public_key)


def test_an_ordinary_key_is_taken() -> None:
    check_ca_key(rsa_key().public_key())
