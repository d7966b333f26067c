"""Bundles that orders are about, until those are answered."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"

_ROW_ID: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "order_bundle",
        sa.Column("order_row", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("octets", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["order_row"], ["signer_order.id"], name="fk_order_bundle_order_row"),
        sa.PrimaryKeyConstraint("order_row", name="pk_order_bundle"),
    )
