"""The rules of the signer's own lint: the stable name of each finding, where the rule comes from, and what it demands.

Owns the names, which logs, alarms and docs/certificates.md use; the checks stand in the other `lint` modules. "BR" are
the CA/Browser Forum's Baseline Requirements, "profile", "sub-CA" and "request" what this very certificate was approved
by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

from cassiopeia.errors import Unavailable

CODE: Final = "lint-finding"
_RETRY_AFTER_S: Final = 900

RULES: Final[Mapping[str, tuple[str, str]]] = {
    # The encoding.
    "der-truncated": ("X.690 8.1", "every element ends within the one that holds it"),
    "der-surplus": ("X.690 8.1", "nothing stands behind the last element of any other"),
    "der-tag": ("RFC 5280 A.1", "every element has the tag that the ASN.1 module gives it, and none is missing"),
    "der-length": ("X.690 10.1", "lengths are definite, in the fewest octets"),
    "der-boolean": ("X.690 11.1", "TRUE is FF, FALSE is 00"),
    "der-default": ("X.690 11.5", "a value that is the default is left out"),
    "der-integer": ("X.690 8.3.2", "integers have the fewest octets"),
    "der-bit-string": ("X.690 11.2", "unused bits are zero; lists of named bits have no zeros at their end"),
    "der-object-identifier": ("X.690 8.19", "each arc is whole, in the fewest octets"),
    "der-set-order": ("X.690 11.6", "the elements of a SET OF are in ascending order"),
    "der-string": ("X.680 41", "a string holds only characters of its type"),
    "der-time": ("X.690 11.7, 11.8", "times are in UTC, written with Z, in whole seconds, and exist"),
    # The fields.
    "version": ("RFC 5280 4.1.2.1", "the version is 3"),
    "serial-length": ("RFC 5280 4.1.2.2, ADR 4", "the serial number is positive and has 16 octets"),
    "serial-signer": ("ADR 4", "its first octet is the signer's id"),
    "serial-random": ("ADR 4, BR 7.1", "the other 15 look like random numbers: not alike, not counted, not one-sided"),
    "serial-approved": ("ADR 4", "it is the number that was drawn for this request"),
    "signature-algorithm": ("RFC 5280 4.1.2.3", "the algorithm is one of the sub-CA's key, with exact parameters"),
    "signature-wish": ("request", "an RSA sub-CA uses the hash that was wished for, and PSS where the sub-CA says so"),
    "issuer": ("RFC 5280 4.1.2.4", "the issuer is the sub-CA's subject, octet for octet"),
    "issuer-choice": ("profile, request", "the sub-CA is this signer's, and of the profile's family or the one named"),
    "time-type": ("RFC 5280 4.1.2.5", "UTCTime through 2049, GeneralizedTime from 2050"),
    "validity-order": ("RFC 5280 4.1.2.5", "notBefore is not behind notAfter"),
    "validity-begin": ("request", "notBefore is now, or the first instant of the wished day"),
    "validity-ahead": ("profile", "notBefore is no further ahead than the profile allows"),
    "validity-wish": ("request", "notAfter is before the end that was wished for"),
    "validity-profile": ("profile", "the validity, its last second included, is at most the profile's maximum"),
    "validity-authority": ("sub-CA", "the certificate is valid only while its sub-CA is"),
    "validity-end": ("request, profile", "notAfter is not before the last second that was wished for and allowed"),
    "subject-relative-name": ("docs/certificates.md", "each attribute stands in a relative name of its own"),
    "subject-attribute": ("docs/certificates.md", "attributes are C, ST, L, O, OU, CN, EMAIL; only OU is repeated"),
    "subject-order": ("docs/certificates.md", "they stand in that order"),
    "subject-string-type": ("RFC 5280 4.1.2.4, A.1", "C is PrintableString, EMAIL IA5String, the others UTF8String"),
    "subject-bound": ("RFC 5280 A.1", "no value is empty or longer than its upper bound; C has two letters"),
    "subject-asked": ("request", "the subject is the one that was asked for"),
    "subject-profile": ("profile", "what the profile requires is there, and what it forbids is not"),
    "subject-email": ("RFC 5280 4.1.2.6", "an address in the subject is an alternative name, too"),
    "subject-server": ("BR 7.1.4.3", "the CN of a server is one of its alternative names"),
    "nobody": ("RFC 5280 4.1.2.6", "subject and alternative names are not both empty"),
    "key-encoding": (
        "RFC 3279 2.3.1, 5480 2, 8410 4, 9881 4",
        "the key is written as its kind demands: parameters, point, length",
    ),
    "key-asked": ("request", "the key is the request's, octet for octet"),
    "unique-identifier": ("RFC 5280 4.1.2.8", "there are no unique identifiers"),
    # The extensions.
    "extension-repeated": ("RFC 5280 4.2", "no extension is there twice"),
    "extension-missing": ("profile, sub-CA, request", "every extension that belongs there is there"),
    "extension-surplus": ("profile, sub-CA, request", "no other is"),
    "extension-critical": ("RFC 5280 4.2.1, 4.2.2", "exactly those are critical that the table above says"),
    "subject-key-identifier": ("RFC 5280 4.2.1.2", "it is SHA-1 of the key's bits"),
    "authority-key-identifier": ("RFC 5280 4.2.1.1", "it is the sub-CA's key identifier, and nothing else"),
    "basic-constraints": ("RFC 5280 4.2.1.9", "the subject is not a CA"),
    "key-usage": ("RFC 5280 4.2.1.3, profile", "it is the profile's, as far as this kind of key can do it"),
    "extended-key-usage": ("RFC 5280 4.2.1.12, profile", "the purposes are the profile's"),
    "purpose": ("RFC 5280 4.2.1.12", "at least one purpose is possible with the key usages that are left"),
    "authority-information-access": ("RFC 5280 4.2.2.1, sub-CA", "it has the sub-CA's URLs: OCSP, then caIssuers"),
    "crl-distribution-points": ("RFC 5280 4.2.1.13, sub-CA", "it has one point, with the sub-CA's URLs"),
    "certificate-policies": (
        "RFC 5280 4.2.1.4, profile",
        "the policies are the profile's, each once, with its CPS URI",
    ),
    "url-syntax": ("RFC 5280 4.2.1.6", "URLs in them are complete: a scheme, a host, no blanks"),
    "ocsp-nocheck": ("RFC 6960 4.2.2.2.1", "its value is NULL"),
    "alt-name-type": ("docs/certificates.md", "alternative names are DNS, email, IP and URI"),
    "alt-name-syntax": ("RFC 5280 4.2.1.6", "each has the form of its type"),
    "alt-names-asked": ("request", "they are those that were asked for, in their order"),
    "alt-names-profile": ("profile", "the profile allows their types, their number and wildcards, and misses none"),
}


class LintFinding(Unavailable):
    """The signer's own lint found something in what it was about to sign; `name` is one of `RULES`.

    It is our own fault, or that of the configuration: nothing is signed, and nothing is held against the request.
    """

    def __init__(self, name: str, found: str) -> None:
        source, demands = RULES[name]
        super().__init__(
            f"the signer's own lint stopped this certificate: {name}: {found} ({source}: {demands}). Nothing was"
            " signed, and the signer's operators have to look at it.",
            code=CODE,
            retry_after_s=_RETRY_AFTER_S,
        )
        self.name = name
        self.found = found


def find(name: str, found: str) -> NoReturn:
    """Report what was found against the rule of this name."""
    raise LintFinding(name, found)
