"""Writing files and whole directories that must be there completely, or not at all.

Owns modes, durability and the rule that nothing is overwritten, but by `replace_files`. What is new is built under a
temporary name beside its place and renamed into it when it is complete and on the disk: the rename is what makes it
appear.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from cassiopeia.errors import OperatorError

SECRET: Final = 0o600
PUBLIC: Final = 0o644
SECRET_DIRECTORY: Final = 0o700
# Others may pass through to what they know by name (the web server: the published files), but not look around.
PASSAGE_DIRECTORY: Final = 0o711
PUBLIC_DIRECTORY: Final = 0o755

_NAME_OCTETS: Final = 4  # few: a Unix socket in there has 107 octets for its path


@contextmanager
def new_tree(directory: Path, *, mode: int = PUBLIC_DIRECTORY, what: str = "an authority") -> Iterator[Path]:
    """Give a temporary directory that becomes `directory` at the end; after any error nothing is left of it.

    Raises OperatorError when `directory` is there already and not empty, and when the disk fails; `what` is made there.
    """
    directory = directory.absolute()
    _check_vacant(directory, what)
    # A name of our own, so that there is no moment at which the directory is there and we would not remove it.
    building = directory.with_name(f".{directory.name}.{secrets.token_hex(_NAME_OCTETS)}")
    try:
        _make_secret_directory(building)
        yield building
        for path in [building, *building.rglob("*")]:
            if path.is_dir():
                sync_directory(path)
        building.chmod(mode)
        # rename(2) replaces an empty directory and nothing else.
        building.rename(directory)
        sync_directory(directory.parent)
    except OSError as error:
        raise OperatorError(
            f"{directory}: {error.strerror or error}: nothing was made; mend that and run the same command again"
        ) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextmanager
def new_file(path: Path, *, mode: int = SECRET) -> Iterator[BinaryIO]:
    """Give a stream whose octets become the new file `path` at the end; after any error nothing is left of it.

    Raises OperatorError when there is a file of this name already, and when the disk fails.
    """
    path = path.absolute()
    if path.exists() or path.is_symlink():
        raise OperatorError(f"{path}: is there already, and nothing is overwritten: choose another name")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise OperatorError(f"{path.parent}: cannot make a file here: {error.strerror}") from error
    building = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        # link(2), unlike rename(2), replaces nothing that came in the meantime.
        os.link(building, path)
        sync_directory(path.parent)
    except OSError as error:
        raise OperatorError(
            f"{path}: {error.strerror or error}: nothing was written; mend that and try again"
        ) from error
    finally:
        building.unlink(missing_ok=True)


def _make_secret_directory(path: Path) -> None:
    try:
        path.mkdir(mode=SECRET_DIRECTORY)
    except OSError as error:
        raise OperatorError(
            f"{path.parent}: cannot make a directory here: {error.strerror}; make it first, or choose another"
        ) from error


def make_directory(path: Path, *, mode: int = SECRET_DIRECTORY) -> Path:
    path.mkdir()
    path.chmod(mode)  # whatever the umask
    return path


def write_file(path: Path, content: bytes | str, *, mode: int = SECRET) -> None:
    """Write a new file and wait for the disk; raises FileExistsError rather than overwrite."""
    octets = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET)
    with os.fdopen(descriptor, "wb") as file:
        file.write(octets)
        file.flush()
        os.fchmod(descriptor, mode)  # whatever the umask
        os.fsync(descriptor)


def replace_files(contents: Mapping[Path, bytes], *, mode: int = PUBLIC) -> None:
    """Write files in the place of those of their names: all are on the disk before the first takes its place.

    A reader sees the old file or the new one. Raises OperatorError, and then none was replaced, unless the disk failed
    between two renames.
    """
    buildings: dict[Path, Path] = {}
    try:
        for path, octets in contents.items():
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            buildings[path] = Path(name)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(octets)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
        for path, building in buildings.items():
            building.replace(path)
        for directory in {path.parent for path in contents}:
            sync_directory(directory)
    except OSError as error:
        raise OperatorError(
            f"{error.filename or next(iter(contents))}: cannot be written: {error.strerror or error}; mend that and "
            "run the same command again"
        ) from error
    finally:
        for building in buildings.values():
            building.unlink(missing_ok=True)


def _check_vacant(directory: Path, what: str) -> None:
    try:
        occupied = directory.is_symlink() or (
            directory.exists() and (not directory.is_dir() or any(directory.iterdir()))
        )
    except OSError as error:
        raise OperatorError(f"{directory}: cannot look into it: {error.strerror}") from error
    if occupied:
        raise OperatorError(f"{directory}: is there already, and {what} is never overwritten: choose another directory")


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
