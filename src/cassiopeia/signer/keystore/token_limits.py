"""How many sessions a token allows, as it says itself (CK_TOKEN_INFO.ulMaxSessionCount, PKCS#11 2.40, 3.3).

python-pkcs11 does not show that field, and so the library is asked for it a second time, by ctypes: through the same
loaded library, which python-pkcs11 has started. A library that gives every caller an instance of its own (the proxy of
p11-kit) answers that it is not started; it then says nothing about its limit.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pkcs11

_OK: Final = 0
# PKCS#11 2.40, 3.3: CK_EFFECTIVELY_INFINITE and CK_UNAVAILABLE_INFORMATION.
_NO_LIMIT: Final = (0, ctypes.c_ulong(-1).value)
# C_Initialize, C_Finalize, C_GetInfo, C_GetFunctionList, C_GetSlotList and C_GetSlotInfo stand before it (section 5.1).
_GET_TOKEN_INFO: Final = 6


class _TokenInfo(ctypes.Structure):
    _fields_ = (
        ("label", ctypes.c_char * 32),
        ("manufacturerID", ctypes.c_char * 32),
        ("model", ctypes.c_char * 16),
        ("serialNumber", ctypes.c_char * 16),
        ("flags", ctypes.c_ulong),
        ("ulMaxSessionCount", ctypes.c_ulong),
        # What follows is not read, but written.
        ("rest", ctypes.c_ulong * 9),
        ("versions", ctypes.c_ubyte * 4),
        ("utcTime", ctypes.c_char * 16),
    )


class _FunctionList(ctypes.Structure):
    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * (_GET_TOKEN_INFO + 1)))


_GetTokenInfo = ctypes.CFUNCTYPE(ctypes.c_ulong, ctypes.c_ulong, ctypes.POINTER(_TokenInfo))


def session_limit(library: str, token: pkcs11.Token) -> int:
    """How many sessions all processes together may have with this token; 0 where it does not say."""
    get_token_info = _get_token_info(library)
    info = _TokenInfo()
    if get_token_info is None or get_token_info(token.slot.slot_id, ctypes.byref(info)) != _OK:
        return 0
    return 0 if info.ulMaxSessionCount in _NO_LIMIT else int(info.ulMaxSessionCount)


@functools.cache
def _get_token_info(library: str) -> Callable[..., int] | None:
    functions = ctypes.POINTER(_FunctionList)()
    try:
        get_function_list = ctypes.CDLL(library).C_GetFunctionList
    except (OSError, AttributeError):
        return None
    get_function_list.restype = ctypes.c_ulong
    if get_function_list(ctypes.byref(functions)) != _OK or not functions:
        return None
    return _GetTokenInfo(functions.contents.functions[_GET_TOKEN_INFO])
