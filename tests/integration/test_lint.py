"""The client's veto with the real linter in a process of its own, against signers that make one mistake each."""

from __future__ import annotations

import dataclasses
import os
import selectors
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import PROFILES, alt_names, load_profile
from tests.support.client import Certifying, find, submit
from tests.support.linting import tbs_of, unfit_for_its_key
from tests.support.signer import PROFILE, Front

from cassiopeia.client.lint import Lint
from cassiopeia.client.lint_pool import LintPool
from cassiopeia.client.lint_tasks import LintResult, LintTask
from cassiopeia.core import certificate
from cassiopeia.core import lint as own_lint
from cassiopeia.core.policy import ApprovedRequest
from cassiopeia.core.profile import parse_profile
from cassiopeia.store.database import Store, open_store, upgrade


class Linter:
    """One worker for all tests of this module, and its loop."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.pool = LintPool(count=1, selector=self.selector)

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        return self.pool._members[0].worker.process if self.pool._members else None

    def turn(self) -> None:
        self.pool.pump()
        for key, mask in self.selector.select(0.05):
            key.data(mask)

    def until_it_is_idle(self) -> None:
        self.turn()
        while self.pool._waiting or self.pool._suspects or any(member.tasks for member in self.pool._members):
            self.turn()

    def close(self) -> None:
        self.pool.stop()
        self.selector.close()


@pytest.fixture(scope="module")
def linter() -> Iterator[Linter]:
    opened = Linter()
    yield opened
    opened.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url)
    with open_store(url) as opened:
        yield opened


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path / "journal")
    yield made
    made.journal.close()


def make_client(store: Store, front: Front, linter: Linter, *rules: str) -> Certifying:
    """A client whose copy of the profile says these rules."""
    linter.pool.forget()
    profile = dataclasses.replace(load_profile(PROFILE), lint_rules=rules)
    lint = Lint(pool=linter.pool, profiles={PROFILE: profile}, streaks=store.lint_streaks)
    return Certifying(store=store, front=front, lint=lint)


def run(client: Certifying, linter: Linter) -> None:
    """Until signer and linter have nothing more to say."""
    client.send()
    while events := client.hear():
        client.take(*events)
        linter.until_it_is_idle()
        client.write_back()


def give_profile(front: Front, line: str, instead: str) -> None:
    """Let the signer have a profile of its own, and a wrong one."""
    text = (PROFILES / f"{PROFILE}.toml").read_text(encoding="utf-8")
    assert line in text
    profile = parse_profile(text.replace(line, instead), name=PROFILE, source=PROFILE)
    front.worker._rules = dataclasses.replace(front.worker._rules, profiles={PROFILE: profile})


def test_what_is_right_is_issued(store: Store, front: Front, linter: Linter) -> None:
    client = make_client(store, front, linter)
    for number in range(20):
        submit(store, front, number)
    run(client, linter)
    assert {find(store, number).state for number in range(20)} == {"issued"}


def assert_vetoed(store: Store, front: Front, code: str) -> None:
    record = find(store)
    assert (record.state, record.refusal_code) == ("refused", "vetoed")
    assert code in record.refusal_message
    assert front.signing == []


def test_a_signer_whose_assembly_and_own_lint_went_wrong_is_vetoed(
    store: Store, front: Front, linter: Linter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        own_lint, "lint", lambda octets, *_, **__: own_lint.LintedTbs(linted=own_lint._LINTED, octets=octets)
    )
    assemble = certificate.assemble_tbs

    def assemble_wrongly(approved: ApprovedRequest) -> bytes:
        usage = "0603551d0f0101ff0404"
        return assemble(approved).replace(bytes.fromhex(f"{usage}03020780"), bytes.fromhex(f"{usage}03020520"))

    monkeypatch.setattr(certificate, "assemble_tbs", assemble_wrongly)
    submit(store, front)
    run(make_client(store, front, linter), linter)
    assert_vetoed(store, front, "pkix.key_usage_value_prohibited_for_ec")


def test_a_profile_that_breaks_the_rules_for_servers_is_vetoed_where_they_are_asked_for(
    store: Store, front: Front, linter: Linter
) -> None:
    give_profile(front, "maximum_validity_days = 99", "maximum_validity_days = 300")
    submit(store, front)
    run(make_client(store, front, linter, "serverauth"), linter)
    assert_vetoed(store, front, "cabf.serverauth.certificate_validity_period_exceeds_200_days")
    submit(store, front, 2)
    run(make_client(store, front, linter), linter)
    assert find(store, 2).state == "issued"


def test_a_profile_that_breaks_the_rules_for_mail_is_vetoed_where_they_are_asked_for(
    store: Store, front: Front, linter: Linter
) -> None:
    give_profile(front, 'IP = "optional"', 'email = "optional"')
    submit(store, front, attributes=(), alt_names=alt_names("email,momo@example.org"))
    run(make_client(store, front, linter, "smime"), linter)
    assert_vetoed(store, front, "cabf.smime.emailprotection_eku_missing")


def test_a_worker_killed_in_the_middle_costs_no_certificate(store: Store, front: Front, linter: Linter) -> None:
    client = make_client(store, front, linter)
    for number in range(20):
        submit(store, front, number)
    client.send()
    client.take(*client.hear())
    linter.turn()
    process = linter.process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    linter.until_it_is_idle()
    client.write_back()
    client.run()
    assert {find(store, number).state for number in range(20)} == {"issued"}


def test_a_worker_ends_when_its_client_is_gone(linter: Linter) -> None:
    linter.turn()
    other = Linter()
    try:
        other.pool.submit(LintTask(number=1, tbs_certificate=tbs_of(), rules=()))
        other.until_it_is_idle()
        process = other.process
        assert process is not None
        # The socket closes by itself with the client's process, however that ends.
        other.pool._members[0].worker.stream.shutdown(2)
        assert process.wait(timeout=20) == 0
    finally:
        other.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group_leaves_the_worker_to_its_client(linter: Linter, number: signal.Signals) -> None:
    linter.pool.submit(LintTask(number=1, tbs_certificate=tbs_of(), rules=()))
    linter.until_it_is_idle()
    process = linter.process
    assert process is not None
    os.kill(process.pid, number)
    linter.pool.submit(LintTask(number=2, tbs_certificate=unfit_for_its_key(), rules=()))
    linter.until_it_is_idle()
    assert linter.process is process
    [first, second] = linter.pool.take()
    assert isinstance(first, LintResult)
    assert isinstance(second, LintResult)
    assert [any(each.grave for each in result.findings) for result in (first, second)] == [False, True]
