"""Journal entries: what the signer did, one DER structure each, and what each kind of them says.

An entry names its place, the hash of the entry before it, and the hashes of its parts. Whatever is about persons
(names, keys, reasons in words) stands in parts, which are kept beside the entry: a part can be removed when it may no
longer be kept, and chain, tree and signed heads stay valid. Parts that could be guessed carry a salt, so that their
hashes say nothing once they are gone. docs/journal.md describes all of it; docs/wire.asn1 is the authority on the
octets.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cassiopeia.core import der, merkle, structure
from cassiopeia.core.request import CertificateRequest, KeyKind, SubjectAltName, SubjectAttribute
from cassiopeia.errors import PeerError

VERSION: Final = 1
SALT_OCTETS: Final = 16
NO_ENTRY: Final = bytes(merkle.HASH_OCTETS)
"""What the first entry names as the hash of the one before it."""
MAXIMUM_EPOCHS_SKIPPED: Final = 1_000
"""Epochs are skipped when a journal was made again, and lost before anybody had copied that: far fewer than this."""
LOST_PAST: Final = "lost-past"
"""Code of the halt of a signer whose journal is shorter than a head that it signed; only a new epoch ends it."""
SIGNATURE_HALT: Final = "signature:"
"""Beginning of the code of a halt of one sub-CA, whose name follows: a signature that its key made was wrong.

The signer itself goes on; an order that resumes the sub-CA ends it.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """One entry: `index` counts from 1, `body` is the DER of the structure that belongs to `kind` (`BODIES`)."""

    version: int
    signer_id: int
    epoch: int
    index: int
    previous_hash: bytes
    time: dt.datetime
    kind: str
    body: bytes
    parts: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Log:
    """An entry with its parts, each empty where it is withheld. `logSaved` carries SHA-256 of an intent's whole log."""

    entry: bytes
    parts: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """kind `key`: from the next entry on, heads are signed with this Ed25519 key (DER SubjectPublicKeyInfo).

    `signature` is over `key_statement`: by the key before it, or at the very beginning by itself.
    """

    public_key: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """kind `epoch`: the journal was made again from a copy up to the entry before this one.

    `public_key` signs from here on. `head` is the newest signed head that the copy came with; it may be of an epoch
    that the copy has nothing of, and then `number` is above that one, too.
    """

    number: int
    public_key: bytes
    head: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """kind `start`: the signer's process has begun. `boot_seconds` is CLOCK_BOOTTIME of the machine."""

    boot_id: bytes
    boot_seconds: int
    configuration_hash: bytes
    software_version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """kind `configuration`: what requests are judged by from here on. Part: `Documents`."""

    configuration_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    name: str
    octets: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Documents:
    documents: tuple[Document, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """kind `intent`: this certificate will be signed once the client has saved the log. Part: `Requested`.

    `protocol` is the version of the protocol that the request came over; `algorithm` the DER of an AlgorithmIdentifier.
    """

    protocol: int
    boot_id: bytes
    request_id: bytes
    request_digest: bytes
    configuration_hash: bytes
    profile: str
    signing_ca: str
    serial_number: bytes
    algorithm: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Requested:
    """The part of an intent: the request as it came, and the octets that will be signed."""

    salt: bytes
    account: str
    profile: str
    ocsp_target_ca: str
    key_kind: str
    key_proof: bytes
    attributes: tuple[SubjectAttribute, ...]
    alt_names: tuple[SubjectAltName, ...]
    wish_from: str
    wish_to: str
    signature_hash: str
    proofs: tuple[bytes, ...]
    tbs_certificate: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Confirmation:
    """kind `confirmation`: the client has saved the log of the intent at this index (version 1: said so, no hash)."""

    intent: int
    log_hash: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """kind `result`: the certificate exists. Part: the signature, octets as they stand in the certificate."""

    intent: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Abandonment:
    """kind `abandonment`: the intent is over, its serial number burned. Part: `Reason`."""

    intent: int
    code: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """kind `refusal`: a request was refused for good. Part: `Reason`.

    `exposes` are the keys of certificates and sub-CAs with which its key shares a prime: SHA-256 of their moduli.
    """

    request_id: bytes
    request_digest: bytes
    code: str
    exposes: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Reason:
    """The part of a refusal, abandonment or halt: the offending field, and a sentence for people."""

    salt: bytes
    field: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CompromiseProof:
    """The signature by which the key of a certificate says that it is compromised (`core.compromise`)."""

    serial_number: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Revocations:
    """kind `revocation`: DER of the CRL entries that every CRL of this sub-CA lists from now on, in this order.

    `request_id` is empty where the client gave none. `proofs` are of those among them that were proved.
    """

    signing_ca: str
    request_id: bytes
    request_digest: bytes
    entries: tuple[bytes, ...]
    proofs: tuple[CompromiseProof, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedCrl:
    """kind `crl`: a CRL was signed. It lists the first `entries` revocations of its sub-CA. Part: the signature.

    `answers` names the revocation requests whose answer it is.
    """

    signing_ca: str
    number: int
    this_update: dt.datetime
    next_update: dt.datetime
    entries: int
    tbs_hash: bytes
    algorithm: bytes
    answers: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Halt:
    """kind `halt`: the signer (or with `SIGNATURE_HALT` a sub-CA) issues nothing until `resume`. Part: `Reason`."""

    code: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Resume:
    """kind `resume`: what `halt` named by this code is over."""

    code: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockEpoch:
    """kind `clock`: operators say that when the machine's clock showed `machine_time`, it was `true_time`."""

    machine_time: dt.datetime
    true_time: dt.datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderObeyed:
    """kind `order`: an order of the operators, as it was signed, has been carried out."""

    sequence: int
    order: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Removal:
    """kind `removal`: parts of entries up to this index, which nobody may keep any longer, were removed."""

    last: int
    parts: int


BODIES: Final[dict[str, type[Any]]] = {
    "key": Key,
    "epoch": Epoch,
    "start": Start,
    "configuration": Configuration,
    "intent": Intent,
    "confirmation": Confirmation,
    "result": Result,
    "abandonment": Abandonment,
    "refusal": Refusal,
    "revocation": Revocations,
    "crl": SignedCrl,
    "halt": Halt,
    "resume": Resume,
    "clock": ClockEpoch,
    "order": OrderObeyed,
    "removal": Removal,
}
PERSONAL_KINDS: Final = frozenset({"intent", "refusal", "abandonment", "halt"})
"""Entries whose parts are about persons."""

KINDS: Final = {body: kind for kind, body in BODIES.items()}

_Part = TypeVar("_Part", Requested, Reason, Documents)


def decode_entry(octets: bytes) -> JournalEntry:
    """Read an entry; raises PeerError, for a version or a kind that is not known here too."""
    entry = structure.decode(JournalEntry, octets)
    if entry.version != VERSION:
        raise PeerError(f"journal entries of version {entry.version} are not known here")
    if entry.kind not in BODIES:
        raise PeerError(f"journal entries of the kind {entry.kind[:40]!a} are not known here")
    return entry


def decode_body(entry: JournalEntry) -> Any:
    """What the entry says, as the dataclass of its kind; raises PeerError."""
    return structure.decode(BODIES[entry.kind], entry.body)


def decode_part(kind: type[_Part], octets: bytes) -> _Part:
    """Read a part; raises PeerError, also for one that was removed or withheld."""
    if not octets:
        raise PeerError("this part of the journal was removed, or is not in this copy")
    return structure.decode(kind, octets)


def part_hash(octets: bytes) -> bytes:
    """What an entry holds of a part: SHA-256."""
    return hashlib.sha256(octets).digest()


def without_previous(octets: bytes) -> bytes:
    """An entry as it is copied: whoever has the entry before it knows its hash, so that stays out."""
    return put_previous(octets, b"")


def put_previous(octets: bytes, previous_hash: bytes) -> bytes:
    """Put a hash between what stands before and behind it; raises PeerError, but does not read the rest.

    Three times as quick as to decode and encode the entry, and each of thousands needs it.
    """
    outer, begin, last = der.read(octets)
    at = begin
    for _ in range(_FIELDS_BEFORE_PREVIOUS):
        _, _, at = der.read(octets, at)
    inner, _, end = der.read(octets, at)
    if (outer, inner, last) != (der.SEQUENCE, der.OCTET_STRING, len(octets)):
        raise PeerError("this is not the DER of a JournalEntry")
    return der.encode(der.SEQUENCE, octets[begin:at], der.encode(der.OCTET_STRING, previous_hash), octets[end:])


# Of a JournalEntry: version, signer id, epoch, index.
_FIELDS_BEFORE_PREVIOUS: Final = 4
_ACCOUNT_PLACE: Final = 1  # of Requested


def encode_log(log: Log) -> bytes:
    return structure.encode(log)


def decode_log(octets: bytes) -> Log:
    """Read an entry with its parts, and check that they belong to it; raises PeerError."""
    _, log = read_log(octets)
    return log


def read_log(octets: bytes) -> tuple[JournalEntry, Log]:
    """What `decode_log` gives, and the entry in it."""
    log = structure.decode(Log, octets)
    entry = decode_entry(log.entry)
    check_parts(entry, log.parts)
    return entry, log


def check_parts(entry: JournalEntry, parts: tuple[bytes, ...]) -> None:
    """Raise PeerError unless each part is the one that the entry names, or withheld."""
    if len(parts) != len(entry.parts):
        raise PeerError(f"entry {entry.index} has {len(entry.parts)} parts, not {len(parts)}")
    for octets, expected in zip(parts, entry.parts, strict=True):
        if octets and part_hash(octets) != expected:
            raise PeerError(f"a part of entry {entry.index} is not the one that the entry names")


def check_epoch(entry: JournalEntry, before: int) -> None:
    """Raise PeerError unless an entry of this epoch may follow one of the epoch `before`."""
    allowed = range(before + 1, before + 2 + MAXIMUM_EPOCHS_SKIPPED) if entry.kind == "epoch" else [before]
    if entry.epoch not in allowed:
        raise PeerError(f"this is an entry of epoch {entry.epoch}, behind one of epoch {before}")


def requested(request: CertificateRequest, *, salt: bytes, tbs_certificate: bytes) -> Requested:
    """The part of an intent for this request."""
    return Requested(
        salt=salt,
        account=request.account,
        profile=request.profile,
        ocsp_target_ca=request.ocsp_target_ca,
        key_kind=request.key_kind,
        key_proof=request.key_proof,
        attributes=request.attributes,
        alt_names=request.alt_names,
        wish_from=request.wish_from,
        wish_to=request.wish_to,
        signature_hash=request.signature_hash,
        proofs=request.proofs,
        tbs_certificate=tbs_certificate,
    )


def certified_in_part(octets: bytes) -> tuple[str, bytes]:
    """The account and the TBSCertificate in the part of an intent, without the rest; raises PeerError.

    Several times as quick as to decode the part, and each intent needs it.
    """
    parts = der.elements(der.content(octets, der.SEQUENCE), at_most=len(dataclasses.fields(Requested)))
    if len(parts) <= _ACCOUNT_PLACE:
        raise PeerError("this is not the part of an intent")
    try:
        account = der.content(parts[_ACCOUNT_PLACE][1], der.UTF8_STRING).decode()
    except UnicodeDecodeError as error:
        raise PeerError("the account of an intent is not UTF-8") from error
    return account, der.content(parts[-1][1], der.OCTET_STRING)


def as_request(part: Requested, *, request_id: bytes) -> CertificateRequest:
    """The request that an intent's part holds; raises PeerError for a key of no known kind."""
    kinds: dict[str, KeyKind] = {"csr": "csr", "spkac": "spkac"}
    if part.key_kind not in kinds:
        raise PeerError(f"a key is proved in the unknown way {part.key_kind[:40]!a}")
    return CertificateRequest(
        key_kind=kinds[part.key_kind],
        key_proof=part.key_proof,
        profile=part.profile,
        account=part.account,
        request_id=request_id,
        signature_hash=part.signature_hash,
        wish_from=part.wish_from,
        wish_to=part.wish_to,
        attributes=part.attributes,
        alt_names=part.alt_names,
        ocsp_target_ca=part.ocsp_target_ca,
        proofs=part.proofs,
    )


def key_statement(*, signer_id: int, index: int, previous_hash: bytes, public_key: bytes) -> bytes:
    """What is signed when a journal key is introduced at this place."""
    return structure.encode(
        _KeyStatement(signer_id=signer_id, index=index, previous_hash=previous_hash, public_key=public_key)
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _KeyStatement:
    signer_id: int
    index: int
    previous_hash: bytes
    public_key: bytes
