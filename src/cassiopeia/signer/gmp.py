"""The arithmetic of shared factors by GMP, the GNU library for long numbers, where the machine has it.

Debian's `libgmp10` is there wherever GnuTLS is. It multiplies and divides numbers of a hundred thousand digits ten
times as quickly as Python; nothing else of it is used, and the signer runs without it. No private number is ever given
to it. It ends the process when memory runs out, so it is loaded by the examiner alone, a process of its own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Final

_LIBRARY: Final = "libgmp.so.10"
_LEAST_SIGNIFICANT_FIRST: Final = -1


class _Struct(ctypes.Structure):
    """mpz_t (GMP manual, "Integer Internals")."""

    _fields_ = (("alloc", ctypes.c_int), ("size", ctypes.c_int), ("limbs", ctypes.c_void_p))


_Pointer = ctypes.POINTER(_Struct)
_THREE: Final = [_Pointer] * 3
_IMPORT: Final = [
    _Pointer,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_size_t,
    ctypes.c_char_p,
]
_EXPORT: Final = [
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.c_int,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_size_t,
    _Pointer,
]


class GmpNumber:
    """One mpz_t, cleared when nobody holds it any more."""

    __slots__ = ("_clear", "pointer")

    def __init__(self, init: Callable[[Any], None], clear: Callable[[Any], None]) -> None:
        self._clear = clear
        self.pointer = ctypes.pointer(_Struct())
        init(self.pointer)

    def __del__(self) -> None:
        self._clear(self.pointer)


class GmpArithmetic:
    """GMP's numbers; raises OSError where the library is not there."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_LIBRARY)
        self._init = self._function("init", [_Pointer])
        self._clear = self._function("clear", [_Pointer])
        self._import = self._function("import", _IMPORT)
        self._export = self._function("export", _EXPORT, result=ctypes.c_void_p)
        self._digits = self._function("sizeinbase", [_Pointer, ctypes.c_int], result=ctypes.c_size_t)
        self._multiply = self._function("mul", _THREE)
        self._remainder = self._function("tdiv_r", _THREE)
        self._gcd = self._function("gcd", _THREE)
        self._compare = self._function("cmp_ui", [_Pointer, ctypes.c_ulong], result=ctypes.c_int)

    def number(self, value: int) -> GmpNumber:
        octets = value.to_bytes((value.bit_length() + 7) // 8, "little")
        made = self._new()
        self._import(made.pointer, len(octets), _LEAST_SIGNIFICANT_FIRST, 1, 0, 0, octets)
        return made

    def multiply(self, first: GmpNumber, second: GmpNumber) -> GmpNumber:
        made = self._new()
        self._multiply(made.pointer, first.pointer, second.pointer)
        return made

    def reduce(self, numbers: Sequence[GmpNumber], modulus: GmpNumber) -> GmpNumber:
        rest, left = self.number(1), self._new()
        for number in numbers:
            self._remainder(left.pointer, number.pointer, modulus.pointer)
            self._multiply(rest.pointer, rest.pointer, left.pointer)
            self._remainder(rest.pointer, rest.pointer, modulus.pointer)
        return rest

    def common(self, numbers: Sequence[GmpNumber], modulus: GmpNumber) -> int:
        common = self.reduce(numbers, modulus)
        self._gcd(common.pointer, common.pointer, modulus.pointer)
        return self._value(common) if self._compare(common.pointer, 1) else 1

    def _value(self, number: GmpNumber) -> int:
        octets = ctypes.create_string_buffer(self._digits(number.pointer, 256))
        self._export(octets, None, _LEAST_SIGNIFICANT_FIRST, 1, 0, 0, number.pointer)
        return int.from_bytes(octets.raw, "little")

    def _new(self) -> GmpNumber:
        return GmpNumber(self._init, self._clear)

    def _function(self, name: str, arguments: list[Any], *, result: Any = None) -> Callable[..., Any]:
        function = self._library[f"__gmpz_{name}"]
        function.restype, function.argtypes = result, arguments
        return function
