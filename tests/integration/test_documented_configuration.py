"""The configuration files shown in docs/configuration.md are read by the code that reads the real ones."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest
from tests.support.journal_keys import write_journal_pem
from tests.support.operators import public_pem

from cassiopeia import config
from cassiopeia.config import authorities, client, pins, publisher, signer, validator

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
SHAPES = {
    "signer.toml": signer._SignerFile,
    "client.toml": client._ClientFile,
    "validator.toml": validator._ValidatorFile,
    "publisher.toml": publisher._PublisherFile,
    "authorities.toml": authorities._AuthoritiesFile,
    "pins.toml": pins._PinsFile,
    "further table of signer.toml": None,
}
# Alternatives to what is shown: one file cannot show both.
SHOWN_OTHERWISE = {"keys.passphrase_credential", "pkcs11.pin_credential", "authority.*.backend", "link.version_1"}


def examples() -> dict[str, str]:
    blocks = re.findall(r"^```toml\n# ([^\n]*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return dict(blocks)


def test_every_file_is_shown() -> None:
    assert set(examples()) == set(SHAPES)


@pytest.mark.parametrize("more", ["", examples()["further table of signer.toml"]])
def test_the_signers_file_is_accepted(tmp_path: Path, more: str) -> None:
    path = tmp_path / "signer.toml"
    path.write_text(examples()["signer.toml"] + more, encoding="utf-8")
    for number, name in enumerate(["operators/anna", "operators/ben", "validators/front", "validators/assurers"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.pem").write_bytes(public_pem(number))
    (tmp_path / "responders").mkdir()
    (tmp_path / "responders" / "1.pem").write_bytes(public_pem())

    loaded = config.load_signer_config(path)

    assert loaded.keys.passphrase.file == tmp_path / "passphrase"
    assert (loaded.version_1 is not None) == bool(more)
    assert [each.name for each in loaded.validators] == ["front", "assurers"]
    assert len(loaded.responder_keys) == 1


def test_the_clients_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "client.toml"
    path.write_text(examples()["client.toml"], encoding="utf-8")
    (tmp_path / "peers").mkdir()
    write_journal_pem(tmp_path / "peers" / "journal.pem")

    assert config.load_client_config(path).publish_directory == tmp_path / "public"


def test_the_validators_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "validator.toml"
    path.write_text(examples()["validator.toml"], encoding="utf-8")
    (tmp_path / "peers").mkdir()
    write_journal_pem(tmp_path / "peers" / "journal.pem")
    (tmp_path / "peers" / "mail.pem").write_bytes(public_pem(0))

    loaded = config.load_validator_config(path)

    assert loaded.check_for("caa-permits") == loaded.checks[0]


def test_the_publishers_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "publisher.toml"
    path.write_text(examples()["publisher.toml"], encoding="utf-8")
    (tmp_path / "peers").mkdir()
    write_journal_pem(tmp_path / "peers" / "journal.pem")

    loaded = publisher.load_publisher_config(path)

    assert (loaded.listen.host, loaded.listen.port, loaded.path) == ("127.0.0.1", 8080, "/ocsp")


def test_the_authorities_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "authorities.toml"
    path.write_text(examples()["authorities.toml"], encoding="utf-8")

    file = config.read_toml(path, authorities._AuthoritiesFile)

    assert [each.name for each in file.authority] == ["assured_2026_2"]


def test_the_pins_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "pins.toml"
    path.write_text(examples()["pins.toml"], encoding="utf-8")
    for number, name in enumerate(["operators/anna", "operators/ben", "validators/front", "responders/1"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.pem").write_bytes(public_pem(number))

    loaded = config.load_pins(path)

    assert (len(loaded.operators), len(loaded.validators), len(loaded.responders)) == (2, 1, 1)


@pytest.mark.parametrize(
    "name", ["signer.toml", "client.toml", "validator.toml", "publisher.toml", "authorities.toml", "pins.toml"]
)
def test_every_key_is_shown_and_every_default_is_true(name: str) -> None:
    shown = tomllib.loads(examples()[name])
    shape = SHAPES[name]
    assert shape is not None

    for key, default in declared_keys(shape):
        if key in SHOWN_OTHERWISE:
            continue
        value = look_up(shown, key)
        assert value is not None, f"{key} is not explained"
        # Lists are shown with an example in them, and an optional value by its use.
        if default is not msgspec.NODEFAULT and not isinstance(default, tuple) and default is not None:
            assert value == (str(default) if isinstance(default, Path) else default), f"{key} has another default"


def declared_keys(shape: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key as `table.key`, with its default; tables of tables are followed."""
    for field in msgspec.structs.fields(shape):
        tables = [each for each in (field.type, *get_args(field.type)) if isinstance(each, type)]
        inner = [each for each in tables if issubclass(each, msgspec.Struct)]
        if inner and prefix + field.name not in SHOWN_OTHERWISE:
            by_name = "*." if get_origin(field.type) is dict else ""
            yield from declared_keys(inner[0], f"{prefix}{field.name}.{by_name}")
        else:
            yield prefix + field.name, field.default


def look_up(document: Any, key: str) -> Any:
    """The value at `table.key`, in the last entry of each list of tables; `*` is the last of tables with names."""
    for part in key.split("."):
        if part == "*" and isinstance(document, dict):
            document = list(document.values())[-1]
            continue
        if isinstance(document, list):
            document = document[-1]
        document = document.get(part) if isinstance(document, dict) else None
    return document
