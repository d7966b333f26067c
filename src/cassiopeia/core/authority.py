"""Sub-CAs as the policy sees them, and the choice of the one that signs.

Owns the frozen `Authority` and the rules of DESIGN "Root structure": a time sub-CA `<family>_<year>_<number>` belongs
to one signer, issues for some months and stays valid for longer (RFC 5280 4.1.2.5 gives its end), and signs no more
certificates than its CRL has room for. Knows nothing of private keys, and reads no files.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from cassiopeia.core import der
from cassiopeia.core.algorithms import algorithms_for
from cassiopeia.core.constraints import UNCONSTRAINED, NameConstraints, read_constraints
from cassiopeia.core.crl_size import RESPONDERS, CrlRoom, crl_room
from cassiopeia.errors import OperatorError, Refused, Unavailable

# So many entries with a reason (49 octets each) stay under 1 MiB in the CRL of nearly every sub-CA (see ADR 9).
MAXIMUM_CERTIFICATES: Final = 21_300

_NAME = re.compile(r"([A-Za-z][A-Za-z0-9]{0,31})_([0-9]{4})_([1-9][0-9]{0,3})")
_FULL_RETRY_S: Final = 3600
_SUBJECT_PLACE: Final = 5  # RFC 5280 4.1: behind version, serialNumber, signature, issuer and validity
_EMPTY_NAME: Final = b"\x30\x00"


@dataclass(frozen=True, kw_only=True, slots=True)
class Idle:
    """Why a sub-CA signs no certificate now: a stable code, and what follows its name in a sentence."""

    code: str
    why: str
    retry_after_s: int = 600


HALTED_BY_ORDER: Final = Idle(code="authority-halted", why="is halted by an order of the operators")
_NONE_IDLE: Final[Mapping[str, Idle]] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Authority:
    """One sub-CA. `subject` is its DER Name; it issues from `issues_from` until just before `issues_until`.

    `pss` says that an RSA key signs with RSASSA-PSS. The URLs go into each certificate (RFC 5280 4.2.1.13, 4.2.2.1). A
    sub-CA `retired` was revoked or replaced: it issues to no subscriber any more, but its CRLs and its OCSP go on.
    """

    name: str
    family: str
    year: int
    number: int
    signer_id: int
    certificate: bytes
    subject: bytes
    public_key: PublicKeyTypes = field(compare=False, repr=False)  # the certificate says it already
    key_identifier: bytes
    not_before: dt.datetime
    not_after: dt.datetime
    issues_from: dt.datetime
    issues_until: dt.datetime
    maximum_certificates: int = MAXIMUM_CERTIFICATES
    pss: bool = False
    retired: bool = False
    constraints: NameConstraints = UNCONSTRAINED
    crl_urls: tuple[str, ...] = ()
    issuer_urls: tuple[str, ...] = ()
    ocsp_urls: tuple[str, ...] = ()

    @property
    def crl_room(self) -> CrlRoom:
        """What its CRL has room for: `maximum_certificates`, and those of its OCSP responders."""
        return crl_room(
            self.public_key,
            subject=self.subject,
            key_identifier=self.key_identifier,
            pss=self.pss,
            not_after=self.not_after,
        )


def parse_authority_name(name: str) -> tuple[str, int, int]:
    """Family, year and number of a sub-CA's name, as `assured_2026_2`; raises OperatorError."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise OperatorError(
            f"{name[:80]!a} is not the name of a sub-CA: write <family>_<year>_<number>, as assured_2026_2"
        )
    return match[1], int(match[2]), int(match[3])


def load_authority(
    certificate_der: bytes,
    *,
    name: str,
    signer_id: int,
    issues_from: dt.datetime | None = None,
    issues_until: dt.datetime | None = None,
    maximum_certificates: int = MAXIMUM_CERTIFICATES,
    pss: bool = False,
    retired: bool = False,
    crl_urls: tuple[str, ...] = (),
    issuer_urls: tuple[str, ...] = (),
    ocsp_urls: tuple[str, ...] = (),
) -> Authority:
    """An authority from its certificate; without issuing dates it issues as long as it is valid.

    It issues no more than `maximum_certificates`, and never more than its CRL could list under 1 MiB.

    Raises OperatorError when the certificate is not that of a CA which can sign certificates and CRLs for end entities.
    """
    family, year, number = parse_authority_name(name)
    # 1. The certificate, of which pyca reads much only when it is asked for, each part with errors of its own.
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        public_key = certificate.public_key()
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        name_constraints = read_constraints(certificate.extensions)
        # The octets as they are: an issuer name that was encoded anew need not be the same one.
        tbs = der.elements(der.content(certificate.tbs_certificate_bytes, der.SEQUENCE), at_most=10)
    except x509.ExtensionNotFound as error:
        raise OperatorError(f"{name}: its certificate has no {error.oid.dotted_string} extension") from error
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise OperatorError(f"{name}: its certificate cannot be read: {error}") from error
    if not (constraints.ca and usage.key_cert_sign and usage.crl_sign):
        raise OperatorError(f"{name}: its certificate is not that of a CA which signs certificates and CRLs")
    subject = tbs[_SUBJECT_PLACE][1]
    if subject == _EMPTY_NAME:
        raise OperatorError(f"{name}: its certificate has no subject")  # RFC 5280 4.1.2.6
    try:
        algorithms_for(public_key)
    except Refused as error:
        raise OperatorError(f"{name}: {error.message}") from error
    # 2. When and how much it issues.
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    issues_from, issues_until = issues_from or not_before, issues_until or not_after
    if not not_before <= issues_from < issues_until <= not_after:
        raise OperatorError(f"{name}: it must issue within {not_before} and {not_after}, the dates of its certificate")
    if not 1 <= signer_id <= 0x7F:  # noqa: PLR2004 - ADR 4: the first octet of a positive serial number
        raise OperatorError(f"{name}: signer id {signer_id} is not between 1 and 127")
    authority = Authority(
        name=name,
        family=family,
        year=year,
        number=number,
        signer_id=signer_id,
        certificate=certificate_der,
        subject=subject,
        public_key=public_key,
        key_identifier=identifier.digest,
        not_before=not_before,
        not_after=not_after,
        issues_from=issues_from,
        issues_until=issues_until,
        maximum_certificates=maximum_certificates,
        pss=pss,
        retired=retired,
        constraints=name_constraints,
        crl_urls=crl_urls,
        issuer_urls=issuer_urls,
        ocsp_urls=ocsp_urls,
    )
    # 3. No more than its CRL can list under 1 MiB, whatever the configuration says.
    listed = authority.crl_room.entries - RESPONDERS
    return replace(authority, maximum_certificates=min(maximum_certificates, listed))


def choose_authority(
    authorities: Iterable[Authority],
    *,
    family: str,
    signer_id: int,
    now: dt.datetime,
    not_after: dt.datetime,
    issued: Mapping[str, int],
    idle: Mapping[str, Idle] = _NONE_IDLE,
) -> Authority:
    """The sub-CA that signs a certificate of this family which ends at `not_after`; never one `idle` or retired.

    Of those that this signer owns, that issue now, outlive the certificate and have room (`issued` counts by name): the
    newest period, and in it the lowest number, so that spares stay spare. Raises Unavailable when there is none but
    may be (operators install sub-CAs, others begin to issue), Refused when no sub-CA known here lives long enough.
    """
    # 1. What could ever do it.
    of_family = [
        each for each in authorities if each.family == family and each.signer_id == signer_id and not each.retired
    ]
    going = [each for each in of_family if each.name not in idle]
    if len(going) < len(of_family):
        # Whatever the others cannot do, one that is idle could: nothing is final before it signs again.
        try:
            return choose_authority(
                going, family=family, signer_id=signer_id, now=now, not_after=not_after, issued=issued
            )
        except (Refused, Unavailable):
            could = choose_authority(
                of_family, family=family, signer_id=signer_id, now=now, not_after=not_after, issued=issued
            )
            reason = idle[could.name]  # none of the others could: it is one of these
            raise Unavailable(
                f"the sub-CA {could.name} {reason.why}, and no other can take its place",
                code=reason.code,
                retry_after_s=reason.retry_after_s,
            ) from None
    not_over = [each for each in of_family if now < each.issues_until]
    if not not_over:
        raise Unavailable(
            f"no sub-CA of the family {family} is issuing; the operators have to install one",
            code="no-authority",
            retry_after_s=_FULL_RETRY_S,
        )
    outliving = [each for each in not_over if not_after <= each.not_after]
    if not outliving:
        latest = max(each.not_after for each in not_over)
        raise Refused(
            f"The certificate would outlive its issuer; wish for an end before {latest:%Y-%m-%d}.",
            code="validity-beyond-authority",
            field="wish_to",
        )
    # 2. What can do it now.
    issuing = [each for each in outliving if each.issues_from <= now]
    if not issuing:
        first = min(each.issues_from for each in outliving)
        raise Unavailable(
            f"no sub-CA of the family {family} that lives long enough issues before {first:%Y-%m-%d %H:%M} UTC",
            code="no-authority",
            retry_after_s=_FULL_RETRY_S,
        )
    roomy = [each for each in issuing if has_room(each, issued)]
    if not roomy:
        raise Unavailable(
            f"every issuing sub-CA of the family {family} is full; the operators have to install a spare",
            code="authority-full",
            retry_after_s=_FULL_RETRY_S,
        )
    # 3. The newest period first (by its own dates, not by the text of its name), then the lowest number.
    return min(roomy, key=lambda each: (-each.issues_from.timestamp(), -each.year, each.number))


def has_room(authority: Authority, issued: Mapping[str, int]) -> bool:
    """Whether the sub-CA's CRL would hold one certificate more of a subscriber."""
    return issued.get(authority.name, 0) < authority.maximum_certificates


def has_room_for_responder(authority: Authority, issued: Mapping[str, int]) -> bool:
    """Whether it would hold one more of an OCSP responder: those go on when the sub-CA is full."""
    return issued.get(authority.name, 0) < authority.maximum_certificates + RESPONDERS
