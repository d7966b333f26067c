"""A journal of a signer that never ran: entries with real certificates and CRLs, made one by one, right or wrong."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.authorities import (
    NOW,
    TestCa,
    certification_request,
    default_authority,
    default_ca,
    load_profile,
    server_request,
    sign,
    subject_public_key_info,
)

from cassiopeia.core import algorithms, certificate, crl, ed25519, merkle, structure
from cassiopeia.core.policy import decide
from cassiopeia.core.request import CertificateRequest, Revocation, request_digest
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.crls import raise_floor
from cassiopeia.journal.entry import JournalEntry, Log

CONFIGURATION_HASH = b"c" * 32
BOOT_ID = b"b" * 16
SALT = b"s" * entries.SALT_OCTETS
RESPONDER_PROFILE = "0100-ocsp"


def journal_key(number: int = 1) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)


class JournalMaker:
    """Appends to `logs`. What an entry says may be overridden, so that a test can tell a lie of its own."""

    def __init__(self, *, signer_id: int = 1, ca: TestCa | None = None) -> None:
        self.signer_id = signer_id
        self.ca = ca or default_ca()
        self.authority = default_authority()
        self.logs: list[Log] = []
        self.epoch = 1
        self.now = NOW
        self.journal_key = journal_key()
        self.requests: dict[int, CertificateRequest] = {}
        self.tbs: dict[int, bytes] = {}
        self.certificates: dict[int, bytes] = {}
        self.revoked: list[bytes] = []
        self.crls: list[bytes] = []
        self.number = 0
        self.floor = 0

    @property
    def size(self) -> int:
        return len(self.logs)

    @property
    def previous_hash(self) -> bytes:
        return merkle.leaf_hash(self.logs[-1].entry) if self.logs else entries.NO_ENTRY

    def add(self, said: Any, /, *parts: bytes, **changes: Any) -> int:
        """Append an entry that says this; return its index."""
        entry = JournalEntry(
            version=entries.VERSION,
            signer_id=self.signer_id,
            epoch=self.epoch,
            index=self.size + 1,
            previous_hash=self.previous_hash,
            time=self.now,
            kind=entries.KINDS[type(said)],
            body=structure.encode(said),
            parts=tuple(entries.part_hash(each) for each in parts),
        )
        self.logs.append(Log(entry=structure.encode(dataclasses.replace(entry, **changes)), parts=parts))
        self.now += dt.timedelta(seconds=1)
        return self.size

    def begin(self) -> None:
        """The first entries of every journal: key, configuration, start."""
        self.key()
        self.configuration()
        self.add(
            entries.Start(
                boot_id=BOOT_ID, boot_seconds=60, configuration_hash=CONFIGURATION_HASH, software_version="1.0"
            )
        )

    def key(self, new: Ed25519PrivateKey | None = None, *, signer: Ed25519PrivateKey | None = None) -> int:
        new = new or self.journal_key
        public_key = ed25519.public_octets(new)
        statement = entries.key_statement(
            signer_id=self.signer_id,
            index=self.size + 1,
            previous_hash=self.previous_hash,
            public_key=public_key,
        )
        signature = (signer or self.journal_key).sign(heads.KEY_TAG + statement)
        self.journal_key = new
        return self.add(entries.Key(public_key=public_key, signature=signature))

    def configuration(self, more: Mapping[str, bytes] | None = None) -> int:
        """The documents that every configuration has, and these by their names."""
        named = {"authorities.toml": b"# sub-CAs\n", f"certificates/{self.authority.name}.pem": self.ca.pem}
        named |= more or {}
        documents = entries.Documents(
            documents=tuple(entries.Document(name=name, octets=octets) for name, octets in named.items())
        )
        body = entries.Configuration(configuration_hash=CONFIGURATION_HASH)
        return self.add(body, structure.encode(documents))

    def intent(
        self,
        *,
        request_id: bytes = b"",
        serial_entropy: bytes = b"",
        protocol: int = 2,
        request: CertificateRequest | None = None,
        **changes: Any,
    ) -> int:
        """An intent of what nobody has judged: proofs are written down as they come."""
        index = self.size + 1
        request = request or server_request(key_proof=certification_request())
        request = dataclasses.replace(
            request, request_id=request_id or request.request_id or hashlib.sha256(b"%d" % index).digest()
        )
        profile = load_profile(RESPONDER_PROFILE if request.ocsp_target_ca else request.profile)
        approved = decide(
            dataclasses.replace(request, proofs=()),
            rules=Rules(
                signer_id=self.authority.signer_id,
                profiles={profile.name: dataclasses.replace(profile, evidence=())},
                authorities=(self.authority,),
                responder_keys=frozenset({key_hash(request)} if request.ocsp_target_ca else ()),
            ),
            standing=Standing(),
            now=NOW,
            serial_entropy=serial_entropy or index.to_bytes(15, "little"),
            issued={},
            version=2,
        )
        tbs = certificate.assemble_tbs(approved)
        body = entries.Intent(
            protocol=protocol,
            boot_id=BOOT_ID,
            request_id=request.request_id,
            request_digest=request_digest(request),
            configuration_hash=CONFIGURATION_HASH,
            profile=request.profile or request.ocsp_target_ca,
            signing_ca=self.authority.name,
            serial_number=approved.serial_number.to_bytes(16, "big"),
            algorithm=approved.algorithm.der,
        )
        part = structure.encode(entries.requested(request, salt=SALT, tbs_certificate=tbs))
        self.requests[index], self.tbs[index] = request, tbs
        return self.add(dataclasses.replace(body, **changes), part)

    def log_hash(self, index: int) -> bytes:
        return entries.part_hash(entries.encode_log(self.logs[index - 1]))

    def confirmation(self, intent: int, log_hash: bytes | None = None) -> int:
        return self.add(
            entries.Confirmation(intent=intent, log_hash=self.log_hash(intent) if log_hash is None else log_hash)
        )

    def result(self, intent: int, signature: bytes = b"") -> int:
        signature = signature or self.sign(self.tbs.get(intent, b""))
        if intent in self.tbs:
            self.certificates[intent] = certificate.compose_certificate(self.tbs[intent], signature)
        return self.add(entries.Result(intent=intent), signature)

    def issue(self, **changes: Any) -> int:
        """Intent, confirmation, result; return the index of the intent."""
        intent = self.intent(**changes)
        self.confirmation(intent)
        self.result(intent)
        return intent

    def abandonment(self, intent: int) -> int:
        return self.add(entries.Abandonment(intent=intent, code="unconfirmed"), self.reason("nobody confirmed"))

    def refusal(self) -> int:
        body = entries.Refusal(request_id=b"r" * 32, request_digest=b"d" * 32, code="key-weak")
        return self.add(body, self.reason("This key is weak."))

    def halt(self, code: str = "clock-back") -> int:
        return self.add(entries.Halt(code=code), self.reason("the clock has gone back"))

    def reason(self, message: str) -> bytes:
        return structure.encode(entries.Reason(salt=SALT, field="", message=message))

    def serial(self, intent: int) -> bytes:
        body: entries.Intent = entries.decode_body(entries.decode_entry(self.logs[intent - 1].entry))
        return body.serial_number

    def crl_entry(self, serial_number: int) -> bytes:
        return crl.encode_revocation(Revocation(serial_number=serial_number, reason=1), self.now)

    def revocation(self, *intents: int, **changes: Any) -> int:
        new = tuple(self.crl_entry(int.from_bytes(self.serial(each), "big")) for each in intents)
        self.revoked += new
        body = entries.Revocations(
            signing_ca=self.authority.name, request_id=b"q" * 32, request_digest=b"d" * 32, entries=new
        )
        return self.add(dataclasses.replace(body, **changes))

    def crl(self, *, signature: bytes = b"", **changes: Any) -> int:
        algorithm = algorithms.choose_algorithm(self.authority.public_key, "")
        self.number = changes.get("number", max(self.number, self.floor) + 1)
        tbs = crl.assemble_tbs_crl(
            issuer=self.authority.subject,
            algorithm=algorithm,
            this_update=self.now,
            next_update=self.now + dt.timedelta(days=10),
            entries=b"".join(self.revoked),
            crl_number=max(self.number, 1),
            authority_key_identifier=self.authority.key_identifier,
        )
        body = entries.SignedCrl(
            signing_ca=self.authority.name,
            number=self.number,
            this_update=self.now,
            next_update=self.now + dt.timedelta(days=10),
            entries=len(self.revoked),
            tbs_hash=hashlib.sha256(tbs).digest(),
            algorithm=algorithm.der,
            answers=(),
        )
        signature = signature or self.sign(tbs)
        self.crls.append(crl.compose_crl(tbs, signature))
        return self.add(dataclasses.replace(body, **changes), signature)

    def new_epoch(
        self, key: Ed25519PrivateKey | None = None, *, head: bytes | None = None, skipped: int = 0, **changes: Any
    ) -> int:
        head = self.signed_head() if head is None else head
        self.journal_key = key or self.journal_key
        self.epoch += 1 + skipped
        self.floor = raise_floor(self.floor, self.number, epochs=1 + skipped)
        body = entries.Epoch(number=self.epoch, public_key=ed25519.public_octets(self.journal_key), head=head)
        return self.add(dataclasses.replace(body, **changes))

    def signed_head(self, size: int | None = None, **changes: Any) -> bytes:
        covered = self.logs[: self.size if size is None else size]
        frontier = merkle.frontier_of([merkle.leaf_hash(each.entry) for each in covered])
        head = heads.JournalHead(
            signer_id=self.signer_id, epoch=self.epoch, size=len(covered), root_hash=frontier.root(), time=self.now
        )
        return heads.sign_head(dataclasses.replace(head, **changes), self.journal_key)

    def sign(self, octets: bytes) -> bytes:
        return sign(self.ca.key, algorithms.choose_algorithm(self.authority.public_key, ""), octets)

    def drop_part(self, index: int) -> None:
        """As in a copy that does not have it."""
        log = self.logs[index - 1]
        self.logs[index - 1] = dataclasses.replace(log, parts=(b"",) * len(log.parts))


def key_hash(request: CertificateRequest) -> bytes:
    return hashlib.sha256(subject_public_key_info(request)).digest()


def full_journal() -> JournalMaker:
    """A signer's life: every kind of entry once at least, two epochs, two keys."""
    made = JournalMaker()
    made.begin()
    first, second = made.issue(), made.issue()
    made.abandonment(made.intent())
    made.refusal()
    made.crl()
    made.revocation(first)
    made.crl()
    made.halt()
    clock = entries.ClockEpoch(machine_time=made.now, true_time=made.now - dt.timedelta(days=1))
    made.add(entries.OrderObeyed(sequence=1, order=b"order"))
    made.now -= dt.timedelta(days=1)
    made.add(clock)
    made.add(entries.Resume(code="clock-back"))
    made.key(journal_key(2))
    made.new_epoch(journal_key(3))
    made.issue(protocol=1)
    made.revocation(second)
    made.crl()
    made.confirmation(made.intent())
    made.intent()
    return made
