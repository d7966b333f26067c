"""What the journal says, made quick to ask: tables that are derived from its entries, and from nothing else.

`add` is called with every entry in order, when it is appended and again when the tables are made anew, so both give the
same. Of public keys they know more than that, once the parts that held them were removed: what is known of keys is
never emptied. Owns these tables and the questions to them, not the entries (`journal`).
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from cassiopeia.core.crl import entry_serials
from cassiopeia.core.key_identity import identify_certified_key
from cassiopeia.journal import entry as entries
from cassiopeia.journal.crls import raise_floor
from cassiopeia.journal.entry import LOST_PAST, JournalEntry

IntentState = Literal["intent", "confirmed", "issued", "abandoned"]

INDEX_VERSION: Final = 6
"""Raise it when the tables change: they are then made anew at the next start."""

SERIAL_OCTETS: Final = 16
_DIGEST_OCTETS: Final = 32

TABLES: Final = ("certificate", "revocation", "revocation_request", "crl", "halt", "milestone")
SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS certificate (
    position INTEGER PRIMARY KEY, serial_number BLOB NOT NULL UNIQUE, signing_ca TEXT NOT NULL,
    request_id BLOB NOT NULL, request_digest BLOB NOT NULL, protocol INTEGER NOT NULL, state TEXT NOT NULL,
    result_position INTEGER, at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS certificate_by_request ON certificate (request_id);
CREATE INDEX IF NOT EXISTS certificate_by_digest ON certificate (request_digest) WHERE protocol = 1;
CREATE INDEX IF NOT EXISTS certificate_open ON certificate (state) WHERE state = 'intent';
CREATE TABLE IF NOT EXISTS revocation (
    signing_ca TEXT NOT NULL, ordinal INTEGER NOT NULL, serial_number BLOB NOT NULL UNIQUE, entry BLOB NOT NULL,
    proved INTEGER NOT NULL, PRIMARY KEY (signing_ca, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS revocation_proved ON revocation (serial_number) WHERE proved = 1;
CREATE TABLE IF NOT EXISTS revocation_request (
    request_id BLOB PRIMARY KEY, request_digest BLOB NOT NULL, signing_ca TEXT NOT NULL, revoked INTEGER NOT NULL,
    crl_number INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS revocation_unanswered ON revocation_request (signing_ca) WHERE crl_number IS NULL;
CREATE TABLE IF NOT EXISTS crl (
    signing_ca TEXT NOT NULL, number INTEGER NOT NULL, position INTEGER NOT NULL, this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL, entries INTEGER NOT NULL, tbs_hash BLOB NOT NULL, algorithm BLOB NOT NULL,
    PRIMARY KEY (signing_ca, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS halt (code TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS milestone (
    position INTEGER PRIMARY KEY, kind TEXT NOT NULL, number INTEGER NOT NULL, octets BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS milestone_by_kind ON milestone (kind, position);
CREATE TABLE IF NOT EXISTS public_key (
    position INTEGER PRIMARY KEY, digest BLOB NOT NULL, modulus BLOB, account TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS public_key_by_digest ON public_key (digest);
"""

_FIND = """
    SELECT serial_number, signing_ca, request_id, request_digest, certificate.position, state, result_position,
        entry.entry, part.octets, signature.octets
    FROM certificate JOIN entry USING (position)
    LEFT JOIN part ON part.position = certificate.position AND part.ordinal = 0
    LEFT JOIN part AS signature ON state = 'issued' AND signature.position = result_position AND signature.ordinal = 0
"""

Execute = Callable[..., list[Any]]

_HIGHEST_INTEGER: Final = (1 << 63) - 1  # of SQLite


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """One certificate on its way, or there: `log` is the DER of the entry with its part (`journal.entry.Log`).

    Once it is issued or abandoned, `result_position` is the index of the entry that says so. `signature` is that of an
    issued one; it stays empty where it was lost with the disk that held it: the same octets are signed again.
    """

    position: int
    serial_number: bytes
    signing_ca: str
    request_id: bytes
    request_digest: bytes
    log: bytes
    log_hash: bytes
    tbs_certificate: bytes
    algorithm: bytes
    state: IntentState
    signature: bytes = b""
    result_position: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class CrlRecord:
    """One signed CRL without its entries, of which it lists the first `entries`; times are whole seconds, UTC."""

    signing_ca: str
    number: int
    this_update: dt.datetime
    next_update: dt.datetime
    entries: int
    tbs_hash: bytes
    algorithm: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class RevocationAnswer:
    """What became of a revocation request: `crl_number` is 0 while the CRL that answers it is not signed.

    `revoked` says whether the request named any serial numbers.
    """

    signing_ca: str
    request_digest: bytes
    revoked: bool
    crl_number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyOwner:
    """Whose public key it is; the account is None once retention has removed every part that names it."""

    account: str | None


class JournalIndex:
    """The derived tables behind `execute`, which runs one statement and gives its rows."""

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def make_anew(self) -> None:
        """Empty tables, whatever those of another release looked like; public keys stay.

        Where the part of an intent was removed, nothing else knows its key. What an intent adds is always the same, so
        adding it again changes nothing. Whoever changes the columns of this table has to bring its rows along: rows of
        version 4 have no account, and get it from their parts.
        """
        for table in TABLES:
            self._execute(f"DROP TABLE IF EXISTS {table}")
        for statement in SCHEMA.split(";"):
            self._execute(statement)
        if not self._execute("SELECT 1 FROM pragma_table_info('public_key') WHERE name = 'account'"):
            self._execute("ALTER TABLE public_key ADD COLUMN account TEXT")

    def add(self, entry: JournalEntry, body: Any, part: bytes = b"") -> None:
        """Take one entry, the next one, with its first part as far as that is there; raises PeerError."""
        match body:
            case entries.Intent():
                self._add_intent(entry, body)
                if part:
                    self._add_public_key(entry, part)
            case entries.Confirmation():
                self._execute("UPDATE certificate SET state = 'confirmed' WHERE position = ?", (body.intent,))
            case entries.Result():
                self._execute(
                    "UPDATE certificate SET state = 'issued', result_position = ?, at = ? WHERE position = ?",
                    (entry.index, _seconds(entry.time), body.intent),
                )
            case entries.Abandonment():
                self._execute(
                    "UPDATE certificate SET state = 'abandoned', result_position = ? WHERE position = ?",
                    (entry.index, body.intent),
                )
            case entries.Revocations():
                self._add_revocations(body)
            case entries.SignedCrl():
                self._add_crl(entry, body)
            case entries.Halt():
                self._execute("INSERT OR REPLACE INTO halt VALUES (?, ?)", (body.code, entry.index))
            case entries.Resume():
                self._execute("DELETE FROM halt WHERE code = ?", (body.code,))
            case entries.Epoch():
                self._add_milestone(entry, body.number, body.public_key)
                self._execute("DELETE FROM halt WHERE code = ?", (LOST_PAST,))
            case (
                entries.Key(public_key=octets)
                | entries.Configuration(configuration_hash=octets)
                | entries.Start(boot_id=octets)
            ):
                self._add_milestone(entry, 0, octets)
            case entries.ClockEpoch():
                self._add_milestone(entry, _seconds(body.true_time) - _seconds(body.machine_time), b"")
            case entries.OrderObeyed():
                self._add_milestone(entry, body.sequence, hashlib.sha256(body.order).digest())
            case entries.Removal():
                self._add_milestone(entry, body.last, b"")
            case entries.Refusal(exposes=exposed) if exposed:
                self._add_milestone(entry, 0, b"".join(exposed))
            case _:
                pass  # refusals that say nothing of others: nobody asks for them

    def find_request(self, request_id: bytes) -> Intent | None:
        """The newest intent under this request id that was not abandoned."""
        return self._find(
            "WHERE request_id = ? AND state <> 'abandoned' ORDER BY certificate.position DESC LIMIT 1", (request_id,)
        )

    def find_version_1(self, request_digest: bytes, *, since: dt.datetime) -> Intent | None:
        """The newest certificate, made or on its way, for such a request over version 1."""
        return self._find(
            "WHERE protocol = 1 AND request_digest = ? AND state <> 'abandoned' AND at >= ?"
            " ORDER BY certificate.position DESC LIMIT 1",
            (request_digest, _seconds(since)),
        )

    def find_serial(self, serial_number: bytes) -> Intent | None:
        return self._find("WHERE serial_number = ?", (serial_number,))

    def state(self, serial_number: bytes) -> IntentState | None:
        """How far the certificate of this serial number has come; None for one that was never meant to be."""
        rows = self._execute("SELECT state FROM certificate WHERE serial_number = ?", (serial_number,))
        return rows[0][0] if rows else None

    def abandoned_at(self, serial_number: bytes) -> int | None:
        """Index of the entry that says that nothing will be signed under this serial number; None if none does."""
        rows = self._execute(
            "SELECT result_position FROM certificate WHERE serial_number = ? AND state = 'abandoned'", (serial_number,)
        )
        return rows[0][0] if rows else None

    def issued_by(self, serial_number: bytes) -> str:
        """The sub-CA that issued a certificate of this serial number; empty when there is none."""
        rows = self._execute(
            "SELECT signing_ca FROM certificate WHERE serial_number = ? AND state = 'issued'", (serial_number,)
        )
        return str(rows[0][0]) if rows else ""

    def open_intents(self) -> list[Intent]:
        """What waits for a confirmation, in order."""
        return self._select("WHERE state = 'intent' ORDER BY certificate.position", ())

    def used_counts(self) -> dict[str, int]:
        """How many serial numbers each sub-CA has used, abandoned ones left out: what its CRL may have to hold."""
        return dict(
            self._execute("SELECT signing_ca, COUNT(*) FROM certificate WHERE state <> 'abandoned' GROUP BY signing_ca")
        )

    def knows_key(self, digest: bytes) -> bool:
        """Whether this public key was ever meant to be certified."""
        return bool(self._execute("SELECT 1 FROM public_key WHERE digest = ? LIMIT 1", (digest,)))

    def key_owner(self, digest: bytes) -> KeyOwner | None:
        """Whose public key it is: the account of its newest certificate, made or on its way, that is still known.

        None while nobody's: it was never seen, or every certificate that was meant for it was given up.
        """
        rows = self._execute(
            "SELECT account FROM public_key JOIN certificate USING (position)"
            " WHERE digest = ? AND state <> 'abandoned' ORDER BY account IS NULL, position DESC LIMIT 1",
            (digest,),
        )
        return KeyOwner(account=rows[0][0]) if rows else None

    def forget_account(self, position: int) -> None:
        """The parts of this entry are removed, and with them whose key it was about."""
        self._execute("UPDATE public_key SET account = NULL WHERE position = ?", (position,))

    def certificates_of_key(self, digest: bytes) -> list[bytes]:
        """Serial numbers of its certificates, made or on their way, the oldest first."""
        rows = self._execute(
            "SELECT serial_number FROM public_key JOIN certificate USING (position)"
            " WHERE digest = ? AND state <> 'abandoned' ORDER BY position",
            (digest,),
        )
        return [row[0] for row in rows]

    def is_compromised(self, digest: bytes) -> bool:
        """Whether a certificate for this key was revoked by a proof of the key itself."""
        rows = self._execute(
            "SELECT 1 FROM public_key JOIN certificate USING (position) JOIN revocation USING (serial_number)"
            " WHERE digest = ? AND proved = 1 LIMIT 1",
            (digest,),
        )
        return bool(rows)

    def open_for_key_of(self, serial_number: bytes) -> list[bytes]:
        """Serial numbers that wait for their confirmation, for the key of this certificate."""
        rows = self._execute(
            "SELECT other.serial_number FROM certificate AS known"
            " CROSS JOIN public_key ON public_key.position = known.position"
            " CROSS JOIN public_key AS same ON same.digest = public_key.digest"
            " CROSS JOIN certificate AS other ON other.position = same.position"
            " WHERE known.serial_number = ? AND other.state = 'intent'",
            (serial_number,),
        )
        return [row[0] for row in rows]

    def standing_though_compromised(self, *, at_most: int) -> list[bytes]:
        """Serial numbers of certificates that are not revoked, although a proof of their key has revoked another."""
        # From the few that were proved, never from all certificates: asked with every status report.
        rows = self._execute(
            "SELECT DISTINCT other.serial_number FROM revocation CROSS JOIN certificate AS known"
            " ON known.serial_number = revocation.serial_number"
            " CROSS JOIN public_key ON public_key.position = known.position"
            " CROSS JOIN public_key AS same ON same.digest = public_key.digest"
            " CROSS JOIN certificate AS other ON other.position = same.position"
            " WHERE revocation.proved = 1 AND other.state = 'issued'"
            " AND other.serial_number NOT IN (SELECT serial_number FROM revocation) LIMIT ?",
            (at_most,),
        )
        return [row[0] for row in rows]

    def exposed_keys(self) -> list[bytes]:
        """Digests of keys of which refusals say that another key has shown their primes; in order."""
        joined = [octets for _, _, octets in self._milestones("refusal")]
        return [
            each[start : start + _DIGEST_OCTETS] for each in joined for start in range(0, len(each), _DIGEST_OCTETS)
        ]

    def moduli(self, *, after: int, at_most: int) -> list[tuple[int, bytes]]:
        """Every modulus of an RSA key once, in order, from behind this index on; each with the index of its entry."""
        return self._execute(
            "SELECT position, modulus FROM public_key WHERE position > ? AND modulus IS NOT NULL"
            " ORDER BY position LIMIT ?",
            (after, at_most),
        )

    def count_moduli(self) -> int:
        """How many `moduli` has in all; reads the whole table."""
        ((count,),) = self._execute("SELECT COUNT(modulus) FROM public_key")
        return int(count)

    def is_revoked(self, serial_number: bytes) -> bool:
        return bool(self._execute("SELECT 1 FROM revocation WHERE serial_number = ?", (serial_number,)))

    def revocation_entries(self, signing_ca: str) -> list[bytes]:
        """DER of every CRL entry of this sub-CA, in order."""
        rows = self._execute("SELECT entry FROM revocation WHERE signing_ca = ? ORDER BY ordinal", (signing_ca,))
        return [row[0] for row in rows]

    def find_revocation(self, request_id: bytes) -> RevocationAnswer | None:
        rows = self._execute(
            "SELECT signing_ca, request_digest, revoked, crl_number FROM revocation_request WHERE request_id = ?",
            (request_id,),
        )
        if not rows:
            return None
        ((signing_ca, request_digest, revoked, crl_number),) = rows
        return RevocationAnswer(
            signing_ca=signing_ca,
            request_digest=request_digest,
            revoked=bool(revoked),
            crl_number=crl_number or 0,
        )

    def unanswered_revocations(self, signing_ca: str) -> list[bytes]:
        """Ids of revocation requests that are journaled and have no CRL yet."""
        rows = self._execute(
            "SELECT request_id FROM revocation_request WHERE signing_ca = ? AND crl_number IS NULL", (signing_ca,)
        )
        return [row[0] for row in rows]

    def crl(self, signing_ca: str, number: int | None = None) -> CrlRecord | None:
        """The CRL of this number (any that a client may name), or the newest."""
        if number is not None and number > _HIGHEST_INTEGER:
            return None
        rows = self._execute(
            "SELECT number, this_update, next_update, entries, tbs_hash, algorithm, octets FROM crl"
            " LEFT JOIN part ON part.position = crl.position AND part.ordinal = 0"
            " WHERE signing_ca = ?1 AND (?2 IS NULL OR number = ?2) ORDER BY number DESC LIMIT 1",
            (signing_ca, number),
        )
        if not rows:
            return None
        (row,) = rows
        return CrlRecord(
            signing_ca=signing_ca,
            number=row[0],
            this_update=dt.datetime.fromtimestamp(row[1], dt.UTC),
            next_update=dt.datetime.fromtimestamp(row[2], dt.UTC),
            entries=row[3],
            tbs_hash=row[4],
            algorithm=row[5],
            signature=row[6] or b"",
        )

    def crl_floor(self, signing_ca: str) -> int:
        """The next CRL of this sub-CA has a number above this one and above the newest."""
        floor, before = 0, 1
        for position, number, _ in self._milestones("epoch"):
            ((highest,),) = self._execute(
                "SELECT COALESCE(MAX(number), 0) FROM crl WHERE signing_ca = ? AND position < ?", (signing_ca, position)
            )
            floor = raise_floor(floor, highest, epochs=number - before)
            before = number
        return floor

    def halts(self) -> dict[str, int]:
        """What has halted this signer, by code: the entry that says so."""
        return dict(self._execute("SELECT code, position FROM halt ORDER BY position"))

    def epoch(self) -> int:
        """1 until the journal is made again from a copy, and more each time."""
        return max((number for _, number, _ in self._milestones("epoch")), default=1)

    def epoch_end(self, number: int) -> int | None:
        """The entry of the kind `epoch` by which this epoch was over, or was skipped; None while none has said so."""
        return next((position for position, each, _ in self._milestones("epoch") if each > number), None)

    def public_keys(self) -> list[bytes]:
        """Every key (DER SubjectPublicKeyInfo) that ever signed heads of this journal, in order."""
        rows = self._execute("SELECT octets FROM milestone WHERE kind IN ('key', 'epoch') ORDER BY position")
        return [row[0] for row in rows]

    def configuration_hash(self) -> bytes:
        """Of the newest configuration that was journaled; empty before the first."""
        return next((octets for _, _, octets in reversed(self._milestones("configuration"))), b"")

    def clock_offset_s(self) -> int:
        """Seconds that operators say the machine's clock is behind; 0 before they said anything."""
        return next((number for _, number, _ in reversed(self._milestones("clock"))), 0)

    def removed_up_to(self) -> int:
        """Index of the last entry whose personal parts were removed for their age; 0 before the first."""
        return max((number for _, number, _ in self._milestones("removal")), default=0)

    def order_sequence(self) -> int:
        """Number of the newest order that was obeyed; 0 before the first."""
        return max((number for _, number, _ in self._milestones("order")), default=0)

    def orders(self) -> list[tuple[dt.datetime, bytes]]:
        """Every order that was obeyed, as it was signed, and when; in order."""
        rows = self._execute(
            "SELECT entry.entry FROM milestone JOIN entry USING (position) WHERE kind = 'order' ORDER BY position"
        )
        obeyed = [entries.decode_entry(octets) for (octets,) in rows]
        return [(each.time, entries.decode_body(each).order) for each in obeyed]

    def last_start(self) -> int:
        """Where the newest start of the signer stands; 0 before the first."""
        return max((position for position, _, _ in self._milestones("start")), default=0)

    def find_order(self, order: bytes) -> int | None:
        """Where it stands that exactly this order was obeyed."""
        digest = hashlib.sha256(order).digest()
        return next((position for position, _, octets in self._milestones("order") if octets == digest), None)

    def _milestones(self, kind: str) -> list[tuple[int, int, bytes]]:
        return [
            (position, number, octets)
            for position, number, octets in self._execute(
                "SELECT position, number, octets FROM milestone WHERE kind = ? ORDER BY position", (kind,)
            )
        ]

    def _add_milestone(self, entry: JournalEntry, number: int, octets: bytes) -> None:
        self._execute("INSERT INTO milestone VALUES (?, ?, ?, ?)", (entry.index, entry.kind, number, octets))

    def _add_intent(self, entry: JournalEntry, body: entries.Intent) -> None:
        self._execute(
            "INSERT INTO certificate VALUES (?, ?, ?, ?, ?, ?, 'intent', NULL, ?)",
            (
                entry.index,
                body.serial_number,
                body.signing_ca,
                body.request_id,
                body.request_digest,
                body.protocol,
                _seconds(entry.time),
            ),
        )

    def _add_public_key(self, entry: JournalEntry, part: bytes) -> None:
        account, tbs_certificate = entries.certified_in_part(part)
        key = identify_certified_key(tbs_certificate)
        modulus = None if not key.modulus or self.knows_key(key.digest) else key.modulus
        self._execute(
            "INSERT INTO public_key VALUES (?, ?, ?, ?)"
            " ON CONFLICT (position) DO UPDATE SET account = excluded.account",
            (entry.index, key.digest, modulus, account),
        )

    def _add_revocations(self, body: entries.Revocations) -> None:
        ((ordinal,),) = self._execute(
            "SELECT COALESCE(MAX(ordinal), 0) FROM revocation WHERE signing_ca = ?", (body.signing_ca,)
        )
        proved = {each.serial_number for each in body.proofs}
        for offset, each in enumerate(body.entries, start=1):
            (number,) = entry_serials(each)
            serial = number.to_bytes(SERIAL_OCTETS, "big")
            self._execute(
                "INSERT INTO revocation VALUES (?, ?, ?, ?, ?)",
                (body.signing_ca, ordinal + offset, serial, each, serial in proved),
            )
        if body.request_id:
            self._execute(
                "INSERT OR IGNORE INTO revocation_request VALUES (?, ?, ?, 1, NULL)",
                (body.request_id, body.request_digest, body.signing_ca),
            )

    def _add_crl(self, entry: JournalEntry, body: entries.SignedCrl) -> None:
        self._execute(
            "INSERT INTO crl VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                body.signing_ca,
                body.number,
                entry.index,
                _seconds(body.this_update),
                _seconds(body.next_update),
                body.entries,
                body.tbs_hash,
                body.algorithm,
            ),
        )
        for request_id in body.answers:
            self._execute(
                "UPDATE revocation_request SET crl_number = ? WHERE request_id = ? AND crl_number IS NULL",
                (body.number, request_id),
            )

    def _find(self, condition: str, values: tuple[object, ...]) -> Intent | None:
        return next(iter(self._select(condition, values)), None)

    def _select(self, condition: str, values: tuple[object, ...]) -> list[Intent]:
        return [_intent(row) for row in self._execute(_FIND + condition, values)]


def _intent(row: tuple[Any, ...]) -> Intent:
    serial_number, signing_ca, request_id, digest, position, state, result_position, octets, part, signature = row
    body: entries.Intent = entries.decode_body(entries.decode_entry(octets))
    log = entries.encode_log(entries.Log(entry=octets, parts=(part or b"",)))
    return Intent(
        position=position,
        serial_number=serial_number,
        signing_ca=signing_ca,
        request_id=request_id,
        request_digest=digest,
        log=log,
        log_hash=entries.part_hash(log),
        tbs_certificate=entries.decode_part(entries.Requested, part).tbs_certificate if part else b"",
        algorithm=body.algorithm,
        state=state,
        signature=signature or b"",
        result_position=result_position or 0,
    )


def _seconds(moment: dt.datetime) -> int:
    return int(moment.timestamp())
