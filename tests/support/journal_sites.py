"""A signer's and a client's directory around a journal that was made by hand (`journal_maker`), ready for commands."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.support.authorities import default_authority
from tests.support.client_store import CLIENT
from tests.support.journal_maker import JournalMaker, journal_key

from cassiopeia.core import crl, ed25519, structure
from cassiopeia.journal import entry as entries
from cassiopeia.journal import head as heads
from cassiopeia.journal.chain import Chain, no_entries
from cassiopeia.journal.entry import JournalEntry
from cassiopeia.journal.transcript import End, Header, encode_item
from cassiopeia.signer.journal import Journal
from cassiopeia.store.database import Store, open_store, upgrade
from cassiopeia.store.journal_copies import SeenHead
from cassiopeia.store.records import CrlRecord, IssuedResult, SigningLog, SignJob, serial_text
from cassiopeia.store.recovery import PastRevocation, put_revocations

NOW = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)

SIGNER = """
[signer]
id = 1
state = "state"
authorities = "authorities.toml"
profiles = "profiles"

[keys]
passphrase_file = "passphrase"

[link]
listen = "unix:signer.sock"
certificate = "link.pem"
key = "link.key"
peers = ["peers/client.pem"]

[journal]
key = "journal.key"
"""


def write_key(path: Path, key: Ed25519PrivateKey) -> None:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)


def write_public_key(path: Path, key: Ed25519PrivateKey) -> Path:
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


def signer_site(directory: Path, made: JournalMaker) -> Path:
    """Make signer.toml and the journal; return the former."""
    directory.mkdir(exist_ok=True)
    config = directory / "signer.toml"
    config.write_text(SIGNER, encoding="utf-8")
    write_key(directory / "journal.key", made.journal_key)
    if made.logs:
        journal = Journal(directory / "state", signer_id=made.signer_id, key=made.journal_key)
        for log in made.logs:
            journal.append_copy(log.entry, log.parts)
        journal.commit()
        journal.close()
    return config


def client_site(directory: Path, made: JournalMaker, *, copied: int | None = None, key: int = 1) -> Path:
    """Make client.toml and a store that has worked with this signer; its copy ends after `copied` entries."""
    directory.mkdir(exist_ok=True)
    (directory / "public").mkdir(exist_ok=True)
    config = directory / "client.toml"
    config.write_text(CLIENT, encoding="utf-8")
    write_public_key(directory / "journal.pem", journal_key(key))
    url = f"sqlite:///{directory}/store.sqlite"
    upgrade(url)
    with open_store(url) as store:
        _work(store, made)
        if not made.logs:
            return config
        chain = Chain(no_entries(made.signer_id), [ed25519.public_octets(made.journal_key)])
        logs = made.logs[:copied]
        for log in logs:
            chain.append(structure.decode(JournalEntry, log.entry), log)
        proof = seen_head(made.signed_head(len(logs)))
        store.journal_copies.append(
            no_entries(made.signer_id), chain.link(), logs, head=seen_head(made.signed_head()), proof=proof, now=NOW
        )
        if made.crls:
            newest = crl.read_crl(made.crls[-1])
            store.crls.put(
                CrlRecord(
                    authority=made.authority.name,
                    number=newest.number,
                    this_update=newest.this_update,
                    next_update=newest.next_update,
                    der=made.crls[-1],
                ),
                now=NOW,
            )
            (directory / "public" / f"{made.authority.name}.crl").write_bytes(made.crls[-1])
    return config


def seen_head(octets: bytes) -> SeenHead:
    head = heads.read_head(octets)
    return SeenHead(signer_id=head.signer_id, epoch=head.epoch, size=head.size, octets=octets)


def export_file(path: Path, made: JournalMaker, *items: object, newest: bytes = b"") -> Path:
    """Write what an export of this journal would have; `items` go between the entries and the head."""
    header = Header(signer_id=made.signer_id, keys=(ed25519.public_octets(made.journal_key),))
    written = [header, *made.logs, *items, End(head=made.signed_head(), newest=newest)]
    path.write_bytes(b"".join(encode_item(each) for each in written))  # type: ignore[arg-type] # items all of them
    return path


def _work(store: Store, made: JournalMaker) -> None:
    """Every request of the journal, as far as the client would have brought it; version 1 saves no such logs."""
    for request in {each.request_id: each for each in made.requests.values()}.values():
        store.requests.submit(request, request_id=request.request_id, now=NOW)
    jobs = {
        job.request.request_id: job
        for job in store.queue.lease("client", limit=10_000, lease_s=60, now=NOW)
        if isinstance(job, SignJob)
    }
    for intent, request in made.requests.items():
        job = jobs[request.request_id]
        octets = entries.encode_log(made.logs[intent - 1])
        log = SigningLog(job_id=job.id, sha256=entries.part_hash(octets), entry=octets)
        store.results.save_logs("client", [log], now=NOW, signer_id=made.signer_id)
    for intent, der in made.certificates.items():
        result = IssuedResult(
            job_id=jobs[made.requests[intent].request_id].id,
            authority=default_authority().name,
            serial_number=int.from_bytes(made.serial(intent), "big"),
            certificate=der,
            subject="CN=www.example.org",
            not_before=NOW,
            not_after=NOW + dt.timedelta(days=90),
        )
        store.results.finish_issued([result], now=NOW)
    revocations = [
        PastRevocation(
            authority=default_authority().name,
            serial_number=serial_text(said.serial_number),
            revoked_at=date,
            reason=said.reason,
            invalidity_date=None,
        )
        for said, date in crl.read_revocations(b"".join(made.revoked))
    ]
    put_revocations(store.database, revocations)
