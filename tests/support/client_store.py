"""A client's directory as far as the command line looks into it: client.toml and an SQLite store."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tests.support.authorities import make_ca, p256_key
from tests.support.journal_keys import write_journal_pem

from cassiopeia.cli.main import cassiopeia
from cassiopeia.config.toml_writer import toml_document
from cassiopeia.store.database import Store, open_store, upgrade

CLIENT = """
authorities = "authorities.toml"
profiles = "profiles"

[client]
name = "client"

[store]
url = "sqlite:///store.sqlite"

[link]
connect = "unix:signer.sock"
certificate = "link.pem"
key = "link.key"
peers = ["peers/signer.pem"]

[publish]
directory = "public"

[journal]
keys = ["journal.pem"]
"""


@contextmanager
def opened_client_store(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Make the files, and go there: commands find their configuration by CASSIOPEIA_CONFIG."""
    monkeypatch.chdir(directory)
    monkeypatch.setenv("CASSIOPEIA_CONFIG", "client.toml")
    Path("client.toml").write_text(CLIENT, encoding="utf-8")
    write_authorities(directory)
    write_journal_pem(directory / "journal.pem")
    upgrade(f"sqlite:///{directory}/store.sqlite")
    with open_store(f"sqlite:///{directory}/store.sqlite") as store:
        yield store


def write_authorities(directory: Path, *names: str) -> None:
    """The sub-CAs that the client knows (none named: `unassured_2026_1`), each of which issues for a year from now."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    (directory / "authorities.toml").write_text(
        toml_document(
            {
                "authority": [
                    {
                        "name": name,
                        "certificate": f"{name}.pem",
                        "issuer": "unassured",
                        "signer_id": 1,
                        "issues_from": now - dt.timedelta(days=1),
                        "issues_until": now + dt.timedelta(days=365),
                    }
                    for name in names or ("unassured_2026_1",)
                ]
            }
        ),
        encoding="utf-8",
    )
    for name in names or ("unassured_2026_1",):
        ca = make_ca(
            name, key=p256_key(), not_before=now - dt.timedelta(days=1), not_after=now + dt.timedelta(days=3 * 365)
        )
        (directory / f"{name}.pem").write_bytes(ca.pem)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cassiopeia, list(arguments), prog_name="cassiopeia")


def ask(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").stdout)
