"""Where the time of one certificate goes: CPU of each step, measured alone, in one process, on the same requests.

RSA-2048 request, the sub-CA's key as given, version 2, batches as the real processes have them. What is missing from a
whole drain (system calls, waiting for the disk, scheduling) shows in `throughput`.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench import backlog
from cassiopeia.client.lint_worker import lint
from cassiopeia.config import ClientConfig, SignerConfig, load_client_config, load_signer_config
from cassiopeia.core import algorithms, certificate, csr
from cassiopeia.core.authority import Authority
from cassiopeia.core.certificate import CheckedTbs
from cassiopeia.core.request import request_digest
from cassiopeia.journal import entry as entries
from cassiopeia.link.credentials import client_tls, signer_tls
from cassiopeia.protocol import payload
from cassiopeia.protocol.connection import Connection
from cassiopeia.protocol.events import CertificateIssued, Event, LogConfirmed, LogReceived, SignRequested
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import Role
from cassiopeia.protocol.session import Session
from cassiopeia.signer.configuration import configuration_hash, own_entries
from cassiopeia.signer.journal import Intent, Journal
from cassiopeia.signer.journal_key import load_journal_key
from cassiopeia.signer.tasks import Decide, Decided, Sign, Signed
from cassiopeia.signer.worker import make_worker
from cassiopeia.store.database import Store, open_store
from cassiopeia.store.records import IssuedResult, SigningLog, SignJob

CERTIFICATES = 640
_BATCH = 16
_LEASE = 200


@dataclass(kw_only=True)
class Clock:
    """CPU seconds by step, in the order in which they were first measured."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, step: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.process_time() - began


@dataclass(kw_only=True)
class _Flight:
    job: SignJob
    key: csr.CertifiedKey
    decided: Decided
    intent: Intent
    signature: bytes = b""
    position: int = 0


def main(*, quick: bool) -> None:
    count = CERTIFICATES // 10 if quick else CERTIFICATES
    print("\nWhere the time of one certificate goes (CPU, microseconds; RSA-2048 request)")
    columns = {algorithm: _measure(algorithm, count) for algorithm in ("RSA-4096", "P-256")}
    print(f"  {'':44}" + "".join(f"{f'{algorithm} sub-CA':>18}" for algorithm in columns))
    totals = {algorithm: sum(clock.seconds.values()) for algorithm, clock in columns.items()}
    for step in next(iter(columns.values())).seconds:
        shares = [
            f"{clock.seconds[step] / count * 1e6:10.0f} {clock.seconds[step] / totals[algorithm]:6.1%}"
            for algorithm, clock in columns.items()
        ]
        print(f"  {step:44}" + "".join(f"{each:>18}" for each in shares))
    print(f"  {'together':44}" + "".join(f"{totals[each] / count * 1e6:10.0f}        " for each in columns), flush=True)


def _measure(algorithm: str, count: int) -> Clock:
    clock = Clock()
    with backlog.made_system(algorithm) as system:
        backlog.submit(system, count)
        signer = load_signer_config(system.directory / "ca/signer/signer.toml")
        client = load_client_config(system.directory / "ca/client/client.toml")
        journal = Journal(signer.state, signer_id=signer.signer_id, key=load_journal_key(signer.journal_key))
        with open_store(client.store_url) as store:
            jobs: list[SignJob] = []
            while len(jobs) < count:
                with clock.measure("client: lease jobs"):
                    leased = store.queue.lease("bench", limit=_LEASE, lease_s=3600, now=_now())
                jobs += [each for each in leased if isinstance(each, SignJob)]
            journal.begin(now=_now())
            _issue(clock, jobs, journal=journal, store=store, signer=signer, client=client)
        journal.close()
    return clock


def _issue(
    clock: Clock, jobs: Sequence[SignJob], *, journal: Journal, store: Store, signer: SignerConfig, client: ClientConfig
) -> None:
    """All jobs, a batch at a time, through every step of the issuance cycle."""
    worker = make_worker(signer)
    authorities = {each.authority.name: each.authority for each in own_entries(signer)}
    configuration = configuration_hash(signer)
    line = _Line(signer, client)
    for start in range(0, len(jobs), _BATCH):
        batch = jobs[start : start + _BATCH]
        with clock.measure("client: parse the request"):
            keys = [csr.parse_certification_request(each.request.key_proof) for each in batch]
        with clock.measure("wire: records, deflate, TLS, both sides"):
            handles = line.submit(batch)
        decided = []
        with clock.measure("signer: parse, decide, assemble, lint (worker)"):
            for job in batch:
                outcome = worker.carry_out(Decide(task=1, request=job.request, version=2, now=_now(), issued={}))
                assert isinstance(outcome, Decided), outcome  # noqa: S101 - a bench that measures refusals lies
                decided.append(outcome)
        with clock.measure("signer: journal"):
            intents = [_intend(journal, job, each, configuration) for job, each in zip(batch, decided, strict=True)]
            journal.commit()
            head = journal.signed_head()
        flights = [
            _Flight(job=job, key=key, decided=each, intent=intent)
            for job, key, each, intent in zip(batch, keys, decided, intents, strict=True)
        ]
        with clock.measure("wire: records, deflate, TLS, both sides"):
            line.log(handles, flights, head)
        with clock.measure("client: compare"):
            compared = [_compare(flight, authorities) for flight in flights]
        with clock.measure("client: lint (worker processes)"):
            for flight in flights:
                lint(flight.decided.tbs_certificate, ())
        with clock.measure("client: save logs, write back"):
            store.results.save_logs("bench", [_saved(each) for each in flights], now=_now(), signer_id=1)
        with clock.measure("wire: records, deflate, TLS, both sides"):
            line.confirm(handles)
        with clock.measure("signer: journal"):
            for flight in flights:
                journal.index.state(flight.intent.serial_number)
                journal.record_confirmation(flight.intent, log_hash=flight.intent.log_hash, now=_now())
            journal.commit()
        with clock.measure("signer: sign and verify (worker)"):
            for flight in flights:
                flight.signature = _sign(worker.carry_out(_sign_task(flight)))
        with clock.measure("signer: verify by the intent (front)"):
            for flight in flights:
                algorithm = algorithms.algorithm_from_der(flight.intent.algorithm)
                key = authorities[flight.intent.signing_ca].public_key
                algorithms.verify(key, algorithm, flight.signature, flight.intent.tbs_certificate)
        with clock.measure("signer: journal"):
            for flight in flights:
                flight.position = journal.record_result(flight.intent, signature=flight.signature, now=_now())
            journal.commit()
            head = journal.signed_head()
        with clock.measure("wire: records, deflate, TLS, both sides"):
            line.release(handles, flights, head)
        with clock.measure("client: check the certificate"):
            results = [_check(*each) for each in zip(flights, compared, strict=True)]
        with clock.measure("client: save logs, write back"):
            store.results.finish_issued(results, now=_now())


class _Line:
    """Both ends of a session over TLS, in memory."""

    def __init__(self, signer: SignerConfig, client: ClientConfig) -> None:
        self._signer = Connection(
            role=Role.SIGNER,
            tls=signer_tls(certificate=signer.certificate, key=signer.key, peers=signer.peers),
            serial=False,
            limits=Limits(),
        )
        self._client = Connection(
            role=Role.CLIENT,
            tls=client_tls(certificate=client.certificate, key=client.key, peers=client.peers),
            serial=False,
            limits=Limits(),
        )
        self._exchange()
        for connection in (self._client, self._signer):
            hello = payload.Hello(
                versions=(2,), limits=Limits().as_payload(), capabilities=(payload.DEFLATE_CAPABILITY,)
            )
            _session(connection).hello(hello)
            self._exchange()

    def submit(self, jobs: Sequence[SignJob]) -> list[int]:
        handles = [_session(self._client).submit(job.request) for job in jobs]
        self._expect(SignRequested, len(jobs))
        return handles

    def log(self, handles: Sequence[int], flights: Sequence[_Flight], head: bytes) -> None:
        for number, (handle, flight) in enumerate(zip(handles, flights, strict=True)):
            _session(self._signer).send_log(handle, flight.intent.log, head=None if number else head)
        self._expect(LogReceived, len(handles))

    def confirm(self, handles: Sequence[int]) -> None:
        for handle in handles:
            _session(self._client).confirm_log(handle)
        self._expect(LogConfirmed, len(handles))

    def release(self, handles: Sequence[int], flights: Sequence[_Flight], head: bytes) -> None:
        for number, (handle, flight) in enumerate(zip(handles, flights, strict=True)):
            _session(self._signer).send_certificate(
                handle,
                signing_ca=flight.intent.signing_ca,
                signature=flight.signature,
                index=flight.position,
                certificate=b"",
                head=None if number else head,
            )
        self._expect(CertificateIssued, len(handles))

    def _expect(self, kind: type[Event], count: int) -> None:
        events = self._exchange()
        assert [type(each) for each in events] == [kind] * count, events  # noqa: S101 - as above

    def _exchange(self) -> list[Event]:
        events: list[Event] = []
        while self._client.has_data_to_send or self._signer.has_data_to_send:
            events += self._signer.receive(self._client.data_to_send())
            events += self._client.receive(self._signer.data_to_send())
        return events


def _intend(journal: Journal, job: SignJob, decided: Decided, configuration: bytes) -> Intent:
    return journal.record_intent(
        job.request,
        request_id=job.request.request_id,
        request_digest=request_digest(job.request),
        protocol=2,
        boot_id=bytes(16),
        configuration_hash=configuration,
        signing_ca=decided.signing_ca,
        serial_number=decided.serial_number,
        algorithm=decided.algorithm,
        tbs_certificate=decided.tbs_certificate,
        now=_now(),
    )


def _compare(flight: _Flight, authorities: dict[str, Authority]) -> CheckedTbs:
    entry, log = entries.read_log(flight.intent.log)
    entries.decode_body(entry)
    part = entries.decode_part(entries.Requested, log.parts[0])
    entries.as_request(part, request_id=flight.job.request.request_id)
    return certificate.check_tbs(
        part.tbs_certificate,
        request=flight.job.request,
        subject_public_key_info=flight.key.subject_public_key_info,
        authority=authorities[flight.decided.signing_ca],
    )


def _check(flight: _Flight, compared: CheckedTbs) -> IssuedResult:
    checked = certificate.complete_certificate(compared, flight.signature)
    return IssuedResult(
        job_id=flight.job.id,
        authority=flight.decided.signing_ca,
        serial_number=checked.serial_number,
        certificate=checked.der,
        subject=checked.subject,
        not_before=checked.not_before,
        not_after=checked.not_after,
    )


def _saved(flight: _Flight) -> SigningLog:
    return SigningLog(job_id=flight.job.id, sha256=flight.intent.log_hash, entry=flight.intent.log)


def _sign_task(flight: _Flight) -> Sign:
    decided = flight.decided
    return Sign(task=1, signing_ca=decided.signing_ca, algorithm=decided.algorithm, octets=decided.tbs_certificate)


def _sign(outcome: object) -> bytes:
    assert isinstance(outcome, Signed), outcome  # noqa: S101 - as above
    return outcome.signature


def _session(connection: Connection) -> Session:
    assert connection.session is not None  # noqa: S101 - as above
    return connection.session


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
