from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.signer import NOW, open_journal

from cassiopeia.core.rules import Standing
from cassiopeia.errors import Unavailable
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import LOST_PAST, SIGNATURE_HALT
from cassiopeia.signer.gate import MISTRUSTED_KEY, Gate, Obstacle, check_idle
from cassiopeia.signer.journal import Journal

FULL = Obstacle(code="disk-full", message="the disk is full: make room")
WILD = Obstacle(code="clock-implausible", message="the clock is wild: set it", stops_crls=True)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = open_journal(tmp_path)
    yield opened
    opened.close()


def kinds(journal: Journal) -> list[str]:
    journal.commit()
    return [entries.decode_entry(octets).kind for _, octets, _ in journal.entries(2, 100)]


def refused(gate: Gate) -> str:
    """The code with which nothing is issued."""
    with pytest.raises(Unavailable) as caught:
        gate.check_issuing()
    assert caught.value.retry_after_s == 300
    return caught.value.code


def test_nothing_stands_in_the_way(journal: Journal) -> None:
    gate = Gate(journal, [lambda: None, lambda: None])
    gate.check_issuing()
    gate.check_revoking()
    assert (gate.reasons(), gate.crl_obstacle()) == ([], None)


def test_obstacles_are_asked_anew_each_time(journal: Journal) -> None:
    obstacle: list[Obstacle | None] = [FULL]
    gate = Gate(journal, [lambda: None, lambda: obstacle[0]])
    assert refused(gate) == "disk-full"
    with pytest.raises(Unavailable, match="the disk is full: make room"):
        gate.check_issuing()
    obstacle[0] = None
    gate.check_issuing()
    assert kinds(journal) == []


def test_what_stops_certificates_need_not_stop_crls(journal: Journal) -> None:
    assert Gate(journal, [lambda: FULL]).crl_obstacle() is None
    assert Gate(journal, [lambda: FULL, lambda: WILD]).crl_obstacle() == WILD
    # Revocations are taken all the same.
    Gate(journal, [lambda: FULL, lambda: WILD]).check_revoking()


def test_an_obstacle_may_stop_revocations(journal: Journal) -> None:
    flood = Obstacle(code="flood", message="all is under water", stops_revocations=True)
    with pytest.raises(Unavailable, match="under water") as caught:
        Gate(journal, [lambda: FULL, lambda: flood]).check_revoking()
    assert (caught.value.code, caught.value.retry_after_s) == ("flood", 300)


def test_a_halt_is_journaled_once_and_outlives_the_process(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    gate = Gate(journal)
    for _ in range(3):
        gate.halt("order", "an audit", now=NOW)
    assert refused(gate) == "order"
    assert kinds(journal) == ["halt"]
    ((_, octets, (part,)),) = journal.entries(2, 1)
    assert entries.decode_body(entries.decode_entry(octets)) == entries.Halt(code="order")
    assert entries.decode_part(entries.Reason, part).message == "an audit"
    journal.close()

    journal = open_journal(tmp_path)
    gate = Gate(journal)
    assert refused(gate) == "order"
    with pytest.raises(Unavailable, match=r"halted by an order of its operators \(order\)"):
        gate.check_issuing()
    gate.halt("order", "again", now=NOW)
    assert kinds(journal) == ["halt"]
    # CRLs and revocations go on.
    gate.check_revoking()
    assert gate.crl_obstacle() is None
    journal.close()


def test_a_halt_stands_until_it_is_ended(journal: Journal) -> None:
    gate = Gate(journal)
    gate.resume("order", now=NOW)
    assert kinds(journal) == []
    gate.halt("order", "", now=NOW)
    gate.resume("another", now=NOW)
    assert refused(gate) == "order"
    gate.resume("order", now=NOW)
    gate.resume("order", now=NOW)
    gate.check_issuing()
    assert kinds(journal) == ["halt", "resume"]
    gate.halt("order", "", now=NOW)
    assert refused(gate) == "order"
    assert kinds(journal) == ["halt", "resume", "halt"]


def test_a_wrong_signature_halts_one_sub_ca_and_outlives_the_process(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    gate = Gate(journal)
    code = SIGNATURE_HALT + "assured_2026_1"
    gate.halt(code, "gnutls finds it wrong", now=NOW)
    gate.halt(code, "and again", now=NOW)
    assert kinds(journal) == ["halt"]
    assert gate.mistrusted == {"assured_2026_1": "gnutls finds it wrong"}
    journal.close()

    journal = open_journal(tmp_path)
    gate = Gate(journal)
    assert gate.mistrusted == {"assured_2026_1": "gnutls finds it wrong"}
    assert gate.reasons() == []
    gate.check_issuing()
    gate.resume(code, now=NOW)
    assert gate.mistrusted == {}
    assert kinds(journal) == ["halt", "resume"]
    journal.close()


def test_what_was_wrong_may_have_been_removed(journal: Journal) -> None:
    code = SIGNATURE_HALT + "assured_2026_1"
    Gate(journal).halt(code, "gnutls finds it wrong", now=NOW)
    journal.commit()
    journal.remove_parts(before=NOW + dt.timedelta(days=1), now=NOW)
    # Whoever looks for a sentence still finds one: it is halted all the same.
    assert Gate(journal).mistrusted == {"assured_2026_1": "what was wrong has been removed from the journal since"}


def test_an_idle_sub_ca_is_named_with_its_reason() -> None:
    standing = Standing(idle_authorities={"assured_2026_1": MISTRUSTED_KEY})
    check_idle("assured_2026_2", standing)
    with pytest.raises(Unavailable, match="the sub-CA assured_2026_1 is halted, because a signature") as waits:
        check_idle("assured_2026_1", standing)
    assert (waits.value.code, waits.value.retry_after_s) == ("authority-halted", 600)


def test_a_lost_past_stops_everything(journal: Journal) -> None:
    gate = Gate(journal)
    gate.halt(LOST_PAST, "a client holds more", now=NOW)
    assert refused(gate) == LOST_PAST
    with pytest.raises(Unavailable, match="`cassiopeia signer rebuild`"):
        gate.check_revoking()
    obstacle = gate.crl_obstacle()
    assert obstacle is not None
    assert (obstacle.code, "lost part of its past" in obstacle.message) == (LOST_PAST, True)


def test_an_epoch_ends_it(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    Gate(journal).halt(LOST_PAST, "a client holds more", now=NOW)
    journal.record_epoch(head=b"", now=NOW)
    journal.commit()
    journal.close()
    journal = open_journal(tmp_path)
    Gate(journal).check_issuing()
    journal.close()


def test_a_halt_for_the_clock_stands_in_the_journal_and_the_clock_explains_it(journal: Journal) -> None:
    """So that what is said is what the clock finds now; the entry makes it outlive a restart."""
    gate = Gate(journal, [lambda: WILD])
    gate.halt("clock-leap", "it leapt", now=NOW)
    assert gate.reasons() == [WILD]
    assert list(journal.index.halts()) == ["clock-leap"]
    gate.resume("clock-leap", now=NOW)
    assert journal.index.halts() == {}


def test_halts_come_before_obstacles(journal: Journal) -> None:
    gate = Gate(journal, [lambda: FULL, lambda: WILD])
    gate.halt("order", "", now=NOW)
    gate.halt(LOST_PAST, "", now=NOW)
    assert [each.code for each in gate.reasons()] == [LOST_PAST, "order", "disk-full", "clock-implausible"]
    assert refused(gate) == LOST_PAST
