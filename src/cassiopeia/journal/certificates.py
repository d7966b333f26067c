"""What a journal says of certificates, entry by entry: intent, confirmation, result or abandonment, and nothing else.

Holds the rules of the issuance cycle against the entries: a serial number is used once; a request has one certificate;
nothing is signed before its log was saved; an intent that may have been signed is never abandoned. Part of `replay`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from cassiopeia.core import algorithms, certificate
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority
from cassiopeia.core.request import request_digest
from cassiopeia.errors import PeerError, SignatureInvalid
from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.journal.readable import serial_text

SERIAL_OCTETS: Final = 16
IssuanceState = Literal["open", "confirmed", "issued", "abandoned"]


@dataclass(kw_only=True, slots=True)
class Issuance:
    """One intent and what became of it.

    `log_hash` and `tbs_hash` are empty where the intent's part is not in this copy; `tbs_certificate` is kept until a
    signature over it was seen. `ended` is the index of the entry that made the state what it is.
    """

    index: int
    ended: int
    epoch: int
    state: IssuanceState
    protocol: int
    serial_number: bytes
    request_id: bytes
    request_digest: bytes
    signing_ca: str
    algorithm: SignatureAlgorithm
    log_hash: bytes
    tbs_hash: bytes
    tbs_certificate: bytes
    signature_hashes: tuple[bytes, ...] = ()


class Certificates:
    """Every intent of a journal. Raises PeerError for the entry that cannot be; `replay` says at which place."""

    def __init__(self, find_authority: Callable[[str], Authority | None], *, deep: bool) -> None:
        self._find_authority = find_authority
        self._deep = deep
        self._by_index: dict[int, Issuance] = {}
        self._by_serial: dict[bytes, Issuance] = {}
        self._by_request: dict[bytes, Issuance] = {}
        self.unchecked_signatures = 0
        """Results whose signature could not be verified, because something that it takes is not in this copy."""

    def __len__(self) -> int:
        return len(self._by_index)

    def __iter__(self) -> Iterator[Issuance]:
        """Every intent, in the order of the journal."""
        return iter(self._by_index.values())

    def find_serial(self, serial_number: bytes) -> Issuance | None:
        return self._by_serial.get(serial_number)

    def count(self, state: IssuanceState) -> int:
        return sum(each.state == state for each in self)

    def intent(self, entry: JournalEntry, body: entries.Intent, log: Log) -> None:
        serial = body.serial_number
        # 1. Nothing twice.
        if len(serial) != SERIAL_OCTETS or serial[0] != entry.signer_id:
            raise PeerError(f"{serial.hex()} is not a serial number of signer {entry.signer_id}")
        known = self._by_serial.get(serial)
        if known is not None:
            raise PeerError(f"the serial number {serial.hex()} was used before, by entry {known.index}")
        earlier = self._by_request.get(body.request_id)
        if earlier is not None and earlier.state != "abandoned":
            raise PeerError(
                f"the request {body.request_id.hex()} has a certificate, or one on its way, since entry {earlier.index}"
            )
        # 2. It is about one certificate throughout.
        (part,) = log.parts
        algorithm = algorithms.algorithm_from_der(body.algorithm)
        tbs_certificate = self._check_part(body, part) if part else b""
        self._by_index[entry.index] = self._by_serial[serial] = self._by_request[body.request_id] = Issuance(
            index=entry.index,
            ended=entry.index,
            epoch=entry.epoch,
            state="open",
            protocol=body.protocol,
            serial_number=serial,
            request_id=body.request_id,
            request_digest=body.request_digest,
            signing_ca=body.signing_ca,
            algorithm=algorithm,
            log_hash=entries.part_hash(entries.encode_log(log)) if part else b"",
            tbs_hash=entries.part_hash(tbs_certificate) if part else b"",
            tbs_certificate=tbs_certificate,
        )

    def confirmation(self, entry: JournalEntry, body: entries.Confirmation) -> None:
        issuance = self._find(body.intent)
        if issuance.state != "open":
            raise PeerError(f"the intent at entry {body.intent} is {issuance.state} already")
        # Version 1 saves a text of its own form, which is named by no hash.
        said_nothing = issuance.protocol == 1 and not body.log_hash
        if not said_nothing and issuance.log_hash and body.log_hash != issuance.log_hash:
            raise PeerError(f"the hash is not that of the log at entry {body.intent}")
        issuance.state, issuance.ended = "confirmed", entry.index

    def result(self, entry: JournalEntry, body: entries.Result, log: Log) -> Issuance:
        issuance = self._find(body.intent)
        again = issuance.state == "issued" and entry.epoch > issuance.epoch
        if issuance.state != "confirmed" and not again:
            raise PeerError(f"the intent at entry {body.intent} is {issuance.state}: nothing may be signed for it")
        (signature,) = log.parts
        if signature and self._deep:
            self._verify(issuance, signature)
        issuance.state, issuance.ended, issuance.epoch = "issued", entry.index, entry.epoch
        issuance.signature_hashes += entry.parts
        if signature:
            issuance.tbs_certificate = b""
        return issuance

    def abandonment(self, entry: JournalEntry, body: entries.Abandonment) -> None:
        issuance = self._find(body.intent)
        if issuance.state != "open":
            raise PeerError(f"the intent at entry {body.intent} is {issuance.state}: it cannot be abandoned")
        issuance.state, issuance.ended = "abandoned", entry.index
        issuance.tbs_certificate = b""

    def check_certificate(self, der: bytes) -> Issuance:
        """Return the issuance that this certificate (DER) is; raises PeerError when the journal knows of no such."""
        tbs_certificate, _, signature = certificate.split_certificate(der)
        number = certificate.read_tbs(tbs_certificate).serial_number
        serial = number.to_bytes(SERIAL_OCTETS, "big") if number.bit_length() <= 8 * SERIAL_OCTETS else b""
        issuance = self._by_serial.get(serial)
        if issuance is None:
            raise PeerError(f"the certificate {serial_text(number)} is not in this journal")
        if issuance.state != "issued":
            raise PeerError(
                f"the certificate {serial_text(number)} exists, and its intent at entry {issuance.index} is"
                f" {issuance.state}"
            )
        if issuance.tbs_hash and hashlib.sha256(tbs_certificate).digest() != issuance.tbs_hash:
            raise PeerError(f"the certificate {serial_text(number)} is not what entry {issuance.index} intended")
        if hashlib.sha256(signature).digest() not in issuance.signature_hashes:
            raise PeerError(
                f"the signature of {serial_text(number)} is not the one that entry {issuance.ended} released"
            )
        return issuance

    def check_unfinished(self, der: bytes, issuance: Issuance) -> None:
        """Raise PeerError unless the certificate (DER) is what this intent promised, signed by its sub-CA."""
        tbs_certificate, _, signature = certificate.split_certificate(der)
        if issuance.tbs_hash and hashlib.sha256(tbs_certificate).digest() != issuance.tbs_hash:
            number = certificate.read_tbs(tbs_certificate).serial_number
            raise PeerError(f"the certificate {serial_text(number)} is not what entry {issuance.index} intended")
        authority = self._find_authority(issuance.signing_ca)
        if authority is not None:
            algorithms.verify(authority.public_key, issuance.algorithm, signature, tbs_certificate)

    def _find(self, index: int) -> Issuance:
        issuance = self._by_index.get(index)
        if issuance is None:
            raise PeerError(f"entry {index} is not an intent")
        return issuance

    def _check_part(self, body: entries.Intent, octets: bytes) -> bytes:
        """The TBSCertificate, which must be what the entry says; so must the request be."""
        part = entries.decode_part(entries.Requested, octets)
        tbs = certificate.read_tbs(part.tbs_certificate)
        if tbs.serial_number != int.from_bytes(body.serial_number, "big"):
            raise PeerError(
                f"the certificate intended has the serial number {serial_text(tbs.serial_number)}, not that of the"
                " entry"
            )
        if tbs.algorithm.der != body.algorithm:
            raise PeerError(f"the certificate intended names {tbs.algorithm.name}, and the entry another algorithm")
        authority = self._find_authority(body.signing_ca)
        if authority is not None and tbs.issuer != authority.subject:
            raise PeerError(f"the issuer of the certificate intended is not {body.signing_ca}")
        if request_digest(entries.as_request(part, request_id=body.request_id)) != body.request_digest:
            raise PeerError("the digest is not that of the request")
        return part.tbs_certificate

    def _verify(self, issuance: Issuance, signature: bytes) -> None:
        authority = self._find_authority(issuance.signing_ca)
        if authority is None or not issuance.tbs_certificate:
            self.unchecked_signatures += 1
            return
        try:
            algorithms.verify(authority.public_key, issuance.algorithm, signature, issuance.tbs_certificate)
        except SignatureInvalid as error:
            raise PeerError(f"{issuance.signing_ca} has not signed this: {error}") from error
