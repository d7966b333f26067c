"""A signer with its real workers: a request that ends or stops a worker is answered alone, and nobody else is hurt."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support import mortal_worker
from tests.support.authorities import p256_key, server_request
from tests.support.running_signer import RunningSigner
from tests.support.statements import signed_observation

from cassiopeia.core.request import CertificateRequest
from cassiopeia.signer import pool as pool_module

# Until a worker that answers nothing is taken to hang: long enough for a slow machine, short enough for a test.
HANGING_S = 3.0
PROVED_PROFILE = "0004-server"


class Running(RunningSigner):
    """Its workers' parsers have faults."""

    def __init__(self, directory: Path) -> None:
        command = (sys.executable, str(Path(mortal_worker.__file__)))
        super().__init__(directory, workers=command, profiles=[PROVED_PROFILE])

    def met(self) -> list[str]:
        """Which faults the workers met, one after the other."""
        return (self.directory / mortal_worker.MET).read_text(encoding="ascii").split()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    try:
        made.run_until(lambda: made.ready)
        yield made
    finally:
        made.stop()


def good(number: int) -> CertificateRequest:
    return server_request(account="alice", request_id=b"good" + number.to_bytes(28, "big"))


def hostile_csr(fault: str) -> CertificateRequest:
    """The words stand where nothing of ours reads them: in the subject of the CSR."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, mortal_worker.word(fault))])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(p256_key(), hashes.SHA256())
    return server_request(key_proof=csr.public_bytes(Encoding.DER), account="mallory", request_id=b"c" * 32)


def hostile_evidence(fault: str) -> CertificateRequest:
    """An observation that nobody has to believe: it is parsed before anybody asks who signed it."""
    proof = signed_observation(value=mortal_worker.word(fault), account="mallory")
    return server_request(profile=PROVED_PROFILE, account="mallory", request_id=b"e" * 32, proofs=(proof, proof))


@pytest.mark.parametrize("fault", mortal_worker.FAULTS)
def test_two_hostile_requests_cost_themselves_and_nothing_else(
    running: Running, fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool_module, "_BATCH_TIME_LIMIT_S", HANGING_S)
    caplog.set_level(logging.ERROR)
    before = [running.submit(good(number)) for number in range(10)]
    hostile = [running.submit(hostile_csr(fault)), running.submit(hostile_evidence(fault))]
    behind = [running.submit(good(number)) for number in range(10, 20)]

    running.run_until(lambda: len(running.answered) == 22)

    assert set(running.issued) == {*before, *behind}
    assert {each.code for each in running.failed.values()} == {"worker-died"}
    assert set(running.failed) == set(hostile)
    # Each was given two workers, and no third one.
    assert running.met() == [fault] * 4
    assert caplog.text.count("is gone (status") == 4
    assert caplog.text.count("hung for 3 seconds") == (4 if fault == "hang" else 0)
    # The signer has its workers again, and nothing is left of it all.
    running.run_until(lambda: running.ready)
    after = running.submit(good(20))
    running.run_until(lambda: after in running.issued)


def test_a_hostile_request_that_comes_again_is_treated_the_same(running: Running) -> None:
    """The client sets it aside; a client that does not gets nowhere either."""
    for _ in range(2):
        handle = running.submit(hostile_csr("crash"))
        running.run_until(lambda: bool(running.failed))
        answer = running.failed.pop(handle)
        assert (answer.code, answer.retry_after_s) == ("worker-died", 300)
    after = running.submit(good(1))
    running.run_until(lambda: after in running.issued)
