from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from tests.support.validating import ACCOUNT, HOUR, NAME, Site

from cassiopeia.config import CheckProgram
from cassiopeia.core.evidence import read_observation
from cassiopeia.errors import Unavailable
from cassiopeia.store.evidence import Evidence, EvidenceDelay
from cassiopeia.store.evidence import Fact as StoredFact
from cassiopeia.validation.checks import Checks, Fact, Finding
from cassiopeia.validation.choice import Held
from cassiopeia.validation.key import load_validator_key
from cassiopeia.validation.renewal import Renewal

FACT = Fact(kind="dns-control", value=NAME, account=ACCOUNT)
PROGRAM = CheckProgram(kinds=("dns-control",), command=("check",), timeout_s=60)


class Programs(Checks):
    """Answers what a test tells it to."""

    def __init__(self) -> None:
        self.submitted: list[Fact] = []
        self.waiting: set[Fact] = set()
        self.found: list[Finding] = []

    def submit(self, fact: Fact, program: CheckProgram) -> None:
        assert program == PROGRAM
        self.submitted.append(fact)
        self.waiting.add(fact)

    def is_under_way(self, fact: Fact) -> bool:
        return fact in self.waiting

    def answer(self, *, method: str = "", reason: str = "") -> None:
        self.waiting.discard(FACT)
        self.found.append(Finding(fact=FACT, method=method, reason=reason))

    def pump(self) -> list[Finding]:
        found, self.found = self.found, []
        return found


class Renewing:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.programs = Programs()
        self.time = 0.0
        self.renewal = Renewal(
            config=dataclasses.replace(site.config, checks=(PROGRAM,)),
            store=site.store,
            key=load_validator_key(site.config.key),
            checks=self.programs,
            clock=lambda: self.time,
        )

    def look(self, kind: str = "dns-control") -> tuple[str, float]:
        octets = self.site.observe(kind, row="domain:17")
        held = Held(observation=read_observation(octets), octets=octets)
        return self.renewal.look_again(held, now=self.site.now)

    def pump(self, *, latest: dt.datetime | None = None) -> None:
        self.renewal.pump(now=self.site.now, latest=latest or self.site.now)

    def observations(self) -> list[Any]:
        fact = StoredFact(account=ACCOUNT, kind="dns-control", value=NAME)
        stored = self.site.store.evidence.observations([fact], since=self.site.now - 24 * HOUR)[fact]
        return [read_observation(each.octets) for each in stored]


@pytest.fixture
def renewing(site: Site) -> Renewing:
    return Renewing(site)


def test_what_no_program_sees_is_stated_anew(renewing: Renewing) -> None:
    said, delay_s = renewing.look("caa-permits")

    assert said == "nothing here looks again by itself, so that it has to be stated anew"
    assert delay_s == 60
    assert renewing.programs.submitted == []


def test_what_was_seen_again_is_signed_and_who_waits_goes_on(renewing: Renewing) -> None:
    site = renewing.site
    site.submit(1)
    [waiting] = site.store.evidence.to_attest(1, [], profiles=["0004-server"], limit=1, now=site.now)
    site.store.evidence.postpone([EvidenceDelay(number=waiting.number, reason="", delay_s=3600)], now=site.now)
    assert renewing.look() == ("it is being looked at again", 30.0)
    assert renewing.look() == ("it is being looked at again", 30.0)
    site.now += dt.timedelta(seconds=20)
    renewing.programs.answer(method="http")
    renewing.pump()

    assert renewing.programs.submitted == [FACT]
    newest = renewing.observations()[0]
    assert (newest.method, newest.table, newest.primary_key) == ("http", "domain", "17")
    assert newest.observed_at == (site.now - dt.timedelta(seconds=20)).replace(microsecond=0)
    assert newest.validator == site.key_id
    assert site.store.evidence.to_attest(1, [], profiles=["0004-server"], limit=1, now=site.now)


def test_it_is_dated_by_the_clock_that_is_behind(renewing: Renewing) -> None:
    renewing.look()
    renewing.programs.answer(method="dns")
    renewing.pump(latest=renewing.site.now - HOUR / 2)

    assert renewing.observations()[0].observed_at == (renewing.site.now - HOUR / 2).replace(microsecond=0)


def test_one_that_was_just_seen_is_left_alone(renewing: Renewing) -> None:
    renewing.look()
    renewing.programs.answer(method="dns")
    renewing.pump()

    assert renewing.look() == ("it was seen again just now; next look in 60 seconds", 60.0)
    renewing.time = 61
    renewing.look()
    assert len(renewing.programs.submitted) == 2


def test_what_was_not_seen_is_looked_at_later_and_later(renewing: Renewing, caplog: pytest.LogCaptureFixture) -> None:
    for expected in (60, 300, 900, 3600, 3600):
        said, _ = renewing.look()
        assert said.startswith("it is being looked at again")
        renewing.programs.answer(reason="no TXT record")
        renewing.pump()
        assert renewing.look() == (
            f"it could not be seen again: no TXT record; next look in {expected} seconds",
            float(expected),
        )
        renewing.time += expected
    assert renewing.look()[0] == "it is being looked at again (the last time: no TXT record)"
    assert f"dns-control {NAME} for momo: not seen: no TXT record; next look in 300 seconds" in caplog.text
    assert {each.method for each in renewing.observations()} == {"stated"}
    renewing.programs.answer(method="dns")
    renewing.pump()
    renewing.time += 60
    assert renewing.look()[0] == "it is being looked at again"


def test_a_store_that_is_away_loses_nothing(renewing: Renewing, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> int:
        raise Unavailable("away")

    renewing.look()
    renewing.programs.answer(method="dns")
    for name in ("put_observations", "hurry"):
        with monkeypatch.context() as patch:
            patch.setattr(Evidence, name, away)
            with pytest.raises(Unavailable):
                renewing.pump()
    renewing.pump()

    assert [each.method for each in renewing.observations()] == ["dns", "stated"]


def test_memory_is_bounded(renewing: Renewing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cassiopeia.validation.renewal._REMEMBERED", 1)
    renewing.look()
    octets = renewing.site.observe("dns-control", "b.example.org")
    renewing.renewal.look_again(Held(observation=read_observation(octets), octets=octets), now=renewing.site.now)
    renewing.programs.answer(method="dns")
    renewing.pump()

    assert {each.method for each in renewing.observations()} == {"stated"}
