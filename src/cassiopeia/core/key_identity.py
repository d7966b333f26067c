"""Which key is which: what two requests must have in common to be requests for the same public key.

Owns the way from a SubjectPublicKeyInfo (RFC 5280 4.1.2.7) that was accepted before to a short name for its key; it
judges nothing, and loads no key into a crypto library. Ownership and shared factors are asked by that name.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Final

from cassiopeia.core import der
from cassiopeia.errors import PeerError

_KEY_PLACE: Final = 6  # RFC 5280 4.1: behind version, serial, algorithm, issuer, validity and subject
_MAXIMUM_TBS_PARTS: Final = 10
# rsaEncryption with NULL parameters (RFC 3279 2.3.1): the only way in which an RSA key is accepted.
_RSA: Final = bytes.fromhex("300d06092a864886f70d0101010500")


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyIdentity:
    """`digest` is SHA-256 of what makes the key this one: of an RSA key its modulus, else its SubjectPublicKeyInfo.

    With another exponent an RSA key is as broken as its modulus, and whoever has one private key has the other.
    `modulus` is unsigned, big-endian, without leading zeros, and empty for other keys.
    """

    digest: bytes
    modulus: bytes = b""


def identify_key(subject_public_key_info: bytes) -> KeyIdentity:
    """Name the key; raises PeerError for octets that are no SubjectPublicKeyInfo."""
    parts = der.elements(der.content(subject_public_key_info, der.SEQUENCE), at_most=2)
    if [tag for tag, _ in parts] != [der.SEQUENCE, der.BIT_STRING]:
        raise PeerError("this is not a SubjectPublicKeyInfo")
    (_, algorithm), (_, bits) = parts
    if algorithm != _RSA:
        return KeyIdentity(digest=hashlib.sha256(subject_public_key_info).digest())
    # RFC 8017 A.1.1, in whole octets.
    numbers = der.elements(der.content(der.content(bits, der.BIT_STRING)[1:], der.SEQUENCE), at_most=2)
    if [tag for tag, _ in numbers] != [der.INTEGER, der.INTEGER]:
        raise PeerError("this is not an RSA public key")
    modulus = der.content(numbers[0][1], der.INTEGER).lstrip(b"\0")
    return KeyIdentity(digest=hashlib.sha256(modulus).digest(), modulus=modulus)


# Asked twice while a request is decided, about the same octets; what raises is not remembered.
@functools.lru_cache(maxsize=256)
def identify_certified_key(tbs_certificate: bytes) -> KeyIdentity:
    """Name the key of a TBSCertificate; raises PeerError for octets that are none."""
    return identify_key(certified_key_info(tbs_certificate))


def certified_key_info(tbs_certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a TBSCertificate; raises PeerError for octets that are none."""
    parts = der.elements(der.content(tbs_certificate, der.SEQUENCE), at_most=_MAXIMUM_TBS_PARTS)
    if len(parts) <= _KEY_PLACE:
        raise PeerError("this is not a TBSCertificate")
    return parts[_KEY_PLACE][1]
