"""What a ceremony would make of a declaration: which CAs, until when, and when which of them issues. Makes nothing.

Owns the values that the overview, the objections and the calendar's checks have in common.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ed448, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from cassiopeia.ceremony.calendar import PlannedAuthority, plan_authorities
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.hierarchy import Family, Hierarchy, KeyAlgorithm
from cassiopeia.ceremony.key_ceremony import beginning, subject_of
from cassiopeia.core.authority import MAXIMUM_CERTIFICATES
from cassiopeia.core.crl_size import RESPONDERS, crl_room
from cassiopeia.core.profile import Profile, parse_profile
from cassiopeia.core.sample import sample_key
from cassiopeia.core.validity import ONE_SECOND, add_months

_MONTHS_A_YEAR: Final = 12
_ED448_OCTETS: Final = 57  # RFC 8032 5.2.5
_KEY_IDENTIFIER_OCTETS: Final = 20  # SHA-1, RFC 5280 4.2.1.2, method 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """From when until just before when a time sub-CA issues, for which family and signer."""

    name: str
    family: str
    signer_id: int
    issues_from: dt.datetime
    issues_until: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Volume:
    """What is expected of one family's sub-CAs.

    `a_period` certificates for each signer, if the signers share the work evenly; one sub-CA holds `maximum` of them.
    """

    family: Family
    a_period: int
    maximum: int
    spares: int

    @property
    def spares_needed(self) -> int:
        return max(0, -(-self.a_period // self.maximum) - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A ceremony that begins at `begin`. `structure_ends` is by family."""

    declaration: Declaration
    begin: dt.datetime
    root_end: dt.datetime
    structure_ends: Mapping[str, dt.datetime]
    authorities: tuple[PlannedAuthority, ...]
    profiles: Mapping[str, Profile]
    volumes: tuple[Volume, ...]

    @property
    def crls_end(self) -> dt.datetime:
        """When the first CRLs of the offline CAs end."""
        return add_months(self.begin, self.declaration.hierarchy.crl_months) - ONE_SECOND

    @property
    def calendar_end(self) -> dt.datetime:
        """The first moment at which some family or signer has no sub-CA any more; `begin` when it never has one."""
        ends: dict[tuple[str, int], dt.datetime] = {}
        for each in self.stretches:
            key = each.family, each.signer_id
            ends[key] = max(ends.get(key, each.issues_until), each.issues_until)
        return min(ends.values(), default=self.begin)

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        return tuple(
            Stretch(
                name=each.name,
                family=each.family.name,
                signer_id=each.signer_id,
                issues_from=max(each.period.start, self.begin),
                issues_until=each.period.end,
            )
            for each in self.authorities
        )

    def profiles_of(self, family: Family) -> tuple[Profile, ...]:
        return tuple(each for each in self.profiles.values() if each.family == family.name)


def make_plan(declaration: Declaration, *, now: dt.datetime) -> Plan:
    """What the first ceremony, held at `now` (aware), would make."""
    hierarchy = declaration.hierarchy
    begin = beginning(now)
    planned = plan_authorities(hierarchy, first=now)
    return Plan(
        declaration=declaration,
        begin=begin,
        root_end=_end(begin, hierarchy.root.years),
        structure_ends={each.name: _end(begin, hierarchy.structure_of(each).years) for each in hierarchy.family},
        authorities=planned,
        profiles={
            name: parse_profile(text, name=name, source=f"{name}.toml") for name, text in declaration.profiles.items()
        },
        volumes=tuple(_volume(declaration, family, planned) for family in hierarchy.family),
    )


def gaps(stretches: Iterable[Stretch], *, now: dt.datetime) -> tuple[Stretch, ...]:
    """When nothing issues for a family and signer that have sub-CAs, between `now` and the end of their calendar.

    Each gap is a stretch whose name is that of the sub-CA which ends it.
    """
    found: list[Stretch] = []
    covered: dict[tuple[str, int], dt.datetime] = {}
    for each in sorted(stretches, key=lambda one: (one.issues_from, one.issues_until, one.name)):
        if each.issues_until <= now:
            continue
        key = each.family, each.signer_id
        until = covered.get(key, now)
        if each.issues_from > until:
            found.append(
                Stretch(
                    name=each.name,
                    family=each.family,
                    signer_id=each.signer_id,
                    issues_from=until,
                    issues_until=each.issues_from,
                )
            )
        covered[key] = max(until, each.issues_until)
    return tuple(found)


def _end(begin: dt.datetime, years: int) -> dt.datetime:
    return add_months(begin, years * _MONTHS_A_YEAR) - ONE_SECOND


def _volume(declaration: Declaration, family: Family, planned: Iterable[PlannedAuthority]) -> Volume:
    hierarchy = declaration.hierarchy
    time = hierarchy.time_of(family)
    signers = max(1, len(hierarchy.signers_of(family)))
    fitting = (_most(hierarchy, each) for each in planned if each.family.name == family.name)
    return Volume(
        family=family,
        a_period=-(-family.expected_a_month * time.months // signers),
        maximum=min(time.maximum_certificates, *fitting, MAXIMUM_CERTIFICATES),
        spares=time.spares,
    )


def _most(hierarchy: Hierarchy, planned: PlannedAuthority) -> int:
    """How many certificates of subscribers the CRL of a sub-CA could list: it issues no more, whatever is declared."""
    time = hierarchy.time_of(planned.family)
    room = crl_room(
        _sample_key(time.key_algorithm),
        subject=subject_of(hierarchy, planned.name).public_bytes(),
        key_identifier=bytes(_KEY_IDENTIFIER_OCTETS),
        pss=time.pss,
        not_after=planned.not_after,
    )
    return room.entries - RESPONDERS


@functools.cache
def _sample_key(algorithm: KeyAlgorithm) -> PublicKeyTypes:
    """A public key of this kind that is nobody's: only its kind and size are looked at."""
    kind, _, size = algorithm.partition("-")
    if kind == "RSA":
        return rsa.RSAPublicNumbers(65537, (1 << (int(size) - 1)) + 1).public_key()
    if kind == "Ed448":  # which is certified for no subscriber
        return ed448.Ed448PublicKey.from_public_bytes(bytes(_ED448_OCTETS))
    return sample_key(algorithm).public_key
