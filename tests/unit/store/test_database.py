from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from tests.support.postgres import PostgresServer
from tests.support.store import NOW, certificate_request, lease_sign, request_id, submit

from cassiopeia.errors import InternalError, OperatorError, Unavailable
from cassiopeia.store import connection as store_connection
from cassiopeia.store import migrations
from cassiopeia.store.connection import Database, parse_url
from cassiopeia.store.database import Store, open_store, upgrade
from cassiopeia.store.models import METADATA, SCHEMA_REVISION, signing_log


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def set_revision(url: str, revision: str) -> None:
    with open_store(url) as store, store.database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_the_migrations_make_exactly_the_tables_of_the_models(store: Store) -> None:
    with store.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_the_newest_migration_is_the_one_that_the_software_wants() -> None:
    [directory] = migrations.__path__
    assert ScriptDirectory(directory).get_heads() == [SCHEMA_REVISION]


def test_upgrading_twice_changes_nothing(store_url: str) -> None:
    with open_store(store_url) as store:
        submit(store, 1)
    assert upgrade(store_url) == SCHEMA_REVISION
    with open_store(store_url) as store:
        assert store.requests.find(request_id(1)) is not None


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_several_processes_may_upgrade_at_once(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if kind == "sqlite":
        url = sqlite_url(tmp_path / "new.db")
    else:
        url = request.getfixturevalue("postgres_server").create_database("upgraded_at_once")
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(upgrade(url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["", SCHEMA_REVISION, SCHEMA_REVISION]
    open_store(url).close()


def test_an_upgrade_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = METADATA.tables["signer_status"]
    monkeypatch.setattr(
        "alembic.command.upgrade", lambda config, _: _fail(config.attributes["connection"], broken.name)
    )
    url = sqlite_url(tmp_path / "store.db")
    with pytest.raises(OperatorError, match="no such table"):
        upgrade(url)
    monkeypatch.undo()
    assert upgrade(url) == ""


def _fail(connection: Connection, table: str) -> None:
    connection.execute(text("CREATE TABLE half_an_upgrade (id INTEGER)"))
    connection.execute(text(f"SELECT * FROM {table}"))  # noqa: S608 -- our own table's name


def test_a_database_of_an_older_release_is_refused_by_name_of_the_command(store_url: str) -> None:
    set_revision(store_url, "0000")
    try:
        with pytest.raises(OperatorError, match=r"older release.*`cassiopeia store upgrade`"):
            open_store(store_url)
    finally:
        _restore_revision(store_url)


def test_a_database_of_a_newer_release_is_refused_and_not_downgraded(store_url: str) -> None:
    set_revision(store_url, "9999")
    try:
        with pytest.raises(OperatorError, match=r"newer release \(9999.*install that release"):
            open_store(store_url)
        with pytest.raises(OperatorError, match="newer release"):
            upgrade(store_url)
    finally:
        _restore_revision(store_url)


def _restore_revision(url: str) -> None:
    database = store_connection.Database(store_connection.parse_url(url))
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": SCHEMA_REVISION})
    database.close()


def test_an_empty_postgresql_database_asks_for_the_upgrade(postgres_server: PostgresServer) -> None:
    with pytest.raises(OperatorError, match="make them with `cassiopeia store upgrade`"):
        open_store(postgres_server.create_database("empty"))


def test_opening_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"there is no database .*store\.db: make it with"):
        open_store(sqlite_url(tmp_path / "store.db"))
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE request (id INTEGER)")
    connection.close()
    with pytest.raises(OperatorError, match="holds other tables"):
        upgrade(sqlite_url(path))


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear SQLite, I am not one of yours." * 100)
    with pytest.raises(OperatorError, match=r"letter\.txt cannot be read: .*not a database; .* newest backup"):
        open_store(sqlite_url(path))


def test_a_database_that_is_damaged_while_it_is_used_is_named(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "store.sqlite")
    upgrade(url)
    with open_store(url) as store:
        store.database.close()
        content = (tmp_path / "store.sqlite").read_bytes()
        (tmp_path / "store.sqlite").write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
        with pytest.raises(OperatorError, match=r"cannot be read: .*malformed; keep the file"):
            store.signers.list()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"cannot make the database .*/nowhere/store\.db: No such file"):
        upgrade(sqlite_url(tmp_path / "nowhere" / "store.db"))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("what is this", "no database URL"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:///file:store?uri=true", "needs a file"),
        ("mysql://ca@localhost/store", "cannot live in 'mysql'"),
        ("postgresql+asyncpg://ca@localhost/store", "cannot live in 'postgresql.asyncpg'"),
    ],
)
def test_an_unusable_url_is_refused_with_advice(url: str, reason: str) -> None:
    with pytest.raises(OperatorError, match=reason):
        open_store(url)


def test_a_url_that_is_refused_does_not_show_its_password() -> None:
    with pytest.raises(OperatorError) as caught:
        open_store("postgresql://ca:geheim@[broken/store")
    assert "geheim" not in str(caught.value)


def test_a_postgresql_that_does_not_answer_is_the_operators_to_mend(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="check the URL and that the database runs") as caught:
        open_store(f"postgresql://ca:geheim@/store?host={tmp_path}")
    assert "geheim" not in str(caught.value)


def test_a_missing_driver_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(OperatorError, match=r"pip install 'cassiopeia-ca\[postgresql\]'"):
        open_store("postgresql+psycopg://ca@localhost/store")


def test_a_postgresql_database_must_be_unicode(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("latin", "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pytest.raises(OperatorError, match="encoded in LATIN1"):
        upgrade(url)


def test_postgresql_waits_for_the_disk_even_where_the_server_would_not(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("careless")
    postgres_server.execute("ALTER DATABASE careless SET synchronous_commit = off")
    upgrade(url)
    with open_store(url) as store, store.database.read() as connection:
        assert connection.execute(text("SHOW synchronous_commit")).scalar_one() == "on"


def test_postgresql_keeps_nobody_waiting_for_ever(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("patient")
    database = Database(parse_url(url))
    with database.read() as connection:
        limits = [
            connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        ]
    database.close()
    assert limits == ["1min", "30s", "5min"]


def test_what_an_operator_has_set_stands(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database("opinionated")
    postgres_server.execute("ALTER DATABASE opinionated SET statement_timeout = '7s'")
    database = Database(parse_url(f"{url}&connect_timeout=3"))
    with database.read() as connection:
        assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "7s"
    database.close()


def test_a_lock_that_is_never_given_up_is_unavailable(postgres_server: PostgresServer) -> None:
    """As when another client was stopped in the middle of a transaction."""
    url = postgres_server.create_database("locked")
    upgrade(url)
    postgres_server.execute("ALTER DATABASE locked SET lock_timeout = '100ms'")
    with open_store(url) as one, open_store(url) as two:
        submit(one, 1)
        [job] = lease_sign(one)
        with one.database.write() as connection:
            connection.execute(text("SELECT * FROM job FOR UPDATE"))
            with pytest.raises(Unavailable, match="lock timeout"):
                two.queue.renew("client", [job.id], lease_s=60, now=NOW)
        assert two.queue.renew("client", [job.id], lease_s=60, now=NOW) == 1


def test_sqlite_is_set_to_survive_a_power_cut(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / "store.db")
    upgrade(url)
    with open_store(url) as store, store.database.read() as connection:
        settings = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}


def test_sqlite_without_its_write_ahead_log_is_refused() -> None:
    class Connection:
        isolation_level: str | None = ""

        def cursor(self) -> Connection:
            return self

        def execute(self, _statement: str) -> Connection:
            return self

        def fetchone(self) -> tuple[str]:
            return ("delete",)

        def close(self) -> None:
            pass

    with pytest.raises(OperatorError, match=r"mode delete.*local disk"):
        store_connection._prepare_sqlite(Connection(), None)


def test_others_cannot_read_a_new_sqlite_database(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    upgrade(sqlite_url(path))
    assert path.stat().st_mode & 0o007 == 0


def test_the_upgrade_needs_no_file_beside_the_package(tmp_path: Path) -> None:
    program = "import sys; from cassiopeia.store.database import upgrade; print(upgrade(sys.argv[1]))"
    directory = tmp_path / "100% elsewhere"
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, "sqlite:///store.db"],
        cwd=directory,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
    open_store(sqlite_url(directory / "store.db")).close()


def test_a_locked_database_is_unavailable_and_nothing_is_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_connection, "BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "store.db"
    upgrade(sqlite_url(path))
    other = sqlite3.connect(path, isolation_level=None)
    with open_store(sqlite_url(path)) as store:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="database is locked"):
            submit(store, 1)
        other.execute("ROLLBACK")
        assert store.requests.find(request_id(1)) is None
        submit(store, 1)
    other.close()


def test_a_full_disk_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    upgrade(sqlite_url(path))
    with open_store(sqlite_url(path)) as store:
        with store.database.read() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            connection.execute(text(f"PRAGMA max_page_count = {pages}"))
        huge = certificate_request(key_proof=b"\0" * 1_000_000)
        with pytest.raises(Unavailable, match="full"):
            store.requests.submit(huge, request_id=request_id(1), now=NOW)
        assert store.requests.find(request_id(1)) is None


def test_a_postgresql_that_goes_away_in_mid_transaction_is_unavailable_and_comes_back(
    postgres_url: str, postgres_server: PostgresServer
) -> None:
    with open_store(postgres_url) as store:
        with pytest.raises(Unavailable, match="does not answer"):
            _lose_the_connection(store, postgres_server)
        assert store.requests.find(b"\0" * 32) is None


def _lose_the_connection(store: Store, server: PostgresServer) -> None:
    with store.database.write() as connection:
        process = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        server.execute(f"SELECT pg_terminate_backend({process}, 5000)")
        connection.execute(text("SELECT 1"))


def test_our_own_mistake_shows_no_values(store: Store) -> None:
    entry = {"request_row": 77, "sha256": b"", "entry": b"personal data", "saved_at": NOW}
    with pytest.raises(InternalError) as caught, store.database.write() as connection:
        connection.execute(signing_log.insert(), entry)
    assert "personal" not in str(caught.value)
    with pytest.raises(InternalError, match="NoResultFound"), store.database.read() as connection:
        connection.execute(text("SELECT 1 WHERE 1 = 0")).scalar_one()


def test_a_naive_time_is_our_own_mistake(store: Store) -> None:
    with pytest.raises(InternalError, match="aware"):
        store.requests.submit(certificate_request(), request_id=request_id(1), now=NOW.replace(tzinfo=None))
