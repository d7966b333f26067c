"""The responder's certificates: one under each sub-CA, of 30 days at the most, renewed when a third is left.

They come by the normal cycle: a request in the queue that names the sub-CA, attested by a validator, signed by the
signer, which certifies no responder's key but the pinned ones. What was picked up is kept in a file for each sub-CA.
Requests are named by what they are for, so that a publisher which was killed in between asks for nothing twice.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia import files
from cassiopeia.core import certificate
from cassiopeia.core.authority import Authority
from cassiopeia.core.ocsp import RESPONDER_ACCOUNT
from cassiopeia.core.profile import OCSP_SIGNING
from cassiopeia.core.request import CertificateRequest, SubjectAttribute
from cassiopeia.errors import OperatorError, PeerError, Refused
from cassiopeia.publisher.answering import Delegation
from cassiopeia.publisher.key import ResponderKey, certification_request, public_info
from cassiopeia.store.database import Store

_log = logging.getLogger(__name__)

_TAG: Final = b"cassiopeia ocsp responder\0"
_COMMON_NAME: Final = "OCSP responder"
_LIFE: Final = dt.timedelta(days=30)  # wire specification, "Proofs"
_OCSP_SIGNING_ALONE: Final = x509.ExtendedKeyUsage([x509.ObjectIdentifier(OCSP_SIGNING)]).public_bytes()
# Doubled with each refusal: each of them is journaled. Whoever has mended the reason starts the publisher again.
_AFTER_REFUSAL: Final = dt.timedelta(minutes=10)
_AFTER_REFUSALS: Final = dt.timedelta(days=1)
_DOUBLED_AT_MOST: Final = 10
# A certificate that ends sooner than this behind its sub-CA's end is not worth one of its serial numbers.
_ONE_DAY: Final = dt.timedelta(days=1)


class Responder:
    """One key and its certificates, in `directory`, which is made when it is not there."""

    def __init__(self, key: ResponderKey, *, directory: Path, store: Store) -> None:
        self._key = key
        self._public = public_info(key)
        self._directory = directory
        self._store = store
        self._held: dict[str, Delegation] = {}
        self._looked: set[str] = set()
        self._refused: dict[str, str] = {}
        # By the request that was the first one for a certificate: how many of its kind came to nothing.
        self._attempts: dict[bytes, int] = {}
        # Made when it is first asked for, and the same ever after: a request's digest covers it.
        self._request = b""
        try:
            directory.mkdir(mode=files.SECRET_DIRECTORY, exist_ok=True)
        except OSError as error:
            raise OperatorError(
                f"{directory}: cannot keep the responder's certificates here: {error.strerror}"
            ) from error

    def delegation(self, authority: Authority) -> Delegation | None:
        """The certificate under this sub-CA, if there is one."""
        if authority.name not in self._looked:
            self._looked.add(authority.name)
            self._read(authority)
        return self._held.get(authority.name)

    @property
    def alarms(self) -> tuple[str, ...]:
        """What keeps it from being certified, by sub-CA."""
        return tuple(f"OCSP for {name}: no certificate: {why}" for name, why in self._refused.items())

    def renew(self, authorities: Iterable[Authority], *, now: dt.datetime) -> None:
        """Ask for what is needed, and pick up what was made; raises Unavailable when the store is away."""
        for authority in authorities:
            held = self.delegation(authority)
            if held is not None and now < held.not_after - (held.not_after - held.not_before) / 3:
                continue
            if not authority.not_before <= now < authority.not_after - _ONE_DAY:
                continue
            self._go_on(authority, held, now=now)

    def _go_on(self, authority: Authority, held: Delegation | None, *, now: dt.datetime) -> None:
        """One step towards the next certificate. Which request is the newest for it, the store knows."""
        first = self._request_id(authority, held, 0)
        # A process that has just begun waits for nothing: what was refused may have been mended.
        patient = first in self._attempts
        attempt = self._attempts.get(first, 0)
        while True:
            self._attempts[first] = attempt
            request_id = self._request_id(authority, held, attempt)
            record = self._store.requests.find(request_id)
            if record is None:
                self._submit(authority, request_id, now=now)
                return
            if record.state == "queued" or (record.state == "issued" and self._pick_up(authority, request_id)):
                return
            if record.state == "refused":
                self._note(authority, record.refusal_message)
                pause = min(_AFTER_REFUSAL * 2 ** min(attempt, _DOUBLED_AT_MOST), _AFTER_REFUSALS)
                if patient and now < record.updated_at + pause:
                    return
            attempt += 1

    def _submit(self, authority: Authority, request_id: bytes, *, now: dt.datetime) -> None:
        end = ""
        if authority.not_after < now + _LIFE + _ONE_DAY:
            end = f"{authority.not_after:%Y-%m-%d}"
        wanted = CertificateRequest(
            key_kind="csr",
            key_proof=self._csr(),
            request_id=request_id,
            account=RESPONDER_ACCOUNT,
            ocsp_target_ca=authority.name,
            wish_to=end,
            attributes=(SubjectAttribute(type="CN", value=_COMMON_NAME),),
        )
        try:
            self._store.requests.submit(wanted, request_id=request_id, now=now)
        except Refused as error:
            self._note(authority, error.message)
            return
        _log.info("OCSP for %s: asked for a certificate", authority.name)

    def _csr(self) -> bytes:
        self._request = self._request or certification_request(self._key)
        return self._request

    def _pick_up(self, authority: Authority, request_id: bytes) -> bool:
        record = self._store.certificates.of_request(request_id)
        if record is None:
            return False
        try:
            held = read_delegation(record.der, authority=authority, public_key=self._public)
        except PeerError as error:
            # The database may say anything: only what verifies is shown to the world.
            self._note(authority, f"the store has something else than its certificate: {error}")
            return False
        self._write(authority.name, held.certificate)
        self._held[authority.name] = held
        self._refused.pop(authority.name, None)
        _log.info("OCSP for %s: certified until %s", authority.name, f"{held.not_after:%F %H:%M}Z")
        return True

    def _read(self, authority: Authority) -> None:
        path = self._path(authority.name)
        try:
            octets = x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
            held = read_delegation(octets, authority=authority, public_key=self._public)
        except FileNotFoundError:
            return
        except (OSError, ValueError, PeerError) as error:
            _log.warning("%s is left out: %s", path, error)
            return
        self._held[authority.name] = held

    def _write(self, name: str, octets: bytes) -> None:
        """Replace the file as a whole; one that cannot be written is asked of the store again after a restart."""
        path = self._path(name)
        pem = x509.load_der_x509_certificate(octets).public_bytes(Encoding.PEM)
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self._directory, prefix=f".{name}.")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(pem)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            files.sync_directory(self._directory)
        except OSError as error:
            _log.error("%s: cannot be written: %s; it is used all the same", path, error.strerror)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.pem"

    def _request_id(self, authority: Authority, held: Delegation | None, attempt: int) -> bytes:
        """What the next certificate is asked for by: the one that it follows says which it is."""
        parts = (authority.certificate, self._public, held.certificate if held else b"", b"%d" % attempt)
        return hashlib.sha256(_TAG + b"".join(hashlib.sha256(each).digest() for each in parts)).digest()

    def _note(self, authority: Authority, reason: str) -> None:
        if self._refused.get(authority.name) != reason:
            self._refused[authority.name] = reason
            _log.error("OCSP for %s: no certificate: %s", authority.name, reason)


def read_delegation(octets: bytes, *, authority: Authority, public_key: bytes) -> Delegation:
    """A responder's certificate (DER) for this key by this sub-CA; raises PeerError for any other.

    RFC 6960 4.2.2.2: directly by the sub-CA, with OCSPSigning.
    """
    issued = certificate.check_existing(octets, authority=authority)
    tbs = certificate.read_tbs(issued.tbs_certificate)
    usages = [value for extn_id, _, value in tbs.extensions if extn_id == x509.OID_EXTENDED_KEY_USAGE]
    if usages != [_OCSP_SIGNING_ALONE]:
        raise PeerError("it is not that of a responder")
    if tbs.subject_public_key_info != public_key:
        raise PeerError("it is for another key than this responder's")
    return Delegation(certificate=octets, not_before=tbs.not_before, not_after=tbs.not_after)
