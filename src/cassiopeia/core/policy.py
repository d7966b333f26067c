"""The decision: from a wish that nobody has checked to an `ApprovedRequest`, a refusal, or not now.

Owns the order of the checks and whatever needs more than one of them; the rules of each part stand in `csr`,
`keycheck`, `names`, `validity`, `judgement` and `authority`. Nothing is assembled here and no key is used.
`assemble_tbs` in `certificate` takes only what `decide` has approved, and nothing else can make an `ApprovedRequest`,
but for samples, which are never signed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import InitVar, dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia.core.algorithms import SignatureAlgorithm, check_signature_hash, choose_algorithm
from cassiopeia.core.authority import Authority, Idle, choose_authority, has_room_for_responder
from cassiopeia.core.constraints import UNCONSTRAINED, check_constraints
from cassiopeia.core.csr import CertifiedKey, parse_certification_request, parse_spkac
from cassiopeia.core.judgement import judge
from cassiopeia.core.keycheck import check_strength
from cassiopeia.core.names import check_alt_name, encode_subject
from cassiopeia.core.profile import ALT_NAME_TYPES, EXTENDED_KEY_USAGES, SUBJECT_TYPES, Presence, Profile
from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.core.validity import Validity, choose_validity
from cassiopeia.core.weak_keys import check_not_published
from cassiopeia.errors import InternalError, Refused, Unavailable

SERIAL_ENTROPY_OCTETS: Final = 15
_HIGHEST_SIGNER_ID: Final = 0x7F
_LOOK_AGAIN_S: Final = 3600
_USUAL_EXPONENT: Final = 65537

# What each kind of key can be used for at all; the profile's key usages are narrowed to it, so that one profile serves
# every kind. RSA: RFC 3279 2.3.1; EC: RFC 5480 3; Ed25519: RFC 8410 5; ML-DSA: RFC 9881 5.
_RSA_USAGES: Final = frozenset({"digitalSignature", "nonRepudiation", "keyEncipherment", "dataEncipherment"})
_EC_USAGES: Final = frozenset({"digitalSignature", "nonRepudiation", "keyAgreement"})
_SIGNATURE_USAGES: Final = frozenset({"digitalSignature", "nonRepudiation"})

_APPROVAL: Final = object()  # known to `decide` alone


@dataclass(frozen=True, kw_only=True, slots=True)
class ApprovedRequest:
    """Evidence that `decide` has approved everything that stands in it; nothing else can make one.

    But for samples (`approve_sample`), which are looked at in their own process and never reach a key.
    """

    approval: InitVar[object]
    request: CertificateRequest
    profile: Profile
    authority: Authority
    algorithm: SignatureAlgorithm
    serial_number: int
    validity: Validity
    subject: bytes  # DER Name
    alt_names: tuple[SubjectAltName, ...]
    key: CertifiedKey
    key_usage: tuple[str, ...]
    validators: tuple[bytes, ...] = ()  # the key ids of those who proved something of it, each once

    def __post_init__(self, approval: object) -> None:
        if approval is not _APPROVAL:
            raise InternalError("only policy.decide approves a request")


def decide(
    request: CertificateRequest,
    *,
    rules: Rules,
    standing: Standing,
    now: dt.datetime,
    serial_entropy: bytes,
    issued: Mapping[str, int],
    version: int,
) -> ApprovedRequest:
    """Approve one request, or raise Refused (final) or Unavailable (later).

    `issued` counts the certificates of each sub-CA by its name; `serial_entropy` is 15 octets from the CSPRNG, used
    for this request alone; `version` is that of the protocol that brought the request.
    """
    # 1. What kind of certificate, and whether it may be asked for this way.
    profile = _choose_profile(request, rules)
    _check_version(profile, version=version, version_1_profiles=rules.version_1_profiles)
    if profile.name in rules.unsound_profiles:
        raise Unavailable(
            f"the profile {profile.name} issues nothing: {rules.unsound_profiles[profile.name]}",
            code="profile-unsound",
            retry_after_s=_LOOK_AGAIN_S,
        )
    # 2. The key: the request is signed with it, and it is fit to be certified. What costs least comes first.
    key = _certified_key(request)
    _check_not_our_own(key, rules.authorities)
    _check_not_blocked(key, standing)
    check_not_published(key.public_key, rules.weak_keys)
    check_strength(key.public_key)
    if not profile.family:
        _check_pinned(key, rules.responder_keys)
    return _approve(
        request,
        profile=profile,
        key=key,
        rules=rules,
        standing=standing,
        now=now,
        serial_entropy=serial_entropy,
        issued=issued,
        version=version,
    )


def approve_sample(
    request: CertificateRequest,
    *,
    profile: Profile,
    key: CertifiedKey,
    authority: Authority,
    now: dt.datetime,
    serial_entropy: bytes,
) -> ApprovedRequest:
    """What `decide` would approve if such a request came with this key and with every proof.

    For certificates that are looked at and never signed (`sample`). Raises Refused or Unavailable, as `decide` does.
    """
    # Samples carry names of their own choice, wherever the sub-CA's certificates may be for.
    free = dataclasses.replace(authority, constraints=UNCONSTRAINED)
    rules = Rules(signer_id=authority.signer_id, profiles={}, authorities=(free,))
    return _approve(
        request,
        profile=dataclasses.replace(profile, evidence=()),
        key=key,
        rules=rules,
        standing=Standing(),
        now=now,
        serial_entropy=serial_entropy,
        issued={},
        version=2,
    )


def _approve(
    request: CertificateRequest,
    *,
    profile: Profile,
    key: CertifiedKey,
    rules: Rules,
    standing: Standing,
    now: dt.datetime,
    serial_entropy: bytes,
    issued: Mapping[str, int],
    version: int,
) -> ApprovedRequest:
    """The rest of the decision, once it is known that the key may be certified under this profile."""
    key_usage = _narrow_key_usage(profile, key)
    # 3. The names, each for itself, then against the profile, then together.
    attributes = request.attributes
    if version == 1:
        attributes = tuple(each for each in attributes if each.value)  # wire specification: "an empty value is dropped"
    subject = encode_subject(attributes)
    _check_attributes(attributes, profile)
    _check_alt_names(request.alt_names, profile)
    _check_names_together(attributes, request.alt_names, profile)
    # 4. The hash (which of them is used follows from the sub-CA's key) and the dates.
    check_signature_hash(request.signature_hash)
    validity = choose_validity(
        wish_from=request.wish_from,
        wish_to=request.wish_to,
        now=now,
        ahead_days=profile.not_before_ahead_days,
        maximum_days=profile.maximum_validity_days,
        lenient=version == 1,
    )
    # 5. The proofs: behind everything that is about the request alone, because they may say "not now".
    validators = (
        judge(request, profile=profile, key=key, rules=rules, standing=standing, now=now) if version > 1 else ()
    )
    # 6. The sub-CA: last but for what follows from it, because little that it says is final.
    if profile.family:
        authority = choose_authority(
            rules.authorities,
            family=profile.family,
            signer_id=rules.signer_id,
            now=now,
            not_after=validity.not_after,
            issued=issued,
            idle=standing.idle,
        )
        check_constraints(
            authority.constraints, authority=authority.name, attributes=attributes, alt_names=request.alt_names
        )
    else:
        # An OCSP responder has no name that is constrained: nobody reaches it by its certificate.
        authority = _named_authority(
            request.ocsp_target_ca,
            rules.authorities,
            idle=standing.idle,
            signer_id=rules.signer_id,
            now=now,
            validity=validity,
            issued=issued,
        )
    # 7. Algorithm and serial number.
    return ApprovedRequest(
        approval=_APPROVAL,
        request=request,
        profile=profile,
        authority=authority,
        algorithm=choose_algorithm(authority.public_key, request.signature_hash, pss=authority.pss),
        serial_number=make_serial_number(rules.signer_id, serial_entropy),
        validity=validity,
        subject=subject,
        alt_names=request.alt_names,
        key=key,
        key_usage=key_usage,
        validators=validators,
    )


def make_serial_number(signer_id: int, entropy: bytes) -> int:
    """One octet signer id (01-7F), fifteen of entropy: positive, 16 octets (ADR "serial numbers", RFC 5280 4.1.2.2)."""
    if not 1 <= signer_id <= _HIGHEST_SIGNER_ID or len(entropy) != SERIAL_ENTROPY_OCTETS:
        raise InternalError("a serial number needs a signer id from 1 to 127 and 15 octets of entropy")
    return int.from_bytes(bytes((signer_id,)) + entropy, "big")


def _choose_profile(request: CertificateRequest, rules: Rules) -> Profile:
    if request.ocsp_target_ca:
        if request.profile:
            raise Refused(
                "A certificate for an OCSP responder names its sub-CA and no profile.",
                code="profile-not-allowed",
                field="profile",
            )
        for profile in rules.profiles.values():
            if not profile.family:
                return profile
        raise Refused("This signer has no profile for OCSP responders.", code="profile-unknown", field="ocsp_target_ca")
    if request.profile not in rules.profiles:
        raise Refused(
            f"The signer knows no profile {request.profile[:40]!a}; check how it is written.",
            code="profile-unknown",
            field="profile",
        )
    profile = rules.profiles[request.profile]
    if not profile.family:
        raise Refused(
            f"The profile {profile.name} is for OCSP responders: name the sub-CA instead.",
            code="profile-not-allowed",
            field="profile",
        )
    return profile


def _check_version(profile: Profile, *, version: int, version_1_profiles: frozenset[str]) -> None:
    """Version 1 cannot carry evidence: it has its own list of profiles, and never OCSP responders."""
    if version == 1 and (profile.name not in version_1_profiles or not profile.family):
        raise Refused(
            f"The profile {profile.name} is not issued over version 1 of the protocol.",
            code="profile-not-in-version-1",
            field="profile",
        )
    if version == 1 and profile.evidence:
        raise Refused(
            f"The profile {profile.name} demands proofs, and version 1 of the protocol carries none that count.",
            code="evidence-missing",
            field="profile",
        )


def _certified_key(request: CertificateRequest) -> CertifiedKey:
    if request.key_kind == "csr":
        return parse_certification_request(request.key_proof)
    return parse_spkac(request.key_proof)


def _check_not_our_own(key: CertifiedKey, authorities: Iterable[Authority]) -> None:
    """A sub-CA's key in a subscriber's certificate: somebody holds a CA key, or has found a way to make it sign."""
    usual = _with_usual_exponent(key.public_key)  # sub-CAs have no other, of those that the ceremony makes
    if any(authority.public_key in (key.public_key, usual) for authority in authorities):
        raise Refused("This key belongs to a certificate authority.", code="key-blocked", field="key")


def _with_usual_exponent(key: PublicKeyTypes) -> PublicKeyTypes:
    """Whoever has the private half of an RSA key has it for every exponent: to ask with another one is no way out."""
    if not isinstance(key, rsa.RSAPublicKey) or key.public_numbers().e == _USUAL_EXPONENT:
        return key
    return rsa.RSAPublicNumbers(_USUAL_EXPONENT, key.public_numbers().n).public_key()


def _check_not_blocked(key: CertifiedKey, standing: Standing) -> None:
    names = {key.subject_public_key_info}
    usual = _with_usual_exponent(key.public_key)
    if usual is not key.public_key:
        names.add(usual.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    if any(hashlib.sha256(each).digest() in standing.blocked_keys for each in names):
        raise Refused(
            "The operators have blocked this key: somebody else may have it; make a new one.",
            code="key-blocked",
            field="key",
        )


def _check_pinned(key: CertifiedKey, responder_keys: Collection[bytes]) -> None:
    """An OCSP responder speaks for the sub-CA, and nobody can revoke it: only the operators say whose key it is."""
    if hashlib.sha256(key.subject_public_key_info).digest() not in responder_keys:
        raise Refused(
            "This key is not pinned as an OCSP responder's; name it under [ocsp] in signer.toml, and reload it.",
            code="key-not-pinned",
            field="key",
        )


def _narrow_key_usage(profile: Profile, key: CertifiedKey) -> tuple[str, ...]:
    possible = _SIGNATURE_USAGES
    if key.algorithm.startswith("RSA-"):
        possible = _RSA_USAGES
    elif key.algorithm.startswith("P-"):
        possible = _EC_USAGES
    usages = tuple(usage for usage in profile.key_usage if usage in possible)
    if not usages:
        raise Refused(
            f"A key of the kind {key.algorithm} cannot be used for what {profile.name} certifies; take an RSA key.",
            code="key-unsupported",
            field="key",
        )
    return usages


def _check_attributes(attributes: tuple[SubjectAttribute, ...], profile: Profile) -> None:
    given = {attribute.type for attribute in attributes}
    for attribute_type in SUBJECT_TYPES:
        _check_presence(
            profile.subject_presence(attribute_type), attribute_type, profile, given=attribute_type in given
        )


def _check_alt_names(alt_names: tuple[SubjectAltName, ...], profile: Profile) -> None:
    if len(alt_names) > profile.maximum_alt_names:
        raise Refused(
            f"{len(alt_names)} alternative names are too many; {profile.name} takes {profile.maximum_alt_names}.",
            code="too-many-names",
            field="alt_names",
        )
    for alt_name in alt_names:
        check_alt_name(alt_name)
        if alt_name.type == "DNS" and alt_name.value.startswith("*.") and not profile.allow_wildcard:
            raise Refused(
                f"{profile.name} takes no wildcards: write each name of {alt_name.value} out.",
                code="wildcard-not-allowed",
                field="DNS",
            )
    if len(set(alt_names)) != len(alt_names):
        raise Refused("An alternative name stands there twice.", code="name-repeated", field="alt_names")
    given = {alt_name.type for alt_name in alt_names}
    for alt_name_type in ALT_NAME_TYPES:
        _check_presence(profile.alt_name_presence(alt_name_type), alt_name_type, profile, given=alt_name_type in given)


def _check_presence(presence: Presence, name_type: str, profile: Profile, *, given: bool) -> None:
    if presence is Presence.FORBIDDEN and given:
        raise Refused(f"{profile.name} takes no {name_type}; leave it out.", code="name-not-allowed", field=name_type)
    if presence is Presence.REQUIRED and not given:
        raise Refused(f"{profile.name} needs {name_type}; add it.", code="name-missing", field=name_type)


def _check_names_together(
    attributes: tuple[SubjectAttribute, ...], alt_names: tuple[SubjectAltName, ...], profile: Profile
) -> None:
    """What the subject says about hosts and mailboxes must be among the alternative names, where it is proved."""
    if not attributes and not alt_names:
        raise Refused("The certificate would name nobody; add a name.", code="name-missing", field="attributes")
    given = {(alt_name.type, alt_name.value) for alt_name in alt_names}
    names_a_host = EXTENDED_KEY_USAGES["serverAuth"] in profile.extended_key_usage
    for attribute in attributes:
        # RFC 5280 4.1.2.6: an address belongs into the alternative names; in the subject it is a copy.
        if attribute.type == "EMAIL" and ("email", attribute.value) not in given:
            raise Refused(
                f"The subject's address {attribute.value} is not among the alternative names; add it there.",
                code="name-not-covered",
                field="EMAIL",
            )
        # Baseline Requirements 7.1.4.3: the common name of a server is one of its alternative names.
        if (
            attribute.type == "CN"
            and names_a_host
            and given.isdisjoint({("DNS", attribute.value), ("IP", attribute.value)})
        ):
            raise Refused(
                f"A server's common name is one of its host names; add {attribute.value!a} there, or leave CN out.",
                code="name-not-covered",
                field="CN",
            )


def _named_authority(
    name: str,
    authorities: Iterable[Authority],
    *,
    idle: Mapping[str, Idle],
    signer_id: int,
    now: dt.datetime,
    validity: Validity,
    issued: Mapping[str, int],
) -> Authority:
    """An OCSP responder speaks for exactly one sub-CA as long as that is valid, also when it issues nothing else."""
    for authority in authorities:
        if authority.name == name and authority.signer_id == signer_id:
            break
    else:
        raise Refused(
            f"The sub-CA {name[:80]!a} is not one of this signer.", code="authority-unknown", field="ocsp_target_ca"
        )
    if name in idle:
        reason = idle[name]
        raise Unavailable(f"the sub-CA {name} {reason.why}", code=reason.code, retry_after_s=reason.retry_after_s)
    if now < authority.not_before:
        raise Unavailable(f"the sub-CA {name} is not valid yet", code="no-authority", retry_after_s=3600)
    if validity.not_after > authority.not_after:
        raise Refused(
            f"The certificate would outlive {name}; wish for an end before {authority.not_after:%Y-%m-%d}.",
            code="validity-beyond-authority",
            field="wish_to",
        )
    if not has_room_for_responder(authority, issued):
        raise Unavailable(f"the sub-CA {name} is full", code="authority-full", retry_after_s=3600)
    return authority
