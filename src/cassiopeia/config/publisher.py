"""`publisher.toml`: what the publisher serves, where, and the key that signs its OCSP answers."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from cassiopeia.config.bundles import Bundles, load_bundles
from cassiopeia.config.client import store_url
from cassiopeia.config.toml import Paths, Table, Text, beside, read_ed25519, read_toml
from cassiopeia.errors import ConfigurationError

_HIGHEST_PORT: Final = 65_535


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpAddress:
    """Where the publisher listens: an IP address and a port (0: any that is free)."""

    host: str
    port: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PublisherConfig:
    """`publisher.toml`. Paths are absolute, also the one inside an SQLite `store_url`.

    `directory` is what is served. `journal_keys` are what the signers' journals are known by: Ed25519, DER
    SubjectPublicKeyInfo. `key` is the responder's, whose certificates are kept in `certificates`; `path` is where
    OCSP is asked. An answer may be kept for `holds`, and by caches of HTTP for `cached`.
    """

    source: Path
    name: str
    bundles: Bundles
    authorities: Path
    store_url: str
    journal_keys: tuple[bytes, ...]
    listen: HttpAddress
    directory: Path
    key: Path
    certificates: Path
    path: str
    holds: dt.timedelta
    cached: dt.timedelta


def load_publisher_config(path: Path, *, installation: Path | None = None) -> PublisherConfig:
    """Read `publisher.toml`; the CAs are those of the bundle that is in force, if there is one.

    An `installation` that is given counts instead. Raises ConfigurationError.
    """
    file = read_toml(path, _PublisherFile)
    bundles = load_bundles(path, file.publisher.bundles, file.publisher.bundle_key, installation=installation)
    return PublisherConfig(
        source=path.absolute(),
        name=file.publisher.name,
        bundles=bundles,
        authorities=beside(path, file.authorities)
        if bundles.installed is None
        else bundles.installed / "authorities.toml",
        store_url=store_url(path, file.store.url),
        journal_keys=tuple(
            read_ed25519(path, each, key=f"journal.keys[{index}]") for index, each in enumerate(file.journal.keys)
        ),
        listen=http_address(path, file.http.listen),
        directory=beside(path, file.http.directory),
        key=beside(path, file.ocsp.key),
        certificates=beside(path, file.ocsp.certificates),
        path=file.ocsp.path,
        holds=dt.timedelta(hours=file.ocsp.answer_hours),
        cached=dt.timedelta(seconds=file.ocsp.cache_seconds),
    )


def http_address(path: Path, text: str) -> HttpAddress:
    """What http.listen in the file at `path` says; raises ConfigurationError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
        number = int(port) if port.isascii() and port.isdigit() else -1
    except ValueError:
        number = -1
    if not 0 <= number <= _HIGHEST_PORT:
        raise ConfigurationError(
            "write an IP address and a port, as 127.0.0.1:8080 or [::1]:8080",
            source=str(path),
            key="http.listen",
        )
    return HttpAddress(host=host, port=number)


_UrlPath = Annotated[
    str, msgspec.Meta(pattern=r"(?#the path of a URL, as /ocsp)^(/[A-Za-z0-9._~-]{1,64}){1,4}\Z", max_length=255)
]


class _Publisher(Table, frozen=True, kw_only=True):
    name: Text = "publisher"
    bundles: Path = Path("bundles")
    bundle_key: Path | None = None


class _Store(Table, frozen=True, kw_only=True):
    url: Text


class _Journal(Table, frozen=True, kw_only=True):
    keys: Paths


class _Http(Table, frozen=True, kw_only=True):
    listen: Text = "127.0.0.1:8080"
    directory: Path = Path("public")


class _Ocsp(Table, frozen=True, kw_only=True):
    key: Path = Path("responder.key")
    certificates: Path = Path("responder")
    path: _UrlPath = "/ocsp"
    # Browsers' rules (Baseline Requirements 4.9.10) want 8 hours to 10 days.
    answer_hours: Annotated[int, msgspec.Meta(ge=1, le=240)] = 12
    cache_seconds: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 300


class _PublisherFile(Table, frozen=True, kw_only=True):
    publisher: _Publisher = _Publisher()
    store: _Store
    journal: _Journal
    authorities: Path = Path("authorities.toml")
    http: _Http = _Http()
    ocsp: _Ocsp = _Ocsp()
