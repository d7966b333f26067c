"""Every way in which a configuration file can be wrong is refused with file, key and reason."""

from __future__ import annotations

import datetime as dt
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.authorities import default_ca, make_ca, p256_key
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY, write_journal_pem
from tests.support.operators import PUBLIC_KEYS, public_pem

from cassiopeia import config
from cassiopeia.config import (
    Bundles,
    load_authorities,
    load_chain,
    load_client_config,
    load_profiles,
    load_signer_config,
    toml,
)
from cassiopeia.config.keys import KeysTable, Pkcs11Table, read_keys
from cassiopeia.core.rules import Validator
from cassiopeia.errors import ConfigurationError, InternalError
from cassiopeia.journal.order import CAPS
from cassiopeia.link.address import SerialAddress, TcpAddress, UnixAddress
from cassiopeia.protocol.limits import Limits

SIGNER = """\
[signer]
id = 5

[keys]
passphrase_file = "passphrase"

[link]
listen = "unix:run/signer.sock"
certificate = "link.pem"
key = "link.key"
peers = ["client.pem", "/etc/next.pem"]

[journal]
key = "journal.key"
"""

CLIENT = """\
[client]
name = "first"

[store]
url = "sqlite:///store.sqlite"

[link]
connect = "tcp:127.0.0.1:7001"
certificate = "link.pem"
key = "link.key"
peers = ["signer.pem"]

[journal]
keys = ["journal.pem"]
"""

VALIDATOR = """\
[[validator]]
name = "front"
key = "anna.pem"
kinds = ["attestation"]
"""

AUTHORITY = """\
[[authority]]
name = "unassured_2026_2"
certificate = "sub.pem"
issuer = "unassured"
signer_id = 1
issues_from = 2026-11-01T02:00:00+02:00
issues_until = 2027-01-01T00:00:00Z
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "signer.toml").write_text(SIGNER)
    (tmp_path / "client.toml").write_text(CLIENT)
    (tmp_path / "authorities.toml").write_text(AUTHORITY)
    (tmp_path / "sub.pem").write_bytes(default_ca().pem)
    write_journal_pem(tmp_path / "journal.pem")
    p256 = p256_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "p256.pem").write_bytes(p256)
    (tmp_path / "anna.pem").write_bytes(public_pem())
    return tmp_path


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


# --- the signer's file


def test_the_shortest_signer_file_has_safe_defaults(directory: Path) -> None:
    loaded = load_signer_config(directory / "signer.toml")

    assert loaded == config.SignerConfig(
        source=directory / "signer.toml",
        signer_id=5,
        state=directory / "state",
        workers=0,
        bundles=Bundles(directory=directory / "bundles"),
        authorities=directory / "authorities.toml",
        profiles=directory / "profiles",
        keys=read_keys(directory / "signer.toml", KeysTable(passphrase_file=Path("passphrase")), Pkcs11Table(), {}),
        sealing_key=directory / "sealing.key",
        listen=UnixAddress(path=str(directory / "run/signer.sock")),
        certificate=directory / "link.pem",
        key=directory / "link.key",
        peers=(directory / "client.pem", Path("/etc/next.pem")),
        sessions=4,
        version_1=None,
        limits=Limits(),
        crl_lifetime_days=10,
        crl_resign_hours=24,
        journal_key=directory / "journal.key",
        retention_days=0,
        disk_reserve_octets=64 << 20,
        clock_leap_days=3,
        operators=(),
        quorum=1,
        caps={
            "open-intents": 4_000,
            "profile-certificates": 10_000,
            "account-certificates": 5_000,
            "validator-certificates": 20_000,
            "revocations": 1_000,
            "refusals": 5_000,
        },
        validators=(),
        responder_keys=frozenset(),
        weak_keys=None,
    )


def test_everything_in_the_signers_file_can_be_set(directory: Path) -> None:
    path = directory / "signer.toml"
    path.write_text(
        """\
        [signer]
        id = 126
        state = "/var/lib/cassiopeia"
        workers = 2
        authorities = "a.toml"
        profiles = "p"
        [keys]
        passphrase_credential = "ca-keys"
        [link]
        listen = "serial:/dev/ttyS0?baud=57600"
        certificate = "link.pem"
        key = "link.key"
        peers = ["client.pem"]
        sessions = 1
        [link.version_1]
        certificate = "v1.pem"
        key = "v1.key"
        peers = ["original.pem"]
        profiles = ["9004-unproved-server"]
        [limits]
        open_requests = 10
        request_octets = 65536
        request_seconds = 60
        [crl]
        lifetime_days = 30
        resign_hours = 12
        [journal]
        key = "/etc/journal.key"
        [disk]
        reserve_mib = 256
        [clock]
        leap_days = 10
        [orders]
        operators = ["anna.pem", "ben.pem", "carla.pem"]
        quorum = 2
        [[validator]]
        name = "front"
        key = "anna.pem"
        kinds = ["attestation", "dns-control"]
        [[validator]]
        name = "people"
        key = "ben.pem"
        kinds = ["name-verified"]
        [ocsp]
        responders = ["p256.pem"]
        [caps]
        open_intents = 1
        profile_certificates = 2
        account_certificates = 3
        validator_certificates = 4
        revocations = 5
        refusals = 6
        """
    )
    for number, name in enumerate(["anna", "ben", "carla"]):
        (directory / f"{name}.pem").write_bytes(public_pem(number))

    loaded = load_signer_config(path)

    assert (loaded.signer_id, loaded.workers, loaded.sessions) == (126, 2, 1)
    assert loaded.state == Path("/var/lib/cassiopeia")
    assert (loaded.keys.passphrase.file, loaded.keys.passphrase.credential) == (None, "ca-keys")
    assert loaded.listen == SerialAddress(device="/dev/ttyS0", baud=57600)
    assert loaded.version_1 == config.Version1Config(
        certificate=directory / "v1.pem",
        key=directory / "v1.key",
        peers=(directory / "original.pem",),
        profiles=("9004-unproved-server",),
    )
    assert loaded.limits == Limits(open_requests=10, request_octets=65536, request_seconds=60)
    assert (loaded.crl_lifetime_days, loaded.crl_resign_hours) == (30, 12)
    assert loaded.journal_key == Path("/etc/journal.key")
    assert (loaded.disk_reserve_octets, loaded.clock_leap_days) == (256 << 20, 10)
    assert (loaded.operators, loaded.quorum) == (PUBLIC_KEYS[:3], 2)
    assert list(loaded.caps.items()) == list(zip(CAPS, range(1, 7), strict=True))
    assert loaded.validators == (
        Validator(name="front", public_key=PUBLIC_KEYS[0], kinds=frozenset({"attestation", "dns-control"})),
        Validator(name="people", public_key=PUBLIC_KEYS[1], kinds=frozenset({"name-verified"})),
    )
    responder = p256_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert loaded.responder_keys == {hashlib.sha256(responder).digest()}


def test_a_relative_file_name_still_gives_absolute_paths(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)

    loaded = load_signer_config(Path("signer.toml"))
    monkeypatch.chdir("/")

    assert loaded.state == directory / "state"
    assert loaded.listen == UnixAddress(path=str(directory / "run/signer.sock"))


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ("id = 5", "", "signer.id", "this key is missing"),
        ("id = 5", "id = 0", "signer.id", "expected int >= 1"),
        ("id = 5", "id = 127", "signer.id", "expected int <= 126"),
        ("id = 5", 'id = "5"', "signer.id", "expected int, got str"),
        ("id = 5", "id = 5.0", "signer.id", "expected int, got float"),
        ("id = 5", "id = true", "signer.id", "expected int, got bool"),
        ("id = 5", "id = 5\nname = 1", "signer.name", "this key is not known here"),
        ("id = 5", "id = 5\nworkers = -1", "signer.workers", "expected int >= 0"),
        ("id = 5", "id = 5\nworkers = 257", "signer.workers", "expected int <= 256"),
        ("id = 5", 'id = 5\nstate = ""', "signer.state", "this has to be a path"),
        ("id = 5", 'id = 5\nstate = "a\\u0000b"', "signer.state", "this has to be a path"),
        ("id = 5", "id = 5\nstate = 7", "signer.state", "expected str, got int"),
        ("[signer]", "[signet]", "signet", "this key is not known here"),
        ("[signer]\nid = 5\n", "", "signer", "this key is missing"),
        ('passphrase_file = "passphrase"', "", "keys.passphrase_file", "either passphrase_file or"),
        ("[keys]", '[keys]\npassphrase_credential = "x"', "keys.passphrase_file", "either passphrase_file or"),
        (
            'passphrase_file = "passphrase"',
            'passphrase_credential = "../x"',
            "keys.passphrase_credential",
            "a word of letters",
        ),
        ("unix:run/signer.sock", "unix:", "link.listen", "names no socket"),
        ("unix:run/signer.sock", "udp:1", "link.listen", "is no link address"),
        ("unix:run/signer.sock", "tcp:localhost:1", "link.listen", "must be an IP address"),
        ("unix:run/signer.sock", "", "link.listen", "expected str of length >= 1"),
        ("unix:run/signer.sock", f"unix:{'x' * 108}", "link.listen", "is too long"),
        ('peers = ["client.pem", "/etc/next.pem"]', "peers = []", "link.peers", "expected array of length >= 1"),
        ('"/etc/next.pem"', "3", "link.peers[1]", "expected str, got int"),
        ("[link]", "[link]\nsessions = 0", "link.sessions", "expected int >= 1"),
        ("[link]", "[link]\nsessions = 65", "link.sessions", "expected int <= 64"),
        ("[link]", "[limits]\nopen_requests = 0\n[link]", "limits.open_requests", "expected int >= 1"),
        ("[link]", "[limits]\nopen_requests = 4097\n[link]", "limits.open_requests", "expected int <= 4096"),
        ("[link]", "[limits]\nrequest_octets = 1\n[link]", "limits.request_octets", "expected int >= 16384"),
        ("[link]", "[limits]\nrequest_octets = 999999999\n[link]", "limits.request_octets", "expected int <= 524288"),
        ("[link]", "[limits]\nrequest_seconds = 0\n[link]", "limits.request_seconds", "expected int >= 1"),
        ("[link]", "[limits]\nrequest_seconds = 86401\n[link]", "limits.request_seconds", "expected int <= 86400"),
        ("[link]", "[crl]\nlifetime_days = 0\n[link]", "crl.lifetime_days", "expected int >= 1"),
        ("[link]", "[crl]\nlifetime_days = 31\n[link]", "crl.lifetime_days", "expected int <= 30"),
        ("[link]", "[crl]\nresign_hours = 0\n[link]", "crl.resign_hours", "expected int >= 1"),
        ("[link]", "[crl]\nlifetime_days = 1\n[link]", "crl.resign_hours", "make this smaller than lifetime_days"),
        ('[journal]\nkey = "journal.key"', "", "journal.key", "openssl genpkey -algorithm ED25519"),
        ("[link]", "[disk]\nreserve_mib = 0\n[link]", "disk.reserve_mib", "expected int >= 1"),
        ("[link]", "[clock]\nleap_days = 0\n[link]", "clock.leap_days", "expected int >= 1"),
        ("[link]", "[clock]\nleap_days = 366\n[link]", "clock.leap_days", "expected int <= 365"),
        ("[link]", "[orders]\nquorum = 0\n[link]", "orders.quorum", "expected int >= 1"),
        (
            "[link]",
            "[orders]\noperators = ['anna.pem', 'gone.pem']\n[link]",
            "orders.operators[1]",
            "cannot read",
        ),
        ("[link]", "[orders]\noperators = ['p256.pem']\n[link]", "orders.operators[0]", "is not an Ed25519 key"),
        (
            "[link]",
            "[orders]\noperators = ['anna.pem', 'anna.pem']\n[link]",
            "orders.operators[1]",
            "this key stands there twice",
        ),
        (
            "[link]",
            "[orders]\noperators = ['anna.pem']\nquorum = 2\n[link]",
            "orders.quorum",
            "so many must sign, and 1 keys are named",
        ),
        ("[link]", "[caps]\nrevocations = 0\n[link]", "caps.revocations", "expected int >= 1"),
        ("[link]", "[caps]\nopen_intents = 20001\n[link]", "caps.open_intents", "expected int <= 20000"),
        ("[link]", "[caps]\nrefusals = 100001\n[link]", "caps.refusals", "expected int <= 100000"),
        ("[link]", "[ocsp]\nresponders = ['gone.pem']\n[link]", "ocsp.responders[0]", "cannot read"),
        ("[link]", "[ocsp]\nresponders = ['sub.pem']\n[link]", "ocsp.responders[0]", "is not a public key in PEM"),
        ("[link]", "[[validator]]\nname = 'a'\nkey = 'anna.pem'\n[link]", "validator[0].kinds", "is missing"),
        ("[link]", f"{VALIDATOR.replace('attestation', 'dns')}[link]", "validator[0].kinds", "'dns' is not known"),
        ("[link]", f"{VALIDATOR.replace('attestation', '')}[link]", "validator[0].kinds[0]", "length >= 1"),
        ("[link]", f"{VALIDATOR.replace('front', 'a b')}[link]", "validator[0].name", "a word of letters"),
        ("[link]", f"{VALIDATOR.replace('anna', 'p256')}[link]", "validator[0].key", "is not an Ed25519 key"),
        ("[link]", f"{VALIDATOR}{VALIDATOR}[link]", "validator[1].name", "another validator has this name"),
        ("[link]", f"{VALIDATOR}{VALIDATOR.replace('front', 'b')}[link]", "validator[1].key", "has this key"),
        ("[link]", "[link.version_1]\ncertificate = 'c'\nkey = 'k'\n[link]", "link.version_1.peers", "is missing"),
    ],
)
def test_a_wrong_signer_file_is_refused(directory: Path, old: str, new: str, key: str, reason: str) -> None:
    path = changed(directory / "signer.toml", old, new)

    with pytest.raises(ConfigurationError) as caught:
        load_signer_config(path)

    assert (caught.value.source, caught.value.key) == (str(path), key)
    assert reason in caught.value.reason
    assert str(caught.value).startswith(f"{path}: {key}: ")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[signer", "this is not TOML: "),
        (b"id = 1\nid = 2", "this is not TOML: "),
        (b'# \xff\n[signer]\nid = "x"', "octet 2 is not UTF-8"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(directory: Path, content: bytes, reason: str) -> None:
    path = directory / "signer.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=reason):
        load_signer_config(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gone\.toml: cannot read this file: No such file or directory"):
        load_signer_config(tmp_path / "gone.toml")


# --- the client's file


def test_the_shortest_client_file_has_safe_defaults(directory: Path) -> None:
    loaded = load_client_config(directory / "client.toml")

    assert loaded == config.ClientConfig(
        source=directory / "client.toml",
        name="first",
        store_url=f"sqlite:///{directory}/store.sqlite",
        connect=TcpAddress(host="127.0.0.1", port=7001),
        certificate=directory / "link.pem",
        key=directory / "link.key",
        peers=(directory / "signer.pem",),
        version=2,
        window=400,
        bundles=Bundles(directory=directory / "bundles"),
        authorities=directory / "authorities.toml",
        profiles=directory / "profiles",
        publish_directory=directory / "public",
        journal_keys=(JOURNAL_PUBLIC_KEY,),
        lint_workers=1,
    )


def test_a_client_of_version_1_knows_no_journal(directory: Path) -> None:
    changed(directory / "client.toml", '[journal]\nkeys = ["journal.pem"]', "")
    path = changed(directory / "client.toml", "[link]", "[link]\nversion = 1")

    assert load_client_config(path).journal_keys == ()


@pytest.mark.parametrize(
    "url",
    ["sqlite:////var/lib/store.sqlite", "postgresql+psycopg://ca@db/ca", "sqlite+pysqlite:////x/y"],
)
def test_a_complete_store_url_stays_as_it_is(directory: Path, url: str) -> None:
    path = changed(directory / "client.toml", "sqlite:///store.sqlite", url)

    assert load_client_config(path).store_url == url


def test_a_store_beside_the_file_is_found_whatever_its_directory_is_called(tmp_path: Path) -> None:
    from sqlalchemy import make_url  # noqa: PLC0415 - the one test here that looks at the database's side

    odd = tmp_path / "a b?c%20#d"
    odd.mkdir()
    (odd / "client.toml").write_text(CLIENT.replace("store.sqlite", "store.sqlite?timeout=3"))
    write_journal_pem(odd / "journal.pem")

    url = make_url(load_client_config(odd / "client.toml").store_url)

    assert url.database == str(odd / "store.sqlite")
    assert url.query == {"timeout": "3"}


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ('name = "first"', 'name = ""', "client.name", "expected str of length >= 1"),
        ("sqlite:///store.sqlite", "", "store.url", "expected str of length >= 1"),
        ("sqlite:///store.sqlite", "sqlite:///", "store.url", "name a file"),
        ("sqlite:///store.sqlite", "sqlite:///:memory:", "store.url", "name a file"),
        ("[link]", "[link]\nversion = 3", "link.version", "3 is none of the values that this key can have"),
        ("[link]", "[link]\nwindow = 0", "link.window", "expected int >= 1"),
        ("[link]", "[link]\nwindow = 10001", "link.window", "expected int <= 10000"),
        ("[link]", '[link]\nlisten = "unix:x"', "link.listen", "this key is not known here"),
        ("tcp:127.0.0.1:7001", "tcp:127.0.0.1:0", "link.connect", "is no TCP address"),
        ("[client]", "authorities = 1\n[client]", "authorities", "expected str, got int"),
        ("[client]", "[publish]\nplace = 'x'\n[client]", "publish.place", "this key is not known here"),
        ('[journal]\nkeys = ["journal.pem"]', "", "journal.keys", "openssl pkey -in journal.key -pubout"),
        ('["journal.pem"]', "[]", "journal.keys", "expected array of length >= 1"),
        ('["journal.pem"]', '["journal.pem", "gone.pem"]', "journal.keys[1]", "No such file or directory"),
        ('["journal.pem"]', '["sub.pem"]', "journal.keys[0]", "is not a public key in PEM"),
        ('["journal.pem"]', '["p256.pem"]', "journal.keys[0]", "is not an Ed25519 key"),
    ],
)
def test_a_wrong_client_file_is_refused(directory: Path, old: str, new: str, key: str, reason: str) -> None:
    path = changed(directory / "client.toml", old, new)

    with pytest.raises(ConfigurationError) as caught:
        load_client_config(path)

    assert (caught.value.source, caught.value.key) == (str(path), key)
    assert reason in caught.value.reason


# --- authorities and profiles


@pytest.mark.parametrize("form", ["pem", "der"])
def test_authorities_are_read_with_their_certificates(directory: Path, form: str) -> None:
    (directory / "sub.pem").write_bytes(getattr(default_ca(), form))
    path = directory / "authorities.toml"
    path.write_text(AUTHORITY + 'key = "file:keys/sub.key"\npss = false\nmaximum_certificates = 3\nretired = true\n')

    (entry,) = load_authorities(path)

    assert (entry.issuer, entry.key) == ("unassured", "file:keys/sub.key")
    assert entry.authority.certificate == default_ca().der
    assert entry.authority.issues_from == dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    assert entry.authority.issues_until == dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    assert entry.authority.maximum_certificates == 3
    assert entry.authority.retired


def test_the_clients_side_has_no_key(directory: Path) -> None:
    (entry,) = load_authorities(directory / "authorities.toml")
    assert (entry.key, entry.authority.retired) == ("", False)


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        ('name = "unassured_2026_2"', 'name = "../x"', "authority[0].name", "a word of letters"),
        ('name = "unassured_2026_2"', 'name = "x\\n"', "authority[0].name", "a word of letters"),
        ('name = "unassured_2026_2"', 'name = "unassured"', "authority[0]", "is not the name of a sub-CA"),
        ("sub.pem", "gone.pem", "authority[0].certificate", "cannot read"),
        ("sub.pem", "authorities.toml", "authority[0].certificate", "is not a certificate"),
        ("sub.pem", "leaf.pem", "authority[0]", "is not that of a CA"),
        ("signer_id = 1", "signer_id = 127", "authority[0].signer_id", "expected int <= 126"),
        ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00", "authority[0].issues_until", "timezone"),
        ("2027-01-01T00:00:00Z", "2027-01-01", "authority[0].issues_until", "expected datetime, got date"),
        ("2027-01-01T00:00:00Z", "2047-01-01T00:00:00Z", "authority[0]", "it must issue within"),
        ("signer_id = 1", "signer_id = 1\nkey = 'x'", "authority[0].key", "a key URI"),
        ("signer_id = 1", "signer_id = 1\nmaximum_certificates = 0", "authority[0].maximum_certificates", ">= 1"),
        ("signer_id = 1", "signer_id = 1\nmaximum_certificates = 30000", "authority[0].maximum_certificates", "<="),
        ("signer_id = 1", "signer_id = 1\npss = 1", "authority[0].pss", "expected bool, got int"),
        ("signer_id = 1", "signer_id = 1\nretired = 'yes'", "authority[0].retired", "expected bool, got str"),
        ("signer_id = 1", "signer_id = 1\ncrl_urls = ['ldap://x']", "authority[0].crl_urls[0]", "http or https"),
        ("signer_id = 1", "signer_id = 1\ncrl_urls = ['http://x ']", "authority[0].crl_urls[0]", "http or https"),
        ("signer_id = 1", "signer_id = 1\nowner = 'x'", "authority[0].owner", "this key is not known here"),
    ],
)
def test_wrong_authorities_are_refused(directory: Path, old: str, new: str, key: str, reason: str) -> None:
    leaf = make_ca("leaf", key=p256_key(), is_ca=False, key_cert_sign=False)
    (directory / "leaf.pem").write_bytes(leaf.pem)
    path = changed(directory / "authorities.toml", old, new)

    with pytest.raises(ConfigurationError) as caught:
        load_authorities(path)

    assert (caught.value.source, caught.value.key) == (str(path), key)
    assert reason in caught.value.reason


def test_one_name_for_two_authorities_is_refused(directory: Path) -> None:
    path = directory / "authorities.toml"
    path.write_text(AUTHORITY + AUTHORITY)

    with pytest.raises(ConfigurationError, match=r"authority\[1\].name: 'unassured_2026_2' stands there twice"):
        load_authorities(path)


def chain_table(name: str, issuer: str) -> str:
    return f'[[ca]]\nname = "{name}"\ncertificate = "sub.pem"\nissuer = "{issuer}"\n'


def test_the_chain_is_read_with_its_certificates(directory: Path) -> None:
    path = directory / "authorities.toml"
    path.write_text(AUTHORITY + chain_table("root", "root") + chain_table("unassured", "root"))

    assert load_chain(path) == (
        config.ChainEntry(name="root", certificate=default_ca().der, issuer="root"),
        config.ChainEntry(name="unassured", certificate=default_ca().der, issuer="root"),
    )


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (chain_table("a", "b"), r"ca\[0\].issuer: no \[\[ca\]\] is called 'b'"),
        (chain_table("a", "a") * 2, r"ca\[1\].name: 'a' stands there twice"),
        (chain_table("a", "a").replace("sub", "gone"), r"ca\[0\].certificate: cannot read"),
    ],
)
def test_a_wrong_chain_is_refused(directory: Path, tables: str, message: str) -> None:
    path = directory / "authorities.toml"
    path.write_text(AUTHORITY + tables)

    with pytest.raises(ConfigurationError, match=message):
        load_chain(path)


PROFILE = """\
title = "T"
family = "unassured"
key_usage = ["digitalSignature"]
extended_key_usage = ["clientAuth"]
maximum_validity_days = 1
evidence = []
subject.CN = "required"
"""


def test_profiles_are_named_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "0002-b.toml").write_text(PROFILE)
    (tmp_path / "0001-a.toml").write_text(PROFILE)
    (tmp_path / "README").write_text("no profile")

    assert [(name, each.name) for name, each in load_profiles(tmp_path).items()] == [
        ("0001-a", "0001-a"),
        ("0002-b", "0002-b"),
    ]


def test_a_wrong_profile_is_named(tmp_path: Path) -> None:
    (tmp_path / "0001-a.toml").write_text(PROFILE.replace('"T"', "3"))

    with pytest.raises(ConfigurationError) as caught:
        load_profiles(tmp_path)

    assert (caught.value.source, caught.value.key) == (str(tmp_path / "0001-a.toml"), "title")


def test_a_missing_profile_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="gone: there is no such directory"):
        load_profiles(tmp_path / "gone")


def test_a_type_that_toml_cannot_give_is_our_own_bug() -> None:
    with pytest.raises(InternalError):
        toml._decode_path(complex, "1")


def test_reading_configuration_needs_only_what_the_signer_has() -> None:
    program = (
        "import sys, cassiopeia.config\n"
        "unwanted = ['store', 'client', 'ceremony', 'signer', 'core.idn']\n"
        "found = [each for each in unwanted if 'cassiopeia.' + each in sys.modules]\n"
        "found += [each for each in ('sqlalchemy', 'alembic', 'psycopg', 'idna', 'regex') if each in sys.modules]\n"
        "sys.exit(', '.join(found) or 0)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
