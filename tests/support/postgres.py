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


@dataclass(kw_only=True, slots=True)
class PostgresServer:
    """A running server; `url` names one of its databases for SQLAlchemy."""

    directory: Path
    _programs: Path
    _user: str | None
    _process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{_USER}@/{database}?host={self.directory}"

    def execute(self, statement: str, *, database: str = "postgres") -> None:
        connection = psycopg.connect(host=str(self.directory), user=_USER, dbname=database, autocommit=True)
        with connection:
            connection.execute(statement.encode())

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    *("-D", self.directory / "data", "-k", self.directory),
                    *(part for name, value in _SETTINGS.items() for part in ("-c", f"{name}={value}")),
                ],
                user=self._user,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for the tests: they stop the server themselves.
                start_new_session=True,
            )
        _wait_until_ready(self._process, self.directory)

    def stop(self, *, at_once: bool = False) -> None:
        """End it: in good order ("fast shutdown"), or `at_once` without a last checkpoint, as when it crashes."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(_STOP_S)

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
        server = PostgresServer(directory=directory, _programs=programs, _user=user)
        try:
            server.start()
            yield server
        finally:
            server.stop()
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
