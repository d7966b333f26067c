"""Many threads at one key, and many signatures: none is wrong, and none leaves anything behind."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key
from tests.support.ca_keys import CaKey as KeyKind
from tests.support.crypto_backends import BACKENDS, VERIFIES, CaKeys
from tests.support.signing_memory import OPENINGS, VERIFICATIONS, growth

from cassiopeia.core import algorithms, der
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.errors import SignatureInvalid
from cassiopeia.signer.keystore.backends import load_backend

THREADS = 16
KINDS: tuple[KeyKind, ...] = ("RSA-2048", "P-256", "Ed25519")
# Less than the smallest piece of memory that malloc hands out, for each signature or verification.
LEAK_OCTETS = 8
# Less than any library needs for a key that is open; what they keep for the next key is none of these.
OPEN_KEY_OCTETS = 400
Signed = tuple[SignatureAlgorithm, bytes, bytes]


def in_threads(action: Callable[[int], list[Signed]]) -> list[Signed]:
    """What all threads together give; they begin at once."""
    barrier = threading.Barrier(THREADS)

    def begin(number: int) -> list[Signed]:
        barrier.wait(timeout=60)
        return action(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return [each for found in pool.map(begin, range(THREADS)) for each in found]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_one_key(ca_keys: CaKeys, backend: str, kind: KeyKind) -> None:
    """1,008 signatures by 16 threads, with every algorithm that the key has, each over octets of its own."""
    key = ca_keys.open(backend, kind)

    def sign(thread: int) -> list[Signed]:
        signed = []
        for number in range(63):
            algorithm = key.algorithms[(thread + number) % len(key.algorithms)]
            octets = f"{thread} {number} ".encode() * (1 + number)
            signed.append((algorithm, octets, key.sign(algorithm, octets)))
        return signed

    made = in_threads(sign)
    assert len(made) == 1008
    public_key = load_der_public_key(key.public_key_info)
    for algorithm, octets, signature in made:
        algorithms.verify(public_key, algorithm, signature, octets)
    if kind == "P-256":
        # Two signatures with the same r would give the key away.
        assert len({first_number(signature) for _, _, signature in made}) == len(made)


def first_number(signature: bytes) -> bytes:
    """r of an ECDSA signature."""
    return der.elements(der.content(signature, der.SEQUENCE), at_most=2)[0][1]


@pytest.mark.parametrize("backend", [each for each in BACKENDS if VERIFIES[each]])
@pytest.mark.parametrize("kind", KINDS)
def test_threads_verify_at_once(ca_keys: CaKeys, backend: str, kind: KeyKind) -> None:
    key = ca_keys.open("openssl", kind)
    algorithm = key.algorithms[0]
    library = load_backend(backend)

    def verify(thread: int) -> list[Signed]:
        octets = f"from {thread}".encode()
        good = key.sign(algorithm, octets)
        bad = good[:-1] + bytes([good[-1] ^ 1])
        refused = []
        for _ in range(40):
            library.verify(key.public_key_info, algorithm, good, octets)
            with pytest.raises(SignatureInvalid):
                library.verify(key.public_key_info, algorithm, bad, octets)
            refused.append((algorithm, octets, bad))
        return refused

    assert len(in_threads(verify)) == THREADS * 40


@pytest.mark.parametrize("backend", BACKENDS)
def test_threads_open_and_use_keys_of_every_kind_at_once(ca_keys: CaKeys, backend: str) -> None:
    """As a worker does that takes tasks of several sub-CAs."""
    uris = {kind: ca_keys.put(backend, kind) for kind in KINDS}
    store = ca_keys.store(backend)

    def sign(thread: int) -> list[Signed]:
        kind = KINDS[thread % len(KINDS)]
        key = store.open(uris[kind])
        algorithm = key.algorithms[0]
        signature = key.sign(algorithm, kind.encode())
        public_key = load_der_public_key(ca_keys.open("openssl", kind).public_key_info)
        algorithms.verify(public_key, algorithm, signature, kind.encode())
        return [(algorithm, kind.encode(), signature)]

    assert len(in_threads(sign)) == THREADS


@pytest.mark.parametrize(("kind", "times"), [("Ed25519", 10_000), ("P-256", 10_000), ("RSA-2048", 1_000)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_stays_as_it_is(tmp_path: Path, backend: str, kind: str, times: int) -> None:
    """In a process of its own, so that nothing else comes and goes."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.signing_memory", tmp_path, backend, kind, str(times)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=Path(__file__).parents[4],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["signing"] < LEAK_OCTETS * times
    assert found["verifying"] < LEAK_OCTETS * VERIFICATIONS
    assert found["refusing"] < LEAK_OCTETS * VERIFICATIONS
    assert found["opening"] < OPEN_KEY_OCTETS * OPENINGS
    assert found["resident"] < 1_000_000


def test_a_leak_would_be_seen() -> None:
    malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
    malloc.restype, malloc.argtypes, free.argtypes = ctypes.c_void_p, (ctypes.c_size_t,), (ctypes.c_void_p,)
    taken: list[int] = []
    try:
        assert growth(lambda: taken.append(malloc(1)), 1_000) >= 2 * LEAK_OCTETS * 1_000
    finally:
        for each in taken:
            free(each)
