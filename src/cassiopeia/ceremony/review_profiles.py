"""Objections to what a hierarchy vouches for, and on whose word: usages, profiles, policies, names, pinned keys.

Each function looks at one thing. Browsers' rules (the CA/Browser Forum's requirements, and the policies of Mozilla and
Chrome) bind nobody whose root no browser ships, so they are notes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final

from cassiopeia.ceremony.hierarchy import Family, extended_key_usage_oid
from cassiopeia.ceremony.objections import Objection, error, note, warning
from cassiopeia.ceremony.planning import Plan
from cassiopeia.ceremony.profiles import default_profile_texts, families_of
from cassiopeia.core.profile import EXTENDED_KEY_USAGES, Profile
from cassiopeia.core.validity import add_months

_SERVER: Final = EXTENDED_KEY_USAGES["serverAuth"]
_MAIL: Final = EXTENDED_KEY_USAGES["emailProtection"]
_CODE: Final = EXTENDED_KEY_USAGES["codeSigning"]
_TIME_STAMPING: Final = EXTENDED_KEY_USAGES["timeStamping"]
# What may stand beside codeSigning: Microsoft's two kinds of it.
_OF_CODE: Final = frozenset({_CODE, EXTENDED_KEY_USAGES["msCodeInd"], EXTENDED_KEY_USAGES["msCodeCom"]})
_USAGE_NAMES: Final = {identifier: name for name, identifier in EXTENDED_KEY_USAGES.items()}

# BR 6.3.2: the longest life of a server's certificate, for those issued from this day on.
_SERVER_DAYS: Final = (
    (dt.datetime(2020, 9, 1, tzinfo=dt.UTC), 398),
    (dt.datetime(2026, 3, 15, tzinfo=dt.UTC), 200),
    (dt.datetime(2027, 3, 15, tzinfo=dt.UTC), 100),
    (dt.datetime(2029, 3, 15, tzinfo=dt.UTC), 47),
)
_MAIL_DAYS: Final = 825  # S/MIME BR 6.3.2
_CODE_DAYS: Final = 460  # Code signing BR 6.3.2


def review_profiles(plan: Plan) -> Iterator[Objection]:
    for family in plan.declaration.hierarchy.family:
        yield from _usages(plan, family)
        yield from _lifetimes(plan, family)
        yield from _policies(plan, family)
        yield from _constraints(family)
    yield from _left_out(plan)
    yield from _evidence(plan)
    yield from _operators(plan)
    yield from _sealing(plan)


def _usages(plan: Plan, family: Family) -> Iterator[Objection]:
    where = f"family {family.name}"
    usages = {extended_key_usage_oid(each) for each in family.extended_key_usage}
    profiles = plan.profiles_of(family)
    # 1. What browsers and systems reject in a chain, whatever stands in the certificate at its end.
    if _SERVER in usages and usages != {_SERVER}:
        yield note(
            "server-auth-mixed",
            where,
            f"vouches for servers and for {_usage_text(usages - {_SERVER})}: Mozilla (Root Store Policy 5.3) and "
            "Chrome (Root Program Policy) take only CAs for servers alone; where people install the root themselves, "
            "it does not matter",
        )
    if _CODE in usages and not usages <= _OF_CODE:
        yield warning(
            "code-signing-mixed",
            where,
            f"vouches for code and for {_usage_text(usages - _OF_CODE)}: whoever gets one may pass for the other "
            "(Code signing BR 7.1.2.2)",
        )
    if _TIME_STAMPING in usages and usages != {_TIME_STAMPING}:
        yield warning(
            "time-stamping-mixed",
            where,
            f"vouches for time stamps and for {_usage_text(usages - {_TIME_STAMPING})}: verifiers demand that a time "
            "stamp's certificate serves nothing else (RFC 3161 2.3)",
        )
    # 2. More than is needed, or nothing at all.
    if not profiles:
        yield error("family-without-profile", where, "no profile belongs to it: it would never issue anything")
        return
    used = {usage for each in profiles for usage in each.extended_key_usage}
    if unused := usages - used:
        yield note(
            "usage-unused", where, f"vouches for {_usage_text(unused)}, which no profile of it uses: leave it out"
        )


def _lifetimes(plan: Plan, family: Family) -> Iterator[Objection]:
    own = [each for each in plan.authorities if each.family.name == family.name]
    outlives = plan.declaration.hierarchy.time_of(family).outlives_years
    room = min(((add_months(each.period.end, outlives * 12) - each.period.end).days for each in own), default=None)
    waiting: list[str] = []
    for profile in plan.profiles_of(family):
        where = f"family {family.name}, profile {profile.name}"
        days = profile.maximum_validity_days
        # 1. A leaf must not outlive its issuer, also one of the period's last day.
        if room is not None and days > room:
            yield error(
                "leaf-outlives-issuer",
                where,
                f"its certificates live for up to {days} days, and a time sub-CA for {room} days more than it issues: "
                "near the end of a period none could be issued",
            )
        elif room is not None and days + profile.not_before_ahead_days > room:
            waiting.append(profile.name)
        # 2. What browsers and systems take for too long.
        yield from _browser_limits(plan, profile, where=where)
    if waiting:
        yield note(
            "leaf-waits-at-period-end",
            f"family {family.name}",
            f"what is to begin some days ahead and to live as long as {', '.join(waiting)} allow waits at the end of a "
            "period for the next sub-CA, lest it outlive its issuer",
        )


def _browser_limits(plan: Plan, profile: Profile, *, where: str) -> Iterator[Objection]:
    days = profile.maximum_validity_days
    if _SERVER in profile.extended_key_usage:
        for begin, limit in _SERVER_DAYS:
            later = [after for after, _ in _SERVER_DAYS if after > begin]
            in_force = begin < plan.calendar_end and not (later and later[0] <= plan.begin)
            if in_force and days > limit:
                since = "" if begin <= plan.begin else f" from {begin:%Y-%m-%d} on"
                yield note(
                    "server-lives-long", where, f"of {days} days: browsers take at most {limit}{since} (BR 6.3.2)"
                )
    if _MAIL in profile.extended_key_usage and days > _MAIL_DAYS:
        yield note(
            "mail-lives-long", where, f"of {days} days: mail programs take at most {_MAIL_DAYS} (S/MIME BR 6.3.2)"
        )
    if _CODE in profile.extended_key_usage and days > _CODE_DAYS:
        yield note(
            "code-lives-long", where, f"of {days} days: systems take at most {_CODE_DAYS} (Code signing BR 6.3.2)"
        )


def _policies(plan: Plan, family: Family) -> Iterator[Objection]:
    for profile in plan.profiles_of(family):
        where = f"family {family.name}, profile {profile.name}"
        missing = [each for each in profile.policy_identifiers if each not in family.policy_identifiers]
        if missing:
            # RFC 5280 6.1.3 (d): a policy that a CA above does not have is struck out.
            yield warning(
                "policy-not-above",
                where,
                f"names the policies {', '.join(missing)}, which its CAs do not: no verifier will find them valid",
            )
        if family.policy_identifiers and not profile.policy_identifiers:
            yield note(
                "policy-not-below", where, "names no policy, and its CAs do: by none of them will it be found valid"
            )


def _constraints(family: Family) -> Iterator[Objection]:
    where = f"family {family.name}, name_constraints"
    usages = {extended_key_usage_oid(each) for each in family.extended_key_usage}
    constraints = family.name_constraints
    domains = bool(constraints.permitted_domains)
    mail = bool(constraints.permitted_mail_domains)
    # RFC 5280 4.2.1.10: names of a type that no constraint names are all permitted.
    if domains and not mail and _MAIL in usages:
        yield warning(
            "constraints-leave-mail", where, "permit some domains, and every mail address: permitted_mail_domains"
        )
    if mail and not domains and _SERVER in usages:
        yield warning(
            "constraints-leave-servers", where, "permit some mail addresses, and every domain: permitted_domains"
        )


def _left_out(plan: Plan) -> Iterator[Objection]:
    """Profiles of the software whose families are all there, and which no family names: perhaps forgotten."""
    names = {family.name for family in plan.declaration.hierarchy.family}
    left = [
        name
        for name, family in families_of(default_profile_texts()).items()
        if name not in plan.profiles and family in names and not name.startswith("9")
    ]
    if left:
        yield note("profile-without-family", "profiles", f"no family names {', '.join(left)}: nothing issues by it")


def _evidence(plan: Plan) -> Iterator[Objection]:
    # 1. Profiles by which anybody gets a certificate for any name.
    for profile in plan.profiles.values():
        if not profile.evidence:
            yield warning(
                "unproved-profile",
                f"profile {profile.name}",
                "asks for no evidence: whoever may submit requests gets a certificate for any name",
            )
    # 2. Evidence that nobody may state.
    validators = plan.declaration.pins.validators
    if not validators:
        yield note(
            "no-validator",
            "validator",
            "none is pinned here: the signers believe only those of their signer.toml (`cassiopeia validator init`)",
        )
        return
    stated = {kind for each in validators for kind in each.kinds}
    for profile in plan.profiles.values():
        if missing := [each for each in profile.evidence if each not in stated]:
            yield warning(
                "evidence-unstated",
                f"profile {profile.name}",
                f"demands {', '.join(missing)}, which no validator that is pinned here may state: it issues nothing",
            )


def _operators(plan: Plan) -> Iterator[Objection]:
    pins = plan.declaration.pins
    if not pins.operators:
        yield note(
            "no-operators",
            "orders",
            "no operator's key is pinned here: unless signer.toml pins one, somebody has to travel to the signer for "
            "whatever an order could do",
        )
    elif pins.quorum == 1:
        yield warning(
            "quorum-of-one", "orders.quorum", "one stolen key of an operator loosens everything: let two sign"
        )
    elif pins.quorum == len(pins.operators):
        yield note(
            "quorum-of-all",
            "orders.quorum",
            "when one operator loses a key, no order can loosen anything any more: pin more",
        )


def _sealing(plan: Plan) -> Iterator[Objection]:
    for signer in plan.declaration.hierarchy.signer:
        if signer.id not in plan.declaration.pins.sealing_keys:
            yield note(
                "bundle-not-sealed",
                f"signer {signer.id}",
                "has no sealing_key: the passphrase of its bundle will lie in a file beside it; carry the two apart",
            )


def _usage_text(usages: set[str] | frozenset[str]) -> str:
    return ", ".join(sorted(_USAGE_NAMES.get(each, each) for each in usages))
