"""A CRL as it grows: what assembling, signing and reading cost against hashing and one signature alone."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import os
import time
from collections.abc import Callable

from bench import raw
from cassiopeia.core import algorithms, crl
from cassiopeia.core.request import Revocation

SIZES = (1_000, 10_000, 21_400)
NOW = dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
_NAME = bytes.fromhex("3011310f300d06035504030c06") + b"sub-CA"
_ALGORITHM = next(each for each in algorithms.ALGORITHMS if each.name == "sha256WithRSAEncryption")
_REPETITIONS = 5


def main(*, quick: bool) -> None:
    sign = raw.signer("RSA-4096")
    print("\nA CRL with reasons, RSA-4096: milliseconds (best of 5), beside SHA-256 over it and one signature alone")
    print(f"  {'entries':>8} {'octets':>10} {'build':>7} {'and sign':>9} {'raw':>7} {'ratio':>6} {'read':>7}")
    for size in SIZES[:1] if quick else SIZES:
        entries = b"".join(
            crl.encode_revocation(
                Revocation(serial_number=int.from_bytes(b"\1" + os.urandom(15), "big"), reason=4), NOW
            )
            for _ in range(size)
        )
        tbs = _assemble(entries)
        signature = sign(tbs)
        der = crl.compose_crl(tbs, signature)
        build = _best(functools.partial(_assemble, entries))
        whole = _best(functools.partial(_build_and_sign, entries, sign))
        alone = _best(functools.partial(_hash_and_sign, tbs, sign))
        read = _best(functools.partial(crl.read_crl, der))
        print(
            f"  {size:8,} {len(der):10,} {build * 1000:7.2f} {whole * 1000:9.2f} {alone * 1000:7.2f}"
            f" {whole / alone:6.2f} {read * 1000:7.2f}",
            flush=True,
        )


def _build_and_sign(entries: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    tbs = _assemble(entries)
    return crl.compose_crl(tbs, sign(tbs))


def _hash_and_sign(tbs: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    return hashlib.sha256(tbs).digest() + sign(b"")


def _assemble(entries: bytes) -> bytes:
    return crl.assemble_tbs_crl(
        issuer=_NAME,
        algorithm=_ALGORITHM,
        this_update=NOW,
        next_update=NOW + dt.timedelta(days=10),
        entries=entries,
        crl_number=7,
        authority_key_identifier=bytes(20),
    )


def _best(work: Callable[[], object]) -> float:
    """Seconds of the quickest of a few runs: what the work costs without what else the machine does."""
    spans = []
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        work()
        spans.append(time.perf_counter() - started)
    return min(spans)
