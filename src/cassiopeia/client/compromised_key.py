"""Proving that a certificate's key is compromised, by whoever holds it: `core.compromise` from files.

The private key is read, signs one statement and is forgotten: it is neither stored nor sent. What travels is the
signature, and it is checked here before anybody else sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from cassiopeia.core import algorithms
from cassiopeia.core.compromise import CompromiseClaim, check_compromise, compromise_statement
from cassiopeia.errors import OperatorError, Refused
from cassiopeia.secret_source import wipe

_SERIAL_OCTETS = 16
_LONGEST_PROOF = 8192
_CURVE_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


def make_proof(path: Path, der: bytes, ask: Callable[[], bytearray]) -> bytes:
    """Sign with the private key in this file (PEM) that the certificate's key is compromised.

    `ask` gives the passphrase of an encrypted key, which is wiped after use. Raises OperatorError, also when it is
    another certificate's key.
    """
    certificate = x509.load_der_x509_certificate(der)
    key = _load_key(path, ask)
    if key.public_key() != certificate.public_key():
        raise OperatorError(
            f"{path}: this is not the key of the certificate {certificate.serial_number:x}: name the key that it was "
            "made for, or another certificate"
        )
    proof = _sign(key, compromise_statement(certificate.serial_number, certificate.tbs_certificate_bytes))
    return _checked(certificate, proof, path)


def read_proof(path: Path, der: bytes) -> bytes:
    """Read a signature that was made elsewhere; raises OperatorError unless it proves what it should."""
    try:
        with path.open("rb") as file:
            proof = file.read(_LONGEST_PROOF)
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the proof: {error.strerror}") from error
    return _checked(x509.load_der_x509_certificate(der), proof, path)


def _load_key(path: Path, ask: Callable[[], bytearray]) -> PrivateKeyTypes:
    try:
        octets = path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the key: {error.strerror}") from error
    try:
        return load_pem_private_key(octets, None)
    except TypeError:
        pass  # it is encrypted
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OperatorError(f"{path}: this is no private key in PEM that can be read: {error}") from error
    passphrase = ask()
    try:
        return load_pem_private_key(octets, passphrase)  # type: ignore[arg-type] # it takes any buffer, without a copy
    except (ValueError, UnsupportedAlgorithm) as error:
        raise OperatorError(f"{path}: wrong passphrase, or the key is damaged") from error
    finally:
        wipe(passphrase)


def _sign(key: PrivateKeyTypes, statement: bytes) -> bytes:
    match key:
        case rsa.RSAPrivateKey():
            return key.sign(statement, padding.PKCS1v15(), hashes.SHA256())
        case ec.EllipticCurvePrivateKey():
            (algorithm,) = algorithms.algorithms_for(key.public_key())
            return key.sign(statement, ec.ECDSA(_CURVE_HASHES[algorithm.hash_name]))
        case (
            ed25519.Ed25519PrivateKey()
            | ed448.Ed448PrivateKey()
            | mldsa.MLDSA44PrivateKey()
            | mldsa.MLDSA65PrivateKey()
            | mldsa.MLDSA87PrivateKey()
        ):
            return key.sign(statement)
        case _:
            raise OperatorError("keys of this kind sign nothing: block the key by an order, `cassiopeia order make`")


def _checked(certificate: x509.Certificate, proof: bytes, path: Path) -> bytes:
    # The original's serial numbers have 21 octets, and its signer takes no proofs.
    octets = max(_SERIAL_OCTETS, (certificate.serial_number.bit_length() + 7) // 8)
    claim = CompromiseClaim(
        serial_number=certificate.serial_number.to_bytes(octets, "big"),
        tbs_certificate=certificate.tbs_certificate_bytes,
        proof=proof,
    )
    try:
        check_compromise(claim)
    except Refused as refusal:
        raise OperatorError(f"{path}: {refusal.message}") from refusal
    return proof
