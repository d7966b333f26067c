"""A program of its own that signs and verifies for a long time, and says how much memory stayed in use for it.

Arguments: directory (a `CaKeys` is made in it), backend, kind of key, how many signatures. Answers one line of JSON:
how many octets more are in use after the signatures; after `VERIFICATIONS` of a good one, and of a bad one; after the
key was opened `OPENINGS` times; and how much the process has grown through all this.
glibc counts what malloc has handed out to the octet, so that a leak of any size shows, whatever the size of pages.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

from tests.support.ca_keys import CaKey as KeyKind
from tests.support.crypto_backends import VERIFIES, CaKeys

from cassiopeia.errors import SignatureInvalid
from cassiopeia.signer.keystore.backends import load_backend

OCTETS = b"to be signed"
# The first ones fill caches, tables of the random generator and free lists.
WARM_UP = 500
VERIFICATIONS = 1_000
OPENINGS = 100


class _MallInfo(ctypes.Structure):
    """struct mallinfo2 of <malloc.h>."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks"),
            "keepcost",
        )
    ]


_mallinfo2 = ctypes.CDLL(None).mallinfo2
_mallinfo2.restype = _MallInfo


def in_use() -> int:
    """Octets that malloc has handed out."""
    gc.collect()
    found = _mallinfo2()
    return int(found.uordblks) + int(found.hblkhd)


def resident() -> int:
    """Octets of memory that this process has (VmRSS)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def growth(action: Callable[[], object], times: int, *, warm_up: int = WARM_UP) -> int:
    for _ in range(warm_up):
        action()
    before = in_use()
    for _ in range(times):
        action()
    return in_use() - before


def main() -> None:
    directory, backend, kind, times = sys.argv[1:]
    keys = CaKeys(Path(directory))
    key = keys.open(backend, cast("KeyKind", kind))
    algorithm = key.algorithms[0]
    signature = key.sign(algorithm, OCTETS)
    spoilt = signature[:-9] + bytes([signature[-9] ^ 1]) + signature[-8:]
    library = load_backend(backend if VERIFIES[backend] else "openssl")
    store, uri = keys.store(backend), keys.put(backend, cast("KeyKind", kind))

    def verify() -> None:
        library.verify(key.public_key_info, algorithm, signature, OCTETS)

    def refuse() -> None:
        with contextlib.suppress(SignatureInvalid):
            library.verify(key.public_key_info, algorithm, spoilt, OCTETS)

    verify()
    before = resident()
    answer = {
        "signing": growth(lambda: key.sign(algorithm, OCTETS), int(times)),
        "verifying": growth(verify, VERIFICATIONS),
        "refusing": growth(refuse, VERIFICATIONS),
        "opening": growth(lambda: store.open(uri), OPENINGS, warm_up=20),
    }
    answer["resident"] = resident() - before
    keys.close()
    print(json.dumps(answer))  # noqa: T201 - this is its answer


if __name__ == "__main__":
    main()
