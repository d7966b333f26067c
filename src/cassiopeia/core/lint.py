"""The signer's own lint: whether a TBSCertificate is exactly what was approved, by the letter of the standards.

Reads the octets that will be signed, between their assembly and anybody's seeing them, and knows nothing of how they
were made: it is written independently of `certificate`, so that two would have to make the same mistake. Owns the
fields of RFC 5280 4.1 and the order of the checks; names, extensions and encoding stand in `lint_names`,
`lint_extensions` and `lint_der`, the rules with their sources in `lint_rules`. The first finding ends it.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from dataclasses import InitVar, dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from cassiopeia.core import lint_der
from cassiopeia.core.lint_der import (
    BIT_STRING,
    GENERALIZED_TIME,
    INTEGER,
    NULL,
    SEQUENCE,
    UTC_TIME,
    Reader,
)
from cassiopeia.core.lint_extensions import LintedKey, lint_extensions
from cassiopeia.core.lint_names import lint_names_together, lint_subject
from cassiopeia.core.lint_rules import find
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.errors import InternalError

_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_UNIQUE_IDENTIFIERS: Final = frozenset({0x81, 0x82, 0xA1, 0xA2})
_VERSION_3: Final = 2

_SERIAL_OCTETS: Final = 16
# Of 15 random octets, these hold for all but one in ten thousand million.
_FEWEST_DIFFERENT_OCTETS: Final = 7
_FEWEST_ONES: Final = 24
_MOST_ONES: Final = 96
_RUN: Final = re.compile(rb"(.)\1{5}", re.DOTALL)

# Kind of the sub-CA's key, hash, whether PSS: by the octets of the AlgorithmIdentifier, of which RFC 4055, RFC 5758,
# RFC 8410 and RFC 9881 leave one encoding each.
_SHA2: Final = (("sha256", "01", "20"), ("sha384", "02", "30"), ("sha512", "03", "40"))
_ALGORITHMS: Final = {
    bytes.fromhex("300d06092a864886f70d01010b0500"): ("RSA", "sha256", False),
    bytes.fromhex("300d06092a864886f70d01010c0500"): ("RSA", "sha384", False),
    bytes.fromhex("300d06092a864886f70d01010d0500"): ("RSA", "sha512", False),
    **{
        bytes.fromhex(
            f"304106092a864886f70d01010a3034a00f300d06096086480165030402{arc}0500a11c301a06092a864886f70d010108"
            f"300d06096086480165030402{arc}0500a2030201{salt}"
        ): ("RSA", name, True)
        for name, arc, salt in _SHA2
    },
    bytes.fromhex("300a06082a8648ce3d040302"): ("secp256r1", "", False),
    bytes.fromhex("300a06082a8648ce3d040303"): ("secp384r1", "", False),
    bytes.fromhex("300a06082a8648ce3d040304"): ("secp521r1", "", False),
    bytes.fromhex("300506032b6570"): ("Ed25519PublicKey", "", False),
    bytes.fromhex("300506032b6571"): ("Ed448PublicKey", "", False),
    bytes.fromhex("300b0609608648016503040311"): ("MLDSA44PublicKey", "", False),
    bytes.fromhex("300b0609608648016503040312"): ("MLDSA65PublicKey", "", False),
    bytes.fromhex("300b0609608648016503040313"): ("MLDSA87PublicKey", "", False),
}

_RSA_KEY: Final = "1.2.840.113549.1.1.1"
_EC_KEY: Final = "1.2.840.10045.2.1"
_UNCOMPRESSED: Final = 4
_POINT_OCTETS: Final = {"1.2.840.10045.3.1.7": 65, "1.3.132.0.34": 97, "1.3.132.0.35": 133}
_SIGNATURE_KEY_OCTETS: Final = {
    "1.3.101.112": 32,  # Ed25519
    "2.16.840.1.101.3.4.3.17": 1312,  # ML-DSA-44, -65, -87
    "2.16.840.1.101.3.4.3.18": 1952,
    "2.16.840.1.101.3.4.3.19": 2592,
}

_SECOND: Final = dt.timedelta(seconds=1)
_FIRST_GENERALIZED_YEAR: Final = 2050
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SPAN: Final = re.compile(r"([1-9][0-9]{0,3})([dmy])")

_LINTED: Final = object()  # known to `lint` alone


@dataclass(frozen=True, kw_only=True, slots=True)
class LintedTbs:
    """Evidence that `lint` has found nothing in exactly these octets; nothing else can make one."""

    linted: InitVar[object]
    octets: bytes

    def __post_init__(self, linted: object) -> None:
        if linted is not _LINTED:
            raise InternalError("only lint says that a TBSCertificate is linted")


def lint(tbs_certificate: bytes, approved: ApprovedRequest, *, signer_id: int, now: dt.datetime) -> LintedTbs:
    """Check what is about to be signed for an approved request; raises LintFinding.

    `signer_id` and `now` are those of the decision.
    """
    outer = Reader(tbs_certificate)
    tbs = outer.constructed(SEQUENCE, "the TBSCertificate")
    outer.finish("what is signed")
    # 1. Version, serial number, algorithm.
    version = tbs.constructed(_VERSION, "the version")
    if lint_der.integer(version.primitive(INTEGER, "the version"), "the version") != _VERSION_3:
        find("version", "it is another")
    version.finish("the version")
    _lint_serial(tbs.primitive(INTEGER, "the serial number"), approved, signer_id=signer_id)
    _lint_algorithm(tbs.whole(SEQUENCE, "the signature algorithm"), approved)
    # 2. Issuer and validity.
    _lint_issuer(tbs.whole(SEQUENCE, "the issuer"), approved, signer_id=signer_id)
    validity = tbs.constructed(SEQUENCE, "the validity")
    not_before, not_after = _time(validity, "notBefore"), _time(validity, "notAfter")
    validity.finish("the validity")
    _lint_validity(not_before, not_after, approved, now=now)
    # 3. The subject and its key.
    attributes = lint_subject(tbs.constructed(SEQUENCE, "the subject"), approved)
    key_octets = tbs.whole(SEQUENCE, "the key")
    key = _lint_key(key_octets)
    if key_octets != approved.key.subject_public_key_info:
        find("key-asked", "it is another")
    # 4. The extensions, and nothing behind them.
    if tbs.next_tag in _UNIQUE_IDENTIFIERS:
        find("unique-identifier", f"there is one with the tag {tbs.next_tag:02x}")
    tagged = tbs.constructed(_EXTENSIONS, "the extensions")
    extensions = tagged.constructed(SEQUENCE, "the extensions")
    tagged.finish("the extensions")
    tbs.finish("the TBSCertificate")
    alt_names = lint_extensions(extensions, approved, key, subject_is_empty=not attributes)
    lint_names_together(attributes, alt_names, approved)
    return LintedTbs(linted=_LINTED, octets=tbs_certificate)


def _lint_serial(contents: bytes, approved: ApprovedRequest, *, signer_id: int) -> None:
    number = lint_der.integer(contents, "the serial number")
    if len(contents) != _SERIAL_OCTETS or number <= 0:
        find("serial-length", f"it is {contents.hex()[:80]}")
    if contents[0] != signer_id:
        find("serial-signer", f"it begins with {contents[0]:02x}, and this is signer {signer_id}")
    drawn = contents[1:]
    steps = {(after - before) % 256 for before, after in itertools.pairwise(drawn)}
    if (
        len(set(drawn)) < _FEWEST_DIFFERENT_OCTETS
        or len(steps) == 1
        or not _FEWEST_ONES <= int.from_bytes(drawn, "big").bit_count() <= _MOST_ONES
        or _RUN.search(drawn)
    ):
        find("serial-random", f"it is {contents.hex()}")
    if number != approved.serial_number:
        find("serial-approved", f"it is {contents.hex()}")


def _lint_algorithm(octets: bytes, approved: ApprovedRequest) -> None:
    known = _ALGORITHMS.get(octets)
    key_kind = _kind_of(approved.authority.public_key)
    if known is None or known[0] != key_kind:
        find("signature-algorithm", f"it is {octets.hex()[:160]}, and the sub-CA's key is {key_kind}")
    wished = approved.request.signature_hash or "sha256"
    if key_kind == "RSA" and known[1:] != (wished, approved.authority.pss):
        find("signature-wish", f"it is {octets.hex()[:160]}")


def _kind_of(key: PublicKeyTypes) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA"
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def _lint_issuer(octets: bytes, approved: ApprovedRequest, *, signer_id: int) -> None:
    authority = approved.authority
    if octets != authority.subject:
        find("issuer", f"it is not that of {authority.name}")
    family, target = approved.profile.family, approved.request.ocsp_target_ca
    is_right = authority.name == target if not family else authority.family == family and not target
    if authority.signer_id != signer_id or not is_right:
        find("issuer-choice", f"it is {authority.name} of signer {authority.signer_id}")


def _time(validity: Reader, what: str) -> dt.datetime:
    tag = validity.next_tag if validity.next_tag == GENERALIZED_TIME else UTC_TIME
    moment = lint_der.time(tag, validity.primitive(tag, what), what)
    if (moment.year >= _FIRST_GENERALIZED_YEAR) != (tag == GENERALIZED_TIME):
        find("time-type", f"{what} is {moment:%Y-%m-%d} with the tag {tag:02x}")
    return moment


def _lint_validity(
    not_before: dt.datetime, not_after: dt.datetime, approved: ApprovedRequest, *, now: dt.datetime
) -> None:
    # Both are inclusive: a validity of one second begins and ends with it.
    if not_before > not_after:
        find("validity-order", f"from {not_before} to {not_after}")
    profile, authority, request = approved.profile, approved.authority, approved.request
    # 1. The beginning: a wished day that is not yet here, else now.
    now = now.replace(microsecond=0)
    wished = _day(request.wish_from)
    begin = wished if wished is not None and wished > now else now
    if not_before != begin:
        find("validity-begin", f"it is {not_before}, not {begin}")
    if begin > now + dt.timedelta(days=profile.not_before_ahead_days):
        find("validity-ahead", f"it is {not_before}, and now is {now}")
    # 2. The end. RFC 5280 4.1.2.5: notAfter itself is still valid.
    end = not_after + _SECOND
    longest = not_before + dt.timedelta(days=profile.maximum_validity_days)
    if end > longest:
        find("validity-profile", f"notAfter is {not_after}, {profile.maximum_validity_days} days end at {longest}")
    wished = _day(request.wish_to) or _after(not_before, request.wish_to) or longest
    if end > wished:
        find("validity-wish", f"notAfter is {not_after}, not before {wished}")
    if end < min(wished, longest):
        find("validity-end", f"notAfter is {not_after}, the end {min(wished, longest)}")
    if not_before < authority.not_before or not_after > authority.not_after:
        find("validity-authority", f"{authority.name} is valid from {authority.not_before} to {authority.not_after}")


def _day(wish: str) -> dt.datetime | None:
    """The first instant of a wished day; None for another wish."""
    if not _DAY.fullmatch(wish):
        return None
    try:
        return dt.datetime.fromisoformat(f"{wish}T00:00:00+00:00")
    except ValueError:
        return None


def _after(begin: dt.datetime, wish: str) -> dt.datetime | None:
    """The instant when a wished span is over; None for another wish, and for one beyond all years."""
    span = _SPAN.fullmatch(wish)
    if span is None:
        return None
    count, unit = int(span[1]), span[2]
    try:
        if unit == "d":
            return begin + dt.timedelta(days=count)
        months = 12 * begin.year + begin.month - 1 + (count if unit == "m" else 12 * count)
        first = begin.replace(year=months // 12, month=months % 12 + 1, day=1)
        # A month without such a day ends on its last.
        same_day = first + dt.timedelta(days=begin.day - 1)
        return same_day if same_day.month == first.month else same_day - dt.timedelta(days=same_day.day)
    except (ValueError, OverflowError):
        return None


def _lint_key(octets: bytes) -> LintedKey:
    """RFC 5280 4.1.2.7, RFC 3279 2.3.1, RFC 5480 2, RFC 8410 4, RFC 9881 4."""
    outer = Reader(octets).constructed(SEQUENCE, "the key")
    algorithm = outer.constructed(SEQUENCE, "the key's algorithm")
    identifier = algorithm.object_identifier("the key's algorithm")
    bits = lint_der.whole_octets(outer.primitive(BIT_STRING, "the key's bits"), "the key's bits")
    outer.finish("the key")
    kind = "signature"
    if identifier == _RSA_KEY:
        kind = "RSA"
        if algorithm.next_tag != NULL or algorithm.primitive(NULL, "the key's parameters"):
            find("key-encoding", "the parameters of an RSA key are not NULL")
        _lint_rsa_key(bits)
    elif identifier == _EC_KEY:
        kind = "EC"
        curve = algorithm.object_identifier("the key's curve")
        if curve not in _POINT_OCTETS or len(bits) != _POINT_OCTETS[curve] or bits[0] != _UNCOMPRESSED:
            find("key-encoding", f"there is a point of {len(bits)} octets on the curve {curve}")
    elif _SIGNATURE_KEY_OCTETS.get(identifier) != len(bits):
        find("key-encoding", f"there is a key {identifier} of {len(bits)} octets")
    if algorithm.more:
        find("key-encoding", "there are parameters too many")
    return LintedKey(kind=kind, bits=bits)


def _lint_rsa_key(bits: bytes) -> None:
    outer = Reader(bits)
    numbers = outer.constructed(SEQUENCE, "the RSA key")
    outer.finish("the key's bits")
    for what in ("the modulus", "the exponent"):
        if lint_der.integer(numbers.primitive(INTEGER, what), what) <= 0:
            find("key-encoding", f"{what} is not positive")
    numbers.finish("the RSA key")
