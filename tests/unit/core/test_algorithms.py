"""Which algorithm a CA key signs with, how it is written, and that verification lets nothing through."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, rsa, x25519
from tests.support.authorities import PrivateKey, p256_key, rsa_key, sign

from cassiopeia.core.algorithms import (
    ALGORITHMS,
    SignatureAlgorithm,
    algorithm_from_der,
    algorithms_for,
    check_signature_hash,
    choose_algorithm,
    verify,
)
from cassiopeia.errors import PeerError, Refused, SignatureInvalid

KEYS: dict[str, PrivateKey] = {
    "P-256": p256_key(),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "P-521": ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "Ed448": ed448.Ed448PrivateKey.generate(),
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate(),
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate(),
    "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate(),
}
OWN_ALGORITHM = {
    "P-256": "ecdsa-with-SHA256",
    "P-384": "ecdsa-with-SHA384",
    "P-521": "ecdsa-with-SHA512",
} | {name: name for name in ("Ed25519", "Ed448", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87")}


def key_of(kind: str) -> PrivateKey:
    return rsa_key() if kind == "RSA" else KEYS[kind]


@pytest.mark.parametrize(
    ("wish", "pss", "name"),
    [
        ("", False, "sha256WithRSAEncryption"),
        ("sha256", False, "sha256WithRSAEncryption"),
        ("sha384", False, "sha384WithRSAEncryption"),
        ("sha512", False, "sha512WithRSAEncryption"),
        ("", True, "rsassaPss-sha256"),
        ("sha384", True, "rsassaPss-sha384"),
        ("sha512", True, "rsassaPss-sha512"),
    ],
)
def test_an_rsa_key_takes_the_hash_that_is_wished(wish: str, pss: bool, name: str) -> None:  # noqa: FBT001 - a column
    assert choose_algorithm(rsa_key().public_key(), wish, pss=pss).name == name


@pytest.mark.parametrize("wish", ["", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("kind", KEYS)
def test_every_other_key_demands_its_own_and_a_wish_is_ignored(kind: str, wish: str) -> None:
    public_key = KEYS[kind].public_key()
    assert choose_algorithm(public_key, wish, pss=True).name == OWN_ALGORITHM[kind]
    assert [each.name for each in algorithms_for(public_key)] == [OWN_ALGORITHM[kind]]


@pytest.mark.parametrize("wish", ["sha1", "SHA1", "SHA-1", "md5", "MD5", "sha224"])
@pytest.mark.parametrize("kind", ["RSA", "P-256", "Ed25519"])
def test_weak_hashes_are_refused_whatever_the_key(kind: str, wish: str) -> None:
    with pytest.raises(Refused) as refusal:
        choose_algorithm(key_of(kind).public_key(), wish)
    assert (refusal.value.code, refusal.value.field) == ("signature-hash-weak", "signature_hash")


@pytest.mark.parametrize("wish", ["SHA256", "sha3-256", "\x00", "x" * 10_000])
def test_unknown_hashes_are_refused(wish: str) -> None:
    with pytest.raises(Refused) as refusal:
        check_signature_hash(wish)
    assert refusal.value.code == "signature-hash-unknown"
    assert len(refusal.value.message) < 150


@pytest.mark.parametrize(
    "public_key",
    [
        pytest.param(ec.generate_private_key(ec.SECP256K1()).public_key(), id="secp256k1"),
        pytest.param(x25519.X25519PrivateKey.generate().public_key(), id="X25519"),
        pytest.param(dsa.DSAParameterNumbers(p=23, q=11, g=4), id="no-key-at-all"),
    ],
)
def test_other_keys_are_refused(public_key: object) -> None:
    with pytest.raises(Refused) as refusal:
        algorithms_for(public_key)  # type: ignore[arg-type] # the fault
    assert refusal.value.code == "ca-key-unsupported"


# The octets as the Baseline Requirements 7.1.3.2.1 (RSA) and 7.1.3.2.2 (ECDSA) print them, RFC 8410 3 and RFC 9881 2.
@pytest.mark.parametrize(
    ("name", "octets"),
    [
        ("sha256WithRSAEncryption", "300d06092a864886f70d01010b0500"),
        ("sha384WithRSAEncryption", "300d06092a864886f70d01010c0500"),
        ("sha512WithRSAEncryption", "300d06092a864886f70d01010d0500"),
        (
            "rsassaPss-sha256",
            (
                "304106092a864886f70d01010a3034a00f300d0609608648016503040201"
                "0500a11c301a06092a864886f70d010108300d0609608648016503040201"
                "0500a203020120"
            ),
        ),
        (
            "rsassaPss-sha384",
            (
                "304106092a864886f70d01010a3034a00f300d0609608648016503040202"
                "0500a11c301a06092a864886f70d010108300d0609608648016503040202"
                "0500a203020130"
            ),
        ),
        (
            "rsassaPss-sha512",
            (
                "304106092a864886f70d01010a3034a00f300d0609608648016503040203"
                "0500a11c301a06092a864886f70d010108300d0609608648016503040203"
                "0500a203020140"
            ),
        ),
        ("ecdsa-with-SHA256", "300a06082a8648ce3d040302"),
        ("ecdsa-with-SHA384", "300a06082a8648ce3d040303"),
        ("ecdsa-with-SHA512", "300a06082a8648ce3d040304"),
        ("Ed25519", "300506032b6570"),
        ("Ed448", "300506032b6571"),
        ("ML-DSA-44", "300b0609608648016503040311"),
        ("ML-DSA-65", "300b0609608648016503040312"),
        ("ML-DSA-87", "300b0609608648016503040313"),
    ],
)
def test_algorithm_identifiers(name: str, octets: str) -> None:
    algorithm = algorithm_from_der(bytes.fromhex(octets))
    assert algorithm.name == name
    assert algorithm.der.hex() == octets


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param("300d06092a864886f70d0101050500", id="sha1WithRSAEncryption"),
        pytest.param("300d06092a864886f70d0101040500", id="md5WithRSAEncryption"),
        pytest.param("300b06092a864886f70d01010b", id="sha256WithRSAEncryption-without-parameters"),
        pytest.param("300d06092a864886f70d01010a3000", id="pss-with-default-parameters-which-are-sha1"),
        pytest.param("", id="empty"),
    ],
)
def test_no_other_algorithm_is_accepted(octets: str) -> None:
    with pytest.raises(PeerError):
        algorithm_from_der(bytes.fromhex(octets))


def pairs() -> list[tuple[str, SignatureAlgorithm]]:
    return [(kind, each) for kind in ("RSA", *KEYS) for each in algorithms_for(key_of(kind).public_key())]


@pytest.mark.parametrize(("kind", "algorithm"), pairs(), ids=lambda value: getattr(value, "name", value))
def test_verifies_what_the_library_signed_and_nothing_else(kind: str, algorithm: SignatureAlgorithm) -> None:
    key = key_of(kind)
    public_key = key.public_key()
    signature = sign(key, algorithm, b"octets")
    verify(public_key, algorithm, signature, b"octets")
    with pytest.raises(SignatureInvalid):
        verify(public_key, algorithm, signature, b"other octets")
    with pytest.raises(SignatureInvalid):
        verify(public_key, algorithm, b"", b"octets")
    for other in ALGORITHMS:
        if other != algorithm:
            with pytest.raises(SignatureInvalid):
                verify(public_key, other, signature, b"octets")


def test_an_rsa_key_too_short_for_pss_verifies_nothing() -> None:
    """RFC 8017 9.1.1: hash and salt need more octets than this key has."""
    short = rsa.RSAPublicNumbers(65537, (1 << 511) + 1).public_key()
    for algorithm in (each for each in ALGORITHMS if each.key_kind == "RSA"):
        with pytest.raises(SignatureInvalid, match="does not verify"):
            verify(short, algorithm, b"\1" * 64, b"octets")


def test_a_key_that_signs_nothing_verifies_nothing() -> None:
    with pytest.raises(SignatureInvalid, match="does not sign with"):
        verify(x25519.X25519PrivateKey.generate().public_key(), ALGORITHMS[0], b"", b"")
