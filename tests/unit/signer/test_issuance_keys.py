"""Requests whose keys were seen before: by the same account, by another one, or as a factor of another key."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.conversations import Pair
from tests.support.issuing import assert_failed, certificate_of, kinds, log_of, wanted
from tests.support.known_keys import certification_request, elliptic_key, rsa_key
from tests.support.signer import Front

from cassiopeia.core.request import CertificateRequest
from cassiopeia.protocol.events import LogReceived, RequestAbandoned, RequestRefused
from cassiopeia.signer.gate import Obstacle
from cassiopeia.signer.issuance import INTENT_LIFE_S
from cassiopeia.signer.tasks import Decided

EC = certification_request(elliptic_key(1))
YEAR = dt.timedelta(days=365)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def wish(number: int, key_proof: bytes = EC, *, account: str = "alice") -> CertificateRequest:
    return wanted(request_id=bytes([number]) * 32, key_proof=key_proof, account=account)


def rsa(first: int, second: int) -> bytes:
    return certification_request(rsa_key(first, second))


def assert_refused(answer: object, code: str) -> RequestRefused:
    assert isinstance(answer, RequestRefused)
    assert (answer.code, answer.field) == (code, "key")
    return answer


def ask_without_verdict(front: Front, pair: Pair, request: CertificateRequest) -> int:
    """Let a worker approve the request; its key then waits to be compared."""
    handle = pair.client.submit(request)
    front.carry()
    (task,) = front.tasks
    front.tasks.clear()
    front.deliver(front.worker.carry_out(task))
    front.journal.commit()
    assert len(front.examinations) == 1
    return handle


# Whose key it is.


@pytest.mark.parametrize("key_proof", [EC, rsa(0, 1)])
def test_another_account_gets_no_certificate_for_a_key(front: Front, key_proof: bytes) -> None:
    pair = front.connect()
    certificate_of(front, pair, wish(1, key_proof))
    refusal = assert_refused(front.ask(pair, wish(2, key_proof, account="bob")), "key-in-use")
    assert (
        refusal.message == "This key was certified before, and not for this account, or what is known of it was"
        " removed; make a new key for this request."
    )
    assert kinds(front)[-1] == "refusal"
    # Its owner renews as often as he likes, and gets what he has again.
    certificate_of(front, pair, wish(3, key_proof))
    assert certificate_of(front, pair, wish(1, key_proof)) == certificate_of(front, pair, wish(1, key_proof))


def test_version_1_is_an_account_of_its_own(front: Front) -> None:
    old, new = front.connect(1), front.connect()
    log = log_of(front, old, wanted(request_id=b"", account="", key_proof=EC))
    front.confirm(old, log.handle)
    assert_refused(front.ask(new, wish(1)), "key-in-use")
    log_of(front, new, wish(2, account=""))


def test_nobody_is_refused_for_a_certificate_that_was_given_up(front: Front) -> None:
    pair = front.connect()
    # 1. While it may still be signed, the key is taken.
    log = log_of(front, pair, wish(1))
    assert_refused(front.ask(pair, wish(2, account="bob")), "key-in-use")
    # 2. Vetoed.
    pair.client.abandon(log.handle, "veto")
    front.settle()
    assert isinstance(front.answers(pair)[0], RequestAbandoned)
    log_of(front, pair, wish(3, account="bob"))
    # 3. Run out.
    front.clock += INTENT_LIFE_S + 1
    front.issuance.expire(now=front.now)
    front.settle()
    front.answers(pair)
    certificate_of(front, pair, wish(4))
    assert_refused(front.ask(pair, wish(5, account="bob")), "key-in-use")


def test_an_account_that_is_forgotten_is_nobodys(front: Front) -> None:
    pair = front.connect()
    certificate_of(front, pair, wish(1))
    front.journal.remove_parts(before=front.now + YEAR, now=front.now)
    front.journal.commit()
    assert_refused(front.ask(pair, wish(2)), "key-in-use")


def test_of_two_accounts_that_ask_together_the_first_gets_the_key(front: Front) -> None:
    pair = front.connect()
    for request in (wish(1, rsa(0, 1)), wish(2, rsa(0, 1), account="bob")):
        pair.client.submit(request)
    front.settle()
    log, refusal = sorted(front.answers(pair), key=lambda each: isinstance(each, RequestRefused))
    assert isinstance(log, LogReceived)
    assert_refused(refusal, "key-in-use")


# Keys that are compared with all others first.


def test_a_key_is_compared_once(front: Front) -> None:
    pair = front.connect()
    ask_without_verdict(front, pair, wish(1, rsa(0, 1)))
    assert kinds(front) == []
    front.settle()
    assert isinstance(front.answers(pair)[0], LogReceived)
    front.examinations.clear()
    pair.client.submit(wish(2, rsa(0, 1)))
    front.carry()
    front.deliver(front.worker.carry_out(front.tasks.popleft()))
    assert (list(front.examinations), kinds(front)) == ([], ["intent", "intent"])


def test_a_key_that_shares_a_prime_is_refused(front: Front) -> None:
    pair = front.connect()
    certificate_of(front, pair, wish(1, rsa(0, 1)))
    refusal = assert_refused(front.ask(pair, wish(2, rsa(1, 2), account="bob")), "key-shared-factor")
    assert "Make a new key" in refusal.message
    assert "alice" not in refusal.message
    # The first one is worth no more than the second.
    assert_refused(front.ask(pair, wish(3, rsa(0, 1))), "key-shared-factor")
    # What was signed is given out again all the same: it is in the world.
    log_of(front, pair, wish(1, rsa(0, 1)))


def test_a_request_that_comes_twice_while_its_key_is_compared_is_decided_once(front: Front) -> None:
    first, second = front.connect(), front.connect()
    ask_without_verdict(front, first, wish(1, rsa(0, 1)))
    assert_failed(front.ask(second, wish(1, rsa(0, 1))), "busy")
    assert isinstance(front.answers(first)[0], LogReceived)
    assert kinds(front) == ["intent"]


def test_a_client_that_goes_away_meanwhile_may_come_again(front: Front) -> None:
    gone = front.connect()
    ask_without_verdict(front, gone, wish(1, rsa(0, 1)))
    front.vanish(gone)
    front.settle()
    assert kinds(front) == []
    log_of(front, front.connect(), wish(1, rsa(0, 1)))


def test_a_veto_meanwhile_is_the_end_of_it(front: Front) -> None:
    pair = front.connect()
    handle = ask_without_verdict(front, pair, wish(1, rsa(0, 1)))
    pair.client.abandon(handle, "changed my mind")
    front.settle()
    (answer,) = front.answers(pair)
    assert isinstance(answer, RequestAbandoned)
    assert (answer.index, kinds(front)) == (None, [])


def test_what_comes_meanwhile_counts(front: Front) -> None:
    pair = front.connect()
    ask_without_verdict(front, pair, wish(1, rsa(0, 1)))
    front.obstacle = Obstacle(code="disk-full", message="no room")
    front.settle()
    assert_failed(front.answers(pair)[0], "disk-full")
    assert kinds(front) == []


def test_what_was_decided_too_long_ago_is_decided_anew(front: Front) -> None:
    pair = front.connect()
    ask_without_verdict(front, pair, wish(1, rsa(0, 1)))
    front.clock += 61
    front.examine()
    assert (len(front.tasks), kinds(front)) == (1, [])
    front.settle()
    assert isinstance(front.answers(pair)[0], LogReceived)
    # Nobody decides for who is not there any more.
    gone = front.connect()
    ask_without_verdict(front, gone, wish(2, rsa(2, 3)))
    front.vanish(gone)
    front.clock += 61
    front.examine()
    assert (list(front.tasks), kinds(front)) == ([], ["intent"])


def test_what_is_no_certificate_is_the_signers_own_fault(front: Front) -> None:
    pair = front.connect()
    pair.client.submit(wish(1))
    front.carry()
    (task,) = front.tasks
    front.tasks.clear()
    front.deliver(
        Decided(
            task=task.task,
            signing_ca=front.authority.name,
            serial_number=b"1" * 16,
            algorithm=b"",
            tbs_certificate=b"?",
        )
    )
    assert_failed(front.answers(pair)[0], "internal")
    assert kinds(front) == []
