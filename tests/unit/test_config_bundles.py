"""What a machine reads from an installed bundle instead of from files of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.journal_keys import write_journal_pem
from tests.support.operators import PUBLIC_KEYS, public_pem

from cassiopeia.config import (
    Bundles,
    current_installation,
    load_client_config,
    load_pins,
    load_signer_config,
    load_validator_config,
)
from cassiopeia.core.evidence import key_id
from cassiopeia.errors import ConfigurationError

SIGNER = """\
[signer]
id = 5
bundle_key = "bundle-key.pem"
[keys]
passphrase_file = "passphrase"
[link]
listen = "unix:s"
certificate = "link.pem"
key = "link.key"
peers = ["client.pem"]
[journal]
key = "journal.key"
"""
CLIENT = """\
[client]
name = "first"
bundles = "b"
bundle_key = "/etc/bundle-key.pem"
[store]
url = "sqlite:///store.sqlite"
[link]
connect = "unix:s"
certificate = "link.pem"
key = "link.key"
peers = ["signer.pem"]
[journal]
keys = ["journal.pem"]
"""
VALIDATOR = """\
[validator]
name = "web"
key = "validator.key"
[store]
url = "sqlite:///store.sqlite"
[journal]
keys = ["journal.pem"]
"""
OWN_PINS = """\
[orders]
operators = ["anna.pem"]
quorum = 2
[[validator]]
name = "web"
key = "web.pem"
kinds = ["attestation"]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "signer.toml").write_text(SIGNER)
    (tmp_path / "client.toml").write_text(CLIENT)
    (tmp_path / "validator.toml").write_text(VALIDATOR)
    write_journal_pem(tmp_path / "journal.pem")
    for place in (tmp_path, tmp_path / "bundles/0007"):
        place.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(["anna", "ben", "web", "mail"]):
            (place / f"{name}.pem").write_bytes(public_pem(number))
    (tmp_path / "bundles/current").symlink_to("0007")
    return tmp_path


def pin(directory: Path, text: str) -> None:
    (directory / "bundles/0007/pins.toml").write_text(text)


def test_where_nothing_is_installed_everything_is_as_the_file_says(directory: Path) -> None:
    (directory / "bundles/current").unlink()

    config = load_signer_config(directory / "signer.toml")

    assert config.bundles == Bundles(directory=directory / "bundles", key_file=directory / "bundle-key.pem")
    assert config.bundles.number == 0
    assert (config.authorities, config.profiles) == (directory / "authorities.toml", directory / "profiles")
    assert (config.operators, config.quorum, config.validators) == ((), 1, ())


def test_an_installed_bundle_gives_authorities_profiles_and_pins(directory: Path) -> None:
    pin(directory, '[orders]\noperators = ["ben.pem"]\n[ocsp]\nresponders = ["mail.pem"]\n')

    config = load_signer_config(directory / "signer.toml")

    installed = directory / "bundles/0007"
    assert (config.bundles.installed, config.bundles.number) == (installed, 7)
    assert (config.authorities, config.profiles) == (installed / "authorities.toml", installed / "profiles")
    assert config.operators == (PUBLIC_KEYS[1],)
    assert len(config.responder_keys) == 1
    assert config.bundles.place(12) == directory / "bundles/0012"


def test_an_installation_can_be_looked_at_before_it_is_in_force(directory: Path) -> None:
    pin(directory, "")
    (directory / "bundles/current").unlink()

    config = load_signer_config(directory / "signer.toml", installation=directory / "bundles/0007")

    assert config.authorities == directory / "bundles/0007/authorities.toml"
    assert load_signer_config(directory / "signer.toml").bundles.installed is None


def test_pins_of_both_count_with_the_stricter_quorum(directory: Path) -> None:
    (directory / "signer.toml").write_text(SIGNER + OWN_PINS)
    pin(
        directory,
        '[orders]\noperators = ["anna.pem", "ben.pem"]\nquorum = 1\n'
        '[[validator]]\nname = "web"\nkey = "web.pem"\nkinds = ["dns-control"]\n'
        '[[validator]]\nname = "mail"\nkey = "mail.pem"\nkinds = ["mailbox-control"]\n',
    )

    config = load_signer_config(directory / "signer.toml")

    assert (config.operators, config.quorum) == (PUBLIC_KEYS[:2], 2)
    assert {each.name: each.kinds for each in config.validators} == {
        "web": {"attestation", "dns-control"},
        "mail": {"mailbox-control"},
    }
    assert [each.key_id for each in config.validators] == [key_id(PUBLIC_KEYS[2]), key_id(PUBLIC_KEYS[3])]


@pytest.mark.parametrize(
    "validator",
    ['name = "other"\nkey = "web.pem"', 'name = "web"\nkey = "mail.pem"'],
    ids=["one key, two names", "one name, two keys"],
)
def test_a_validator_has_one_name_and_one_key_in_both(directory: Path, validator: str) -> None:
    (directory / "signer.toml").write_text(SIGNER + OWN_PINS.replace("quorum = 2", ""))
    pin(directory, f'[[validator]]\n{validator}\nkinds = ["attestation"]\n')

    with pytest.raises(ConfigurationError, match="has the same name or the same key"):
        load_signer_config(directory / "signer.toml")


def test_a_quorum_beyond_the_operators_of_both_is_refused(directory: Path) -> None:
    (directory / "signer.toml").write_text(SIGNER + OWN_PINS)
    pin(directory, "")

    with pytest.raises(ConfigurationError, match=r"orders\.quorum: so many must sign, and 1 keys are named"):
        load_signer_config(directory / "signer.toml")
    pin(directory, '[orders]\noperators = ["ben.pem"]\n')
    assert load_signer_config(directory / "signer.toml").quorum == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[orders]\noperators = ["anna.pem", "anna.pem"]\n', r"orders\.operators\[1\]: this key stands there twice"),
        ('[orders]\noperators = ["gone.pem"]\n', "cannot read"),
        ("[signer]\nid = 1\n", "signer: this key is not known here"),
        ('[[validator]]\nname = "a"\nkey = "web.pem"\nkinds = []\n', r"validator\[0\]\.kinds"),
    ],
    ids=["twice", "gone", "unknown", "no kinds"],
)
def test_wrong_pins_are_refused(directory: Path, text: str, reason: str) -> None:
    pin(directory, text)

    with pytest.raises(ConfigurationError, match=reason):
        load_pins(directory / "bundles/0007/pins.toml")


def test_clients_and_validators_take_theirs_from_a_bundle_too(directory: Path) -> None:
    client = load_client_config(directory / "client.toml")
    assert client.bundles == Bundles(directory=directory / "b", key_file=Path("/etc/bundle-key.pem"))
    assert client.authorities == directory / "authorities.toml"
    (directory / "b").symlink_to("bundles")

    client = load_client_config(directory / "client.toml")
    validator = load_validator_config(directory / "validator.toml")

    assert client.authorities == directory / "b/0007/authorities.toml"
    assert client.profiles == directory / "b/0007/profiles"
    assert validator.profiles == directory / "bundles/0007/profiles"
    assert validator.bundles.key_file is None
    assert (
        load_validator_config(directory / "validator.toml", installation=directory).profiles == directory / "profiles"
    )
    assert load_client_config(directory / "client.toml", installation=directory).profiles == directory / "profiles"


@pytest.mark.parametrize("target", ["0008", "../0007", "7", "/etc"])
def test_a_link_to_no_installation_is_refused(directory: Path, target: str) -> None:
    link = directory / "bundles/current"
    link.unlink()
    link.symlink_to(target)

    with pytest.raises(ConfigurationError, match="no bundle is unpacked there"):
        current_installation(directory / "bundles")


def test_a_directory_that_is_a_file_holds_no_installation(directory: Path) -> None:
    (directory / "file").write_text("")

    assert current_installation(directory / "file") is None
    assert current_installation(directory / "gone") is None
