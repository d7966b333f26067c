"""Certificates: assembling the TBSCertificate, putting the signature on, and checking what came back.

Owns the X.509 v3 certificate profile of this software (RFC 5280 4.1, 4.2; docs/certificates.md). Assembly takes only an
`ApprovedRequest` and needs no CA key. `check_tbs`, `complete_certificate` and `check_certificate` are the client's:
they trust nobody but the sub-CA's certificate and know no profiles, and find out whether the certificate says what was
asked for, and no more.
"""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from typing import Annotated, Final

from cryptography import x509
from cryptography.hazmat import asn1

from cassiopeia.core import algorithms, der
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority
from cassiopeia.core.names import encode_subject, general_name
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.core.profile import Profile
from cassiopeia.core.request import CertificateRequest, SubjectAltName
from cassiopeia.core.validity import wished_begin, wished_end
from cassiopeia.errors import PeerError, Refused

_VERSION_3: Final = 2
_MAXIMUM_SERIAL_OCTETS: Final = 21  # RFC 5280 4.1.2.2 says 20, and to be lenient: the original's have 21
_MAXIMUM_TBS_PARTS: Final = 10
_ALGORITHM_PLACE: Final = 2  # RFC 5280 4.1: behind version and serialNumber
_EMPTY_NAME: Final = b"\x30\x00"
_SAN: Final = x509.OID_SUBJECT_ALTERNATIVE_NAME

# What a subscriber's certificate may have at all; anything else is more than was asked for.
_EXPECTED_EXTENSIONS: Final = frozenset(
    {
        x509.OID_BASIC_CONSTRAINTS,
        x509.OID_SUBJECT_KEY_IDENTIFIER,
        x509.OID_AUTHORITY_KEY_IDENTIFIER,
        x509.OID_KEY_USAGE,
        x509.OID_EXTENDED_KEY_USAGE,
        x509.OID_AUTHORITY_INFORMATION_ACCESS,
        x509.OID_CRL_DISTRIBUTION_POINTS,
        x509.OID_CERTIFICATE_POLICIES,
        x509.OID_OCSP_NO_CHECK,
        _SAN,
    }
)
# BasicConstraints with cA FALSE, which is the default and left out (RFC 5280 4.2.1.9).
_NOT_A_CA: Final = b"\x30\x00"


@dataclass(frozen=True, kw_only=True, slots=True)
class TbsCertificate:
    """A TBSCertificate that was decoded strictly. Names, key and extension values stay DER."""

    serial_number: int
    algorithm: SignatureAlgorithm
    issuer: bytes
    not_before: dt.datetime
    not_after: dt.datetime
    subject: bytes
    subject_public_key_info: bytes
    extensions: tuple[tuple[x509.ObjectIdentifier, bool, bytes], ...]  # extnID, critical, extnValue


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedTbs:
    """A TBSCertificate (`octets`) that says what was asked of this sub-CA: what `check_tbs` found right."""

    octets: bytes
    says: TbsCertificate
    authority: Authority


@dataclass(frozen=True, kw_only=True, slots=True)
class IssuedCertificate:
    """A certificate (`der`) that was checked: its signature, and that it is exactly what was asked for."""

    der: bytes
    serial_number: int
    not_before: dt.datetime
    not_after: dt.datetime
    subject: str  # RFC 4514, for people
    algorithm: SignatureAlgorithm
    tbs_certificate: bytes


@asn1.sequence
class _Validity:
    not_before: asn1.UTCTime | asn1.GeneralizedTime
    not_after: asn1.UTCTime | asn1.GeneralizedTime


@asn1.sequence
class _Extension:
    extn_id: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    extn_value: bytes


@asn1.sequence
class _TbsCertificate:
    """RFC 5280 4.1, without the unique identifiers that nobody issues (4.1.2.8)."""

    version: Annotated[int, asn1.Explicit(0)]
    serial_number: int
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: _Validity
    subject: asn1.TLV
    subject_public_key_info: asn1.TLV
    extensions: Annotated[list[_Extension], asn1.Explicit(3)]


def assemble_tbs(approved: ApprovedRequest) -> bytes:
    """DER of the TBSCertificate for what was approved; the octets that the sub-CA's key will sign."""
    fixed = _fixed_extensions(approved.profile, approved.authority, approved.key_usage)
    key_identifier = der.encode(der.OCTET_STRING, approved.key.key_identifier)
    extensions = [_extension(x509.OID_SUBJECT_KEY_IDENTIFIER, key_identifier), *fixed]
    if approved.alt_names:
        # RFC 5280 4.2.1.6: critical when it is all that says who the subject is.
        critical = approved.subject == _EMPTY_NAME
        extensions.append(_extension(_SAN, _encode_alt_names(approved.alt_names), critical=critical))
    return asn1.encode_der(
        _TbsCertificate(
            version=_VERSION_3,
            serial_number=approved.serial_number,
            signature=_tlv(approved.algorithm.der),
            issuer=_tlv(approved.authority.subject),
            validity=_Validity(
                not_before=der.time(approved.validity.not_before), not_after=der.time(approved.validity.not_after)
            ),
            subject=_tlv(approved.subject),
            subject_public_key_info=_tlv(approved.key.subject_public_key_info),
            extensions=extensions,
        )
    )


def compose_certificate(tbs_certificate: bytes, signature: bytes) -> bytes:
    """DER of the Certificate; its outer algorithm is the inner one (RFC 5280 4.1.1.2). Raises PeerError."""
    parts = der.elements(der.content(tbs_certificate, der.SEQUENCE), at_most=_MAXIMUM_TBS_PARTS)
    if len(parts) <= _ALGORITHM_PLACE:
        raise PeerError("this is not a TBSCertificate")
    return der.encode_signed(tbs_certificate, parts[_ALGORITHM_PLACE][1], signature)


def split_certificate(certificate: bytes) -> tuple[bytes, bytes, bytes]:
    """TBSCertificate DER, outer AlgorithmIdentifier DER and signature; raises PeerError."""
    return der.split_signed(certificate)


def read_tbs(tbs_certificate: bytes) -> TbsCertificate:
    """Decode strictly; raises PeerError for anything that is not a v3 TBSCertificate as this software uses them."""
    try:
        tbs = asn1.decode_der(_TbsCertificate, tbs_certificate)
    except ValueError as error:
        raise PeerError(f"this is not a TBSCertificate: {error}") from error
    if tbs.version != _VERSION_3:
        raise PeerError(f"the certificate has version {tbs.version + 1}, not 3")
    if tbs.serial_number <= 0 or tbs.serial_number.bit_length() > 8 * _MAXIMUM_SERIAL_OCTETS:
        raise PeerError("the serial number is not positive, or too long")
    return TbsCertificate(
        serial_number=tbs.serial_number,
        algorithm=algorithms.algorithm_from_der(asn1.encode_der(tbs.signature)),
        issuer=asn1.encode_der(tbs.issuer),
        not_before=der.moment(tbs.validity.not_before),
        not_after=der.moment(tbs.validity.not_after),
        subject=asn1.encode_der(tbs.subject),
        subject_public_key_info=asn1.encode_der(tbs.subject_public_key_info),
        extensions=tuple((each.extn_id, each.critical, each.extn_value) for each in tbs.extensions),
    )


def check_tbs(
    tbs_certificate: bytes, *, request: CertificateRequest, subject_public_key_info: bytes, authority: Authority
) -> CheckedTbs:
    """Check that a TBSCertificate says what was asked for and nothing more; raises PeerError.

    The client does this before it lets the signer use the key. `subject_public_key_info` is that of the request's CSR
    or SPKAC, `authority` the sub-CA that the signer named. What only a profile knows (key usages, the longest validity)
    is the signer's word.
    """
    tbs = read_tbs(tbs_certificate)
    # 1. Whose certificate it is: the key, and every name that was asked for, in any order.
    if tbs.subject_public_key_info != subject_public_key_info:
        raise PeerError("the certificate is for another key than the request's")
    try:
        # Wire specification: version 1 drops an empty value.
        asked_subject = encode_subject(each for each in request.attributes if each.value)
        asked_alt_names = _encode_alt_names(request.alt_names) if request.alt_names else None
    except Refused as refusal:
        raise PeerError(f"no certificate carries the names that were asked for: {refusal.message}") from refusal
    if not _same_subject(tbs.subject, asked_subject):
        raise PeerError("the certificate's subject is not the one that was asked for")
    extensions = {extn_id: extn_value for extn_id, _, extn_value in tbs.extensions}
    if len(extensions) != len(tbs.extensions):
        raise PeerError("the certificate has an extension twice")  # RFC 5280 4.2
    if not _same_alt_names(extensions.get(_SAN), asked_alt_names):
        raise PeerError("the certificate's alternative names are not those that were asked for")
    # 2. Who issues it.
    if tbs.issuer != authority.subject:
        raise PeerError(f"the certificate's issuer is not {authority.name}")
    if request.ocsp_target_ca not in ("", authority.name):
        raise PeerError(f"the certificate is from {authority.name}, and was asked of {request.ocsp_target_ca}")
    # 3. What it may do: no extension that nobody asked for, and never a CA.
    for extn_id in extensions:
        if extn_id not in _EXPECTED_EXTENSIONS:
            raise PeerError(f"the certificate has an extension that nobody asked for: {extn_id.dotted_string}")
    if extensions.get(x509.OID_BASIC_CONSTRAINTS, _NOT_A_CA) != _NOT_A_CA:
        raise PeerError("the certificate is that of a CA")
    # 4. When: in order, and no longer than was asked for. (The original takes the end itself as the last instant.)
    if tbs.not_before >= tbs.not_after:
        raise PeerError("the certificate ends before it begins")
    begin, end = wished_begin(request.wish_from), wished_end(request.wish_to, begin=tbs.not_before)
    if (begin and tbs.not_before < begin) or (end and tbs.not_after > end):
        raise PeerError("the certificate's dates reach beyond those that were asked for")
    return CheckedTbs(octets=tbs_certificate, says=tbs, authority=authority)


def complete_certificate(checked: CheckedTbs, signature: bytes) -> IssuedCertificate:
    """Put the signature on what `check_tbs` has found right, if it is the sub-CA's; raises SignatureInvalid."""
    octets = der.encode_signed(checked.octets, checked.says.algorithm.der, signature)
    return _verified(octets, checked.says, checked.octets, signature, checked.authority)


def check_certificate(
    certificate_der: bytes, *, authority: Authority, request: CertificateRequest, subject_public_key_info: bytes
) -> IssuedCertificate:
    """Check an answer of the signer: `check_tbs`, and the sub-CA's signature; raises PeerError."""
    checked = check_tbs(
        split_certificate(certificate_der)[0],
        request=request,
        subject_public_key_info=subject_public_key_info,
        authority=authority,
    )
    return _check_signature(certificate_der, checked.says, authority)


def check_existing(certificate_der: bytes, *, authority: Authority) -> IssuedCertificate:
    """Check a certificate that exists, whoever asked for what: that the sub-CA has signed it; raises PeerError."""
    tbs = read_tbs(split_certificate(certificate_der)[0])
    if tbs.issuer != authority.subject:
        raise PeerError(f"the certificate's issuer is not {authority.name}")
    return _check_signature(certificate_der, tbs, authority)


def _check_signature(certificate_der: bytes, tbs: TbsCertificate, authority: Authority) -> IssuedCertificate:
    tbs_certificate, outer_algorithm, signature = split_certificate(certificate_der)
    if outer_algorithm != tbs.algorithm.der:
        raise PeerError("the certificate names two signature algorithms")  # RFC 5280 4.1.1.2
    return _verified(certificate_der, tbs, tbs_certificate, signature, authority)


def _verified(
    certificate_der: bytes, tbs: TbsCertificate, tbs_certificate: bytes, signature: bytes, authority: Authority
) -> IssuedCertificate:
    algorithms.verify(authority.public_key, tbs.algorithm, signature, tbs_certificate)
    return IssuedCertificate(
        der=certificate_der,
        serial_number=tbs.serial_number,
        not_before=tbs.not_before,
        not_after=tbs.not_after,
        subject=_subject_text(certificate_der),
        algorithm=tbs.algorithm,
        tbs_certificate=tbs_certificate,
    )


@functools.lru_cache(maxsize=1024)
def _fixed_extensions(profile: Profile, authority: Authority, key_usage: tuple[str, ...]) -> tuple[_Extension, ...]:
    """What is the same in every certificate of a profile, a sub-CA and a kind of key."""
    extensions = [
        _extension(x509.OID_BASIC_CONSTRAINTS, _NOT_A_CA, critical=True),
        _extension(
            x509.OID_AUTHORITY_KEY_IDENTIFIER,
            x509.AuthorityKeyIdentifier(authority.key_identifier, None, None).public_bytes(),
        ),
        _extension(x509.OID_KEY_USAGE, _encode_key_usage(key_usage), critical=True),
        _extension(
            x509.OID_EXTENDED_KEY_USAGE,
            x509.ExtendedKeyUsage(map(x509.ObjectIdentifier, profile.extended_key_usage)).public_bytes(),
        ),
    ]
    # RFC 5280 4.2.2.1; OCSP first, which is what most software tries first.
    access = [(x509.OID_OCSP, url) for url in authority.ocsp_urls if not profile.ocsp_no_check]
    access += [(x509.OID_CA_ISSUERS, url) for url in authority.issuer_urls]
    if access:
        descriptions = [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in access]
        extensions.append(
            _extension(
                x509.OID_AUTHORITY_INFORMATION_ACCESS, x509.AuthorityInformationAccess(descriptions).public_bytes()
            )
        )
    if authority.crl_urls and not profile.ocsp_no_check:
        # RFC 5280 4.2.1.13: one distribution point, several ways to reach it.
        point = x509.DistributionPoint(
            [x509.UniformResourceIdentifier(url) for url in authority.crl_urls], None, None, None
        )
        extensions.append(
            _extension(x509.OID_CRL_DISTRIBUTION_POINTS, x509.CRLDistributionPoints([point]).public_bytes())
        )
    if profile.policy_identifiers:
        # RFC 5280 4.2.1.4: the CPS pointer is the text qualifier, which is what a `str` stands for here.
        qualifiers: list[str | x509.UserNotice] | None = [profile.cps_uri] if profile.cps_uri else None
        policies = [
            x509.PolicyInformation(x509.ObjectIdentifier(each), qualifiers) for each in profile.policy_identifiers
        ]
        extensions.append(_extension(x509.OID_CERTIFICATE_POLICIES, x509.CertificatePolicies(policies).public_bytes()))
    if profile.ocsp_no_check:
        extensions.append(_extension(x509.OID_OCSP_NO_CHECK, x509.OCSPNoCheck().public_bytes()))
    return tuple(extensions)


def _encode_key_usage(key_usage: tuple[str, ...]) -> bytes:
    return x509.KeyUsage(
        digital_signature="digitalSignature" in key_usage,
        content_commitment="nonRepudiation" in key_usage,
        key_encipherment="keyEncipherment" in key_usage,
        data_encipherment="dataEncipherment" in key_usage,
        key_agreement="keyAgreement" in key_usage,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    ).public_bytes()


def _extension(extn_id: x509.ObjectIdentifier, extn_value: bytes, *, critical: bool = False) -> _Extension:
    return _Extension(extn_id=extn_id, critical=critical, extn_value=extn_value)


def _tlv(octets: bytes) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, octets)


def _encode_alt_names(alt_names: tuple[SubjectAltName, ...]) -> bytes:
    return x509.SubjectAlternativeName([general_name(each) for each in alt_names]).public_bytes()


@asn1.sequence
class _AttributeTypeAndValue:
    type: x509.ObjectIdentifier
    value: str | asn1.PrintableString | asn1.IA5String


@asn1.sequence
class _NameInASequence:
    """A Name (RFC 5280 4.1.2.4), for which `hazmat.asn1` needs a sequence around it."""

    name: list[asn1.SetOf[_AttributeTypeAndValue]]


def _same_subject(subject: bytes, asked: bytes) -> bool:
    """Whether a Name has the attributes that were asked for; another signer may order and type them otherwise."""
    return subject == asked or _attributes(subject) == _attributes(asked)


def _attributes(name: bytes) -> list[tuple[str, str]]:
    try:
        relative_names = asn1.decode_der(_NameInASequence, der.encode(der.SEQUENCE, name)).name
    except ValueError as error:
        raise PeerError(f"a name cannot be read: {error}") from error
    return sorted(
        (
            attribute.type.dotted_string,
            attribute.value if isinstance(attribute.value, str) else attribute.value.as_str(),
        )
        for relative_name in relative_names
        for attribute in relative_name.as_list()
    )


def _same_alt_names(extn_value: bytes | None, asked: bytes | None) -> bool:
    """Whether a SubjectAltName, or its absence, has the names that were asked for, in any order."""
    if extn_value is None or asked is None:
        return extn_value is asked
    return extn_value == asked or _general_names(extn_value) == _general_names(asked)


def _general_names(extn_value: bytes) -> list[tuple[int, bytes]]:
    return sorted(der.elements(der.content(extn_value, der.SEQUENCE), at_most=1000))


def _subject_text(certificate_der: bytes) -> str:
    # What `check_tbs` found equal to the names of the request can be read.
    return x509.load_der_x509_certificate(certificate_der).subject.rfc4514_string({x509.OID_EMAIL_ADDRESS: "EMAIL"})
