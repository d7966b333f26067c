"""Certificates a second, store to store, against the raw signing rate of all cores; and who used the processors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from examples.system import System

from bench import backlog, raw
from bench.csr_cache import distinct_requests

REQUESTS = 3000
_AHEAD = 10_000  # the most that validator.toml takes
_ATTESTED = "attested beforehand"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is asked for: a sub-CA's algorithm, a profile, and keys, as many as requests or (none) a few."""

    algorithm: str
    profile: str = backlog.UNPROVED
    keys: str = ""
    attested: bool = False
    lint_workers: int = 0

    def __str__(self) -> str:
        keys = f"{self.keys}, each its own" if self.keys else f"RSA-2048, {backlog.KEYS} of them"
        lint = f", {self.lint_workers} lint workers" if self.lint_workers else ""
        return f"{self.algorithm:9} {keys:24} {_ATTESTED if self.attested else ''}{lint}"


_PROVED = (
    Load(algorithm="RSA-4096", profile=backlog.PROVED, keys="RSA-2048"),
    Load(algorithm="RSA-4096", profile=backlog.PROVED, keys="RSA-2048", attested=True),
    Load(algorithm="RSA-4096", profile=backlog.PROVED, keys="P-256"),
    Load(algorithm="P-256", profile=backlog.PROVED, keys="RSA-2048"),
    Load(algorithm="P-256", profile=backlog.PROVED, keys="P-256"),
    Load(algorithm="P-256", profile=backlog.PROVED, keys="P-256", attested=True),
)
_UNPROVED = (
    *(Load(algorithm=algorithm) for algorithm in ("RSA-4096", "RSA-2048", "P-256")),
    *(Load(algorithm="RSA-4096", lint_workers=workers) for workers in (1, 2)),
)


def main(*, quick: bool) -> None:
    requests = REQUESTS // 10 if quick else REQUESTS
    print(
        f"{requests:,} certificates, store to store (durable SQLite on both sides), Unix socket; all on the same cores"
    )
    rsa_4096_rate = raw.signatures_a_second("RSA-4096")
    titles = {
        _PROVED: f"\n  {backlog.PROVED}: two observations for each name, a validator at work (or {_ATTESTED})",
        _UNPROVED: f"\n  {backlog.UNPROVED}: nothing is proved",
    }
    for loads, title in titles.items():
        print(title)
        print(f"  {'sub-CA':9} {'keys':24} {'':36} {'cert/s':>6} {'raw/s':>6} {'of raw':>6} {'of raw RSA-4096':>15}")
        for load in loads:
            _measure(load, requests, rsa_4096_rate)


def _measure(load: Load, requests: int, rsa_4096_rate: float) -> None:
    key_proofs = distinct_requests(load.keys, requests) if load.keys else ()
    before = raw.signatures_a_second(load.algorithm)
    with backlog.made_system(load.algorithm, lint_workers=load.lint_workers) as system:
        system.start_signer()
        system.wait_for_log("signer", "running")
        if load.attested:
            _attest_beforehand(system, load, requests, key_proofs)
        else:
            backlog.submit(system, requests, profile=load.profile, key_proofs=key_proofs)
            if load.profile == backlog.PROVED:
                # No signer is heard before the client begins, so nothing is attested before that.
                system.start_validator()
                system.wait_for_log("validator", "attests requests of")
        drain = backlog.measure_drain(system)
        for name in list(system.processes):
            system.stop(name)
        issued = backlog.issued(system)
    if issued != requests:
        raise AssertionError(f"{issued} certificates for {requests} requests")
    rate, raw_rate = requests / drain.seconds, (before + raw.signatures_a_second(load.algorithm)) / 2
    print(f"  {load!s:71} {rate:6.0f} {raw_rate:6.0f} {rate / raw_rate:6.0%} {rate / rsa_4096_rate:15.2f}")
    _print_processors(drain.processors, requests, raw.processor_seconds(load.algorithm))


def _attest_beforehand(system: System, load: Load, requests: int, key_proofs: list[bytes] | tuple[()]) -> None:
    """The signer's first nonce holds for five minutes at least, and all of this takes less than one."""
    backlog.drain(system)  # brings the signer's word on its nonce
    backlog.submit(system, requests, profile=load.profile, key_proofs=key_proofs)
    config = system.directory / system.validator_config
    with config.open("a", encoding="utf-8") as file:
        file.write(f"\n[attest]\nahead = {_AHEAD}\n")
    system.start_validator()
    system.wait_until(lambda: backlog.attested(system) == requests, "everything is attested")
    system.stop("validator")


def _print_processors(processors: Mapping[str, float], requests: int, signature_s: float) -> None:
    """Milliseconds of a processor for each certificate, by what used them; and which part the bare signature is."""
    shares = [f"{what} {seconds / requests * 1000:.2f}" for what, seconds in sorted(processors.items()) if seconds]
    each_s = sum(processors.values()) / requests
    print(f"    ms a certificate: {', '.join(shares)}; together {each_s * 1000:.2f}")
    print(f"    of which one bare signature, {signature_s * 1000:.2f}, is {signature_s / each_s:.0%}", flush=True)
