"""The loop: one turn after the other, without a process around it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.validating import HOUR, NONCE, Site

from cassiopeia.config import CheckProgram
from cassiopeia.errors import Unavailable
from cassiopeia.store.orders import Orders
from cassiopeia.validation import service as module
from cassiopeia.validation.service import ValidatorService

PATIENCE_S = 60.0


@pytest.fixture
def make(site: Site) -> Iterator[Callable[..., ValidatorService]]:
    """The service of a site whose clock is the machine's."""
    made: list[ValidatorService] = []
    site.now = dt.datetime.now(dt.UTC)

    def start(**changes: Any) -> ValidatorService:
        made.append(ValidatorService(dataclasses.replace(site.config, **changes), site.store))
        return made[-1]

    yield start
    for each in made:
        each.close()


def until(service: ValidatorService, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        service.step(0.01)


def test_it_attests_and_says_that_it_is_there(site: Site, make: Callable[..., ValidatorService]) -> None:
    site.hear()
    site.prove()
    site.submit(1)
    service = make()
    service.step(0)

    assert len(site.lease()) == 1
    [word] = site.store.evidence.validators()
    assert (word.name, word.report) == ("validator", {"attested": 1, "signers": [1]})


def test_it_says_which_signers_come_and_go(
    site: Site, make: Callable[..., ValidatorService], caplog: pytest.LogCaptureFixture
) -> None:
    service = make()
    with caplog.at_level(logging.INFO):
        service.step(0)
        service.step(0)
        site.hear()
        service.step(0)
        service.step(0)
        orders: dict[str, list[Any]] = {"validators": [], "disabled_validators": []}
        site.hear(orders=orders)
        service.step(0)
        site.hear()
        service.step(0)
        site.hear(said_at=site.now - HOUR)
        service.step(0)

    said = [each.getMessage() for each in caplog.records]
    assert said[0] == "no signer is heard: requests wait; is `cassiopeia client run` running?"
    assert said[1] == said[3] == "signer 1 is heard: its requests are attested"
    assert said[2].startswith("nothing is attested for signer 1: whatever this validator says is signed by validator ")
    assert said[4:] == ["signer 1 is not heard: its requests wait until it is"]


def test_what_has_lapsed_is_renewed_by_itself(site: Site, make: Callable[..., ValidatorService]) -> None:
    site.hear()
    site.observe("dns-control")
    site.observe("caa-permits", ago=8 * HOUR)
    site.submit(1)
    program = CheckProgram(kinds=("caa-permits",), command=("sh", "-c", "echo dns"), timeout_s=60)
    service = make(checks=(program,))

    until(service, lambda: site.store.evidence.attested(1, [NONCE], now=dt.datetime.now(dt.UTC)))
    site.now = dt.datetime.now(dt.UTC)
    site.judge(site.lease()[0])


def test_a_store_that_is_away_is_waited_for(
    site: Site,
    make: Callable[..., ValidatorService],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    site.hear()
    site.prove()
    site.submit(1)
    monkeypatch.setattr(module, "_BACK_OFF_FIRST_S", 0.01)
    monkeypatch.setattr(module, "_BACK_OFF_LAST_S", 0.02)
    service = make()

    def away(*_: object) -> None:
        raise Unavailable("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(Orders, "timestamp", away)
        until(service, lambda: caplog.text.count("the store is away; again in 0.0 seconds") > 2)
    until(service, site.lease)


def test_a_backlog_is_worked_off_without_a_pause(
    site: Site, make: Callable[..., ValidatorService], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    monkeypatch.setattr("cassiopeia.validation.attesting.AT_ONCE", 2)
    site.hear()
    site.prove()
    for number in range(3):
        site.submit(number)
    service = make()

    more = []
    for _ in range(2):
        service.step(0)
        more.append(service._has_more)
    assert more == [True, False]
    assert len(site.lease()) == 3


@pytest.mark.parametrize(
    ("nonsense", "said"),
    [
        ("signer_timestamp SET asked_at = 9000000000000000000", "'9000000000000000000' where a time should be"),
        ("signer_timestamp SET asked_at = 'soon'", "'soon' where a time should be"),
        ("signer_status SET seen_at = -9000000000000000000", "'-9000000000000000000' where a time should be"),
        ("request SET created_at = 9000000000000000000", "'9000000000000000000' where a time should be"),
        ("job SET reattested = 'often'", "this turn has failed (TypeError: "),
    ],
)
def test_nonsense_in_the_store_is_outlived(
    site: Site,
    make: Callable[..., ValidatorService],
    nonsense: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "_BACK_OFF_FIRST_S", 0.01)
    monkeypatch.setattr(module, "_BACK_OFF_LAST_S", 0.02)
    site.hear()
    site.prove()
    site.submit(1)
    table, _, column, *_ = nonsense.split()
    with site.store.database.write() as connection:
        good = connection.execute(text(f"SELECT {column} FROM {table}")).scalar_one()  # noqa: S608 - ours
        connection.execute(text(f"UPDATE {nonsense}"))
    service = make()

    until(service, lambda: sum(said in each.getMessage() for each in caplog.records) > 1)
    assert all("again in 0.0 seconds" in each.getMessage() for each in caplog.records if each.levelname == "WARNING")
    with site.store.database.write() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = :good"), {"good": good})  # noqa: S608 - ours
    until(service, site.lease)


def test_a_status_that_is_no_json_keeps_nobody_waiting(site: Site, make: Callable[..., ValidatorService]) -> None:
    site.hear()
    site.prove()
    site.submit(1)
    with site.store.database.write() as connection:
        connection.execute(text("UPDATE signer_status SET report = '{'"))
    make().step(0)

    assert len(site.lease()) == 1
