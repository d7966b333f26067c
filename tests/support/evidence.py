"""A validator for tests: it observes whatever it is told to, and attests requests."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.authorities import NOW, default_authority, default_ca, load_profile
from tests.support.signer import MemoryKeys

from cassiopeia.core import csr, ed25519, evidence
from cassiopeia.core.demands import demands
from cassiopeia.core.evidence import STATEMENT_KINDS, AttestedRequest, Observation
from cassiopeia.core.profile import Profile
from cassiopeia.core.request import CertificateRequest, request_digest
from cassiopeia.core.rules import Rules, Standing, Validator
from cassiopeia.signer.worker import Worker

ACCOUNT = "alice"
REQUEST_ID = b"r" * 32
BOOT_ID = b"b" * 16
NONCE = b"n" * evidence.NONCE_OCTETS
PREVIOUS_NONCE = b"p" * evidence.NONCE_OCTETS
STANDING = Standing(boot_id=BOOT_ID, nonces=(NONCE, PREVIOUS_NONCE))


class TestValidator:
    """The key made of `seed`; what it says is true because a test says so."""

    __test__ = False

    def __init__(self, seed: bytes = b"v", *, name: str = "front", kinds: Sequence[str] = STATEMENT_KINDS) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(seed * 32)
        self.public_key = ed25519.public_octets(self.key)
        self.key_id = evidence.key_id(self.public_key)
        self.pinned = Validator(name=name, public_key=self.public_key, kinds=frozenset(kinds))

    def observation(self, kind: str, value: str, **changes: Any) -> Observation:
        values: dict[str, Any] = {
            "kind": kind,
            "value": value,
            "account": ACCOUNT,
            "method": "dns",
            "observed_at": NOW - dt.timedelta(hours=1),
            "table": "names",
            "primary_key": "1",
            "validator": self.key_id,
        }
        return Observation(**(values | changes))

    def observe(self, kind: str, value: str, **changes: Any) -> bytes:
        """A signed observation of an hour ago."""
        return evidence.sign_observation(self.observation(kind, value, **changes), self.key)

    def observe_all(self, request: CertificateRequest, profile: Profile, **changes: Any) -> tuple[bytes, ...]:
        """An observation for each demand of the request, and no more, for its account."""
        return tuple(
            self.observe(each.kind, each.value, **({"account": request.account} | changes))
            for each in demands(profile, request)
        )

    def attest(
        self,
        *requests: CertificateRequest,
        observations: Sequence[Sequence[bytes]] = (),
        signer_id: int = 1,
        boot_id: bytes = BOOT_ID,
        nonce: bytes = NONCE,
    ) -> list[bytes]:
        """An attestation for each of these requests with these observations, under one signature."""
        observations = observations or [()] * len(requests)
        attested = [attested_request(*each) for each in zip(requests, observations, strict=True)]
        return evidence.attest(attested, self.key, signer_id=signer_id, boot_id=boot_id, nonce=nonce)

    def prove(
        self, request: CertificateRequest, *observations: bytes, nonce: bytes = NONCE, **changes: Any
    ) -> CertificateRequest:
        """The request with these observations, and an attestation of both."""
        (attestation,) = self.attest(request, observations=[observations], nonce=nonce, **changes)
        return dataclasses.replace(request, proofs=(*observations, attestation))

    def prove_all(self, request: CertificateRequest, profile: Profile, **changes: Any) -> CertificateRequest:
        """The request with everything that its profile demands; `changes` are those of `prove`."""
        return self.prove(request, *self.observe_all(request, profile), **changes)


def attested_request(request: CertificateRequest, observations: Sequence[bytes] = ()) -> AttestedRequest:
    """What an attestation says of a request; its key must be readable."""
    parse = csr.parse_certification_request if request.key_kind == "csr" else csr.parse_spkac
    return AttestedRequest(
        request_id=request.request_id,
        request_digest=request_digest(request),
        key_hash=hashlib.sha256(parse(request.key_proof).subject_public_key_info).digest(),
        account=request.account,
        observations=tuple(evidence.observation_hash(each) for each in observations),
    )


def judging_worker(*validators: TestValidator, profile: str = "0004-server") -> Worker:
    """A worker of signer 1 with a profile that demands evidence, for `Front.worker`."""
    authority = default_authority()
    known = load_profile(profile)
    return Worker(
        rules=Rules(
            signer_id=1,
            authorities=(authority,),
            profiles={known.name: known},
            validators={each.key_id: each.pinned for each in validators},
        ),
        keys=MemoryKeys({authority.name: default_ca().key}),
    )
