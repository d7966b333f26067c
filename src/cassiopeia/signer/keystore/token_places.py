"""Places at a token: so many processes at once may have a session with it. Locks on files, which end with a process.

Two generations of workers run at the same time for a while when a configuration is taken over; no process can count the
sessions of the others, but a file lock does. Login is made one at a time by the same means.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.files import SECRET, SECRET_DIRECTORY

BUSY: Final = "token-busy"
"""The code for a token whose places all are taken: that says nothing against its key."""

_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.005
_RETRY_AFTER_S: Final = 5


def token_busy(message: str) -> Unavailable:
    """For a token that other processes of this signer use: it will be free again."""
    return Unavailable(message, code=BUSY, retry_after_s=_RETRY_AFTER_S)


class Place:
    """A lock that is held until `leave`, or until this process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def leave(self) -> None:
        os.close(self._descriptor)


def take_place(directory: Path, identity: str, number: int) -> Place:
    """One of so many places at this token, waiting for it; raises `Unavailable`."""
    until = time.monotonic() + _PATIENCE_S
    message = f"all {number} sessions that this signer may have with the token are in use"
    # Who has left a place wants it back within microseconds, and would have it before anybody who looks now and then.
    first_in_line = _take([directory / f"{identity}.queue"], until, message)
    try:
        return _take([directory / f"{identity}.session-{index}" for index in range(number)], until, message)
    finally:
        first_in_line.leave()


@contextmanager
def one_at_a_time(directory: Path, identity: str) -> Iterator[None]:
    """Keep every other process of this signer out of the block; raises `Unavailable`."""
    until = time.monotonic() + _PATIENCE_S
    place = _take([directory / f"{identity}.login"], until, "another process of this signer is logging in to the token")
    try:
        yield
    finally:
        place.leave()


def token_directory(state: Path) -> Path:
    """Where this signer remembers what concerns tokens; raises OperatorError."""
    directory = state / "tokens"
    try:
        _check_owner(directory)
        for each in (state, directory):
            each.mkdir(mode=SECRET_DIRECTORY, parents=True, exist_ok=True)
    except OSError as error:
        raise OperatorError(
            f"{directory}: cannot make this directory: {error.strerror}: the signer's user has to be able to, for what "
            "tokens refused is remembered there"
        ) from error
    return directory


def _check_owner(directory: Path) -> None:
    """What root wrote here, the signer could not open: it would not start again."""
    there = next(each for each in (directory, *directory.parents) if each.exists())
    owner = there.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise OperatorError(
            f"{there}: belongs to the user {name}, who has to run this, and root must not: sudo -u '{name}' ..."
        )


def _take(paths: list[Path], until: float, message: str) -> Place:
    while True:
        for path in paths:
            descriptor = _open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
            else:
                return Place(descriptor)
        if time.monotonic() > until:
            raise token_busy(message)
        time.sleep(_PAUSE_S)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, SECRET)
    except OSError as error:
        raise OperatorError(
            f"{path}: cannot open this file: {error.strerror}: it has to belong to the signer's user (chown), and its "
            "disk needs room; without it no token is used"
        ) from error
