"""Backups of one side: its configuration and everything that it names, in one tar file with a manifest.

Owns the format: `manifest.json` first, which names every other member with its SHA-256; `tree/...` as the files lie
beside the configuration; `elsewhere/...` for those that lie elsewhere, by their absolute path. SQLite databases are
copied by SQLite's own backup, so that a store may be in use meanwhile; a signer's journal has to stand still. Nothing
is encrypted: what secrets a backup holds is said when it is made. `restore` reads it.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import io
import os
import sqlite3
import stat
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import quote, unquote

import msgspec

from cassiopeia import __version__, files
from cassiopeia.config import (
    CURRENT,
    Bundles,
    SignerConfig,
    load_authorities,
    load_client_config,
    load_signer_config,
)
from cassiopeia.core.key_uri import Pkcs11Uri
from cassiopeia.errors import OperatorError
from cassiopeia.signer.configuration import own_key
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_reader import open_read_only
from cassiopeia.signer.weak_keys import files_of_lists

FORMAT: Final = "cassiopeia backup"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
MAXIMUM_MANIFEST_OCTETS: Final = 16 * 1024 * 1024

_SQLITE: Final = "sqlite:///"
_KEYS: Final = "keys"
_CHUNK: Final = 1024 * 1024


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file: its name in the archive, and what it must be after it was taken out again."""

    name: str
    octets: int
    sha256: str
    mode: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is in a backup. `configuration` is the name of signer.toml or client.toml below `tree`.

    `installed` is the directory below `tree` in which the bundle lies that is in force (empty: none, or elsewhere).
    `directories` have modes, by their name below `tree` ("" for itself); `secrets` and `left_out` are for people.
    """

    format: str
    version: int
    side: str
    configuration: str
    made_at: dt.datetime
    software_version: str
    members: tuple[Member, ...]
    directories: dict[str, int]
    secrets: tuple[str, ...]
    left_out: tuple[str, ...]
    installed: str = ""


@dataclass(kw_only=True)
class _Collection:
    """The files of one side, by their absolute path, and the databases among them."""

    side: str
    configuration: Path
    installed: Path | None = None
    paths: dict[Path, None] = field(default_factory=dict)
    databases: set[Path] = field(default_factory=set)
    secrets: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, base: Path, name: str) -> Path:
        path = Path(os.path.normpath(base.parent / name))
        self.paths[path] = None
        return path

    def add_secret(self, base: Path, name: str, what: str, *, leave_out: bool) -> None:
        if leave_out:
            self.left_out.append(f"{what}: {Path(os.path.normpath(base.parent / name))}")
        else:
            self.add(base, name)
            self.secrets.append(what)


def back_up(config_path: Path, out: Path, *, is_signer: bool, without_keys: bool, now: dt.datetime) -> Manifest:
    """Write the backup of a signer's or a client's side to the new file `out`; raises OperatorError."""
    config_path = config_path.absolute()
    collect = _collect_signer if is_signer else _collect_client
    collection = collect(config_path, without_keys=without_keys)
    with (
        files.new_file(out) as stream,
        tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}.") as scratch,
    ):
        return _write(collection, stream, Path(scratch), now=now)


def _collect_signer(config_path: Path, *, without_keys: bool) -> _Collection:
    config = load_signer_config(config_path)
    collection = _Collection(side="signer", configuration=config_path)
    document = tomllib.loads(config_path.read_text(encoding="utf-8"))
    collection.add(config_path, config_path.name)
    _add_bundles(collection, config.bundles)
    _add_authorities(collection, config.authorities)
    _add_ca_keys(collection, config, without_keys=without_keys)
    _add_keys(collection, config, without_keys=without_keys)
    _add_directory(collection, config.profiles, "*.toml")
    passphrase = config.keys.passphrase
    if passphrase.file is not None:
        collection.add_secret(
            config_path, str(passphrase.file), "the passphrase of the CA keys", leave_out=without_keys
        )
    else:
        collection.left_out.append(f"the passphrase of the CA keys: credential {passphrase.credential}")
    _add_link(collection, document["link"], without_keys=without_keys)
    if config.version_1 is not None:
        _add_link(collection, document["link"]["version_1"], without_keys=without_keys)
    collection.add_secret(config_path, str(config.journal_key), "the key of the journal", leave_out=without_keys)
    for each in document.get("orders", {}).get("operators", []):
        collection.add(config_path, each)
    for each in document.get("validator", []):
        collection.add(config_path, each["key"])
    for each in document.get("ocsp", {}).get("responders", []):
        collection.add(config_path, each)
    for path in files_of_lists(config.weak_keys or ()):
        collection.add(config_path, str(path))
    if (config.state / FILE_NAME).exists():
        collection.databases.add(collection.add(config_path, str(config.state / FILE_NAME)))
        collection.secrets.append("the journal, with the names of subscribers")
    return collection


def _collect_client(config_path: Path, *, without_keys: bool) -> _Collection:
    config = load_client_config(config_path)
    collection = _Collection(side="client", configuration=config_path)
    document = tomllib.loads(config_path.read_text(encoding="utf-8"))
    collection.add(config_path, config_path.name)
    _add_bundles(collection, config.bundles)
    _add_authorities(collection, config.authorities)
    _add_directory(collection, config.profiles, "*.toml")
    _add_link(collection, document["link"], without_keys=without_keys)
    for each in document.get("journal", {}).get("keys", []):
        collection.add(config_path, each)
    if config.publish_directory.is_dir():
        _add_directory(collection, config.publish_directory, "*")
    location = config.store_url.removeprefix(_SQLITE)
    if location != config.store_url:
        path = collection.add(config_path, unquote(location.partition("?")[0]))
        collection.databases.add(path)
        collection.secrets.append("the store, with everything that subscribers sent")
    else:
        collection.left_out.append("the store: it is in PostgreSQL; make a backup of it with pg_dump at the same time")
    return collection


def _add_bundles(collection: _Collection, bundles: Bundles) -> None:
    """The key that signs bundles, and the one that is in force but for its keys; the ones before it count no more."""
    if bundles.key_file is not None and bundles.key_file.exists():
        collection.add(bundles.key_file, bundles.key_file.name)
    if bundles.installed is None:
        return
    for path in sorted(bundles.installed.rglob("*")):
        if path.is_file() and path.parent.name != _KEYS:
            collection.add(path, path.name)
    collection.installed = Path(os.path.normpath(bundles.installed))
    if not collection.installed.is_relative_to(collection.configuration.parent):
        collection.left_out.append(f"the link {bundles.directory / CURRENT}, which names {bundles.installed.name}")


def _add_keys(collection: _Collection, config: SignerConfig, *, without_keys: bool) -> None:
    """Keys that no certificate names yet, and those that are not for CAs."""
    named = {each.authority.name for each in load_authorities(config.authorities)}
    base = config.source
    for path in sorted((base.parent / _KEYS).glob("*.key")):
        if config.bundles.installed is not None or path.stem not in named:
            collection.add_secret(path, path.name, f"the key of {path.stem}", leave_out=without_keys)
    if config.sealing_key.exists():
        collection.add_secret(
            base, str(config.sealing_key), "the key that bundles are sealed to", leave_out=without_keys
        )
    for public in (config.sealing_key.with_suffix(".pem"), config.journal_key.with_suffix(".pem")):
        if public.exists():
            collection.add(public, public.name)


def _add_authorities(collection: _Collection, path: Path) -> None:
    load_authorities(path)
    collection.add(path, path.name)
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    for each in [*document.get("authority", []), *document.get("ca", [])]:
        collection.add(path, each["certificate"])


def _add_ca_keys(collection: _Collection, config: SignerConfig, *, without_keys: bool) -> None:
    """The key of every sub-CA, in force or waiting for its certificate, where `signer.toml` says that it is."""
    written = {each.authority.name: each.key for each in load_authorities(config.authorities)}
    for name in [*written, *(each for each in config.keys.authorities if each not in written)]:
        table = config.keys.authorities.get(name)
        is_named = bool(written.get(name)) or (table is not None and table.key is not None)
        use = config.keys.use(name, written.get(name) or own_key(name), directory=config.authorities.parent)
        if isinstance(use.uri, Pkcs11Uri):
            collection.left_out.append(f"the key of {name}: {use.uri} (make a backup of the token by its own means)")
            kind, _, place = use.uri.pin_source.partition(":")
            _add_pin(collection, kind, place, without_keys=without_keys)
        elif is_named or Path(use.uri.path).exists():  # else it is another signer's, or waits in keys/
            collection.add_secret(config.source, use.uri.path, f"the key of {name}", leave_out=without_keys)
    if (pin := config.keys.pin) is not None:
        kind, place = ("credential", pin.credential) if pin.file is None else ("file", str(pin.file))
        _add_pin(collection, kind, place, without_keys=without_keys)


def _add_pin(collection: _Collection, kind: str, place: str, *, without_keys: bool) -> None:
    if kind == "file":
        collection.add_secret(collection.configuration, place, "the PIN of a token", leave_out=without_keys)
    elif kind:
        collection.left_out.append(f"the PIN of a token: credential {place}")


def _add_link(collection: _Collection, link: dict[str, Any], *, without_keys: bool) -> None:
    base = collection.configuration
    collection.add(base, link["certificate"])
    collection.add_secret(base, link["key"], "a key of the link", leave_out=without_keys)
    for each in link["peers"]:
        collection.add(base, each)


def _add_directory(collection: _Collection, directory: Path, pattern: str) -> None:
    for path in sorted(directory.glob(pattern)):
        if path.is_file():
            collection.add(path, path.name)


def _write(collection: _Collection, stream: BinaryIO, scratch: Path, *, now: dt.datetime) -> Manifest:
    root = collection.configuration.parent
    # 1. Everything is read, or copied where it lives on, before the manifest that comes first can be written.
    taken: list[tuple[Member, Path | bytes]] = []
    directories: dict[str, int] = {"": _mode(root)}
    for number, path in enumerate(collection.paths):
        name = _name(path, root)
        if path in collection.databases:
            copy = scratch / str(number)
            _copy_database(path, copy)
            taken.append((_member(name, copy, _mode(path)), copy))
        else:
            octets = _read(path)
            digest = hashlib.sha256(octets).hexdigest()
            member = Member(name=name, octets=len(octets), sha256=digest, mode=_mode(path))
            taken.append((member, octets))
        if path.is_relative_to(root):
            for parent in path.relative_to(root).parents:
                directories[parent.as_posix().removeprefix(".")] = _mode(root / parent)
    manifest = Manifest(
        format=FORMAT,
        version=VERSION,
        side=collection.side,
        configuration=collection.configuration.name,
        made_at=now,
        software_version=__version__,
        members=tuple(member for member, _ in taken),
        directories=directories,
        secrets=tuple(dict.fromkeys(collection.secrets)),
        left_out=tuple(collection.left_out),
        installed=_installed(collection, root),
    )
    # 2. The archive.
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        octets = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        _append(archive, MANIFEST, io.BytesIO(octets), len(octets), mode=0o600, now=now)
        for member, source in taken:
            with _opened(source) as content:
                _append(archive, member.name, content, member.octets, mode=member.mode, now=now)
    return manifest


def _installed(collection: _Collection, root: Path) -> str:
    path = collection.installed
    return path.relative_to(root).as_posix() if path is not None and path.is_relative_to(root) else ""


def _append(
    archive: tarfile.TarFile, name: str, content: BinaryIO, octets: int, *, mode: int, now: dt.datetime
) -> None:
    header = tarfile.TarInfo(name)
    header.size, header.mode, header.mtime = octets, mode, int(now.timestamp())
    archive.addfile(header, content)


@contextmanager
def _opened(source: Path | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    with source.open("rb") as stream:
        yield stream


def _name(path: Path, root: Path) -> str:
    if path.is_relative_to(root):
        return f"tree/{path.relative_to(root).as_posix()}"
    return f"elsewhere{path.as_posix()}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperatorError(
            f"{path}: the configuration names this file, and it cannot be read: {error.strerror}"
        ) from error


def _mode(path: Path) -> int:
    # Nobody but the owner ever writes what was restored.
    return stat.S_IMODE(path.stat().st_mode) & 0o755


def _member(name: str, path: Path, mode: int) -> Member:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while octets := stream.read(_CHUNK):
            digest.update(octets)
    return Member(name=name, octets=path.stat().st_size, sha256=digest.hexdigest(), mode=mode)


def _copy_database(path: Path, copy: Path) -> None:
    """A consistent copy of an SQLite database that others may be writing to; raises OperatorError."""
    if not path.is_file():
        raise OperatorError(f"{path}: the configuration names this database, and it is not there")
    if path.name == FILE_NAME:
        with open_read_only(path) as source:
            _copy(source, path, copy)
        return
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as source:
        _copy(source, path, copy)


def _copy(source: sqlite3.Connection, path: Path, copy: Path) -> None:
    try:
        # Fails at once where `backup` would wait for ever; and what is read from here on is of one moment.
        source.execute("BEGIN")
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        with closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    except sqlite3.DatabaseError as error:
        raise OperatorError(f"{path}: this database cannot be copied: {error}") from error
