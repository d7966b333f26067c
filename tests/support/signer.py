"""A signer without line, processes and clock: its desks, a real journal, sessions in memory; every step is a call."""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from tests.support import authorities, links, operators
from tests.support.authorities import PROFILES, PrivateKey, TestCa, default_ca, make_authority
from tests.support.conversations import Pair, joined
from tests.support.journal_keys import write_journal_key

from cassiopeia.core import der
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority, Idle
from cassiopeia.core.profile import parse_profile
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.core.shared_factors import PythonArithmetic, SeenModuli
from cassiopeia.journal import order
from cassiopeia.protocol.events import (
    AbandonRequested,
    EntriesRequested,
    Event,
    FullCrlReceived,
    FullCrlRequested,
    LogConfirmed,
    OrderReceived,
    RevocationRequested,
    SignRequested,
    TimestampRequested,
)
from cassiopeia.protocol.session import Session
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.caps import Caps
from cassiopeia.signer.clock import Clock
from cassiopeia.signer.gate import MISTRUSTED_KEY, Gate, Obstacle
from cassiopeia.signer.issuance import IssuanceDesk
from cassiopeia.signer.journal import Intent, Journal
from cassiopeia.signer.journal_desk import JournalDesk
from cassiopeia.signer.key_history import KeyHistory
from cassiopeia.signer.keystore.interface import StoreSettings
from cassiopeia.signer.keystore.ring import KeyRing
from cassiopeia.signer.nonces import Nonces
from cassiopeia.signer.orders import OrderDesk
from cassiopeia.signer.own_faults import OwnFaults
from cassiopeia.signer.revocation import RevocationList
from cassiopeia.signer.revocation_desk import RevocationDesk
from cassiopeia.signer.tasks import Outcome, Sign, Task
from cassiopeia.signer.worker import Worker

NOW = authorities.NOW
PASSPHRASE = b"correct horse"
SIGNING_CA = "unassured_2026_2"
PROFILE = "9004-unproved-server"
BOOT_ID = b"b" * 16
CONFIGURATION_HASH = b"c" * 32


def write_key(path: Path, key: PrivateKey, *, passphrase: bytes | None = PASSPHRASE, mode: int = 0o600) -> str:
    """Write an encrypted PKCS#8 file (without a passphrase: in clear) and return its URI."""
    encryption = NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    path.chmod(mode)
    return f"file:{path.name}"


def install(
    directory: Path, *, ca: TestCa | None = None, key: PrivateKey | None = None, signer_id: int = 1, more: str = ""
) -> Path:
    """Write a signer's files with one sub-CA; return the path of `signer.toml`, which ends with `more`."""
    ca = ca or default_ca()
    (directory / "ca.pem").write_bytes(ca.pem)
    uri = write_key(directory / "ca.key", key or ca.key)
    (directory / "profiles").mkdir()
    shutil.copy(PROFILES / f"{PROFILE}.toml", directory / "profiles")
    (directory / "passphrase").write_bytes(PASSPHRASE + b"\n")
    (directory / "passphrase").chmod(0o600)
    write_journal_key(directory / "journal.key")
    (directory / "authorities.toml").write_text(
        f'[[authority]]\nname = "{SIGNING_CA}"\ncertificate = "ca.pem"\nissuer = "unassured"\nkey = "{uri}"\n'
        f"signer_id = {signer_id}\nissues_from = {NOW - dt.timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}\n"
        "issues_until = 2027-01-01T00:00:00Z\n"
    )
    path = directory / "signer.toml"
    path.write_text(
        "[signer]\nid = 1\n[keys]\npassphrase_file = 'passphrase'\n[link]\nlisten = 'unix:signer.sock'\nsessions = 2\n"
        f"certificate = '{links.certificate('signer')}'\nkey = '{links.key('signer')}'\n"
        f"peers = ['{links.certificate('client')}']\n[journal]\nkey = 'journal.key'\n{more}"
    )
    return path


class MemoryKeys(KeyRing):
    """Keys without files, which are believed."""

    def __init__(self, keys: Mapping[str, PrivateKey]) -> None:
        super().__init__(StoreSettings(passphrase=SecretSource(what="none")))
        self._keys = dict(keys)

    def sign(self, name: str, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        return authorities.sign(self._keys[name], algorithm, octets)


def make_worker(*own: Authority, ca: TestCa | None = None, keys: Any = None) -> Worker:
    """A worker of signer 1 with one profile, which version 1 may ask for as well."""
    ca = ca or default_ca()
    text = (PROFILES / f"{PROFILE}.toml").read_text(encoding="utf-8")
    return Worker(
        rules=Rules(
            signer_id=1,
            authorities=own,
            profiles={PROFILE: parse_profile(text, name=PROFILE, source=PROFILE)},
            version_1_profiles=frozenset({PROFILE}),
        ),
        keys=keys or MemoryKeys({each.name: ca.key for each in own}),
    )


JOURNAL_KEY = Ed25519PrivateKey.from_private_bytes(b"j" * 32)


def open_journal(directory: Path, *, key: Ed25519PrivateKey = JOURNAL_KEY, now: dt.datetime = NOW) -> Journal:
    """The journal of signer 1, with its first entry."""
    journal = Journal(directory, signer_id=1, key=key)
    if journal.is_new:
        journal.begin(now=now)
    return journal


def meaningless_tbs(number: int, *, public_key: bytes = b"", size: int = 0) -> bytes:
    """What has the shape of a TBSCertificate, with this SubjectPublicKeyInfo or one of its own; `size` pads it."""
    octets = number.to_bytes(15, "big")
    public_key = public_key or der.encode(
        der.SEQUENCE, der.encode(der.SEQUENCE), der.encode(der.BIT_STRING, b"\0" + octets)
    )
    return der.encode(der.SEQUENCE, der.encode(der.OCTET_STRING, octets, bytes(size)), *[b"\x05\0"] * 5, public_key)


def record_intent(journal: Journal, number: int = 1, *, now: dt.datetime = NOW, **changes: Any) -> Intent:
    """An intent under a request of its own; its TBSCertificate means nothing."""
    values: dict[str, Any] = {
        "serial_number": bytes([1]) + number.to_bytes(15, "big"),
        "signing_ca": SIGNING_CA,
        "request_id": number.to_bytes(32, "big"),
        "request_digest": b"d" * 32,
        "protocol": 2,
        "boot_id": BOOT_ID,
        "configuration_hash": CONFIGURATION_HASH,
        "algorithm": b"a",
        "tbs_certificate": meaningless_tbs(number),
    }
    request = CertificateRequest(key_kind="csr", key_proof=b"csr %d" % number, profile=PROFILE, account="alice")
    return journal.record_intent(request, now=now, **(values | changes))


def record_issued(journal: Journal, *numbers: int, **changes: Any) -> list[int]:
    """Take intents all the way to their certificates; return the serial numbers."""
    serials = []
    for number in numbers:
        intent = record_intent(journal, number, **changes)
        journal.record_confirmation(intent, log_hash=intent.log_hash, now=NOW)
        journal.record_result(intent, signature=b"s", now=NOW)
        serials.append(int.from_bytes(intent.serial_number, "big"))
    journal.commit()
    return serials


@dataclass(kw_only=True)
class Front:
    """The signer's front process, one step at a time: nothing is committed, worked on or carried but on demand."""

    directory: Path
    authority: Authority = field(default_factory=lambda: make_authority(default_ca()))
    now: dt.datetime = NOW
    clock: float = 0.0
    tasks: deque[Task] = field(default_factory=deque)
    examinations: deque[tuple[int, bytes]] = field(default_factory=deque)
    pairs: list[Pair] = field(default_factory=list)
    resign_after: dt.timedelta = dt.timedelta(hours=24)
    obstacle: Obstacle | None = None
    limits: dict[str, int] = field(default_factory=lambda: dict(order.CAPS))
    validators: tuple[bytes, ...] = ()
    idle: dict[str, Idle] = field(default_factory=dict)
    own_faults: OwnFaults = field(default_factory=lambda: OwnFaults({}))

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self.worker = make_worker(self.authority)
        self._open()

    def _crl_holds(self, name: str, issued: int) -> bool:
        return self.revocation.holds_another(name, issued)

    def _open(self) -> None:
        self.journal = open_journal(self.directory, now=self.now)
        self.gate = Gate(self.journal, [lambda: self.obstacle])
        self.nonces = Nonces(lambda: int(self.clock))
        self.caps = Caps(
            limits=self.limits,
            raised=lambda: self.orders.in_force.raised(now=self.now),
            clock=self._seconds,
        )
        self.caps.seed(self.journal, now=self.now)
        self.journal_desk = JournalDesk(
            journal=self.journal,
            gate=self.gate,
            signer_id=1,
            boot_id=BOOT_ID,
            boot_seconds=lambda: int(self.clock),
            nonces=self.nonces,
        )
        self.keys = KeyHistory(self.journal.index)
        self.seen = SeenModuli(PythonArithmetic())
        self.seen.remember(modulus for _, modulus in self.journal.index.moduli(after=0, at_most=10_000))
        self.issuance = IssuanceDesk(
            boot_id=BOOT_ID,
            configuration_hash=CONFIGURATION_HASH,
            authorities={self.authority.name: self.authority},
            journal=self.journal,
            journal_desk=self.journal_desk,
            gate=self.gate,
            standing=self.standing,
            caps=self.caps,
            own_faults=self.own_faults,
            keys=self.keys,
            submit=self.tasks.append,
            examine=lambda task, modulus: self.examinations.append((task, modulus)),
            crl_holds=self._crl_holds,
            next_task=lambda: next(self._numbers),
            clock=lambda: self.clock,
        )
        self.revocation = RevocationDesk(
            lists=[RevocationList(self.authority, self.journal, lifetime=dt.timedelta(days=10))],
            journal=self.journal,
            gate=self.gate,
            caps=self.caps,
            submit=self.tasks.append,
            next_task=lambda: next(self._numbers),
            resign_after=self.resign_after,
            end_intents=self.issuance.key_compromised,
        )
        # A machine whose clock is right, and on which time passes as the test says.
        machine_clock = Clock(wall=self._seconds, boot=self._seconds)
        machine_clock.check(self.now)
        self.orders = OrderDesk(
            journal=self.journal,
            gate=self.gate,
            clock=machine_clock,
            signer_id=1,
            boot_id=BOOT_ID,
            operators=operators.PUBLIC_KEYS[:3],
            quorum=2,
            authorities=[self.authority.name],
            validators=self.validators,
            caps=self.limits,
            restricted=self.issuance.restricted,
        )

    def _seconds(self) -> float:
        return self.now.timestamp()

    def standing(self) -> Standing:
        return Standing(
            boot_id=BOOT_ID,
            nonces=self.nonces.valid,
            disabled_validators=self.orders.in_force.disabled_validators,
            blocked_keys=self.orders.in_force.blocked_keys,
            halted_authorities=self.orders.in_force.halted_authorities,
            idle_authorities=self.idle | dict.fromkeys(self.gate.mistrusted, MISTRUSTED_KEY),
        )

    def record_issued(self, serial_number: int) -> None:
        """A certificate that was made before."""
        octets = serial_number.to_bytes(16, "big")
        record_issued(
            self.journal, 1, serial_number=octets, request_id=octets * 2, signing_ca=self.authority.name, now=self.now
        )

    def restart(self) -> None:
        """As after a power cut: sessions, tasks and whatever was not committed are gone."""
        self.journal.close()
        self.tasks.clear()
        self.examinations.clear()
        self.pairs.clear()
        self._open()
        self.issuance.end_open_intents(now=self.now)
        self.journal.commit()

    def connect(self, version: int = 2) -> Pair:
        pair = joined(version)
        self.pairs.append(pair)
        return pair

    def vanish(self, pair: Pair) -> None:
        """The line is lost: nothing that is said from now on arrives."""
        self.pairs.remove(pair)
        pair.signer.finish()
        self.issuance.forget(pair.signer)
        self.journal_desk.forget(pair.signer)

    def carry(self) -> None:
        """Take what the clients said to the desks."""
        for pair in self.pairs:
            for event in [*pair.to_signer(), *pair.signer.take_events()]:
                self.on_event(pair.signer, event)

    def work(self) -> list[Outcome]:
        """Let the worker carry out what waits; return what it answered."""
        outcomes = []
        while self.tasks:
            outcome = self.worker.carry_out(self.tasks.popleft())
            self.deliver(outcome)
            outcomes.append(outcome)
        self.examine()
        return outcomes

    def examine(self) -> None:
        """Compare the keys that wait for it with all others."""
        batch = list(self.examinations)
        self.examinations.clear()
        for (task, modulus), others in zip(batch, self.seen.examine([each for _, each in batch]), strict=True):
            self.keys.note(modulus, others)
            self.issuance.examined(task, now=self.now)

    def deliver(self, outcome: Outcome) -> None:
        taken = self.issuance.delivered(outcome, now=self.now) or self.revocation.delivered(outcome, now=self.now)
        assert taken, f"nobody waits for {outcome}"

    def answers(self, pair: Pair) -> list[Event]:
        """Everything that has come to a client since the last call."""
        return pair.to_client()

    def settle(self) -> None:
        """Turns of the loop until nothing is left to do."""
        self.carry()
        while self.tasks or self.examinations or self.journal.dirty:
            self.work()
            self.journal.commit()
            for pair in self.pairs:
                for event in pair.signer.take_events():
                    self.on_event(pair.signer, event)

    def ask(self, pair: Pair, request: CertificateRequest) -> Event:
        """Submit a request and run until its first answer: a log, or a no."""
        pair.client.submit(request)
        self.settle()
        (answer,) = self.answers(pair)
        return answer

    def confirm(self, pair: Pair, handle: int) -> Event:
        """Confirm a log and run until the answer."""
        pair.client.confirm_log(handle)
        self.settle()
        (answer,) = self.answers(pair)
        return answer

    def tell(self, pair: Pair, arguments: order.Arguments, *numbers: int) -> Event:
        """Let these operators (else as many as it takes) sign the next order, send it, and return the answer."""
        octets = operators.drafted(arguments, sequence=self.journal.index.order_sequence() + 1, boot_id=BOOT_ID)
        needed = order.needed_signatures(arguments, 2)
        pair.client.send_order(operators.signed(octets, *(numbers or range(needed))))
        self.settle()
        (answer,) = self.answers(pair)
        return answer

    def ask_full(self, pair: Pair) -> list[bytes]:
        """Ask for the full CRL of the sub-CA; return those that came."""
        pair.client.get_full_crl(self.authority.name)
        self.settle()
        return [each.der for each in self.answers(pair) if isinstance(each, FullCrlReceived)]

    @property
    def signing(self) -> list[Task]:
        """Tasks that would use the CA key."""
        return [each for each in self.tasks if isinstance(each, Sign)]

    def on_event(self, session: Session, event: Event) -> None:
        match event:
            case SignRequested(handle=handle, request=request):
                self.issuance.requested(session, handle, request, now=self.now)
            case LogConfirmed(handle=handle, log_hash=log_hash):
                self.issuance.log_confirmed(session, handle, log_hash, now=self.now)
            case AbandonRequested(handle=handle, reason=reason):
                self.issuance.abandon_requested(session, handle, reason, now=self.now)
            case RevocationRequested(handle=handle, request=revocation):
                self.revocation.requested(session, handle, revocation, now=self.now)
            case FullCrlRequested(handle=handle, signing_ca=signing_ca):
                self.revocation.full_crl_requested(session, handle, signing_ca)
            case TimestampRequested(handle=handle):
                self.journal_desk.timestamp_requested(session, handle, now=self.now)
            case EntriesRequested(handle=handle, first=first, at_most=at_most):
                self.journal_desk.entries_requested(session, handle, first, at_most)
            case OrderReceived(handle=handle, order=octets):
                self.orders.requested(session, handle, octets)
            case _:
                raise AssertionError(f"no desk takes {event}")
