"""Observations, attestations, the profiles that demand them, what a job says of them; proofs of compromised keys."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"

_ROW_ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN: Final = sa.text("state IN ('queued', 'leased')")
_SUSPECT: Final = sa.text("state IN ('queued', 'leased') AND deaths > 0")


def _hexadecimal(length: int) -> sa.String:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "observation",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("fact", sa.LargeBinary(), nullable=False),
        sa.Column("account", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("validator", _hexadecimal(16), nullable=False),
        sa.Column("observed_at", sa.BigInteger(), nullable=False),
        sa.Column("saved_at", sa.BigInteger(), nullable=False),
        sa.Column("octets", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_observation"),
        sa.UniqueConstraint("sha256", name="uq_observation_sha256"),
    )
    op.create_index("ix_observation_fact", "observation", ["fact", "observed_at"])
    op.create_index("ix_observation_account_id", "observation", ["account", "id"])
    op.create_index("ix_observation_observed_at", "observation", ["observed_at"])
    op.create_table(
        "attestation",
        sa.Column("request_row", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("signer_id", sa.SmallInteger(), nullable=False),
        sa.Column("boot_id", sa.LargeBinary(), nullable=False),
        sa.Column("nonce", _hexadecimal(32), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("proofs", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["request_row"], ["request.id"], name="fk_attestation_request_row"),
        sa.PrimaryKeyConstraint("request_row", name="pk_attestation"),
    )
    op.create_table(
        "profile_evidence",
        sa.Column("profile", sa.String(length=255), nullable=False),
        sa.Column("demanded", sa.SmallInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("profile", name="pk_profile_evidence"),
    )
    op.create_table(
        "validator_status",
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_validator_status"),
    )
    op.add_column("certificate", sa.Column("revocation_proof", sa.LargeBinary(), nullable=True))
    op.add_column("job", sa.Column("unattested", sa.SmallInteger(), server_default="0", nullable=False))
    op.add_column("job", sa.Column("nonce", _hexadecimal(32), nullable=True))
    op.add_column("job", sa.Column("reattested", sa.Integer(), server_default="0", nullable=False))
    op.drop_index("ix_job_open", table_name="job")
    op.create_index(
        "ix_job_open",
        "job",
        ["unattested", "priority", "turn", "id", "ready_at"],
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    op.drop_index("ix_job_suspect", table_name="job")
    op.create_index(
        "ix_job_suspect",
        "job",
        ["unattested", "priority", "ready_at", "id"],
        sqlite_where=_SUSPECT,
        postgresql_where=_SUSPECT,
    )
