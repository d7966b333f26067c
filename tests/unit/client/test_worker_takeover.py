"""The client's loop takes another bundle over: nothing is lost, nobody is refused, and what is broken stays out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import links
from tests.support.authorities import PROFILES
from tests.support.client_loop import Client, write_authorities
from tests.support.journal_keys import write_journal_pem
from tests.support.signer import PROFILE, SIGNING_CA

from cassiopeia.client import takeover as takeover_module
from cassiopeia.client import worker as worker_module
from cassiopeia.config import CURRENT
from cassiopeia.protocol.events import SignRequested


@pytest.fixture
def client(make: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client that looks all the time, and whose configuration is on the disk."""
    monkeypatch.setattr(takeover_module, "_LOOK_EVERY_S", 0.0)
    monkeypatch.setattr(takeover_module, "_RETRY_S", 0.0)
    write_journal_pem(tmp_path / "journal.pem")
    (tmp_path / "client.toml").write_text(
        '[client]\nname = "client"\n[store]\nurl = "sqlite:///store.db"\n'
        f'[link]\nconnect = "unix:signer.sock"\ncertificate = "{links.certificate("client")}"\n'
        f'key = "{links.key("client")}"\npeers = ["{links.certificate("signer")}"]\n'
        '[publish]\ndirectory = "public"\n[journal]\nkeys = ["journal.pem"]\n[lint]\nworkers = 0\n'
    )
    return make()


def put_in_force(client: Client, number: int) -> Path:
    """Another bundle, as `cassiopeia client install` leaves it."""
    bundles = client.directory / "bundles"
    place = bundles / f"{number:04d}"
    place.mkdir(parents=True)
    write_authorities(place)
    (place / "profiles").mkdir()
    shutil.copy(PROFILES / f"{PROFILE}.toml", place / "profiles")
    link = bundles / f".{CURRENT}.new"
    link.symlink_to(place.name)
    link.replace(bundles / CURRENT)
    return place


def works_by(client: Client) -> int:
    return client.client._config.bundles.number


def test_another_bundle_is_worked_by_without_a_restart(client: Client) -> None:
    client.submit(1)
    client.run_until_issued(1)
    assert works_by(client) == 0
    place = put_in_force(client, 7)
    client.run_until(lambda: works_by(client) == 7)
    assert client.client._config.authorities == place / "authorities.toml"
    assert set(client.client._profiles) == {PROFILE}
    client.submit(2, 3)
    client.run_until_issued(2, 3)
    assert client.signer.accepted == 2
    put_in_force(client, 8)
    client.run_until(lambda: works_by(client) == 8)
    client.submit(4)
    client.run_until_issued(4)


def test_what_is_under_way_is_answered_before_the_session_ends(client: Client) -> None:
    client.submit(*range(5))
    client.run_until(lambda: client.client._issuance.under_way == 5)
    put_in_force(client, 1)
    client.submit(9)
    client.run_until(lambda: works_by(client) == 1)
    assert [client.state(number) for number in range(5)] == ["issued"] * 5
    client.run_until_issued(9)
    # Nothing was asked for twice.
    asked = [each.request.request_id for each in client.signer.asked if isinstance(each, SignRequested)]
    assert len(asked) == len(set(asked)) == 6


def test_a_signer_that_answers_nothing_does_not_hold_it_up(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_CHANGE_PATIENCE_S", 0.1)
    client.run_until(lambda: client.client._session_open)
    client.signer.silent = True
    client.submit(1, 2)
    client.run_until(lambda: client.client._issuance.under_way == 2)
    put_in_force(client, 1)
    client.run_until(lambda: works_by(client) == 1)
    client.signer.silent = False
    client.run_until_issued(1, 2)
    assert not sum(client.store.queue.statistics(now=client.front.now).set_aside.values())


@pytest.mark.parametrize("missing", ["authorities.toml", "ca.pem"])
def test_a_bundle_that_cannot_be_used_is_passed_over_until_it_can(
    client: Client, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    client.submit(1)
    client.run_until_issued(1)
    with caplog.at_level(logging.ERROR):
        place = put_in_force(client, 1)
        (place / missing).rename(place / "away")
        client.run_until(lambda: bool(client.client._takeover.alarm))
        client.submit(2)
        client.run_until_issued(2)
    assert works_by(client) == 0
    assert client.signer.accepted == 1
    assert missing in client.client._takeover.alarm
    assert caplog.text.count("goes on without it") == 1
    client.client._next_status = 0.0

    def told() -> str:
        report = client.store.signers.report(1)
        return "" if report is None else str(report.get("bundle_alarm"))

    client.run_until(lambda: missing in told())
    (place / "away").rename(place / missing)
    client.run_until(lambda: works_by(client) == 1)
    client.run_until(lambda: told() == "")


def test_a_broken_link_is_passed_over(client: Client) -> None:
    client.submit(1)
    client.run_until_issued(1)
    (client.directory / "bundles").mkdir()
    (client.directory / "bundles" / CURRENT).symlink_to("0009")
    client.run_until(lambda: "no bundle is unpacked there" in client.client._takeover.alarm)
    client.submit(2)
    client.run_until_issued(2)
    (client.directory / "bundles" / CURRENT).unlink()
    client.run_until(lambda: not client.client._takeover.alarm)
    assert client.signer.accepted == 1


def test_it_is_taken_over_while_the_signer_is_away(client: Client) -> None:
    client.submit(1)
    client.run_until_issued(1)
    client.signer.go_away()
    put_in_force(client, 1)
    client.run_until(lambda: works_by(client) == 1)
    client.submit(2)
    client.signer.listen()
    client.run_until_issued(2)


def test_what_waited_for_a_sub_ca_goes_on(client: Client) -> None:
    """The signer was given the sub-CA first; the client puts its certificates off until it has it, too."""
    client.run_until(lambda: client.client._session_open)
    known = dict(client.client._authorities)
    client.client._issuance._authorities = {}
    client.submit(1)
    client.run_until(lambda: sum(client.store.queue.statistics(now=client.front.now).postponed.values()) == 1)
    assert set(known) == {SIGNING_CA}
    put_in_force(client, 1)
    client.run_until_issued(1)
