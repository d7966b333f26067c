"""What holds up nobody: much that was seen, signers that do not issue, and whatever stands in the database."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.authorities import alt_names
from tests.support.store import request_id
from tests.support.validating import ACCOUNT, HOUR, Site, key_hash

from cassiopeia.core.evidence import Observation, sign_observation
from cassiopeia.core.request import CertificateRequest, SubjectAttribute
from cassiopeia.errors import OperatorError
from cassiopeia.validation.attesting import Attester
from cassiopeia.validation.key import load_validator_key
from cassiopeia.validation.look_worker import Look
from cassiopeia.validation.service import ValidatorService

OTHER_NONCE = b"2" * 16


def change(site: Site, statement: str, **values: Any) -> None:
    """As somebody does who holds the database."""
    with site.store.database.write() as connection:
        connection.execute(text(statement), values)


def test_what_is_seen_every_day_in_one_way_hides_nothing(site: Site, attester: Attester) -> None:
    site.hear()
    site.observe("dns-control", "example.org", method="dns", ago=90 * 24 * HOUR)
    for number in range(80):
        site.observe("dns-control", "example.org", method="http", ago=number * 24 * HOUR + HOUR)
    site.observe("caa-permits", "*.example.org")
    site.submit(1, "*.example.org", profile="0008-server-a")
    site.turn(attester)

    [job] = site.lease()
    site.judge(job)


def test_each_of_an_organisations_many_people_is_proved(site: Site) -> None:
    texts = site.config.profiles / "0010-client-orga.toml"
    texts.write_text(PROFILE)
    site.store.evidence.demand({"0010-client-orga": True}, now=site.now)
    site.hear()
    for number in range(80):
        site.observe(
            "organisation",
            "",
            organisation={"O": "Timesavers", "CN": f"Agent {number}"},
            ago=HOUR * (number + 1),
        )
    oldest = (SubjectAttribute(type="O", value="Timesavers"), SubjectAttribute(type="CN", value="Agent 79"))
    site.submit(1, profile="0010-client-orga", attributes=oldest, alt_names=())
    attester = Attester.of(site.config, site.store)
    site.turn(attester)
    attester.close()

    [job] = site.lease()
    site.judge(job)


PROFILE = """
title = "People of an organisation"
family = "orga"
key_usage = ["digitalSignature"]
extended_key_usage = ["clientAuth"]
maximum_validity_days = 365
evidence = ["attestation", "organisation"]
[subject]
O = "required"
CN = "required"
"""


def test_what_is_attested_is_what_was_looked_at(site: Site, attester: Attester) -> None:
    """And not the digest of another request, which somebody has put into the row."""
    site.hear()
    site.prove()
    wanted = site.submit(1)
    other = dataclasses.replace(wanted, alt_names=alt_names("DNS,other.example.org"), account="beppo")
    site.store.requests.submit(other, request_id=b"o" * 32, now=site.now)
    change(
        site,
        "UPDATE request SET digest = (SELECT digest FROM request WHERE account = 'beppo') WHERE account = :account",
        account=ACCOUNT,
    )
    site.turn(attester)

    judged = [site.judge(each) for each in site.lease() if each.request.account == ACCOUNT]
    assert judged == [(site.key_id,)]


def test_for_a_signer_that_does_not_issue_nothing_is_attested(site: Site, attester: Attester) -> None:
    site.hear(1)
    site.store.signers.save(1, {"state": "halted"}, now=site.now)
    site.hear(2, nonce=OTHER_NONCE)
    site.prove()
    site.submit(1)
    site.turn(attester)

    assert site.lease() == []
    jobs = site.store.queue.lease("c", limit=9, lease_s=60, now=site.now, signer_id=2, nonces=[OTHER_NONCE])
    assert len(jobs) == 1


def test_no_signer_is_always_the_first(site: Site) -> None:
    """What one of them cannot issue gets to the other in the end."""
    site.now = dt.datetime.now(dt.UTC)
    site.hear(1)
    site.hear(2, nonce=OTHER_NONCE)
    site.prove()
    service = ValidatorService(site.config, site.store)
    found = 0
    for number in range(100):
        site.submit(number)
        service.step(0)
        found += len(
            site.store.queue.lease(
                "c", limit=9, lease_s=60, now=dt.datetime.now(dt.UTC), signer_id=2, nonces=[OTHER_NONCE]
            )
        )
        if 0 < found < number + 1:
            break
    service.close()

    assert 0 < found < number + 1


@pytest.mark.parametrize(
    "report",
    [
        7,
        {"orders": 7},
        {"orders": {}},
        {"orders": {"validators": [{"key_id": "zz", "kinds": []}], "disabled_validators": []}},
        {"orders": {"validators": [], "disabled_validators": ["0"]}},
    ],
)
def test_a_status_that_nobody_understands_is_passed_over(site: Site, attester: Attester, report: Any) -> None:
    site.hear()
    site.store.signers.save(1, report, now=site.now)
    site.prove()
    site.submit(1)
    site.turn(attester)

    site.judge(site.lease()[0])


@pytest.mark.parametrize("column", ["observed_at", "saved_at"])
def test_an_observation_from_the_end_of_time_is_none(site: Site, attester: Attester, column: str) -> None:
    site.hear()
    site.prove()
    signed = sign_observation(
        Observation(
            kind="caa-permits",
            value="www.example.org",
            account=ACCOUNT,
            method="x",
            observed_at=dt.datetime(9999, 12, 31, 23, tzinfo=dt.UTC),
            table="",
            primary_key="",
            validator=site.key_id,
        ),
        load_validator_key(site.config.key),
    )
    site.store.evidence.put_observations([signed], now=site.now)
    site.observe("caa-permits", ago=2 * HOUR)
    change(site, f"UPDATE observation SET {column} = 9000000000000000000 WHERE id = 1")  # noqa: S608 - ours
    change(site, f"UPDATE observation SET {column} = 9000000000000000000 WHERE id = 2")  # noqa: S608 - ours
    site.observe("dns-control", ago=2 * HOUR)
    site.submit(1)
    site.turn(attester)

    site.judge(site.lease()[0])


@pytest.mark.parametrize("damage", ["alt_names = '[1'", "attributes = '[7]'", "key_kind = 'pgp'", "request_id = 'x'"])
def test_a_request_that_somebody_has_damaged_stops_nobody(site: Site, attester: Attester, damage: str) -> None:
    site.hear()
    site.prove()
    site.submit(1)
    change(site, f"UPDATE request SET {damage}")  # noqa: S608 - ours
    site.submit(2)
    site.turn(attester)

    damaged, good = site.lease()
    assert damaged.request.key_proof == b""
    site.judge(good)


def end_what_looks_at(deadly: bytes, attester: Attester, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `looking` says it of a request that has killed two of its workers (`test_looking` has real ones)."""

    def look(requests: list[CertificateRequest]) -> list[Look]:
        return [
            Look(reason="it kills", is_fatal=True) if each.key_proof == deadly else Look(key_hash=key_hash(each))
            for each in requests
        ]

    monkeypatch.setattr(attester._looker, "look", look)


def test_what_ends_whatever_looks_at_it_is_never_attested_and_seldom_looked_at(
    site: Site, attester: Attester, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.hear()
    site.prove()
    site.submit(1, key_proof=b"deadly")
    site.submit(2)
    end_what_looks_at(b"deadly", attester, monkeypatch)

    assert site.turn(attester) == 2
    assert [job.request.request_id for job in site.lease()] == [request_id(2)]
    assert site.difficulty(1).startswith("waits for evidence: looking at its key has ended two processes")
    assert "make a new certification request with other software, and tell the operators" in site.difficulty(1)
    waited = []
    for _ in range(7):
        begun = site.now
        while True:
            site.now += dt.timedelta(minutes=1)
            site.hear()
            if site.turn(attester):
                break
        waited.append(round((site.now - begun) / dt.timedelta(minutes=1)))
    assert waited == [1, 10, 60, 360, 1440, 1440, 1440]
    assert caplog.text.count(f"request {request_id(1).hex()[:8]} waits for 1 minutes: ") == 1


def test_it_is_not_attested_by_hand_either(site: Site, attester: Attester, monkeypatch: pytest.MonkeyPatch) -> None:
    site.hear()
    site.prove()
    site.submit(1, key_proof=b"deadly")
    end_what_looks_at(b"deadly", attester, monkeypatch)

    with pytest.raises(OperatorError, match="is not attested: looking at its key has ended two processes"):
        attester.attest_one(request_id(1).hex(), incomplete=True, now=site.now)


def test_a_row_that_is_no_observation_is_named_once(
    site: Site, attester: Attester, caplog: pytest.LogCaptureFixture
) -> None:
    site.hear()
    site.prove()
    site.prove(ago=2 * HOUR)
    change(site, "UPDATE observation SET octets = :junk WHERE id IN (1, 3)", junk=b"junk")
    for number in range(3):
        site.submit(number)
        site.turn(attester)

    assert len(site.lease()) == 3
    assert caplog.text.count("in the store is none, and is left out") == 2
