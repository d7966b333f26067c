"""Names in the signer's own lint: subject (RFC 5280 4.1.2.4, 4.1.2.6) and alternative names (4.2.1.6).

Owns what they must look like, and that they are exactly those of the request. Written anew: it shares no table and no
encoder with `names`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

from cassiopeia.core import lint_der
from cassiopeia.core.lint_der import IA5_STRING, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING, Reader
from cassiopeia.core.lint_rules import find
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.core.profile import Presence

# RFC 5280 A.1: identifier of the type, its string type, its upper bound in characters; in the order of a subject here.
_ATTRIBUTES: Final = {
    "2.5.4.6": ("C", PRINTABLE_STRING, 2),
    "2.5.4.8": ("ST", UTF8_STRING, 128),
    "2.5.4.7": ("L", UTF8_STRING, 128),
    "2.5.4.10": ("O", UTF8_STRING, 64),
    "2.5.4.11": ("OU", UTF8_STRING, 64),
    "2.5.4.3": ("CN", UTF8_STRING, 64),
    "1.2.840.113549.1.9.1": ("EMAIL", IA5_STRING, 255),
}
_ORDER: Final = {attribute_type: place for place, (attribute_type, _, _) in enumerate(_ATTRIBUTES.values())}
_REPEATABLE: Final = "OU"
_COUNTRY: Final = re.compile(r"[A-Z]{2}")

_RFC822_NAME: Final = 0x81
_DNS_NAME: Final = 0x82
_URI: Final = 0x86
_IP_ADDRESS: Final = 0x87
_GENERAL_NAMES: Final = {_RFC822_NAME: "email", _DNS_NAME: "DNS", _URI: "URI", _IP_ADDRESS: "IP"}

_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = rf"(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}"  # RFC 1034 3.5, RFC 1123 2.1
# RFC 5280 4.2.1.6: a Mailbox; a URI with scheme and host, all in ASCII.
_FORMS: Final = {
    "DNS": re.compile(rf"(?=.{{1,253}}\Z)(?:\*\.)?{_DOMAIN}"),
    "email": re.compile(rf"[!#-'*+./-9=?A-Z^-~-]{{1,64}}@(?=.{{1,253}}\Z){_DOMAIN}"),
    "URI": re.compile(r"[a-z][a-z0-9+.-]*://[^\x00-\x20/?#@\"<>\\^`{|}]+(?:[/?#][^\x00-\x20\"<>\\^`{|}\x7f]*)?"),
}


_SERVER_AUTH: Final = "1.3.6.1.5.5.7.3.1"


def lint_subject(subject: Reader, approved: ApprovedRequest) -> tuple[tuple[str, str], ...]:
    """The subject's attributes: types and values in their order."""
    # 1. What stands there, each attribute for itself.
    attributes: list[tuple[str, str]] = []
    while subject.more:
        attributes.append(_attribute(subject.constructed(SET, "a relative name of the subject")))
    # 2. All of them together.
    places = [_ORDER[attribute_type] for attribute_type, _ in attributes]
    if places != sorted(places):
        find("subject-order", f"they stand as {', '.join(each for each, _ in attributes)}")
    single = [attribute_type for attribute_type, _ in attributes if attribute_type != _REPEATABLE]
    if len(single) != len(set(single)):
        find("subject-attribute", f"one is repeated: {', '.join(single)}")
    # 3. What was asked for: in the order of a subject; those that are repeated keep theirs. Version 1 drops what is
    # empty (wire specification).
    asked = sorted(
        ((each.type, each.value) for each in approved.request.attributes if each.value),
        key=lambda each: _ORDER.get(each[0], -1),
    )
    if attributes != asked:
        find("subject-asked", f"it is {attributes!a}"[:200])
    _check_presences("subject-profile", approved.profile.subject, {each for each, _ in attributes})
    return tuple(attributes)


def lint_alt_names(names: Reader, approved: ApprovedRequest) -> tuple[tuple[str, str | bytes], ...]:
    """The alternative names: types and values (addresses: octets) in their order."""
    given: list[tuple[str, str | bytes]] = []
    while names.more:
        given.append(_general_name(names))
    asked = [
        (each.type, _octets_of_address(each.value) if each.type == "IP" else each.value)
        for each in approved.request.alt_names
    ]
    if given != asked:
        find("alt-names-asked", f"they are {given!a}"[:200])
    profile = approved.profile
    if len(given) > profile.maximum_alt_names:
        find("alt-names-profile", f"there are {len(given)} of them")
    if not profile.allow_wildcard and any(kind == "DNS" and str(value).startswith("*") for kind, value in given):
        find("alt-names-profile", "there is a wildcard")
    return tuple(given)


def lint_names_together(
    attributes: Iterable[tuple[str, str]], alt_names: Iterable[tuple[str, str | bytes]], approved: ApprovedRequest
) -> None:
    """What subject and alternative names owe each other; without that extension there are none of the latter."""
    subject, given = dict(attributes), set(alt_names)
    if not subject and not given:
        find("nobody", "it has no name")
    _check_presences("alt-names-profile", approved.profile.alt_names, {kind for kind, _ in given})
    if "EMAIL" in subject and ("email", subject["EMAIL"]) not in given:
        find("subject-email", f"the address {subject['EMAIL']!a} stands in the subject alone")
    if "CN" in subject and _SERVER_AUTH in approved.profile.extended_key_usage:
        common_name = subject["CN"]
        if ("DNS", common_name) not in given and ("IP", _octets_of_address(common_name)) not in given:
            find("subject-server", f"the CN {common_name!a} stands in the subject alone")


def _attribute(relative_name: Reader) -> tuple[str, str]:
    first = relative_name.whole(SEQUENCE, "an attribute of the subject")
    if relative_name.more:
        second = relative_name.whole(SEQUENCE, "an attribute of the subject")
        if second <= first:
            find("der-set-order", "a relative name has its attributes in another order")
        find("subject-relative-name", "two attributes share one")
    attribute = Reader(first).constructed(SEQUENCE, "an attribute of the subject")
    identifier = attribute.object_identifier("the type of an attribute")
    if identifier not in _ATTRIBUTES:
        find("subject-attribute", f"there is one of the type {identifier}")
    attribute_type, string_type, bound = _ATTRIBUTES[identifier]
    if attribute.next_tag != string_type:
        find("subject-string-type", f"{attribute_type} has the tag {attribute.next_tag:02x}, not {string_type:02x}")
    value = lint_der.text(string_type, attribute.primitive(string_type, attribute_type), attribute_type)
    attribute.finish("an attribute of the subject")
    if not 1 <= len(value) <= bound or (attribute_type == "C" and not _COUNTRY.fullmatch(value)):
        find("subject-bound", f"{attribute_type} is {value[:80]!a}, with {len(value)} characters")
    return attribute_type, value


def _general_name(names: Reader) -> tuple[str, str | bytes]:
    tag = names.next_tag
    if tag not in _GENERAL_NAMES:
        find("alt-name-type", f"there is one with the tag {tag:02x}")
    kind = _GENERAL_NAMES[tag]
    contents = names.primitive(tag, "an alternative name")
    if tag == _IP_ADDRESS:
        if len(contents) not in (4, 16):  # RFC 5280 4.2.1.6: IPv4, IPv6
            find("alt-name-syntax", f"an IP address has {len(contents)} octets")
        return kind, contents
    value = lint_der.text(IA5_STRING, contents, "an alternative name")
    if not _FORMS[kind].fullmatch(value):
        find("alt-name-syntax", f"{value[:100]!a} is no {kind}")
    return kind, value


def _octets_of_address(text: str) -> bytes:
    """None at all for what is no address."""
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return b""


def _check_presences(rule: str, presences: Iterable[tuple[str, Presence]], given: set[str]) -> None:
    for name_type, presence in presences:
        if presence is Presence.REQUIRED and name_type not in given:
            find(rule, f"{name_type} is missing")
        if presence is Presence.FORBIDDEN and name_type in given:
            find(rule, f"{name_type} is there")
