"""RSA keys from primes that a test knows, so that two of them can share one; elliptic keys that are quickly made."""

from __future__ import annotations

import functools
import hashlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_EXPONENT: Final = 65537
# How far behind the number that SHAKE-256 gives the next prime stands; OpenSSL (`openssl prime`) agrees.
_OFFSETS: Final = (56, 568, 546, 264, 1270, 1022, 196, 740)


def prime(number: int) -> int:
    """A prime of 1024 bits, one of eight; with the two highest bits, so that the product of two has 2048."""
    octets = hashlib.shake_256(b"prime %d" % number).digest(128)
    return (int.from_bytes(octets, "big") | 3 << 1022 | 1) + _OFFSETS[number]


def modulus(first: int, second: int) -> bytes:
    """The product of two of the primes: 256 octets."""
    return (prime(first) * prime(second)).to_bytes(256, "big")


@functools.cache
def rsa_key(first: int, second: int, *, exponent: int = _EXPONENT) -> rsa.RSAPrivateKey:
    """The RSA-2048 key of these two primes."""
    p, q = prime(first), prime(second)
    d = rsa.rsa_recover_private_exponent(exponent, p, q)
    return rsa.RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa.rsa_crt_dmp1(d, p),
        dmq1=rsa.rsa_crt_dmq1(d, q),
        iqmp=rsa.rsa_crt_iqmp(p, q),
        public_numbers=rsa.RSAPublicNumbers(n=p * q, e=exponent),
    ).private_key()


@functools.cache
def elliptic_key(number: int) -> ec.EllipticCurvePrivateKey:
    """A P-256 key."""
    return ec.derive_private_key(int.from_bytes(hashlib.sha256(b"key %d" % number).digest(), "big"), ec.SECP256R1())


def public_octets(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """DER SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def certification_request(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """DER of a PKCS#10 request that says nothing but this key."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)
