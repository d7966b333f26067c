"""The signer's desks in any order of events: what it said stands, and its journal can be held to every rule.

Clients come and go, confirm, veto and revoke, workers fail, something stands in the way, the process dies between any
two steps. What clients were told is remembered; at the end the journal is replayed, and every head that went out, every
certificate and every CRL is looked for in it.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.authorities import certification_request, default_ca
from tests.support.conversations import Pair
from tests.support.issuing import intent_in, wanted
from tests.support.journal_copy import JournalCopy
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.journal_records import derived_rows
from tests.support.signer import CONFIGURATION_HASH, SIGNING_CA, Front

from cassiopeia.core import algorithms, crl
from cassiopeia.core.certificate import compose_certificate, read_tbs, split_certificate
from cassiopeia.core.request import CertificateRequest, Revocation, RevocationRequest
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.entry import Log
from cassiopeia.journal.replay import Replay
from cassiopeia.protocol import payload
from cassiopeia.protocol.events import (
    CertificateIssued,
    EntriesReceived,
    Event,
    FullCrlReceived,
    LogReceived,
    RequestAbandoned,
    RequestFailed,
    RequestRefused,
    RevocationAnswered,
)
from cassiopeia.signer.gate import Obstacle
from cassiopeia.signer.issuance import INTENT_LIFE_S
from cassiopeia.signer.journal_index import INDEX_VERSION
from cassiopeia.signer.tasks import Deferred

# Version 1, which knows no accounts, shares the second with an account of version 2.
KEY_PROOFS = [certification_request(), certification_request("Ed25519"), certification_request("RSA")]
OBSTACLES = [
    *[None] * 6,
    Obstacle(code="disk-full", message="the disk is full"),
    Obstacle(code="clock-implausible", message="the clock is wild", stops_crls=True),
]


@dataclass(kw_only=True)
class Talk:
    """One client in one session: what it asked for, the logs that came, and those that wait for its word."""

    pair: Pair
    asked: dict[int, CertificateRequest | RevocationRequest] = field(default_factory=dict)
    logs: dict[int, LogReceived] = field(default_factory=dict)
    undecided: list[int] = field(default_factory=list)
    vetoed: set[int] = field(default_factory=set)


class World:
    """A signer, its clients, and what they were told: nothing of it may turn out otherwise.

    What happens takes a number, which decides between whatever there is to decide.
    """

    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="cassiopeia-signer-")
        self.front = Front(directory=Path(self.directory.name))
        documents = [(f"{SIGNING_CA}.pem", default_ca().pem)]
        self.front.journal.record_configuration(CONFIGURATION_HASH, documents, now=self.front.now)
        self.front.journal.commit()
        self.talks: list[Talk] = []
        self.issued: dict[bytes, tuple[bytes, int | None]] = {}  # by request id
        self.serials: dict[bytes, bytes] = {}  # octets of certificates by serial number
        self.owners: dict[bytes, str] = {}  # accounts by public key
        self.abandoned: set[bytes] = set()
        self.heads: set[bytes] = set()
        self.answers: dict[bytes, tuple[RevocationRequest, int]] = {}
        self.crls: dict[int, bytes] = {}  # TBSCertList by number
        self.copy = JournalCopy()

    # Clients.

    def connect(self, number: int) -> None:
        self.talks.append(Talk(pair=self.front.connect(1 if number % 4 == 3 else 2)))

    def leave(self, number: int) -> None:
        if self.talks:
            self.front.vanish(self.talks.pop(number % len(self.talks)).pair)

    def ask(self, number: int) -> None:
        """For one of four requests, seldom for another under its id, or for what is refused."""
        talk = self._free_talk(number)
        if talk is None:
            return
        variant, good = number // 4 % 5 == 4, number // 20 % 5 != 4
        request = wanted(
            request_id=bytes([number % 4]) * 32,
            key_proof=KEY_PROOFS[variant],
            **({} if good else {"profile": "none"}),
        )
        if talk.pair.client.version == 1:
            request = wanted(request_id=b"", account="", key_proof=KEY_PROOFS[1 + number % 2])
        talk.asked[talk.pair.client.submit(request)] = request

    def confirm(self, number: int) -> None:
        """A log that came; seldom with a wrong hash."""
        talk, handle = self._take_log(number)
        if talk is None:
            return
        if number % 7 == 6:
            talk.pair.client._exchange(handle).log_hash = b"?" * 32
        elif talk.pair.client.version > 1:
            self.copy.note(talk.logs[handle])
        talk.pair.client.confirm_log(handle)

    def buy(self, number: int) -> None:
        """A request, all the way to its certificate if nothing is in the way."""
        self.ask(number % 20)
        self.settle(0)
        self.confirm(0)
        self.settle(0)

    def veto(self, number: int) -> None:
        talk, handle = self._take_log(number, version=2)
        if talk is not None:
            talk.pair.client.abandon(handle, "a bad certificate")

    def veto_before_the_log(self, number: int) -> None:
        for talk in self.talks:
            for handle, request in talk.asked.items():
                waits = handle in talk.pair.client.open_handles and handle not in talk.logs
                if waits and talk.pair.client.version > 1 and isinstance(request, CertificateRequest):
                    if handle not in talk.vetoed:
                        talk.vetoed.add(handle)
                        talk.pair.client.abandon(handle, f"changed my mind {number}")
                    return

    def revoke(self, number: int) -> None:
        """None, one or two of those that were issued, or one that never was."""
        talk = self._free_talk(number)
        if talk is None:
            return
        known = [*sorted(self.serials), bytes(15) + b"\7"]
        chosen = [int.from_bytes(known[each % len(known)], "big") for each in (number, number // 3)][: number % 3]
        request = RevocationRequest(
            signing_ca=SIGNING_CA,
            revocations=tuple(Revocation(serial_number=each) for each in chosen),
            request_id=bytes([number // 5 % 3 + 1]) * 32 if talk.pair.client.version > 1 else b"",
        )
        talk.asked[talk.pair.client.revoke(request)] = request

    def ask_for_the_full_crl(self, number: int) -> None:
        talk = self._free_talk(number)
        if talk is not None and talk.pair.client.version > 1:
            talk.pair.client.get_full_crl(SIGNING_CA)

    def ask_for_entries(self, number: int) -> None:
        """One client keeps the copy: it asks, and takes what comes."""
        talk = next((each for each in self.talks if each.pair.client.version > 1), None)
        if talk is not None:
            talk.pair.client.get_entries(len(self.copy.entries) + 1, number % 20)
            self.carry(0)
            self.hear(0)

    # The signer.

    def carry(self, _: int) -> None:
        self.front.carry()

    def work(self, number: int) -> None:
        """A worker is done with its task; seldom without success."""
        if not self.front.tasks:
            return
        task = self.front.tasks.popleft()
        if number % 5 == 4:
            self.front.deliver(Deferred(task=task.task, code="internal", message="no key", retry_after_s=1))
        else:
            self.front.deliver(self.front.worker.carry_out(task))

    def commit(self, _: int) -> None:
        self.front.journal.commit()
        for pair in self.front.pairs:
            for event in pair.signer.take_events():
                self.front.on_event(pair.signer, event)

    def settle(self, _: int) -> None:
        """Everything that is under way arrives."""
        self.front.settle()
        self.hear(0)

    def pass_time(self, number: int) -> None:
        self.front.now += dt.timedelta(seconds=(1, 60, 3_600, 50_000)[number % 4])

    def keep_house(self, number: int) -> None:
        self.front.clock += INTENT_LIFE_S + 1 if number % 3 == 2 else 1
        self.front.issuance.expire(now=self.front.now)
        self.front.revocation.renew(now=self.front.now)

    def stand_in_the_way(self, number: int) -> None:
        self.front.obstacle = OBSTACLES[number % len(OBSTACLES)]

    def halt(self, number: int) -> None:
        if number % 3 == 2:
            self.front.gate.halt("order", "by order", now=self.front.now)
        else:
            self.front.gate.resume("order", now=self.front.now)

    def die(self, _: int) -> None:
        self.front.restart()
        self.talks.clear()

    # What clients hear.

    def hear(self, _: int) -> None:
        for talk in self.talks:
            for event in self.front.answers(talk.pair):
                self._hear(talk, event)

    def _hear(self, talk: Talk, event: Event) -> None:
        match event:
            case LogReceived(handle=handle):
                talk.logs[handle] = event
                talk.undecided.append(handle)
                self._note_head(event.head)
            case CertificateIssued(handle=handle):
                self._hear_certificate(talk, talk.asked[handle], event)
            case RequestAbandoned(handle=handle, index=index):
                self._note_head(event.head)
                if index is not None:
                    assert event.head is not None
                    assert heads.read_head(event.head).size >= index
                    body = self._body(index)
                    assert isinstance(body, entries.Abandonment)
                    self.abandoned.add(self._body(body.intent).serial_number)
            case RevocationAnswered(handle=handle):
                request = talk.asked[handle]
                assert isinstance(request, RevocationRequest)
                self._hear_revocation(request, event.answer, version=talk.pair.client.version)
            case FullCrlReceived(der=der):
                self._note_crl(crl.check_crl(der, authority=self.front.authority))
            case EntriesReceived():
                assert self.copy.take(event).size >= len(self.copy.entries)
                self._note_head(event.head)
            case RequestRefused(code=code):
                assert code in {"profile-unknown", "request-id-taken", "unknown-serial", "key-in-use"}
            case RequestFailed(code=code):
                assert code in {
                    "busy",
                    "disk-full",
                    "clock-implausible",
                    "order",
                    "internal",
                    "log-mismatch",
                    "log-confirmed",
                    "intent-ended",
                    "authority-full",
                    "no-crl",
                }
            case _:
                raise AssertionError(f"nobody asked for {event}")

    def _hear_certificate(self, talk: Talk, request: object, event: CertificateIssued) -> None:
        assert isinstance(request, CertificateRequest)
        log = talk.logs[event.handle].log
        if event.certificate is not None:
            certificate = event.certificate
        else:
            entry, intent, part = intent_in(log)
            certificate = compose_certificate(part.tbs_certificate, event.signature or b"")
            # It is on the disk before it is told.
            assert event.index is not None
            assert entries.Result(intent=entry.index) == self._body(event.index)
            told = event.signature or b"", event.index
            assert self.issued.setdefault(intent.request_id, told) == told
            self._note_head(event.head)
        tbs, algorithm, signature = split_certificate(certificate)
        algorithms.verify(self.front.authority.public_key, algorithms.algorithm_from_der(algorithm), signature, tbs)
        says = read_tbs(tbs)
        assert self.owners.setdefault(says.subject_public_key_info, request.account) == request.account
        serial = says.serial_number.to_bytes(16, "big")
        assert self.serials.setdefault(serial, certificate) == certificate

    def _hear_revocation(self, request: RevocationRequest, answer: payload.RevokedAnswer, *, version: int) -> None:
        if version == 1:
            return
        patched = crl.patch(
            None,
            authority=self.front.authority,
            algorithm_der=answer.algorithm,
            this_update=answer.this_update,
            next_update=answer.next_update,
            crl_number=answer.crl_number,
            new_entries=answer.entries,
            signature=answer.signature,
        )
        found = crl.check_crl(crl.compose_crl(patched.tbs, patched.signature), authority=self.front.authority)
        assert found == patched
        self._note_crl(found)
        assert {each.serial_number for each in request.revocations} <= set(crl.entry_serials(found.entries))
        if request.revocations:
            told = request, answer.crl_number
            assert self.answers.setdefault(request.request_id, told) == told

    # What is true at any time.

    def look(self) -> None:
        counted = {name: count for name, count in self.front.issuance.issued.items() if count}
        assert counted == self.front.journal.index.used_counts()
        assert not self.abandoned & self.serials.keys()

    def close(self) -> None:
        self.front.journal.close()
        self.directory.cleanup()

    def look_at_the_end(self) -> None:
        journal = self.front.journal
        journal.commit()
        # 1. The journal keeps every rule, and no part is missing.
        replay = Replay()
        for _, octets, parts in journal.entries(1, journal.size):
            replay.append(Log(entry=octets, parts=parts))
        replay.finish(complete=True)
        assert replay.unchecked_signatures == 0
        # 2. It goes on from every head that went out.
        for head in {*self.heads, journal.signed_head()}:
            replay.check_head(head, [JOURNAL_PUBLIC_KEY])
        # 3. What clients were told stands in it.
        for serial, certificate in self.serials.items():
            issuance = replay.certificates.find_serial(serial)
            assert issuance is not None
            assert issuance.state == "issued"
            assert entries.part_hash(split_certificate(certificate)[2]) in issuance.signature_hashes
        for serial in self.abandoned:
            issuance = replay.certificates.find_serial(serial)
            assert issuance is not None
            assert issuance.state == "abandoned"
        for number, tbs in self.crls.items():
            record = journal.index.crl(SIGNING_CA, number)
            assert record is not None
            assert record.tbs_hash == entries.part_hash(tbs)
        # 4. The copy is its beginning, and its tables follow from it.
        copied = [octets for _, octets, _ in journal.entries(1, len(self.copy.entries))]
        assert self.copy.entries == copied
        rows = derived_rows(journal)
        journal._execute(f"PRAGMA user_version = {INDEX_VERSION + 1}")
        self.front.restart()
        if self.front.journal.size == replay.size:
            assert derived_rows(self.front.journal) == rows

    # Details.

    def _undecided(self, version: int = 1) -> list[tuple[Talk, int]]:
        """Logs that may be confirmed, or vetoed."""
        return [
            (talk, handle)
            for talk in self.talks
            for handle in talk.undecided
            if handle in talk.pair.client.open_handles and talk.pair.client.version >= version
        ]

    def _take_log(self, number: int, version: int = 1) -> tuple[Talk | None, int]:
        found = self._undecided(version)
        if not found:
            return None, 0
        talk, handle = found[number % len(found)]
        talk.undecided.remove(handle)
        return talk, handle

    def _free_talk(self, number: int) -> Talk | None:
        """A session that may open one more request; version 1 has one in all."""
        free = [
            talk
            for talk in self.talks
            if talk.pair.client.capacity and (talk.pair.client.version > 1 or not talk.asked)
        ]
        return free[number % len(free)] if free else None

    def _body(self, index: int) -> Any:
        assert index <= self.front.journal.size, "it was told before it was on the disk"
        ((_, octets, _),) = self.front.journal.entries(index, 1)
        return entries.decode_body(entries.decode_entry(octets))

    def _note_head(self, head: bytes | None) -> None:
        if head is not None:
            assert heads.verify_head(head, [JOURNAL_PUBLIC_KEY]).size <= self.front.journal.size
            self.heads.add(head)

    def _note_crl(self, found: crl.Crl) -> None:
        assert self.crls.setdefault(found.number, found.tbs) == found.tbs
        record = self.front.journal.index.crl(SIGNING_CA, found.number)
        assert record is not None


# What happens, as often as it stands here.
HAPPENS = [
    *[World.settle] * 8,
    *[World.ask, World.confirm] * 6,
    *[World.buy] * 3,
    *[World.carry, World.work, World.commit, World.hear] * 4,
    *[World.connect, World.revoke] * 3,
    *[World.keep_house, World.pass_time, World.die] * 2,
    *(World.leave, World.veto, World.veto_before_the_log, World.ask_for_the_full_crl, World.ask_for_entries),
    *(World.stand_in_the_way, World.halt),
]


@given(st.lists(st.tuples(st.sampled_from(HAPPENS), st.integers(0, 1000)), min_size=50, max_size=150))
@settings(max_examples=25)
def test_what_the_signer_said_stands(happened: list[tuple[Callable[[World, int], None], int]]) -> None:
    world = World()
    try:
        for number in range(2):
            world.connect(number)
        for happens, number in happened:
            happens(world, number)
            world.look()
        world.look_at_the_end()
    finally:
        world.close()
