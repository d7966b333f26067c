from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tests.support.authorities import NOW, default_authority
from tests.support.store import issued, lease_sign, submit

from cassiopeia.core.ocsp import RESPONDER_ACCOUNT
from cassiopeia.duties import RESPONDER_ENDS, Calendar, duties
from cassiopeia.ops import URGENCY
from cassiopeia.store.database import open_store, upgrade

DAY = dt.timedelta(days=1)
NAME = default_authority().name


def said(responders: dict[str, dt.datetime], *, now: dt.datetime = NOW) -> list[str]:
    calendar = Calendar(
        now=now,
        authorities=(default_authority(),),
        issuers={},
        offline=(),
        issued={},
        recently={},
        on_signers=None,
        responders=responders,
    )
    return [each.what for each in duties(calendar) if each.code == RESPONDER_ENDS]


@pytest.mark.parametrize(
    ("days", "words"),
    [(10, ""), (8, ""), (6, "ends on 2026-11-29"), (-1, "ended on 2026-11-22"), (-50, "ended on"), (-70, "")],
)
def test_a_responder_that_was_not_renewed_is_a_duty_until_it_was_given_up(days: int, words: str) -> None:
    found = said({NAME: NOW + days * DAY})

    assert len(found) == bool(words)
    assert all(words in each for each in found)
    assert RESPONDER_ENDS in URGENCY


def test_one_that_ends_with_its_sub_ca_is_none() -> None:
    end = default_authority().not_after
    assert said({NAME: end - dt.timedelta(hours=3)}, now=end - 3 * DAY) == []
    assert said({"gone_2020_1": NOW}) == []


def test_the_store_knows_when_they_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store.sqlite"
    upgrade(url)
    with open_store(url) as store:
        assert store.certificates.last_ends(RESPONDER_ACCOUNT) == {}
        submit(store, 1, account=RESPONDER_ACCOUNT)
        submit(store, 2, account=RESPONDER_ACCOUNT)
        submit(store, 3, account="momo")
        for days, job in enumerate(lease_sign(store), start=1):
            done = issued(job, authority=NAME, not_after=NOW + days * DAY)
            store.results.finish_issued([done], now=NOW)

        ends = store.certificates.last_ends(RESPONDER_ACCOUNT)

        assert ends == {NAME: max(each.not_after for each in store.certificates.page(account=RESPONDER_ACCOUNT).items)}
