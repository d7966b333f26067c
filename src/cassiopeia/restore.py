"""Taking a backup out again: everything is compared with the manifest before any of it counts.

Only plain files are made, only below the new directory, and only those that the manifest names; a damaged or forged
archive leaves nothing. What lay elsewhere when the backup was made is put below `elsewhere`, for people to move.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

import msgspec

from cassiopeia import files
from cassiopeia.backup import FORMAT, MANIFEST, MAXIMUM_MANIFEST_OCTETS, VERSION, Manifest, Member
from cassiopeia.config import CURRENT, load_client_config, load_signer_config
from cassiopeia.core.decoding import explain
from cassiopeia.errors import OperatorError

_CHUNK: Final = 1024 * 1024
_INSTALLATION: Final = re.compile(r"[0-9]{4}")
_TREE: Final = "tree"
_ELSEWHERE: Final = "elsewhere"


def restore(file: Path, directory: Path) -> Manifest:
    """Make `directory`, which must be new or empty, what was backed up; raises OperatorError, and nothing is left."""
    try:
        with tarfile.open(file, mode="r:") as archive:
            manifest = _read_manifest(archive)
            with files.new_tree(directory, mode=_mode(manifest, "")) as building:
                _extract(archive, manifest, building)
                _put_in_force(manifest, building)
                _prove(manifest, building)
    except tarfile.TarError as error:
        raise OperatorError(f"{file}: this is not a backup, or it is damaged: {error}") from error
    except _Damaged as error:
        raise OperatorError(f"{file}: {error}; take another backup") from error
    return manifest


class _Damaged(OperatorError):
    """Something in the archive is not as it was written."""


def _read_manifest(archive: tarfile.TarFile) -> Manifest:
    first = archive.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > MAXIMUM_MANIFEST_OCTETS:
        raise _Damaged("this is not a backup: it does not begin with a manifest")
    try:
        manifest = msgspec.json.decode(_content(archive, first).read(), type=Manifest)
    except (msgspec.DecodeError, ValueError) as error:
        reason, key = explain(str(error))
        raise _Damaged(f"its manifest cannot be read: {key}: {reason}" if key else f"its manifest: {reason}") from error
    if (manifest.format, manifest.version) != (FORMAT, VERSION):
        raise OperatorError(
            f"this is {manifest.format[:40]!a}, version {manifest.version}; known here: {FORMAT!r}, version {VERSION}"
        )
    return manifest


def _extract(archive: tarfile.TarFile, manifest: Manifest, building: Path) -> None:
    expected = {each.name: each for each in manifest.members}
    while (header := archive.next()) is not None:
        member = expected.pop(header.name, None)
        if member is None:
            raise _Damaged(f"it has {header.name[:80]!a}, which its manifest does not name, or twice")
        if not header.isreg() or header.size != member.octets:
            raise _Damaged(f"{header.name[:80]!a} is not the file that was backed up")
        _write(_content(archive, header), member, _place(member.name, manifest, building))
    if expected:
        raise _Damaged(f"{min(expected)[:80]!a} is missing")


def _content(archive: tarfile.TarFile, header: tarfile.TarInfo) -> BinaryIO:
    content = archive.extractfile(header)
    assert content is not None  # noqa: S101 - it is a plain file
    return content  # type: ignore[return-value] # typeshed: IO[bytes]


def _place(name: str, manifest: Manifest, building: Path) -> Path:
    """Where this member goes, its directory made; raises for a name that leads anywhere else."""
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or parts[0] not in {_TREE, _ELSEWHERE} or ".." in parts or "\0" in name:  # noqa: PLR2004 - and a file
        raise _Damaged(f"{name[:80]!a} is not a name that a backup has")
    below = parts[1:] if parts[0] == _TREE else parts
    directory = building
    for depth, each in enumerate(below[:-1], start=1):
        directory = directory / each
        if not directory.is_dir():
            files.make_directory(directory, mode=_mode(manifest, "/".join(below[:depth])))
    return directory / below[-1]


def _mode(manifest: Manifest, directory: str) -> int:
    """The owner's in any case, and nobody else's to write."""
    known = manifest.directories.get(directory, files.SECRET_DIRECTORY)
    return known & files.PUBLIC_DIRECTORY | files.SECRET_DIRECTORY


def _write(content: BinaryIO, member: Member, path: Path) -> None:
    digest = hashlib.sha256()
    with files.new_file(path, mode=member.mode & files.PUBLIC_DIRECTORY) as stream:
        while octets := content.read(_CHUNK):
            digest.update(octets)
            stream.write(octets)
        if digest.hexdigest() != member.sha256:
            raise _Damaged(f"{member.name[:80]!a} is not as it was backed up")


def _put_in_force(manifest: Manifest, building: Path) -> None:
    """Make the link that names the installed bundle."""
    if not manifest.installed:
        return
    parts = PurePosixPath(manifest.installed).parts
    directory = building.joinpath(*parts)
    if ".." in parts or not _INSTALLATION.fullmatch(parts[-1]) or not directory.is_dir():
        raise _Damaged(f"its manifest names {manifest.installed[:80]!a} as the installed bundle, which is none")
    (directory.parent / CURRENT).symlink_to(directory.name)


def _prove(manifest: Manifest, building: Path) -> None:
    """The configuration can be read where it lies now."""
    parts = PurePosixPath(manifest.configuration).parts
    if len(parts) != 1:
        raise _Damaged("its manifest names no configuration")
    load = load_signer_config if manifest.side == "signer" else load_client_config
    load(building / parts[0])
