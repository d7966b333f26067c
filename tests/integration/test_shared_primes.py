"""A signer with its real workers and its real examiner, and RSA keys that share a prime."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import alt_names, server_request
from tests.support.known_keys import certification_request, rsa_key
from tests.support.running_signer import RunningSigner

from cassiopeia.core.request import CertificateRequest


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningSigner]:
    made = RunningSigner(tmp_path)
    try:
        made.run_until(lambda: made.ready)
        yield made
    finally:
        made.stop()


def wish(number: int, first: int, second: int, account: str = "alice") -> CertificateRequest:
    return server_request(
        account=account,
        request_id=bytes([number]) * 32,
        attributes=(),
        alt_names=alt_names(f"DNS,n{number}.example.org"),
        key_proof=certification_request(rsa_key(first, second)),
    )


def codes(running: RunningSigner, *requests: CertificateRequest) -> list[str]:
    """Ask for all of them at once: what came of each, "issued" or the code of its refusal."""
    handles = [running.submit(each) for each in requests]
    running.run_until(lambda: running.answered >= set(handles))
    assert not running.failed
    return ["issued" if each in running.issued else running.refused[each].code for each in handles]


def examiner(running: RunningSigner) -> int:
    process_id = running.signer._examiner.process_id
    assert process_id is not None
    return process_id


def test_the_second_of_two_keys_is_refused_and_the_first_alarms(running: RunningSigner) -> None:
    assert codes(running, wish(1, 0, 1)) == ["issued"]
    assert codes(running, wish(2, 1, 2, "bob"), wish(3, 3, 4)) == ["key-shared-factor", "issued"]
    (refusal,) = running.refused.values()
    assert "make a new key" in refusal.message.lower()
    assert "alice" not in refusal.message
    (serial,) = (each.serial_number for each in [running.signer._journal.index.find_request(b"\1" * 32)] if each)
    (alarm,) = [each for each in running.signer._alarms() if "shares a prime factor" in each]
    assert serial.hex() in alarm


def test_two_that_come_together_are_never_both_certified(running: RunningSigner) -> None:
    """In one batch both are refused; one behind the other the second is."""
    answers = codes(running, wish(1, 0, 1), wish(2, 1, 2, "bob"), wish(3, 2, 3, "carol"), wish(4, 5, 6))
    assert answers[3] == "issued"
    assert answers[:3].count("issued") <= 1
    assert set(answers[:3]) <= {"issued", "key-shared-factor"}


def test_the_same_key_goes_to_the_first_account_alone_and_as_often_as_it_wants(running: RunningSigner) -> None:
    answers = codes(running, wish(1, 0, 1), wish(2, 0, 1), wish(3, 0, 1, "bob"), wish(4, 0, 1, "bob"))
    assert sorted(answers) == ["issued", "issued", "key-in-use", "key-in-use"]
    owner = "alice" if answers[0] == "issued" else "bob"
    assert codes(running, wish(5, 0, 1, owner), wish(6, 0, 1, "carol")) == ["issued", "key-in-use"]


def test_keys_wait_for_an_examiner_that_was_killed(running: RunningSigner) -> None:
    assert codes(running, wish(1, 0, 1)) == ["issued"]
    killed = examiner(running)
    # It holds what is handed to it, and dies with that.
    os.kill(killed, signal.SIGSTOP)
    handles = [running.submit(each) for each in (wish(2, 1, 2, "bob"), wish(3, 3, 4))]
    running.run_until(lambda: bool(running.signer._examiner._batch))
    os.kill(killed, signal.SIGKILL)
    running.run_until(lambda: running.answered >= set(handles))
    assert (set(running.refused), handles[1] in running.issued) == ({handles[0]}, True)
    assert examiner(running) != killed


def test_a_signer_that_starts_again_knows_the_keys_of_its_journal(running: RunningSigner) -> None:
    assert codes(running, wish(1, 0, 1), wish(2, 2, 3)) == ["issued", "issued"]
    running.restart()
    answers = codes(running, wish(3, 3, 4), wish(4, 0, 1), wish(5, 0, 1, "bob"), wish(6, 6, 7))
    assert answers == ["key-shared-factor", "issued", "key-in-use", "issued"]
