"""Observations and attestations as validators make them, by keys that stand here."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.core.ed25519 import public_octets
from cassiopeia.core.evidence import AttestedRequest, Observation, attest, key_id, observation_hash, sign_observation

VALIDATOR_KEY = Ed25519PrivateKey.from_private_bytes(b"v" * 32)
VALIDATOR = public_octets(VALIDATOR_KEY)
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"w" * 32)

SIGNER_ID = 1
BOOT_ID = b"b" * 16
NONCE = b"n" * 16
OBSERVED_AT = dt.datetime(2026, 11, 23, 8, 0, tzinfo=dt.UTC)


def observation(**changes: Any) -> Observation:
    """What a validator says of www.example.org; `changes` put other values into it."""
    values: dict[str, Any] = {
        "kind": "dns-control",
        "value": "www.example.org",
        "account": "account-1",
        "method": "dns",
        "observed_at": OBSERVED_AT,
        "table": "challenges",
        "primary_key": "42",
        "validator": key_id(VALIDATOR),
    }
    return Observation(**(values | changes))


def signed_observation(key: Ed25519PrivateKey = VALIDATOR_KEY, **changes: Any) -> bytes:
    """The same, signed by this key, which it names."""
    return sign_observation(observation(validator=key_id(public_octets(key)), **changes), key)


def attested(number: int = 0, observations: Sequence[bytes] = (), **changes: Any) -> AttestedRequest:
    """What an attestation says of the request of this number."""
    values: dict[str, Any] = {
        "request_id": number.to_bytes(32, "big"),
        "request_digest": b"d" * 32,
        "key_hash": b"k" * 32,
        "account": "account-1",
        "observations": tuple(map(observation_hash, observations)),
    }
    return AttestedRequest(**(values | changes))


def attestations(
    requests: Sequence[AttestedRequest],
    key: Ed25519PrivateKey = VALIDATOR_KEY,
    *,
    signer_id: int = SIGNER_ID,
    boot_id: bytes = BOOT_ID,
    nonce: bytes = NONCE,
) -> list[bytes]:
    """One attestation for each, all under one signature."""
    return attest(requests, key, signer_id=signer_id, boot_id=boot_id, nonce=nonce)
