"""A queue full of distinct requests, and the time that the real processes take to drain it."""

from __future__ import annotations

import datetime as dt
import functools
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.system import System

from bench.csr_cache import make_request
from bench.processor_time import processor_time_of_ended, processor_times
from cassiopeia.core import ed25519, evidence
from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute
from cassiopeia.store.database import open_store
from cassiopeia.validation.key import load_validator_key

UNPROVED, PROVED = "9004-unproved-server", "0004-server"
KEYS = 20
TIME_LIMIT_S = 600.0
_ACCOUNTS = 10
_KEY_KIND = "RSA-2048"


@contextmanager
def made_system(
    algorithm: str, *, link: str = "unix", version_1: bool = False, lint_workers: int = 0
) -> Iterator[System]:
    """A fresh CA whose keys are all of this kind, with signer and client not yet running.

    The client lints nothing if not told otherwise: in production its linter does not share the signer's processors.
    """
    options = ["--unproved-profiles", "--key-algorithm", algorithm, *(["--version-1"] if version_1 else [])]
    with (
        tempfile.TemporaryDirectory(prefix="cassiopeia-bench-") as directory,
        System(directory=Path(directory), link=link, init_options=options) as system,
    ):
        system.run(*system.init_command)
        with (Path(directory) / "ca" / "client" / "client.toml").open("a", encoding="utf-8") as file:
            file.write(f"\n[lint]\nworkers = {lint_workers}\n")
        yield system


def submit(system: System, count: int, *, profile: str = UNPROVED, key_proofs: Sequence[bytes] = ()) -> None:
    """Queue `count` requests, each with a name of its own, in turn with these keys (none: a few of RSA-2048).

    Of the profile that demands proofs, the two observations of each name are stated as well, by the validator's key.
    """
    proofs = key_proofs or _few_requests()
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    wanted = [_wanted(number, profile, proofs[number % len(proofs)]) for number in range(count)]
    with open_store(_store_url(system)) as store:
        if profile == PROVED:
            store.evidence.put_observations(_observations(system, wanted, now=now), now=now)
        for each in wanted:
            store.requests.submit(each, request_id=each.request_id, now=now)


def _store_url(system: System) -> str:
    return f"sqlite:///{system.directory}/ca/client/store.sqlite"


def _wanted(number: int, profile: str, key_proof: bytes) -> CertificateRequest:
    name = f"host-{number}-{os.urandom(4).hex()}.example.org"
    return CertificateRequest(
        key_kind="csr",
        key_proof=key_proof,
        request_id=os.urandom(32),
        profile=profile,
        # A key belongs to one account: the number of keys is a multiple of that of the accounts.
        account=f"account-{number % _ACCOUNTS}",
        attributes=(SubjectAttribute(type="CN", value=name),),
        alt_names=(SubjectAltName(type="DNS", value=name),),
    )


def _observations(system: System, wanted: Sequence[CertificateRequest], *, now: dt.datetime) -> list[bytes]:
    """Two for each name, as `cassiopeia validator observe` would write them, without a process for each."""
    key = load_validator_key(system.directory / "ca" / "validator" / "validator.key")
    validator = evidence.key_id(ed25519.public_octets(key))
    return [
        evidence.sign_observation(
            evidence.Observation(
                kind=kind,
                value=name.value,
                account=each.account,
                method="dns",
                observed_at=now,
                table="",
                primary_key="",
                validator=validator,
            ),
            key,
        )
        for each in wanted
        for name in each.alt_names
        for kind in ("dns-control", "caa-permits")
    ]


def drain(system: System) -> None:
    """Run the client until the queue is empty."""
    if system.start_client("--drain").wait(TIME_LIMIT_S) != 0:
        raise RuntimeError(system.log("client"))
    del system.processes["client"]


def issued(system: System) -> int:
    """How many certificates the store has."""
    with open_store(_store_url(system)) as store:
        return store.queue.statistics(now=dt.datetime.now(dt.UTC)).issued_last_hour


def attested(system: System) -> int:
    """How many requests wait with what they need for the client."""
    with open_store(_store_url(system)) as store:
        statistics = store.queue.statistics(now=dt.datetime.now(dt.UTC))
        return statistics.waiting["sign"] - statistics.unattested


@dataclass(frozen=True, kw_only=True)
class Drain:
    """Seconds from the opened session to an empty queue, and those of the processors, by what used them.

    The client's do not count its start.
    """

    seconds: float
    processors: Mapping[str, float]


def measure_drain(system: System) -> Drain:
    """Drain the queue, then nothing: what that costs the client is its start."""
    before, ended = processor_times(system), processor_time_of_ended()
    seconds = time_drain(system)
    after, client = processor_times(system), processor_time_of_ended() - ended
    ended = processor_time_of_ended()
    drain(system)
    client -= processor_time_of_ended() - ended
    processors = {what: spent - before.get(what, 0.0) for what, spent in after.items()}
    return Drain(seconds=seconds, processors={**processors, "client, its lint workers": client})


def time_drain(system: System) -> float:
    """Seconds from the opened session to an empty queue, as the client's own log tells them (version 2)."""
    before = len(system.log("client"))
    drain(system)
    lines = system.log("client")[before:].splitlines()
    opened = next(line for line in lines if "session open" in line)
    drained = next(line for line in reversed(lines) if "drained" in line)
    return (_time_of(drained) - _time_of(opened)).total_seconds()


@functools.cache
def _few_requests() -> tuple[bytes, ...]:
    return tuple(make_request(_KEY_KIND) for _ in range(KEYS))


def _time_of(line: str) -> dt.datetime:
    return dt.datetime.fromisoformat(line.split(" ", 1)[0])
