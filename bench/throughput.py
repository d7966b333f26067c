"""Certificates a second, store to store, against the raw signing rate of all cores."""

from __future__ import annotations

from bench import backlog, raw

REQUESTS = {"RSA-4096": 3000, "RSA-2048": 3000, "P-256": 3000}
LINTED = "RSA-4096"
LINT_WORKERS = (1, 2)


def main(*, quick: bool) -> None:
    print("Certificates a second: RSA-2048 requests, store to store (durable SQLite on both sides), Unix socket")
    rsa_4096_rate = raw.signatures_a_second("RSA-4096")
    head = f"{'requests':>8} {'seconds':>8} {'cert/s':>7} {'raw/s':>7} {'of raw':>7} {'of raw RSA-4096':>16}"
    print(f"  {'sub-CA':9} {head}")
    for algorithm in REQUESTS:
        _measure(algorithm, rsa_4096_rate, quick=quick)
    print("  with the client's lint (RFC 5280), on the same processors; its workers:")
    for workers in LINT_WORKERS:
        _measure(LINTED, rsa_4096_rate, quick=quick, lint_workers=workers)


def _measure(algorithm: str, rsa_4096_rate: float, *, quick: bool, lint_workers: int = 0) -> None:
    requests = REQUESTS[algorithm] // 10 if quick else REQUESTS[algorithm]
    before = raw.signatures_a_second(algorithm)
    with backlog.made_system(algorithm, lint_workers=lint_workers) as system:
        backlog.submit(system, requests)
        system.start_signer()
        system.wait_for_log("signer", "running")
        seconds = backlog.time_drain(system)
        system.stop("signer")
    rate, raw_rate = requests / seconds, (before + raw.signatures_a_second(algorithm)) / 2
    print(
        f"  {lint_workers or algorithm!s:9} {requests:8} {seconds:8.1f} {rate:7.0f} {raw_rate:7.0f}"
        f" {rate / raw_rate:7.0%} {rate / rsa_4096_rate:16.2f}",
        flush=True,
    )
