"""What judging the proofs of a request costs a worker, from knowing nothing to having seen everything before."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import importlib.resources
import os
import time
from collections.abc import Callable, Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia.core import csr, ed25519, evidence
from cassiopeia.core.demands import demands
from cassiopeia.core.judgement import judge
from cassiopeia.core.profile import Profile, parse_profile
from cassiopeia.core.request import CertificateRequest, SubjectAltName, request_digest
from cassiopeia.core.rules import Rules, Standing, Validator

NAMES = (1, 10, 100)
BATCH = 256
NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
_PROFILE = "0004-server"
_STANDING = Standing(boot_id=b"b" * 16, nonces=(b"n" * evidence.NONCE_OCTETS,))


def main(*, quick: bool) -> None:
    key = Ed25519PrivateKey.generate()
    print(f"\nProofs, two observations for each name: microseconds of a processor to judge one of {BATCH} requests")
    print(f"  {'names':>6} {'nothing known':>14} {'observations':>13} {'and a batch':>12} {'everything':>11}")
    for names in NAMES[:1] if quick else NAMES:
        alone = _requests(names, key, together=False)
        batch = _requests(names, key, together=True)
        costs = (
            _cost(alone, key, before_each=_forget),
            _cost(alone, key, knowing=alone[0]),
            _cost(batch, key, knowing=batch[0]),
            _cost([alone[0]] * BATCH, key, knowing=alone[0]),
        )
        print(f"  {names:6} {costs[0]:14.0f} {costs[1]:13.0f} {costs[2]:12.0f} {costs[3]:11.0f}", flush=True)


def _requests(names: int, key: Ed25519PrivateKey, *, together: bool) -> list[CertificateRequest]:
    """Requests of one account for the same names, attested one by one or together."""
    validator = evidence.key_id(ed25519.public_octets(key))
    proof = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    requests = [
        CertificateRequest(
            key_kind="csr",
            key_proof=proof,
            profile=_PROFILE,
            account="alice",
            request_id=os.urandom(32),
            alt_names=tuple(SubjectAltName(type="DNS", value=f"www{each}.example.org") for each in range(names)),
        )
        for _ in range(BATCH)
    ]
    observed = [
        evidence.sign_observation(
            evidence.Observation(
                kind=each.kind,
                value=each.value,
                account="alice",
                method="dns",
                observed_at=NOW,
                table="names",
                primary_key="1",
                validator=validator,
            ),
            key,
        )
        for each in demands(_profile(), requests[0])
    ]
    attested = [
        evidence.AttestedRequest(
            request_id=each.request_id,
            request_digest=request_digest(each),
            key_hash=hashlib.sha256(_certified(each).subject_public_key_info).digest(),
            account=each.account,
            observations=tuple(map(evidence.observation_hash, observed)),
        )
        for each in requests
    ]
    attestations: list[bytes] = []
    for group in [attested] if together else [[each] for each in attested]:
        attestations += evidence.attest(group, key, signer_id=1, boot_id=_STANDING.boot_id, nonce=_STANDING.nonces[0])
    return [
        dataclasses.replace(each, proofs=(*observed, attestation))
        for each, attestation in zip(requests, attestations, strict=True)
    ]


def _cost(
    requests: Sequence[CertificateRequest],
    key: Ed25519PrivateKey,
    *,
    knowing: CertificateRequest | None = None,
    before_each: Callable[[], None] = lambda: None,
) -> float:
    """Microseconds for each request, of the processor and not of the clock."""
    public_key = ed25519.public_octets(key)
    kinds = frozenset(evidence.STATEMENT_KINDS)
    pinned = Validator(name="front", public_key=public_key, kinds=kinds)
    rules = Rules(signer_id=1, profiles={}, authorities=(), validators={pinned.key_id: pinned})
    profile, certified = _profile(), _certified(requests[0])

    def work(request: CertificateRequest) -> None:
        judge(request, profile=profile, key=certified, rules=rules, standing=_STANDING, now=NOW)

    _forget()
    if knowing is not None:
        work(knowing)
    spent = 0.0
    for request in requests:
        before_each()
        start = time.process_time()
        work(request)
        spent += time.process_time() - start
    return spent / len(requests) * 1e6


def _forget() -> None:
    evidence._read.cache_clear()  # noqa: SLF001 - what a worker remembers is what is measured
    evidence._verify.cache_clear()  # noqa: SLF001 - as above


def _certified(request: CertificateRequest) -> csr.CertifiedKey:
    return csr.parse_certification_request(request.key_proof)


def _profile() -> Profile:
    file = importlib.resources.files("cassiopeia.core").joinpath("profiles", f"{_PROFILE}.toml")
    profile = parse_profile(file.read_text(encoding="utf-8"), name=_PROFILE, source=_PROFILE)
    return dataclasses.replace(profile, maximum_alt_names=max(NAMES))
