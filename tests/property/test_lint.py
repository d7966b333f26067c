"""The signer's own lint finds nothing in what is assembled, and something in whatever is changed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib

from hypothesis import given, reject
from hypothesis import strategies as st
from tests.support.authorities import NOW, PROFILES, load_profile
from tests.support.lintable import altered, check, everything, good, wished

from cassiopeia.core import policy
from cassiopeia.core.authority import Authority
from cassiopeia.core.certificate import assemble_tbs
from cassiopeia.core.lint_rules import LintFinding
from cassiopeia.core.profile import ALT_NAME_TYPES, EXTENDED_KEY_USAGES, Presence, Profile
from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute
from cassiopeia.core.sample import KEY_KINDS, sample_authority, sample_key
from cassiopeia.errors import Refused

DEFAULT = [load_profile(each.stem) for each in sorted(PROFILES.glob("*.toml"))]
DAY = dt.timedelta(days=1)

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True).filter(lambda each: each[2:4] != "--")
DOMAINS = st.lists(LABELS, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "example"]))
TEXTS = st.text(alphabet="abcäöüßéñ ЖЗ東京-.'", min_size=1, max_size=64).map(str.strip).filter(bool)
VALUES: dict[str, st.SearchStrategy[str]] = {
    "C": st.from_regex(r"[A-Z]{2}", fullmatch=True),
    **dict.fromkeys(("ST", "L", "O", "OU", "CN"), TEXTS),
    "DNS": DOMAINS | DOMAINS.map("*.{}".format) | st.just("xn--bcher-kva.example"),
    "email": st.builds("{}@{}".format, st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,20}", fullmatch=True), DOMAINS),
    "IP": st.ip_addresses(v=4).map(str) | st.ip_addresses(v=6).map(str),
    "URI": st.builds(
        "{}://{}{}".format, st.sampled_from(("http", "https", "ldap")), DOMAINS, st.sampled_from(("", "/", "/a?b=c#d"))
    ),
}
WISHES_TO = st.one_of(
    st.just(""),
    st.builds("{}{}".format, st.integers(1, 60), st.sampled_from("dmy")),
    st.dates(dt.date(2026, 11, 24), dt.date(2029, 1, 1)).map(str),
)
WISHES_FROM = st.sampled_from(("", "now")) | st.dates(dt.date(2026, 11, 23), dt.date(2026, 12, 10)).map(str)
# Of each kind of sub-CA key that signs.
ISSUERS = [
    *(dataclasses.replace(sample_authority("any"), public_key=sample_key(each).public_key) for each in KEY_KINDS)
]
ISSUERS += [dataclasses.replace(ISSUERS[0], pss=True), dataclasses.replace(ISSUERS[1], crl_urls=(), ocsp_urls=())]


@st.composite
def requests(draw: st.DrawFn, profile: Profile) -> CertificateRequest:
    """Names that the profile takes, of all kinds and in any order; whether they are right is the policy's word."""
    kinds = [each for each in ALT_NAME_TYPES if profile.alt_name_presence(each) is not Presence.FORBIDDEN]
    required = [each for each in kinds if profile.alt_name_presence(each) is Presence.REQUIRED]
    chosen = [*required, *(draw(st.lists(st.sampled_from(kinds), max_size=6)) if kinds else ())]
    alt_names = [SubjectAltName(type=each, value=draw(VALUES[each])) for each in chosen]
    first = {each.type: each.value for each in reversed(alt_names)}
    attributes = []
    for each, presence in profile.subject:
        if presence is Presence.FORBIDDEN or (presence is Presence.OPTIONAL and draw(st.booleans())):
            continue
        value = draw(VALUES["CN"] if each == "EMAIL" else VALUES[each])
        if each == "EMAIL":
            value = first.get("email", "")
        elif each == "CN" and EXTENDED_KEY_USAGES["serverAuth"] in profile.extended_key_usage:
            value = first.get("DNS", "")
        attributes.append(SubjectAttribute(type=each, value=value))
    return CertificateRequest(
        key_kind="csr",
        key_proof=b"",
        profile=profile.name if profile.family else "",
        ocsp_target_ca="" if profile.family else ISSUERS[0].name,
        signature_hash=draw(st.sampled_from(("", "sha256", "sha384", "sha512"))),
        wish_from=draw(WISHES_FROM),
        wish_to=draw(WISHES_TO),
        attributes=tuple(draw(st.permutations(attributes))),
        alt_names=tuple(alt_names),
    )


PROFILES_AND_REQUESTS = st.sampled_from([*DEFAULT, everything()]).flatmap(
    lambda profile: st.tuples(st.just(profile), requests(profile))
)


@given(PROFILES_AND_REQUESTS, st.sampled_from(ISSUERS), st.sampled_from(KEY_KINDS), st.binary())
def test_what_is_approved_and_assembled_has_no_finding(
    asked: tuple[Profile, CertificateRequest], issuer: Authority, key_kind: str, seed: bytes
) -> None:
    profile, request = asked
    try:
        approved = policy.approve_sample(
            request,
            profile=profile,
            key=sample_key(key_kind),
            authority=dataclasses.replace(issuer, family=profile.family or "any"),
            now=NOW,
            serial_entropy=hashlib.sha256(seed).digest()[:15],
        )
    except Refused:
        reject()
    octets = assemble_tbs(approved)
    assert check(octets, approved).octets == octets


APPROVED, GOOD = good()


def finds(octets: bytes) -> bool:
    try:
        check(octets, APPROVED)
    except LintFinding:
        return True
    return False


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_one_octet_changed_is_found(place: int, change: int) -> None:
    octets = bytearray(GOOD)
    octets[place] ^= change
    assert finds(bytes(octets))


@given(st.integers(0, len(GOOD)), st.binary(max_size=4), st.integers(0, 4))
def test_octets_put_in_and_taken_out_are_found(place: int, inserted: bytes, removed: int) -> None:
    octets = GOOD[:place] + inserted + GOOD[place + removed :]
    assert finds(octets) == (octets != GOOD)


@given(st.binary(max_size=300))
def test_any_octets_are_found(octets: bytes) -> None:
    assert finds(octets)


@given(st.sampled_from(wished().alt_names), st.integers(0, 5))
def test_another_request_is_found(moved: SubjectAltName, place: int) -> None:
    rest = [each for each in wished().alt_names if each != moved]
    rest.insert(place, moved)
    changed = altered(APPROVED, request={"alt_names": tuple(rest)})
    try:
        check(GOOD, changed)
    except LintFinding:
        assert tuple(rest) != wished().alt_names
    else:
        assert tuple(rest) == wished().alt_names
