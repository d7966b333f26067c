"""A sub-CA's key that is born in the signer: made here, and what leaves is a request for its certificate (RFC 2986).

The ceremony certifies it (`ceremony extend --csr`), and the bundle brings the certificate back; the key waits in
`keys/` beside signer.toml until then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cassiopeia import files
from cassiopeia.config import SignerConfig
from cassiopeia.core.authority import parse_authority_name
from cassiopeia.errors import OperatorError
from cassiopeia.signer.installing import own_passphrase
from cassiopeia.signer.keystore.ca_key import encrypt_ca_key, make_ca_key

KEYS: Final = "keys"


def make_request(config: SignerConfig, name: str, *, key_algorithm: str) -> tuple[Path, bytes]:
    """Make the key of a new sub-CA; return where it lies, and the request for its certificate (PEM).

    Raises OperatorError, also when there is a key of this name: none is ever overwritten.
    """
    parse_authority_name(name)
    passphrase = own_passphrase(config)
    directory = config.source.parent / KEYS
    path = directory / f"{name}.key"
    key = make_ca_key(key_algorithm)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    # A strong hash for RSA and EC; the other keys bring theirs.
    algorithm = hashes.SHA384() if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) else None
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, algorithm)
    try:
        if not directory.exists():
            files.make_directory(directory)
        with files.new_file(path) as stream:
            stream.write(encrypt_ca_key(key, passphrase))
    except OSError as error:
        raise OperatorError(f"{directory}: cannot keep the key here: {error.strerror}") from error
    return path, request.public_bytes(Encoding.PEM)
