"""Somebody who asks a signer in memory for certificates and CRLs over its lines, and writes down what he hears.

He does what the signer client does, without a store: compares nothing, keeps everything (`invariants.Heard`). Lines may
be lost under his feet; he asks again under the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.invariants import Fact, Heard
from tests.support.authorities import alt_names, server_request
from tests.support.conversations import Pair
from tests.support.signer import CONFIGURATION_HASH, Front

from cassiopeia.core import certificate, crl
from cassiopeia.core.request import CertificateRequest, Revocation, RevocationRequest
from cassiopeia.errors import PeerError
from cassiopeia.journal import entry as entries
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
from cassiopeia.protocol.payload import RevokedAnswer
from cassiopeia.signer.tasks import Outcome, Sign, Task
from cassiopeia.signer.worker import Worker


@dataclass(kw_only=True)
class Flight:
    """What a handle stands for: a request, or a revocation."""

    request_id: bytes = b""
    log: bytes = b""
    confirmed: bool = False


@dataclass(kw_only=True)
class Customer:
    """`now` gives the moment that is written behind each fact."""

    front: Front
    now: Callable[[], int] = lambda: 0
    heard: Heard = field(default_factory=Heard)
    requests: dict[bytes, CertificateRequest] = field(default_factory=dict)
    refused: set[bytes] = field(default_factory=set)
    copy: crl.Crl | None = None
    pair: Pair = field(init=False)
    flights: dict[int, Flight] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.connect()

    def connect(self) -> None:
        """A new line; what was under way on the old one is forgotten."""
        self.pair = self.front.connect()
        self.flights.clear()

    def ask(self, number: int, *, name: str = "") -> bytes:
        """Ask for the certificate with this number, for the first time or again; return the request's id."""
        request_id = hashlib.sha256(b"%d" % number).digest()
        request = server_request(
            request_id=request_id,
            account="alice",
            attributes=(),
            alt_names=alt_names(f"DNS,{name or f'n{number}.example.org'}"),
        )
        self.requests[request_id] = request
        self.flights[self.pair.client.submit(request)] = Flight(request_id=request_id)
        return request_id

    def confirm(self) -> None:
        """Confirm every log that has come."""
        for handle, flight in self.flights.items():
            if flight.log and not flight.confirmed:
                self.pair.client.confirm_log(handle)
                flight.confirmed = True

    def veto(self) -> None:
        """Refuse every log that has come."""
        for handle, flight in self.flights.items():
            if flight.log and not flight.confirmed:
                self.pair.client.abandon(handle, "it looks wrong")
                flight.confirmed = True

    def revoke(self, *ders: bytes, request_id: bytes = b"") -> None:
        """Ask for the revocation of these certificates, or of none: for a fresh CRL."""
        serials = [certificate.read_tbs(certificate.split_certificate(each)[0]).serial_number for each in ders]
        handle = self.pair.client.revoke(
            RevocationRequest(
                signing_ca=self.front.authority.name,
                revocations=tuple(Revocation(serial_number=each, reason=1) for each in serials),
                crl_number=self.copy.number if self.copy else 0,
                tbs_hash=hashlib.sha256(self.copy.tbs).digest() if self.copy else b"",
                request_id=request_id,
            )
        )
        self.flights[handle] = Flight()

    def listen(self) -> list[Event]:
        """Take what has come, write it down, and return it."""
        events = self.front.answers(self.pair)
        for event in events:
            self._take(event)
        return events

    def _take(self, event: Event) -> None:
        head = getattr(event, "head", None)
        if head:
            self._note(Fact(kind="head", octets=head, at=self.now()))
        match event:
            case LogReceived(handle=handle, log=log):
                self.flights[handle].log = log
                self._note(Fact(kind="log", octets=log, at=self.now()))
            case CertificateIssued(handle=handle, signature=signature):
                flight = self.flights.pop(handle)
                part = entries.decode_part(entries.Requested, entries.decode_log(flight.log).parts[0])
                der = certificate.compose_certificate(part.tbs_certificate, signature or b"")
                self._note(Fact(kind="certificate", octets=der, name=flight.request_id.hex(), at=self.now()))
            case RequestAbandoned(handle=handle, index=index):
                del self.flights[handle]
                if index is not None:
                    self._note(Fact(kind="abandoned", index=index, at=self.now()))
            case RequestRefused(handle=handle):
                self.refused.add(self.flights.pop(handle).request_id)
            case RequestFailed(handle=handle):
                del self.flights[handle]
            case RevocationAnswered(handle=handle, answer=answer):
                del self.flights[handle]
                self._patch(answer)
            case FullCrlReceived(handle=handle, der=der):
                self.flights.pop(handle, None)
                self._take_crl(der)
            case EntriesReceived():
                pass
            case _:
                raise AssertionError(f"nobody asked for {event}")

    def ask_full_crl(self) -> None:
        self.flights[self.pair.client.get_full_crl(self.front.authority.name)] = Flight()

    def _patch(self, answer: RevokedAnswer) -> None:
        if self.copy is not None and answer.crl_number <= self.copy.number:
            return  # the answer of long ago, to the same request
        try:
            patched = crl.patch(
                self.copy,
                authority=self.front.authority,
                algorithm_der=answer.algorithm,
                this_update=answer.this_update,
                next_update=answer.next_update,
                crl_number=answer.crl_number,
                new_entries=answer.entries,
                signature=answer.signature,
            )
        except PeerError:
            self.ask_full_crl()
        else:
            self._take_crl(crl.compose_crl(patched.tbs, patched.signature))

    def _take_crl(self, der: bytes) -> None:
        """A verified CRL becomes the copy, unless a newer one is there."""
        read = crl.check_crl(der, authority=self.front.authority)
        if self.copy is None or read.number > self.copy.number:
            self.copy = read
            self._note(Fact(kind="crl", octets=der, name=self.front.authority.name, at=self.now()))

    def _note(self, fact: Fact) -> None:
        self.heard.facts.append(fact)


class NotingWorker:
    """A worker whose uses of the CA key are written down too."""

    def __init__(self, worker: Worker, customer: Customer) -> None:
        self._worker = worker
        self._customer = customer

    def carry_out(self, task: Task) -> Outcome:
        if isinstance(task, Sign) and not _is_crl(task.octets):
            self._customer.heard.facts.append(Fact(kind="signed", octets=task.octets, at=self._customer.now()))
        return self._worker.carry_out(task)


def _is_crl(tbs: bytes) -> bool:
    try:
        certificate.read_tbs(tbs)
    except PeerError:
        return True
    return False


def watch_key(front: Front, customer: Customer) -> None:
    """From here on, let `customer` write down every use of the CA key for a certificate."""
    front.worker = NotingWorker(front.worker, customer)  # type: ignore[assignment] # what is called of it is the same


def configure(front: Front) -> None:
    """Journal what the signer judges by, as its service does at the start, so that a replay can judge it too."""
    if front.journal.index.configuration_hash() != CONFIGURATION_HASH:
        documents = [(f"{front.authority.name}.crt", front.authority.certificate)]
        front.journal.record_configuration(CONFIGURATION_HASH, documents, now=front.now)
        front.journal.commit()


def turn(front: Front, *customers: Customer) -> None:
    """One turn of the signer's loop. Whatever leaves the signer is heard at once, whether it was to leave or not."""
    for step in (front.carry, front.work, front.journal.commit):
        step()
        for each in customers:
            each.listen()
    for pair in front.pairs:
        for event in pair.signer.take_events():
            front.on_event(pair.signer, event)
