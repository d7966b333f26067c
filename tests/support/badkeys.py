"""The sample keys of badkeys (tests/vectors/badkeys/ORIGIN.md)."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

SAMPLES = Path(__file__).parents[1] / "vectors" / "badkeys"


def sample(name: str) -> PublicKeyTypes:
    octets = (SAMPLES / name).read_bytes()
    match Path(name).suffix:
        case ".csr":
            return x509.load_pem_x509_csr(octets).public_key()
        case ".txt":
            return rsa.RSAPublicNumbers(65537, int(octets, 16)).public_key()
        case _:
            return load_pem_public_key(octets)


def modulus(name: str) -> int:
    key = sample(name)
    assert isinstance(key, rsa.RSAPublicKey)
    return key.public_numbers().n
