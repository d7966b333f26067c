"""A CA key of every algorithm, made once, and the largest CRL that it could sign."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from tests.support.authorities import PrivateKey, p256_key, rsa_key

from cassiopeia.core import algorithms, crl, der

CaKey = Literal[
    "RSA-2048", "RSA-3072", "RSA-4096", "RSA-PSS", "P-256", "P-384", "P-521", "Ed25519", "Ed448",
    "ML-DSA-44", "ML-DSA-65", "ML-DSA-87",
]  # fmt: skip
ALGORITHMS: tuple[CaKey, ...] = get_args(CaKey)

# FIPS 204, RFC 8032, and r and s of ECDSA with their longest DER.
_SIGNATURES: dict[CaKey, int] = {
    "RSA-2048": 256, "RSA-3072": 384, "RSA-4096": 512, "RSA-PSS": 256, "P-256": 72, "P-384": 104, "P-521": 139,
    "Ed25519": 64, "Ed448": 114, "ML-DSA-44": 2420, "ML-DSA-65": 3309, "ML-DSA-87": 4627,
}  # fmt: skip


@functools.cache
def ca_key(name: CaKey) -> tuple[PrivateKey, bool]:
    """The key, and whether it signs with RSASSA-PSS."""
    keys: dict[CaKey, Callable[[], PrivateKey]] = {
        "RSA-2048": rsa_key,
        "RSA-3072": lambda: rsa.generate_private_key(65537, 3072),
        "RSA-4096": lambda: rsa.generate_private_key(65537, 4096),
        "RSA-PSS": rsa_key,
        "P-256": p256_key,
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "Ed448": ed448.Ed448PrivateKey.generate,
        "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
        "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
        "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
    }
    return keys[name](), name == "RSA-PSS"


def largest_crl(name: CaKey, *, octets: int, signature: bytes | None = None) -> bytes:
    """The CRL of a CA called like the algorithm, whose entries take so many octets: everything else at its longest."""
    key, pss = ca_key(name)
    algorithm = algorithms.choose_algorithm(key.public_key(), "", pss=pss)
    identifier = der.encode(der.SEQUENCE, der.encode(0x80, bytes(20)))
    extensions = [
        der.encode(der.SEQUENCE, bytes.fromhex(oid), der.encode(der.OCTET_STRING, value))
        for oid, value in (("0603551d23", identifier), ("0603551d14", der.encode(der.INTEGER, b"\x7f" * 20)))
    ]
    time = b"\x18\x0f20500101000000Z"
    tbs = der.encode(
        der.SEQUENCE,
        b"\x02\x01\x01",
        algorithm.der,
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]).public_bytes(),
        time + time,
        der.encode(der.SEQUENCE, bytes(octets)),
        der.encode(0xA0, der.encode(der.SEQUENCE, *extensions)),
    )
    return crl.compose_crl(tbs, bytes(_SIGNATURES[name]) if signature is None else signature)
