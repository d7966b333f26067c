"""Which keys are the same one, and what is no key at all."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.authorities import approve, server_request
from tests.support.known_keys import certification_request, elliptic_key, modulus, public_octets, rsa_key
from tests.support.signer import meaningless_tbs

from cassiopeia.core import der
from cassiopeia.core.certificate import assemble_tbs
from cassiopeia.core.key_identity import KeyIdentity, identify_certified_key, identify_key
from cassiopeia.errors import PeerError

RSA, EC = public_octets(rsa_key(0, 1)), public_octets(elliptic_key(1))
_RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")


def test_an_rsa_key_is_its_modulus() -> None:
    expected = KeyIdentity(digest=hashlib.sha256(modulus(0, 1)).digest(), modulus=modulus(0, 1))
    assert identify_key(RSA) == identify_key(public_octets(rsa_key(0, 1, exponent=65539))) == expected
    assert identify_key(public_octets(rsa_key(0, 2))) != expected


@pytest.mark.parametrize(
    "key",
    [
        EC,
        ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        mldsa.MLDSA44PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["P-256", "Ed25519", "ML-DSA-44"],
)
def test_any_other_key_is_its_octets(key: bytes) -> None:
    assert identify_key(key) == KeyIdentity(digest=hashlib.sha256(key).digest())


@pytest.mark.parametrize("key", [rsa_key(0, 1), elliptic_key(1)])
def test_a_certificate_is_for_the_key_of_its_request(key: object) -> None:
    approved = approve(server_request(key_proof=certification_request(key)))  # type: ignore[arg-type] # either
    assert identify_certified_key(assemble_tbs(approved)) == identify_key(public_octets(key))  # type: ignore[arg-type]


def rsa_like(*numbers: bytes) -> bytes:
    bits = der.encode(der.BIT_STRING, b"\0", der.encode(der.SEQUENCE, *numbers))
    return der.encode(der.SEQUENCE, _RSA_ALGORITHM, bits)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x30\0",
        RSA[:-1],
        RSA + b"\0",
        der.encode(der.SEQUENCE, der.encode(der.BIT_STRING, b"\0"), der.encode(der.SEQUENCE)),
        der.encode(der.SEQUENCE, _RSA_ALGORITHM, der.encode(der.BIT_STRING, b"")),
        rsa_like(b"\2\1\5"),
        rsa_like(b"\2\1\5", b"\2\1\3", b"\2\1\1"),
        rsa_like(b"\4\1\5", b"\2\1\3"),
    ],
)
def test_what_is_no_key_is_refused(octets: bytes) -> None:
    with pytest.raises(PeerError):
        identify_key(octets)
    with pytest.raises(PeerError):
        identify_certified_key(meaningless_tbs(1, public_key=octets or b"\0"))


def test_what_is_too_short_for_a_certificate_is_refused() -> None:
    with pytest.raises(PeerError, match="this is not a TBSCertificate"):
        identify_certified_key(der.encode(der.SEQUENCE, *[b"\5\0"] * 6))
