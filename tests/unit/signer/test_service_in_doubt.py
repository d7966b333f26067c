"""The signer's front process when its clock, or the room on its disk, is in doubt."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.authorities import server_request
from tests.support.conversations import joined
from tests.support.machine_clock import START, Machine
from tests.support.operators import PUBLIC_KEYS, confirm_clock, public_pem, signed
from tests.support.signer import install

from cassiopeia.config import load_signer_config
from cassiopeia.errors import Unavailable
from cassiopeia.journal.entry import decode_entry
from cassiopeia.journal.order import ConfirmClock
from cassiopeia.protocol.events import OrderObeyed, RequestFailed, StatusReceived
from cassiopeia.protocol.payload import StatusReport
from cassiopeia.signer import service as service_module
from cassiopeia.signer.disk import DiskReserve
from cassiopeia.signer.pool import WorkerPool
from cassiopeia.signer.service import Signer

DAY = dt.timedelta(days=1)
ORDERS = "[orders]\noperators = ['anna.pem']\n"


class Front:
    """A signer on a machine whose clock can be set; without workers, and as if its keys were unlocked."""

    def __init__(self, directory: Path, machine: Machine, more: str) -> None:
        self.machine = machine
        self.directory = directory
        (directory / "anna.pem").write_bytes(public_pem())
        install(directory, more=f"[disk]\nreserve_mib = 1\n{more}")
        self.start()

    def start(self) -> None:
        config = load_signer_config(self.directory / "signer.toml")
        self.signer = Signer(config, config_path=config.source)
        self.signer._lines.open()
        self.signer._start()
        self.pair = joined()

    def restart(self) -> None:
        self.signer._stop()
        self.start()

    def say(self) -> Any:
        """Carry what the client said to the signer, and its one answer back."""
        for event in self.pair.to_signer():
            self.signer._on_event(self.pair.signer, event)
        self.signer._journal.commit()
        (answer,) = self.pair.to_client()
        return answer

    def status(self) -> StatusReport:
        self.pair.client.get_status()
        answer = self.say()
        assert isinstance(answer, StatusReceived)
        assert answer.report is not None
        return answer.report

    def ask_for_certificate(self) -> Any:
        self.pair.client.submit(server_request(request_id=b"r" * 32))
        return self.say()

    def kinds(self) -> list[str]:
        return [decode_entry(octets).kind for _, octets, _ in self.signer._journal.entries(1, 100)]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(service_module, "Clock", made.clock)
    monkeypatch.setattr(WorkerPool, "start", lambda _: None)
    monkeypatch.setattr(WorkerPool, "unlocked", property(lambda _: True))
    return made


@pytest.fixture
def front(tmp_path: Path, machine: Machine) -> Iterator[Front]:
    made = Front(tmp_path, machine, ORDERS)
    yield made
    made.signer._stop()


def test_a_signer_that_believes_its_clock_runs(front: Front) -> None:
    report = front.status()
    assert (report.state, report.reason, report.clock_warning) == ("running", "", "")
    assert (report.time, report.boot_seconds, report.order_sequence) == (START, 1000, 0)
    assert front.kinds() == ["key", "configuration", "start"]


def test_a_jump_halts_it_and_an_order_over_the_line_makes_it_go_on(front: Front) -> None:
    front.machine.set_clock(by=365 * DAY)
    report = front.status()
    assert report.state == "halted"
    assert "365 days ahead" in report.reason
    assert report.clock_warning == report.reason
    refused = front.ask_for_certificate()
    assert isinstance(refused, RequestFailed)
    assert refused.code == "clock-drift"
    assert front.signer._gate.crl_obstacle() is None
    front.signer._turn(idle=True)
    assert front.kinds()[-1] == "halt"

    said = ConfirmClock(boot_seconds=report.boot_seconds, true_time=report.time)
    order = signed(confirm_clock(boot_id=report.boot_id, arguments=said), 0)
    front.machine.pass_time(3600)
    front.pair.client.send_order(order)
    assert isinstance(front.say(), OrderObeyed)
    report = front.status()
    assert (report.state, report.order_sequence, report.time) == ("running", 1, front.machine.true_time)
    assert front.kinds()[-3:] == ["order", "clock", "resume"]


def test_a_year_back_at_the_start_stops_crls_too(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    front.machine.set_clock(by=-365 * DAY)
    front.restart()
    front.signer._turn(idle=True)
    assert caplog.text.count("halted (clock-implausible): the clock shows 2025-11-23") == 1
    assert front.status().state == "halted"
    obstacle = front.signer._gate.crl_obstacle()
    assert obstacle is not None
    assert obstacle.code == "clock-implausible"
    assert front.signer._journal.last_time == START  # nothing is dated by such a clock


def test_nothing_is_removed_by_a_clock_in_doubt(tmp_path: Path, machine: Machine) -> None:
    front = Front(tmp_path, machine, ORDERS)
    removed: list[dt.datetime] = []
    front.signer._loaded = dataclasses.replace(front.signer._loaded, retention=400 * DAY)

    def note(*, before: dt.datetime, now: dt.datetime) -> int:
        removed.append(before)
        return int(now < before)

    front.signer._journal.remove_parts = note  # type: ignore[method-assign] # to be looked at
    front.signer._keep_house()
    assert removed == [(START - 400 * DAY).replace(hour=0)]
    machine.set_clock(by=500 * DAY)
    front.signer._keep_house()
    assert len(removed) == 1
    front.signer._stop()


def test_without_operators_it_says_that_no_order_can_reach_it(
    tmp_path: Path, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    front = Front(tmp_path, machine, "")
    front.signer._stop()
    assert "no order can reach this signer: signer.toml names no operators" in caplog.text


def test_operators_are_those_of_the_configuration(front: Front) -> None:
    assert front.signer._config.operators == PUBLIC_KEYS[:1]


def test_a_full_disk_stops_certificates_and_nothing_else(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Unavailable("the disk is full", code="disk-full", retry_after_s=300)
    monkeypatch.setattr(DiskReserve, "check", lambda _: full)
    refused = front.ask_for_certificate()
    assert isinstance(refused, RequestFailed)
    assert (refused.code, refused.message) == ("disk-full", "the disk is full")
    assert front.signer._gate.crl_obstacle() is None
    assert front.status().reason == "the disk is full"
    monkeypatch.undo()


def test_it_says_how_much_room_there_is_and_how_fast_that_goes(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    front.signer._keep_house()
    report = front.status()
    assert report.free_octets == front.signer._disk.free_octets > 0
    # Less than a day counts as one: all that there is.
    assert 0 < report.octets_a_day <= (front.directory / "state" / "journal.sqlite").stat().st_size + 10**6
