"""Ed25519 (RFC 8032) as this software's signed statements use it: public keys as DER, signatures that raise.

Owns nothing of what is signed. Every statement begins with a tag of its own kind, so that no signature over one can be
shown as a signature over another.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from cassiopeia.errors import PeerError, SignatureInvalid


def verify(public_key: bytes, signature: bytes, octets: bytes) -> None:
    """Raise SignatureInvalid unless the Ed25519 key (DER SubjectPublicKeyInfo) has signed these octets."""
    try:
        load_public_key(public_key).verify(signature, octets)
    except InvalidSignature:
        raise SignatureInvalid("a signature does not verify with its Ed25519 key") from None


def load_public_key(octets: bytes) -> Ed25519PublicKey:
    """Read a DER SubjectPublicKeyInfo; raises PeerError unless it is an Ed25519 key."""
    try:
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PeerError("an Ed25519 key cannot be read") from error
    if not isinstance(key, Ed25519PublicKey):
        raise PeerError("this key is not an Ed25519 key")
    return key


def public_octets(key: Ed25519PrivateKey | Ed25519PublicKey) -> bytes:
    """DER SubjectPublicKeyInfo of a key or its public half."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
