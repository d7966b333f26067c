"""Objections to a CA that was made elsewhere, before a hierarchy is built below it (RFC 5280 4.2, 6.1).

An error means that nothing below this CA would ever be accepted, or that it could not do its work.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from cassiopeia.ceremony.hierarchy import Family, Hierarchy, extended_key_usage_oid
from cassiopeia.ceremony.objections import Objection, error, note, warning
from cassiopeia.ceremony.review_structure import STRENGTHS
from cassiopeia.core.profile import EXTENDED_KEY_USAGES
from cassiopeia.core.validity import add_months

_T = TypeVar("_T", bound=x509.ExtensionType)

_BROKEN_HASHES: Final = ("md2", "md4", "md5", "sha1")
_USAGE_NAMES: Final = {identifier: name for name, identifier in EXTENDED_KEY_USAGES.items()}
_LEAST_RSA_BITS: Final = 2048


def review_adopted(
    certificate: x509.Certificate, *, hierarchy: Hierarchy, families: Sequence[Family], is_root: bool, now: dt.datetime
) -> tuple[Objection, ...]:
    """What there is to object to a root, or a structure CA of one of `families`, above this hierarchy's other CAs."""
    review = _Review(certificate, hierarchy=hierarchy, families=families, is_root=is_root, now=now)
    try:
        return tuple(review.objections())
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as trouble:
        return (error("certificate-unreadable", review.where, f"its certificate cannot be read: {trouble}"),)


def strength(public_key: PublicKeyTypes) -> int:
    """Bits of strength of a key, as `review_structure.STRENGTHS` counts them; 0 if too weak, or unknown."""
    if isinstance(public_key, rsa.RSAPublicKey):
        if public_key.key_size < _LEAST_RSA_BITS:
            return 0
        return next(bits for size, bits in _RSA_BITS if public_key.key_size >= size)
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return _CURVE_BITS.get(public_key.curve.name, 0)
    return next((bits for kind, bits in _OTHER_BITS.items() if isinstance(public_key, kind)), 0)


# NIST SP 800-57 part 1, table 2; FIPS 204, table 1.
_RSA_BITS: Final = ((15360, 256), (7680, 192), (3072, 128), (_LEAST_RSA_BITS, 112))
_CURVE_BITS: Final = {"secp256r1": 128, "secp384r1": 192, "secp521r1": 256}
_OTHER_BITS: Final = {
    ed25519.Ed25519PublicKey: STRENGTHS["Ed25519"],
    ed448.Ed448PublicKey: STRENGTHS["Ed448"],
    mldsa.MLDSA44PublicKey: STRENGTHS["ML-DSA-44"],
    mldsa.MLDSA65PublicKey: STRENGTHS["ML-DSA-65"],
    mldsa.MLDSA87PublicKey: STRENGTHS["ML-DSA-87"],
}


class _Review:
    def __init__(
        self,
        certificate: x509.Certificate,
        *,
        hierarchy: Hierarchy,
        families: Sequence[Family],
        is_root: bool,
        now: dt.datetime,
    ) -> None:
        self._certificate = certificate
        self._hierarchy = hierarchy
        self._families = families
        self._is_root = is_root
        self._now = now
        self.where = "the root" if is_root else f"structure CA {families[0].name}"

    def objections(self) -> Iterator[Objection]:
        extensions = self._certificate.extensions
        yield from self._path_length(_value(extensions, x509.BasicConstraints))
        yield from self._key_usage(_value(extensions, x509.KeyUsage))
        yield from self._extended_key_usage(_value(extensions, x509.ExtendedKeyUsage))
        yield from self._identifiers(extensions)
        yield from self._dates()
        yield from self._signature()
        yield from self._strengths()

    def _path_length(self, constraints: x509.BasicConstraints | None) -> Iterator[Objection]:
        # RFC 5280 4.2.1.9: how many CAs stand below it and above a subscriber's certificate.
        needed = 2 if self._is_root else 1
        if constraints is None or not constraints.ca:
            yield error("not-a-ca", self.where, "its certificate does not say that it is a CA (RFC 5280 4.2.1.9)")
        elif constraints.path_length is None:
            yield warning(
                "missing-path-length",
                self.where,
                "has no pathLenConstraint: whoever gets hold of a CA below it can make as many more below that as they "
                f"like; {needed} is what this hierarchy needs",
            )
        elif constraints.path_length < needed:
            yield error(
                "path-length-too-short",
                self.where,
                f"allows {constraints.path_length} CAs below it, and this hierarchy has {needed}",
            )
        elif constraints.path_length > needed:
            yield note(
                "path-length-too-long",
                self.where,
                f"allows {constraints.path_length} CAs below it, and this hierarchy needs {needed}",
            )

    def _key_usage(self, usage: x509.KeyUsage | None) -> Iterator[Objection]:
        if usage is None:
            yield warning("missing-key-usage", self.where, "has no keyUsage, which RFC 5280 4.2.1.3 demands of a CA")
        elif not (usage.key_cert_sign and usage.crl_sign):
            yield error(
                "key-usage-too-narrow", self.where, "its keyUsage does not let it sign both certificates and CRLs"
            )

    def _extended_key_usage(self, usages: x509.ExtendedKeyUsage | None) -> Iterator[Objection]:
        if usages is None:
            if not self._is_root:
                yield warning(
                    "missing-extended-key-usage",
                    self.where,
                    "says nothing of what it vouches for, and so for everything",
                )
            return
        allowed = {each.dotted_string for each in usages}
        if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE.dotted_string in allowed:
            yield warning("any-extended-key-usage", self.where, "vouches for every use: anyExtendedKeyUsage")
            return
        for family in self._families:
            wanted = [extended_key_usage_oid(each) for each in family.extended_key_usage]
            if missing := [_USAGE_NAMES.get(each, each) for each in wanted if each not in allowed]:
                yield error(
                    "usage-not-above",
                    self.where,
                    f"does not vouch for {', '.join(missing)}, which the family {family.name} is for: browsers reject "
                    "all of its certificates",
                )

    def _identifiers(self, extensions: x509.Extensions) -> Iterator[Objection]:
        if _value(extensions, x509.SubjectKeyIdentifier) is None:
            yield error(
                "missing-key-identifier",
                self.where,
                "has no subjectKeyIdentifier, by which certificates and CRLs name their issuer (RFC 5280 4.2.1.2)",
            )
        if not list(self._certificate.subject):
            yield error("no-subject", self.where, "its certificate has no subject (RFC 5280 4.1.2.6)")

    def _dates(self) -> Iterator[Objection]:
        begin, end = self._certificate.not_valid_before_utc, self._certificate.not_valid_after_utc
        if not begin <= self._now <= end:
            yield error(
                "not-valid-now", self.where, f"is valid from {begin:%Y-%m-%d} until {end:%Y-%m-%d}, and not now"
            )
            return
        for family in self._families:
            time, structure = self._hierarchy.time_of(family), self._hierarchy.structure_of(family)
            if self._is_root and end < add_months(self._now, structure.years * 12):
                yield error(
                    "root-outlived",
                    self.where,
                    f"ends on {end:%Y-%m-%d}, and the structure CA of {family.name} would live for {structure.years} "
                    "years",
                )
            elif not self._is_root and end < add_months(
                self._now, self._hierarchy.calendar_months(family) + time.outlives_years * 12
            ):
                yield error(
                    "structure-ca-outlived",
                    self.where,
                    f"ends on {end:%Y-%m-%d}, before the time sub-CAs that are planned below it: plan fewer periods",
                )

    def _signature(self) -> Iterator[Objection]:
        made_with = self._certificate.signature_hash_algorithm
        if made_with is not None and made_with.name in _BROKEN_HASHES:
            what = f"its certificate is signed with {made_with.name.upper()}"
            if self._certificate.subject == self._certificate.issuer:
                yield note(
                    "broken-hash", self.where, f"{what}; nobody verifies a root's own signature, but linters object"
                )
            else:
                yield error("broken-hash", self.where, f"{what}, which can be forged: nobody accepts it")

    def _strengths(self) -> Iterator[Objection]:
        key = self._certificate.public_key()
        bits = strength(key)
        if not bits:
            yield error("weak-key", self.where, "its key is too weak, or of a kind that nobody accepts")
            return
        for family in self._families:
            below = (
                self._hierarchy.structure_of(family).key_algorithm
                if self._is_root
                else self._hierarchy.time_of(family).key_algorithm
            )
            if bits < STRENGTHS[below]:
                yield warning(
                    "weaker-above",
                    self.where,
                    f"its key is weaker than those below it ({below}, family {family.name}): a chain is as strong as "
                    "its weakest key",
                )


def _value(extensions: x509.Extensions, kind: type[_T]) -> _T | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
