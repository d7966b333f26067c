"""A system at rest, after whatever went wrong: both programs have ended, and everything is looked at from outside.

The signer's journal is read from a copy of its files by SQLite itself, the client's side through the store, what is
published with openssl.
"""

from __future__ import annotations

import datetime as dt
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from sqlalchemy import select
from tests.faults.invariants import Fact, Heard, check
from tests.faults.system import SIGNER_ID, FaultySystem

from cassiopeia.core import crl
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import Log
from cassiopeia.journal.replay import Replay
from cassiopeia.store.models import signing_log

STATE = "ca/signer/state"
ARMED = "armed"
"""The file that `FaultySystem.arm` makes."""
HEARD = "heard.jsonl"
"""Where clients that were started with `Plan.heard` have written down what the signer said."""


def check_at_rest(
    system: FaultySystem,
    *,
    refused: int = 0,
    set_aside: int = 0,
    drained: bool = True,
    known_from: int = 1,
    rebuilt: bool = False,
) -> Replay:
    """Raise AssertionError unless everything holds that must.

    `drained`: nothing waits in the queue any more. `known_from`: the entry of the journal at which this store began.
    `rebuilt`: the journal was made again from a client's copy that was behind: what was heard need not be in it, only
    what was kept.
    """
    try:
        return _check(system, refused, set_aside, known_from, drained=drained, rebuilt=rebuilt)
    except Exception as error:
        error.add_note(system.logs())
        raise


def _check(
    system: FaultySystem, refused: int, set_aside: int, known_from: int, *, drained: bool, rebuilt: bool
) -> Replay:
    with tempfile.TemporaryDirectory() as directory:
        shutil.copytree(system.directory / STATE, directory, dirs_exist_ok=True)
        logs = list(read_journal(Path(directory)))
    heard = Heard() if rebuilt else read_heard(system)
    for each in system.certificates:
        heard.facts.append(Fact(kind="certificate", octets=each.der, name=each.request_id))
    for name in system.authorities:
        record = system.store.crls.get(name)
        if record is not None:
            heard.facts.append(Fact(kind="crl", octets=record.der, name=name))
    replay = check(logs, heard, keys=system.journal_keys, deep=True)
    _check_copy(system, logs)
    _check_requests(system, refused=refused, drained=drained)
    _check_queue(system, set_aside=set_aside, drained=drained)
    _check_logs_kept(system, replay, known_from=known_from)
    if drained and not set_aside:
        _check_certificates_kept(system, replay, known_from=known_from)
    _check_revocations(system, replay, drained=drained)
    return replay


def read_journal(directory: Path) -> Iterator[Log]:
    """Every entry of the journal in this directory, whose signer has ended."""
    database = sqlite3.connect(directory / "journal.sqlite")
    try:
        for position, octets in database.execute("SELECT position, entry FROM entry ORDER BY position"):
            parts = dict(database.execute("SELECT ordinal, octets FROM part WHERE position = ?", (position,)))
            count = len(entries.decode_entry(octets).parts)
            yield Log(entry=octets, parts=tuple(parts.get(each, b"") for each in range(count)))
    finally:
        database.close()


def read_heard(system: FaultySystem) -> Heard:
    path = system.directory / HEARD
    lines = path.read_bytes().splitlines() if path.exists() else []
    return Heard(facts=[msgspec.json.decode(line, type=Fact) for line in lines])


def _check_copy(system: FaultySystem, logs: list[Log]) -> None:
    """The client's copy begins as the journal does, and lacks no part of what it has."""
    state = system.store.journal_copies.state(SIGNER_ID)
    copied = list(system.store.journal_copies.logs(SIGNER_ID))
    assert len(copied) == state.link.size
    for mine, theirs in zip(copied, logs, strict=False):
        assert mine.entry == theirs.entry
    assert len(copied) <= len(logs), "the client has entries that the signer has lost"


def _check_requests(system: FaultySystem, *, refused: int, drained: bool) -> None:
    certificates = system.certificates
    serials = {each.serial_number for each in certificates}
    assert len(serials) == len(certificates) == len({each.request_id for each in certificates})
    states = [system.find(each) for each in system.requests]
    by_request = {each.request_id: each for each in certificates}
    for each in states:
        issued = each.request.request_id.hex() in by_request
        assert issued == (each.state == "issued"), f"{each.state}, and a certificate: {issued}"
        assert bool(each.refusal_message) == (each.state == "refused")
    assert sum(each.state == "refused" for each in states) == refused
    if drained:
        assert not [each for each in states if each.state == "queued" and not each.set_aside]


def _check_queue(system: FaultySystem, *, set_aside: int, drained: bool) -> None:
    queue = system.store.queue.statistics(now=dt.datetime.now(dt.UTC))
    assert sum(queue.leased.values()) == 0, "the client has ended and holds jobs"
    assert sum(queue.set_aside.values()) == set_aside
    if drained:
        assert sum(queue.waiting.values()) == 0


def _check_logs_kept(system: FaultySystem, replay: Replay, *, known_from: int) -> None:
    """Of every certificate that was ever released, the client has the log that was confirmed."""
    with system.store.database.read() as connection:
        kept = {row[0] for row in connection.execute(select(signing_log.c.sha256))}
    for each in replay.certificates:
        if each.state in {"confirmed", "issued"} and each.index >= known_from:
            assert each.log_hash in kept, f"the log of entry {each.index} was confirmed, and is not in the store"


def _check_certificates_kept(system: FaultySystem, replay: Replay, *, known_from: int) -> None:
    """What was signed is in the store, or nobody could revoke it."""
    kept = {bytes.fromhex(each.serial_number) for each in system.certificates}
    for each in replay.certificates:
        if each.state == "issued" and each.index >= known_from:
            assert each.serial_number in kept, f"entry {each.index} became a certificate that the store does not have"


def _check_revocations(system: FaultySystem, replay: Replay, *, drained: bool) -> None:
    """What is published verifies, is current, is what the store has, and lists all that is called revoked."""
    listed: set[str] = set()
    public = system.directory / "ca/client/public"
    for name in system.authorities:
        record = system.store.crls.get(name)
        assert record is not None
        der = (public / f"{name}.crl").read_bytes()
        assert der == record.der
        read = crl.read_crl(der)
        assert read.next_update > dt.datetime.now(dt.UTC)
        shown = system.openssl(
            *("crl", "-inform", "DER", "-in", f"ca/client/public/{name}.crl"),
            *("-CAfile", f"ca/client/public/{name}.pem", "-noout", "-verify"),
        )
        assert "verify OK" in shown.stderr
        serials = list(crl.entry_serials(read.entries))
        assert len(serials) == len(set(serials))
        if drained and name in replay.crls.lists:
            assert len(serials) == replay.crls.lists[name].revoked, "a revocation is journaled and not published"
        listed.update(f"{each:032x}" for each in serials)
    states = {each.serial_number: each.revocation_state for each in system.certificates}
    assert {serial for serial, state in states.items() if state == "revoked"} <= listed
    if drained:
        assert "requested" not in states.values()
        assert {serial for serial, state in states.items() if state == "revoked"} == listed & set(states)
