"""`authorities.toml` and the profiles: the CAs that there are, and the kinds of certificate that they issue."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from cassiopeia.config.toml import (
    CaName,
    SignerId,
    Table,
    Url,
    read_certificate,
    read_text,
    read_toml,
)
from cassiopeia.core.authority import MAXIMUM_CERTIFICATES, Authority, load_authority
from cassiopeia.core.profile import Profile, parse_profile
from cassiopeia.errors import ConfigurationError, OperatorError

_KeyUri = Annotated[str, msgspec.Meta(pattern=r"(?#a key URI, as file:keys/NAME.key)^[a-z0-9]+:.+\Z")]
_Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]


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
            certificate=read_certificate(path, each.certificate, key=f"ca[{index}].certificate"),
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


class _Authority(Table, frozen=True, kw_only=True):
    name: CaName
    certificate: Path
    issuer: CaName
    signer_id: SignerId
    issues_from: _Moment
    issues_until: _Moment
    key: _KeyUri | None = None
    maximum_certificates: Annotated[int, msgspec.Meta(ge=1, le=MAXIMUM_CERTIFICATES)] = MAXIMUM_CERTIFICATES
    pss: bool = False
    retired: bool = False
    crl_urls: tuple[Url, ...] = ()
    issuer_urls: tuple[Url, ...] = ()
    ocsp_urls: tuple[Url, ...] = ()


class _Ca(Table, frozen=True, kw_only=True):
    name: CaName
    certificate: Path
    issuer: CaName


class _AuthoritiesFile(Table, frozen=True, kw_only=True):
    authority: tuple[_Authority, ...]
    ca: tuple[_Ca, ...] = ()


def _check_distinct(path: Path, names: list[str], key: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ConfigurationError(f"{name!r} stands there twice", source=str(path), key=f"{key}[{index}].name")


def _load_authority(path: Path, entry: _Authority, *, key: str) -> Authority:
    certificate = read_certificate(path, entry.certificate, key=f"{key}.certificate")
    try:
        return load_authority(
            certificate,
            name=entry.name,
            signer_id=entry.signer_id,
            issues_from=entry.issues_from.astimezone(dt.UTC),
            issues_until=entry.issues_until.astimezone(dt.UTC),
            maximum_certificates=entry.maximum_certificates,
            pss=entry.pss,
            retired=entry.retired,
            crl_urls=entry.crl_urls,
            issuer_urls=entry.issuer_urls,
            ocsp_urls=entry.ocsp_urls,
        )
    except OperatorError as error:
        raise ConfigurationError(str(error), source=str(path), key=key) from error
