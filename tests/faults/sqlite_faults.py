"""Faults in what SQLite writes, for the real `sqlite3` of this Python: watched, failed, torn, or the last thing done.

SQLite reaches the disk through a table of functions, the VFS (https://www.sqlite.org/vfs.html), and each open file has
a table of its own. ctypes finds the library that `_sqlite3` is linked with, puts our `xOpen` and `xDelete` in front of
those of the default VFS, and gives each file that is opened from then on our `xWrite`, `xTruncate` and `xSync`. Each
asks the observer first and then does what the original does, or less. A failed fsync cannot be had in another way
without a special disk: `xSetSystemCall` has no name for it.

Once a process has this, it has it until it ends; without an observer everything goes straight through. What SQLite
maps into memory (the index of a write-ahead log that several processes share) is not written through these functions.
"""

from __future__ import annotations

import _sqlite3
import atexit
import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

Kind = Literal["write", "truncate", "sync", "delete"]

OK: Final = 0
FULL: Final = 13
IOERR_FSYNC: Final = 10 | 4 << 8
IOERR_WRITE: Final = 10 | 3 << 8

_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
_OPEN = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER)
_DELETE = ctypes.CFUNCTYPE(_INT, _POINTER, ctypes.c_char_p, _INT)
_CLOSE = ctypes.CFUNCTYPE(_INT, _POINTER)
_WRITE = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _LONG)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _POINTER, _LONG)
_SYNC = ctypes.CFUNCTYPE(_INT, _POINTER, _INT)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One thing that SQLite is about to do to a file; for `truncate`, `offset` is the size that it shall have."""

    kind: Kind
    path: str
    offset: int = 0
    octets: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What becomes of it: `first` octets of a write are done (None: everything), then SQLite hears `code`.

    With a code, nothing is done beyond those octets. `die` ends the process with SIGKILL after that.
    """

    code: int = OK
    first: int | None = None
    die: bool = False


DO_IT: Final = Verdict()
DIE_BEFORE: Final = Verdict(first=0, die=True)
DIE_AFTER: Final = Verdict(die=True)
Observer = Callable[[Operation], Verdict]


class _Vfs(ctypes.Structure):
    """The beginning of `sqlite3_vfs`."""

    _fields_ = (
        ("version", _INT),
        ("file_octets", _INT),
        ("longest_path", _INT),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("data", _POINTER),
        ("open", _OPEN),
        ("delete", _DELETE),
    )


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`, of version 3: those that nobody here calls stay what they are."""

    _fields_ = (
        ("version", _INT),
        ("close", _CLOSE),
        ("read", _POINTER),
        ("write", _WRITE),
        ("truncate", _TRUNCATE),
        ("sync", _SYNC),
        ("others", _POINTER * 13),
    )


class _File(ctypes.Structure):
    """The beginning of `sqlite3_file`."""

    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


class _Hook:
    """The functions in front of SQLite's, and what they stand in front of."""

    def __init__(self) -> None:
        # A Python whose SQLite is linked in statically exports its symbols itself.
        library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        self.observer: Observer | None = None
        self._vfs: Any = library.sqlite3_vfs_find(None).contents
        self._paths: dict[int, str] = {}
        self._originals: dict[int, Any] = {}
        self._ours: dict[int, _Methods] = {}
        # Copies of the addresses: the fields themselves will point to our functions.
        self._open = _copy(_OPEN, self._vfs.open)
        self._delete = _copy(_DELETE, self._vfs.delete)
        self._callbacks = (
            _OPEN(self._on_open),
            _DELETE(self._on_delete),
            _CLOSE(self._on_close),
            _WRITE(self._on_write),
            _TRUNCATE(self._on_truncate),
            _SYNC(self._on_sync),
        )
        self._vfs.open, self._vfs.delete = self._callbacks[:2]
        atexit.register(self._step_aside)

    def _step_aside(self) -> None:
        """Give SQLite its own functions back: it closes files that were left open when there are no callbacks more."""
        self._vfs.open, self._vfs.delete = self._open, self._delete
        for file, original in self._originals.items():
            _File.from_address(file).methods = ctypes.pointer(original)

    def _on_open(self, vfs: int, name: int | None, file: int, flags: int, flags_out: int | None) -> int:
        code: int = self._open(vfs, name, file, flags, flags_out)
        opened = _File.from_address(file)
        if code == OK and name is not None and opened.methods:
            original = ctypes.addressof(opened.methods.contents)
            self._paths[file] = os.fsdecode(ctypes.string_at(name))
            self._originals[file] = opened.methods.contents
            if original not in self._ours:
                ours = _Methods.from_buffer_copy(opened.methods.contents)
                ours.close, ours.write, ours.truncate, ours.sync = self._callbacks[2:]
                self._ours[original] = ours
            opened.methods = ctypes.pointer(self._ours[original])
        return code

    def _on_close(self, file: int) -> int:
        original = self._originals.pop(file)
        del self._paths[file]
        _File.from_address(file).methods = ctypes.pointer(original)
        code: int = original.close(file)
        return code

    def _on_delete(self, vfs: int, path: bytes, sync_directory: int) -> int:
        name = os.fsdecode(path)
        return self._do(
            Operation(kind="delete", path=name) if os.path.exists(name) else None,  # noqa: PTH110 - a path of SQLite's
            lambda _: self._delete(vfs, path, sync_directory),
        )

    def _on_write(self, file: int, data: int, amount: int, offset: int) -> int:
        octets = ctypes.string_at(data, amount)
        return self._do(
            Operation(kind="write", path=self._paths[file], offset=offset, octets=octets),
            lambda first: self._originals[file].write(file, data, min(first, amount), offset),
        )

    def _on_truncate(self, file: int, size: int) -> int:
        return self._do(
            Operation(kind="truncate", path=self._paths[file], offset=size),
            lambda _: self._originals[file].truncate(file, size),
        )

    def _on_sync(self, file: int, flags: int) -> int:
        return self._do(
            Operation(kind="sync", path=self._paths[file]), lambda _: self._originals[file].sync(file, flags)
        )

    def _do(self, operation: Operation | None, original: Callable[[int], int]) -> int:
        """Carry out the observer's verdict. Nothing may be raised from here: SQLite would take it for success."""
        verdict = DO_IT
        if self.observer is not None and operation is not None:
            try:
                verdict = self.observer(operation)
            except BaseException:  # noqa: BLE001 - whatever it was, the test must see it
                _kill_self()
        code = OK
        if verdict.first is None and verdict.code == OK:
            code = original(len(operation.octets) if operation else 0)
        elif verdict.first:
            code = original(verdict.first)
        if verdict.die:
            _kill_self()
        return verdict.code or code


_hooks: list[_Hook] = []


def observe(observer: Observer | None) -> None:
    """From now on, ask `observer` before each operation on files that are opened from now on; None asks nobody."""
    if not _hooks:
        _hooks.append(_Hook())
    _hooks[0].observer = observer


def _copy(kind: Any, function: Any) -> Any:
    return kind(ctypes.cast(function, _POINTER).value)


def _kill_self() -> NoReturn:
    with suppress(BaseException):
        os.kill(os.getpid(), signal.SIGKILL)
    os.abort()
