"""Copies of the signers' journals, vetoes of one finding in a row, and what is known of jobs that killed clients."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    op.create_table(
        "journal_copy",
        sa.Column("signer_id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("link", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("head_epoch", sa.BigInteger(), nullable=False),
        sa.Column("head_size", sa.BigInteger(), nullable=False),
        sa.Column("proof", sa.LargeBinary(), nullable=False),
        sa.Column("proven_link", sa.LargeBinary(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("signer_id", name="pk_journal_copy"),
    )
    op.create_table(
        "journal_chunk",
        sa.Column("signer_id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("first", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.LargeBinary(), nullable=False),
        sa.Column("saved_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("signer_id", "first", name="pk_journal_chunk"),
    )
    op.create_table(
        "lint_streak",
        sa.Column("profile", sa.String(length=255), nullable=False),
        sa.Column("finding", sa.String(length=255), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("held_at", sa.BigInteger()),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("profile", name="pk_lint_streak"),
    )
    op.add_column("job", sa.Column("leased_at", sa.BigInteger(), nullable=True))
    op.add_column("job", sa.Column("dead_holders", sa.Text(), server_default="", nullable=False))
    op.add_column("job", sa.Column("postponed", sa.Integer(), server_default="0", nullable=False))
    op.create_index(
        "ix_job_suspect",
        "job",
        ["priority", "ready_at", "id"],
        sqlite_where=sa.text("state IN ('queued', 'leased') AND deaths > 0"),
        postgresql_where=sa.text("state IN ('queued', 'leased') AND deaths > 0"),
    )
    op.create_table(
        "signer_order",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("signer_id", sa.SmallInteger(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("octets", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("journal_index", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'obeyed', 'refused')", name="ck_signer_order_state"),
        sa.CheckConstraint("(state = 'obeyed') = (journal_index IS NOT NULL)", name="ck_signer_order_obeyed"),
        sa.PrimaryKeyConstraint("id", name="pk_signer_order"),
    )
    op.create_index(
        "ix_signer_order_waiting",
        "signer_order",
        ["signer_id", "id"],
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "signer_timestamp",
        sa.Column("signer_id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("octets", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("signer_id", name="pk_signer_timestamp"),
    )
