"""Sample certificates: what a profile would issue, made and linted before anybody asks for it.

Owns the sample names and keys, and the verdict on a profile: one whose sample cannot be made, or has a finding, would
do no better with a subscriber's request. The keys are numbers out of a hash, so that nobody has their private halves;
they are never examined, and no sample is ever signed. Same profiles and sub-CAs, same verdicts: nothing here depends on
the clock or on chance.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia.core import algorithms, certificate
from cassiopeia.core.authority import Authority
from cassiopeia.core.csr import CertifiedKey
from cassiopeia.core.demands import demands
from cassiopeia.core.lint import lint
from cassiopeia.core.lint_rules import LintFinding
from cassiopeia.core.policy import SERIAL_ENTROPY_OCTETS, ApprovedRequest, approve_sample
from cassiopeia.core.profile import EXTENDED_KEY_USAGES, Presence, Profile
from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute
from cassiopeia.errors import CassiopeiaError, Refused

_ATTRIBUTES: Final = {
    "C": "DE",
    "ST": "Hessen",
    "L": "Frankfurt am Main",
    "O": "Example e.V.",
    "OU": "Operations",
    "CN": "Ada Example",
    "EMAIL": "ada@example.org",
}
_ALT_NAMES: Final = {
    "DNS": "www.example.org",
    "email": "ada@example.org",
    "IP": "2000::1",  # nobody's, and yet no address for documentation, which some rules forbid
    "URI": "https://www.example.org/",
}
_WILDCARD: Final = SubjectAltName(type="DNS", value="*.example.org")

_FIRST_DAY: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_LAST_DAY: Final = dt.datetime(2036, 1, 1, tzinfo=dt.UTC)
_EXPONENT: Final = 65537


def _octets(label: str, count: int) -> bytes:
    return hashlib.shake_256(f"cassiopeia sample {label}".encode()).digest(count)


_ENTROPY: Final = _octets("serial number", SERIAL_ENTROPY_OCTETS)


def _rsa_key() -> rsa.RSAPublicKey:
    # The first number behind the hash that has no factor below 2^20, and is no prime either.
    modulus = (int.from_bytes(_octets("key RSA-3072", 384), "big") | 1 | 1 << 3071) + 52
    return rsa.RSAPublicNumbers(_EXPONENT, modulus).public_key()


def _ec_key(curve: ec.EllipticCurve, x: int) -> ec.EllipticCurvePublicKey:
    point = b"\x02" + x.to_bytes((curve.key_size + 7) // 8, "big")
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, point)


# Behind the hash, the first x that is on the curve.
_KEYS: Final[Mapping[str, Callable[[], CertificatePublicKeyTypes]]] = {
    "RSA-3072": _rsa_key,
    "P-256": lambda: _ec_key(ec.SECP256R1(), int.from_bytes(_octets("key P-256", 32), "big") + 1),
    "P-384": lambda: _ec_key(ec.SECP384R1(), int.from_bytes(_octets("key P-384", 48), "big")),
    "P-521": lambda: _ec_key(ec.SECP521R1(), int.from_bytes(_octets("key P-521", 66), "big") % (2**521 - 1)),
    "Ed25519": lambda: ed25519.Ed25519PublicKey.from_public_bytes(_octets("key Ed25519", 32)),
    "ML-DSA-44": lambda: mldsa.MLDSA44PublicKey.from_public_bytes(_octets("key ML-DSA-44", 1312)),
    "ML-DSA-65": lambda: mldsa.MLDSA65PublicKey.from_public_bytes(_octets("key ML-DSA-65", 1952)),
    "ML-DSA-87": lambda: mldsa.MLDSA87PublicKey.from_public_bytes(_octets("key ML-DSA-87", 2592)),
}
KEY_KINDS: Final = tuple(_KEYS)
"""Of each kind of key that is certified, one."""

COMMON_KEY_KINDS: Final = ("RSA-3072", "P-256")
"""The kinds that no set of rules forbids."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A certificate that nobody asked for: what was approved, and the octets that would be signed.

    With `least`, it has the names that the profile requires, otherwise all that it allows.
    """

    profile: Profile
    authority: Authority
    key_kind: str
    least: bool
    approved: ApprovedRequest
    tbs_certificate: bytes

    def __str__(self) -> str:
        names = "the fewest names" if self.least else "all kinds of names"
        return f"a {self.key_kind} key, {names}, by {self.authority.name}"


def unsound_profiles(profiles: Iterable[Profile], authorities: Iterable[Authority]) -> dict[str, str]:
    """The profiles that are not to issue, by name, each with what is wrong with its first bad sample."""
    authorities = tuple(authorities)
    faults = {each.name: fault(each, authorities) for each in profiles}
    return {name: found for name, found in faults.items() if found}


def fault(profile: Profile, authorities: Iterable[Authority]) -> str:
    """What is wrong with the first bad sample of a profile, with each of these sub-CAs that may sign it; mostly empty.

    Where none of them may, a sub-CA that does not exist stands in for it. Of sub-CAs that differ in name, key, dates
    and URLs alone, one signs every sample and each of the others one: a signer has dozens of them.
    """
    seen: set[tuple[object, ...]] = set()
    for authority in able_authorities(profile, authorities) or [sample_authority(profile.family)]:
        kind = _kind_of(authority)
        if found := _fault_with(profile, authority, briefly=kind in seen):
            return found
        seen.add(kind)
    return ""


def _kind_of(authority: Authority) -> tuple[object, ...]:
    """What decides about all of a sub-CA's samples alike."""
    algorithm = algorithms.choose_algorithm(authority.public_key, "", pss=authority.pss)
    urls = tuple(map(len, (authority.crl_urls, authority.issuer_urls, authority.ocsp_urls)))
    return algorithm.der, getattr(authority.public_key, "key_size", 0), urls, authority.constraints


def _fault_with(profile: Profile, authority: Authority, *, briefly: bool) -> str:
    """What is wrong with the first bad sample by this sub-CA; `briefly`: with one that has all names."""
    made = 0
    refusal = ""
    for key_kind, least in _variants():
        if briefly and (least or made):
            continue
        what = f"{key_kind}, by {authority.name}"
        try:
            sample = make_sample(profile, authority, key_kind=key_kind, least=least)
            lint_sample(sample)
            made += 1
        except LintFinding as finding:
            return f"its sample certificate ({what}) has the finding {finding.name}: {finding.found}"
        except Refused as error:
            # A profile need not serve every kind of key; but it has to serve one.
            if error.code != "key-unsupported":
                return f"its sample certificate ({what}) is refused: {error.message}"
            refusal = error.message
        except (CassiopeiaError, ValueError, TypeError, OverflowError) as error:
            # Whatever a strange value in the profile or the sub-CA makes of the libraries.
            return f"its sample certificate ({what}) cannot be made: {error}"
    return "" if made else f"it certifies no kind of key: {refusal}"


def able_authorities(profile: Profile, authorities: Iterable[Authority]) -> list[Authority]:
    """Those that may sign by this profile at some time: a retired one signs for OCSP responders alone."""
    return [each for each in authorities if not profile.family or (profile.family == each.family and not each.retired)]


def make_sample(
    profile: Profile,
    authority: Authority,
    *,
    key_kind: str,
    least: bool = False,
    now: dt.datetime | None = None,
) -> Sample:
    """One sample, not linted: as of `now` if the sub-CA issues then, else of the first day on which it does.

    Raises Refused or Unavailable where the policy would, and what the libraries raise of strange values.
    """
    if now is None or not authority.issues_from <= now < authority.issues_until:
        now = authority.issues_from
    request = _request(profile, authority, least=least, now=now)
    # That something could prove the names; the policy is not asked whether it did.
    demands(profile, request)
    approved = approve_sample(
        request,
        profile=profile,
        key=sample_key(key_kind),
        authority=authority,
        now=now,
        serial_entropy=_ENTROPY,
    )
    return Sample(
        profile=profile,
        authority=authority,
        key_kind=key_kind,
        least=least,
        approved=approved,
        tbs_certificate=certificate.assemble_tbs(approved),
    )


def lint_sample(sample: Sample) -> None:
    """The signer's own lint; raises LintFinding."""
    lint(
        sample.tbs_certificate,
        sample.approved,
        signer_id=sample.authority.signer_id,
        now=sample.approved.validity.not_before,
    )


@functools.cache
def sample_key(kind: str) -> CertifiedKey:
    """The sample key of one of `KEY_KINDS`."""
    public_key = _KEYS[kind]()
    return CertifiedKey(
        subject_public_key_info=public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public_key=public_key,
        algorithm=kind,
        key_identifier=x509.SubjectKeyIdentifier.from_public_key(public_key).digest,
    )


def sample_authority(family: str) -> Authority:
    """A sub-CA that does not exist, for a profile of this family."""
    name = f"{family or 'sample'}_2026_1"
    key = sample_key("P-384")
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return Authority(
        name=name,
        family=family or "sample",
        year=2026,
        number=1,
        signer_id=1,
        certificate=b"",
        subject=subject.public_bytes(),
        public_key=key.public_key,
        key_identifier=key.key_identifier,
        not_before=_FIRST_DAY,
        not_after=_LAST_DAY,
        issues_from=_FIRST_DAY,
        issues_until=_LAST_DAY,
        crl_urls=(f"http://crl.example.org/{name}.crl",),
        issuer_urls=(f"http://crt.example.org/{name}.crt",),
        ocsp_urls=("http://ocsp.example.org",),
    )


def _variants() -> Iterator[tuple[str, bool]]:
    yield KEY_KINDS[0], True
    for key_kind in KEY_KINDS:
        yield key_kind, False


def _request(profile: Profile, authority: Authority, *, least: bool, now: dt.datetime) -> CertificateRequest:
    alt_names = _alt_names(profile, least=least)
    days = min(profile.maximum_validity_days, (authority.not_after - now).days)
    return CertificateRequest(
        key_kind="csr",
        key_proof=b"",
        profile=profile.name if profile.family else "",
        ocsp_target_ca="" if profile.family else authority.name,
        wish_to=f"{max(1, days)}d",
        attributes=_attributes(profile, alt_names, least=least),
        alt_names=alt_names,
    )


def _alt_names(profile: Profile, *, least: bool) -> tuple[SubjectAltName, ...]:
    """Of each type one, those that are required first, as many as the profile allows."""
    presences = dict(profile.alt_names)
    required = [each for each in _ALT_NAMES if presences[each] is Presence.REQUIRED]
    optional = [each for each in _ALT_NAMES if presences[each] is Presence.OPTIONAL]
    if least:
        # Somebody has to be named.
        needs_one = not required and Presence.REQUIRED not in dict(profile.subject).values()
        optional = optional[:1] if needs_one else []
    names = [SubjectAltName(type=each, value=_ALT_NAMES[each]) for each in (*required, *optional)]
    if profile.allow_wildcard and not least:
        names.append(_WILDCARD)
    return tuple(names[: profile.maximum_alt_names])


def _attributes(
    profile: Profile, alt_names: tuple[SubjectAltName, ...], *, least: bool
) -> tuple[SubjectAttribute, ...]:
    presences = dict(profile.subject)
    wanted = [each for each in _ATTRIBUTES if presences[each] is Presence.REQUIRED]
    if not least or not (wanted or alt_names):
        wanted = [each for each in _ATTRIBUTES if presences[each] is not Presence.FORBIDDEN]
    values = dict(_ATTRIBUTES)
    given = {each.type: each.value for each in reversed(alt_names)}
    # What has to be among the alternative names is left out where it cannot be there, unless the profile requires it.
    if EXTENDED_KEY_USAGES["serverAuth"] in profile.extended_key_usage:
        values["CN"] = given.get("DNS") or given.get("IP") or ""
    if "email" not in given and presences["EMAIL"] is not Presence.REQUIRED:
        values["EMAIL"] = ""
    return tuple(
        SubjectAttribute(type=each, value=values[each])
        for each in wanted
        if values[each] or presences[each] is Presence.REQUIRED
    )
