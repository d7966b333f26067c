"""The original signer's `.cfg` profiles, turned into ours.

Owns that format: lines of `key=value`, `#` comments, the keys ca, ku, eku, days, include, requires and name. The result
is TOML for people to read, adjust and keep; what cannot be carried over as it is stands there as a comment. Reads and
writes no files. Where the original demanded nothing, the evidence that the names call for is demanded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cassiopeia.core.profile import (
    EXTENDED_KEY_USAGES,
    KEY_USAGES,
    MAXIMUM_AHEAD_DAYS,
    MAXIMUM_OCSP_VALIDITY_DAYS,
    Presence,
    parse_profile,
)
from cassiopeia.errors import ConfigurationError

_KEYS: Final = ("ca", "ku", "eku", "days", "include", "requires", "name")
_TOKEN = re.compile(r"([A-Za-z]+)([+?*]?)")
_MANY_ALT_NAMES: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class _Inclusion:
    """What one word of `include` asks for: its own presence, what comes along as optional, and the evidence."""

    subject: tuple[str, ...] = ()
    alt_name: str = ""
    optional_subject: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


_INCLUSIONS: Final = {
    "domain": _Inclusion(alt_name="DNS", optional_subject=("CN",), evidence=("dns-control",)),
    "email": _Inclusion(alt_name="email", optional_subject=("EMAIL",), evidence=("mailbox-control",)),
    "orgaEmail": _Inclusion(alt_name="email", optional_subject=("EMAIL",), evidence=("mailbox-control",)),
    "name": _Inclusion(subject=("CN",), evidence=("name-verified",)),
    "orgName": _Inclusion(subject=("CN",), evidence=("name-verified",)),
    "orga": _Inclusion(subject=("C", "O"), optional_subject=("ST", "L", "OU"), evidence=("organisation",)),
    "noOCSP": _Inclusion(),
}


def import_profile(text: str, *, name: str, source: str) -> str:
    """Turn one `.cfg` into TOML that `parse_profile` takes under the same `name`.

    Raises ConfigurationError with source, key and reason.
    """
    values = _parse_lines(text, source)
    for key in ("ku", "eku", "days", "include"):
        if key not in values:
            raise ConfigurationError("this line is missing", source=source, key=key)
    key_usage = [each for each in _words(values["ku"]) if each != "critical"]
    _check_known(key_usage, KEY_USAGES, source=source, key="ku")
    purposes = _words(values["eku"])
    _check_known([each for each in purposes if "." not in each], EXTENDED_KEY_USAGES, source=source, key="eku")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", values["days"]):
        raise ConfigurationError(f"{values['days'][:20]!a} is not a number of days", source=source, key="days")
    days = int(values["days"])
    for_responders = "OCSPSigning" in purposes
    subject, alt_names, maximum, evidence = _include(_words(values["include"]), source)
    if "serverAuth" in purposes and "DNS" in alt_names:
        evidence.insert(evidence.index("dns-control") + 1, "caa-permits")

    lines = [f"# Imported from the original's profile {name}."]
    if _is_unproved_name(subject, purposes, evidence):
        lines.append("# CN was optional beside the domains; only a server's is proved by them, so it is left out.")
        del subject["CN"]
    if "requires" in values:
        lines.append(
            f"# It was offered to members with: {values['requires']} (the front end's rule, not the signer's)."
        )
    lines.append(f"title = {_quoted(values.get('name') or name)}")
    if "ca" in values:
        lines.append(f"family = {_quoted(values['ca'])}")
    lines.append(f"key_usage = {_quoted(key_usage)}")
    lines.append(f"extended_key_usage = {_quoted(purposes)}")
    if for_responders and days > MAXIMUM_OCSP_VALIDITY_DAYS:
        lines.append(f"# It was {days}; nobody can revoke an OCSP responder, so it lives for days only.")
        days = MAXIMUM_OCSP_VALIDITY_DAYS
    lines.append(f"maximum_validity_days = {days}")
    lines.append(f"not_before_ahead_days = {0 if for_responders else MAXIMUM_AHEAD_DAYS}")
    lines.append(f"maximum_alt_names = {maximum}")
    # An OCSP responder's key is pinned in the signer's bundle, and its names are the authority's own.
    lines.append(f"evidence = {_quoted(['attestation'] if for_responders else ['attestation', *evidence])}")
    if "noOCSP" in _words(values["include"]):
        lines.append("ocsp_no_check = true")
    lines += ["", "[subject]", *_presences(subject), "", "[alt_names]", *_presences(alt_names)]
    result = "\n".join(lines) + "\n"
    parse_profile(result, name=name, source=source)  # whatever is still wrong is said here and not at the next start
    return result


def _parse_lines(text: str, source: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.strip()
        if not content or content.startswith("#"):
            continue
        key, equals, value = (part.strip() for part in content.partition("="))
        where = f"line {number}"
        if not equals:
            raise ConfigurationError("this is not key=value", source=source, key=where)
        if key not in _KEYS:
            raise ConfigurationError(f"{key[:40]!a} is not known; use {', '.join(_KEYS)}", source=source, key=where)
        if key in values:
            raise ConfigurationError(f"{key} stands there twice", source=source, key=where)
        if not value.isprintable():
            raise ConfigurationError(f"{key} contains a control character", source=source, key=where)
        values[key] = value
    return values


def _include(words: list[str], source: str) -> tuple[dict[str, Presence], dict[str, Presence], int, list[str]]:
    """Presences of subject attributes and alternative names, how many of the latter, and the evidence they need."""
    subject: dict[str, Presence] = {}
    alt_names: dict[str, Presence] = {}
    evidence: list[str] = []
    maximum = 0
    for word in words:
        token = _TOKEN.fullmatch(word)
        if token is None or token[1] not in _INCLUSIONS:
            known = ", ".join(_INCLUSIONS)
            raise ConfigurationError(
                f"{word[:40]!a} is not known; use {known}, with + for more than one, ? for none or one, * for any",
                source=source,
                key="include",
            )
        inclusion, suffix = _INCLUSIONS[token[1]], token[2]
        presence = Presence.OPTIONAL if suffix in ("?", "*") else Presence.REQUIRED
        subject.update(dict.fromkeys(inclusion.subject, presence))
        for each in inclusion.optional_subject:
            subject.setdefault(each, Presence.OPTIONAL)
        if inclusion.alt_name:
            alt_names[inclusion.alt_name] = presence
            maximum += _MANY_ALT_NAMES if suffix in ("+", "*") else 1
        evidence += [each for each in inclusion.evidence if each not in evidence]
    return subject, alt_names, maximum, evidence


def _is_unproved_name(subject: Mapping[str, Presence], purposes: list[str], evidence: list[str]) -> bool:
    return (
        subject.get("CN") is Presence.OPTIONAL
        and not {"serverAuth", "OCSPSigning"}.intersection(purposes)
        and not {"name-verified", "organisation"}.intersection(evidence)
    )


def _words(value: str) -> list[str]:
    return [word for word in (each.strip() for each in value.split(",")) if word]


def _check_known(words: list[str], known: Iterable[str], *, source: str, key: str) -> None:
    for word in words:
        if word not in known:
            raise ConfigurationError(f"{word[:40]!a} is not known; use {', '.join(known)}", source=source, key=key)


def _quoted(value: str | list[str]) -> str:
    """A TOML string or array of strings: the same as in JSON for text without control characters."""
    return json.dumps(value, ensure_ascii=False)


def _presences(presences: Mapping[str, Presence]) -> list[str]:
    return [f"{name_type} = {_quoted(presence.value)}" for name_type, presence in presences.items()]
