"""The database: requests, certificates, jobs, logs, CRLs. SQLite by default, PostgreSQL by URL."""
