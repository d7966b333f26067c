"""The steps that bring a database's tables from one release to the next (Alembic)."""
