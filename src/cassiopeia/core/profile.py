"""Profiles: what a kind of certificate may contain, how long it lives and what must be proved for it.

Owns the frozen `Profile` and its TOML form. Reads no files: the caller gives the text and says where it came from. It
decides nothing about a request (`policy` does) and knows no other format (`legacy_profile` does). The fields follow
RFC 5280 4.2.1: key usage (4.2.1.3), extended key usage (4.2.1.12), certificate policies (4.2.1.4), subject alternative
names (4.2.1.6); `ocsp_no_check` is RFC 6960 4.2.2.2.1.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from cassiopeia.core.decoding import explain
from cassiopeia.core.evidence import ATTESTATION, STATEMENT_KINDS
from cassiopeia.core.names import check_alt_name
from cassiopeia.core.request import SubjectAltName
from cassiopeia.errors import ConfigurationError, Refused

SUBJECT_TYPES: Final = ("C", "ST", "L", "O", "OU", "CN", "EMAIL")
ALT_NAME_TYPES: Final = ("DNS", "email", "IP", "URI")

# RFC 5280 4.2.1.3, in the order of the bits. A subscriber's certificate signs no certificates and no CRLs, and the two
# "only" bits narrow a key agreement that nobody uses: none of the four can be asked for.
KEY_USAGES: Final = ("digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment", "keyAgreement")

# RFC 5280 4.2.1.12, RFC 6960 4.2.2.2, and the two that the original's code signing profile names.
EXTENDED_KEY_USAGES: Final = {
    "serverAuth": "1.3.6.1.5.5.7.3.1",
    "clientAuth": "1.3.6.1.5.5.7.3.2",
    "codeSigning": "1.3.6.1.5.5.7.3.3",
    "emailProtection": "1.3.6.1.5.5.7.3.4",
    "timeStamping": "1.3.6.1.5.5.7.3.8",
    "OCSPSigning": "1.3.6.1.5.5.7.3.9",
    "msCodeInd": "1.3.6.1.4.1.311.2.1.21",
    "msCodeCom": "1.3.6.1.4.1.311.2.1.22",
}
OCSP_SIGNING: Final = EXTENDED_KEY_USAGES["OCSPSigning"]
_ANY_EXTENDED_KEY_USAGE: Final = "2.5.29.37.0"

# Which kinds of observation prove a name of each type (wire specification, "Proofs"). Nothing proves IP and URI.
PROVED_BY: Final = {
    **dict.fromkeys(("C", "ST", "L", "O", "OU"), ("organisation",)),
    "CN": ("name-verified", "organisation"),
    "EMAIL": ("mailbox-control",),
    "DNS": ("dns-control",),
    "email": ("mailbox-control",),
    "IP": (),
    "URI": (),
}
MAXIMUM_AGE_HOURS: Final = 5 * 8760

LINT_RULES: Final = ("serverauth", "smime")
"""What the client's linter can judge by, beside RFC 5280: the CA/Browser Forum's rules for servers and for S/MIME."""

MAXIMUM_VALIDITY_DAYS: Final = 1825
MAXIMUM_OCSP_VALIDITY_DAYS: Final = 30  # wire specification, "Proofs": nobody can revoke these (`ocsp_no_check`)
MAXIMUM_AHEAD_DAYS: Final = 14

_NAME = re.compile(r"[0-9]{4}-[a-z0-9]+(?:-[a-z0-9]+)*")
_FINDING = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)+")
_FAMILY = re.compile(r"[a-z][A-Za-z0-9]{0,31}")
# X.660: the first arc is 0, 1 or 2; below the first two the second is at most 39; no leading zeros anywhere.
_OBJECT_IDENTIFIER = re.compile(
    r"(?:[01]\.(?:[0-9]|[12][0-9]|3[0-9])|2\.(?:0|[1-9][0-9]{0,8}))(?:\.(?:0|[1-9][0-9]{0,17}))+"
)


class Presence(enum.Enum):
    """Whether a certificate of the profile must not, may or must carry a kind of name."""

    FORBIDDEN = "forbidden"
    OPTIONAL = "optional"
    REQUIRED = "required"


@dataclass(frozen=True, kw_only=True, slots=True)
class AcceptedFinding:
    """A finding of the client's linter that vetoes nothing under this profile, and why."""

    finding: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """One profile, fully checked and hashable. Extended key usages are OIDs; `family` is empty for OCSP responders.

    An empty `family` means that the request names its sub-CA itself (`CertificateRequest.ocsp_target_ca`). An empty
    `evidence` means that nothing is proved: such a profile is for trying out. With `whole_domain`, who controls a
    domain as a whole may name whatever is below it. `maximum_age_hours` is how old observations of a kind may be, where
    the profile says so (`demands.maximum_age` has the rest). What begins with `lint` is the client's alone
    (`client.lint`): the signer checks how it is written, and decides nothing by it.
    """

    name: str
    title: str
    family: str
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    maximum_validity_days: int
    not_before_ahead_days: int
    subject: tuple[tuple[str, Presence], ...]
    alt_names: tuple[tuple[str, Presence], ...]
    maximum_alt_names: int
    allow_wildcard: bool
    policy_identifiers: tuple[str, ...]
    cps_uri: str
    evidence: tuple[str, ...]
    ocsp_no_check: bool
    whole_domain: bool = False
    maximum_age_hours: tuple[tuple[str, int], ...] = ()
    lint_rules: tuple[str, ...] = ()
    lint_allow: tuple[AcceptedFinding, ...] = ()

    def subject_presence(self, attribute_type: str) -> Presence:
        """Presence of one of `SUBJECT_TYPES`; a type nobody knows is forbidden."""
        return dict(self.subject).get(attribute_type, Presence.FORBIDDEN)

    def alt_name_presence(self, alt_name_type: str) -> Presence:
        """Presence of one of `ALT_NAME_TYPES`; a type nobody knows is forbidden."""
        return dict(self.alt_names).get(alt_name_type, Presence.FORBIDDEN)


def parse_profile(text: str, *, name: str, source: str) -> Profile:
    """Parse one profile in TOML; `name` is what requests call it, `source` what messages call the file.

    Raises ConfigurationError with source, key and reason.
    """
    # 1. The shape: known keys with the right types.
    try:
        given = msgspec.toml.decode(text, type=_ProfileFile)
    except msgspec.ValidationError as error:
        reason, key = explain(str(error))
        raise ConfigurationError(reason, source=source, key=key) from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"this is not TOML: {error}", source=source) from error
    # 2. The values, each by itself.
    check = _Check(source)
    check.that(_NAME.fullmatch(name), "", f"a profile is named by four digits and words, as 0004-server, not {name!r}")
    check.that(given.title.strip(), "title", "a title for people to read is missing")
    family_is_good = not given.family or _FAMILY.fullmatch(given.family)
    check.that(family_is_good, "family", "a family is a word of letters and digits, as unassured")
    check.that(given.key_usage, "key_usage", "at least one key usage is needed")
    check.each_of(given.key_usage, KEY_USAGES, "key_usage")
    check.that(given.extended_key_usage, "extended_key_usage", "at least one is needed: without, every use is allowed")
    purposes = tuple(check.purpose(each) for each in given.extended_key_usage)
    check.that(len(set(purposes)) == len(purposes), "extended_key_usage", "the same usage stands there twice")
    check.within(given.maximum_validity_days, 1, MAXIMUM_VALIDITY_DAYS, "maximum_validity_days")
    check.within(given.not_before_ahead_days, 0, MAXIMUM_AHEAD_DAYS, "not_before_ahead_days")
    check.within(given.maximum_alt_names, 0, 250, "maximum_alt_names")
    check.each_of(given.evidence, STATEMENT_KINDS, "evidence")
    ages = msgspec.to_builtins(given.maximum_age_hours)
    for kind, hours in ages.items():
        check.that(kind in given.evidence, f"maximum_age_hours.{kind}", "evidence does not demand this kind")
        check.within(hours, 1, MAXIMUM_AGE_HOURS, f"maximum_age_hours.{kind}")
    for identifier in given.policy_identifiers:
        check.object_identifier(identifier, "policy_identifiers")
    check.that(
        len(set(given.policy_identifiers)) == len(given.policy_identifiers),
        "policy_identifiers",
        "the same identifier stands there twice (RFC 5280 4.2.1.4)",
    )
    check.practice_statement(given.cps_uri)
    check.each_of(given.lint.rules, LINT_RULES, "lint.rules")
    check.accepted_findings(given.lint.allow)
    # 3. The values together.
    subject = tuple((each, getattr(given.subject, each)) for each in SUBJECT_TYPES)
    alt_names = tuple((each, getattr(given.alt_names, each)) for each in ALT_NAME_TYPES)
    presences = dict(subject + alt_names)
    check.that(
        given.policy_identifiers or not given.cps_uri, "cps_uri", "it belongs to a policy: give policy_identifiers"
    )
    check.that(
        any(presence is not Presence.FORBIDDEN for presence in presences.values()),
        "subject",
        "every kind of name is forbidden: a certificate has to name somebody",
    )
    needed = sum(presence is Presence.REQUIRED for _, presence in alt_names)
    check.that(given.maximum_alt_names >= needed, "maximum_alt_names", "fewer are allowed than are required")
    dns_allowed = presences["DNS"] is not Presence.FORBIDDEN
    check.that(dns_allowed or not given.allow_wildcard, "allow_wildcard", "a wildcard is a DNS name: allow DNS")
    if OCSP_SIGNING in purposes:
        check.that(purposes == (OCSP_SIGNING,), "extended_key_usage", "OCSPSigning stands alone (RFC 6960 4.2.2.2)")
        check.that(not given.family, "family", "an OCSP responder's request names its sub-CA itself: leave it out")
        check.within(given.maximum_validity_days, 1, MAXIMUM_OCSP_VALIDITY_DAYS, "maximum_validity_days")
    else:
        check.that(given.family, "family", "the family of sub-CAs that sign this profile is missing")
        check.that(not given.ocsp_no_check, "ocsp_no_check", "it is for OCSPSigning alone (RFC 6960 4.2.2.2.1)")
    check.evidence(given, presences, is_server=EXTENDED_KEY_USAGES["serverAuth"] in purposes)
    return Profile(
        name=name,
        title=given.title,
        family=given.family,
        key_usage=tuple(each for each in KEY_USAGES if each in given.key_usage),
        extended_key_usage=purposes,
        maximum_validity_days=given.maximum_validity_days,
        not_before_ahead_days=given.not_before_ahead_days,
        subject=subject,
        alt_names=alt_names,
        maximum_alt_names=given.maximum_alt_names,
        allow_wildcard=given.allow_wildcard,
        policy_identifiers=given.policy_identifiers,
        cps_uri=given.cps_uri,
        evidence=given.evidence,
        ocsp_no_check=given.ocsp_no_check,
        whole_domain=given.whole_domain,
        maximum_age_hours=tuple(sorted(ages.items())),
        lint_rules=given.lint.rules,
        lint_allow=tuple(AcceptedFinding(finding=each.finding, reason=each.reason) for each in given.lint.allow),
    )


class _SubjectTable(msgspec.Struct, forbid_unknown_fields=True):
    """`[subject]`: what is not named is forbidden. The keys are the attribute types as requests spell them."""

    C: Presence = Presence.FORBIDDEN
    ST: Presence = Presence.FORBIDDEN
    L: Presence = Presence.FORBIDDEN
    O: Presence = Presence.FORBIDDEN  # noqa: E741 - the attribute's name on the wire
    OU: Presence = Presence.FORBIDDEN
    CN: Presence = Presence.FORBIDDEN
    EMAIL: Presence = Presence.FORBIDDEN


class _AltNamesTable(msgspec.Struct, forbid_unknown_fields=True):
    """`[alt_names]`: what is not named is forbidden. The keys are the types as requests spell them."""

    DNS: Presence = Presence.FORBIDDEN
    email: Presence = Presence.FORBIDDEN
    IP: Presence = Presence.FORBIDDEN
    URI: Presence = Presence.FORBIDDEN


class _AgesTable(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """`[maximum_age_hours]`: the keys are `OBSERVATION_KINDS`. What is not named keeps its default."""

    dns_control: int | None = None
    caa_permits: int | None = None
    mailbox_control: int | None = None
    name_verified: int | None = None
    organisation: int | None = None


class _AllowTable(msgspec.Struct, forbid_unknown_fields=True):
    """`[[lint.allow]]`: nothing is accepted without a reason."""

    finding: str
    reason: str


class _LintTable(msgspec.Struct, forbid_unknown_fields=True):
    """`[lint]`: what the client's linter judges by beside RFC 5280, and what it may find."""

    rules: tuple[str, ...] = ()
    allow: tuple[_AllowTable, ...] = ()


class _ProfileFile(msgspec.Struct, forbid_unknown_fields=True):
    """A profile as its file spells it. Whatever is left out is the narrow choice; `evidence` cannot be left out."""

    title: str
    key_usage: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    maximum_validity_days: int
    evidence: tuple[str, ...]
    family: str = ""
    not_before_ahead_days: int = 0
    subject: _SubjectTable = msgspec.field(default_factory=_SubjectTable)
    alt_names: _AltNamesTable = msgspec.field(default_factory=_AltNamesTable)
    maximum_alt_names: int = 50
    allow_wildcard: bool = False
    policy_identifiers: tuple[str, ...] = ()
    cps_uri: str = ""
    ocsp_no_check: bool = False
    whole_domain: bool = False
    maximum_age_hours: _AgesTable = msgspec.field(default_factory=_AgesTable)
    lint: _LintTable = msgspec.field(default_factory=_LintTable)


class _Check:
    """Raises ConfigurationError that names the file and the key."""

    def __init__(self, source: str) -> None:
        self.source = source

    def that(self, condition: object, key: str, reason: str) -> None:
        if not condition:
            raise ConfigurationError(reason, source=self.source, key=key)

    def within(self, value: int, low: int, high: int, key: str) -> None:
        self.that(low <= value <= high, key, f"{value} is not between {low} and {high}")

    def each_of(self, values: tuple[str, ...], known: Iterable[str], key: str) -> None:
        known = tuple(known)
        for value in values:
            self.that(value in known, key, f"{value!r} is not known; use {', '.join(known)}")
        self.that(len(set(values)) == len(values), key, "the same value stands there twice")

    def purpose(self, name_or_identifier: str) -> str:
        key = "extended_key_usage"
        if name_or_identifier in EXTENDED_KEY_USAGES:
            return EXTENDED_KEY_USAGES[name_or_identifier]
        self.that(
            "." in name_or_identifier,
            key,
            f"{name_or_identifier!r} is not known; use {', '.join(EXTENDED_KEY_USAGES)} or an OID",
        )
        self.object_identifier(name_or_identifier, key)
        self.that(name_or_identifier != _ANY_EXTENDED_KEY_USAGE, key, "anyExtendedKeyUsage allows every use: name them")
        return name_or_identifier

    def object_identifier(self, text: str, key: str) -> None:
        self.that(
            _OBJECT_IDENTIFIER.fullmatch(text), key, f"{text!r} is not an object identifier, as 1.3.6.1.4.1.18506.4"
        )

    def evidence(self, given: _ProfileFile, presences: Mapping[str, Presence], *, is_server: bool) -> None:
        """Whatever a certificate may say is proved, or nothing is, and the profile says so."""
        key = "evidence"
        observed = set(given.evidence) - {ATTESTATION}
        self.that("dns-control" in observed or not given.whole_domain, "whole_domain", "evidence has no dns-control")
        if not given.evidence:
            return
        self.that(ATTESTATION in given.evidence, key, "whatever is proved is attested: demand attestation, too")
        if not given.family:
            # An OCSP responder's key is pinned in the signer's configuration, and its names are the authority's own.
            self.that(not observed, key, "an OCSP responder's names are not observed: demand attestation alone")
            return
        needless = set(observed)
        for name_type in [each for each, presence in presences.items() if presence is not Presence.FORBIDDEN]:
            # The common name of a server is one of its alternative names, and proved there.
            if name_type == "CN" and is_server:
                continue
            kinds = PROVED_BY[name_type]
            self.that(kinds, f"alt_names.{name_type}", "nothing proves such a name: forbid it, or demand no evidence")
            self.that(
                observed.intersection(kinds),
                key,
                f"{name_type} is allowed: demand {' or '.join(kinds)}, which proves it",
            )
            needless.difference_update(kinds)
            if name_type == "DNS":
                needless.discard("caa-permits")
        self.that(not needless, key, f"no name is allowed that {', '.join(sorted(needless))} would prove")
        self.that(
            given.whole_domain or not given.allow_wildcard,
            "allow_wildcard",
            "only whole domains prove wildcards: set whole_domain = true",
        )

    def accepted_findings(self, accepted: tuple[_AllowTable, ...]) -> None:
        for index, each in enumerate(accepted):
            key = f"lint.allow[{index}]"
            self.that(
                _FINDING.fullmatch(each.finding),
                f"{key}.finding",
                f"{each.finding!r} is no finding of the linter: write it as the veto did, as pkix.invalid_uri_syntax",
            )
            self.that(each.reason.strip(), f"{key}.reason", "say why this finding is accepted")
            earlier = [one.finding for one in accepted[:index]]
            self.that(each.finding not in earlier, f"{key}.finding", f"{each.finding!r} stands there twice")

    def practice_statement(self, uri: str) -> None:
        if uri:
            try:
                check_alt_name(SubjectAltName(type="URI", value=uri))
            except Refused as refusal:
                raise ConfigurationError(refusal.message, source=self.source, key="cps_uri") from refusal
