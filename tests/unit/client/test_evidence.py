"""When the signer's word is asked for, and which nonces hold by it; the signer's end of the session in hand."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from tests.support.authorities import PROFILES
from tests.support.conversations import joined
from tests.support.journal_keys import JOURNAL_KEY, JOURNAL_PUBLIC_KEY
from tests.support.store import NONCE, NOW, after, attest, certificate_request, request_id, submit, to_attest

from cassiopeia.client.evidence import LIFE_S, NonceKeeper, say_what_is_demanded
from cassiopeia.config import load_profiles
from cassiopeia.core import structure
from cassiopeia.errors import Refused, Unavailable
from cassiopeia.journal.timestamp import statement
from cassiopeia.protocol.events import RequestFailed, StatusReceived, TimestampRequested
from cassiopeia.protocol.payload import Timestamp
from cassiopeia.store.database import Store

SIGNER_ID = 1
FIRST, SECOND, THIRD = b"1" * 16, b"2" * 16, b"3" * 16


def timestamp(**changes: Any) -> Timestamp:
    values: dict[str, Any] = {
        "time": NOW.replace(microsecond=0),
        "signer_id": SIGNER_ID,
        "boot_id": b"b" * 16,
        "boot_seconds": 1000,
        "nonce": FIRST,
        "head": b"head",
    }
    unsigned = Timestamp(**(values | changes))
    return replace(unsigned, signature=JOURNAL_KEY.sign(statement(unsigned)))


class Keeper:
    """A keeper on a real store."""

    def __init__(self, store: Store) -> None:
        self.store, self.seconds = store, 100.0
        self.keeper = NonceKeeper(store=store, journal_keys=[JOURNAL_PUBLIC_KEY], clock=lambda: self.seconds)
        self.pair = joined()

    def asked(self) -> int | None:
        """The handle of the question that goes out now, if any does."""
        self.keeper.send(self.pair.client, now=NOW)
        events = list(self.pair.to_signer())
        assert all(isinstance(event, TimestampRequested) for event in events)
        return events[0].handle if events else None  # type: ignore[union-attr] # as just asserted

    def say(self, word: Timestamp | None = None, **changes: Any) -> None:
        """Ask, and answer."""
        handle = self.asked()
        assert handle is not None
        self.pair.signer.send_timestamp(handle, word or timestamp(**changes))
        self.hear()

    def valid(self) -> tuple[bytes, ...]:
        return self.keeper.valid

    def hear(self) -> None:
        for event in self.pair.to_client():
            assert self.keeper.receive(event, now=after(5))

    def questions(self, seconds: float) -> int:
        """How often the signer is asked within this time, if it goes on saying the same."""
        count = 0
        for _ in range(int(seconds)):
            self.seconds += 1
            handle = self.asked()
            if handle is not None:
                self.pair.signer.send_timestamp(handle, timestamp())
                self.hear()
                count += 1
        return count


@pytest.fixture
def keeper(store: Store) -> Keeper:
    return Keeper(store)


def test_the_signers_word_is_kept(keeper: Keeper) -> None:
    keeper.say()
    kept = keeper.store.orders.timestamp(SIGNER_ID)
    assert kept is not None
    assert structure.decode(Timestamp, kept.octets) == timestamp()
    assert kept.asked_at == NOW


def test_a_word_that_the_signer_has_not_signed_is_not_kept(keeper: Keeper, caplog: pytest.LogCaptureFixture) -> None:
    keeper.say(replace(timestamp(), time=NOW.replace(microsecond=0) + dt.timedelta(days=365)))
    assert keeper.store.orders.timestamp(SIGNER_ID) is None
    assert keeper.valid() == ()
    assert "is not believed: no known journal key" in caplog.text


def test_a_session_without_room_is_left_alone(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(keeper.pair.client), "capacity", property(lambda _: 0))
    assert keeper.asked() is None


def test_what_is_no_word_of_time_is_left_to_others(keeper: Keeper) -> None:
    assert not keeper.keeper.receive(StatusReceived(handle=99), now=NOW)
    assert not keeper.keeper.receive(RequestFailed(handle=99, code="busy", message="", retry_after_s=1), now=NOW)


@pytest.mark.parametrize("answer", ["refused", "failed"])
def test_a_question_without_an_answer_is_put_again(keeper: Keeper, answer: str) -> None:
    handle = keeper.asked()
    assert handle is not None
    if answer == "refused":
        keeper.pair.signer.send_refused(handle, Refused("no", code="no"))
    else:
        keeper.pair.signer.send_failed(handle, Unavailable("not yet"))
    keeper.hear()
    keeper.seconds += 30
    keeper.say()
    assert keeper.valid() == (FIRST,)


def test_it_is_asked_every_half_minute_and_often_while_the_next_nonce_is_due(keeper: Keeper) -> None:
    keeper.say()
    assert keeper.questions(240) == 8
    assert 25 <= keeper.questions(90) <= 35
    # A signer that keeps its nonces for longer is not asked for ever.
    assert keeper.questions(300) <= 12


def test_it_is_asked_at_once_after_an_order(keeper: Keeper) -> None:
    keeper.say()
    assert keeper.asked() is None
    keeper.keeper.hurry()
    assert keeper.asked() is not None


def test_evidence_that_does_not_hold_makes_the_nonces_doubtful(keeper: Keeper) -> None:
    keeper.say()
    keeper.seconds += 2
    sent_back = RequestFailed(handle=99, code="reattest", message="", retry_after_s=1)
    assert not keeper.keeper.receive(sent_back, now=NOW)
    assert keeper.valid() == ()
    keeper.say(nonce=SECOND)  # at once
    assert keeper.valid() == (SECOND,)
    # It has just said so: something else is wrong.
    for _ in range(100):
        assert not keeper.keeper.receive(sent_back, now=NOW)
    assert keeper.valid() == (SECOND,)
    assert keeper.asked() is None


def test_nothing_holds_before_the_signer_has_spoken(keeper: Keeper) -> None:
    assert keeper.valid() == ()
    keeper.say()
    assert keeper.valid() == (FIRST,)


def test_the_nonce_before_the_current_one_holds_for_a_while(keeper: Keeper) -> None:
    keeper.say()
    keeper.seconds += 30
    keeper.say(nonce=SECOND)
    assert keeper.valid() == (SECOND, FIRST)
    for seconds, expected in ((200, (SECOND, FIRST)), (60, (SECOND,))):
        keeper.seconds += seconds
        keeper.say(nonce=SECOND)
        assert keeper.valid() == expected
    keeper.seconds += 30
    keeper.say(nonce=THIRD)
    assert keeper.valid() == (THIRD, SECOND)


def test_nothing_holds_of_a_signer_that_has_fallen_silent(keeper: Keeper) -> None:
    keeper.say()
    keeper.seconds += LIFE_S
    assert keeper.valid() == ()


def test_a_new_session_knows_nothing_before_the_signer_has_spoken_and_then_what_it_knew(keeper: Keeper) -> None:
    keeper.say()
    keeper.seconds += 100
    keeper.keeper.hurry()
    keeper.say(nonce=SECOND)
    keeper.keeper.forget()
    assert keeper.valid() == ()
    keeper.pair = joined()
    keeper.say(nonce=SECOND)  # at once
    assert keeper.valid() == (SECOND, FIRST)


def test_what_held_before_a_long_silence_does_not_hold_behind_it(keeper: Keeper) -> None:
    """There may have been others in between."""
    keeper.say()
    keeper.keeper.forget()
    keeper.pair = joined()
    keeper.seconds += LIFE_S
    keeper.say(nonce=SECOND)
    assert keeper.valid() == (SECOND,)


def test_nothing_holds_that_an_earlier_boot_said(keeper: Keeper) -> None:
    keeper.say()
    keeper.keeper.forget()
    keeper.pair = joined()
    keeper.say(nonce=SECOND, boot_id=b"c" * 16)
    assert keeper.valid() == (SECOND,)


def test_what_was_attested_under_a_nonce_that_has_run_out_waits_anew(keeper: Keeper) -> None:
    keeper.store.evidence.demand({certificate_request().profile: True}, now=NOW)
    submit(keeper.store, 1)
    keeper.say(nonce=NONCE)
    attest(keeper.store)
    assert to_attest(keeper.store) == []
    keeper.keeper.forget()
    keeper.say(nonce=SECOND, boot_id=b"c" * 16)
    record = keeper.store.requests.find(request_id(1))
    assert record is not None
    assert record.awaits_evidence


def test_requests_wait_as_the_profiles_say(store: Store) -> None:
    for number, profile in enumerate(("0004-server", "9004-unproved-server", "")):
        wanted = certificate_request(profile=profile, ocsp_target_ca="" if profile else "ca")
        store.requests.submit(wanted, request_id=request_id(number), now=NOW)
    say_what_is_demanded(store, load_profiles(PROFILES).values(), now=NOW)
    waits = store.evidence.to_attest(1, [NONCE], profiles=["0004-server", "9004-unproved-server", ""], limit=9, now=NOW)
    assert [each.request.profile for each in waits] == ["0004-server", ""]
