"""Keys of every kind that is certified, and what they sign when they are compromised."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.authorities import PrivateKey, rsa_key, sign
from tests.support.signer import Front, meaningless_tbs, record_issued

from cassiopeia.core import algorithms
from cassiopeia.core.compromise import compromise_statement
from cassiopeia.core.request import Revocation

_MAKE: Final[dict[str, Callable[[], PrivateKey]]] = {
    "RSA": rsa_key,
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey.generate,
}
KINDS: Final = tuple(_MAKE)


@functools.cache
def key_of(kind: str, number: int = 0) -> PrivateKey:
    """A key of this kind, the same for each number."""
    return rsa.generate_private_key(65537, 2048) if kind == "RSA" and number else _MAKE[kind]()


def key_info(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def tbs_of(key: PrivateKey, serial_number: int) -> bytes:
    """What has the shape of a TBSCertificate for this key."""
    return meaningless_tbs(serial_number % (1 << 120), public_key=key_info(key))


def prove(key: PrivateKey, serial_number: int, tbs_certificate: bytes) -> bytes:
    algorithm = algorithms.algorithms_for(key.public_key())[0]
    return sign(key, algorithm, compromise_statement(serial_number, tbs_certificate))


def certify(front: Front, serial_number: int, key: PrivateKey) -> None:
    """Let the signer have issued a certificate for this key."""
    octets = serial_number.to_bytes(16, "big")
    record_issued(
        front.journal,
        1,
        serial_number=octets,
        request_id=octets * 2,
        signing_ca=front.authority.name,
        tbs_certificate=tbs_of(key, serial_number),
        now=front.now,
    )


def proved(serial_number: int, key: PrivateKey) -> Revocation:
    """The revocation of what `certify` made, with its proof."""
    proof = prove(key, serial_number, tbs_of(key, serial_number))
    return Revocation(serial_number=serial_number, reason=1, proof=proof)
