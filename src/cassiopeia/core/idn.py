"""Internationalised names, where they are submitted: from what people write to what certificates carry.

Owns the mapping to A-labels (UTS 46, non-transitional; IDNA2008, RFC 5890-5893) and the refusal of labels that mix
scripts (Unicode TR 39 5.2, "Highly Restrictive", with the scripts of UAX 31 that are in use today). The signer never
imports this module: names reach it as A-labels, and `names` checks them there. Labels of one script that look like
another ("whole-script confusables") are left to those who prove control of the name.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import Final

import idna
import regex

from cassiopeia.core.names import MAXIMUM_DOMAIN_OCTETS, check_alt_name
from cassiopeia.core.request import SubjectAltName
from cassiopeia.errors import Refused

# UAX 31, table 5 (recommended) and table 7 (limited use). A label in none of these scripts is in a dead one.
_SCRIPTS: Final = tuple(
    """
    Latin Cyrillic Greek Arabic Armenian Bengali Bopomofo Devanagari Ethiopic Georgian Gujarati Gurmukhi Han Hangul
    Hebrew Hiragana Kannada Katakana Khmer Lao Malayalam Myanmar Oriya Sinhala Tamil Telugu Thaana Thai Tibetan
    Adlam Balinese Bamum Batak Canadian_Aboriginal Chakma Cham Cherokee Hanifi_Rohingya Javanese Kayah_Li Lepcha Limbu
    Lisu Mandaic Meetei_Mayek Miao New_Tai_Lue Newa Nko Nyiakeng_Puachue_Hmong Ol_Chiki Osage Saurashtra Sundanese
    Syloti_Nagri Syriac Tai_Le Tai_Tham Tai_Viet Tifinagh Vai Wancho Yi
    """.split()  # noqa: SIM905 - sixty words are read better without sixty pairs of quotes
)
# TR 39 5.2: what Japanese, Taiwanese and Korean mix by custom.
_CUSTOMARY: Final = (
    ("Han", "Hiragana", "Katakana", "Latin"),
    ("Han", "Bopomofo", "Latin"),
    ("Han", "Hangul", "Latin"),
)
_ONE_SCRIPT: Final = tuple(
    regex.compile("[" + "".join(rf"\p{{scx={script}}}" for script in (*scripts, "Common", "Inherited")) + "]+")
    for scripts in (*((script,) for script in _SCRIPTS), *_CUSTOMARY)
)
_URI_WITH_HOST = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<host>[^/?#:@\[\]]+)(?P<rest>.*)", re.DOTALL)
_IPV4_LIKE = re.compile(r"[0-9.]+")
_BLANKS: Final = " \t\r\n"


def to_a_labels(domain: str) -> str:
    """Map a domain name as people write it to lower-case A-labels; raises Refused.

    A-labels among the input are decoded and judged like the rest. No wildcard: `normalise_alt_name` sets it aside.
    """
    a_labels = _to_a_labels(domain, "DNS", "dns-name-invalid")
    check_alt_name(SubjectAltName(type="DNS", value=a_labels))
    return a_labels


def normalise_email(address: str) -> str:
    """Map the domain of an e-mail address to A-labels; what stands before the @ is kept. Raises Refused."""
    address = address.strip(_BLANKS)
    local_part, at, domain = address.rpartition("@")
    if at:
        address = f"{local_part}@{_to_a_labels(domain, 'email', 'email-invalid')}"
    check_alt_name(SubjectAltName(type="email", value=address))
    return address


def normalise_alt_name(alt_name: SubjectAltName) -> SubjectAltName:
    """Bring a name into the form in which certificates carry it; raises Refused."""
    value = alt_name.value.strip(_BLANKS)
    match alt_name.type:
        case "DNS":
            wildcard = "*." if value.startswith("*.") else ""
            value = wildcard + to_a_labels(value.removeprefix("*."))
        case "email":
            value = normalise_email(value)
        case "IP":
            value = _normalise_address(value)
        case "URI":
            value = _normalise_uri(value)
        case _:
            pass  # `check_alt_name` refuses it
    normalised = SubjectAltName(type=alt_name.type, value=value)
    check_alt_name(normalised)
    return normalised


def _to_a_labels(domain: str, field: str, code: str) -> str:
    # 1. The mapping: UTS 46 (it lowers case and turns other dots into dots), then IDNA2008 for each label.
    if len(domain) > MAXIMUM_DOMAIN_OCTETS:  # A-labels are never shorter than what they stand for
        problem = f"is longer than {MAXIMUM_DOMAIN_OCTETS} characters; shorten it"
        raise Refused(f"The domain name {_shown(domain)} {problem}.", code=code, field=field)
    try:
        encoded = idna.encode(domain, uts46=True, std3_rules=True, transitional=False).decode("ascii")
        labels = [idna.ulabel(label) for label in encoded.rstrip(".").split(".")]
    except UnicodeError as error:  # idna's own errors are among these
        reason = str(error).encode("ascii", "backslashreplace").decode("ascii")
        raise Refused(
            f"The domain name {_shown(domain)} is not valid ({reason[:120]}); check how it is written.",
            code=code,
            field=field,
        ) from error
    # 2. One script for each label, and one kind of digits.
    for label in labels:
        _check_scripts(label, domain, field)
    return encoded


def _check_scripts(label: str, domain: str, field: str) -> None:
    if label.isascii():
        return
    if not any(one_script.fullmatch(label) for one_script in _ONE_SCRIPT):
        raise Refused(
            f"The domain name {_shown(domain)} mixes scripts in the label {_shown(label)}, as imitations of other"
            " names do; write each label in one script.",
            code="mixed-scripts",
            field=field,
        )
    # TR 39 5.3: the zeros of two systems of digits are told apart by nobody.
    if len({ord(each) - unicodedata.decimal(each) for each in label if each.isdecimal()}) > 1:
        raise Refused(
            f"The domain name {_shown(domain)} mixes the digits of two scripts in the label {_shown(label)}; use one.",
            code="mixed-scripts",
            field=field,
        )


def _normalise_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text  # `check_alt_name` says what is wrong


def _normalise_uri(uri: str) -> str:
    parts = _URI_WITH_HOST.fullmatch(uri)
    if parts is None or _IPV4_LIKE.fullmatch(parts["host"]):
        return uri  # nothing to map; `check_alt_name` judges it
    return f"{parts['scheme'].lower()}://{_to_a_labels(parts['host'], 'URI', 'uri-invalid')}{parts['rest']}"


def _shown(text: str) -> str:
    """The text as a message may show it: bounded, and in ASCII, so that the one script is told from the other."""
    shown = ascii(text[:100])
    return shown if len(shown) <= 100 else f"{shown[:96]}...'"  # noqa: PLR2004 - what a message has room for
