from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.journal_keys import write_journal_pem

from cassiopeia.config import CheckProgram, load_validator_config
from cassiopeia.core.evidence import STATEMENT_KINDS
from cassiopeia.errors import ConfigurationError

MINIMUM = """
[validator]
name = "validator"
key = "validator.key"

[store]
url = "sqlite:///../client/store.sqlite"

[journal]
keys = ["journal.pem"]
"""


def write(directory: Path, more: str = "") -> Path:
    write_journal_pem(directory / "journal.pem")
    path = directory / "validator.toml"
    path.write_text(MINIMUM + more, encoding="utf-8")
    return path


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    config = load_validator_config(write(tmp_path))

    assert config.key == tmp_path / "validator.key"
    assert config.profiles == tmp_path / "profiles"
    assert config.store_url == f"sqlite:///{tmp_path}/../client/store.sqlite"
    assert config.kinds == set(STATEMENT_KINDS)
    assert (config.batch, config.ahead, config.margin_minutes, config.checks_at_once) == (4, 500, 30, 4)
    assert (config.peers, config.checks) == ((), ())
    assert len(config.journal_keys) == 1
    assert config.check_for("dns-control") is None


def test_programs_are_found_by_what_they_see(tmp_path: Path) -> None:
    more = """
[[check]]
kinds = ["dns-control", "caa-permits"]
command = ["checks/dns", "--strict"]
timeout_s = 5

[[check]]
kinds = ["mailbox-control"]
command = ["check-mail"]
"""
    config = load_validator_config(write(tmp_path, more))

    dns = CheckProgram(
        kinds=("dns-control", "caa-permits"), command=(f"{tmp_path}/checks/dns", "--strict"), timeout_s=5
    )
    assert config.check_for("caa-permits") == dns
    assert config.check_for("mailbox-control") == CheckProgram(
        kinds=("mailbox-control",), command=("check-mail",), timeout_s=60
    )
    assert config.check_for("organisation") is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('[[check]]\nkinds = ["fly"]\ncommand = ["a"]', r"check\[0\].kinds: 'fly' is not known; use dns-control"),
        ('[[check]]\nkinds = ["attestation"]\ncommand = ["a"]', r"check\[0\].kinds: 'attestation' is not known"),
        ('[[check]]\nkinds = []\ncommand = ["a"]', r"check\[0\].kinds: expected"),
        ('[[check]]\nkinds = ["dns-control"]\ncommand = []', r"check\[0\].command: expected"),
        ('[[check]]\nkinds = ["dns-control"]\ncommand = ["a\\u0000b"]', "an argument without NUL"),
        ('[[check]]\nkinds = ["dns-control"]\ncommand = "a"', r"check\[0\].command: expected array, got str"),
        (
            '[[check]]\nkinds = ["dns-control"]\ncommand = ["a"]\n[[check]]\nkinds = ["dns-control"]\ncommand = ["b"]',
            r"check\[1\].kinds: another \[\[check\]\] sees dns-control already",
        ),
        ("[attest]\nbatch = 0", "attest.batch: "),
        ("[attest]\nbatch = 1025", "attest.batch: "),
        ("[renew]\nat_once = 0", "renew.at_once: "),
        ("[fly]", "fly: this key is not known here"),
    ],
)
def test_what_is_wrong_is_said_with_its_key(tmp_path: Path, more: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_validator_config(write(tmp_path, more))


def test_a_program_sees_only_what_this_validator_signs(tmp_path: Path) -> None:
    path = write(tmp_path, '[[check]]\nkinds = ["caa-permits"]\ncommand = ["a"]\n')
    path.write_text(path.read_text().replace("[validator]", '[validator]\nkinds = ["dns-control"]'))

    with pytest.raises(ConfigurationError, match=r"check\[0\].kinds: this validator does not sign caa-permits"):
        load_validator_config(path)


def test_a_kind_that_is_none(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("[validator]", '[validator]\nkinds = ["fly"]'))

    with pytest.raises(ConfigurationError, match=r"validator\.kinds: 'fly' is not known; use attestation, dns-control"):
        load_validator_config(path)
