"""Objections to how the CAs of a hierarchy stand to each other: lifetimes, calendar, algorithms, numbers, places.

Each function looks at one thing. Where a rule is somebody's, the sentence names it: RFC 5280, NIST SP 800-57, the
CA/Browser Forum's Baseline Requirements (BR).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from cassiopeia.ceremony.hierarchy import ROOT_NAME, Family, KeyAlgorithm
from cassiopeia.ceremony.objections import Objection, error, note, warning
from cassiopeia.ceremony.planning import Plan, gaps
from cassiopeia.core.bundle import MAXIMUM_FILES
from cassiopeia.core.crl_size import RESPONDERS
from cassiopeia.core.validity import add_months

# NIST SP 800-57 part 1, table 2, SP 800-186, table 1, and FIPS 204, table 1 (categories 2, 3 and 5): bits of strength,
# rounded down to those that these tables know.
STRENGTHS: Final[dict[KeyAlgorithm, int]] = {
    "RSA-2048": 112,
    "RSA-3072": 128,
    "RSA-4096": 128,
    "P-256": 128,
    "P-384": 192,
    "P-521": 256,
    "Ed25519": 128,
    "Ed448": 224,
    "ML-DSA-44": 128,
    "ML-DSA-65": 192,
    "ML-DSA-87": 256,
}
_POST_QUANTUM: Final = frozenset({"ML-DSA-44", "ML-DSA-65", "ML-DSA-87"})
_IN_BROWSERS: Final = frozenset({"RSA-2048", "RSA-3072", "RSA-4096", "P-256", "P-384", "P-521"})
_WEAK_BITS: Final = 112
_WEAK_UNTIL: Final = dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
_LONGEST_ROOT_YEARS: Final = 25
_LONGEST_CRL_MONTHS: Final = 12
_SHORTEST_CRL_MONTHS: Final = 3
_SHORTEST_CALENDAR_MONTHS: Final = 6
_USUAL_MONTHS: Final = range(3, 7)
_TIGHT_PERCENT: Final = 80
# An OCSP responder's certificate lives for 30 days, and is renewed at two thirds of that.
_RESPONDER_RENEWED_DAYS: Final = 20
_MONTH_DAYS: Final = 31
_YEAR_DAYS: Final = 366
_DEFAULT_ORGANISATION: Final = "Cassiopeia"
# RFC 2606, RFC 6761, RFC 6762, RFC 8375, and the one that ICANN keeps for inner networks.
_NOWHERE: Final = (
    "example",
    "example.com",
    "example.net",
    "example.org",
    "test",
    "invalid",
    "localhost",
    "local",
    "internal",
    "home.arpa",
)


def review_structure(plan: Plan) -> Iterator[Objection]:
    yield from _names(plan)
    yield from _lifetimes(plan)
    yield from _calendar(plan)
    yield from _volumes(plan)
    yield from _algorithms(plan)
    yield from _offline_crls(plan)
    yield from _places(plan)


def _names(plan: Plan) -> Iterator[Objection]:
    hierarchy = plan.declaration.hierarchy
    if hierarchy.organisation == _DEFAULT_ORGANISATION:
        yield note("default-names", "organisation", "is still that of the default hierarchy: put in your own name")
    if not hierarchy.country:
        yield note(
            "no-country", "country", "is empty; root programs of browsers demand it in a CA's name (BR 7.1.2.10.2)"
        )


def _lifetimes(plan: Plan) -> Iterator[Objection]:
    hierarchy = plan.declaration.hierarchy
    if hierarchy.root.years > _LONGEST_ROOT_YEARS:
        yield note(
            "root-lives-long",
            ROOT_NAME,
            f"lives for {hierarchy.root.years} years; browsers take {_LONGEST_ROOT_YEARS} at most (BR 7.1.2.1.1)",
        )
    for family in hierarchy.family:
        where = f"family {family.name}"
        end = plan.structure_ends[family.name]
        own = [each for each in plan.authorities if each.family.name == family.name]
        # 1. RFC 5280 6.1.4 does not ask for nested dates, but verifiers check every certificate of a chain.
        for each in own:
            if each.not_after > end:
                yield error(
                    "structure-ca-outlived",
                    where,
                    f"{each.name} would be valid until {_day(each.not_after)}, and its structure CA until {_day(end)}",
                )
        # 2. The next ceremonies have to find room, too.
        time = hierarchy.time_of(family)
        calendar = hierarchy.time.months * hierarchy.time.periods
        last_begin = add_months(end, -(time.months + time.outlives_years * 12))
        if own and last_begin < add_months(own[-1].period.end, calendar):
            yield warning(
                "structure-ca-ends-soon",
                where,
                f"its structure CA ends on {_day(end)}: no time sub-CA can begin below it after {_day(last_begin)}, "
                "which leaves no room for another ceremony like this one",
            )
        if time.months not in _USUAL_MONTHS:
            yield note(
                "unusual-months",
                where,
                f"a time sub-CA issues for {time.months} months; three to six keep CRLs small and ceremonies rare",
            )


def _calendar(plan: Plan) -> Iterator[Objection]:
    hierarchy = plan.declaration.hierarchy
    # 1. Who issues at all.
    for family in hierarchy.family:
        if not hierarchy.signers_of(family):
            yield error("family-without-signer", f"family {family.name}", "no [[signer]] owns its time sub-CAs")
    # 2. When nothing would issue.
    for gap in gaps(plan.stretches, now=plan.begin):
        yield gap_objection(gap.family, gap.signer_id, gap.issues_from, gap.issues_until)
    # 3. How soon people must come again.
    if plan.authorities and plan.calendar_end < add_months(plan.begin, _SHORTEST_CALENDAR_MONTHS):
        yield warning(
            "calendar-short",
            "time.periods",
            f"the calendar ends on {_day(plan.calendar_end)} already: the next ceremony has to be held before that",
        )
    # 4. What fits into the bundles.
    count = 1 + len(hierarchy.family) + len(plan.authorities) + len(plan.profiles)
    if count + 2 > MAXIMUM_FILES:
        yield error(
            "too-many-authorities", "time", f"{count} files, and a bundle holds {MAXIMUM_FILES}: plan fewer periods"
        )


def gap_objection(family: str, signer_id: int, begin: dt.datetime, end: dt.datetime) -> Objection:
    return error(
        "calendar-gap",
        f"family {family}",
        f"nothing issues for it on signer {signer_id} from {_day(begin)} until {_day(end)}",
    )


def _volumes(plan: Plan) -> Iterator[Objection]:
    for volume in plan.volumes:
        family, where = volume.family, f"family {volume.family.name}"
        held = volume.maximum * (volume.spares + 1)
        if not family.expected_a_month:
            yield note(
                "volume-unknown", where, "expected_a_month is not said, so nobody knows whether its sub-CAs suffice"
            )
        elif volume.spares_needed > volume.spares:
            yield error(
                "too-few-spares",
                where,
                f"{volume.a_period} certificates are expected in each period, and its sub-CAs hold {held}: it needs "
                f"{volume.spares_needed} spares and has {volume.spares}",
            )
        elif volume.a_period * 100 > held * _TIGHT_PERCENT:
            yield warning(
                "spares-tight",
                where,
                f"{volume.a_period} certificates are expected in each period, and its sub-CAs hold {held}: a busy "
                "month fills them all",
            )


def _algorithms(plan: Plan) -> Iterator[Objection]:
    hierarchy = plan.declaration.hierarchy
    yield from _aging(ROOT_NAME, hierarchy.root.key_algorithm, plan.root_end)
    chains: set[tuple[str, KeyAlgorithm, str, KeyAlgorithm, str]] = set()
    for family in hierarchy.family:
        structure, time = hierarchy.structure_of(family).key_algorithm, hierarchy.time_of(family).key_algorithm
        yield from _aging(f"structure CA {family.name}", structure, plan.structure_ends[family.name])
        for each in [each for each in plan.authorities if each.family.name == family.name][-1:]:
            yield from _aging(f"time sub-CAs of {family.name}", time, each.not_after)
        chains.add((family.name, hierarchy.root.key_algorithm, "the root", structure, "the structure CA"))
        chains.add((family.name, structure, "the structure CA", time, "the time sub-CAs"))
    for name, above, above_name, below, below_name in sorted(chains):
        yield from _chain(f"family {name}", above, above_name, below, below_name)
    for family in hierarchy.family:
        yield from _unknown_to_browsers(plan, family)
    if hierarchy.time.pss and not any(
        hierarchy.time_of(family).key_algorithm.startswith("RSA") for family in hierarchy.family
    ):
        yield note("pss-without-rsa", "time.pss", "changes nothing: no time sub-CA has an RSA key")


def _aging(where: str, algorithm: KeyAlgorithm, end: dt.datetime) -> Iterator[Objection]:
    if STRENGTHS[algorithm] <= _WEAK_BITS and end >= _WEAK_UNTIL:
        yield warning(
            "algorithm-ageing",
            where,
            f"{algorithm} is thought good until 2030 (NIST SP 800-57), and it lives until {_day(end)}",
        )


def _chain(
    where: str, above: KeyAlgorithm, above_name: str, below: KeyAlgorithm, below_name: str
) -> Iterator[Objection]:
    if STRENGTHS[above] < STRENGTHS[below]:
        yield warning(
            "weaker-above",
            where,
            f"{above_name} ({above}) is weaker than what is below it, {below_name} ({below}): a chain is as strong as "
            "its weakest key, and the one above lives longer",
        )
    if below in _POST_QUANTUM and above not in _POST_QUANTUM:
        yield warning(
            "quantum-above",
            where,
            f"{below_name} ({below}) would withstand a quantum computer, but {above_name} ({above}) would not",
        )


def _unknown_to_browsers(plan: Plan, family: Family) -> Iterator[Objection]:
    hierarchy = plan.declaration.hierarchy
    used = {
        hierarchy.root.key_algorithm,
        hierarchy.structure_of(family).key_algorithm,
        hierarchy.time_of(family).key_algorithm,
    }
    if strange := sorted(used - _IN_BROWSERS):
        yield note(
            "algorithm-unknown",
            f"family {family.name}",
            f"browsers and mail programs of today verify no chain with {' or '.join(strange)}"
            + ("; openssl before 3.5 knows no ML-DSA either" if used & _POST_QUANTUM else ""),
        )


def _offline_crls(plan: Plan) -> Iterator[Objection]:
    months = plan.declaration.hierarchy.crl_months
    if months > _LONGEST_CRL_MONTHS:
        yield warning(
            "crl-months-long",
            "crl_months",
            f"CRLs of the offline CAs live for {months} months; BR 4.9.7 allows {_LONGEST_CRL_MONTHS}, and whoever has "
            "an old one does not hear of a revoked sub-CA for as long",
        )
    if months < _SHORTEST_CRL_MONTHS:
        yield warning(
            "crl-months-short", "crl_months", f"somebody has to open the safe every {months} months to sign CRLs anew"
        )
    if plan.authorities and plan.crls_end < plan.calendar_end:
        yield note(
            "crls-end-first",
            "crl_months",
            f"the offline CAs' CRLs end on {_day(plan.crls_end)}, before the calendar does, {_day(plan.calendar_end)}: "
            "a `cassiopeia ceremony crl` comes in between",
        )


def _places(plan: Plan) -> Iterator[Objection]:
    hierarchy = plan.declaration.hierarchy
    # 1. Where each URL leads.
    yield from _place("url_base", hierarchy.url_base, plain="a verifier could need a status to reach it (RFC 5280 8)")
    if urlsplit(hierarchy.url_base).query or urlsplit(hierarchy.url_base).fragment:
        yield error("url-with-query", "url_base", "/NAME.crl is written behind it, so it must have no ? and no #")
    for url in hierarchy.ocsp_urls:
        yield from _place("ocsp_urls", url, plain="a verifier could need a status to reach it (RFC 6960 A.1)")
    for family in hierarchy.family:
        if family.cps_url:
            yield from _place(f"family {family.name}, cps_url", family.cps_url, plain="")
    # 2. OCSP needs both: somebody who answers, and somebody who says where.
    responders = plan.declaration.pins.responders
    if hierarchy.ocsp_urls and not responders:
        yield warning(
            "ocsp-without-responder",
            "ocsp_urls",
            "certificates name an OCSP responder, and no key of one is pinned here: no signer certifies it unless its "
            "signer.toml does (`cassiopeia publisher init` makes the key)",
        )
    if responders and not hierarchy.ocsp_urls:
        yield warning(
            "responder-without-url",
            "ocsp.responders",
            "a responder is pinned, but no certificate says where it is: ocsp_urls",
        )
    # 3. When a sub-CA is full, its responders have the places that are kept for them, and no more.
    for family in hierarchy.family if responders else ():
        time = hierarchy.time_of(family)
        days = time.months * _MONTH_DAYS + time.outlives_years * _YEAR_DAYS
        needed = len(responders) * -(-days // _RESPONDER_RENEWED_DAYS)
        if needed > RESPONDERS:
            yield warning(
                "responders-many",
                f"family {family.name}",
                f"its sub-CAs certify each of {len(responders)} responder keys every {_RESPONDER_RENEWED_DAYS} days, "
                f"{needed} times in all, and one that is full keeps {RESPONDERS} places for that: its OCSP may fall "
                "silent before it ends. Pin fewer keys, or let sub-CAs live for less time",
            )
    if not responders and not hierarchy.ocsp_urls:
        yield note("no-ocsp", "ocsp_urls", "there is no OCSP: verifiers have to fetch the CRLs")


def _place(where: str, url: str, *, plain: str) -> Iterator[Objection]:
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if is_nowhere(host):
        yield warning("url-nowhere", where, f"nobody outside can reach {host!a}: give a name of your own")
    if plain and parts.scheme == "https":
        yield warning("url-https", where, f"is https, and {plain}: use http; what is there is signed anyway")


def is_nowhere(host: str) -> bool:
    """Whether a host cannot be reached by everybody: an example's, an inner one, no whole name at all."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or any(host == each or host.endswith(f".{each}") for each in _NOWHERE)


def _day(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d}"
