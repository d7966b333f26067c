"""Names as certificates carry them: subject attributes and subject alternative names, checked and encoded.

Owns the rules of RFC 5280 4.1.2.4 (subject), 4.2.1.6 (alternative names) and appendix A.1 (upper bounds). Names arrive
in their final form: domain names as A-labels (RFC 5890), text in NFC. This module changes no name and maps nothing
(`idn` does that where names are submitted); a name that is not already right is refused.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Final, NoReturn

from cryptography import x509

from cassiopeia.core import der
from cassiopeia.core.request import SubjectAltName, SubjectAttribute
from cassiopeia.errors import Refused

_PRINTABLE_STRING: Final = 0x13
_IA5_STRING: Final = 0x16
_UTF8_STRING: Final = 0x0C
_SET: Final = 0x31

# From the widest to the narrowest, which is the order of the encoded name. DER of the attribute's object identifier and
# its string type: RFC 5280 appendix A.1; since 4.1.2.4 a DirectoryString is UTF8String.
_ATTRIBUTES: Final = {
    "C": (bytes.fromhex("0603550406"), _PRINTABLE_STRING),
    "ST": (bytes.fromhex("0603550408"), _UTF8_STRING),
    "L": (bytes.fromhex("0603550407"), _UTF8_STRING),
    "O": (bytes.fromhex("060355040a"), _UTF8_STRING),
    "OU": (bytes.fromhex("060355040b"), _UTF8_STRING),
    "CN": (bytes.fromhex("0603550403"), _UTF8_STRING),
    "EMAIL": (bytes.fromhex("06092a864886f70d010901"), _IA5_STRING),
}
_ORDER: Final = {attribute_type: place for place, attribute_type in enumerate(_ATTRIBUTES)}
_UPPER_BOUNDS: Final = {"ST": 128, "L": 128, "O": 64, "OU": 64, "CN": 64}  # in characters
MAXIMUM_ATTRIBUTES: Final = 16

MAXIMUM_LABEL_OCTETS: Final = 63  # RFC 1035 2.3.4
MAXIMUM_DOMAIN_OCTETS: Final = 253  # RFC 1035 2.3.4: 255 on the wire
MAXIMUM_EMAIL_OCTETS: Final = 254  # RFC 5321 4.5.3.1.3, without the angle brackets
MAXIMUM_LOCAL_PART_OCTETS: Final = 64  # RFC 5321 4.5.3.1.1
MAXIMUM_URI_OCTETS: Final = 1024

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")  # RFC 1123 2.1, RFC 5890 2.3.1
# A last label that makes readers see an IPv4 address: decimal or hexadecimal (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")  # RFC 5322 3.2.3
_URI = re.compile(r"(?P<scheme>[^:/?#]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)  # RFC 3986 appendix B
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f]*:[0-9a-f:.]*\]|[^:\[\]]*)(?::(?P<port>.*))?", re.DOTALL)
_URI_REST = re.compile(
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*(?:#(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?"
)
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_MAXIMUM_PORT: Final = 65535
_URI_SCHEMES: Final = ("http", "https", "ldap", "ldaps")

# Unicode general categories that no text of a name carries.
_FORBIDDEN_CATEGORIES: Final = {
    "Cc": "a control character",
    "Cf": "an invisible formatting character",
    "Cs": "half of a surrogate pair",
    "Co": "a private-use character",
    "Cn": "a character that Unicode has not assigned",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
    "Zs": "a blank that is not the plain space",
}
# Letters, marks and symbols that show nothing (Unicode Default_Ignorable_Code_Point, the empty Braille pattern), and
# the mark of a broken conversion.
_INVISIBLE: Final = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0\ufffd"
    + "".join(map(chr, range(0xFE00, 0xFE10)))
    + "".join(map(chr, range(0xE0100, 0xE01F0)))
)
_JOINERS: Final = frozenset("\u200c\u200d")  # RFC 5892 appendix A.1, A.2: some scripts are not written without them
# RFC 5892: the lower-case letters, marks and digits of a U-label, and the exceptions of its section 2.6 and appendix A.
_LABEL_CATEGORIES: Final = frozenset({"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"})
_LABEL_EXCEPTIONS: Final = frozenset("-\u00b7\u0375\u05f3\u05f4\u06fd\u06fe\u0f0b\u3007\u30fb")


def check_attribute(attribute: SubjectAttribute) -> None:
    """Check one attribute of the subject; raises Refused."""
    attribute_type, value = attribute.type, attribute.value
    if attribute_type not in _ATTRIBUTES:
        raise Refused(
            f"The subject attribute {_shown(attribute_type)} is not known; use {', '.join(_ATTRIBUTES)}.",
            code="attribute-unknown",
        )
    if attribute_type == "C":
        # X.520 6.3.1 wants ISO 3166; only its shape is checked, because which codes are in use changes with politics.
        if not re.fullmatch(r"[A-Z]{2}", value):
            raise Refused(
                f"The country {_shown(value)} is not two capital letters; use the ISO 3166 code, as DE or NL.",
                code="country-invalid",
                field="C",
            )
    elif attribute_type == "EMAIL":
        _check_email(value, field="EMAIL")
    else:
        _check_text(value, attribute_type)


def encode_subject(attributes: Iterable[SubjectAttribute]) -> bytes:
    """DER Name: each attribute an RDN of its own, in the order C, ST, L, O, OU, CN, EMAIL; raises Refused.

    Only OU may be repeated; repeated ones keep their order.
    """
    given = tuple(attributes)
    if len(given) > MAXIMUM_ATTRIBUTES:
        raise Refused(
            f"The subject has {len(given)} attributes; name at most {MAXIMUM_ATTRIBUTES}.", code="too-many-attributes"
        )
    for attribute in given:
        check_attribute(attribute)
    for attribute_type, times in Counter(attribute.type for attribute in given).items():
        if times > 1 and attribute_type != "OU":
            raise Refused(
                f"The subject names {attribute_type} {times} times; name it once.",
                code="attribute-repeated",
                field=attribute_type,
            )
    ordered = sorted(given, key=lambda attribute: _ORDER[attribute.type])
    return der.encode(der.SEQUENCE, b"".join(_encode_attribute(attribute) for attribute in ordered))


def check_alt_name(alt_name: SubjectAltName) -> None:
    """Check one subject alternative name; raises Refused. Whether wildcards are allowed is the profile's word."""
    general_name(alt_name)


def general_name(alt_name: SubjectAltName) -> x509.GeneralName:
    """Check one subject alternative name and give it as a GeneralName (RFC 5280 4.2.1.6); raises Refused."""
    value = alt_name.value
    match alt_name.type:
        case "DNS":
            _check_dns(value)
            return x509.DNSName(value)
        case "email":
            _check_email(value, field="email")
            return x509.RFC822Name(value)
        case "IP":
            return x509.IPAddress(_parse_address(value, value, "IP address", "IP"))
        case "URI":
            _check_uri(value)
            return x509.UniformResourceIdentifier(value)
        case _:
            raise Refused(
                f"The name type {_shown(alt_name.type)} is not known; use DNS, email, IP or URI.",
                code="alt-name-unknown",
            )


def _encode_attribute(attribute: SubjectAttribute) -> bytes:
    identifier, string_type = _ATTRIBUTES[attribute.type]
    return der.encode(_SET, der.encode(der.SEQUENCE, identifier + der.encode(string_type, attribute.value.encode())))


def _check_text(text: str, field: str) -> None:
    """Free text of a subject: visible, assigned, normalised characters within the upper bound."""

    def refuse(reason: str, code: str) -> NoReturn:
        raise Refused(f"{field} {_shown(text)} {reason}.", code=code, field=field)

    if not text:
        refuse("is empty; leave it out or fill it in", "name-empty")
    if len(text) > _UPPER_BOUNDS[field]:
        refuse(f"is longer than {_UPPER_BOUNDS[field]} characters; shorten it", "name-too-long")
    if text.strip(" ") != text:
        refuse("begins or ends with a blank; remove it", "name-blank")
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        if character == " " or (character in _JOINERS and _joins(text, place)):
            continue
        if category in _FORBIDDEN_CATEGORIES or character in _INVISIBLE:
            what = _FORBIDDEN_CATEGORIES.get(category, "an invisible character")
            refuse(f"contains {what} (U+{ord(character):04X}); remove it and type the name anew", "name-character")
    if unicodedata.combining(text[0]):
        refuse("begins with a mark that belongs on a letter; write the letter before it", "name-character")
    if not unicodedata.is_normalized("NFC", text):
        refuse(
            "is not in Unicode normal form C; type each letter and its accent as one character",
            "name-not-normal",
        )


def _joins(text: str, place: int) -> bool:
    """Whether a joiner stands between letters or marks of a script beyond ASCII, the only place where it shows."""
    around = text[place - 1 : place] + text[place + 1 : place + 2]
    return len(around) == 2 and all(  # noqa: PLR2004 - one on each side
        not each.isascii() and unicodedata.category(each)[0] in "LM" for each in around
    )


def _check_dns(name: str) -> None:
    domain = name.removeprefix("*.")
    if len(name) > MAXIMUM_DOMAIN_OCTETS >= len(domain):  # no name below such a domain is short enough
        _refuse("DNS name", name, f"is longer than {MAXIMUM_DOMAIN_OCTETS} octets; shorten it", "DNS")
    if "*" in domain:
        _refuse("DNS name", name, "has a * that is not the whole first label; write *.example.org", "DNS")
    _check_domain(domain, "DNS name", name, "DNS")


def _check_domain(domain: str, what: str, whole: str, field: str) -> None:
    """Check a domain name in A-labels within the name `whole`, which messages show as a `what`."""
    # 1. The whole: RFC 1123 2.1.
    if not domain:
        _refuse(what, whole, "has no domain; write it out, as example.org", field)
    if len(domain) > MAXIMUM_DOMAIN_OCTETS:
        _refuse(what, whole, f"has a domain longer than {MAXIMUM_DOMAIN_OCTETS} octets; shorten it", field)
    if not domain.isascii():
        _refuse(what, whole, "has letters outside ASCII; write the domain as A-labels, as xn--bcher-kva.example", field)
    if domain != domain.lower():
        _refuse(what, whole, "has capital letters in its domain; write it in lower case", field)
    if domain.endswith("."):
        _refuse(what, whole, "ends with a dot; leave the last dot out", field)
    labels = domain.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        _refuse(what, whole, "ends in a number; use the type IP for an address, and else a domain name", field)
    if len(labels) == 1:
        _refuse(what, whole, "is a single label; write the full domain name, as www.example.org", field)
    # 2. Each label.
    for label in labels:
        if not label:
            _refuse(what, whole, "has two dots in a row or begins with one; write one dot between labels", field)
        if len(label) > MAXIMUM_LABEL_OCTETS:
            _refuse(what, whole, f"has a label longer than {MAXIMUM_LABEL_OCTETS} octets; shorten it", field)
        if not _LABEL.fullmatch(label):
            problem = f"has the label {_shown(label)}; use letters, digits and hyphens, no hyphen at either end"
            _refuse(what, whole, problem, field)
        if label[2:4] == "--":
            _check_reserved_label(label, what, whole, field)


def _check_reserved_label(label: str, what: str, whole: str, field: str) -> None:
    """RFC 5890 2.3.1: of the labels with hyphens in places three and four, only A-labels are in use."""
    if not label.startswith("xn--"):
        _refuse(what, whole, f"has the reserved label {_shown(label)}; only xn-- may stand before such a label", field)
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
        again = decoded.encode("punycode").decode("ascii")
    except UnicodeError:  # what does not decode, or decodes to half of a surrogate pair
        decoded, again = "", ""
    # RFC 5891 4.2.3.1, RFC 5892: the signer has no tables of IDNA, so that it judges coarsely what `idn` judged finely.
    sound = (
        f"xn--{again}" == label
        and unicodedata.is_normalized("NFKC", decoded)
        and not unicodedata.category(decoded[0]).startswith("M")
        and all(
            unicodedata.category(each) in _LABEL_CATEGORIES
            or (unicodedata.category(each) == "Lu" and each.casefold() == each)  # Cherokee, whose capitals came first
            or each in _LABEL_EXCEPTIONS
            or (each in _JOINERS and _joins(decoded, place))
            for place, each in enumerate(decoded)
        )
        and _INVISIBLE.isdisjoint(decoded)
    )
    if not sound:
        _refuse(
            what, whole, f"has the label {label}, which is no valid A-label; give the name as people write it", field
        )


def _check_email(address: str, *, field: str) -> None:
    """RFC 5280 4.2.1.6: a Mailbox of RFC 5321 4.1.2, here without quoted local parts, which mail loses on its way."""
    what = "e-mail address"
    if len(address) > MAXIMUM_EMAIL_OCTETS:
        _refuse(what, address, f"is longer than {MAXIMUM_EMAIL_OCTETS} octets; use a shorter one", field)
    local_part, at, domain = address.rpartition("@")
    if not at:
        _refuse(what, address, "has no @; write it as name@example.org", field)
    if local_part.startswith('"'):
        _refuse(what, address, "has a quoted name before the @; use an address without quotes", field)
    if not _DOT_ATOM.fullmatch(local_part) or len(local_part) > MAXIMUM_LOCAL_PART_OCTETS:
        problem = (
            f"has something else than ASCII letters, digits, signs and single dots before the @, or more than"
            f" {MAXIMUM_LOCAL_PART_OCTETS} of them; use another address of yours"
        )
        _refuse(what, address, problem, field)
    _check_domain(domain, what, address, field)


def _parse_address(text: str, whole: str, what: str, field: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """One address of one machine, in its canonical text (RFC 5952 for IPv6), within the name `whole`."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        problem = "has no valid address; write 192.0.2.1 or 2001:db8::1, without leading zeros or a mask"
        _refuse(what, whole, problem, field)
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        _refuse(what, whole, "has a zone, which means nothing to others; leave everything from the % on out", field)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        _refuse(what, whole, f"is an IPv4 address in disguise; write {address.ipv4_mapped}", field)
    if str(address) != text:
        _refuse(what, whole, f"is not in its canonical form; write {address}", field)
    if address.is_multicast or address.is_unspecified or (address.is_reserved and not address.is_loopback):
        _refuse(what, whole, "is multicast, unspecified or reserved; use the address of one machine", field)
    return address


def _check_uri(uri: str) -> None:
    """RFC 5280 4.2.1.6: absolute, with a scheme and a host; RFC 3986 for the rest."""
    what = "URI"
    if len(uri) > MAXIMUM_URI_OCTETS:
        _refuse(what, uri, f"is longer than {MAXIMUM_URI_OCTETS} octets; shorten it", "URI")
    parts = _URI.fullmatch(uri)
    if parts is None or parts["scheme"] not in _URI_SCHEMES:
        schemes = ", ".join(f"{scheme}://" for scheme in _URI_SCHEMES)
        _refuse(what, uri, f"does not begin with one of {schemes}; write it in full, as https://example.org/", "URI")
    if "@" in parts["authority"]:
        _refuse(what, uri, "names a user before the host; leave everything up to the @ out", "URI")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        _refuse(what, uri, "has no valid host; write it as https://example.org/ or https://[2001:db8::1]/", "URI")
    host, port = authority["host"], authority["port"]
    if port is not None and not (_PORT.fullmatch(port) and int(port) <= _MAXIMUM_PORT):
        _refuse(what, uri, "has an invalid port; give a number from 1 to 65535 or leave the colon out", "URI")
    if host.startswith("["):
        _parse_address(host[1:-1], uri, what, "URI")
    elif re.fullmatch(r"[0-9.]*[0-9]", host):
        _parse_address(host, uri, what, "URI")
    else:
        _check_domain(host, what, uri, "URI")
    if not _URI_REST.fullmatch(parts["rest"]):
        _refuse(what, uri, "has a character behind the host that a URI cannot have; percent-encode it", "URI")


_CODES: Final = {"DNS": "dns-name-invalid", "URI": "uri-invalid", "IP": "ip-invalid"}


def _refuse(what: str, value: str, reason: str, field: str) -> NoReturn:
    raise Refused(f"The {what} {_shown(value)} {reason}.", code=_CODES.get(field, "email-invalid"), field=field)


def _shown(value: str) -> str:
    """The value as a message may show it: bounded, and in ASCII, so that it cannot rearrange the sentence."""
    shown = ascii(value[:100])
    return shown if len(shown) <= 100 else f"{shown[:96]}...'"  # noqa: PLR2004 - what a message has room for
