"""DER by hand, where `hazmat.asn1` has no type: headers around octets that are already encoded, and a strict walk.

Owns tags, lengths and Time (X.690 8.1, 10.1; RFC 5280 4.1.2.5), nothing of what the values mean. Used where a Python
object for each element would cost too much: a CRL has tens of thousands of entries.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from cryptography.hazmat import asn1

from cassiopeia.errors import InternalError, PeerError

INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
ENUMERATED: Final = 0x0A
UTF8_STRING: Final = 0x0C
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30

_LONG_FORM: Final = 0x80
_MULTIPLE_OCTET_TAG: Final = 0x1F
_MAXIMUM_LENGTH_OCTETS: Final = 4
_LAST_UTC_TIME_YEAR: Final = 2049
_FIRST_UTC_TIME_YEAR: Final = 1950


def encode(tag: int, *parts: bytes) -> bytes:
    """One element with these contents one behind the other, its length in the fewest octets."""
    return b"".join((header(tag, sum(map(len, parts))), *parts))


def header(tag: int, length: int) -> bytes:
    """What stands before contents of this length: whoever joins a megabyte puts it there, and copies it once."""
    if length < _LONG_FORM:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(octets))) + octets


def read(octets: bytes, start: int = 0) -> tuple[int, int, int]:
    """Tag of the element at `start`, where its contents begin and where they end.

    Takes single-octet tags and lengths in their shortest form only; raises PeerError for anything else.
    """
    try:
        tag, length = octets[start], octets[start + 1]
        content = start + 2
        if length >= _LONG_FORM:
            count = length - _LONG_FORM
            length = int.from_bytes(octets[content : content + count], "big")
            # X.690 10.1: the definite form in the fewest octets. (A zero count is the indefinite form.)
            shortest = length >= _LONG_FORM and length.bit_length() > 8 * (count - 1)
            if not shortest or count > _MAXIMUM_LENGTH_OCTETS:
                raise PeerError("a length is not in the form that DER wants")
            content += count
    except IndexError:
        raise PeerError("a DER element is cut short") from None
    end = content + length
    if end > len(octets):
        raise PeerError("a DER element is cut short")
    if tag & _MULTIPLE_OCTET_TAG == _MULTIPLE_OCTET_TAG:
        raise PeerError("a DER tag has more than one octet, which nothing here uses")
    return tag, content, end


def elements(octets: bytes, *, at_most: int) -> list[tuple[int, bytes]]:
    """The elements that lie one behind the other in `octets`: each its tag and all its octets; raises PeerError."""
    found: list[tuple[int, bytes]] = []
    start = 0
    while start < len(octets):
        if len(found) == at_most:
            raise PeerError(f"there are more than {at_most} DER elements")
        tag, _, end = read(octets, start)
        found.append((tag, octets[start:end]))
        start = end
    return found


def content(octets: bytes, tag: int) -> bytes:
    """The contents of the one element that `octets` are; raises PeerError for another tag or octets behind it."""
    found, start, end = read(octets)
    if found != tag or end != len(octets):
        raise PeerError(f"expected one DER element with tag {tag:02x}, found tag {found:02x}")
    return octets[start:end]


def encode_signed(tbs: bytes, algorithm: bytes, signature: bytes) -> bytes:
    """What certificates, CRLs and requests have in common (RFC 5280 4.1, 5.1): contents, algorithm, signature."""
    return encode(SEQUENCE, tbs, algorithm, encode(BIT_STRING, b"\0", signature))


def split_signed(octets: bytes) -> tuple[bytes, bytes, bytes]:
    """Contents, AlgorithmIdentifier (both DER) and signature of a certificate or CRL; raises PeerError."""
    parts = elements(content(octets, SEQUENCE), at_most=3)
    if [tag for tag, _ in parts] != [SEQUENCE, SEQUENCE, BIT_STRING]:
        raise PeerError("these are not contents, algorithm and signature")
    (_, tbs), (_, algorithm), (_, bits) = parts
    signature = content(bits, BIT_STRING)
    if signature[:1] != b"\0":
        raise PeerError("the signature is not a whole number of octets")
    return tbs, algorithm, signature[1:]


def time(moment: dt.datetime) -> asn1.UTCTime | asn1.GeneralizedTime:
    """RFC 5280 4.1.2.5: UTCTime through 2049, then GeneralizedTime; no fractions of a second."""
    if moment.tzinfo is None:
        raise InternalError("a time without a time zone")
    moment = moment.astimezone(dt.UTC).replace(microsecond=0)
    if _FIRST_UTC_TIME_YEAR <= moment.year <= _LAST_UTC_TIME_YEAR:
        return asn1.UTCTime(moment)
    return asn1.GeneralizedTime(moment)


def generalized_time(moment: dt.datetime) -> bytes:
    """DER of a GeneralizedTime without fractions (RFC 5280 4.1.2.5.2)."""
    if moment.tzinfo is None:
        raise InternalError("a time without a time zone")
    return asn1.encode_der(asn1.GeneralizedTime(moment.astimezone(dt.UTC).replace(microsecond=0)))


def moment(time: asn1.UTCTime | asn1.GeneralizedTime) -> dt.datetime:
    """What `time` says; raises PeerError where `time()` would have chosen the other form or has no fractions."""
    told = time.as_datetime()
    utc_years = _FIRST_UTC_TIME_YEAR <= told.year <= _LAST_UTC_TIME_YEAR
    if told.microsecond or utc_years != isinstance(time, asn1.UTCTime):
        raise PeerError("a time is not in the form of RFC 5280 4.1.2.5")
    return told
