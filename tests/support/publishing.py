"""A publisher without HTTP: its directory, a store with a journal of the test's own making, and no other process."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from tests.support.authorities import (
    NOW,
    TestCa,
    approve,
    attributes,
    default_authority,
    default_ca,
    load_profile,
    sign,
)
from tests.support.client_loop import write_authorities
from tests.support.copying import Copying, begun
from tests.support.journal_maker import JournalMaker, journal_key
from tests.support.ocsp_requests import asked

from cassiopeia.config.publisher import PublisherConfig, load_publisher_config
from cassiopeia.core.authority import Authority
from cassiopeia.core.certificate import assemble_tbs, compose_certificate
from cassiopeia.core.crl import read_crl
from cassiopeia.core.request import CertificateRequest
from cassiopeia.publisher.answering import Answerer
from cassiopeia.publisher.installation import PublisherFiles, write_publisher
from cassiopeia.publisher.key import ResponderKey, certification_request, load_responder_key
from cassiopeia.publisher.responder import Responder
from cassiopeia.publisher.watching import Watch
from cassiopeia.store.database import Store
from cassiopeia.store.records import CrlRecord

LATER = NOW + dt.timedelta(minutes=1)
"""When publishers look: all that a test writes down has happened by then."""


@dataclass(kw_only=True)
class Publishing:
    """`watch` looks when a test says so; `seconds` is its clock."""

    directory: Path
    store: Store
    config: PublisherConfig
    key: ResponderKey
    made: JournalMaker
    copying: Copying
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """A new process knows nothing of the last one's memory."""
        self.responder = Responder(self.key, directory=self.config.certificates, store=self.store)
        self.answerer = Answerer(self.key, holds=self.config.holds, clock=lambda: self.seconds)
        self.watch = Watch(
            config=self.config,
            store=self.store,
            responder=self.responder,
            answerer=self.answerer,
            clock=lambda: self.seconds,
        )

    @property
    def authority(self) -> Authority:
        return default_authority()

    def copy(self) -> None:
        """The client copies all that the journal has."""
        self.copying.open()
        self.copying.run()
        assert self.copying.size == self.made.size

    def sign_crl(self) -> None:
        """The signer signs a CRL, and the client stores it."""
        self.made.crl()
        self.put_crl(self.made.crls[-1])

    def put_crl(self, octets: bytes) -> None:
        read = read_crl(octets)
        self.store.crls.put(
            CrlRecord(
                authority=self.authority.name,
                number=read.number,
                this_update=read.this_update,
                next_update=read.next_update,
                der=octets,
            ),
            now=NOW,
        )

    def certify(self, **changes: Any) -> bytes:
        """Put a certificate of the responder where it keeps them."""
        octets = responder_certificate(self.key, **changes)
        path = self.config.certificates / f"{self.authority.name}.pem"
        path.write_bytes(x509.load_der_x509_certificate(octets).public_bytes(Encoding.PEM))
        self.start()
        return octets

    def look(self, now: dt.datetime = LATER) -> None:
        self.seconds += 10
        self.watch.look(now)

    def ask(self, serial: int, *, now: dt.datetime = LATER, nonce: bytes = b"") -> ocsp.OCSPResponse:
        return ocsp.load_der_ocsp_response(self.answerer.answer(asked(serial, nonce=nonce), now=now).octets)

    def said(self, serial: int, *, now: dt.datetime = LATER) -> str:
        """In one word what is said of a certificate: a status, or why there is none."""
        answer = self.ask(serial, now=now)
        if answer.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return answer.response_status.name
        return answer.certificate_status.name

    def issue(self) -> int:
        """The journal gets another certificate; its serial number."""
        return int.from_bytes(self.made.serial(self.made.issue()), "big")

    def revoke(self, serial: int) -> None:
        """The journal says that it is revoked, and later CRLs do."""
        intent = next(each for each in self.made.tbs if int.from_bytes(self.made.serial(each), "big") == serial)
        self.made.revocation(intent)


def make_publishing(directory: Path, store: Store, *, listen: str = "127.0.0.1:0") -> Publishing:
    publisher = directory / "publisher"
    publisher.mkdir(mode=0o700)
    (directory / "public").mkdir()
    write_publisher(
        publisher,
        PublisherFiles(
            store_url=f"sqlite:///{directory}/store.db",
            public_directory="../public",
            journal_keys={"journal": journal_pem()},
            listen=listen,
        ),
    )
    write_authorities(publisher)
    config = load_publisher_config(publisher / "publisher.toml")
    made = begun()
    return Publishing(
        directory=directory,
        store=store,
        config=config,
        key=load_responder_key(config.key),
        made=made,
        copying=Copying(store, made),
    )


def journal_pem() -> bytes:
    return journal_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def responder_certificate(
    key: ResponderKey,
    *,
    ca: TestCa | None = None,
    authority: Authority | None = None,
    profile: str = "0100-ocsp",
    **changes: Any,
) -> bytes:
    """DER of a certificate for this key, as the signer would issue it."""
    ca, authority = ca or default_ca(), authority or default_authority()
    values: dict[str, Any] = {
        "key_kind": "csr",
        "key_proof": certification_request(key),
        "ocsp_target_ca": authority.name if profile == "0100-ocsp" else "",
        "profile": "" if profile == "0100-ocsp" else profile,
        "attributes": attributes(CN="OCSP responder"),
    }
    wanted = CertificateRequest(**(values | changes))
    approved = approve(wanted, profile=dataclasses.replace(load_profile(profile), evidence=()), authority=authority)
    tbs = assemble_tbs(approved)
    return compose_certificate(tbs, sign(ca.key, approved.algorithm, tbs))
