"""What a bundle changes on a machine, in words: for whoever decides whether to install it.

Owns the sentences. Reads what stands in a configuration or in an unpacked bundle, and no key.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cassiopeia.config import PINS, Pins, load_authorities, load_pins, load_profiles
from cassiopeia.core.authority import Authority
from cassiopeia.core.profile import Profile


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """What counts of a configuration: `pins` is empty on machines that pin nothing."""

    authorities: Mapping[str, Authority] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    pins: Pins = field(default_factory=Pins)


def read_contents(directory: Path) -> Contents:
    """Of an unpacked bundle for a signer or a client; raises ConfigurationError."""
    return Contents(
        authorities={each.authority.name: each.authority for each in load_authorities(directory / "authorities.toml")},
        profiles=load_profiles(directory / "profiles"),
        pins=load_pins(directory / PINS) if (directory / PINS).exists() else Pins(),
    )


def changes(before: Contents, after: Contents) -> list[str]:
    """A sentence for each change, sub-CAs first; none when all stays as it is."""
    return [
        *_authorities(before.authorities, after.authorities),
        *_profiles(before.profiles, after.profiles),
        *_validators(before.pins, after.pins),
        *_keys("operator", before.pins.operators, after.pins.operators),
        *_quorum(before.pins, after.pins),
        *_keys("OCSP responder", before.pins.responders, after.pins.responders),
    ]


def _authorities(before: Mapping[str, Authority], after: Mapping[str, Authority]) -> Iterator[str]:
    for name, each in after.items():
        old = before.get(name)
        if old is None:
            retired = "; retired: it issues nothing, and signs its CRLs" if each.retired else ""
            yield (
                f"sub-CA {name}: new; issues from {_day(each.issues_from)} until {_day(each.issues_until)}, at most "
                f"{each.maximum_certificates} certificates{retired}"
            )
            continue
        if old.retired != each.retired:
            yield f"sub-CA {name}: " + ("retired: it issues no more" if each.retired else "no longer retired")
        if old.certificate != each.certificate:
            yield f"sub-CA {name}: another certificate, until {_day(each.not_after)}"
        if (old.issues_from, old.issues_until) != (each.issues_from, each.issues_until):
            yield f"sub-CA {name}: issues from {_day(each.issues_from)} until {_day(each.issues_until)}"
        if old.maximum_certificates != each.maximum_certificates:
            yield (f"sub-CA {name}: at most {each.maximum_certificates} certificates, not {old.maximum_certificates}")
        if (old.crl_urls, old.issuer_urls, old.ocsp_urls, old.pss) != (
            each.crl_urls,
            each.issuer_urls,
            each.ocsp_urls,
            each.pss,
        ):
            yield f"sub-CA {name}: other URLs or another form of signature in what it signs"
    for name in before:
        if name not in after:
            yield f"sub-CA {name}: goes; it has ended"


def _profiles(before: Mapping[str, Profile], after: Mapping[str, Profile]) -> Iterator[str]:
    for name, profile in after.items():
        if name not in before:
            yield f"profile {name}: new"
        elif before[name] != profile:
            yield f"profile {name}: changed"
    for name in before:
        if name not in after:
            yield f"profile {name}: goes; requests for it will be refused"


def _validators(before: Pins, after: Pins) -> Iterator[str]:
    old = {(each.name, each.key_id): each for each in before.validators}
    new = {(each.name, each.key_id): each for each in after.validators}
    for identity, each in new.items():
        kinds = ", ".join(sorted(each.kinds))
        if identity not in old:
            yield f"validator {each.name} (key {each.key_id.hex()[:16]}): new; may state {kinds}"
        elif old[identity].kinds != each.kinds:
            yield f"validator {each.name}: may state {kinds}"
    for identity, each in old.items():
        if identity not in new:
            yield f"validator {each.name} (key {each.key_id.hex()[:16]}): goes; it is believed no more"


def _keys(what: str, before: Iterable[bytes], after: Iterable[bytes]) -> Iterator[str]:
    old, new = {_key_name(each) for each in before}, {_key_name(each) for each in after}
    for each in sorted(new - old):
        yield f"{what} (key {each}): new"
    for each in sorted(old - new):
        yield f"{what} (key {each}): goes"


def _quorum(before: Pins, after: Pins) -> Iterator[str]:
    if before.quorum != after.quorum:
        yield f"operators who must sign what loosens: {after.quorum}, not {before.quorum}"


def _key_name(key: bytes) -> str:
    # The hash of a key, or a key (DER), of which only a hash is short enough for people.
    digest = key if len(key) == hashlib.sha256().digest_size else hashlib.sha256(key).digest()
    return digest.hex()[:16]


def _day(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d}"
