"""What stands by order comes out of the journal: after a restart, and after it was made again from a copy."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from tests.support.journal_maker import JournalMaker
from tests.support.journal_sites import signer_site
from tests.support.machine_clock import Machine
from tests.support.operators import BOOT_ID, PUBLIC_KEYS, drafted, signed
from tests.support.rebuilding import export, make, opened
from tests.support.signer import NOW, open_journal

from cassiopeia.config import load_signer_config
from cassiopeia.errors import OperatorError
from cassiopeia.journal import entry as entries
from cassiopeia.journal.order import Arguments, BlockKey, DisableValidator, HaltAuthority, RaiseCap, ResumeAuthority
from cassiopeia.journal.standing import InForce, RaisedCap
from cassiopeia.signer.gate import Gate
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.orders import OrderDesk

ORDERS: tuple[Arguments, ...] = (
    HaltAuthority(authority="unassured_2026_1"),
    HaltAuthority(authority="unassured_2026_2"),
    DisableValidator(validator=b"v" * 8),
    BlockKey(key_hash=b"k" * 32),
    ResumeAuthority(authority="unassured_2026_1"),
    RaiseCap(cap="revocations", limit=5000, hours=24),
)


def desk(journal: Journal) -> OrderDesk:
    return OrderDesk(
        journal=journal,
        gate=Gate(journal),
        clock=Machine().clock(),
        signer_id=1,
        boot_id=BOOT_ID,
        operators=PUBLIC_KEYS,
        quorum=2,
    )


def standing(at: dt.datetime) -> InForce:
    return InForce(
        halted_authorities=frozenset({"unassured_2026_2"}),
        disabled_validators=frozenset({b"v" * 8}),
        blocked_keys=frozenset({b"k" * 32}),
        raised_caps={"revocations": RaisedCap(limit=5000, ends=at + dt.timedelta(hours=24))},
    )


def test_orders_are_added_up_at_the_start(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    assert desk(journal).in_force == InForce()
    for sequence, each in enumerate(ORDERS, start=1):
        journal.record_order(sequence, signed(drafted(each, sequence=sequence), 0, 1), now=NOW)
    journal.commit()
    assert desk(journal).in_force == standing(NOW)
    journal.close()


def test_a_journal_that_was_made_again_from_a_copy_says_the_same(tmp_path: Path) -> None:
    made = JournalMaker()
    made.begin()
    for sequence, each in enumerate(ORDERS, start=1):
        made.add(entries.OrderObeyed(sequence=sequence, order=signed(drafted(each, sequence=sequence), 0, 1)))
    config = load_signer_config(signer_site(tmp_path / "signer", JournalMaker()))
    make(config, export(made))
    journal = opened(config)
    at = entries.decode_entry(made.logs[-1].entry).time
    assert desk(journal).in_force == standing(at)
    assert journal.index.order_sequence() == len(ORDERS)
    journal.close()


def test_an_order_that_cannot_be_read_keeps_the_signer_from_starting(tmp_path: Path) -> None:
    """What a newer release obeyed may have halted something: nobody can tell, so nothing is done."""
    journal = open_journal(tmp_path)
    journal.record_order(1, b"of a newer release", now=NOW)
    journal.commit()
    with pytest.raises(OperatorError, match=r"an order that this release cannot read \(.*\): start the release that"):
        desk(journal)
    journal.close()
