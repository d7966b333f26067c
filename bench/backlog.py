"""A queue full of distinct requests, and the time that the real processes take to drain it."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from examples.system import System

from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute
from cassiopeia.store.database import open_store

PROFILE = "9004-unproved-server"
_KEYS = 20
TIME_LIMIT_S = 600.0


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


def submit(system: System, count: int) -> None:
    """Queue `count` requests, each with a name of its own, with RSA-2048 keys."""
    requests = _certification_requests()
    now = dt.datetime.now(dt.UTC)
    with open_store(f"sqlite:///{system.directory}/ca/client/store.sqlite") as store:
        for number in range(count):
            name = f"host-{number}-{os.urandom(4).hex()}.example.org"
            wanted = CertificateRequest(
                key_kind="csr",
                key_proof=requests[number % len(requests)],
                request_id=os.urandom(32),
                profile=PROFILE,
                account=f"account-{number % 10}",
                attributes=(SubjectAttribute(type="CN", value=name),),
                alt_names=(SubjectAltName(type="DNS", value=name),),
            )
            store.requests.submit(wanted, request_id=wanted.request_id, now=now)


def drain(system: System) -> None:
    """Run the client until the queue is empty."""
    if system.start_client("--drain").wait(TIME_LIMIT_S) != 0:
        raise RuntimeError(system.log("client"))
    del system.processes["client"]


def time_drain(system: System) -> float:
    """Seconds from the opened session to an empty queue, as the client's own log tells them (version 2)."""
    before = len(system.log("client"))
    drain(system)
    lines = system.log("client")[before:].splitlines()
    opened = next(line for line in lines if "session open" in line)
    drained = next(line for line in reversed(lines) if "drained" in line)
    return (_time_of(drained) - _time_of(opened)).total_seconds()


_cache: list[bytes] = []


def _certification_requests() -> list[bytes]:
    if not _cache:
        for _ in range(_KEYS):
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
            _cache.append(request.public_bytes(Encoding.DER))
    return _cache


def _time_of(line: str) -> dt.datetime:
    return dt.datetime.fromisoformat(line.split(" ", 1)[0])
