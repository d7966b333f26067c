"""The first tables: requests, certificates, jobs with their turns, signing logs, CRLs, signers' last words."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None

_ROW_ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _hexadecimal(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    _create_request()
    _create_certificate()
    _create_job()
    _create_account_turn()
    _create_served_turn()
    _create_signing_log()
    _create_crl()
    _create_signer_status()


def _create_request() -> None:
    op.create_table(
        "request",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("request_id", _hexadecimal(64), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("profile", sa.String(length=255), nullable=False),
        sa.Column("key_kind", sa.String(length=8), nullable=False),
        sa.Column("key_proof", sa.LargeBinary(), nullable=False),
        sa.Column("signature_hash", sa.String(length=255), nullable=False),
        sa.Column("wish_from", sa.String(length=255), nullable=False),
        sa.Column("wish_to", sa.String(length=255), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("alt_names", sa.Text(), nullable=False),
        sa.Column("ocsp_target_ca", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("refusal_code", sa.Text(), nullable=True),
        sa.Column("refusal_field", sa.Text(), nullable=True),
        sa.Column("refusal_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(state = 'refused') = (refusal_code IS NOT NULL)", name="ck_request_refusal"),
        sa.CheckConstraint("state IN ('queued', 'refused', 'issued')", name="ck_request_state"),
        sa.PrimaryKeyConstraint("id", name="pk_request"),
        sa.UniqueConstraint("request_id", name="uq_request_request_id"),
    )
    op.create_index("ix_request_account_id", "request", ["account", "id"])
    op.create_index("ix_request_state_id", "request", ["state", "id"])


def _create_certificate() -> None:
    op.create_table(
        "certificate",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("serial_number", _hexadecimal(42), nullable=False),
        sa.Column("authority", sa.String(length=255), nullable=False),
        sa.Column("request_row", _ROW_ID, nullable=True),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("profile", sa.String(length=255), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("not_after", sa.BigInteger(), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("revocation_state", sa.String(length=16), nullable=False),
        sa.Column("revocation_reason", sa.SmallInteger(), nullable=True),
        sa.Column("invalidity_date", sa.BigInteger(), nullable=True),
        sa.Column("revocation_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(revocation_state = 'revoked') = (revoked_at IS NOT NULL)", name="ck_certificate_revoked"),
        sa.CheckConstraint(
            "revocation_state IN ('none', 'requested', 'revoked')", name="ck_certificate_revocation_state"
        ),
        sa.ForeignKeyConstraint(["request_row"], ["request.id"], name="fk_certificate_request_row"),
        sa.PrimaryKeyConstraint("id", name="pk_certificate"),
        sa.UniqueConstraint("request_row", name="uq_certificate_request_row"),
        sa.UniqueConstraint("serial_number", "authority", name="uq_certificate_serial_number_authority"),
    )
    op.create_index("ix_certificate_account_id", "certificate", ["account", "id"])
    op.create_index("ix_certificate_issued_at", "certificate", ["issued_at"])
    op.create_index("ix_certificate_not_after", "certificate", ["not_after"])
    op.create_index(
        "ix_certificate_revocation",
        "certificate",
        ["revocation_state", "id"],
        sqlite_where=sa.text("revocation_state != 'none'"),
        postgresql_where=sa.text("revocation_state != 'none'"),
    )


def _create_job() -> None:
    op.create_table(
        "job",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("request_row", _ROW_ID, nullable=True),
        sa.Column("certificate_row", _ROW_ID, nullable=True),
        sa.Column("authority", sa.String(length=255), nullable=True),
        sa.Column("signer_id", sa.SmallInteger(), nullable=True),
        sa.Column("lease_owner", sa.String(length=255), nullable=True),
        sa.Column("ready_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(kind = 'revoke') = (certificate_row IS NOT NULL)", name="ck_job_certificate"),
        sa.CheckConstraint("(kind = 'sign') = (authority IS NULL)", name="ck_job_authority"),
        sa.CheckConstraint("(kind = 'sign') = (request_row IS NOT NULL)", name="ck_job_request"),
        sa.CheckConstraint("(state = 'leased') = (lease_owner IS NOT NULL)", name="ck_job_lease"),
        sa.CheckConstraint("kind IN ('sign', 'revoke', 'crl')", name="ck_job_kind"),
        sa.CheckConstraint("state IN ('queued', 'leased', 'done', 'failed')", name="ck_job_state"),
        sa.ForeignKeyConstraint(["certificate_row"], ["certificate.id"], name="fk_job_certificate_row"),
        sa.ForeignKeyConstraint(["request_row"], ["request.id"], name="fk_job_request_row"),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.UniqueConstraint("request_row", name="uq_job_request_row"),
    )
    op.create_index(
        "ix_job_failed",
        "job",
        ["id"],
        sqlite_where=sa.text("state = 'failed'"),
        postgresql_where=sa.text("state = 'failed'"),
    )
    op.create_index(
        "ix_job_open",
        "job",
        ["priority", "turn", "id", "ready_at"],
        sqlite_where=sa.text("state IN ('queued', 'leased')"),
        postgresql_where=sa.text("state IN ('queued', 'leased')"),
    )
    op.create_index(
        "uq_job_open_crl",
        "job",
        ["authority"],
        unique=True,
        sqlite_where=sa.text("kind = 'crl' AND state IN ('queued', 'leased')"),
        postgresql_where=sa.text("kind = 'crl' AND state IN ('queued', 'leased')"),
    )
    op.create_index(
        "uq_job_unfinished_revocation",
        "job",
        ["certificate_row"],
        unique=True,
        sqlite_where=sa.text("kind = 'revoke' AND state != 'done'"),
        postgresql_where=sa.text("kind = 'revoke' AND state != 'done'"),
    )


def _create_account_turn() -> None:
    op.create_table(
        "account_turn",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "account", name="pk_account_turn"),
    )


def _create_served_turn() -> None:
    op.create_table(
        "served_turn",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_served_turn"),
    )


def _create_signing_log() -> None:
    op.create_table(
        "signing_log",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("request_row", _ROW_ID, nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("signer_id", sa.SmallInteger(), nullable=True),
        sa.Column("saved_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["request_row"], ["request.id"], name="fk_signing_log_request_row"),
        sa.PrimaryKeyConstraint("id", name="pk_signing_log"),
        sa.UniqueConstraint("sha256", name="uq_signing_log_sha256"),
    )
    op.create_index("ix_signing_log_request_row", "signing_log", ["request_row"])


def _create_crl() -> None:
    op.create_table(
        "crl",
        sa.Column("authority", sa.String(length=255), nullable=False),
        sa.Column("number", _hexadecimal(40), nullable=False),
        sa.Column("this_update", sa.BigInteger(), nullable=False),
        sa.Column("next_update", sa.BigInteger(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("saved_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("authority", name="pk_crl"),
    )


def _create_signer_status() -> None:
    op.create_table(
        "signer_status",
        sa.Column("signer_id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("signer_id", name="pk_signer_status"),
    )
