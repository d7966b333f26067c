"""What each check of a subscriber's key costs the signer, beside verifying the request's own signature."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from cassiopeia.core import moduli, points
from cassiopeia.core.keycheck import check_strength
from cassiopeia.core.weak_keys import WeakKeyList, check_not_published
from cassiopeia.signer.weak_keys import load_weak_keys

RSA_SIZES = (2048, 3072, 4096)
SMALL_FACTOR_BOUNDS = (752, 4_096, 10_000, 16_384, 32_768, 65_536)
# As long as the published lists: Debian's for RSA 2048, and all of badkeys.
LIST_SIZES = {"openssl-blacklist": 200_000, "badkeys": 4_000_000}
_REPETITIONS = 5


def main(*, quick: bool) -> None:
    rounds = 20 if quick else 200
    scale = 100 if quick else 1
    _moduli(rounds)
    _bounds(rounds)
    _points(rounds)
    _lists(rounds, scale)


def _moduli(rounds: int) -> None:
    print(f"\nChecks of an RSA key: microseconds for a sound key (best of {_REPETITIONS})")
    keys = {bits: rsa.generate_private_key(65537, bits) for bits in RSA_SIZES}
    print(f"  {'':34}" + "".join(f"{f'RSA-{bits}':>10}" for bits in RSA_SIZES))
    checks: dict[str, Callable[[int], None]] = {
        "ROCA": moduli._check_roca,  # noqa: SLF001 - each check alone is what is measured
        f"close primes, {moduli.FERMAT_ROUNDS} rounds": moduli._check_close_primes,  # noqa: SLF001 - as above
        f"factors up to {moduli.SMALL_FACTOR_BOUND:,}": moduli._check_small_factors,  # noqa: SLF001 - as above
        "all of them": moduli.check_modulus,
    }
    for name, check in checks.items():
        costs = [_cost(functools.partial(check, key.public_key().public_numbers().n), rounds) for key in keys.values()]
        print(f"  {name:34}" + "".join(f"{cost:10.1f}" for cost in costs))
    costs = []
    for key in keys.values():
        signature = key.sign(b"octets", padding.PKCS1v15(), hashes.SHA256())
        verify = functools.partial(key.public_key().verify, signature, b"octets", padding.PKCS1v15(), hashes.SHA256())
        costs.append(_cost(verify, rounds))
    print(f"  {'verify a signature with it':34}" + "".join(f"{cost:10.1f}" for cost in costs), flush=True)


def _bounds(rounds: int) -> None:
    """The cost of dividing by more primes, and what it finds: an odd number at random, as after damage."""
    print("\nSmall factors, RSA-2048: what other bounds would cost, and how many damaged moduli they would let pass")
    modulus = rsa.generate_private_key(65537, 2048).public_key().public_numbers().n
    for bound in SMALL_FACTOR_BOUNDS:
        primes = moduli.primes(3, bound)
        cost = _cost(functools.partial(math.gcd, modulus, math.prod(primes)), rounds)
        passing = math.prod(1 - 1 / prime for prime in primes)
        print(f"  up to {bound:6,} {cost:9.1f} µs {passing:9.1%} pass", flush=True)


def _points(rounds: int) -> None:
    print(f"\nChecks of a point: multiples of the generator up to 2^{points.HIGHEST_MULTIPLIER.bit_length() - 1}")
    print(f"  {'':10}{'µs a key':>10}{'ms for the table':>18}{'µs to verify':>14}")
    for name, curve in {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}.items():
        key = ec.generate_private_key(curve)
        signature = key.sign(b"octets", ec.ECDSA(hashes.SHA256()))
        verify = functools.partial(key.public_key().verify, signature, b"octets", ec.ECDSA(hashes.SHA256()))
        _point(name, functools.partial(check_strength, key.public_key()), verify, rounds)
    edwards = ed25519.Ed25519PrivateKey.generate()
    verify_edwards = functools.partial(edwards.public_key().verify, edwards.sign(b"octets"), b"octets")
    _point("Ed25519", functools.partial(check_strength, edwards.public_key()), verify_edwards, rounds)


def _point(name: str, check: Callable[[], object], verify: Callable[[], object], rounds: int) -> None:
    points._steps.cache_clear()  # noqa: SLF001 - what the first key of a curve costs
    started = time.perf_counter()
    points._steps(name)  # noqa: SLF001 - as above
    table = (time.perf_counter() - started) * 1000
    print(f"  {name:10}{_cost(check, rounds):10.1f}{table:18.1f}{_cost(verify, rounds):14.1f}", flush=True)


def _lists(rounds: int, scale: int) -> None:
    print("\nLists of published keys: to open one (each worker, at the start), and to look a key up (RSA-2048)")
    key = rsa.generate_private_key(65537, 2048).public_key()
    with tempfile.TemporaryDirectory() as directory:
        for kind, size in LIST_SIZES.items():
            path = Path(directory) / kind
            count = size // scale
            if kind == "badkeys":
                path.write_bytes(b"".join(sorted(os.urandom(16) for _ in range(count))))
            else:
                digests = sorted(hashlib.sha256(each.to_bytes(4, "big")).hexdigest()[:20] for each in range(count))
                path.write_text("# a list\n" + "\n".join(digests) + "\n")
            started = time.perf_counter()
            lists = load_weak_keys([path])
            opened = time.perf_counter() - started
            cost = _cost(functools.partial(_look_up, key, lists), rounds)
            print(f"  {kind:20}{count:10,} keys {opened * 1000:9.1f} ms {cost:9.1f} µs a key", flush=True)


def _look_up(key: rsa.RSAPublicKey, lists: tuple[WeakKeyList, ...]) -> None:
    check_not_published(key, lists)


def _cost(work: Callable[[], object], rounds: int) -> float:
    """Microseconds of one call, in the quickest of a few runs: without what else the machine does."""
    best = math.inf
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        for _ in itertools.repeat(None, rounds):
            work()
        best = min(best, time.perf_counter() - started)
    return best / rounds * 1e6
