"""The database goes away in the middle of the work, again and again: a real PostgreSQL that crashes and recovers.

Needs PostgreSQL's own programs (Debian: apt install postgresql).
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.faults.conftest import SHORT_NAME
from tests.faults.launcher import Launcher, Plan
from tests.faults.rest import HEARD, STATE, check_at_rest, read_journal
from tests.faults.system import CLIENT, FaultySystem, replace
from tests.support.postgres import PostgresServer, running_postgres

from cassiopeia.errors import Unavailable
from cassiopeia.store.database import upgrade

REQUESTS = 40
CRASHES = (1, 12, 25)


def test_a_client_outlives_its_database(authority: Path, launcher: Launcher) -> None:
    with (
        tempfile.TemporaryDirectory(prefix=SHORT_NAME) as directory,
        running_postgres() as server,
        FaultySystem(
            directory=Path(directory), store_url=server.create_database("faults"), launcher=launcher
        ) as system,
    ):
        shutil.copytree(authority / "ca", system.directory / "ca")
        upgrade(system.store_url)
        replace(
            system.directory / CLIENT,
            ("sqlite:///store.sqlite", system.store_url),
            # Slow enough to be hit in the middle.
            ("window = 400", "window = 4"),
        )
        before = len(list(read_journal(system.directory / STATE)))
        system.request(REQUESTS)
        system.run_signer()
        system.run_client(Plan(heard=HEARD), "--drain")
        for number in CRASHES:
            crash(system, server, when_issued=number)
        system.wait_for_end("client")
        system.revoke(2)
        system.drain()
        system.stop("signer")
        check_at_rest(system, known_from=before + 1)
        assert issued(system) == REQUESTS
        system.check_logs()


def crash(system: FaultySystem, server: PostgresServer, *, when_issued: int) -> None:
    """Crash the database when so many certificates are there; start it again when the client has missed it."""
    system.wait_until(lambda: issued(system) >= when_issued, f"{when_issued} certificates are there")
    missed = system.log("client").count("does not answer")
    server.stop(at_once=True)
    system.wait_until(lambda: system.log("client").count("does not answer") > missed, "the client misses it")
    server.start()


def issued(system: FaultySystem) -> int:
    try:
        return len(system.certificates)
    except Unavailable:
        return 0
