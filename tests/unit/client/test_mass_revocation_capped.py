"""A mass revocation over the signer's cap: it takes the hours that were told, and loses nothing on the way."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.client import record_certificates
from tests.support.signer import SIGNING_CA, Front
from tests.support.syncing import Syncing, front_with_crl

from cassiopeia.client import mass_revocation
from cassiopeia.client.revocation_plan import Plan, make_plan
from cassiopeia.core import crl
from cassiopeia.store.database import Store

COUNT = 10
CAP = 4


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    with front_with_crl(tmp_path / "journal") as made:
        made.limits["revocations"] = CAP
        yield made


@pytest.fixture
def client(store: Store, front: Front, tmp_path: Path) -> Syncing:
    made = Syncing(store, front, tmp_path / "public")
    made.run()
    record_certificates(store, front, *range(1, COUNT + 1))
    caps = [{"name": "revocations", "limit": CAP}]
    store.signers.save(1, {"authorities": [{"name": SIGNING_CA}], "orders": {"caps": caps}}, now=front.now)
    return made


def plan_all(client: Syncing) -> Plan:
    found = mass_revocation.of_family(client.store, "unassured")
    choice = mass_revocation.choose(found, also_expired=False, now=client.front.now)
    return make_plan(choice.chosen, what="all", reason=4, invalidity_date=None, deadline=None, now=client.front.now)


def run(client: Syncing, plan: Plan) -> int:
    queued = client.store.mass_revocation.queue(plan.named, reason=4, invalidity_date=None, now=client.front.now)
    return sum(each.new for each in queued)


def test_it_takes_the_time_that_was_told(client: Syncing) -> None:
    plan = plan_all(client)
    (told,) = mass_revocation.paces(client.store, {SIGNING_CA: COUNT}, now=client.front.now)
    assert (told.waiting, told.room) == (COUNT, CAP)
    assert dt.timedelta(hours=2) < told.done_at - client.front.now < dt.timedelta(hours=3, minutes=5)
    assert run(client, plan) == COUNT
    revoked = []
    while client.front.now <= told.done_at:
        client.run()
        # Whoever runs it again meanwhile changes nothing.
        assert run(client, plan) == 0
        revoked.append(client.store.mass_revocation.progress(plan.named).revoked)
        client.front.now += dt.timedelta(minutes=5)
    progress = client.store.mass_revocation.progress(plan.named)
    assert (progress.revoked, dict(progress.waiting), progress.set_aside) == (COUNT, {}, 0)
    assert revoked == sorted(revoked)
    assert revoked[0] == CAP
    assert {each.reason for each, _ in crl.read_revocations(client.published().entries)} == {4}


def test_what_keeps_it_is_told(client: Syncing) -> None:
    plan = plan_all(client)
    run(client, plan)
    client.run()
    progress = client.store.mass_revocation.progress(plan.named)
    assert (progress.revoked, progress.waiting) == (CAP, {SIGNING_CA: COUNT - CAP})
    assert "the signer's cap is reached, which is 4 revocations an hour" in progress.difficulty
    (pace,) = mass_revocation.paces(client.store, {}, now=client.front.now)
    assert (pace.waiting, pace.room) == (COUNT - CAP, 0)
