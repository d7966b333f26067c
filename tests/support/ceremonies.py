"""What a first ceremony makes, as tests look at it: CA by CA, each with its key."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import msgspec
from cryptography import x509

from cassiopeia.ceremony.conducting import begin
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.hierarchy import Hierarchy
from cassiopeia.ceremony.key_ceremony import CertificationAuthority
from cassiopeia.ceremony.pins import Pins, no_file
from cassiopeia.ceremony.profiles import choose_profiles
from cassiopeia.ceremony.record import KnownAuthority, Record


@dataclass(frozen=True, kw_only=True, slots=True)
class TimeAuthority:
    authority: CertificationAuthority
    signer_id: int
    issues_from: dt.datetime
    issues_until: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Ceremony:
    root: CertificationAuthority
    structure: tuple[CertificationAuthority, ...]
    time: tuple[TimeAuthority, ...]
    crls: dict[str, x509.CertificateRevocationList] = field(repr=False)

    @property
    def offline(self) -> tuple[CertificationAuthority, ...]:
        return (self.root, *self.structure)

    @property
    def authorities(self) -> tuple[CertificationAuthority, ...]:
        return (*self.offline, *(each.authority for each in self.time))


def declare(hierarchy: Hierarchy) -> Declaration:
    """The hierarchy with the profiles of the software that fit it."""
    profiles = choose_profiles(hierarchy, read=no_file, source="test")
    return Declaration(source="test", hierarchy=hierarchy, profiles=profiles, pins=Pins())


def hold_ceremony(hierarchy: Hierarchy, *, now: dt.datetime) -> Ceremony:
    declaration = Declaration(source="test", hierarchy=hierarchy, profiles={}, pins=Pins())
    outcome = begin(declaration, now=now)
    safe = outcome.safe
    offline = [safe.authority(each.name) for each in safe.record.authorities if each.is_offline]
    time = []
    for each in safe.record.time:
        assert each.issues_from is not None
        assert each.issues_until is not None
        authority = CertificationAuthority(
            name=each.name,
            issuer=each.issuer,
            key=outcome.time_keys[each.name],
            certificate=safe.certificates[each.name],
        )
        time.append(
            TimeAuthority(
                authority=authority,
                signer_id=each.signer_id,
                issues_from=each.issues_from,
                issues_until=each.issues_until,
            )
        )
    return Ceremony(root=offline[0], structure=tuple(offline[1:]), time=tuple(time), crls=dict(safe.crls))


def with_changed(record: Record, changed: KnownAuthority) -> Record:
    """The same record with this CA instead of the one of its name."""
    return msgspec.structs.replace(
        record, authorities=tuple(changed if each.name == changed.name else each for each in record.authorities)
    )
