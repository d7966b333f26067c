"""`cassiopeia revoke`: plan, look, run, follow; nothing is revoked that nobody has looked at."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.certified import SERIAL, certify
from tests.support.client_store import ask, opened_client_store, run
from tests.support.store import lease_revoke

from cassiopeia.cli.main import cassiopeia
from cassiopeia.store.database import Store
from cassiopeia.store.records import Refusal

CA = "unassured_2026_1"
ALL = ["revoke", "plan", "--family", "unassured", "--reason", "superseded", "--out", "plan"]


@pytest.fixture
def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: dt.datetime) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        certify(opened, 1, 2, 3, at=now, account="alice")
        certify(opened, 4, 5, at=now, account="bob")
        yield opened


def tell_cap(store: Store, now: dt.datetime, *, limit: int) -> None:
    store.signers.save(
        1,
        {"authorities": [{"name": CA}], "orders": {"caps": [{"name": "revocations", "limit": limit}]}},
        now=now,
    )


def fails(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code != 0
    assert done.output.count("\n") == 1, done.output
    return done.output


def answered(answer: str, *arguments: str) -> Result:
    return CliRunner().invoke(cassiopeia, list(arguments), input=answer, prog_name="cassiopeia")


def states(store: Store) -> list[str]:
    return [store.certificates.look_up(f"{SERIAL + number:x}").revocation_state for number in range(1, 6)]


def test_a_plan_revokes_nothing(store: Store) -> None:
    done = run(*ALL)
    assert done.exit_code == 0
    assert "5 certificates of the family unassured would be revoked (superseded)." in done.output
    assert "alice    3" in done.output
    assert "2 notices" in done.output
    assert "Nothing is revoked yet. Next: cassiopeia revoke run plan" in done.output
    assert set(states(store)) == {"none"}
    assert len(Path("plan/certificates.csv").read_text().splitlines()) == 6


def test_the_whole_way(store: Store, now: dt.datetime) -> None:
    run(*ALL)
    done = run("revoke", "run", "plan", "--yes")
    assert "5 revocations are queued, 0 that were set aside" in done.output
    assert {job.revocation.reason for job in lease_revoke(store, at=dt.datetime.now(dt.UTC))} == {4}
    again = run("revoke", "run", "plan", "--yes")
    assert "0 revocations are queued" in again.output
    told = ask("revoke", "show", "plan")
    assert (told["revoked"], told["waiting"], told["not_asked"], told["late"]) == (0, 5, 0, False)
    assert run("revoke", "show", "plan").exit_code == 0


def test_who_does_not_say_yes_revokes_nothing(store: Store) -> None:
    run(*ALL)
    done = answered("n\n", "revoke", "run", "plan")
    assert done.exit_code == 1
    assert "Revoke 5 certificates of the family unassured (superseded), for ever?" in done.output
    assert set(states(store)) == {"none"}
    assert answered("y\n", "revoke", "run", "plan").exit_code == 0
    assert set(states(store)) == {"requested"}
    # There is nothing left to ask about.
    assert run("revoke", "run", "plan").exit_code == 0


def test_what_is_out_of_the_question_is_left_out(store: Store, now: dt.datetime) -> None:
    store.certificates.request_revocation(f"{SERIAL + 1:x}", now=now)
    done = run(*ALL)
    assert "4 certificates" in done.output
    assert "left out: 1 being revoked" in done.output
    run("revoke", "run", "plan", "--yes")
    nothing = ask("revoke", "show", "plan")
    assert nothing["certificates"] == 4
    assert "there is nothing to revoke of the family unassured; left out: 5 being revoked" in fails(*ALL[:-1], "other")
    assert not Path("other").exists()


def test_a_cap_says_when_it_will_be_done(store: Store, now: dt.datetime) -> None:
    tell_cap(store, now, limit=2)
    done = run(*ALL)
    assert "signer 1: 5 revocations, 2 an hour, 2 now: done by" in done.output
    (signer,) = ask(*ALL[:-1], "other")["signers"]
    assert signer["waiting"] == 5
    done_at = dt.datetime.fromisoformat(signer["done_at"])
    assert dt.timedelta(hours=2) < done_at - now < dt.timedelta(hours=5)


def test_to_raise_a_cap_to_what_it_was_would_help_nobody(store: Store, now: dt.datetime) -> None:
    for number in (1, 2):
        store.certificates.request_revocation(f"{SERIAL + number:x}", now=now)
    jobs = lease_revoke(store, at=dt.datetime.now(dt.UTC))
    store.results.finish_revoked([job.id for job in jobs], revoked_at=now, now=now)
    tell_cap(store, now, limit=3)
    done = run(*ALL, "--deadline", f"{now + dt.timedelta(hours=1):%Y-%m-%dT%H:%M}")
    assert "signer 1: 3 revocations, 3 an hour, 1 now" in done.output
    assert "cassiopeia order make raise-cap revocations 5" in done.output


def test_a_deadline_that_will_be_missed(store: Store, now: dt.datetime) -> None:
    tell_cap(store, now, limit=2)
    soon = f"{now + dt.timedelta(hours=1):%Y-%m-%dT%H:%M}"
    done = run(*ALL, "--deadline", soon)
    assert "that is after the deadline" in done.output
    assert "cassiopeia order make raise-cap revocations 5" in done.output
    run("revoke", "run", "plan", "--yes")
    shown = run("revoke", "show", "plan")
    assert (shown.exit_code, "The deadline is missed, or will be" in shown.output) == (1, True)
    tell_cap(store, now, limit=100)
    assert run("revoke", "show", "plan").exit_code == 0
    jobs = lease_revoke(store, at=dt.datetime.now(dt.UTC))
    store.results.finish_revoked([job.id for job in jobs], revoked_at=now, now=now)
    done = run("revoke", "show", "plan")
    assert done.exit_code == 0
    assert "revoked        5" in done.output
    assert "waiting        0" in done.output


def test_what_is_set_aside_is_shown_and_tried_again(store: Store, now: dt.datetime) -> None:
    run(*ALL)
    run("revoke", "run", "plan", "--yes")
    job, *_ = lease_revoke(store, at=dt.datetime.now(dt.UTC))
    store.results.refuse("client", [Refusal(job_id=job.id, code="unknown-serial", message="never issued")], now=now)
    shown = run("revoke", "show", "plan")
    assert shown.exit_code == 1
    assert "set aside      1" in shown.output
    assert "unknown-serial: never issued" in shown.output
    assert "1 that were set aside are queued again" in run("revoke", "run", "plan", "--yes").output


@pytest.mark.parametrize(
    ("selection", "count"),
    [
        (["--account", "bob"], 2),
        (["--sub-ca", CA], 5),
        (["--list", "list"], 1),
        (["--key", "key.pem"], 5),
    ],
    ids=["account", "sub-ca", "list", "key"],
)
def test_ways_to_choose(store: Store, selection: list[str], count: int) -> None:
    record = store.certificates.look_up(f"{SERIAL + 1:x}")
    Path("list").write_text(record.serial_number)
    Path("key.pem").write_text(ssl.DER_cert_to_PEM_cert(record.der))
    done = run("revoke", "plan", *selection, "--reason", "keyCompromise", "--out", "plan")
    assert f"{count} certificates" in done.output
    assert ("order make block-key" in done.output) == (selection[0] == "--key")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give one of --account, --key, --family, --sub-ca and --list"),
        (["--account", "a", "--family", "b"], "give one of"),
        (["--account", "nobody"], "there is nothing to revoke of the account nobody; no plan was made"),
        (["--family", "orga"], "there are some of: unassured"),
        (["--account", "bob", "--deadline", "tomorrow"], "write YYYY-MM-DD"),
        (["--account", "bob", "--deadline", "2026-01-01"], "is over"),
        (["--account", "bob", "--invalid-since", "2126-01-01"], "in the future"),
        (["--account", "bob", "--reason", "certificateHold"], "certificateHold"),
    ],
    ids=["none", "two", "nobody", "family", "no-time", "past", "future", "hold"],
)
def test_mistakes_make_no_plan(store: Store, arguments: list[str], said: str) -> None:
    assert said in fails("revoke", "plan", "--reason", "superseded", "--out", "plan", *arguments)
    assert not Path("plan").exists()


def test_a_bad_text_makes_no_plan(store: Store) -> None:
    Path("text").write_text("$nonsense")
    assert "$nonsense" in fails(*ALL, "--notice", "text")
    assert not Path("plan").exists()


def test_the_plan_of_another_store_revokes_nothing(store: Store, tmp_path: Path, now: dt.datetime) -> None:
    run(*ALL)
    path = Path("plan/plan.json")
    serial = f"{SERIAL + 3:x}"
    path.write_text(path.read_text().replace(f"0{serial}" if len(serial) % 2 else serial, "77aa"))
    said = fails("revoke", "run", "plan", "--yes")
    assert "1 of its certificates are not in this store as the plan says, 77aa of unassured_2026_1" in said
    assert set(states(store)) == {"none"}


def test_what_is_no_plan(store: Store) -> None:
    Path("rubbish").write_text("rubbish")
    for command in ("run", "show"):
        assert "cassiopeia revoke plan" in fails("revoke", command, "rubbish")
