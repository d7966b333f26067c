"""What this machine can do without us: raw signing rates of the library on all cores, and one signature's cost."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

SECONDS = 2.0
_TBS = os.urandom(1000)


def signer(algorithm: str) -> Callable[[bytes], bytes]:
    """A fresh key of this kind, as a function that signs."""
    if algorithm.startswith("RSA-"):
        key = rsa.generate_private_key(public_exponent=65537, key_size=int(algorithm.removeprefix("RSA-")))
        return lambda octets: key.sign(octets, padding.PKCS1v15(), hashes.SHA256())
    curve_key = ec.generate_private_key(ec.SECP256R1())
    return lambda octets: curve_key.sign(octets, ec.ECDSA(hashes.SHA256()))


def processor_seconds(algorithm: str) -> float:
    """What one such signature costs a processor, whatever else the machine does meanwhile."""
    sign = signer(algorithm)
    begun, started, done = time.process_time(), time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        sign(_TBS)
        done += 1
    return (time.process_time() - begun) / done


def signatures_a_second(algorithm: str) -> float:
    """Signatures over a kilobyte, a second, by one process on each core at once."""
    cores = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        return sum(pool.map(_rate, [algorithm] * cores))


def _rate(algorithm: str) -> float:
    sign = signer(algorithm)
    done = 0
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        sign(_TBS)
        done += 1
    return done / (time.perf_counter() - started)
