"""Real workers: what they say of requests, and that one which ends them costs itself alone."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.authorities import certification_request
from tests.support.validating import key_hash

from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import Unavailable
from cassiopeia.validation.look_worker import Look, LookTask, look
from cassiopeia.validation.looking import Looker

# The real worker's loop around something that a certain request is too much for.
MORTAL = """
import os, signal, sys, time
from cassiopeia.validation import look_worker
real = look_worker.look
def look(task):
    if task.key_proof == b"kill": os.kill(os.getpid(), signal.SIGKILL)
    if task.key_proof == b"hang": time.sleep(1000)
    if task.key_proof == b"babble": os.write(int(sys.argv[1]), b"\\0\\0\\0\\1x")
    return real(task)
look_worker.look = look
look_worker.main()
"""


def request(key_proof: bytes | None = None, number: int = 0) -> CertificateRequest:
    proof = certification_request() if key_proof is None else key_proof
    return CertificateRequest(key_kind="csr", key_proof=proof, request_id=bytes([number]) * 32)


@pytest.fixture
def make() -> Iterator[Callable[..., Looker]]:
    made: list[Looker] = []

    def start(*command: str, time_limit_s: float = 60.0) -> Looker:
        made.append(Looker(command=command, time_limit_s=time_limit_s) if command else Looker())
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_the_key_of_a_request_and_why_another_has_none() -> None:
    good = request()
    spkac = look(LookTask(key_kind="spkac", key_proof=good.key_proof))

    assert look(LookTask(key_kind="csr", key_proof=good.key_proof)) == Look(key_hash=key_hash(good))
    assert (spkac.key_hash, spkac.reason.startswith("The SPKAC ")) == (b"", True)


def test_answers_come_in_the_order_of_the_requests(make: Callable[..., Looker]) -> None:
    looker = make()
    requests = [request(), request(b"\x30\x00"), request()]

    first, second, third = looker.look(requests)

    assert (first.key_hash, third.key_hash) == (key_hash(requests[0]), key_hash(requests[2]))
    assert "certification request" in second.reason
    assert looker.look([]) == []
    assert looker.look([requests[2]]) == [third]


@pytest.mark.parametrize(("deadly", "time_limit_s"), [(b"kill", 60.0), (b"hang", 1.0), (b"babble", 60.0)])
def test_what_ends_two_workers_has_no_key(
    make: Callable[..., Looker], deadly: bytes, time_limit_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    looker = make(sys.executable, "-c", MORTAL, time_limit_s=time_limit_s)
    good = request()
    requests = [good, request(deadly, 7), request(deadly, 8), good]

    looks = looker.look(requests)

    assert [each.key_hash for each in looks] == [key_hash(good), b"", b"", key_hash(good)]
    assert looks[1] == Look(reason="looking at it has ended two processes", is_fatal=True)
    assert f"request {'07' * 6}: looking at it has ended two processes" in caplog.text


def test_a_worker_that_does_not_start_is_waited_for(make: Callable[..., Looker]) -> None:
    looker = make("false")

    with pytest.raises(Unavailable, match="does not start"):
        looker.look([request()])


@pytest.mark.parametrize("unseen", [{"key_proof": b"0" * 70_000}, {"key_kind": "pgp"}])
def test_what_the_signer_refuses_unread_no_process_has_to_bear(
    make: Callable[..., Looker], unseen: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand of them would be more than one bears, and who came before them had to pay for it."""
    good = request()
    bad = dataclasses.replace(good, **unseen)

    looks = make().look([good, *[bad] * 1_000, good])

    assert [each.key_hash for each in looks] == [key_hash(good), *[b""] * 1_000, key_hash(good)]
    assert not caplog.text


def test_who_stands_before_one_that_ends_workers_at_once_is_not_at_fault(make: Callable[..., Looker]) -> None:
    """A worker that dies of the batch as a whole, before it has answered to anything."""
    greedy = MORTAL.replace(
        "look_worker.look = look",
        "decode = look_worker.msgspec.msgpack.Decoder\n"
        "class Decoder:\n"
        "    def __init__(self, kind): self.real = decode(kind)\n"
        "    def decode(self, body):\n"
        "        if b'greed' in body: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return self.real.decode(body)\n"
        "look_worker.msgspec.msgpack.Decoder = Decoder",
    )
    good = request()

    looks = make(sys.executable, "-c", greedy).look([good, request(b"greed", 7), good])

    assert [each.key_hash for each in looks] == [key_hash(good), b"", key_hash(good)]
