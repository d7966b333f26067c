"""`validator.toml`: the validator's key and store, how it attests, and the programs that renew what lapses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from cassiopeia.config.bundles import Bundles, load_bundles
from cassiopeia.config.client import store_url
from cassiopeia.config.toml import Paths, Table, Text, beside, read_ed25519, read_toml
from cassiopeia.core.evidence import MAXIMUM_BATCH, OBSERVATION_KINDS, STATEMENT_KINDS
from cassiopeia.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckProgram:
    """A program that looks again whether something still holds; `kinds` of observation is what it can see."""

    kinds: tuple[str, ...]
    command: tuple[str, ...]
    timeout_s: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidatorConfig:
    """`validator.toml`. Paths are absolute, also the one inside an SQLite `store_url`.

    `kinds` are those that this validator's key is pinned for. `peers` are other validators, and `journal_keys` what the
    signers' journals are known by: Ed25519, DER SubjectPublicKeyInfo. A signature covers `batch` requests at most;
    `ahead` requests are attested before the client asks for them. What lapses within `margin_minutes` is renewed by
    `checks`, of which `checks_at_once` run.
    """

    source: Path
    name: str
    key: Path
    kinds: frozenset[str]
    peers: tuple[bytes, ...]
    store_url: str
    journal_keys: tuple[bytes, ...]
    bundles: Bundles
    profiles: Path
    batch: int
    ahead: int
    margin_minutes: int
    checks_at_once: int
    checks: tuple[CheckProgram, ...]

    def check_for(self, kind: str) -> CheckProgram | None:
        """The program that sees this kind, if there is one."""
        return next((each for each in self.checks if kind in each.kinds), None)


def load_validator_config(path: Path, *, installation: Path | None = None) -> ValidatorConfig:
    """Read `validator.toml`; the profiles are those of the bundle that is in force, if there is one.

    An `installation` that is given counts instead. Raises ConfigurationError.
    """
    file = read_toml(path, _ValidatorFile)
    bundles = load_bundles(path, file.validator.bundles, file.validator.bundle_key, installation=installation)
    _check_kinds(path, file.validator.kinds, STATEMENT_KINDS, key="validator.kinds")
    seen: set[str] = set()
    for index, each in enumerate(file.check):
        _check_kinds(path, each.kinds, OBSERVATION_KINDS, key=f"check[{index}].kinds")
        for kind in each.kinds:
            if kind in seen:
                raise ConfigurationError(
                    f"another [[check]] sees {kind} already: one program for each kind",
                    source=str(path),
                    key=f"check[{index}].kinds",
                )
            if kind not in file.validator.kinds:
                raise ConfigurationError(
                    f"this validator does not sign {kind}: name it in validator.kinds too, or leave it out here",
                    source=str(path),
                    key=f"check[{index}].kinds",
                )
            seen.add(kind)
    return ValidatorConfig(
        source=path.absolute(),
        name=file.validator.name,
        key=beside(path, file.validator.key),
        kinds=frozenset(file.validator.kinds),
        peers=_keys(path, file.validator.peers, key="validator.peers"),
        store_url=store_url(path, file.store.url),
        journal_keys=_keys(path, file.journal.keys, key="journal.keys"),
        bundles=bundles,
        profiles=beside(path, file.profiles) if bundles.installed is None else bundles.installed / "profiles",
        batch=file.attest.batch,
        ahead=file.attest.ahead,
        margin_minutes=file.renew.margin_minutes,
        checks_at_once=file.renew.at_once,
        checks=tuple(_program(path, each) for each in file.check),
    )


_Argument = Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern=r"(?#an argument without NUL)^[^\0]+\Z")]


class _Validator(Table, frozen=True, kw_only=True):
    name: Text
    key: Path
    kinds: tuple[str, ...] = STATEMENT_KINDS
    peers: Annotated[tuple[Path, ...], msgspec.Meta(max_length=64)] = ()
    bundles: Path = Path("bundles")
    bundle_key: Path | None = None


class _Store(Table, frozen=True, kw_only=True):
    url: Text


class _Journal(Table, frozen=True, kw_only=True):
    keys: Paths


class _Attest(Table, frozen=True, kw_only=True):
    batch: Annotated[int, msgspec.Meta(ge=1, le=MAXIMUM_BATCH)] = 4
    ahead: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 500


class _Renew(Table, frozen=True, kw_only=True):
    margin_minutes: Annotated[int, msgspec.Meta(ge=1, le=1440)] = 30
    at_once: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4


class _CheckTable(Table, frozen=True, kw_only=True):
    kinds: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    command: Annotated[tuple[_Argument, ...], msgspec.Meta(min_length=1, max_length=64)]
    timeout_s: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 60


class _ValidatorFile(Table, frozen=True, kw_only=True):
    validator: _Validator
    store: _Store
    journal: _Journal
    profiles: Path = Path("profiles")
    attest: _Attest = _Attest()
    renew: _Renew = _Renew()
    check: Annotated[tuple[_CheckTable, ...], msgspec.Meta(max_length=64)] = ()


def _check_kinds(path: Path, kinds: tuple[str, ...], known: tuple[str, ...], *, key: str) -> None:
    for each in kinds:
        if each not in known:
            raise ConfigurationError(f"{each!r} is not known; use {', '.join(known)}", source=str(path), key=key)


def _keys(path: Path, names: tuple[Path, ...], *, key: str) -> tuple[bytes, ...]:
    return tuple(read_ed25519(path, each, key=f"{key}[{index}]") for index, each in enumerate(names))


def _program(path: Path, table: _CheckTable) -> CheckProgram:
    """A program that is named with a slash is a file, relative to the file at `path`; others are on the PATH."""
    name, *arguments = table.command
    return CheckProgram(
        kinds=table.kinds,
        command=(str(beside(path, Path(name))) if "/" in name else name, *arguments),
        timeout_s=table.timeout_s,
    )
