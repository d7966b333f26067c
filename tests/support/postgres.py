"""A real PostgreSQL for tests: started by them, reached over a Unix socket only, gone when they end.

Needs PostgreSQL's own programs (`apt-get install postgresql`). Their absence is an error, never a skip.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

_START_S = 30
_STOP_S = 30
_USER = "cassiopeia"
# Nothing here has to survive a power cut.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "timezone": "Pacific/Chatham",  # a session's time zone must not matter
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PostgresServer:
    """A running server; `url` names one of its databases for SQLAlchemy."""

    directory: Path

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{_USER}@/{database}?host={self.directory}"

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        connection = psycopg.connect(host=str(self.directory), user=_USER, dbname=database, autocommit=True)
        with connection:
            connection.execute(statement.encode())

    def create_database(self, name: str, options: str = "") -> str:
        self.execute(f"CREATE DATABASE {name} {options}")
        return self.url(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    programs = find_programs()
    directory = Path(tempfile.mkdtemp(prefix="cassiopeia-pg-"))
    user = _unprivileged_user()
    if user is not None:
        os.chown(directory, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    try:
        _initialise(programs, directory, user)
        with (directory / "server.log").open("wb") as log:
            server = subprocess.Popen(
                [
                    programs / "postgres",
                    *("-D", directory / "data", "-k", directory),
                    *(part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")),
                ],
                user=user,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests: they stop the server themselves.
                start_new_session=True,
            )
        try:
            _wait_until_ready(server, directory)
            yield PostgresServer(directory=directory)
        finally:
            server.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown"
            try:
                server.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                server.send_signal(signal.SIGQUIT)
                server.wait(_STOP_S)
    finally:
        shutil.rmtree(directory)


def find_programs() -> Path:
    """Return the directory with `initdb` and `postgres`, of the newest version there is."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    for directory in [*reversed(versions), *on_path]:
        if (directory / "initdb").exists() and (directory / "postgres").exists():
            return directory
    raise RuntimeError("these tests need a real PostgreSQL, which is not installed: apt-get install postgresql")


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root: return whom it runs as then."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _initialise(programs: Path, directory: Path, user: str | None) -> None:
    done = subprocess.run(
        [
            programs / "initdb",
            *("-D", directory / "data", "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
        ],
        user=user,
        cwd=directory,
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"initdb failed: {done.stderr.strip()}")


def _wait_until_ready(server: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            psycopg.connect(host=str(directory), user=_USER, dbname="postgres").close()
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                log = (directory / "server.log").read_text(errors="replace")
                raise RuntimeError(f"PostgreSQL did not start: {log.strip()}") from error
            time.sleep(0.05)
        else:
            return
