"""Configuration files: TOML, parsed once into frozen values that cannot hold a wrong one.

Owns `signer.toml`, `client.toml` and `authorities.toml`; unknown keys, wrong types and values out of range raise
`ConfigurationError` with file, key and reason. Relative paths are relative to the file that names them. Opens no key,
no link and no store: the signer loads this module, so it needs nothing of the database's side.
"""

from __future__ import annotations

import datetime as dt
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import quote, unquote

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cassiopeia.core.authority import MAXIMUM_CERTIFICATES, Authority, load_authority
from cassiopeia.core.decoding import explain
from cassiopeia.core.profile import Profile, parse_profile
from cassiopeia.errors import ConfigurationError, InternalError, OperatorError
from cassiopeia.link.stream import Address, parse_address
from cassiopeia.protocol.limits import Limits

# Serial numbers begin with the id of their signer (ADR 4); this one marks what the offline CAs sign in a ceremony.
OFFLINE_SIGNER_ID: Final = 0x7F
HIGHEST_SIGNER_ID: Final = OFFLINE_SIGNER_ID - 1

_SQLITE: Final = "sqlite:///"

# A pattern begins with a comment, which is what messages say of a value that does not match.
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Url = Annotated[str, msgspec.Meta(pattern=r"(?#an http or https URL)^https?://[!-~]{1,1000}\Z")]
CaName = Annotated[str, msgspec.Meta(pattern=r"(?#a word of letters, digits and _)^[A-Za-z][A-Za-z0-9_]{0,63}\Z")]
SignerId = Annotated[int, msgspec.Meta(ge=1, le=HIGHEST_SIGNER_ID)]
_Credential = Annotated[
    str, msgspec.Meta(pattern=r"(?#a word of letters, digits and . _ -)^[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}\Z")
]
_KeyUri = Annotated[str, msgspec.Meta(pattern=r"(?#a key URI, as file:keys/NAME.key)^[a-z0-9]+:.+\Z")]
_Paths = Annotated[tuple[Path, ...], msgspec.Meta(min_length=1, max_length=16)]
_T = TypeVar("_T")


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

    The passphrase of the CA keys is in `passphrase_file`, or else in the systemd credential `passphrase_credential`.
    `version_1` is None when the signer refuses that version. `journal_key` signs the heads of the journal;
    after `retention_days` (0: never) it no longer holds what is about persons.
    `operators` are the keys (Ed25519, DER SubjectPublicKeyInfo) whose orders it obeys, when `quorum` of them agree.
    """

    source: Path
    signer_id: int
    state: Path
    workers: int
    authorities: Path
    profiles: Path
    passphrase_file: Path | None
    passphrase_credential: str
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientConfig:
    """`client.toml`. Paths are absolute, also the one inside an SQLite `store_url`; `lint_workers` 0 means no lint.

    `journal_keys` are what the signer's journal is known by: Ed25519, DER SubjectPublicKeyInfo (version 1: none).
    """

    source: Path
    name: str
    store_url: str
    connect: Address
    certificate: Path
    key: Path
    peers: tuple[Path, ...]
    version: int
    window: int
    authorities: Path
    profiles: Path
    publish_directory: Path
    journal_keys: tuple[bytes, ...]
    lint_workers: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorityEntry:
    """One sub-CA of `authorities.toml`: the CA above it, and the key's URI as written (empty on the client's side).

    A relative `file:` is relative to `authorities.toml`.
    """

    authority: Authority
    issuer: str
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ChainEntry:
    """An offline CA: its certificate (DER) and the CA that issued it; a root's issuer is itself."""

    name: str
    certificate: bytes
    issuer: str


def load_signer_config(path: Path) -> SignerConfig:
    """Read `signer.toml`; raises ConfigurationError."""
    file = read_toml(path, _SignerFile)
    _check_passphrase_source(path, file.keys)
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
    operators = tuple(
        _read_ed25519(path, each, key=f"orders.operators[{index}]") for index, each in enumerate(file.orders.operators)
    )
    _check_operators(path, operators, quorum=file.orders.quorum)
    version_1 = file.link.version_1
    return SignerConfig(
        source=path.absolute(),
        signer_id=file.signer.id,
        state=_beside(path, file.signer.state),
        workers=file.signer.workers,
        authorities=_beside(path, file.signer.authorities),
        profiles=_beside(path, file.signer.profiles),
        passphrase_file=None if file.keys.passphrase_file is None else _beside(path, file.keys.passphrase_file),
        passphrase_credential=file.keys.passphrase_credential or "",
        listen=link_address(path, file.link.listen, key="link.listen"),
        certificate=_beside(path, file.link.certificate),
        key=_beside(path, file.link.key),
        peers=tuple(_beside(path, each) for each in file.link.peers),
        sessions=file.link.sessions,
        version_1=None
        if version_1 is None
        else Version1Config(
            certificate=_beside(path, version_1.certificate),
            key=_beside(path, version_1.key),
            peers=tuple(_beside(path, each) for each in version_1.peers),
            profiles=version_1.profiles,
        ),
        limits=Limits(
            open_requests=file.limits.open_requests,
            request_octets=file.limits.request_octets,
            request_seconds=file.limits.request_seconds,
        ),
        crl_lifetime_days=file.crl.lifetime_days,
        crl_resign_hours=file.crl.resign_hours,
        journal_key=_beside(path, file.journal.key),
        retention_days=file.journal.retention_days,
        disk_reserve_octets=file.disk.reserve_mib * 1024 * 1024,
        clock_leap_days=file.clock.leap_days,
        operators=operators,
        quorum=file.orders.quorum,
    )


def load_client_config(path: Path) -> ClientConfig:
    """Read `client.toml`; raises ConfigurationError."""
    file = read_toml(path, _ClientFile)
    return ClientConfig(
        source=path.absolute(),
        name=file.client.name,
        store_url=_store_url(path, file.store.url),
        connect=link_address(path, file.link.connect, key="link.connect"),
        certificate=_beside(path, file.link.certificate),
        key=_beside(path, file.link.key),
        peers=tuple(_beside(path, each) for each in file.link.peers),
        version=file.link.version,
        window=file.link.window,
        authorities=_beside(path, file.authorities),
        profiles=_beside(path, file.profiles),
        publish_directory=_beside(path, file.publish.directory),
        journal_keys=_journal_keys(path, file),
        lint_workers=file.lint.workers,
    )


def load_authorities(path: Path) -> tuple[AuthorityEntry, ...]:
    """The sub-CAs of `authorities.toml`, with their certificates read; raises ConfigurationError."""
    entries = tuple(
        AuthorityEntry(
            authority=_load_authority(path, each, key=f"authority[{index}]"), issuer=each.issuer, key=each.key or ""
        )
        for index, each in enumerate(read_toml(path, _AuthoritiesFile).authority)
    )
    _check_distinct(path, [each.authority.name for each in entries], "authority")
    return entries


def load_chain(path: Path) -> tuple[ChainEntry, ...]:
    """The offline CAs of `authorities.toml`: what stands above the sub-CAs; raises ConfigurationError."""
    file = read_toml(path, _AuthoritiesFile)
    entries = tuple(
        ChainEntry(
            name=each.name,
            certificate=_read_certificate(path, each.certificate, key=f"ca[{index}].certificate"),
            issuer=each.issuer,
        )
        for index, each in enumerate(file.ca)
    )
    names = [each.name for each in entries]
    _check_distinct(path, names, "ca")
    for index, each in enumerate(entries):
        if each.issuer not in names:
            raise ConfigurationError(
                f"no [[ca]] is called {each.issuer!r}", source=str(path), key=f"ca[{index}].issuer"
            )
    return entries


def load_profiles(directory: Path) -> dict[str, Profile]:
    """Every `NAME.toml` of a directory, by name; raises ConfigurationError."""
    if not directory.is_dir():
        raise ConfigurationError("there is no such directory; it has to hold the profiles", source=str(directory))
    return {path.stem: load_profile(path) for path in sorted(directory.glob("*.toml"))}


def load_profile(path: Path) -> Profile:
    """One profile, called as its file; raises ConfigurationError."""
    return parse_profile(read_text(path), name=path.stem, source=str(path))


def read_toml(path: Path, shape: type[_T]) -> _T:
    """Parse a TOML file into a msgspec `shape`; raises ConfigurationError with file, key and reason."""
    return parse_toml(read_text(path), shape, source=str(path))


def read_text(path: Path) -> str:
    """A whole file of UTF-8; raises ConfigurationError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read this file: {error.strerror}", source=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"octet {error.start} is not UTF-8", source=str(path)) from error


def parse_toml(text: str, shape: type[_T], *, source: str) -> _T:
    """Parse TOML text into a msgspec `shape`; `source` is what messages call it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"this is not TOML: {error}", source=source) from error
    return check_shape(document, shape, source=source)


def check_shape(document: Mapping[str, Any], shape: type[_T], *, source: str) -> _T:
    """Plain values as a msgspec `shape`; raises ConfigurationError."""
    try:
        return msgspec.convert(document, shape, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        reason, key = explain(str(error))
        raise ConfigurationError(reason, source=source, key=key) from error


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every table has in common: it may hold what is declared here and nothing else."""


class _Signer(_File, frozen=True, kw_only=True):
    id: SignerId
    state: Path = Path("state")
    workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    authorities: Path = Path("authorities.toml")
    profiles: Path = Path("profiles")


class _Keys(_File, frozen=True, kw_only=True):
    passphrase_file: Path | None = None
    # systemd.exec(5): the name becomes a file name below $CREDENTIALS_DIRECTORY.
    passphrase_credential: _Credential | None = None


class _Version1(_File, frozen=True, kw_only=True):
    certificate: Path
    key: Path
    peers: _Paths
    profiles: tuple[Text, ...] = ()


class _SignerLink(_File, frozen=True, kw_only=True):
    listen: Text
    certificate: Path
    key: Path
    peers: _Paths
    sessions: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    version_1: _Version1 | None = None


class _Limits(_File, frozen=True, kw_only=True):
    open_requests: Annotated[int, msgspec.Meta(ge=1, le=4096)] = Limits().open_requests
    request_octets: Annotated[int, msgspec.Meta(ge=16_384, le=Limits().message_octets)] = Limits().request_octets
    request_seconds: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = Limits().request_seconds


class _Crl(_File, frozen=True, kw_only=True):
    # 10 days are what browser rules allow, 30 what no browser has to see (root structure, "Revocation").
    lifetime_days: Annotated[int, msgspec.Meta(ge=1, le=30)] = 10
    resign_hours: Annotated[int, msgspec.Meta(ge=1, le=720)] = 24


class _SignerJournal(_File, frozen=True, kw_only=True):
    key: Path
    retention_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 0


class _Disk(_File, frozen=True, kw_only=True):
    reserve_mib: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 64


class _Clock(_File, frozen=True, kw_only=True):
    leap_days: Annotated[int, msgspec.Meta(ge=1, le=365)] = 3


class _Orders(_File, frozen=True, kw_only=True):
    operators: Annotated[tuple[Path, ...], msgspec.Meta(max_length=16)] = ()
    quorum: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1


class _SignerFile(_File, frozen=True, kw_only=True):
    signer: _Signer
    keys: _Keys
    link: _SignerLink
    journal: _SignerJournal | None = None  # it must be there; its lack has a message of its own
    limits: _Limits = _Limits()
    crl: _Crl = _Crl()
    disk: _Disk = _Disk()
    clock: _Clock = _Clock()
    orders: _Orders = _Orders()


class _Client(_File, frozen=True, kw_only=True):
    name: Text


class _Store(_File, frozen=True, kw_only=True):
    url: Text


class _ClientLink(_File, frozen=True, kw_only=True):
    connect: Text
    certificate: Path
    key: Path
    peers: _Paths
    version: Literal[1, 2] = 2
    window: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 200


class _Publish(_File, frozen=True, kw_only=True):
    directory: Path = Path("public")


class _ClientJournal(_File, frozen=True, kw_only=True):
    keys: _Paths


class _Lint(_File, frozen=True, kw_only=True):
    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 1


class _ClientFile(_File, frozen=True, kw_only=True):
    client: _Client
    store: _Store
    link: _ClientLink
    journal: _ClientJournal | None = None  # as in _SignerFile, for version 2
    authorities: Path = Path("authorities.toml")
    profiles: Path = Path("profiles")
    publish: _Publish = _Publish()
    lint: _Lint = _Lint()


_Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]


class _Authority(_File, frozen=True, kw_only=True):
    name: CaName
    certificate: Path
    issuer: CaName
    signer_id: SignerId
    issues_from: _Moment
    issues_until: _Moment
    key: _KeyUri | None = None
    maximum_certificates: Annotated[int, msgspec.Meta(ge=1, le=MAXIMUM_CERTIFICATES)] = MAXIMUM_CERTIFICATES
    pss: bool = False
    crl_urls: tuple[Url, ...] = ()
    issuer_urls: tuple[Url, ...] = ()
    ocsp_urls: tuple[Url, ...] = ()


class _Ca(_File, frozen=True, kw_only=True):
    name: CaName
    certificate: Path
    issuer: CaName


class _AuthoritiesFile(_File, frozen=True, kw_only=True):
    authority: tuple[_Authority, ...]
    ca: tuple[_Ca, ...] = ()


def _check_passphrase_source(path: Path, keys: _Keys) -> None:
    if (keys.passphrase_file is None) == (keys.passphrase_credential is None):
        raise ConfigurationError(
            "give either passphrase_file or passphrase_credential", source=str(path), key="keys.passphrase_file"
        )


def _journal_keys(path: Path, file: _ClientFile) -> tuple[bytes, ...]:
    if file.journal is not None:
        names = enumerate(file.journal.keys)
        return tuple(_read_ed25519(path, each, key=f"journal.keys[{index}]") for index, each in names)
    if file.link.version == 1:  # it knows no journal
        return ()
    raise ConfigurationError(
        'name the key that signs the journal of the signer, as keys = ["peers/journal.pem"]; on the signing machine, '
        "openssl pkey -in journal.key -pubout prints that file",
        source=str(path),
        key="journal.keys",
    )


def _read_ed25519(path: Path, name: Path, *, key: str) -> bytes:
    """DER of the Ed25519 public key in a PEM file."""
    file = _beside(path, name)
    try:
        public_key = load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", source=str(path), key=key) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{file} is not a public key in PEM", source=str(path), key=key) from error
    if not isinstance(public_key, Ed25519PublicKey):
        raise ConfigurationError(f"{file} is not an Ed25519 key", source=str(path), key=key)
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_operators(path: Path, operators: tuple[bytes, ...], *, quorum: int) -> None:
    for index, each in enumerate(operators):
        if each in operators[:index]:
            raise ConfigurationError(
                "this key stands there twice; each operator has one", source=str(path), key=f"orders.operators[{index}]"
            )
    if operators and quorum > len(operators):
        raise ConfigurationError(
            f"so many must sign, and {len(operators)} keys are named: name more of them, or ask for fewer",
            source=str(path),
            key="orders.quorum",
        )


def _check_distinct(path: Path, names: list[str], key: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigurationError(f"{name!r} stands there twice", source=str(path), key=f"{key}[{index}].name")


def _load_authority(path: Path, entry: _Authority, *, key: str) -> Authority:
    certificate = _read_certificate(path, entry.certificate, key=f"{key}.certificate")
    try:
        return load_authority(
            certificate,
            name=entry.name,
            signer_id=entry.signer_id,
            issues_from=entry.issues_from.astimezone(dt.UTC),
            issues_until=entry.issues_until.astimezone(dt.UTC),
            maximum_certificates=entry.maximum_certificates,
            pss=entry.pss,
            crl_urls=entry.crl_urls,
            issuer_urls=entry.issuer_urls,
            ocsp_urls=entry.ocsp_urls,
        )
    except OperatorError as error:
        raise ConfigurationError(str(error), source=str(path), key=key) from error


def _read_certificate(path: Path, name: Path, *, key: str) -> bytes:
    """DER of the one certificate in a PEM or DER file."""
    file = _beside(path, name)
    try:
        octets = file.read_bytes()
        is_pem = octets.lstrip().startswith(b"-----BEGIN")
        certificate = x509.load_pem_x509_certificate(octets) if is_pem else x509.load_der_x509_certificate(octets)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", source=str(path), key=key) from error
    except ValueError as error:
        raise ConfigurationError(f"{file} is not a certificate (PEM or DER)", source=str(path), key=key) from error
    return certificate.public_bytes(Encoding.DER)


def _beside(path: Path, other: Path) -> Path:
    """`other` as seen from the directory of the configuration file at `path`."""
    return path.absolute().parent / other


def _store_url(path: Path, url: str) -> str:
    """A relative SQLite file is relative to the configuration file; every other URL stays as it is."""
    location = url.removeprefix(_SQLITE)
    if location == url or location.startswith("/"):
        return url
    name, question_mark, query = location.partition("?")
    if name in {"", ":memory:"}:
        raise ConfigurationError(
            "the store has to outlive the process: name a file, as sqlite:///store.sqlite",
            source=str(path),
            key="store.url",
        )
    return _SQLITE + quote(str(_beside(path, Path(unquote(name))))) + question_mark + query


def link_address(path: Path, text: str, *, key: str) -> Address:
    """Where a link is; a relative Unix socket is relative to the file at `path`. Raises ConfigurationError."""
    scheme, _, location = text.partition(":")
    if scheme == "unix" and location:
        # Without `..` in it: a socket's path must be short, and people read it in logs.
        text = f"unix:{os.path.normpath(_beside(path, Path(location)))}"
    try:
        return parse_address(text)
    except OperatorError as error:
        raise ConfigurationError(str(error), source=str(path), key=key) from error


def _decode_path(expected: type, value: Any) -> Path:
    """Paths, the one type here that msgspec does not know."""
    if expected is not Path:
        raise InternalError(f"no way to read a {expected.__name__} from TOML")
    if not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    if not value or "\0" in value:
        raise ValueError("this has to be a path")
    return Path(value)
