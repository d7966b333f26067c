"""The publisher's OCSP: reading a journal at a start, memory for serial numbers, answers a second of one core."""

from __future__ import annotations

import secrets
import tempfile
import time
from pathlib import Path

from tests.support.ocsp_requests import asked
from tests.support.publishing import LATER, Publishing, make_publishing

from cassiopeia.publisher.serials import SerialTable
from cassiopeia.store.database import open_store, upgrade

SERIAL_NUMBERS = 400_000
CERTIFICATES = 5_000
ANSWERS = 5_000


def main(*, quick: bool) -> None:
    share = 10 if quick else 1
    _measure_table(SERIAL_NUMBERS // share)
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/store.db"
        upgrade(url)
        with open_store(url) as store:
            _measure_publisher(make_publishing(Path(directory), store), CERTIFICATES // share, ANSWERS // share)


def _measure_table(count: int) -> None:
    print(f"\nOCSP: {count:,} serial numbers in memory")
    before, began = _resident_mib(), time.process_time()
    table = SerialTable()
    for number in range(count):
        table.add(int.from_bytes(b"\1" + secrets.token_bytes(15), "big"), number)
    took_s = time.process_time() - began
    print(f"  {_resident_mib() - before:8.1f} MiB, in {took_s:.1f} s of CPU; {len(table):,} are there", flush=True)


def _measure_publisher(publishing: Publishing, certificates: int, answers: int) -> None:
    for _ in range(certificates):
        serial_number = publishing.issue()
    publishing.sign_crl()
    publishing.copy()
    publishing.certify()
    began = time.process_time()
    publishing.look()
    rate = publishing.made.size / (time.process_time() - began)
    # Intent, confirmation and result of each.
    whole_s = 3 * SERIAL_NUMBERS / rate
    print(f"  {rate:8,.0f} journal entries a second at a start: {whole_s:.0f} s for {SERIAL_NUMBERS:,} certificates")
    for what, nonce in (("from those that are kept", b""), ("with a nonce, each signed", bytes(32))):
        octets = asked(serial_number, nonce=nonce)
        began = time.process_time()
        for _ in range(answers):
            publishing.answerer.answer(octets, now=LATER)
        print(f"  {answers / (time.process_time() - began):8,.0f} answers a second, {what} (without HTTP)", flush=True)


def _resident_mib() -> float:
    (line,) = (each for each in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if "VmRSS:" in each)
    return int(line.split()[1]) / 1024
