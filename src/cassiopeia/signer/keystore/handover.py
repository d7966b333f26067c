"""Key files that change hands: a bundle's key, unlocked with the bundle's passphrase, is locked with this signer's.

OpenSSL does that, whichever library signs with the key afterwards. The key is validated here, once: the key stores skip
that at each start. Nothing refers to it when a call has ended; what is left in memory is the library's matter.
"""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cassiopeia.errors import OperatorError
from cassiopeia.signer.keystore.ca_key import encrypt_ca_key


class WrongKey(OperatorError):
    """It was unlocked, and is another key than the one that was expected."""


def relock(
    octets: bytes, passphrase: bytes | bytearray, own_passphrase: bytes | bytearray, *, public_key_info: bytes
) -> bytes:
    """The same key (encrypted PKCS#8, PEM) with another passphrase.

    Raises `OperatorError` when it cannot be unlocked, and `WrongKey` when its public half is not `public_key_info`.
    """
    key = _unlock(octets, passphrase, was_validated=False)
    _check(key, public_key_info)
    return encrypt_ca_key(key, own_passphrase)  # type: ignore[arg-type] # its public half is that of a CA


def check_key_file(octets: bytes, passphrase: bytes | bytearray, *, public_key_info: bytes) -> None:
    """Raise as `relock` does, for a key file that stays as it is."""
    _check(_unlock(octets, passphrase, was_validated=True), public_key_info)


def _unlock(octets: bytes, passphrase: bytes | bytearray, *, was_validated: bool) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(
            octets,
            passphrase,  # type: ignore[arg-type] # it takes any buffer, and so there is no copy to be wiped
            unsafe_skip_rsa_key_validation=was_validated,
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OperatorError("wrong passphrase, or not an encrypted PKCS#8 PEM file") from error


def _check(key: PrivateKeyTypes, public_key_info: bytes) -> None:
    if key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != public_key_info:
        raise WrongKey("it is another key")
