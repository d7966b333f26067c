"""Extensions in the signer's own lint (RFC 5280 4.2): exactly those that profile, sub-CA and request ask for.

Owns the content of every extension but the alternative names (`lint_names`), and which of them are critical. Written
anew: it shares no table and no encoder with `certificate` and `policy`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cassiopeia.core import lint_der
from cassiopeia.core.lint_der import (
    BIT_STRING,
    BOOLEAN,
    IA5_STRING,
    NULL,
    OCTET_STRING,
    SEQUENCE,
    Reader,
)
from cassiopeia.core.lint_names import lint_alt_names
from cassiopeia.core.lint_rules import find
from cassiopeia.core.policy import ApprovedRequest

_SUBJECT_KEY_IDENTIFIER: Final = "2.5.29.14"
_KEY_USAGE: Final = "2.5.29.15"
_SUBJECT_ALT_NAME: Final = "2.5.29.17"
_BASIC_CONSTRAINTS: Final = "2.5.29.19"
_CRL_DISTRIBUTION_POINTS: Final = "2.5.29.31"
_CERTIFICATE_POLICIES: Final = "2.5.29.32"
_AUTHORITY_KEY_IDENTIFIER: Final = "2.5.29.35"
_EXTENDED_KEY_USAGE: Final = "2.5.29.37"
_AUTHORITY_INFORMATION_ACCESS: Final = "1.3.6.1.5.5.7.1.1"
_OCSP_NOCHECK: Final = "1.3.6.1.5.5.7.48.1.5"
_ALWAYS: Final = frozenset(
    {_SUBJECT_KEY_IDENTIFIER, _KEY_USAGE, _BASIC_CONSTRAINTS, _AUTHORITY_KEY_IDENTIFIER, _EXTENDED_KEY_USAGE}
)

_ACCESS_BY_OCSP: Final = "1.3.6.1.5.5.7.48.1"
_ACCESS_BY_CA_ISSUERS: Final = "1.3.6.1.5.5.7.48.2"
_CPS_POINTER: Final = "1.3.6.1.5.5.7.2.1"
# Tags of a choice in GeneralName, DistributionPoint and AuthorityKeyIdentifier (RFC 5280 A.2).
_URI: Final = 0x86
# RFC 3986 3: a scheme and a host, which may be missing behind ldap:// (RFC 4516 2).
_URL: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*://[A-Za-z0-9\[]|ldaps?:///)[!#-;=?-\[\]_a-z~]*")
_DISTRIBUTION_POINT_NAME: Final = 0xA0
_FULL_NAME: Final = 0xA0
_KEY_IDENTIFIER: Final = 0x80

_SIGNATURE: Final = "digitalSignature"
_COMMITMENT: Final = "nonRepudiation"
_ENCIPHERMENT: Final = "keyEncipherment"
_AGREEMENT: Final = "keyAgreement"
# RFC 5280 4.2.1.3: the named bits in their order.
_USAGES: Final = (
    _SIGNATURE,
    _COMMITMENT,
    _ENCIPHERMENT,
    "dataEncipherment",
    _AGREEMENT,
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
)
# What a kind of key can do: RFC 3279 2.3.1, RFC 5480 3, RFC 8410 5, RFC 9881 5.
_POSSIBLE: Final = {
    "RSA": {_SIGNATURE, _COMMITMENT, _ENCIPHERMENT, "dataEncipherment"},
    "EC": {_SIGNATURE, _COMMITMENT, _AGREEMENT},
    "signature": {_SIGNATURE, _COMMITMENT},
}
# RFC 5280 4.2.1.12: "key usage bits that may be consistent" with the purposes that it defines.
_CONSISTENT: Final = {
    "1.3.6.1.5.5.7.3.1": {_SIGNATURE, _ENCIPHERMENT, _AGREEMENT},  # serverAuth
    "1.3.6.1.5.5.7.3.2": {_SIGNATURE, _AGREEMENT},  # clientAuth
    "1.3.6.1.5.5.7.3.3": {_SIGNATURE},  # codeSigning
    "1.3.6.1.5.5.7.3.4": {_SIGNATURE, _COMMITMENT, _ENCIPHERMENT, _AGREEMENT},  # emailProtection
    "1.3.6.1.5.5.7.3.8": {_SIGNATURE, _COMMITMENT},  # timeStamping
    "1.3.6.1.5.5.7.3.9": {_SIGNATURE, _COMMITMENT},  # OCSPSigning
}


@dataclass(frozen=True, kw_only=True, slots=True)
class LintedKey:
    """What the extensions need to know of the subject's key: RSA, EC or signature (for nothing else), and its bits."""

    kind: str
    bits: bytes


def lint_extensions(
    extensions: Reader, approved: ApprovedRequest, key: LintedKey, *, subject_is_empty: bool
) -> tuple[tuple[str, str | bytes], ...]:
    """The alternative names, which may be none at all."""
    # 1. Which there are, in any order: exactly those that belong there.
    found: dict[str, tuple[bool, bytes]] = {}
    while extensions.more:
        identifier, critical, contents = _extension(extensions.constructed(SEQUENCE, "an extension"))
        if identifier in found:
            find("extension-repeated", f"{identifier} is there twice")
        found[identifier] = critical, contents
    expected = _expected(approved)
    if missing := expected - found.keys():
        find("extension-missing", f"{', '.join(sorted(missing))} is not there")
    if surplus := found.keys() - expected:
        find("extension-surplus", f"{', '.join(sorted(surplus))} is there")
    # 2. Which are critical. RFC 5280 4.2.1.6: the alternative names, when they are all that says who the subject is.
    is_critical = {_BASIC_CONSTRAINTS, _KEY_USAGE} | ({_SUBJECT_ALT_NAME} if subject_is_empty else set())
    for identifier, (critical, _) in found.items():
        if critical != (identifier in is_critical):
            find("extension-critical", f"{identifier} is {'' if critical else 'not '}critical")
    # 3. What they say.
    alt_names: tuple[tuple[str, str | bytes], ...] = ()
    for identifier, (_, contents) in found.items():
        value = Reader(contents)
        if identifier == _SUBJECT_ALT_NAME:
            alt_names = lint_alt_names(value.constructed(SEQUENCE, "the alternative names"), approved)
        else:
            _lint_value(identifier, value, approved, key)
        value.finish(f"the extension {identifier}")
    return alt_names


def _lint_value(identifier: str, value: Reader, approved: ApprovedRequest, key: LintedKey) -> None:
    if identifier == _SUBJECT_KEY_IDENTIFIER:
        _lint_subject_key_identifier(value, key)
    elif identifier == _KEY_USAGE:
        _lint_key_usage(value, approved, key)
    elif identifier == _BASIC_CONSTRAINTS:
        _lint_basic_constraints(value)
    elif identifier == _AUTHORITY_KEY_IDENTIFIER:
        _lint_authority_key_identifier(value, approved)
    elif identifier == _EXTENDED_KEY_USAGE:
        _lint_extended_key_usage(value, approved)
    elif identifier == _AUTHORITY_INFORMATION_ACCESS:
        _lint_information_access(value, approved)
    elif identifier == _CRL_DISTRIBUTION_POINTS:
        _lint_distribution_points(value, approved)
    elif identifier == _CERTIFICATE_POLICIES:
        _lint_policies(value, approved)
    else:  # of those that are expected, one is left
        _lint_nocheck(value)


def _expected(approved: ApprovedRequest) -> set[str]:
    profile, authority = approved.profile, approved.authority
    expected = set(_ALWAYS)
    if approved.request.alt_names:
        expected.add(_SUBJECT_ALT_NAME)
    if profile.policy_identifiers:
        expected.add(_CERTIFICATE_POLICIES)
    if profile.ocsp_no_check:
        # RFC 6960 4.2.2.2.1: nobody is to ask whether this certificate is revoked.
        expected.add(_OCSP_NOCHECK)
    elif authority.crl_urls:
        expected.add(_CRL_DISTRIBUTION_POINTS)
    if authority.issuer_urls or (authority.ocsp_urls and not profile.ocsp_no_check):
        expected.add(_AUTHORITY_INFORMATION_ACCESS)
    return expected


def _extension(extension: Reader) -> tuple[str, bool, bytes]:
    identifier = extension.object_identifier("an extension's identifier")
    critical = False
    if extension.next_tag == BOOLEAN:
        critical = lint_der.boolean(extension.primitive(BOOLEAN, "critical"), "critical")
        if not critical:
            find("der-default", f"{identifier} says that it is not critical")
    contents = extension.primitive(OCTET_STRING, "an extension's value")
    extension.finish("an extension")
    return identifier, critical, contents


def _lint_subject_key_identifier(value: Reader, key: LintedKey) -> None:
    identifier = value.primitive(OCTET_STRING, "the subject key identifier")
    if identifier != hashlib.sha1(key.bits, usedforsecurity=False).digest():  # RFC 5280 4.2.1.2 (1)
        find("subject-key-identifier", f"it is {identifier.hex()[:80]}")


def _lint_authority_key_identifier(value: Reader, approved: ApprovedRequest) -> None:
    sequence = value.constructed(SEQUENCE, "the authority key identifier")
    # RFC 5280 4.2.1.1: keyIdentifier must be there; authorityCertIssuer and its serial number need not.
    if sequence.next_tag != _KEY_IDENTIFIER:
        find("authority-key-identifier", "it has no key identifier")
    identifier = sequence.primitive(_KEY_IDENTIFIER, "the authority key identifier")
    if identifier != approved.authority.key_identifier or sequence.more:
        find("authority-key-identifier", f"it is {identifier.hex()[:80]}{' and more' if sequence.more else ''}")


def _lint_basic_constraints(value: Reader) -> None:
    sequence = value.constructed(SEQUENCE, "the basic constraints")
    if not sequence.more:
        return
    # A path length is for CAs.
    if sequence.next_tag == BOOLEAN and not lint_der.boolean(sequence.primitive(BOOLEAN, "cA"), "cA"):
        find("der-default", "the basic constraints say that cA is FALSE")
    find("basic-constraints", "they say more than that the subject is not a CA")


def _lint_key_usage(value: Reader, approved: ApprovedRequest, key: LintedKey) -> None:
    places = lint_der.named_bits(value.primitive(BIT_STRING, "the key usage"), "the key usage")
    if places and places[-1] >= len(_USAGES):
        find("key-usage", f"it has the bit {places[-1]}, which means nothing")
    usages = [_USAGES[place] for place in places]
    profile = approved.profile
    if set(usages) != _POSSIBLE[key.kind].intersection(profile.key_usage) or not usages:
        find("key-usage", f"a key of the kind {key.kind} has {', '.join(usages) or 'none'}")
    purposes = profile.extended_key_usage
    if all(each in _CONSISTENT and _CONSISTENT[each].isdisjoint(usages) for each in purposes):
        find("purpose", f"{', '.join(purposes)} cannot be done with {', '.join(usages)}")


def _lint_extended_key_usage(value: Reader, approved: ApprovedRequest) -> None:
    sequence = value.constructed(SEQUENCE, "the extended key usage")
    purposes: list[str] = []
    while sequence.more:
        purposes.append(sequence.object_identifier("a purpose"))
    if sorted(purposes) != sorted(approved.profile.extended_key_usage) or not purposes:
        find("extended-key-usage", f"it is {', '.join(purposes) or 'empty'}")


def _lint_information_access(value: Reader, approved: ApprovedRequest) -> None:
    sequence = value.constructed(SEQUENCE, "the authority information access")
    found: list[tuple[str, str]] = []
    while sequence.more:
        description = sequence.constructed(SEQUENCE, "an access description")
        method = description.object_identifier("an access method")
        found.append((method, _uri(description, "an access location")))
        description.finish("an access description")
    authority = approved.authority
    ocsp_urls = () if approved.profile.ocsp_no_check else authority.ocsp_urls
    expected = [(_ACCESS_BY_OCSP, url) for url in ocsp_urls]
    expected += [(_ACCESS_BY_CA_ISSUERS, url) for url in authority.issuer_urls]
    if found != expected:
        find("authority-information-access", f"it is {found!a}"[:200])


def _lint_distribution_points(value: Reader, approved: ApprovedRequest) -> None:
    points = value.constructed(SEQUENCE, "the CRL distribution points")
    # RFC 5280 4.2.1.13: one point with several ways to reach it; without reasons and issuer, it is the whole CRL.
    point = points.constructed(SEQUENCE, "a CRL distribution point")
    name = point.constructed(_DISTRIBUTION_POINT_NAME, "the name of a CRL distribution point")
    ways = name.constructed(_FULL_NAME, "the full name of a CRL distribution point")
    urls: list[str] = []
    while ways.more:
        urls.append(_uri(ways, "the URL of a CRL"))
    if tuple(urls) != approved.authority.crl_urls or name.more or point.more or points.more:
        find("crl-distribution-points", f"they are {urls!a}"[:200])


def _lint_policies(value: Reader, approved: ApprovedRequest) -> None:
    sequence = value.constructed(SEQUENCE, "the certificate policies")
    found: list[tuple[str, str]] = []
    while sequence.more:
        policy = sequence.constructed(SEQUENCE, "a policy")
        identifier = policy.object_identifier("a policy's identifier")
        found.append((identifier, _practice_statement(policy) if policy.more else ""))
        policy.finish("a policy")
    profile = approved.profile
    # RFC 5280 4.2.1.4: no policy is there twice.
    if found != [(each, profile.cps_uri) for each in profile.policy_identifiers] or len(found) != len(dict(found)):
        find("certificate-policies", f"they are {found!a}"[:200])


def _practice_statement(policy: Reader) -> str:
    qualifiers = policy.constructed(SEQUENCE, "a policy's qualifiers")
    qualifier = qualifiers.constructed(SEQUENCE, "a policy's qualifier")
    identifier = qualifier.object_identifier("a qualifier's identifier")
    if identifier != _CPS_POINTER:
        find("certificate-policies", f"there is a qualifier {identifier}")
    uri = lint_der.text(IA5_STRING, qualifier.primitive(IA5_STRING, "a CPS URI"), "a CPS URI")
    qualifier.finish("a policy's qualifier")
    qualifiers.finish("a policy's qualifiers")
    return _check_url(uri, "a CPS URI")


def _lint_nocheck(value: Reader) -> None:
    if value.next_tag != NULL or value.primitive(NULL, "the NULL of OCSP nocheck"):
        find("ocsp-nocheck", "it is something else")


def _uri(reader: Reader, what: str) -> str:
    return _check_url(lint_der.text(IA5_STRING, reader.primitive(_URI, what), what), what)


def _check_url(url: str, what: str) -> str:
    if not _URL.fullmatch(url):
        find("url-syntax", f"{what} is {url[:100]!a}")
    return url
