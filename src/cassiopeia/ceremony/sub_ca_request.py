"""Requests for sub-CAs whose keys were born elsewhere: in a signer, or its token (RFC 2986).

Owns reading them. The name, the dates and everything else of the certificate are the ceremony's: a request brings a
key, and proves that somebody holds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPublicKeyTypes

from cassiopeia.ceremony.hierarchy import KeyAlgorithm
from cassiopeia.errors import OperatorError
from cassiopeia.signer.keystore.ca_key import ca_key_algorithm, check_ca_key


@dataclass(frozen=True, kw_only=True, slots=True)
class SubCaRequest:
    """A request that its own key has signed; `source` is the file."""

    source: str
    public_key: CertificateIssuerPublicKeyTypes = field(repr=False)

    def check_algorithm(self, wanted: KeyAlgorithm) -> None:
        """Raise OperatorError for a key of another kind than the hierarchy wants."""
        found = ca_key_algorithm(self.public_key)
        if found != wanted:
            raise OperatorError(
                f"{self.source}: asks for a sub-CA with a key {found}, and the hierarchy wants {wanted} there; make "
                f"another request with --key-algorithm {wanted}"
            )


def read_request(path: Path) -> SubCaRequest:
    """A certification request (PEM or DER), its signature verified; raises OperatorError."""
    try:
        octets = path.read_bytes()
        is_pem = octets.lstrip().startswith(b"-----BEGIN")
        request = x509.load_pem_x509_csr(octets) if is_pem else x509.load_der_x509_csr(octets)
        public_key = request.public_key()
        is_signed = request.is_signature_valid
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the request: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature, x509.InvalidVersion) as error:
        raise OperatorError(f"{path}: is no certification request, as `cassiopeia signer csr` writes it") from error
    if not is_signed:
        raise OperatorError(f"{path}: was changed after it was signed, or its key is not the one that signed it")
    if not isinstance(
        public_key,
        rsa.RSAPublicKey
        | ec.EllipticCurvePublicKey
        | ed25519.Ed25519PublicKey
        | ed448.Ed448PublicKey
        | mldsa.MLDSA44PublicKey
        | mldsa.MLDSA65PublicKey
        | mldsa.MLDSA87PublicKey,
    ):
        raise OperatorError(f"{path}: is for a key that signs no certificates")
    try:
        check_ca_key(public_key)
    except OperatorError as error:
        raise OperatorError(f"{path}: {error}") from error
    return SubCaRequest(source=str(path), public_key=public_key)
