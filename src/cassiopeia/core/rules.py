"""What a decision goes by: the rules that a signer was started with, and what has changed them since.

`Rules` stand in files and in the hash of the configuration. `Standing` changes while the signer runs: by the orders of
its operators, and by the time that passes. Both are given to `policy.decide`, which looks nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cassiopeia.core.authority import HALTED_BY_ORDER, Authority, Idle
from cassiopeia.core.evidence import key_id
from cassiopeia.core.profile import Profile
from cassiopeia.core.weak_keys import WeakKeyList


@dataclass(frozen=True, kw_only=True, slots=True)
class Validator:
    """A validator's key (Ed25519, DER SubjectPublicKeyInfo), pinned for these kinds of statement and no others."""

    name: str
    public_key: bytes
    kinds: frozenset[str]

    @property
    def key_id(self) -> bytes:
        return key_id(self.public_key)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How requests are judged. `validators` are found by their key ids.

    `responder_keys` are SHA-256 of the SubjectPublicKeyInfo of OCSP responders, the only keys that are certified as
    such. `unsound_profiles` issue nothing, each with the reason. No key on a list of `weak_keys` is certified.
    """

    signer_id: int
    profiles: Mapping[str, Profile]
    authorities: tuple[Authority, ...]
    version_1_profiles: frozenset[str] = frozenset()
    validators: Mapping[bytes, Validator] = field(default_factory=dict)
    responder_keys: frozenset[bytes] = frozenset()
    unsound_profiles: Mapping[str, str] = field(default_factory=dict)
    weak_keys: tuple[WeakKeyList, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What holds at this moment, beside the rules.

    An attestation is good under one of these `nonces`, in the boot of this id. `blocked_keys` are SHA-256 of
    SubjectPublicKeyInfo, `disabled_validators` key ids, `halted_authorities` names of sub-CAs that an order halts.
    `idle_authorities` sign nothing for another reason.
    """

    boot_id: bytes = b""
    nonces: tuple[bytes, ...] = ()
    disabled_validators: frozenset[bytes] = frozenset()
    blocked_keys: frozenset[bytes] = frozenset()
    halted_authorities: frozenset[str] = frozenset()
    idle_authorities: Mapping[str, Idle] = field(default_factory=dict)

    @property
    def idle(self) -> dict[str, Idle]:
        """Every sub-CA that signs no certificate now; an order comes first, because it is what has to be taken back."""
        return {**self.idle_authorities, **dict.fromkeys(self.halted_authorities, HALTED_BY_ORDER)}
