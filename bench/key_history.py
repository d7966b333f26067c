"""Keys that were seen before: what comparing a new RSA key with all of them costs, and asking whose key it is."""

from __future__ import annotations

import functools
import os
import random
import selectors
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.signer import meaningless_tbs, open_journal, record_intent

from bench.csr_cache import distinct_requests
from cassiopeia.core.key_identity import certified_key_info, identify_certified_key, identify_key
from cassiopeia.core.shared_factors import PythonArithmetic, SeenModuli
from cassiopeia.signer.examiner import Examiner
from cassiopeia.signer.gmp import GmpArithmetic

SEEN = (0, 1_000, 10_000, 100_000)
# Without GMP a hundred thousand take minutes.
MOST_BY_PYTHON = 10_000
BATCHES = (1, 16, 128)
KEYS = 256
_MODULUS_BITS = 2048
_KIBIBYTE = 1024


def main(*, quick: bool) -> None:
    sizes = [size // 10 for size in SEEN] if quick else list(SEEN)
    keys = [_public_key(each) for each in distinct_requests("RSA-2048", KEYS)]
    moduli = [identify_key(each).modulus for each in keys]
    _compare(sizes, moduli)
    _process(sizes)
    _index(keys)


def _compare(sizes: Sequence[int], moduli: Sequence[bytes]) -> None:
    print("\nA new RSA-2048 key against all that were seen: milliseconds of CPU a key, in batches of so many")
    print(f"  {'seen':>9}  {'by':8}" + "".join(f"{batch:>9}" for batch in BATCHES) + f"{'read in':>12}")
    for seen in sizes:
        for arithmetic in (GmpArithmetic, PythonArithmetic):
            if arithmetic is PythonArithmetic and seen > MOST_BY_PYTHON:
                continue
            made: SeenModuli[Any] = SeenModuli(arithmetic())
            reading_s = _seconds(made.remember, _some_moduli(seen))
            costs, first = [], 0
            for batch in BATCHES:
                costs.append(_seconds(made.examine, moduli[first : first + batch]) * 1000 / batch)
                first += batch
            name = "GMP" if arithmetic is GmpArithmetic else "Python"
            figures = "".join(f"{cost:9.2f}" for cost in costs)
            print(f"  {seen:9,}  {name:8}{figures}{reading_s:10.2f} s", flush=True)


def _process(sizes: Sequence[int]) -> None:
    print("\nThe examiner's process at a start: seconds until it knows them all, and its memory")
    for seen in sizes:
        moduli = list(enumerate(_some_moduli(seen), start=1))
        with selectors.DefaultSelector() as selector:
            examiner = Examiner(
                count=functools.partial(len, moduli),
                feed=functools.partial(_piece, moduli),
                selector=selector,
                deliver=lambda _task, _modulus, _others: None,
            )
            began = time.monotonic()
            busy = 0.0
            while not examiner.ready:
                turned = time.monotonic()
                examiner.pump()
                busy += time.monotonic() - turned
                for key, mask in selector.select(1):
                    turned = time.monotonic()
                    key.data(mask)
                    busy += time.monotonic() - turned
            ready_s = time.monotonic() - began
            status = Path(f"/proc/{examiner.process_id}/status").read_text(encoding="ascii")
            most = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
            examiner.stop()
        print(
            f"  {seen:9,}  {ready_s:8.2f} s {most / _KIBIBYTE:10,.0f} MiB; the front's share {busy:.2f} s", flush=True
        )


def _piece(moduli: Sequence[tuple[int, bytes]], after: int, at_most: int) -> Sequence[tuple[int, bytes]]:
    return moduli[after : after + at_most]


def _index(keys: Sequence[bytes]) -> None:
    with tempfile.TemporaryDirectory(prefix="cassiopeia-bench-") as name:
        journal = open_journal(Path(name))
        certificates = [meaningless_tbs(number, public_key=key, size=400) for number, key in enumerate(keys)]
        for number, tbs in enumerate(certificates):
            record_intent(journal, number, tbs_certificate=tbs)
        journal.commit()
        identities = [identify_certified_key(tbs) for tbs in certificates]
        naming_s = _seconds(lambda: [identify_key(certified_key_info(tbs)) for tbs in certificates])
        asking_s = _seconds(lambda: [journal.index.key_owner(each.digest) for each in identities])
        missing_s = _seconds(lambda: [journal.index.knows_key(os.urandom(32)) for _ in identities])
        journal.close()
    print("\nWhose key it is: microseconds of CPU a request")
    for what, spent_s in (
        ("name the key of a TBSCertificate", naming_s),
        ("ask whose a known key is", asking_s),
        ("ask for a key that nobody has", missing_s),
    ):
        print(f"  {what:34}{spent_s * 1e6 / len(keys):8.1f}", flush=True)


def _public_key(request: bytes) -> bytes:
    public_key = x509.load_der_x509_csr(request).public_key()
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _some_moduli(count: int) -> list[bytes]:
    """As long as the real ones; making those would take hours. Which they are changes nothing of what it costs."""
    chance = random.Random(count)  # noqa: S311 - the same ones each time, and nobody's keys
    top = 1 << _MODULUS_BITS - 1
    return [(chance.getrandbits(_MODULUS_BITS) | top | 1).to_bytes(_MODULUS_BITS // 8, "big") for _ in range(count)]


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    began = time.process_time()
    work(*arguments)
    return time.process_time() - began
