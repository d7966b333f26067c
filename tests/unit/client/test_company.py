"""Suspects and others in turns; the clock is the test's."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.client.company import Company, Next

TURN_S = 2.0


class Client:
    """A client that works off suspects and batches of others, each of which takes its time."""

    def __init__(self, *, suspects: int, others: bool, suspect_s: float = 0.1, batch_s: float = 0.1) -> None:
        self.now = 0.0
        self.suspects = deque(range(suspects))
        self.others = others
        self.suspect_s = suspect_s
        self.batch_s = batch_s
        self.under_way: tuple[str, int] | None = None
        self.done: list[tuple[str, float]] = []
        self.company = Company(suspect_waits=lambda: bool(self.suspects), clock=lambda: self.now)

    def choose(self) -> Next:
        return self.company.choose(under_way=self.under_way is not None, holds=lambda _: self.under_way is not None)

    def turn(self) -> None:
        match self.choose():
            case Next.SUSPECT if self.suspects:
                self.company.took(self.suspects[0])
                self._work("suspect", self.suspect_s)
                self.suspects.popleft()
            case Next.SUSPECT:
                self.company.found_no_suspect()
            case Next.MANY if self.others:
                self._work("others", self.batch_s)
            case Next.MANY:
                self.company.found_nothing()
                self.now += 0.2
            case Next.NOTHING:
                raise AssertionError("nothing is under way")

    def _work(self, what: str, seconds: float) -> None:
        self.under_way = (what, 0)
        if what == "suspect":
            assert self.choose() is Next.NOTHING
        self.now += seconds
        self.under_way = None
        self.done.append((what, self.now))

    def run(self, *, seconds: float) -> None:
        while self.now < seconds:
            self.turn()

    def spent(self, what: str, each_s: float) -> float:
        return each_s * sum(1 for name, _ in self.done if name == what)


def test_without_suspects_there_is_no_pause() -> None:
    client = Client(suspects=0, others=True)
    client.run(seconds=9.95)
    assert len(client.done) == 100


def test_a_client_that_starts_serves_the_others_first() -> None:
    """The suspect may have killed the one before it."""
    client = Client(suspects=1, others=True)
    client.run(seconds=5)
    assert [name for name, _ in client.done[:20]] == ["others"] * 20
    assert "suspect" in [name for name, _ in client.done]


def test_a_queue_that_is_served_otherwise_does_not_keep_suspects_waiting() -> None:
    client = Client(suspects=20, others=False)
    client.run(seconds=4)
    assert not client.suspects


def test_suspects_wait_until_everything_else_is_answered() -> None:
    client = Client(suspects=1, others=True)
    client.now = TURN_S
    client.under_way = ("others", 1)
    assert client.choose() is Next.NOTHING
    client.under_way = None
    assert client.choose() is Next.SUSPECT


def test_a_long_answer_is_not_waited_for() -> None:
    """A full CRL on a slow line: certificates go on beside it."""
    client = Client(suspects=1, others=True)
    client.now = TURN_S
    holds = [client.company.choose(under_way=True, holds=lambda _: False, long=True), client.company.waits]
    assert holds == [Next.MANY, False]
    holds = [client.company.choose(under_way=True, holds=lambda _: False), client.company.waits]
    assert holds == [Next.NOTHING, True]
    holds = [client.company.choose(under_way=False, holds=lambda _: False), client.company.waits]
    assert holds == [Next.SUSPECT, False]


def test_nothing_goes_out_while_a_suspect_is_in_hand_sent_or_not() -> None:
    client = Client(suspects=1, others=True)
    client.now = TURN_S
    assert client.choose() is Next.SUSPECT
    client.company.took(7)
    alone = [client.company.alone]
    assert client.company.choose(under_way=False, holds=lambda job: job == 7) is Next.NOTHING
    assert client.company.choose(under_way=True, holds=lambda _: False) is Next.NOTHING
    client.suspects.clear()
    assert client.company.choose(under_way=False, holds=lambda _: False) is Next.SUSPECT
    client.company.found_no_suspect()
    alone.append(client.company.alone)
    assert alone == [7, None]
    assert client.choose() is Next.MANY


def test_an_innocent_among_200_suspects_gets_through_while_new_work_never_ends() -> None:
    """As after `kill -9` of a client with its window full: each takes 20 ms alone."""
    client = Client(suspects=200, others=True, suspect_s=0.02)
    client.run(seconds=60)
    assert not client.suspects
    last = max(moment for name, moment in client.done if name == "suspect")
    assert last < 2 * 200 * 0.02 + 3 * TURN_S


@given(st.integers(1, 300), st.floats(0.01, 30), st.floats(0.01, 5))
def test_each_gets_half_the_time_at_least(suspects: int, suspect_s: float, batch_s: float) -> None:
    client = Client(suspects=suspects, others=True, suspect_s=suspect_s, batch_s=batch_s)
    client.run(seconds=300)
    grain = TURN_S + suspect_s + batch_s
    assert client.spent("others", batch_s) >= client.spent("suspect", suspect_s) - grain
    if client.suspects:
        assert client.spent("suspect", suspect_s) >= 300 * TURN_S / (2 * TURN_S + 2 * batch_s + 0.5) / 2 - grain
