"""Keys that share a prime with a later one: what is known of them outlives a restart, and a flood of others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.issuing import certificate_of, wanted
from tests.support.known_keys import certification_request, modulus, rsa_key
from tests.support.signer import Front

from cassiopeia.core.key_identity import KeyIdentity
from cassiopeia.core.request import CertificateRequest
from cassiopeia.protocol.events import RequestRefused
from cassiopeia.signer import key_history
from cassiopeia.signer.key_history import KeyHistory


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path)
    yield made
    made.journal.close()


def wish(number: int, first: int, second: int, account: str = "alice") -> CertificateRequest:
    proof = certification_request(rsa_key(first, second))
    return wanted(request_id=bytes([number]) * 32, key_proof=proof, account=account)


def refused(front: Front, request: CertificateRequest) -> RequestRefused:
    answer = front.ask(front.connect(), request)
    assert isinstance(answer, RequestRefused)
    return answer


def test_a_certified_key_that_a_refused_one_has_exposed_stays_exposed_after_a_restart(front: Front) -> None:
    assert certificate_of(front, front.connect(), wish(1, 0, 1))
    assert list(front.keys.alarms()) == []
    assert refused(front, wish(2, 1, 2, account="bob")).code == "key-shared-factor"
    (alarm,) = front.keys.alarms()
    assert "with the reason keyCompromise" in alarm
    front.restart()
    assert list(front.keys.alarms()) == [alarm]
    assert refused(front, wish(3, 0, 1)).code == "key-shared-factor"
    # The refused key is in no journal; it is found out again.
    assert refused(front, wish(4, 1, 2, account="bob")).code == "key-shared-factor"
    assert list(front.keys.alarms()) == [alarm]


def test_two_worthless_keys_expose_nobody_elses(front: Front) -> None:
    pair = front.connect()
    for request in (wish(1, 0, 1), wish(2, 1, 2)):
        pair.client.submit(request)
    front.settle()
    answers = front.answers(pair)
    assert [each.code for each in answers if isinstance(each, RequestRefused)] == ["key-shared-factor"] * 2
    assert front.journal.index.exposed_keys() == []
    front.restart()
    assert list(front.keys.alarms()) == []


def test_a_flood_of_worthless_keys_hides_none_that_matters(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_history, "_MAXIMUM_EXPOSED", 3)
    assert certificate_of(front, front.connect(), wish(1, 0, 1))
    own = modulus(6, 7)
    keys = KeyHistory(front.journal.index, own={own: "unassured_2026_1"})
    keys.note(own, [modulus(0, 1)])
    before = list(keys.alarms())
    assert len(before) == 2
    for number in range(9):
        keys.note(bytes([1, number]), [bytes([2, number])])
    assert list(keys.alarms()) == before
    assert keys.exposed_by(KeyIdentity(digest=hashlib.sha256(own).digest())) == tuple(
        sorted(hashlib.sha256(each).digest() for each in (own, modulus(0, 1)))
    )


def test_where_all_matter_the_oldest_is_forgotten(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_history, "_MAXIMUM_EXPOSED", 2)
    keys = KeyHistory(front.journal.index, own={bytes([each]): f"sub-CA {each}" for each in range(1, 5)})
    keys.note(b"\1", [b"\2"])
    keys.note(b"\3", [b"\4"])
    assert ["sub-CA 3" in each or "sub-CA 4" in each for each in keys.alarms()] == [True, True]
