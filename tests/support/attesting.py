"""A validator at work on a store: it attests what waits, under the nonce that the signer said last."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from tests.support.authorities import PROFILES, default_ca, load_profile
from tests.support.evidence import TestValidator
from tests.support.signer import MemoryKeys

from cassiopeia.config import load_profiles
from cassiopeia.core import structure
from cassiopeia.core.authority import Authority
from cassiopeia.core.profile import Profile
from cassiopeia.core.rules import Rules
from cassiopeia.protocol.payload import Timestamp
from cassiopeia.signer.worker import Worker
from cassiopeia.store.database import Store
from cassiopeia.store.evidence import StoredAttestation, UnattestedRequest

PROVED = "0004-server"


@dataclass(kw_only=True)
class StoreValidator:
    """Observes everything that is asked for, `age` ago, but for the `unproved` names."""

    store: Store
    validator: TestValidator = field(default_factory=TestValidator)
    age: dt.timedelta = dt.timedelta(hours=1)
    unproved: tuple[str, ...] = ()
    # Its own copy, of which it knows what to observe.
    profile: Profile = field(default_factory=lambda: load_profile(PROVED))
    # A nonce that it does not let go of.
    stuck_with: bytes | None = None
    attested: int = 0

    def word(self, signer_id: int = 1) -> Timestamp | None:
        stored = self.store.orders.timestamp(signer_id)
        return None if stored is None else structure.decode(Timestamp, stored.octets)

    def turn(self, *, signer_id: int = 1, limit: int = 100) -> int:
        """Attest what waits; return how many that was."""
        said = self.word(signer_id)
        if said is None:
            return 0
        now = dt.datetime.now(dt.UTC)
        nonce = self.stuck_with or said.nonce
        waiting = self.store.evidence.to_attest(signer_id, [nonce], profiles=[PROVED], limit=limit, now=now)
        rows = [self._attest(each, said, nonce) for each in waiting]
        if rows:
            self.store.evidence.put_attestations(rows, now=now)
        self.attested += len(rows)
        return len(rows)

    def _attest(self, waiting: UnattestedRequest, said: Timestamp, nonce: bytes) -> StoredAttestation:
        observed_at = (dt.datetime.now(dt.UTC) - self.age).replace(microsecond=0)
        observations = [
            each
            for each in self.validator.observe_all(waiting.request, self.profile, observed_at=observed_at)
            if not any(name.encode() in each for name in self.unproved)
        ]
        proved = self.validator.prove(
            waiting.request, *observations, nonce=nonce, signer_id=said.signer_id, boot_id=said.boot_id
        )
        return StoredAttestation(
            number=waiting.number,
            signer_id=said.signer_id,
            boot_id=said.boot_id,
            nonce=nonce,
            proofs=proved.proofs,
        )


def proving_worker(authority: Authority, *validators: TestValidator, **changes: Any) -> Worker:
    """A worker of signer 1 with all default profiles, and these validators' keys."""
    rules: dict[str, Any] = {
        "signer_id": 1,
        "authorities": (authority,),
        "profiles": load_profiles(PROFILES),
        "validators": {each.key_id: each.pinned for each in validators},
    }
    return Worker(rules=Rules(**(rules | changes)), keys=MemoryKeys({authority.name: default_ca().key}))
