from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cassiopeia.config.keys import (
    AuthorityTables,
    KeysConfig,
    KeysTable,
    KeyUse,
    Pkcs11Table,
    read_keys,
    resolve_key_uri,
)
from cassiopeia.config.toml import Table, parse_toml
from cassiopeia.core.key_uri import FileUri, Pkcs11Uri
from cassiopeia.errors import ConfigurationError

NAME = "assured_2026_2"
DIRECTORY = Path("/srv/bundles/0007")


class Tables(Table, frozen=True, kw_only=True):
    keys: KeysTable
    pkcs11: Pkcs11Table = Pkcs11Table()
    authority: AuthorityTables = msgspec.field(default_factory=dict)


def read(more: str = "", *, keys: str = "") -> KeysConfig:
    tables = parse_toml(f'[keys]\npassphrase_file = "passphrase"\n{keys}\n{more}', Tables, source="signer.toml")
    return read_keys(Path("/srv/signer.toml"), tables.keys, tables.pkcs11, tables.authority)


def use(more: str = "", *, uri: str = "file:keys/a.key", keys: str = "") -> KeyUse:
    return read(more, keys=keys).use(NAME, uri, directory=DIRECTORY)


def test_a_key_is_a_file_beside_the_authorities_and_openssl_signs() -> None:
    assert use() == KeyUse(uri=FileUri(path="/srv/bundles/0007/keys/a.key", backend="openssl"))
    assert use().backend == "openssl"


@pytest.mark.parametrize(
    ("uri", "keys", "more", "backend"),
    [
        ("file:a", 'backend = "gnutls"', "", "gnutls"),
        ("file:a?backend=wolfssl", 'backend = "gnutls"', "", "wolfssl"),
        ("file:a", 'backend = "gnutls"', f'[authority.{NAME}]\nbackend = "wolfssl"', "wolfssl"),
        ("file:a?backend=wolfssl", "", f'[authority.{NAME}]\nbackend = "wolfssl"', "wolfssl"),
        ("file:a", "", f'[authority.{NAME}]\nkey = "file:b?backend=gnutls"', "gnutls"),
        ("file:a", "", '[authority.other]\nbackend = "gnutls"', "openssl"),
    ],
)
def test_one_line_switches_all_or_one(uri: str, keys: str, more: str, backend: str) -> None:
    assert use(more, uri=uri, keys=keys).backend == backend


def test_what_this_machine_says_of_a_key_is_beside_its_own_file() -> None:
    found = use(f'[authority.{NAME}]\nkey = "file:born/a.key"').uri
    assert found == FileUri(path="/srv/born/a.key", backend="openssl")


def test_a_key_in_a_token_needs_no_library_for_files() -> None:
    uri = "pkcs11:token=ca;object=a?pin-source=file:pin&module-path=p11.so"
    found = use(f'[authority.{NAME}]\nkey = "{uri}"', keys='backend = "gnutls"')
    assert found.uri == Pkcs11Uri(token="ca", label="a", pin_source="file:/srv/pin", module_path="/srv/p11.so")
    assert found.backend == "pkcs11"


@pytest.mark.parametrize(
    ("keys", "more", "second"),
    [
        ("", "", ""),
        ('verify_with = "gnutls"', "", "gnutls"),
        ('verify_with = "gnutls"', f'[authority.{NAME}]\nverify_with = "wolfssl"', "wolfssl"),
        ('verify_with = "gnutls"', f'[authority.{NAME}]\nverify_with = "none"', ""),
    ],
)
def test_a_second_opinion_is_asked_where_it_is_wished(keys: str, more: str, second: str) -> None:
    assert use(more, keys=keys).verify_with == second


@pytest.mark.parametrize(
    ("uri", "keys", "more", "key", "reason"),
    [
        ("file:a?backend=gnutls", "", f'[authority.{NAME}]\nbackend = "openssl"', "backend", "leave one of both out"),
        ("pkcs11:token=a", "", f'[authority.{NAME}]\nbackend = "openssl"', "backend", "a token signs by itself"),
        ("ftp:a", "", "", "key", "by file:PATH or by a pkcs11: URI"),
        ("file:a", 'verify_with = "openssl"', "", "verify_with", "would be asked about its own work"),
    ],
)
def test_what_contradicts_itself_is_named(uri: str, keys: str, more: str, key: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as fault:
        use(more, uri=uri, keys=keys)
    assert fault.value.key == f"authority.{NAME}.{key}"
    assert fault.value.source == "/srv/signer.toml"


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("[keys]\nbackend = 'libressl'", "keys.backend", "this has to be openssl, gnutls or wolfssl"),
        ("[keys]\nverify_with = 'none'", "keys.verify_with", "this has to be openssl, gnutls or wolfssl"),
        (
            "[authority.a]\nbackend = 'gnutls'\n[authority.b]\nverify_with = 'x'",
            "authority.b.verify_with",
            "this has to be openssl, gnutls, wolfssl or none",
        ),
        ("[authority.a]\nbackend = 'gnutls'\n[authority.b]\nbckend = 'x'", "authority.b.bckend", "not known here"),
        ("[authority.'a b']\nbackend = 'gnutls'", "authority", "a word of letters, digits and _"),
        ("[authority]\nbackend = 'gnutls'", "authority.backend", "expected a table, got str"),
    ],
    ids=["backend", "verify_with", "one-sub-ca", "unknown", "name", "no-table"],
)
def test_a_wrong_value_is_named_with_what_it_can_be(text: str, key: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as fault:
        parse_toml(text if "[keys]" in text else f"[keys]\n{text}", Tables, source="signer.toml")
    assert fault.value.key == key


def test_passphrase_and_pin_have_one_place_each() -> None:
    with pytest.raises(ConfigurationError, match="either passphrase_file or passphrase_credential"):
        read(keys='passphrase_credential = "x"')
    with pytest.raises(ConfigurationError, match="either pin_file or pin_credential"):
        read('[pkcs11]\npin_file = "a"\npin_credential = "b"')


def test_a_token_has_its_pin_and_library_from_here() -> None:
    found = read('[pkcs11]\nmodule = "lib/p11.so"\npin_file = "pin"\nsessions = 3')
    assert (found.module, found.sessions) == ("/srv/lib/p11.so", 3)
    assert found.pin is not None
    assert found.pin.file == Path("/srv/pin")
    named = read('[pkcs11]\npin_credential = "token-pin"')
    assert named.pin is not None
    assert (named.pin.file, named.pin.credential) == (None, "token-pin")
    assert read().pin is None


def test_a_credential_stays_what_it_is() -> None:
    uri = Pkcs11Uri(token="ca", pin_source="credential:pin")
    assert resolve_key_uri(uri, DIRECTORY) == uri
