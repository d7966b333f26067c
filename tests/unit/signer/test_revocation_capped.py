"""Revocations over the cap: none is refused, the longest list comes to its end, and clients hear how far it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.conversations import Pair
from tests.support.issuing import assert_failed
from tests.support.revoking import Copy, kinds, renew, revoke
from tests.support.signer import Front

from cassiopeia.journal.order import CAPS, RaiseCap
from cassiopeia.protocol.events import OrderObeyed, RequestFailed, RequestRefused

SERIALS = [(1 << 120) + number for number in range(1, 8)]
HOUR = dt.timedelta(minutes=61)


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path, limits=dict.fromkeys(CAPS, 100) | {"revocations": 3, "refusals": 1})
    for serial in SERIALS:
        made.record_issued(serial)
    yield made
    made.journal.close()


@pytest.fixture
def pair(front: Front) -> Pair:
    return front.connect()


@pytest.fixture
def copy(front: Front) -> Copy:
    return Copy(front)


def test_what_there_is_room_for_is_revoked_at_once(front: Front, pair: Pair, copy: Copy) -> None:
    assert copy.patch(revoke(front, pair, copy.request(*SERIALS[:3]))) == SERIALS[:3]
    answer = assert_failed(revoke(front, pair, copy.request(SERIALS[3])), "cap-revocations")
    assert "these wait" in answer.message
    assert answer.retry_after_s > 3000
    # What is revoked already needs no room.
    assert copy.patch(revoke(front, pair, copy.request(SERIALS[1]))) == SERIALS[:3]
    front.now += dt.timedelta(seconds=answer.retry_after_s)
    assert copy.patch(revoke(front, pair, copy.request(SERIALS[3]))) == SERIALS[:4]


def test_a_list_longer_than_the_cap_comes_to_its_end(front: Front, pair: Pair, copy: Copy) -> None:
    """As from a client that cannot make it shorter: each time a part of it is done, and in the end all of it."""
    request = copy.request(*SERIALS, request_id=b"r" * 32)
    for done in (3, 6):
        answer = revoke(front, pair, request)
        assert isinstance(answer, RequestFailed)
        assert f"3 of these are revoked, and {len(SERIALS) - done} wait" in answer.message
        assert front.revocation.lists[0].revoked == done
        front.now += HOUR
    assert copy.patch(revoke(front, pair, request)) == SERIALS
    # Its id has one answer now, which a retry gets again.
    front.restart()
    pair = front.connect()
    assert Copy(front).patch(revoke(front, pair, request)) == SERIALS


def test_the_crl_lists_a_part_that_was_taken_without_being_asked_again(front: Front, pair: Pair, copy: Copy) -> None:
    revoke(front, pair, copy.request(*SERIALS))
    assert kinds(front) == ["revocation", "crl"]
    assert copy.patch(revoke(front, pair, copy.request())) == SERIALS[:3]


def test_the_cap_holds_after_a_restart_and_is_raised_by_an_order(front: Front, pair: Pair, copy: Copy) -> None:
    revoke(front, pair, copy.request(*SERIALS[:3]))
    front.restart()
    pair = front.connect()
    assert_failed(revoke(front, pair, copy.request(SERIALS[3])), "cap-revocations")
    raised = RaiseCap(cap="revocations", limit=6, hours=1)
    assert isinstance(front.tell(pair, raised, 0), RequestRefused)
    assert isinstance(front.tell(pair, raised), OrderObeyed)
    revoke(front, pair, copy.request(*SERIALS[3:6]))
    assert front.revocation.lists[0].revoked == 6
    assert_failed(revoke(front, pair, copy.request(SERIALS[6])), "cap-revocations")


def test_crls_go_on_when_the_cap_is_reached(front: Front, pair: Pair, copy: Copy) -> None:
    revoke(front, pair, copy.request(*SERIALS))
    front.now += dt.timedelta(hours=25)
    renew(front)
    assert kinds(front)[-1] == "crl"


def test_a_flood_of_senseless_revocations_is_not_written_down(front: Front, pair: Pair, copy: Copy) -> None:
    first = revoke(front, pair, copy.request(5))
    assert isinstance(first, RequestRefused)
    second = assert_failed(revoke(front, pair, copy.request(6)), "cap-refusals")
    assert "never issued" in second.message
    assert kinds(front) == ["refusal"]
