"""`client.toml`: the store, the link to the signer, and what is published where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import quote, unquote

import msgspec

from cassiopeia.config.bundles import Bundles, load_bundles
from cassiopeia.config.toml import Paths, Table, Text, beside, link_address, read_ed25519, read_toml
from cassiopeia.errors import ConfigurationError
from cassiopeia.link.stream import Address

_SQLITE: Final = "sqlite:///"


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
    bundles: Bundles
    authorities: Path
    profiles: Path
    publish_directory: Path
    journal_keys: tuple[bytes, ...]
    lint_workers: int


def load_client_config(path: Path, *, installation: Path | None = None) -> ClientConfig:
    """Read `client.toml`; authorities and profiles are those of the bundle that is in force, if there is one.

    An `installation` that is given counts instead. Raises ConfigurationError.
    """
    file = read_toml(path, _ClientFile)
    bundles = load_bundles(path, file.client.bundles, file.client.bundle_key, installation=installation)
    authorities, profiles = beside(path, file.authorities), beside(path, file.profiles)
    if bundles.installed is not None:
        authorities, profiles = bundles.installed / "authorities.toml", bundles.installed / "profiles"
    return ClientConfig(
        source=path.absolute(),
        name=file.client.name,
        store_url=store_url(path, file.store.url),
        connect=link_address(path, file.link.connect, key="link.connect"),
        certificate=beside(path, file.link.certificate),
        key=beside(path, file.link.key),
        peers=tuple(beside(path, each) for each in file.link.peers),
        version=file.link.version,
        window=file.link.window,
        bundles=bundles,
        authorities=authorities,
        profiles=profiles,
        publish_directory=beside(path, file.publish.directory),
        journal_keys=_journal_keys(path, file),
        lint_workers=file.lint.workers,
    )


class _Client(Table, frozen=True, kw_only=True):
    name: Text
    bundles: Path = Path("bundles")
    bundle_key: Path | None = None


class _Store(Table, frozen=True, kw_only=True):
    url: Text


class _ClientLink(Table, frozen=True, kw_only=True):
    connect: Text
    certificate: Path
    key: Path
    peers: Paths
    version: Literal[1, 2] = 2
    window: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 400


class _Publish(Table, frozen=True, kw_only=True):
    directory: Path = Path("public")


class _ClientJournal(Table, frozen=True, kw_only=True):
    keys: Paths


class _Lint(Table, frozen=True, kw_only=True):
    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] = 1


class _ClientFile(Table, frozen=True, kw_only=True):
    client: _Client
    store: _Store
    link: _ClientLink
    journal: _ClientJournal | None = None  # as in _SignerFile, for version 2
    authorities: Path = Path("authorities.toml")
    profiles: Path = Path("profiles")
    publish: _Publish = _Publish()
    lint: _Lint = _Lint()


def _journal_keys(path: Path, file: _ClientFile) -> tuple[bytes, ...]:
    if file.journal is not None:
        names = enumerate(file.journal.keys)
        return tuple(read_ed25519(path, each, key=f"journal.keys[{index}]") for index, each in names)
    if file.link.version == 1:  # it knows no journal
        return ()
    raise ConfigurationError(
        'name the key that signs the journal of the signer, as keys = ["peers/journal.pem"]; on the signing machine, '
        "openssl pkey -in journal.key -pubout prints that file",
        source=str(path),
        key="journal.keys",
    )


def store_url(path: Path, url: str) -> str:
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
    return _SQLITE + quote(str(beside(path, Path(unquote(name))))) + question_mark + query
