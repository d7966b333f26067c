"""A hierarchy file with everything that it names: what a ceremony is held by.

Owns the step from a file on somebody's disk to one value in memory, which needs that disk no more; and back, for the
safe, so that the next ceremony finds all of it in one place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from cassiopeia.ceremony.hierarchy import DEFAULT_NAME, Hierarchy, default_hierarchy_text, parse_hierarchy
from cassiopeia.ceremony.pins import PinnedKey, Pins, ReadFile, files_beside, no_file, read_pins
from cassiopeia.ceremony.profiles import choose_profiles, families_of
from cassiopeia.config import read_text
from cassiopeia.config.toml_writer import toml_document

# One directory below the bundle's own at the most: see `core.bundle`.
HIERARCHY_FILE: Final = "hierarchy.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Declaration:
    """A hierarchy, its profiles (TOML by name; each says its family), and the keys that it pins. All is checked.

    `digest` is SHA-256 of the hierarchy file, in hex; empty for one that was never a file.
    """

    source: str
    hierarchy: Hierarchy
    profiles: Mapping[str, str]
    pins: Pins
    digest: str = ""


def load_declaration(path: Path | None = None, *, unproved: bool = False) -> Declaration:
    """The hierarchy of a file, or the default one, with all that it names; raises ConfigurationError.

    `unproved` adds the software's profiles that ask for no evidence.
    """
    if path is None:
        return read_declaration(default_hierarchy_text(), read=no_file, source=DEFAULT_NAME, unproved=unproved)
    return read_declaration(read_text(path), read=files_beside(path), source=str(path), unproved=unproved)


def read_declaration(text: str, *, read: ReadFile, source: str, unproved: bool = False) -> Declaration:
    """The same for a text, whose files `read` gives."""
    hierarchy = parse_hierarchy(text, source=source)
    return Declaration(
        source=source,
        hierarchy=hierarchy,
        profiles=choose_profiles(hierarchy, read=read, source=source, unproved=unproved),
        pins=read_pins(hierarchy, read=read, source=source),
        digest=hashlib.sha256(text.encode()).hexdigest(),
    )


def portable_files(declaration: Declaration) -> dict[str, bytes]:
    """`hierarchy.toml` and every file that it names, by the names that it then names them by.

    What `read_declaration` makes of it has the same profiles, whatever the software brings along by then, and the same
    pins.
    """
    hierarchy, pins = declaration.hierarchy, declaration.pins
    files: dict[str, bytes] = {}

    def keep(name: str, octets: bytes) -> str:
        files[name] = octets
        return name

    def keep_keys(directory: str, keys: tuple[PinnedKey, ...]) -> tuple[str, ...]:
        return tuple(keep(f"{directory}/{each.name}.pem", each.pem) for each in keys)

    families = families_of(declaration.profiles)
    profiles = {name: keep(f"profiles/{name}.toml", text.encode()) for name, text in declaration.profiles.items()}
    validators = keep_keys("validators", pins.validators)
    resolved = msgspec.structs.replace(
        hierarchy,
        family=tuple(
            msgspec.structs.replace(
                family, profiles=tuple(file for name, file in profiles.items() if families[name] == family.name)
            )
            for family in hierarchy.family
        ),
        signer=tuple(
            msgspec.structs.replace(each, sealing_key=keep(f"sealing/signer-{each.id}.pem", pins.sealing_keys[each.id]))
            if each.id in pins.sealing_keys
            else each
            for each in hierarchy.signer
        ),
        orders=msgspec.structs.replace(hierarchy.orders, operators=keep_keys("operators", pins.operators)),
        validator=tuple(
            msgspec.structs.replace(each, key=file) for each, file in zip(hierarchy.validator, validators, strict=True)
        ),
        ocsp=msgspec.structs.replace(hierarchy.ocsp, responders=keep_keys("responders", pins.responders)),
    )
    files[HIERARCHY_FILE] = toml_document(msgspec.to_builtins(resolved)).encode()
    return files
