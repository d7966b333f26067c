"""How large a CRL can become: what stands around its entries, and how many entries fit under 1 MiB.

Owns the exact sizes (RFC 5280 5.1) on which the bound for a sub-CA's certificates rests, and the decision when an
entry has to do without its invalidity date. Nothing here makes a CRL or knows which certificates are revoked.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from cassiopeia.core import algorithms, der

MAXIMUM_OCTETS: Final = (1 << 20) - 1
"""A CRL stays under 1 MiB whatever is revoked."""

RESPONDERS: Final = 64
"""Certificates beyond a sub-CA's maximum that are kept for its OCSP responders, which need new ones to its last day."""

_ENTRY_OCTETS: Final = 49  # with a serial number of 16 octets, a UTCTime and a reason: see ADR 9
_LONGER_TIME_OCTETS: Final = 2
_FIRST_GENERALIZED_YEAR: Final = 2050  # RFC 5280 4.1.2.5
_TIME_OCTETS: Final = 17  # two behind one another, in the longer form
_VERSION_OCTETS: Final = 3
_NUMBER_EXTENSION_OCTETS: Final = 31  # with the longest number, RFC 5280 5.2.3
_EXTENSION_TAG: Final = 0xA0
_KEY_IDENTIFIER_TAG: Final = 0x80
_EXTENSION_IDENTIFIER: Final = bytes(5)  # any of those that stand in a CRL
# Tag and length of the list, the TBSCertList and the whole, each of which has more than 65,535 octets.
_LONG_HEADERS: Final = 3 * 5
_SIGNATURE_OCTETS: Final = {  # RFC 8032 5.1.6, 5.2.6; FIPS 204, table 2
    "Ed25519": 64,
    "Ed448": 114,
    "ML-DSA-44": 2420,
    "ML-DSA-65": 3309,
    "ML-DSA-87": 4627,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CrlRoom:
    """What the entries of one sub-CA's CRL may take: `octets` of all of them, `entry_octets` of one with a reason."""

    octets: int
    entry_octets: int

    @property
    def entries(self) -> int:
        """How many certificates may be revoked, each with a reason."""
        return self.octets // self.entry_octets

    def holds(self, octets: int, *, to_come: int) -> bool:
        """Whether entries of so many octets leave room for `to_come` more with a reason."""
        return octets + to_come * self.entry_octets <= self.octets


def crl_room(
    public_key: PublicKeyTypes, *, subject: bytes, key_identifier: bytes, pss: bool, not_after: dt.datetime
) -> CrlRoom:
    """The room in the CRL of a CA: `subject` is its DER Name; it revokes nothing after `not_after`."""
    algorithm = algorithms.choose_algorithm(public_key, "", pss=pss)
    identifier = der.encode(der.SEQUENCE, der.encode(_KEY_IDENTIFIER_TAG, key_identifier))
    extension = der.encode(der.SEQUENCE, _EXTENSION_IDENTIFIER, der.encode(der.OCTET_STRING, identifier))
    extensions = der.encode(_EXTENSION_TAG, der.encode(der.SEQUENCE, extension, bytes(_NUMBER_EXTENSION_OCTETS)))
    around = (
        _LONG_HEADERS
        + _VERSION_OCTETS
        + 2 * len(algorithm.der)  # inside and outside of what is signed
        + len(subject)
        + 2 * _TIME_OCTETS
        + len(extensions)
        + len(der.encode(der.BIT_STRING, bytes(1 + _signature_octets(public_key, algorithm.key_kind))))
    )
    later = not_after.year >= _FIRST_GENERALIZED_YEAR
    return CrlRoom(octets=MAXIMUM_OCTETS - around, entry_octets=_ENTRY_OCTETS + (_LONGER_TIME_OCTETS if later else 0))


def _signature_octets(public_key: PublicKeyTypes, key_kind: str) -> int:
    """The longest signature by this key, as X.509 has it."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return (public_key.key_size + 7) // 8
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        # RFC 3279 2.2.3: two numbers below the order of the curve; a first bit that is set costs an octet more.
        number = der.encode(der.INTEGER, bytes(public_key.key_size // 8 + 1))
        return len(der.encode(der.SEQUENCE, number, number))
    return _SIGNATURE_OCTETS[key_kind]
