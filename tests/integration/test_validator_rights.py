"""A validator needs no more rights in PostgreSQL than docs/evidence.md grants it, word for word.

Needs PostgreSQL's own programs (Debian: apt install postgresql).
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.support.postgres import PostgresServer, postgres_server
from tests.support.validating import HOUR, NAME, Site, make_site

from cassiopeia.config import CheckProgram, load_validator_config
from cassiopeia.errors import InternalError
from cassiopeia.store.database import Store, open_store, upgrade
from cassiopeia.validation.service import ValidatorService

__all__ = ["postgres_server"]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")


@pytest.fixture
def validator(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[tuple[Site, Store]]:
    """A site whose store is in PostgreSQL, and its store as the validator's role reaches it."""
    [grants] = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    url = postgres_server.create_database("rights")
    upgrade(url)
    postgres_server.execute("CREATE ROLE validator LOGIN", database="rights")
    postgres_server.execute(grants, database="rights")
    upgrade(f"sqlite:///{tmp_path}/template.db")
    site = make_site(tmp_path, tmp_path / "template.db")
    site.store.close()
    path = site.config.source
    path.write_text(
        path.read_text().replace(site.config.store_url, url.replace("cassiopeia@", "validator@")), encoding="utf-8"
    )
    site.config, site.now = load_validator_config(path), dt.datetime.now(dt.UTC)
    with open_store(url) as site.store, open_store(site.config.store_url) as theirs:
        site.store.evidence.demand({"0004-server": True}, now=site.now)
        yield site, theirs


def test_it_does_all_of_its_work_and_can_change_nothing_else(validator: tuple[Site, Store]) -> None:
    site, theirs = validator
    site.hear()
    request = site.submit(1)
    ours, site.store = site.store, theirs
    site.observe("dns-control")
    site.observe("caa-permits", ago=8 * HOUR)
    site.store = ours
    program = CheckProgram(kinds=("caa-permits",), command=("sh", "-c", "echo dns"), timeout_s=60)
    service = ValidatorService(dataclasses.replace(site.config, checks=(program,)), theirs)
    leased = []
    for _ in range(1000):
        service.step(0.05)
        site.now = dt.datetime.now(dt.UTC)
        if leased := site.lease():
            break
    service.close()

    assert [job.request.request_id for job in leased] == [request.request_id]
    site.judge(leased[0])
    assert [each.name for each in site.store.evidence.validators()] == ["validator"]
    for statement in (
        "UPDATE request SET account = 'validator'",
        "INSERT INTO profile_evidence VALUES ('a', 0, 0)",
        "UPDATE signer_timestamp SET octets = ''",
        "DELETE FROM observation",
        "DELETE FROM certificate",
        "UPDATE crl SET der = ''",
    ):
        with pytest.raises(InternalError, match="permission denied"), theirs.database.write() as connection:
            connection.execute(text(statement))
    assert site.store.requests.find(request.request_id) is not None
    assert NAME in theirs.evidence.page().items[0].value
