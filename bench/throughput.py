"""Certificates a second, store to store, against the raw signing rate of all cores."""

from __future__ import annotations

from bench import backlog, raw

REQUESTS = {"RSA-4096": 3000, "RSA-2048": 3000, "P-256": 3000}


def main(*, quick: bool) -> None:
    print("Certificates a second: RSA-2048 requests, store to store (durable SQLite on both sides), Unix socket")
    rsa_4096_rate = raw.signatures_a_second("RSA-4096")
    head = f"{'requests':>8} {'seconds':>8} {'cert/s':>7} {'raw/s':>7} {'of raw':>7} {'of raw RSA-4096':>16}"
    print(f"  {'sub-CA':9} {head}")
    for algorithm, count in REQUESTS.items():
        requests = count // 10 if quick else count
        before = raw.signatures_a_second(algorithm)
        with backlog.made_system(algorithm) as system:
            backlog.submit(system, requests)
            system.start_signer()
            system.wait_for_log("signer", "running")
            seconds = backlog.time_drain(system)
            system.stop("signer")
        rate, raw_rate = requests / seconds, (before + raw.signatures_a_second(algorithm)) / 2
        print(
            f"  {algorithm:9} {requests:8} {seconds:8.1f} {rate:7.0f} {raw_rate:7.0f} {rate / raw_rate:7.0%}"
            f" {rate / rsa_4096_rate:16.2f}",
            flush=True,
        )
