"""Whether the proofs that came with a request suffice for it: the steps of the wire specification, "Proofs".

Owns the order of the checks, and which answer is final. Only what is about the request itself is refused: a proof that
was never there, that is not for it, or that is none. Whatever new evidence would mend is Unavailable. Nothing of an
observation counts before an attestation vouches for it. Keys, nonces and the time are given; nothing is remembered
here.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from cassiopeia.core import evidence
from cassiopeia.core.csr import CertifiedKey
from cassiopeia.core.demands import Demand, compare, demands, maximum_age
from cassiopeia.core.evidence import ATTESTATION, OBSERVATION_KINDS, AttestedRequest, Observation
from cassiopeia.core.profile import Profile
from cassiopeia.core.request import CertificateRequest, request_digest
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.errors import PeerError, Refused, SignatureInvalid, Unavailable

AHEAD: Final = dt.timedelta(minutes=5)
"""How far a validator's clock may be ahead of the signer's."""

_ATTEST_AGAIN_S: Final = 5
_LOOK_AGAIN_S: Final = 600


def judge(
    request: CertificateRequest,
    *,
    profile: Profile,
    key: CertifiedKey,
    rules: Rules,
    standing: Standing,
    now: dt.datetime,
) -> tuple[bytes, ...]:
    """Raise Refused or Unavailable unless the proofs of the request prove all that its profile demands, and no more.

    The names of the request are known to be in order, `key` is its own. Returns the key ids of the validators that
    proved it, the one that attested it first, each once.
    """
    if not profile.evidence:
        if request.proofs:
            raise Refused(
                f"The profile {profile.name} takes no proofs; send the request without.",
                code="evidence-surplus",
                field="proofs",
            )
        return ()
    needed = demands(profile, request)
    # 1. What the octets are: observations, and an attestation behind them.
    proofs = _read(request, needed, profile)
    # 2. The attestation: by a validator that may attest, under a nonce of this boot, over exactly this request.
    attestation = proofs.attestation
    _check_attestation(proofs, request, key=key, rules=rules, standing=standing)
    # 3. Each observation: for this account, by a validator that may say so, neither too old nor from the future.
    for octets, observation in zip(proofs.octets, proofs.observations, strict=True):
        _check_observation(octets, observation, request, rules=rules, standing=standing)
        _check_age(observation, profile, now=now)
    # 4. All together: no observation without a name, no name without an observation.
    missing, surplus = compare(needed, proofs.observations, profile)
    if len(set(proofs.octets)) != len(proofs.octets):
        _refuse_surplus(
            next(each for each in proofs.observations if proofs.observations.count(each) > 1), "comes twice"
        )
    if surplus:
        _refuse_surplus(surplus[0], "proves nothing that this request asks for")
    if missing:
        _refuse_missing(_listed(missing), request, profile)
    return tuple(dict.fromkeys([attestation.validator, *(each.validator for each in proofs.observations)]))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Proofs:
    """Read, and not believed: each signed observation as it came with what it says, and the attestation."""

    octets: tuple[bytes, ...]
    observations: tuple[Observation, ...]
    attestation: evidence.Attestation


def _read(request: CertificateRequest, needed: Sequence[Demand], profile: Profile) -> _Proofs:
    if not request.proofs:
        _refuse_missing([ATTESTATION, *_listed(needed)], request, profile)
    *octets, last = request.proofs
    try:
        observations = tuple(evidence.read_observation(each) for each in octets)
        attestation = _read_attestation(last)
    except PeerError as error:
        _refuse_invalid(f"One of the proofs cannot be read ({error}).", error)
    if attestation is None:
        _refuse_missing([ATTESTATION], request, profile)
    for each in observations:
        if each.kind not in OBSERVATION_KINDS:
            _refuse_invalid(f"A proof is of the kind {each.kind[:40]!a}, which nobody knows.")
    return _Proofs(octets=tuple(octets), observations=observations, attestation=attestation)


def _read_attestation(octets: bytes) -> evidence.Attestation | None:
    """The attestation that the last proof is, None if it is another observation; raises PeerError."""
    try:
        return evidence.read_attestation(octets)
    except PeerError:
        evidence.read_observation(octets)
        return None


def _check_attestation(
    proofs: _Proofs, request: CertificateRequest, *, key: CertifiedKey, rules: Rules, standing: Standing
) -> None:
    attestation = proofs.attestation
    public_key = _pinned_key(attestation.validator, ATTESTATION, rules=rules, standing=standing)
    if attestation.nonce not in standing.nonces:
        raise Unavailable(
            "the attestation is under a nonce that the signer no longer takes: attest the request anew",
            code="reattest",
            retry_after_s=_ATTEST_AGAIN_S,
        )
    attested = AttestedRequest(
        request_id=request.request_id,
        request_digest=request_digest(request),
        key_hash=hashlib.sha256(key.subject_public_key_info).digest(),
        account=request.account,
        observations=tuple(evidence.observation_hash(each) for each in proofs.octets),
    )
    try:
        evidence.verify_attestation(
            attestation, attested, public_key=public_key, signer_id=rules.signer_id, boot_id=standing.boot_id
        )
    except SignatureInvalid as error:
        _refuse_invalid("The attestation is not over this request with these observations.", error)


def _check_observation(
    octets: bytes, observation: Observation, request: CertificateRequest, *, rules: Rules, standing: Standing
) -> None:
    if observation.account != request.account:
        _refuse_invalid(f"The {_shown(observation)} was made for another account.")
    public_key = _pinned_key(observation.validator, observation.kind, rules=rules, standing=standing)
    try:
        evidence.verify_observation(octets, public_key)
    except SignatureInvalid as error:
        _refuse_invalid(f"The {_shown(observation)} is not signed by the validator that it names.", error)


def _pinned_key(key_id: bytes, kind: str, *, rules: Rules, standing: Standing) -> bytes:
    """The public key of a validator that may make statements of this kind, now."""
    validator = rules.validators.get(key_id)
    if validator is None or kind not in validator.kinds:
        raise Unavailable(
            f"the signer has no validator {key_id[: evidence.KEY_ID_OCTETS].hex()} for {kind}: pin its key under"
            " [[validator]] in signer.toml, or have it proved by another",
            code="validator-unknown",
            retry_after_s=_LOOK_AGAIN_S,
        )
    if key_id in standing.disabled_validators:
        raise Unavailable(
            f"the validator {validator.name} is disabled by an order of the operators: another has to prove it anew",
            code="reattest",
            retry_after_s=_ATTEST_AGAIN_S,
        )
    return validator.public_key


def _check_age(observation: Observation, profile: Profile, *, now: dt.datetime) -> None:
    if observation.observed_at > now + AHEAD:
        raise Unavailable(
            f"the {_shown(observation)} is dated {observation.observed_at:%Y-%m-%d %H:%M:%S}, and it is only"
            f" {now:%Y-%m-%d %H:%M:%S} here: look at the clocks of validator and signer, then observe it anew",
            code="reattest",
            retry_after_s=_ATTEST_AGAIN_S,
        )
    age = maximum_age(profile, observation.kind)
    if observation.observed_at + age < now:
        raise Unavailable(
            f"the {_shown(observation)} is from {observation.observed_at:%Y-%m-%d %H:%M:%S} and counts for"
            f" {age // dt.timedelta(hours=1)} hours: observe it anew",
            code="reattest",
            retry_after_s=_ATTEST_AGAIN_S,
        )


def _listed(needed: Iterable[Demand]) -> list[str]:
    return [f"{each.kind} for {each.name if each.name.isascii() else ascii(each.name)}" for each in needed]


def _refuse_missing(missing: Sequence[str], request: CertificateRequest, profile: Profile) -> NoReturn:
    raise Refused(
        f"The profile {profile.name} demands proofs that are missing for the account {request.account[:100]!a}:"
        f" {', '.join(missing)}. Have them proved, or leave such names out, and ask again.",
        code="evidence-missing",
        field="proofs",
    )


def _refuse_surplus(observation: Observation, problem: str) -> NoReturn:
    raise Refused(
        f"The {_shown(observation)} {problem}; send what the names need and no more.",
        code="evidence-surplus",
        field="proofs",
    )


def _refuse_invalid(problem: str, error: Exception | None = None) -> NoReturn:
    raise Refused(
        f"{problem} Have the request proved anew, and ask again.", code="evidence-invalid", field="proofs"
    ) from error


def _shown(observation: Observation) -> str:
    return f"observation {observation.kind} of {observation.value[:100]!a}"
