"""A log is confirmed when it is saved and its certificate has passed the lint, whichever comes first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.authorities import load_profile
from tests.support.client import OWNER, Certifying, find, submit
from tests.support.issuing import kinds
from tests.support.linting import HandPool, finding
from tests.support.signer import PROFILE, Front
from tests.support.store import lease_sign, logs_of, request_id

from cassiopeia.client.lint import Lint
from cassiopeia.protocol.events import CertificateIssued, LogReceived, RequestAbandoned
from cassiopeia.store.database import Store
from cassiopeia.store.lint_streaks import HOLD_AFTER, PUT_BACK_FOR, LintVerdict

X = finding("pkix.x")


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(directory=tmp_path / "journal")
    yield made
    made.journal.close()


@pytest.fixture
def pool() -> HandPool:
    return HandPool()


@pytest.fixture
def client(store: Store, front: Front, pool: HandPool) -> Certifying:
    return make_client(store, front, pool)


def make_client(store: Store, front: Front, pool: HandPool, *, version: int = 2) -> Certifying:
    lint = Lint(pool=pool, profiles={PROFILE: load_profile(PROFILE)}, streaks=store.lint_streaks)
    return Certifying(store=store, front=front, lint=lint, version=version)


def take_logs(client: Certifying, *numbers: int) -> None:
    """Requests as far as their logs, which are saved; the lints are under way."""
    for number in numbers:
        submit(client.store, client.front, number)
    client.send()
    logs = client.hear()
    assert {type(each) for each in logs} == {LogReceived}
    client.take(*logs)


def test_nothing_is_confirmed_before_its_lint_is_done(client: Certifying, pool: HandPool) -> None:
    take_logs(client, 1)
    assert client.hear() == []
    assert client.front.signing == []

    pool.answer()
    client.write_back()

    [event] = client.hear()
    assert isinstance(event, CertificateIssued)
    client.take(event)
    assert find(client.store).state == "issued"


def test_nothing_is_confirmed_before_its_log_is_saved(
    client: Certifying, pool: HandPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(client.store, client.front)
    client.send()
    [log] = client.hear()
    client.issuance.receive(log)
    pool.answer()
    save_logs = client.store.results.save_logs
    seen = []

    def look(*arguments: object, **more: object) -> object:
        client.front.settle()
        seen.extend(kinds(client.front))
        return save_logs(*arguments, **more)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(client.store.results, "save_logs", look)
    client.write_back()

    assert seen == ["intent"]
    client.run()
    assert find(client.store).state == "issued"


def test_the_linter_gets_what_would_be_signed(client: Certifying, pool: HandPool) -> None:
    take_logs(client, 1)
    [task] = pool.tasks.values()
    intent = client.front.journal.index.find_request(request_id(1))
    assert intent is not None
    assert task.tbs_certificate == intent.tbs_certificate
    assert task.rules == load_profile(PROFILE).lint_rules


def test_a_veto_refuses_the_request_and_ends_the_intent(client: Certifying, pool: HandPool) -> None:
    take_logs(client, 1)
    pool.answer(X)
    client.write_back()
    client.run()

    record = find(client.store)
    assert (record.state, record.refusal_code) == ("refused", "vetoed")
    assert "pkix.x at certificate: pkix.x is wrong" in record.refusal_message
    assert kinds(client.front) == ["intent", "abandonment"]
    assert client.issuance.under_way == 0
    assert logs_of(client.store, 1) != []


@pytest.mark.parametrize("held", [False, True])
def test_a_veto_that_comes_too_late_denies_no_certificate(
    client: Certifying, pool: HandPool, caplog: pytest.LogCaptureFixture, *, held: bool
) -> None:
    """An earlier run had the log confirmed, and ended; this one has another linter."""
    take_logs(client, 1)
    pool.answer()
    client.write_back()
    [lost] = client.hear()
    assert isinstance(lost, CertificateIssued)
    client.front.vanish(client.pair)
    client.issuance.line_lost("the line was lost", now=client.front.now, proven=True)
    if held:
        client.store.lint_streaks.record(
            [LintVerdict(profile=PROFILE, findings=(X.code,))] * (HOLD_AFTER - 1), now=client.front.now
        )
    client.reconnect()
    client.send()
    client.take(*client.hear())
    pool.answer(X)
    client.write_back()
    client.take(*client.hear())
    assert find(client.store).state == "queued"
    assert "vetoed too late" in caplog.text
    client.store.lint_streaks.release(PROFILE, now=client.front.now)

    client.send()
    client.run()
    assert find(client.store).state == "issued"
    assert kinds(client.front).count("result") == 1
    record = client.store.certificates.of_request(request_id(1))
    assert record is not None
    assert record.der.endswith(lost.signature or b"none")


def test_each_lint_is_for_its_own_request(client: Certifying, pool: HandPool) -> None:
    take_logs(client, 1, 2, 3)
    pool.answer()
    pool.answer(X)
    pool.answer()
    client.write_back()
    client.run()
    assert [find(client.store, number).state for number in (1, 2, 3)] == ["issued", "refused", "issued"]


def test_a_held_profile_refuses_nobody(client: Certifying, pool: HandPool) -> None:
    numbers = range(1, HOLD_AFTER + 3)
    take_logs(client, *numbers)
    for _ in numbers:
        pool.answer(X)
    client.write_back()
    answers = client.hear()
    assert {type(each) for each in answers} == {RequestAbandoned}
    client.take(*answers)

    states = [find(client.store, number).state for number in numbers]
    assert states == ["refused"] * 4 + ["queued"] * 3
    assert client.issuance.under_way == 0
    # They are free to go to any signer, and wait until another request has been the probe.
    client.store.lint_streaks.record([LintVerdict(profile=PROFILE)], now=client.front.now)
    assert lease_sign(client.store, OWNER, at=client.front.now) == []
    later = client.front.now + PUT_BACK_FOR
    jobs = client.store.queue.lease(OWNER, limit=9, lease_s=60, now=later, signer_id=2)
    assert len(jobs) == 3


def test_after_a_release_the_next_good_certificate_ends_it(client: Certifying, pool: HandPool) -> None:
    take_logs(client, *range(1, HOLD_AFTER + 1))
    for _ in range(HOLD_AFTER):
        pool.answer(X)
    client.write_back()
    client.run()
    client.store.lint_streaks.release(PROFILE, now=client.front.now)
    client.send()
    client.take(*client.hear())
    pool.answer()
    client.write_back()
    client.run()
    assert find(client.store, HOLD_AFTER).state == "issued"
    assert client.store.lint_streaks.suspicious() == ()


def test_a_lint_that_ends_workers_is_set_aside_and_its_intent_ended(client: Certifying, pool: HandPool) -> None:
    take_logs(client, 1)
    pool.fail(died=True)
    client.write_back()
    client.run()
    assert client.store.queue.statistics(now=client.front.now).set_aside["sign"] == 1
    assert kinds(client.front) == ["intent", "abandonment"]


def test_without_a_linter_the_request_waits(client: Certifying, pool: HandPool) -> None:
    take_logs(client, 1)
    pool.fail(died=False)
    client.write_back()
    client.run()
    assert find(client.store).state == "queued"
    assert client.store.queue.statistics(now=client.front.now).postponed["sign"] == 1
    assert kinds(client.front) == ["intent", "abandonment"]


def test_a_line_lost_during_a_lint_costs_nothing(client: Certifying, pool: HandPool) -> None:
    take_logs(client, 1)
    client.front.vanish(client.pair)
    client.issuance.line_lost("the line was lost", now=client.front.now, proven=True)
    pool.answer(X)  # of the session before
    client.reconnect()
    client.send()
    client.take(*client.hear())
    assert find(client.store).state == "queued"
    pool.answer()
    client.write_back()
    client.run()
    assert find(client.store).state == "issued"


def test_a_lint_that_is_done_when_the_session_has_ended_confirms_nothing(client: Certifying, pool: HandPool) -> None:
    take_logs(client, 1)
    pool.answer()
    client.write_back(session_ended=True)
    assert client.hear() == []
    assert kinds(client.front) == ["intent"]


def test_a_last_word_of_the_signer_comes_before_the_lint(client: Certifying, pool: HandPool) -> None:
    take_logs(client, 1)
    client.front.clock += 10_000
    client.front.issuance.expire(now=client.front.now)
    client.front.settle()
    client.run()
    pool.answer(X)
    client.write_back()
    assert find(client.store).state == "queued"


def test_version_1_says_too_late_what_it_signs(store: Store, front: Front, pool: HandPool) -> None:
    client = make_client(store, front, pool, version=1)
    submit(store, front)
    client.send()
    client.run()
    assert pool.tasks == {}
    assert find(store).state == "issued"
