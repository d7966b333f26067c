"""The tables, and the types of their columns; nothing here runs a statement.

The same definitions serve SQLite and PostgreSQL. `docs/store.md` explains the tables to people; the migrations in
`migrations/versions` make them, and a test proves that both agree.

Times are integers, microseconds since 1970-01-01 UTC: exact, the same in both databases (SQLite has no type for an
aware time), quick to compare and index, and free of every session's time zone. Serial numbers and CRL numbers are
hexadecimal text, because RFC 5280 allows them 20 octets and no integer column holds that.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    literal_column,
)

from cassiopeia.errors import InternalError, Unavailable

SCHEMA_REVISION: Final = "0006"
"""The newest migration. Revisions are numbers of four digits, so that older and newer can be told apart."""

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECONDS_A_DAY: Final = 86_400_000_000


class UtcTime(TypeDecorator[dt.datetime]):
    """An aware datetime, stored as microseconds since the epoch. A naive one is our own bug.

    What is no time was not written by us: whoever reads it waits until the row is put right, and ends of nothing.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 -- SQLAlchemy's signature
        if value is None:
            return None
        if value.tzinfo is None:
            raise InternalError("the store takes aware datetimes only")
        since = value - _EPOCH
        return since.days * _MICROSECONDS_A_DAY + since.seconds * 1_000_000 + since.microseconds

    def process_result_value(self, value: Any | None, dialect: Dialect) -> dt.datetime | None:  # noqa: ARG002 -- SQLAlchemy's signature
        if value is None:
            return None
        try:
            return _EPOCH + dt.timedelta(microseconds=value)
        except (OverflowError, TypeError, ValueError):
            raise Unavailable(
                f"the store has {str(value)[:40]!a} where a time should be: somebody has written into the database; "
                "put that row right, or restore the newest backup (docs/runbook.md)",
                code="store",
            ) from None


def _row_id() -> Column[int]:
    # SQLite makes a column the row id (and so numbers it by itself) only if it is declared INTEGER.
    return Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)


def _hexadecimal(length: int) -> String:
    # Prefixes are looked up as ranges: that needs the order of the characters, not that of somebody's language.
    return String(length).with_variant(String(length, collation="C"), "postgresql")


# The names are fixed so that later migrations can speak of them.
METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

request: Final = Table(
    "request",
    METADATA,
    _row_id(),
    Column("request_id", _hexadecimal(64), nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("account", String(255), nullable=False),
    Column("profile", String(255), nullable=False),
    Column("key_kind", String(8), nullable=False),
    Column("key_proof", LargeBinary, nullable=False),
    Column("signature_hash", String(255), nullable=False),
    Column("wish_from", String(255), nullable=False),
    Column("wish_to", String(255), nullable=False),
    Column("attributes", Text, nullable=False),
    Column("alt_names", Text, nullable=False),
    Column("ocsp_target_ca", String(255), nullable=False),
    Column("state", String(8), nullable=False),
    Column("refusal_code", Text),
    Column("refusal_field", Text),
    Column("refusal_message", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    UniqueConstraint("request_id"),
    CheckConstraint("state IN ('queued', 'refused', 'issued')", name="state"),
    CheckConstraint("(state = 'refused') = (refusal_code IS NOT NULL)", name="refusal"),
    Index(None, "account", "id"),
    Index(None, "state", "id"),
)

certificate: Final = Table(
    "certificate",
    METADATA,
    _row_id(),
    Column("serial_number", _hexadecimal(42), nullable=False),
    Column("authority", String(255), nullable=False),
    # At most one certificate for a request, whatever two clients do at once.
    Column("request_row", ForeignKey("request.id"), unique=True),
    Column("account", String(255), nullable=False),
    Column("profile", String(255), nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("subject", Text, nullable=False),
    Column("not_before", UtcTime, nullable=False),
    Column("not_after", UtcTime, nullable=False),
    Column("issued_at", UtcTime, nullable=False),
    Column("revocation_state", String(16), nullable=False),
    Column("revocation_reason", SmallInteger),
    Column("invalidity_date", UtcTime),
    Column("revocation_requested_at", UtcTime),
    Column("revoked_at", UtcTime),
    # Signed by the certificate's own key, which is compromised: passes the signer's cap.
    Column("revocation_proof", LargeBinary),
    UniqueConstraint("serial_number", "authority"),
    CheckConstraint("revocation_state IN ('none', 'requested', 'revoked')", name="revocation_state"),
    CheckConstraint("(revocation_state = 'revoked') = (revoked_at IS NOT NULL)", name="revoked"),
    Index(None, "account", "id"),
    Index(None, "issued_at"),
    Index(None, "not_after"),
)

# Partial indices serve only statements that carry their condition word for word, which a bound parameter is not:
# hence the literals here and below, and hence these constants, which index and statements share.
REVOCATION_ASKED: Final = certificate.c.revocation_state != literal_column("'none'")
Index(
    "ix_certificate_revocation",
    certificate.c.revocation_state,
    certificate.c.id,
    sqlite_where=REVOCATION_ASKED,
    postgresql_where=REVOCATION_ASKED,
)

job: Final = Table(
    "job",
    METADATA,
    _row_id(),
    Column("kind", String(8), nullable=False),
    Column("state", String(8), nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("turn", BigInteger, nullable=False),
    Column("request_row", ForeignKey("request.id"), unique=True),
    Column("certificate_row", ForeignKey("certificate.id")),
    Column("authority", String(255)),
    Column("signer_id", SmallInteger),
    Column("lease_owner", String(255)),
    Column("leased_at", UtcTime),
    # A queued job may be leased from here on; a leased one, when its holder has let the lease run out.
    Column("ready_at", UtcTime, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("deaths", Integer, nullable=False),
    # Under whose hands it counted those deaths: a line for each.
    Column("dead_holders", Text, nullable=False, server_default=""),
    # How often in a row the signer has said "not now": the wait grows with it.
    Column("postponed", Integer, nullable=False, server_default="0"),
    # 1: a validator has to vouch for its request before it may be leased. Not NULL `nonce`: one has, under this nonce,
    # and there is an attestation; both at once: that one is void.
    Column("unattested", SmallInteger, nullable=False, server_default="0"),
    Column("nonce", _hexadecimal(32)),
    # How often in a row the signer has wanted its evidence anew.
    Column("reattested", Integer, nullable=False, server_default="0"),
    Column("error", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    CheckConstraint("kind IN ('sign', 'revoke', 'crl')", name="kind"),
    CheckConstraint("state IN ('queued', 'leased', 'done', 'failed')", name="state"),
    CheckConstraint("(state = 'leased') = (lease_owner IS NOT NULL)", name="lease"),
    CheckConstraint("(kind = 'sign') = (request_row IS NOT NULL)", name="request"),
    CheckConstraint("(kind = 'revoke') = (certificate_row IS NOT NULL)", name="certificate"),
    CheckConstraint("(kind = 'sign') = (authority IS NULL)", name="authority"),
)

OPEN_JOB: Final = job.c.state.in_([literal_column("'queued'"), literal_column("'leased'")])
FAILED_JOB: Final = job.c.state == literal_column("'failed'")
SUSPECT: Final = OPEN_JOB & (job.c.deaths > literal_column("0"))
"""Open jobs with which a client has died: they are tried alone."""
_OPEN_CRL_JOB: Final = (job.c.kind == literal_column("'crl'")) & OPEN_JOB
_UNFINISHED_REVOCATION: Final = (job.c.kind == literal_column("'revoke'")) & (job.c.state != literal_column("'done'"))

# What waits for evidence stands apart, so that the lease never walks over it, nor the validators over the others.
Index(
    "ix_job_open",
    job.c.unattested,
    job.c.priority,
    job.c.turn,
    job.c.id,
    job.c.ready_at,
    sqlite_where=OPEN_JOB,
    postgresql_where=OPEN_JOB,
)
Index(
    "ix_job_suspect",
    job.c.unattested,
    job.c.priority,
    job.c.ready_at,
    job.c.id,
    sqlite_where=SUSPECT,
    postgresql_where=SUSPECT,
)
Index("ix_job_failed", job.c.id, sqlite_where=FAILED_JOB, postgresql_where=FAILED_JOB)
Index("uq_job_open_crl", job.c.authority, unique=True, sqlite_where=_OPEN_CRL_JOB, postgresql_where=_OPEN_CRL_JOB)
Index(
    "uq_job_unfinished_revocation",
    job.c.certificate_row,
    unique=True,
    sqlite_where=_UNFINISHED_REVOCATION,
    postgresql_where=_UNFINISHED_REVOCATION,
)

# The two halves of fair queueing: the turn that each account took last, and the turn that was served last.
account_turn: Final = Table(
    "account_turn",
    METADATA,
    Column("kind", String(8), primary_key=True),
    Column("account", String(255), primary_key=True),
    Column("turn", BigInteger, nullable=False),
)
served_turn: Final = Table(
    "served_turn",
    METADATA,
    Column("kind", String(8), primary_key=True),
    Column("turn", BigInteger, nullable=False),
)

signing_log: Final = Table(
    "signing_log",
    METADATA,
    _row_id(),
    Column("request_row", ForeignKey("request.id"), nullable=False, index=True),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("entry", LargeBinary, nullable=False),
    Column("signer_id", SmallInteger),
    Column("saved_at", UtcTime, nullable=False),
)

crl: Final = Table(
    "crl",
    METADATA,
    Column("authority", String(255), primary_key=True),
    Column("number", _hexadecimal(40), nullable=False),
    Column("this_update", UtcTime, nullable=False),
    Column("next_update", UtcTime, nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
)

# What an outsider gets of each CRL, by the URLs in certificates. `since`: for how long it has been in this state.
served_crl: Final = Table(
    "served_crl",
    METADATA,
    Column("authority", String(255), primary_key=True),
    Column("url", String(1024), primary_key=True),
    Column("state", String(12), nullable=False),
    Column("what", Text, nullable=False),
    Column("number", _hexadecimal(40)),
    Column("this_update", UtcTime),
    Column("next_update", UtcTime),
    Column("since", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    CheckConstraint("state IN ('served', 'stale', 'wrong', 'unreachable')", name="state"),
)

signer_status: Final = Table(
    "signer_status",
    METADATA,
    Column("signer_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("report", Text, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

# The client's copy of each signer's journal: how far it reaches, and the entries, many to a row.
journal_copy: Final = Table(
    "journal_copy",
    METADATA,
    Column("signer_id", SmallInteger, primary_key=True, autoincrement=False),
    # Where the copy stands: `journal.chain.Link`.
    Column("link", LargeBinary, nullable=False),
    Column("size", BigInteger, nullable=False),
    # The newest signed head that was seen, which may be ahead of the copy.
    Column("head", LargeBinary, nullable=False),
    Column("head_epoch", BigInteger, nullable=False),
    Column("head_size", BigInteger, nullable=False),
    # The newest signed head that the copy was found to agree with, and where it stood then.
    Column("proof", LargeBinary, nullable=False),
    Column("proven_link", LargeBinary, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)
journal_chunk: Final = Table(
    "journal_chunk",
    METADATA,
    Column("signer_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    Column("last", BigInteger, nullable=False),
    Column("entries", LargeBinary, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
)

# Vetoes of one finding in a row; `held_at` once there are so many that the linter is suspected, not the requests.
lint_streak: Final = Table(
    "lint_streak",
    METADATA,
    Column("profile", String(255), primary_key=True),
    Column("finding", String(255), nullable=False),
    Column("length", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("held_at", UtcTime),
    Column("updated_at", UtcTime, nullable=False),
)

# Orders of the operators on their way to a signer, and what it answered.
signer_order: Final = Table(
    "signer_order",
    METADATA,
    _row_id(),
    Column("signer_id", SmallInteger, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("octets", LargeBinary, nullable=False),
    Column("state", String(8), nullable=False),
    Column("answer", Text, nullable=False),
    Column("journal_index", BigInteger),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    CheckConstraint("state IN ('waiting', 'obeyed', 'refused')", name="state"),
    CheckConstraint("(state = 'obeyed') = (journal_index IS NOT NULL)", name="obeyed"),
)
WAITING_ORDER: Final = signer_order.c.state == literal_column("'waiting'")
Index(
    "ix_signer_order_waiting",
    signer_order.c.signer_id,
    signer_order.c.id,
    sqlite_where=WAITING_ORDER,
    postgresql_where=WAITING_ORDER,
)

# The signed bundle that an order is about, until that is answered for good: its secrets are sealed to the signer.
order_bundle: Final = Table(
    "order_bundle",
    METADATA,
    Column("order_row", ForeignKey("signer_order.id"), primary_key=True, autoincrement=False),
    Column("octets", LargeBinary, nullable=False),
)

# What validators saw, as they signed it. `fact` is SHA-256 of account, kind and value: values may be longer than an
# index entry.
observation: Final = Table(
    "observation",
    METADATA,
    _row_id(),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("fact", LargeBinary, nullable=False),
    Column("account", String(255), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("value", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("validator", _hexadecimal(16), nullable=False),
    Column("observed_at", UtcTime, nullable=False),
    Column("saved_at", UtcTime, nullable=False),
    Column("octets", LargeBinary, nullable=False),
    Index("ix_observation_fact", "fact", "observed_at"),
    Index(None, "account", "id"),
    Index(None, "observed_at"),
)

# The evidence with which an open request travels: made by a validator for one nonce of one signer.
attestation: Final = Table(
    "attestation",
    METADATA,
    Column("request_row", ForeignKey("request.id"), primary_key=True, autoincrement=False),
    Column("signer_id", SmallInteger, nullable=False),
    Column("boot_id", LargeBinary, nullable=False),
    Column("nonce", _hexadecimal(32), nullable=False),
    Column("made_at", UtcTime, nullable=False),
    # Last, so that what stands before it is read without it.
    Column("proofs", LargeBinary, nullable=False),
)

# Whether a profile demands evidence, as the clients' profiles say; requests for OCSP responders name none ("").
profile_evidence: Final = Table(
    "profile_evidence",
    METADATA,
    Column("profile", String(255), primary_key=True),
    Column("demanded", SmallInteger, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

validator_status: Final = Table(
    "validator_status",
    METADATA,
    Column("name", String(255), primary_key=True),
    Column("report", Text, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

publisher_status: Final = Table(
    "publisher_status",
    METADATA,
    Column("name", String(255), primary_key=True),
    Column("report", Text, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
)

# Each signer's newest signed word on time, boot and journal: what orders are made from.
signer_timestamp: Final = Table(
    "signer_timestamp",
    METADATA,
    Column("signer_id", SmallInteger, primary_key=True, autoincrement=False),
    Column("octets", LargeBinary, nullable=False),
    Column("asked_at", UtcTime, nullable=False),
)
