"""Requests whose keys wait for the process that compares them: put off in time, and through in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.conversations import Pair
from tests.support.issuing import assert_failed, certificate_of, wanted
from tests.support.known_keys import certification_request, rsa_key
from tests.support.signer import Front

from cassiopeia.core.request import CertificateRequest

REQUEST = wanted(key_proof=certification_request(rsa_key(0, 1)))


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def approve(front: Front, pair: Pair, request: CertificateRequest = REQUEST) -> None:
    """Bring a request as far as the comparison of its key."""
    pair.client.submit(request)
    front.carry()
    while front.tasks:
        front.deliver(front.worker.carry_out(front.tasks.popleft()))


def test_a_key_that_waits_too_long_is_put_off_and_the_next_try_finds_it_compared(front: Front) -> None:
    pair = front.connect()
    approve(front, pair)
    front.clock += 60
    front.issuance.expire(now=front.now)
    assert front.answers(pair) == []
    front.clock += 1
    front.issuance.expire(now=front.now)
    (answer,) = front.answers(pair)
    assert assert_failed(answer, "key-compared").retry_after_s == 60
    front.issuance.expire(now=front.now)
    assert front.answers(pair) == []
    # 1. The same request again, too early: it is not compared twice.
    approve(front, pair)
    (answer,) = front.answers(pair)
    assert "is being decided already" in assert_failed(answer, "busy").message
    assert len(front.examinations) == 1
    # 2. Then the comparison ends, which nobody waits for; and again.
    front.examine()
    assert front.answers(pair) == []
    assert certificate_of(front, pair, REQUEST)


def test_a_key_whose_session_has_gone_is_not_put_off(front: Front) -> None:
    pair = front.connect()
    approve(front, pair)
    front.vanish(pair)
    front.clock += 61
    front.issuance.expire(now=front.now)
    front.examine()
    assert certificate_of(front, front.connect(), REQUEST)
