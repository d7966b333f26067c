"""Which profiles a hierarchy issues by: those that come with the software, and files of one's own.

Owns the choice, and the family that each chosen profile belongs to. What a profile may say is `core.profile`'s.
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final

from cassiopeia.ceremony.hierarchy import Family, Hierarchy, extended_key_usage_oid
from cassiopeia.ceremony.pins import ReadFile
from cassiopeia.core.profile import EXTENDED_KEY_USAGES, Profile, parse_profile
from cassiopeia.errors import ConfigurationError

# Profiles that ask for no evidence are numbered from here on, so that no real one is ever mistaken for one of them.
UNPROVED_PREFIX: Final = "9"

_SUFFIX: Final = ".toml"
# TOML: keys before the first table are the document's own, and family is one line there.
_FAMILY_LINE: Final = re.compile(r"""^(family\s*=\s*)("[^"\n]*"|'[^'\n]*')""", re.MULTILINE)


def default_profile_texts() -> dict[str, str]:
    """Every profile that comes with the software, by name: TOML."""
    directory = importlib.resources.files("cassiopeia.core") / "profiles"
    return {
        each.name.removesuffix(_SUFFIX): each.read_text(encoding="utf-8")
        for each in sorted(directory.iterdir(), key=lambda each: each.name)
        if each.name.endswith(_SUFFIX)
    }


def choose_profiles(hierarchy: Hierarchy, *, read: ReadFile, source: str, unproved: bool = False) -> dict[str, str]:
    """TOML of every profile of the hierarchy, by name; each says the family that it was given to.

    A family that names none has those of the software that name it, without those that ask for no evidence unless
    `unproved`. OCSP responders' is always among them. Raises ConfigurationError with source, key and reason.
    """
    shipped = default_profile_texts()
    chosen: dict[str, str] = {}
    for index, family in enumerate(hierarchy.family):
        key = f"family[{index}].profiles"
        named = dict(_named(family, shipped, read=read, source=source, key=key))
        for name, text in named.items() if family.profiles else _own(family, shipped, unproved=False):
            _add(chosen, name, text, family, source=source, key=key)
        for name, text in _own(family, shipped, unproved=unproved):
            if name.startswith(UNPROVED_PREFIX) and name not in named:
                _add(chosen, name, text, family, source=source, key=key)
    return chosen | {name: text for name, text in shipped.items() if not _parse(text, name=name, source=name).family}


def families_of(profiles: Mapping[str, str]) -> dict[str, str]:
    """The family of each profile (TOML), by the profile's name; empty for OCSP responders."""
    return {name: _parse(text, name=name, source=name).family for name, text in profiles.items()}


def _named(
    family: Family, shipped: dict[str, str], *, read: ReadFile, source: str, key: str
) -> Iterator[tuple[str, str]]:
    """Name and text of the profiles that the family names; a name that ends with `.toml` is a file."""
    for position, named in enumerate(family.profiles):
        where = f"{key}[{position}]"
        if not named.endswith(_SUFFIX):
            if named not in shipped:
                raise ConfigurationError(
                    f"no profile {named!a} comes with the software; one of your own is the name of a file, NAME.toml",
                    source=source,
                    key=where,
                )
            yield named, shipped[named]
            continue
        try:
            yield PurePosixPath(named).stem, read(named).decode("utf-8")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the name
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8, or no file name"
            raise ConfigurationError(f"cannot read {named!a}: {reason}", source=source, key=where) from error


def _own(family: Family, shipped: dict[str, str], *, unproved: bool) -> Iterator[tuple[str, str]]:
    """Those of the software that name this family themselves."""
    for name, text in shipped.items():
        of_family = _parse(text, name=name, source=name).family == family.name
        if of_family and (unproved or not name.startswith(UNPROVED_PREFIX)):
            yield name, text


def _add(chosen: dict[str, str], name: str, text: str, family: Family, *, source: str, key: str) -> None:
    if name in chosen:
        raise ConfigurationError(
            f"the profile {name} is given twice, and belongs to one family: copy it under a name of its own",
            source=source,
            key=key,
        )
    profile = _parse(text, name=name, source=f"{name}{_SUFFIX}")
    if not profile.family:
        raise ConfigurationError(
            f"the profile {name} is for OCSP responders: every signer has it, and no family names it",
            source=source,
            key=key,
        )
    if profile.family != family.name:
        text = _FAMILY_LINE.sub(rf'\g<1>"{family.name}"', text, count=1)
        profile = _parse(text, name=name, source=f"{name}{_SUFFIX}")
    if profile.family != family.name:
        raise ConfigurationError(
            f"the profile {name} belongs to the family {profile.family}: write family = {family.name!r} into it, "
            "on a line of its own",
            source=source,
            key=key,
        )
    _check_usages(profile, family, source=source, key=key)
    chosen[name] = text


def _check_usages(profile: Profile, family: Family, *, source: str, key: str) -> None:
    # Browsers take a CA's extended key usages as a limit: a certificate beyond it would be issued and never accepted.
    identifiers = {extended_key_usage_oid(each) for each in family.extended_key_usage}
    names = {identifier: name for name, identifier in EXTENDED_KEY_USAGES.items()}
    missing = [names.get(each, each) for each in profile.extended_key_usage if each not in identifiers]
    if missing:
        raise ConfigurationError(
            f"profile {profile.name} needs {', '.join(missing)} in extended_key_usage of the family {family.name}",
            source=source,
            key=key,
        )


def _parse(text: str, *, name: str, source: str) -> Profile:
    return parse_profile(text, name=name, source=source)
