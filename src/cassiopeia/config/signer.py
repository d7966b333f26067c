"""`signer.toml`: what a signer is, where it finds its keys, whom it listens to and what bounds it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from cassiopeia.config.bundles import Bundles, load_bundles
from cassiopeia.config.keys import AuthorityTables, KeysConfig, KeysTable, Pkcs11Table, read_keys
from cassiopeia.config.pins import (
    PINS,
    OcspTable,
    OrdersTable,
    ValidatorTables,
    check_quorum,
    join_pins,
    load_pins,
    read_pins,
)
from cassiopeia.config.toml import (
    Paths,
    SignerId,
    Table,
    Text,
    beside,
    link_address,
    read_toml,
)
from cassiopeia.core.rules import Validator
from cassiopeia.errors import ConfigurationError
from cassiopeia.link.stream import Address
from cassiopeia.protocol.limits import Limits


@dataclass(frozen=True, kw_only=True, slots=True)
class Version1Config:
    """Version 1 of the protocol: its own certificate, its own pins, and the only profiles that it may ask for."""

    certificate: Path
    key: Path
    peers: tuple[Path, ...]
    profiles: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerConfig:
    """`signer.toml`. Paths are absolute; `workers` 0 means one a core.

    Where a bundle is installed, `authorities` and `profiles` are its own, and what it pins counts beside what
    `signer.toml` does. `keys` says where the sub-CAs' keys are and what signs with them; `sealing_key` opens the
    passphrases of bundles.
    `version_1` is None when the signer refuses that version. `journal_key` signs the heads of the journal;
    after `retention_days` (0: never) it no longer holds what is about persons.
    `operators` are the keys (Ed25519, DER SubjectPublicKeyInfo) whose orders it obeys, when `quorum` of them agree.
    `caps` are how much may happen in an hour (open intents: at a time), by the names that orders have for them.
    `validators` are those whose statements count, `responder_keys` SHA-256 of the SubjectPublicKeyInfo of OCSP
    responders. `weak_keys` are lists of keys that are not certified (None: nobody has said whether there are any).
    """

    source: Path
    signer_id: int
    state: Path
    workers: int
    bundles: Bundles
    authorities: Path
    profiles: Path
    keys: KeysConfig
    sealing_key: Path
    listen: Address
    certificate: Path
    key: Path
    peers: tuple[Path, ...]
    sessions: int
    version_1: Version1Config | None
    limits: Limits
    crl_lifetime_days: int
    crl_resign_hours: int
    journal_key: Path
    retention_days: int
    disk_reserve_octets: int
    clock_leap_days: int
    operators: tuple[bytes, ...]
    quorum: int
    caps: Mapping[str, int]
    validators: tuple[Validator, ...]
    responder_keys: frozenset[bytes]
    weak_keys: tuple[Path, ...] | None


def load_signer_config(path: Path, *, installation: Path | None = None) -> SignerConfig:
    """Read `signer.toml`, and the bundle that is in force, or else the `installation`; raises ConfigurationError."""
    file = read_toml(path, _SignerFile)
    if file.crl.resign_hours >= file.crl.lifetime_days * 24:
        raise ConfigurationError(
            "CRLs must be signed anew before they end: make this smaller than lifetime_days",
            source=str(path),
            key="crl.resign_hours",
        )
    if file.journal is None:
        raise ConfigurationError(
            'name the key that signs the journal, as key = "journal.key"; '
            "openssl genpkey -algorithm ED25519 -out journal.key makes one (mode 600)",
            source=str(path),
            key="journal.key",
        )
    bundles = load_bundles(path, file.signer.bundles, file.signer.bundle_key, installation=installation)
    authorities, profiles = beside(path, file.signer.authorities), beside(path, file.signer.profiles)
    pins = read_pins(path, orders=file.orders, validators=file.validator, ocsp=file.ocsp)
    if bundles.installed is not None:
        authorities, profiles = bundles.installed / "authorities.toml", bundles.installed / "profiles"
        pins = join_pins(pins, load_pins(bundles.installed / PINS), source=str(path))
    check_quorum(pins, source=str(path))
    version_1 = file.link.version_1
    return SignerConfig(
        source=path.absolute(),
        signer_id=file.signer.id,
        state=beside(path, file.signer.state),
        workers=file.signer.workers,
        bundles=bundles,
        authorities=authorities,
        profiles=profiles,
        keys=read_keys(path, file.keys, file.pkcs11, file.authority),
        sealing_key=beside(path, file.keys.sealing_key),
        listen=link_address(path, file.link.listen, key="link.listen"),
        certificate=beside(path, file.link.certificate),
        key=beside(path, file.link.key),
        peers=tuple(beside(path, each) for each in file.link.peers),
        sessions=file.link.sessions,
        version_1=None
        if version_1 is None
        else Version1Config(
            certificate=beside(path, version_1.certificate),
            key=beside(path, version_1.key),
            peers=tuple(beside(path, each) for each in version_1.peers),
            profiles=version_1.profiles,
        ),
        limits=Limits(
            open_requests=file.limits.open_requests,
            request_octets=file.limits.request_octets,
            request_seconds=file.limits.request_seconds,
        ),
        crl_lifetime_days=file.crl.lifetime_days,
        crl_resign_hours=file.crl.resign_hours,
        journal_key=beside(path, file.journal.key),
        retention_days=file.journal.retention_days,
        disk_reserve_octets=file.disk.reserve_mib * 1024 * 1024,
        clock_leap_days=file.clock.leap_days,
        operators=pins.operators,
        quorum=pins.quorum,
        caps={name.replace("_", "-"): limit for name, limit in msgspec.structs.asdict(file.caps).items()},
        validators=pins.validators,
        responder_keys=pins.responders,
        weak_keys=None
        if file.key_checks.weak_keys is None
        else tuple(beside(path, each) for each in file.key_checks.weak_keys),
    )


class _Signer(Table, frozen=True, kw_only=True):
    id: SignerId
    state: Path = Path("state")
    workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    authorities: Path = Path("authorities.toml")
    profiles: Path = Path("profiles")
    bundles: Path = Path("bundles")
    bundle_key: Path | None = None


class _Version1(Table, frozen=True, kw_only=True):
    certificate: Path
    key: Path
    peers: Paths
    profiles: tuple[Text, ...] = ()


class _SignerLink(Table, frozen=True, kw_only=True):
    listen: Text
    certificate: Path
    key: Path
    peers: Paths
    sessions: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    version_1: _Version1 | None = None


class _Limits(Table, frozen=True, kw_only=True):
    open_requests: Annotated[int, msgspec.Meta(ge=1, le=4096)] = Limits().open_requests
    request_octets: Annotated[int, msgspec.Meta(ge=16_384, le=Limits().message_octets)] = Limits().request_octets
    request_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = Limits().request_seconds


class _Crl(Table, frozen=True, kw_only=True):
    # 10 days are what browser rules allow, 30 what no browser has to see (root structure, "Revocation").
    lifetime_days: Annotated[int, msgspec.Meta(ge=1, le=30)] = 10
    resign_hours: Annotated[int, msgspec.Meta(ge=1, le=720)] = 24


class _SignerJournal(Table, frozen=True, kw_only=True):
    key: Path
    retention_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 0


class _Disk(Table, frozen=True, kw_only=True):
    reserve_mib: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 64


class _Clock(Table, frozen=True, kw_only=True):
    leap_days: Annotated[int, msgspec.Meta(ge=1, le=365)] = 3


_Capped = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class _Caps(Table, frozen=True, kw_only=True):
    # Names and bounds are those of `order.CAPS`.
    open_intents: Annotated[int, msgspec.Meta(ge=1, le=20_000)] = 4_000
    profile_certificates: _Capped = 10_000
    account_certificates: _Capped = 5_000
    validator_certificates: _Capped = 20_000
    revocations: _Capped = 1_000
    refusals: _Capped = 5_000


class _KeyChecks(Table, frozen=True, kw_only=True):
    weak_keys: Annotated[tuple[Path, ...], msgspec.Meta(max_length=16)] | None = None


class _SignerFile(Table, frozen=True, kw_only=True):
    signer: _Signer
    keys: KeysTable
    link: _SignerLink
    journal: _SignerJournal | None = None  # it must be there; its lack has a message of its own
    limits: _Limits = _Limits()
    crl: _Crl = _Crl()
    disk: _Disk = _Disk()
    clock: _Clock = _Clock()
    orders: OrdersTable = OrdersTable()
    caps: _Caps = _Caps()
    validator: ValidatorTables = ()
    ocsp: OcspTable = OcspTable()
    key_checks: _KeyChecks = _KeyChecks()
    pkcs11: Pkcs11Table = Pkcs11Table()
    authority: AuthorityTables = msgspec.field(default_factory=dict)
