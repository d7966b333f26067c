"""Alembic's entry: runs the steps on the connection that `cassiopeia.store.database.upgrade` hands over.

There is no alembic.ini and no engine of its own, so that an installed package can upgrade its database.
"""

from __future__ import annotations

from alembic import context

from cassiopeia.store.models import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # The caller's transaction holds all steps: SQLite, too, rolls DDL back.
    transactional_ddl=True,
)
context.run_migrations()
