"""What demands evidence, from the queue to the certificate: client, signer's desks and a validator in one thread."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.support.attesting import PROVED, StoreValidator, proving_worker
from tests.support.authorities import PROFILES, load_profile
from tests.support.client_loop import Client
from tests.support.evidence import TestValidator
from tests.support.store import request_id

from cassiopeia.client import evidence
from cassiopeia.client.worker import SignerClient
from cassiopeia.config import load_profiles
from cassiopeia.protocol.events import LogConfirmed, SignRequested
from cassiopeia.signer import nonces
from cassiopeia.signer.tasks import Deferred, Outcome, Sign, Task
from cassiopeia.signer.worker import Worker
from cassiopeia.store.database import Store
from cassiopeia.store.records import RequestRecord

FREE = "9004-unproved-server"


class Site:
    """A client's loop, its signer, and a validator that takes its turn when a test says so."""

    def __init__(self, client: Client, store: Store) -> None:
        self.client, self.store, self.front = client, store, client.front
        self.validator = StoreValidator(store=store)
        self.front.worker = proving_worker(self.front.authority, self.validator.validator)
        self.others: list[SignerClient] = []

    def submit(self, *numbers: int, profile: str = PROVED) -> None:
        self.client.submit(*numbers, profile=profile)

    def find(self, number: int) -> RequestRecord:
        record = self.store.requests.find(request_id(number))
        assert record is not None
        return record

    def run_until(self, condition: Callable[[], bool], *, attesting: bool = True) -> None:
        def turn() -> bool:
            if attesting:
                self.validator.turn()
            for other in self.others:
                other.step(0)
            return condition()

        self.client.run_until(turn)

    def run_until_issued(self, *numbers: int) -> None:
        self.run_until(lambda: all(self.find(number).state == "issued" for number in numbers))

    def hear_the_nonce(self) -> None:
        self.run_until(lambda: self.validator.word() is not None, attesting=False)

    def sent(self) -> list[bytes]:
        """The ids of the requests that have reached the signer, in their order."""
        return [each.request.request_id for each in self.client.signer.asked if isinstance(each, SignRequested)]

    def restart_signer(self) -> None:
        """As after a power cut: its nonces are others."""
        self.client.signer.hang_up()
        self.front.restart()

    def pass_time(self, seconds: float, *, client_sleeps: bool = False) -> None:
        """On the clocks since boot, as far as the client's goes on."""
        self.front.clock += seconds
        if not client_sleeps:
            keeper = self.client.client._nonces
            before = keeper._clock
            keeper._clock = lambda: before() + seconds


@pytest.fixture
def site(make: Callable[..., Client], store: Store, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(evidence, "_ASK_SOON_S", 0.01)
    return Site(make(), store)


def test_what_is_proved_is_issued(site: Site) -> None:
    site.submit(1, 2, 3)
    site.run_until_issued(1, 2, 3)
    assert [site.find(number).tries for number in (1, 2, 3)] == [0, 0, 0]
    assert len(site.sent()) == 3
    for number in (1, 2, 3):
        intent = site.front.journal.index.find_request(request_id(number))
        assert intent is not None
        assert intent.state == "issued"


def test_what_nobody_vouches_for_waits_and_stops_nobody(site: Site) -> None:
    site.submit(1)
    site.submit(2, profile=FREE)
    site.run_until(lambda: site.find(2).state == "issued", attesting=False)
    assert request_id(1) not in site.sent()
    assert site.find(1).awaits_evidence
    site.run_until_issued(1)


def test_a_name_that_was_never_proved_is_refused_with_the_list(site: Site) -> None:
    site.validator.unproved = ("1.example.org",)
    site.submit(1, 2)
    site.run_until(lambda: site.find(1).state == "refused")
    refused = site.find(1)
    assert refused.refusal_code == "evidence-missing"
    assert "dns-control for 1.example.org, caa-permits for 1.example.org" in refused.refusal_message
    site.run_until_issued(2)


def test_a_nonce_that_runs_out_on_the_way_is_renewed_by_itself(site: Site) -> None:
    site.hear_the_nonce()
    site.submit(1)
    assert site.validator.turn() == 1
    site.pass_time(2 * nonces.LIFE_S, client_sleeps=True)
    site.run_until_issued(1)
    assert site.sent() == [request_id(1)] * 2
    assert (site.find(1).tries, site.find(1).last_error) == (0, "")


def test_a_nonce_that_runs_out_in_the_queue_costs_no_journey(site: Site) -> None:
    """The client notices that the signer has another one, and sends nothing that is stale."""
    site.hear_the_nonce()
    before = site.validator.word()
    site.submit(1)
    site.client.signer.go_away()
    site.client.turn()
    assert site.validator.turn() == 1
    site.pass_time(2 * nonces.LIFE_S)
    site.client.signer.listen()
    site.run_until_issued(1)
    after = site.validator.word()
    assert before is not None
    assert after is not None
    assert before.nonce != after.nonce
    assert site.sent() == [request_id(1)]


def test_a_signer_that_restarts_between_attestation_and_sending(site: Site) -> None:
    site.hear_the_nonce()
    site.submit(1)
    assert site.validator.turn() == 1
    site.restart_signer()
    site.run_until_issued(1)
    assert (site.find(1).tries, site.validator.attested) == (0, 2)


def test_a_signer_that_restarts_before_the_log_is_confirmed(site: Site) -> None:
    """Its intent is abandoned: the request is judged anew, on new evidence."""
    site.submit(1)
    site.client.signer.dies_of = lambda event: isinstance(event, LogConfirmed)
    site.run_until(lambda: site.client.signer.deaths == 1)
    site.client.signer.dies_of = lambda _: False
    site.restart_signer()
    site.run_until_issued(1)
    assert site.validator.attested == 2
    assert site.find(1).tries == 0
    assert site.front.issuance.issued[site.front.authority.name] == 1


@pytest.mark.parametrize("evidence_is", ["stale", "made anew"])
def test_what_the_signer_has_confirmed_is_fetched_under_any_evidence(site: Site, evidence_is: str) -> None:
    """The signer answers from its journal, where the evidence is that it was sent first."""
    site.submit(1)

    def is_confirmed() -> bool:
        known = site.front.journal.index.find_request(request_id(1))
        return known is not None and known.state == "confirmed"

    whole = site.front.worker
    site.front.worker = _WithoutKey(whole)  # type: ignore[assignment] # as good as a worker
    site.run_until(is_confirmed)
    site.restart_signer()
    site.front.worker = whole
    attested = 1
    if evidence_is == "made anew":
        site.run_until(lambda: not site.client.client._issuance.under_way, attesting=False)
        assert site.store.evidence.discard([site.find(1).number], "look again", now=dt.datetime.now(dt.UTC)) == 1
        attested = 2
    site.run_until_issued(1)
    assert site.validator.attested == attested
    assert site.find(1).tries == 0


def test_two_clients_share_what_is_attested(site: Site, tmp_path: Path) -> None:
    config = dataclasses.replace(
        site.client.client._config, name="second", publish_directory=tmp_path / "second", window=4
    )
    site.others.append(SignerClient(config, site.store))
    try:
        site.submit(*range(30))
        site.run_until_issued(*range(30))
    finally:
        site.others[0].close()
    assert sorted(site.sent()) == sorted(map(request_id, range(30)))


def test_a_validator_that_the_signer_does_not_know_raises_an_alarm(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    pinned, site.validator.validator = site.validator.validator, TestValidator(b"x", name="unpinned")
    site.submit(1, 2)
    site.run_until(lambda: all("pin its key" in site.find(number).last_error for number in (1, 2)))
    alarms = [each for each in caplog.records if each.levelname == "ERROR"]
    assert len(alarms) == 1

    def alarm() -> str:
        return "".join(each.report["evidence_alarm"] for each in site.store.signers.list())

    site.run_until(lambda: bool(alarm()))
    assert alarm() == alarms[0].getMessage()
    site.front.worker = proving_worker(site.front.authority, pinned, site.validator.validator)
    site.store.queue.hurry(1, now=dt.datetime.now(dt.UTC))
    site.run_until_issued(1, 2)
    assert (site.find(1).tries, site.client.client._issuance.evidence_alarm) == (0, "")


def test_what_is_attested_under_a_nonce_that_nobody_gave_out_is_never_sent(site: Site) -> None:
    site.hear_the_nonce()
    site.validator.stuck_with = b"x" * 16
    site.submit(1)
    site.submit(2, profile=FREE)
    site.run_until(lambda: site.find(2).state == "issued")
    assert not site.find(1).awaits_evidence
    assert request_id(1) not in site.sent()
    site.validator.stuck_with = None
    site.run_until_issued(1)


def test_a_validator_that_never_learns_does_not_keep_the_line_busy(site: Site) -> None:
    site.hear_the_nonce()
    site.validator.age = dt.timedelta(days=500)
    site.submit(1)
    site.run_until(lambda: len(site.sent()) == 4)
    site.run_until(lambda: site.find(1).awaits_evidence)
    assert "and counts for" in site.find(1).last_error
    now = dt.datetime.now(dt.UTC)
    assert not site.store.evidence.to_attest(1, [], profiles=[PROVED], limit=9, now=now)
    [waiting] = site.store.evidence.to_attest(1, [], profiles=[PROVED], limit=9, now=now + dt.timedelta(minutes=5))
    assert (waiting.reattested, site.find(1).tries) == (4, 0)
    site.validator.age = dt.timedelta(hours=1)
    site.run_until_issued(1)


def test_a_client_that_does_not_know_what_is_demanded_learns_it(
    make: Callable[..., Client], store: Store, tmp_path: Path
) -> None:
    """Its profiles are older than the signer's: that is no fault of the subscriber."""
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    text = (PROFILES / f"{FREE}.toml").read_text(encoding="utf-8")
    (profiles / f"{FREE}.toml").write_text(text, encoding="utf-8")
    site = Site(make(profiles=profiles), store)
    site.submit(1)
    site.run_until(lambda: bool(site.sent()) and site.find(1).awaits_evidence, attesting=False)
    assert "waits for evidence: The profile 0004-server demands proofs" in site.find(1).last_error
    site.run_until_issued(1)


class _WithoutKey:
    """A worker that judges, and has its keys on a token that is away."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def carry_out(self, task: Task) -> Outcome:
        if isinstance(task, Sign):
            return Deferred(task=task.task, code="key-away", message="the token is away", retry_after_s=0)
        return self._worker.carry_out(task)


@pytest.mark.parametrize(
    "damage", ["alt_names = '[1'", "attributes = '[7]'", "key_kind = 'pgp'", "request_id = 'x'", "key_proof = x'00'"]
)
def test_a_request_that_somebody_has_damaged_stops_nobody(site: Site, damage: str) -> None:
    site.submit(1, profile=FREE)
    with site.store.database.write() as connection:
        connection.execute(text(f"UPDATE request SET {damage}"))  # noqa: S608 - ours
    site.submit(2, profile=FREE)
    site.run_until(lambda: site.store.requests.page(state="refused").items != ())
    site.run_until_issued(2)


def test_an_attestation_that_nobody_can_read_is_made_anew(site: Site) -> None:
    site.hear_the_nonce()
    site.submit(1)
    site.validator.turn()
    with site.store.database.write() as connection:
        connection.execute(text("UPDATE attestation SET proofs = x'00'"))
    site.run_until_issued(1)


def test_a_validator_with_other_profiles_than_the_signer_loses_nothing(site: Site) -> None:
    """It sends a proof that the signer does not want any more: the subscriber is not at fault."""
    worker = site.front.worker
    profiles = load_profiles(PROFILES)
    narrower = dataclasses.replace(profiles[PROVED], evidence=("attestation", "dns-control"))
    site.front.worker = proving_worker(
        site.front.authority, site.validator.validator, profiles=profiles | {PROVED: narrower}
    )
    site.submit(1)
    site.run_until(lambda: "proves nothing that this request asks for" in site.find(1).last_error)
    assert (site.find(1).state, site.find(1).tries) == ("queued", 0)
    assert "Have signer, client and validators the same profiles?" in site.client.client._issuance.evidence_alarm
    site.front.worker = worker
    site.run_until_issued(1)
    assert site.client.client._issuance.evidence_alarm == ""


def profiles_without_caa(directory: Path) -> Path:
    directory.mkdir()
    for name in (FREE, PROVED):
        text = (PROFILES / f"{name}.toml").read_text(encoding="utf-8")
        (directory / f"{name}.toml").write_text(text.replace(', "caa-permits"', ""), encoding="utf-8")
    assert load_profiles(directory)[PROVED].evidence == ("attestation", "dns-control")
    return directory


def test_what_only_the_signers_profile_demands_is_no_fault_of_the_subscriber(
    make: Callable[..., Client], store: Store, tmp_path: Path
) -> None:
    """Validator and client have an older profile: neither knows that CAA records are to be looked at."""
    site = Site(make(profiles=profiles_without_caa(tmp_path / "profiles")), store)
    site.validator.profile = dataclasses.replace(load_profile(PROVED), evidence=("attestation", "dns-control"))
    site.submit(1)
    site.run_until(lambda: "caa-permits for 1.example.org" in site.find(1).last_error)
    assert (site.find(1).state, site.find(1).tries) == ("queued", 0)
    alarm = site.client.client._issuance.evidence_alarm
    assert alarm.startswith("the signer misses what no validator has sent: The profile 0004-server demands")
    assert "Have signer, client and validators the same profiles?" in alarm
    site.validator.profile = load_profile(PROVED)
    site.run_until_issued(1)
    assert site.client.client._issuance.evidence_alarm == ""


def test_what_a_validator_has_left_out_though_it_was_seen_is_asked_for_again(site: Site) -> None:
    """The validator alone has an older profile; somebody has looked at the CAA records all the same."""
    site.validator.profile = dataclasses.replace(load_profile(PROVED), evidence=("attestation", "dns-control"))
    site.submit(1, 2)
    for name in ("www.example.org", "1.example.org"):
        seen = site.validator.validator.observe("caa-permits", name)
        site.store.evidence.put_observations([seen], now=dt.datetime.now(dt.UTC))
    # Nobody has looked at the other one's: that is refused as ever.
    site.run_until(lambda: "misses" in site.client.client._issuance.evidence_alarm and site.find(2).state == "refused")
    assert site.find(2).refusal_code == "evidence-missing"
    assert (site.find(1).state, site.find(1).tries) == ("queued", 0)
    site.validator.profile = load_profile(PROVED)
    site.run_until_issued(1)


def test_what_was_seen_for_another_account_proves_nothing(site: Site) -> None:
    site.validator.unproved = ("1.example.org",)
    site.submit(1)
    for kind in ("dns-control", "caa-permits"):
        seen = site.validator.validator.observe(kind, "1.example.org", account="somebody else")
        site.store.evidence.put_observations([seen], now=dt.datetime.now(dt.UTC))
    site.run_until(lambda: site.find(1).state == "refused")
    assert site.find(1).refusal_code == "evidence-missing"


def test_an_attestation_that_somebody_has_changed_is_made_anew(site: Site) -> None:
    site.hear_the_nonce()
    site.submit(1, 2)
    site.validator.turn()
    with site.store.database.write() as connection:
        connection.execute(text("UPDATE attestation SET proofs = (SELECT max(proofs) FROM attestation)"))
    site.run_until_issued(1, 2)
    assert len(site.sent()) > 2
