"""The lists of weak keys that `signer.toml` names: found, checked and opened at the start.

Owns the files; their formats and the search in them are `core.weak_keys`. A list that is not there is left out, which
is said loudly (`report`); one that is damaged keeps it from starting. A list of text is held in memory, at 10
octets a key; the records of badkeys stay on the disk, where a search reads some twenty of them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import weakref
from collections.abc import Iterable
from pathlib import Path

from cassiopeia.core.weak_keys import (
    BADKEYS_RECORD_OCTETS,
    OPENSSL_DIGEST_OCTETS,
    WeakKeyList,
    check_badkeys_records,
    detect_format,
    parse_badkeys_metadata,
    parse_openssl_blacklist,
)
from cassiopeia.errors import OperatorError, Unavailable

_log = logging.getLogger(__name__)

_BLOCK_OCTETS = 1 << 20
_METADATA = "badkeysdata.json"
_NONE_NAMED = (
    "no list of weak keys is named, so that Debian's weak keys (CVE-2008-0166) are certified; name one as [key_checks]"
    " weak_keys in signer.toml, or write weak_keys = [] there to go without"
)


def load_weak_keys(paths: Iterable[Path]) -> tuple[WeakKeyList, ...]:
    """Open every list that is there; raises OperatorError for one that is damaged or cannot be read."""
    return tuple(_load(path) for path in paths if _is_there(path))


def report(paths: tuple[Path, ...] | None) -> tuple[str, ...]:
    """Log what is known of each list at the start, and return the alarms: what is missing. Raises OperatorError."""
    alarms = _missing(paths)
    for alarm in alarms:
        _log.warning("%s", alarm)
    if paths is not None and not paths:
        _log.warning("keys are compared with no list of weak keys: signer.toml says so ([key_checks] weak_keys)")
    for weak_keys in load_weak_keys(paths or ()):
        _log.info("the list of weak keys %s has %d keys", weak_keys.name, len(weak_keys.records))
    return alarms


def _missing(paths: Iterable[Path] | None) -> tuple[str, ...]:
    """A sentence for each list that is named and not there, or for the lack of any name (None)."""
    if paths is None:
        return (_NONE_NAMED,)
    return tuple(
        f"the list of weak keys {path} is not there, so that the keys on it are certified; fetch it again, and"
        " reload the signer"
        for path in paths
        if not _is_there(path)
    )


def content_of_lists(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Each list by its name, with SHA-256 of its content in hex, or "missing": what the journal keeps of it."""
    return [(path.name, _sha256(path) if _is_there(path) else "missing") for path in paths]


def files_of_lists(paths: Iterable[Path]) -> list[Path]:
    """What belongs to the lists that are there, for a backup."""
    there = [path for path in paths if _is_there(path)]
    beside = [path.with_name(_METADATA) for path in there]
    return [*there, *(path for path in beside if _is_there(path))]


def _load(path: Path) -> WeakKeyList:
    try:
        with path.open("rb") as file:
            if detect_format(file.read(_BLOCK_OCTETS)) == "openssl-blacklist":
                file.seek(0)
                packed = parse_openssl_blacklist(file.read(), source=str(path))
                return WeakKeyList(name=path.name, format="openssl-blacklist", records=_Packed(packed))
        return _load_badkeys(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _load_badkeys(path: Path) -> WeakKeyList:
    records = _OnDisk(path)
    digest, last = hashlib.sha256(), b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_OCTETS):
            digest.update(block)
            last = check_badkeys_records(block, last, source=str(path))
    metadata = path.with_name(_METADATA)
    collections = (
        parse_badkeys_metadata(metadata.read_bytes(), sha256=digest.digest(), source=str(metadata))
        if _is_there(metadata)
        else {}
    )
    return WeakKeyList(name=path.name, format="badkeys", records=records, collections=collections)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a directory above it that this user may not enter
        raise _unreadable(path, error) from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> OperatorError:
    return OperatorError(f"cannot read the list of weak keys {path}: {error.strerror}; let the signer's user read it")


class _Packed:
    """Digests of one length, one behind the other."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def __len__(self) -> int:
        return len(self._octets) // OPENSSL_DIGEST_OCTETS

    def __getitem__(self, index: int) -> bytes:
        start = index * OPENSSL_DIGEST_OCTETS
        return self._octets[start : start + OPENSSL_DIGEST_OCTETS]


class _OnDisk:
    """Records in a file that is not mapped into memory: one that somebody cuts off costs a request, not a worker."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._count = os.fstat(self._descriptor).st_size // BADKEYS_RECORD_OCTETS

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> bytes:
        try:
            octets = os.pread(self._descriptor, BADKEYS_RECORD_OCTETS, index * BADKEYS_RECORD_OCTETS)
        except OSError as error:
            octets, reason = b"", error.strerror
        else:
            reason = "it has been cut off"
        if len(octets) != BADKEYS_RECORD_OCTETS:
            raise Unavailable(
                f"the list of weak keys {self._path} cannot be read ({reason}); put it back, and reload the signer",
                code="weak-keys-unreadable",
                retry_after_s=60,
            )
        return octets
