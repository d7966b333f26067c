"""A validator's directory and store without any other process: signers are heard when a test says so."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.authorities import alt_names, certification_request
from tests.support.journal_keys import JOURNAL_KEY, write_journal_pem
from tests.support.store import NOW, request_id

from cassiopeia.ceremony.profiles import default_profile_texts
from cassiopeia.config import ValidatorConfig, load_profiles, load_validator_config
from cassiopeia.core import ed25519, evidence, structure
from cassiopeia.core.csr import parse_certification_request
from cassiopeia.core.evidence import STATEMENT_KINDS
from cassiopeia.core.judgement import judge
from cassiopeia.core.request import CertificateRequest
from cassiopeia.core.rules import Rules, Standing, Validator
from cassiopeia.journal.timestamp import statement
from cassiopeia.protocol.payload import Timestamp
from cassiopeia.store.database import Store, open_store
from cassiopeia.store.records import Postponement, SignJob
from cassiopeia.validation.attesting import Attester
from cassiopeia.validation.choice import Held
from cassiopeia.validation.installation import ValidatorFiles, write_validator
from cassiopeia.validation.key import load_validator_key
from cassiopeia.validation.statement import Statement, observe

ACCOUNT = "momo"
NAME = "www.example.org"
BOOT_ID = b"b" * 16
NONCE = b"n" * 16
HOUR = dt.timedelta(hours=1)
_PROFILES = ("0004-server", "0008-server-a", "0100-ocsp", "9004-unproved-server")


@dataclass(kw_only=True)
class Site:
    """`now` is the time of both clocks; `looked_at` is what the attester wanted to have looked at again."""

    directory: Path
    store: Store
    config: ValidatorConfig
    now: dt.datetime = NOW
    looked_at: list[Held] = field(default_factory=list)
    how: tuple[str, float] = ("somebody looks", 30.0)

    def hear(self, signer_id: int = 1, *, said_at: dt.datetime | None = None, **changes: Any) -> None:
        """The signer has said what it says; `changes` are for its word, or for its status."""
        status = {name: changes.pop(name) for name in ("orders",) if name in changes}
        key = changes.pop("key", JOURNAL_KEY)
        values: dict[str, Any] = {
            "time": self.now,
            "signer_id": signer_id,
            "boot_id": BOOT_ID,
            "boot_seconds": 100,
            "nonce": NONCE,
            "head": b"",
        }
        word = Timestamp(**(values | changes))
        signed = Timestamp(**(values | changes), signature=key.sign(statement(word)))
        asked_at = said_at or self.now
        self.store.signers.save(signer_id, {"state": "running", **status}, now=asked_at)
        self.store.orders.save_timestamp(signer_id, structure.encode(signed), asked_at=asked_at)

    def submit(self, number: int, *names: str, **changes: Any) -> CertificateRequest:
        """Queue a request for these names."""
        values: dict[str, Any] = {
            "key_kind": "csr",
            "key_proof": certification_request(),
            "profile": "0004-server",
            "account": ACCOUNT,
            "alt_names": alt_names(*(f"DNS,{each}" for each in names or (NAME,))),
        }
        wanted = CertificateRequest(**(values | changes))
        return self.store.requests.submit(wanted, request_id=request_id(number), now=self.now).request

    def observe(self, kind: str, value: str = NAME, *, ago: dt.timedelta = HOUR, **changes: Any) -> bytes:
        stated = Statement(
            kind=kind, value=value, account=changes.pop("account", ACCOUNT), at=(self.now - ago).isoformat(), **changes
        )
        _, octets = observe(stated, load_validator_key(self.config.key), now=self.now)
        self.store.evidence.put_observations([octets], now=self.now)
        return octets

    def prove(self, value: str = NAME, **changes: Any) -> list[bytes]:
        return [self.observe(kind, value, **changes) for kind in ("dns-control", "caa-permits")]

    def turn(self, attester: Attester) -> int:
        """One turn for each signer that lives."""

        def look_again(held: Held) -> tuple[str, float]:
            self.looked_at.append(held)
            return self.how

        words = attester.live(self.now)
        return sum(attester.turn(each, now=self.now, look_again=look_again) for each in words)

    def lease(self, *, nonces: Sequence[bytes] = (NONCE,), limit: int = 100) -> list[SignJob]:
        """What a client takes to the signer now."""
        jobs = self.store.queue.lease("client", limit=limit, lease_s=60, now=self.now, signer_id=1, nonces=nonces)
        return [each for each in jobs if isinstance(each, SignJob)]

    def judge(self, job: SignJob, *, nonce: bytes = NONCE, boot_id: bytes = BOOT_ID) -> tuple[bytes, ...]:
        """What the signer makes of it; raises Refused or Unavailable."""
        profiles = load_profiles(self.config.profiles)
        public_key = ed25519.public_octets(load_validator_key(self.config.key))
        own = Validator(name="validator", public_key=public_key, kinds=frozenset(STATEMENT_KINDS))
        return judge(
            job.request,
            profile=profiles[job.request.profile or "0100-ocsp"],
            key=parse_certification_request(job.request.key_proof),
            rules=Rules(signer_id=1, profiles=profiles, authorities=(), validators={own.key_id: own}),
            standing=Standing(boot_id=boot_id, nonces=(nonce,)),
            now=self.now,
        )

    def send_back(self, job: SignJob, reason: str, *, delay_s: float = 0) -> None:
        """As a client does when the signer answers `reattest`."""
        postponement = Postponement(
            job_id=job.id, delay_s=delay_s, counts=False, reason=reason, lengthens=False, reattest=True
        )
        self.store.queue.retry_later("client", [postponement], now=self.now)

    def difficulty(self, number: int) -> str:
        record = self.store.requests.find(request_id(number))
        assert record is not None
        return record.last_error

    @property
    def key_id(self) -> bytes:
        return evidence.key_id(ed25519.public_octets(load_validator_key(self.config.key)))


def make_site(directory: Path, template: Path) -> Site:
    """In an empty directory; whoever makes it closes the store."""
    (directory / "store.db").write_bytes(template.read_bytes())
    write_journal_pem(directory / "journal.pem")
    texts = default_profile_texts()
    validator = directory / "validator"
    validator.mkdir(mode=0o700)
    write_validator(
        validator,
        ValidatorFiles(
            name="validator",
            store_url=f"sqlite:///{directory}/store.db",
            profiles={name: texts[name] for name in _PROFILES},
            journal_keys={"journal": (directory / "journal.pem").read_bytes()},
        ),
    )
    config = load_validator_config(validator / "validator.toml")
    store = open_store(config.store_url)
    profiles = load_profiles(config.profiles).values()
    store.evidence.demand({each.name if each.family else "": bool(each.evidence) for each in profiles}, now=NOW)
    return Site(directory=directory, store=store, config=config)


def key_hash(request: CertificateRequest) -> bytes:
    key = parse_certification_request(request.key_proof)
    return hashlib.sha256(key.subject_public_key_info).digest()
