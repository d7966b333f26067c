"""SubjectPublicKeyInfo (RFC 5280 4.1.2.7) in its one form, for libraries that take other forms too, and other keys.

Owns the DER around a key, and what an RSA public key must be that verifies anything.
"""

from __future__ import annotations

from typing import Final

from cassiopeia.core import der
from cassiopeia.errors import PeerError

# rsaEncryption, whose parameters are NULL (RFC 4055 1.2).
RSA: Final = bytes.fromhex("300d06092a864886f70d0101010500")
_MINIMUM_EXPONENT: Final = 3


def split_public_key_info(octets: bytes) -> tuple[bytes, bytes]:
    """AlgorithmIdentifier (DER) and the octets of the key; raises PeerError."""
    parts = der.elements(der.content(octets, der.SEQUENCE), at_most=2)
    if [tag for tag, _ in parts] != [der.SEQUENCE, der.BIT_STRING]:
        raise PeerError("these are not the algorithm of a key and its bits")
    (_, algorithm), (_, bits) = parts
    key = der.content(bits, der.BIT_STRING)
    if key[:1] != b"\0":
        raise PeerError("the key is not a whole number of octets")
    return algorithm, key[1:]


def check_public_key_info(octets: bytes, *, is_rsa: bool) -> None:
    """Raise PeerError for another form than the one, and for what is no RSA key where it shall be one."""
    algorithm, key = split_public_key_info(octets)
    if not is_rsa:
        return
    if algorithm != RSA:
        raise PeerError("the parameters of an RSA key's algorithm are NULL")
    rsa_modulus(key)


def rsa_modulus(key: bytes) -> int:
    """The modulus of an RSAPublicKey (RFC 8017 A.1.1); raises PeerError.

    Also for numbers with which everything would verify: with the exponent 1, the signature is what has been signed.
    """
    numbers = [positive(each) for _, each in der.elements(der.content(key, der.SEQUENCE), at_most=2)]
    if len(numbers) != len(("modulus", "exponent")):
        raise PeerError("an RSA key has a modulus and an exponent")
    modulus, exponent = numbers
    if not (exponent & modulus & 1 and _MINIMUM_EXPONENT <= exponent < modulus):
        raise PeerError("modulus and exponent are no RSA key's")
    return modulus


def positive(integer: bytes) -> int:
    """An INTEGER above 0 in its shortest form (X.690 8.3.2); raises PeerError."""
    octets = der.content(integer, der.INTEGER)
    value = int.from_bytes(octets, "big", signed=True)
    if value <= 0 or len(octets) != value.bit_length() // 8 + 1:
        raise PeerError("a number is not positive, or not in its shortest form")
    return value
