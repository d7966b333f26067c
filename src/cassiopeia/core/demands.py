"""What a request has to prove under its profile, and whether an observation is about that.

Owns the way from names to the observations that they need (wire specification, "Proofs"). Who signed an observation,
for whom, and whether it is too old are `judgement`'s part. Whoever gathers proofs asks here, too, so that both
sides count alike. Names are compared as they are, octet for octet: what is not in its final form matches nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cassiopeia.core.evidence import Observation
from cassiopeia.core.profile import EXTENDED_KEY_USAGES, PROVED_BY, Profile
from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute
from cassiopeia.errors import Refused

WHOLE_DOMAIN_METHODS: Final = frozenset({"dns", "mail-to-domain"})
"""Methods that only the keeper of a whole domain can serve (BR 3.2.2.4: the authorization domain name)."""

ORGANISATION_TYPES: Final = ("C", "ST", "L", "O", "OU", "CN")
"""Attributes that an observation of an organisation may state, in the order of its lines."""

_DEFAULT_AGE_HOURS: Final = {
    # RFC 8659 lets a CAA record be believed for its time to live; BR 3.2.2.8 (later 4.2.2.1): 8 hours at most.
    "caa-permits": 7,
    # BR 4.2.1: at most 200 days now, 100 from 15 March 2027.
    "dns-control": 99 * 24,
    # S/MIME BR 4.2.1: at most 30 days.
    "mailbox-control": 30 * 24,
    "name-verified": 730 * 24,
    # BR 4.2.1: at most 398 days.
    "organisation": 396 * 24,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """One proof that a request needs: an observation of this `kind` about this `value`, or whatever else covers it.

    `value` is what a check would look at: a domain (for `caa-permits` with its `*.`), an address, a name, or the lines
    of an organisation. `name` is what the certificate would say, for messages. `otherwise` proves the same.
    """

    kind: str
    value: str
    name: str
    otherwise: Demand | None = None


def demands(profile: Profile, request: CertificateRequest) -> tuple[Demand, ...]:
    """Every observation that the names of the request need, each once, in their order; none without `evidence`.

    Raises Refused for a name that nothing proves under this profile. The attestation is not among them.
    """
    # A responder's key is pinned, and its names are the authority's own.
    if not profile.evidence or not profile.family:
        return ()
    needed: dict[Demand, None] = {}
    for alt_name in request.alt_names:
        needed.update(dict.fromkeys(_of_alt_name(alt_name, profile)))
    needed.update(dict.fromkeys(_of_subject(request.attributes, profile)))
    return tuple(needed)


def covers(demand: Demand, observation: Observation, profile: Profile) -> bool:
    """Whether what was observed is what the demand asks for; its account, signature and age are not looked at."""
    if demand.otherwise is not None and covers(demand.otherwise, observation, profile):
        return True
    if observation.kind != demand.kind:
        return False
    if demand.kind == "organisation":
        return _states(observation.value, demand.value)
    if demand.kind != "dns-control":
        return observation.value == demand.value
    if profile.whole_domain and observation.method in WHOLE_DOMAIN_METHODS:
        return _is_within(demand.value, observation.value)
    return observation.value == demand.value == demand.name  # a wildcard's name differs from its domain


def compare(
    needed: Sequence[Demand], observations: Sequence[Observation], profile: Profile
) -> tuple[list[Demand], list[Observation]]:
    """The demands that no observation covers, and the observations that cover no demand.

    As `covers` has it for each pair, in time for hundreds of both.
    """
    places: dict[tuple[str, str], list[int]] = {}
    for place, observation in enumerate(observations):
        value = "" if observation.kind == "organisation" else observation.value
        places.setdefault((observation.kind, value), []).append(place)
    missing: list[Demand] = []
    used: set[int] = set()
    for demand in needed:
        near = (place for key in _keys(demand, profile) for place in places.get(key, ()))
        found = [place for place in near if covers(demand, observations[place], profile)]
        used.update(found)
        if not found:
            missing.append(demand)
    return missing, [each for place, each in enumerate(observations) if place not in used]


def candidates(demand: Demand, profile: Profile) -> tuple[str, ...]:
    """The values under which an observation may cover the demand, its own first; none: any value of that kind."""
    if demand.kind == "organisation":
        return ()
    if demand.kind != "dns-control" or not profile.whole_domain:
        return (demand.value,)
    labels = demand.value.split(".")
    return tuple(".".join(labels[place:]) for place in range(max(1, len(labels) - 1)))


def maximum_age(profile: Profile, kind: str) -> dt.timedelta:
    """How old an observation of this kind may be when a certificate of the profile is made from it."""
    return dt.timedelta(hours=dict(profile.maximum_age_hours).get(kind, _DEFAULT_AGE_HOURS[kind]))


def organisation_value(attributes: Iterable[SubjectAttribute]) -> str:
    """The lines `TYPE=value` in which an observation states these attributes of an organisation."""
    given = [each for each in attributes if each.type in ORGANISATION_TYPES]
    given.sort(key=lambda each: ORGANISATION_TYPES.index(each.type))
    return "\n".join(f"{each.type}={each.value}" for each in given)


def _keys(demand: Demand, profile: Profile) -> Iterator[tuple[str, str]]:
    """Kind and value of whatever may cover the demand."""
    for value in candidates(demand, profile) or ("",):
        yield demand.kind, value
    if demand.otherwise is not None:
        yield from _keys(demand.otherwise, profile)


def _of_alt_name(alt_name: SubjectAltName, profile: Profile) -> list[Demand]:
    _check_proved(alt_name.type, profile)
    if alt_name.type == "email":
        return [_mailbox(alt_name.value)]
    name = alt_name.value
    found = [Demand(kind="dns-control", value=name.removeprefix("*."), name=name)]
    if "caa-permits" in profile.evidence:
        found.append(Demand(kind="caa-permits", value=name, name=name))
    return found


def _of_subject(attributes: tuple[SubjectAttribute, ...], profile: Profile) -> list[Demand]:
    found = []
    stated = [each for each in attributes if each.type not in ("CN", "EMAIL")]
    if stated:
        for each in stated:
            _check_proved(each.type, profile)
        lines = organisation_value(stated)
        found.append(Demand(kind="organisation", value=lines, name=lines.replace("\n", ", ")))
    for attribute in attributes:
        if attribute.type == "EMAIL":
            _check_proved("EMAIL", profile)
            found.append(_mailbox(attribute.value))
        # The common name of a server is one of its alternative names (`policy`), and proved there.
        if attribute.type == "CN" and EXTENDED_KEY_USAGES["serverAuth"] not in profile.extended_key_usage:
            _check_proved("CN", profile)
            found.append(_common_name(attribute, stated, profile))
    return found


def _common_name(attribute: SubjectAttribute, stated: list[SubjectAttribute], profile: Profile) -> Demand:
    # Together with what the subject says of the organisation: an account may belong to two of them.
    by_organisation = Demand(
        kind="organisation", value=organisation_value([*stated, attribute]), name=f"CN={attribute.value}"
    )
    if "name-verified" not in profile.evidence:
        return by_organisation
    return Demand(
        kind="name-verified",
        value=attribute.value,
        name=attribute.value,
        otherwise=by_organisation if "organisation" in profile.evidence else None,
    )


def _mailbox(address: str) -> Demand:
    return Demand(kind="mailbox-control", value=address, name=address)


def _is_within(name: str, domain: str) -> bool:
    """As `candidates` has it, for a name against many domains: a request may have hundreds of each."""
    return name == domain or ("." in domain and name.endswith(f".{domain}"))


def _states(observed: str, demanded: str) -> bool:
    """Whether an observation of one organisation has every demanded line. Two organisations are never mixed."""
    lines = observed.split("\n")
    types = [line.partition("=")[0] for line in lines]
    is_one = types.count("O") == 1 and all(types.count(each) <= 1 for each in ORGANISATION_TYPES if each != "OU")
    return is_one and set(demanded.split("\n")) <= set(lines)


def _check_proved(name_type: str, profile: Profile) -> None:
    if not any(kind in profile.evidence for kind in PROVED_BY.get(name_type, ())):
        raise Refused(
            f"Nothing proves the name type {name_type[:20]!a} under {profile.name}; leave it out.",
            code="name-not-allowed",
            field=name_type,
        )
