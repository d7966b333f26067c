"""The root structure as data: which CAs there are, how long they live and what they may vouch for.

Owns the hierarchy file (TOML, read once into frozen values) and its checks. When which sub-CA issues is `calendar`'s
part; keys and signatures are `key_ceremony`'s. Path lengths are no setting: root, structure CA and time sub-CA follow
from each other (RFC 5280 4.2.1.9).
"""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

from cassiopeia.config import SignerId, Text, Url, check_shape, parse_toml, read_text
from cassiopeia.core.authority import MAXIMUM_CERTIFICATES
from cassiopeia.core.evidence import STATEMENT_KINDS
from cassiopeia.core.profile import EXTENDED_KEY_USAGES, OCSP_SIGNING
from cassiopeia.errors import ConfigurationError

KeyAlgorithm = Literal[
    "RSA-2048",
    "RSA-3072",
    "RSA-4096",
    "P-256",
    "P-384",
    "P-521",
    "Ed25519",
    "Ed448",
    "ML-DSA-44",
    "ML-DSA-65",
    "ML-DSA-87",
]
KEY_ALGORITHMS: Final[tuple[KeyAlgorithm, ...]] = get_args(KeyAlgorithm)

# A sub-CA's CRL fits 1 MiB even if every certificate is revoked. A signature by ML-DSA-87 has 4,627 octets: with it
# and a long header (500), 21,300 entries of 49 octets do not.
_MAXIMUM_WITH_LONG_SIGNATURES: Final = 21_000
_LONG_SIGNATURES: Final[KeyAlgorithm] = "ML-DSA-87"

DEFAULT_NAME: Final = "default.toml"
ROOT_NAME: Final = "root"
# What a family may say otherwise than `[time]`.
_OWN_TIME: Final = ("key_algorithm", "months", "spares", "outlives_years", "maximum_certificates")
_ANY_EXTENDED_KEY_USAGE: Final = "2.5.29.37.0"
_MONTHS_A_YEAR: Final = 12
# What `core.authority.parse_authority_name` takes.
_TIME_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,31}_[0-9]{4}_[1-9][0-9]{0,3}")
_HIGHEST_NUMBER: Final = 9999

# RFC 5280 A.1: ub-common-name and ub-organization-name are 64. C0 and C1 controls have no place in a name.
_DirectoryText = Annotated[
    str,
    msgspec.Meta(
        pattern=r"(?#a name of 1 to 64 characters, no blanks around it)"
        r"^(?!\s)[^\x00-\x1f\x7f-\x9f]{1,64}(?<!\s)\Z"
    ),
]
# X.660: the first arc is 0, 1 or 2; below the first two the second is at most 39; no leading zeros anywhere.
_OID: Final = r"([01]\.([0-9]|[12][0-9]|3[0-9])|2\.(0|[1-9][0-9]{0,8}))(\.(0|[1-9][0-9]{0,17})){1,30}"
_ObjectIdentifier = Annotated[str, msgspec.Meta(pattern=rf"(?#an object identifier)^{_OID}\Z")]
_Usage = Annotated[str, msgspec.Meta(pattern=rf"(?#the name of an extended key usage or an OID)^([A-Za-z]+|{_OID})\Z")]


_DomainName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"(?#a domain name in lower case, as A-labels)"
        r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z",
        max_length=253,
    ),
]
_Months = Literal[1, 2, 3, 4, 6, 12]
_Spares = Annotated[int, msgspec.Meta(ge=0, le=9)]
_OutlivesYears = Annotated[int, msgspec.Meta(ge=1, le=5)]
_MaximumCertificates = Annotated[int, msgspec.Meta(ge=1, le=MAXIMUM_CERTIFICATES)]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every table has in common: it may hold what is declared here and nothing else."""


class RootLevel(_File, frozen=True, kw_only=True):
    common_name: _DirectoryText
    key_algorithm: KeyAlgorithm
    years: Annotated[int, msgspec.Meta(ge=1, le=30)]


class StructureLevel(_File, frozen=True, kw_only=True):
    key_algorithm: KeyAlgorithm
    years: Annotated[int, msgspec.Meta(ge=1, le=30)]


class TimeLevel(_File, frozen=True, kw_only=True):
    """Time sub-CAs issue for `months`, from the current period on for `periods`, and outlive that by whole years.

    For each period and signer there is one that issues, and `spares` more, for when it is full. A family with other
    months has as many periods as it takes to go on for as long.
    """

    key_algorithm: KeyAlgorithm
    months: _Months
    periods: Annotated[int, msgspec.Meta(ge=1, le=24)] = 1
    spares: _Spares = 0
    outlives_years: _OutlivesYears
    maximum_certificates: _MaximumCertificates = MAXIMUM_CERTIFICATES
    pss: bool = False


class NameConstraints(_File, frozen=True, kw_only=True):
    """What certificates below a structure CA may name (RFC 5280 4.2.1.10); a domain includes what is below it."""

    permitted_domains: tuple[_DomainName, ...] = ()
    excluded_domains: tuple[_DomainName, ...] = ()
    permitted_mail_domains: tuple[_DomainName, ...] = ()
    excluded_mail_domains: tuple[_DomainName, ...] = ()


class Family(_File, frozen=True, kw_only=True):
    """One kind of certificate: a structure CA and its time sub-CAs.

    What is None is as `[structure]` and `[time]` say. `profiles` are those that this family issues; none named: those
    that name this family themselves. `expected_a_month` is how many certificates are likely to be asked for.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"(?#a word of letters and digits)^[a-z][A-Za-z0-9]{0,31}\Z")]
    common_name: _DirectoryText
    extended_key_usage: Annotated[tuple[_Usage, ...], msgspec.Meta(min_length=1)]
    policy_identifiers: tuple[_ObjectIdentifier, ...] = ()
    cps_url: Url | None = None
    name_constraints: NameConstraints = NameConstraints()
    profiles: tuple[Text, ...] = ()
    expected_a_month: Annotated[int, msgspec.Meta(ge=0, le=100_000_000)] = 0
    structure_key_algorithm: KeyAlgorithm | None = None
    structure_years: Annotated[int, msgspec.Meta(ge=1, le=30)] | None = None
    key_algorithm: KeyAlgorithm | None = None
    months: _Months | None = None
    spares: _Spares | None = None
    outlives_years: _OutlivesYears | None = None
    maximum_certificates: _MaximumCertificates | None = None


class SignerMachine(_File, frozen=True, kw_only=True):
    """One signer: it owns time sub-CAs of these families (none named: of all).

    `sealing_key` names the file with its own public key, to which a bundle's passphrase is sealed; without one, the
    passphrase is written into a file of its own.
    """

    id: SignerId
    families: tuple[Text, ...] = ()
    sealing_key: str = ""


class Orders(_File, frozen=True, kw_only=True):
    """Whose orders the signers obey: files with Ed25519 public keys, of which `quorum` must sign what loosens."""

    operators: Annotated[tuple[Text, ...], msgspec.Meta(max_length=16)] = ()
    quorum: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1


class PinnedValidator(_File, frozen=True, kw_only=True):
    """A validator whom the signers believe; `kinds` (none named: all) are what it may state."""

    name: Text
    key: Text
    kinds: tuple[Text, ...] = ()


class Ocsp(_File, frozen=True, kw_only=True):
    """The files with the public keys of OCSP responders, which may have certificates of each time sub-CA."""

    responders: Annotated[tuple[Text, ...], msgspec.Meta(max_length=256)] = ()


class Hierarchy(_File, frozen=True, kw_only=True):
    """A whole root structure. `check_hierarchy` has seen every value of this type that `load_hierarchy` returns."""

    organisation: _DirectoryText
    country: Annotated[str, msgspec.Meta(pattern=r"(?#two capital letters, ISO 3166)^([A-Z]{2})?\Z")] = ""
    url_base: Url
    ocsp_urls: tuple[Url, ...] = ()
    crl_months: Annotated[int, msgspec.Meta(ge=1, le=24)]
    root: RootLevel
    structure: StructureLevel
    time: TimeLevel
    family: Annotated[tuple[Family, ...], msgspec.Meta(min_length=1, max_length=64)]
    signer: Annotated[tuple[SignerMachine, ...], msgspec.Meta(min_length=1, max_length=126)] = (SignerMachine(id=1),)
    orders: Orders = Orders()
    validator: Annotated[tuple[PinnedValidator, ...], msgspec.Meta(max_length=64)] = ()
    ocsp: Ocsp = Ocsp()

    def time_of(self, family: Family) -> TimeLevel:
        """The time sub-CAs of this family, with what the family says otherwise."""
        own = {name: getattr(family, name) for name in _OWN_TIME if getattr(family, name) is not None}
        return msgspec.structs.replace(self.time, **own)

    def structure_of(self, family: Family) -> StructureLevel:
        """The structure CA of this family, likewise."""
        return StructureLevel(
            key_algorithm=family.structure_key_algorithm or self.structure.key_algorithm,
            years=family.structure_years or self.structure.years,
        )

    def calendar_months(self, family: Family) -> int:
        """At most so many months from a ceremony until the last of this family's time sub-CAs has issued."""
        months = self.time_of(family).months
        # Periods of another length need not end when those of [time] do: the last one goes beyond.
        return self.time.months * self.time.periods + (0 if self.time.months % months == 0 else months)

    def signers_of(self, family: Family) -> tuple[int, ...]:
        """The ids of the signers that own time sub-CAs of this family."""
        return tuple(each.id for each in self.signer if not each.families or family.name in each.families)

    def crl_url(self, name: str) -> str:
        return f"{self.url_base.rstrip('/')}/{name}.crl"

    def issuer_url(self, name: str) -> str:
        return f"{self.url_base.rstrip('/')}/{name}.crt"


def load_hierarchy(path: Path | None = None) -> Hierarchy:
    """The hierarchy of a file, or the default one; raises ConfigurationError.

    Files that it names are not looked at: `declaration` does.
    """
    if path is None:
        return parse_hierarchy(default_hierarchy_text(), source=DEFAULT_NAME)
    return parse_hierarchy(read_text(path), source=str(path))


def parse_hierarchy(text: str, *, source: str) -> Hierarchy:
    """The hierarchy of a text, which messages call `source`; raises ConfigurationError."""
    return check_hierarchy(parse_toml(text, Hierarchy, source=source), source=source)


def default_hierarchy_text() -> str:
    return (importlib.resources.files(__package__) / DEFAULT_NAME).read_text(encoding="utf-8")


def check_hierarchy(hierarchy: Hierarchy, *, source: str) -> Hierarchy:
    """The same hierarchy, if each of its values is good and they agree; raises ConfigurationError."""
    # 1. Values that a caller replaced have not been through the parser.
    check_shape(msgspec.to_builtins(hierarchy), Hierarchy, source=source)
    # 2. The families: their names, what they vouch for, and how long each CA has to live.
    _check_names(hierarchy, source=source)
    for index, family in enumerate(hierarchy.family):
        key = f"family[{index}]"
        _check_extended_key_usage(family, source=source, key=f"{key}.extended_key_usage")
        # RFC 5280 4.2.1.4: a policy must not stand there twice.
        _check_distinct(family.policy_identifiers, source=source, key=f"{key}.policy_identifiers")
        if family.cps_url and not family.policy_identifiers:
            raise ConfigurationError(
                "it stands beside a policy (RFC 5280 4.2.1.4), and there is none: give policy_identifiers, too",
                source=source,
                key=f"{key}.cps_url",
            )
        _check_distinct(family.profiles, source=source, key=f"{key}.profiles")
        _check_name_constraints(family.name_constraints, source=source, key=f"{key}.name_constraints")
        _check_times(hierarchy, family, source=source, key=key)
    # 3. The signers, and whom they believe.
    _check_signers(hierarchy, source=source)
    for index, validator in enumerate(hierarchy.validator):
        for kind in validator.kinds:
            if kind not in STATEMENT_KINDS:
                raise ConfigurationError(
                    f"{kind!a} is nothing that a validator states; use {', '.join(STATEMENT_KINDS)}",
                    source=source,
                    key=f"validator[{index}].kinds",
                )
        _check_distinct(validator.kinds, source=source, key=f"validator[{index}].kinds")
    # 4. The places that certificates name.
    _check_distinct(hierarchy.ocsp_urls, source=source, key="ocsp_urls")
    _check_url(hierarchy.url_base, source=source, key="url_base")
    for index, url in enumerate(hierarchy.ocsp_urls):
        _check_url(url, source=source, key=f"ocsp_urls[{index}]")
    for index, family in enumerate(hierarchy.family):
        if family.cps_url:
            _check_url(family.cps_url, source=source, key=f"family[{index}].cps_url")
    return hierarchy


def with_key_algorithm(hierarchy: Hierarchy, key_algorithm: KeyAlgorithm) -> Hierarchy:
    """The same hierarchy with keys of one kind on every level, and no more certificates than fit its CRLs."""
    maximum = hierarchy.time.maximum_certificates
    if key_algorithm == _LONG_SIGNATURES:
        maximum = min(maximum, _MAXIMUM_WITH_LONG_SIGNATURES)
    return msgspec.structs.replace(
        hierarchy,
        root=msgspec.structs.replace(hierarchy.root, key_algorithm=key_algorithm),
        structure=msgspec.structs.replace(hierarchy.structure, key_algorithm=key_algorithm),
        time=msgspec.structs.replace(hierarchy.time, key_algorithm=key_algorithm, maximum_certificates=maximum),
        family=tuple(
            msgspec.structs.replace(
                family,
                structure_key_algorithm=None,
                key_algorithm=None,
                maximum_certificates=min(family.maximum_certificates or maximum, maximum)
                if family.maximum_certificates is not None
                else None,
            )
            for family in hierarchy.family
        ),
    )


def with_periods(hierarchy: Hierarchy, periods: int, *, spares: int | None = None) -> Hierarchy:
    """The same hierarchy with time sub-CAs for so many periods, each with `spares` of them where that is given.

    Nothing is checked: `initialise` does.
    """
    time = msgspec.structs.replace(hierarchy.time, periods=periods)
    if spares is None:
        return msgspec.structs.replace(hierarchy, time=time)
    return msgspec.structs.replace(
        hierarchy,
        time=msgspec.structs.replace(time, spares=spares),
        family=tuple(msgspec.structs.replace(each, spares=None) for each in hierarchy.family),
    )


def extended_key_usage_oid(name_or_oid: str) -> str:
    return EXTENDED_KEY_USAGES.get(name_or_oid, name_or_oid)


def _check_names(hierarchy: Hierarchy, *, source: str) -> None:
    names = {ROOT_NAME: ROOT_NAME}
    common_names = {hierarchy.root.common_name}
    for index, family in enumerate(hierarchy.family):
        key = f"family[{index}]"
        # Names become names of files and URLs, and not every disk tells capitals from small letters.
        if family.name.lower() in names:
            raise ConfigurationError(
                f"another CA is called {names[family.name.lower()]!r}", source=source, key=f"{key}.name"
            )
        # RFC 5280 4.1.2.6: a subject names one CA; an issuer name could not tell two of the same name apart.
        if family.common_name in common_names:
            raise ConfigurationError("another CA has this name", source=source, key=f"{key}.common_name")
        names[family.name.lower()] = family.name
        common_names.add(family.common_name)
    for key, common_name in (
        ("root.common_name", hierarchy.root.common_name),
        *((f"family[{index}].common_name", each.common_name) for index, each in enumerate(hierarchy.family)),
    ):
        if _TIME_NAME.fullmatch(common_name):
            raise ConfigurationError(
                "this is how time sub-CAs are called: give this CA another name", source=source, key=key
            )


def _check_times(hierarchy: Hierarchy, family: Family, *, source: str, key: str) -> None:
    """How long the CAs of one family live and how much they issue; a value is named where it stands."""
    time, structure = hierarchy.time_of(family), hierarchy.structure_of(family)
    structure_key = "structure.years" if family.structure_years is None else f"{key}.structure_years"
    # The last time sub-CA may be made for the far end of the current period, and the CA above must outlive it.
    time_months = hierarchy.calendar_months(family) + time.outlives_years * _MONTHS_A_YEAR
    if time_months > structure.years * _MONTHS_A_YEAR:
        raise ConfigurationError(
            f"too short: time sub-CAs of {family.name} may end {time_months} months from now, and none may outlive its "
            "structure CA",
            source=source,
            key=structure_key,
        )
    if structure.years > hierarchy.root.years:
        raise ConfigurationError(
            f"too short: no structure CA may outlive the root, and that of {family.name} lives for {structure.years} "
            "years",
            source=source,
            key="root.years",
        )
    if time.key_algorithm == _LONG_SIGNATURES and time.maximum_certificates > _MAXIMUM_WITH_LONG_SIGNATURES:
        raise ConfigurationError(
            f"at most {_MAXIMUM_WITH_LONG_SIGNATURES} with {_LONG_SIGNATURES}: its CRL has to fit 1 MiB",
            source=source,
            key="time.maximum_certificates" if family.maximum_certificates is None else f"{key}.maximum_certificates",
        )
    of_a_year = _MONTHS_A_YEAR // time.months * len(hierarchy.signers_of(family)) * (time.spares + 1)
    if of_a_year > _HIGHEST_NUMBER:
        raise ConfigurationError(
            f"{of_a_year} time sub-CAs of {family.name} a year, and they are numbered up to {_HIGHEST_NUMBER}: make "
            "periods longer, or spares or signers fewer",
            source=source,
            key="time.spares" if family.spares is None else f"{key}.spares",
        )


def _check_signers(hierarchy: Hierarchy, *, source: str) -> None:
    families = {family.name for family in hierarchy.family}
    ids: set[int] = set()
    for index, signer in enumerate(hierarchy.signer):
        key = f"signer[{index}]"
        if signer.id in ids:
            # ADR 4: a serial number begins with the id of its signer, so that no two can make the same one.
            raise ConfigurationError(f"another signer has the id {signer.id}", source=source, key=f"{key}.id")
        ids.add(signer.id)
        for name in signer.families:
            if name not in families:
                raise ConfigurationError(
                    f"no [[family]] is called {name!a}; there are {', '.join(sorted(families))}",
                    source=source,
                    key=f"{key}.families",
                )
        _check_distinct(signer.families, source=source, key=f"{key}.families")


def _check_name_constraints(constraints: NameConstraints, *, source: str, key: str) -> None:
    for what in ("domains", "mail_domains"):
        permitted, excluded = getattr(constraints, f"permitted_{what}"), getattr(constraints, f"excluded_{what}")
        for sort, listed in (("permitted", permitted), ("excluded", excluded)):
            _check_distinct(listed, source=source, key=f"{key}.{sort}_{what}")
        for domain in permitted:
            if any(domain == each or domain.endswith(f".{each}") for each in excluded):
                raise ConfigurationError(
                    f"nothing is permitted below {domain}: it is excluded too",
                    source=source,
                    key=f"{key}.excluded_{what}",
                )


def _check_extended_key_usage(family: Family, *, source: str, key: str) -> None:
    for usage in family.extended_key_usage:
        if usage not in EXTENDED_KEY_USAGES and not usage[0].isdigit():
            raise ConfigurationError(
                f"{usage!r} is not known; use {', '.join(EXTENDED_KEY_USAGES)} or an OID", source=source, key=key
            )
    identifiers = [extended_key_usage_oid(usage) for usage in family.extended_key_usage]
    if OCSP_SIGNING in identifiers:
        raise ConfigurationError(
            "OCSPSigning would make this CA an OCSP responder of the CA above it: leave it out", source=source, key=key
        )
    if _ANY_EXTENDED_KEY_USAGE in identifiers:
        raise ConfigurationError("anyExtendedKeyUsage allows every use: name them", source=source, key=key)
    _check_distinct(identifiers, source=source, key=key)


def _check_url(url: str, *, source: str, key: str) -> None:
    try:
        parts = urlsplit(url)
        reached = bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that hold no IPv6 address, or a port that is no number
        reached = False
    if not reached:
        raise ConfigurationError(f"{url[:80]!a} leads to no host", source=source, key=key)


def _check_distinct(values: Sequence[str], *, source: str, key: str) -> None:
    if len(set(values)) != len(values):
        raise ConfigurationError("the same value stands there twice", source=source, key=key)
