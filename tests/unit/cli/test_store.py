from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from tests.support.journal_keys import write_journal_pem

from cassiopeia.cli.main import cassiopeia
from cassiopeia.store.database import open_store

CLIENT = """\
[client]
name = "c"
[store]
url = "sqlite:///store.sqlite"
[link]
connect = "unix:x"
certificate = "c"
key = "k"
peers = ["p"]
[journal]
keys = ["journal.pem"]
"""


def test_upgrade_makes_the_tables_and_may_be_run_again(tmp_path: Path) -> None:
    config = tmp_path / "client.toml"
    config.write_text(CLIENT, encoding="utf-8")
    write_journal_pem(tmp_path / "journal.pem")

    for _ in range(2):
        result = CliRunner().invoke(cassiopeia, ["store", "upgrade", "-c", str(config)])
        assert (result.exit_code, result.output) == (0, "The tables are up to date.\n")

    open_store(f"sqlite:///{tmp_path}/store.sqlite").close()
