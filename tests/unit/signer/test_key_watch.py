"""What the signer knows of its keys: which cannot be used now, and when they are tried again."""

from __future__ import annotations

import itertools

import pytest

from cassiopeia.signer.key_watch import KeyWatch
from cassiopeia.signer.keystore.token_places import token_busy
from cassiopeia.signer.tasks import (
    MISTRUSTED,
    Deferred,
    LackingKey,
    Mistrusted,
    Proved,
    Sign,
    Signed,
    Task,
    TryKey,
    Usable,
)

A, B = "unassured_2026_2", "unassured_2026_3"
AWAY = "the token is away"


class Watched:
    def __init__(self) -> None:
        self.now = 0.0
        self.tasks: list[Task] = []
        self.heard: list[tuple[str, ...]] = []
        self.numbers = itertools.count(1)
        self.watch = KeyWatch(
            submit=self.tasks.append,
            next_task=lambda: next(self.numbers),
            mistrusted=lambda *said: self.heard.append(("mistrusted", *said)),
            lost=lambda name: self.heard.append(("lost", name)),
            regained=lambda name: self.heard.append(("regained", name)),
            clock=lambda: self.now,
        )

    def sign(self, name: str = A) -> int:
        task = next(self.numbers)
        self.watch.submit(Sign(task=task, signing_ca=name, algorithm=b"", octets=b""))
        return task

    def fails(self, code: str = "token-away", message: str = AWAY) -> None:
        assert not self.watch.delivered(deferred(self.sign(), code, message))

    def tries(self) -> list[int]:
        """What is tried now."""
        self.tasks.clear()
        self.watch.look()
        assert all(isinstance(each, TryKey) and each.signing_ca == A for each in self.tasks)
        return [each.task for each in self.tasks]


def deferred(task: int, code: str = "token-away", message: str = AWAY) -> Deferred:
    return Deferred(task=task, code=code, message=message, retry_after_s=5)


def mistrusted(task: int) -> Mistrusted:
    return Mistrusted(task=task, signing_ca=A, signing="gnutls", verifying="openssl", message="it is wrong")


def test_a_key_that_is_away_is_tried_every_few_seconds_until_it_is_there() -> None:
    made = Watched()
    made.fails()
    assert made.watch.reasons == {A: AWAY}
    assert made.watch.idle[A].code == "key-away"
    assert made.watch.is_away(A)
    assert not made.watch.is_away(B)
    assert made.tries() == []

    made.now = 5.0
    (first,) = made.tries()
    assert made.tries() == []  # one at a time
    assert made.watch.delivered(deferred(first))
    assert made.tries() == []

    made.now = 10.0
    (second,) = made.tries()
    assert made.watch.delivered(Usable(task=second))
    assert made.watch.reasons == {}
    assert made.heard == [("lost", A), ("regained", A)]
    made.now = 20.0
    assert made.tries() == []


def test_a_signature_shows_it_too_and_is_for_others() -> None:
    made = Watched()
    task = made.sign()
    made.fails()
    assert not made.watch.delivered(Signed(task=task, signature=b"s"))
    assert made.heard == [("lost", A), ("regained", A)]
    assert not made.watch.delivered(Signed(task=made.sign(), signature=b"s"))
    assert len(made.heard) == 2


def test_what_ends_workers_is_tried_ever_less_often() -> None:
    made = Watched()
    for _ in range(50):  # as many as waited for it
        made.fails("worker-died", "it ends workers")
    delays = []
    for _ in range(10):
        began = made.now
        while not (tries := made.tries()):
            made.now += 1.0
        delays.append(made.now - began)
        made.watch.delivered(deferred(tries[0], "worker-died", "it ends workers"))
    assert delays == [15, 30, 60, 120, 240, 480, 600, 600, 600, 600]


@pytest.mark.parametrize("code", ["busy", "unknown-ca", token_busy("").code])
def test_what_says_nothing_of_the_key_means_nothing(code: str) -> None:
    made = Watched()
    made.fails(code)
    assert made.watch.idle == {}
    assert made.heard == []


def test_other_outcomes_mean_nothing() -> None:
    made = Watched()
    for outcome in (Proved(task=1000), Signed(task=1001, signature=b"s"), Proved(task=made.sign())):
        assert not made.watch.delivered(outcome)
    assert made.heard == []


def test_what_changes_is_said_and_tried_as_before(caplog: pytest.LogCaptureFixture) -> None:
    made = Watched()
    made.fails()
    made.fails()
    made.now = 5.0
    (task,) = made.tries()
    made.fails("pin-refused", "the PIN is wrong")
    assert made.tries() == []  # it is being tried
    made.watch.delivered(deferred(task, "pin-refused", "the PIN is wrong"))
    assert made.watch.reasons == {A: "the PIN is wrong"}
    assert caplog.text.count("cannot be used") == 2
    assert made.heard == [("lost", A)]


def test_what_ends_workers_when_it_signs_is_tried_ever_less_often_though_it_can_be_proved() -> None:
    made = Watched()
    delays = []
    for _ in range(8):
        made.fails("worker-died", "it ends workers")
        began = made.now
        while not (tries := made.tries()):
            made.now += 1.0
        delays.append(made.now - began)
        made.watch.delivered(Usable(task=tries[0]))
        assert not made.watch.is_away(A)
    assert delays == [15, 30, 60, 120, 240, 480, 600, 600]
    # It has signed: what comes later is another matter.
    made.watch.delivered(Signed(task=made.sign(), signature=b"s"))
    made.fails("worker-died", "it ends workers")
    made.now += 15.0
    assert made.tries()


def test_a_wrong_signature_is_no_lack_of_a_key() -> None:
    made = Watched()
    made.fails()
    assert not made.watch.delivered(mistrusted(made.sign()))
    assert made.watch.idle == {}
    assert made.heard == [("lost", A), ("regained", A), ("mistrusted", A, "it is wrong")]


def test_a_key_that_is_proved_wrong_costs_a_worker_ever_less_often() -> None:
    made = Watched()
    made.watch.began([LackingKey(signing_ca=A, code=MISTRUSTED, message="it is wrong")])
    delays = []
    for _ in range(8):
        began = made.now
        while not (tries := made.tries()):
            made.now += 1.0
        delays.append(made.now - began)
        assert made.watch.delivered(mistrusted(tries[0]))
        # The worker that has taken its place.
        made.watch.began([LackingKey(signing_ca=A, code=MISTRUSTED, message="it is wrong")])
    assert delays == [15, 30, 60, 120, 240, 480, 600, 600]
    assert set(made.heard) == {("lost", A), ("mistrusted", A, "it is wrong")}


def test_a_sub_ca_that_has_gone_is_tried_no_more() -> None:
    made = Watched()
    made.fails()
    made.now = 5.0
    (task,) = made.tries()
    assert made.watch.delivered(deferred(task, "unknown-ca", "it has gone"))
    made.now = 100.0
    assert made.tries() == []
    assert made.heard == [("lost", A)]


def test_workers_say_what_they_lack_when_they_begin() -> None:
    made = Watched()
    made.watch.began(
        [
            LackingKey(signing_ca=A, code="token-away", message=AWAY),
            LackingKey(signing_ca=B, code=MISTRUSTED, message="it is wrong"),
        ]
    )
    assert made.watch.reasons == {A: AWAY, B: "it is wrong"}
    assert made.heard == [("lost", A), ("mistrusted", B, "it is wrong"), ("lost", B)]


def test_a_worker_that_found_no_place_at_the_token_takes_no_key_from_the_others() -> None:
    made = Watched()
    made.watch.began([LackingKey(signing_ca=A, code=token_busy("").code, message="all places are taken")])
    assert made.watch.reasons == {}
    assert made.heard == []


def test_other_workers_lack_other_keys() -> None:
    made = Watched()
    made.fails()
    made.now = 5.0
    (task,) = made.tries()
    made.heard.clear()
    made.watch.follow([A, B], [LackingKey(signing_ca=B, code="token-away", message=AWAY)])
    assert made.watch.reasons == {B: AWAY}
    assert made.heard == [("lost", B), ("regained", A)]
    # What was tried by the workers before them says nothing any more.
    assert made.watch.delivered(Usable(task=task))
    made.heard.clear()
    made.watch.follow([A], [])
    assert made.watch.reasons == {}
    assert made.heard == []  # it has gone
