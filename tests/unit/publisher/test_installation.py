from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from tests.support.bundles import FIRST, SECOND, bundle_key_pem, client_bundle, make_hierarchy, signed
from tests.support.client_loop import write_authorities
from tests.support.client_store import opened_client_store, run
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.publishing import Publishing

from cassiopeia.config import load_authorities, load_client_config
from cassiopeia.config.publisher import load_publisher_config
from cassiopeia.core import ed25519
from cassiopeia.errors import OperatorError
from cassiopeia.publisher.installation import make_publisher, pinning_toml
from cassiopeia.publisher.key import load_responder_key, public_pem
from cassiopeia.publisher.service import PublisherService


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """client.toml, with CAs as a ceremony lays them out."""
    with opened_client_store(tmp_path, monkeypatch):
        authorities = write_authorities(tmp_path)
        (tmp_path / "certificates").mkdir()
        (tmp_path / "ca.pem").rename(tmp_path / "certificates" / "ca.pem")
        authorities.write_text(authorities.read_text(encoding="utf-8").replace('"ca.pem"', '"certificates/ca.pem"'))
        (tmp_path / "public").mkdir()
        yield tmp_path / "client.toml"


def test_what_is_made_can_be_run(client: Path) -> None:
    done = run("publisher", "init", "web", "--client", "client.toml", "--listen", "[::1]:0")

    assert done.exit_code == 0
    config = load_publisher_config(Path("web/publisher.toml"))
    own = load_client_config(client)
    assert config.name == "web", "two of one store are told apart by it"
    assert (config.store_url, config.directory) == (own.store_url, own.publish_directory)
    assert config.journal_keys == own.journal_keys == (JOURNAL_PUBLIC_KEY,)
    assert load_authorities(config.authorities) == load_authorities(own.authorities)
    key = load_responder_key(config.key)
    assert done.stdout.encode() == public_pem(key) == Path("web/responder.pem").read_bytes()
    assert Path("web").stat().st_mode & 0o777 == 0o700
    assert config.key.stat().st_mode & 0o777 == 0o600
    assert tomllib.loads(pinning_toml("web")) == {"ocsp": {"responders": ["responders/web.pem"]}}
    assert pinning_toml("web") in done.stderr
    assert key.public_key() == load_pem_public_key(done.stdout.encode())
    assert not any("PRIVATE" in path.read_text() for path in Path("web").rglob("*.pem"))


@pytest.mark.parametrize("algorithm", ["P-384", "Ed25519"])
def test_another_kind_of_key_is_made_when_it_is_wished(client: Path, algorithm: str) -> None:
    make_publisher(Path("web"), load_client_config(client), listen="127.0.0.1:0", key_algorithm=algorithm)

    public = load_responder_key(Path("web/responder.key")).public_key()
    octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert len(octets) == {"P-384": 120, "Ed25519": 44}[algorithm]


@pytest.mark.parametrize(
    ("before", "arguments", "words"),
    [
        ("web/something", ["web"], "is there already, and a publisher is never overwritten"),
        ("", ["-web-"], "No such option"),
        ("", ["nowhere/web"], "cannot make a directory here"),
        ("", ["./we b"], "is no name for a publisher"),
        ("", ["web", "--listen", "localhost:80"], "http.listen: write an IP address and a port"),
        ("", ["web", "--listen", "127.0.0.1:70000"], "http.listen: write an IP address and a port"),
    ],
    ids=["occupied", "option", "nowhere", "name", "host", "port"],
)
def test_what_cannot_be_made_is_one_line_and_leaves_nothing(
    client: Path, before: str, arguments: list[str], words: str
) -> None:
    if before:
        Path(before).parent.mkdir()
        Path(before).touch()
    there = sorted(client.parent.rglob("*"))

    done = run("publisher", "init", *arguments, "--client", "client.toml")

    assert done.exit_code != 0
    assert words in done.stderr
    assert sorted(client.parent.rglob("*")) == there


def test_a_client_without_a_journal_makes_no_publisher(client: Path) -> None:
    text = client.read_text(encoding="utf-8").replace("[link]\n", "[link]\nversion = 1\n")
    client.write_text(text[: text.index("[journal]")], encoding="utf-8")

    with pytest.raises(OperatorError, match="names no journal key"):
        make_publisher(Path("web"), load_client_config(client), listen="127.0.0.1:0", key_algorithm="P-256")
    assert not Path("web").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("../public", "../nowhere", "there is no such directory; http.directory has to name what the client publishes"),
        ("127.0.0.1:0", "192.0.2.1:80", "cannot listen at 192.0.2.1:80: Cannot assign requested address"),
        ('"responder.key"', '"no.key"', "cannot read the publisher's key"),
    ],
)
def test_a_service_that_cannot_start_says_why(publishing: Publishing, old: str, new: str, words: str) -> None:
    path = publishing.config.source
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    with pytest.raises(OperatorError, match=words):
        PublisherService(load_publisher_config(path), publishing.store)


def test_two_at_one_address_is_said(publishing: Publishing) -> None:
    service = PublisherService(publishing.config, publishing.store)
    try:
        path = publishing.config.source
        text = path.read_text(encoding="utf-8").replace("127.0.0.1:0", service.url.removeprefix("http://"))
        path.write_text(text, encoding="utf-8")
        with pytest.raises(OperatorError, match=r"Address already in use; see http\.listen in publisher\.toml"):
            PublisherService(load_publisher_config(path), publishing.store)
    finally:
        service.close()


def test_the_journal_key_is_the_clients(client: Path) -> None:
    make_publisher(Path("web"), load_client_config(client), listen="127.0.0.1:0", key_algorithm="P-256")

    key = load_pem_public_key(Path("web/peers/journal.pem").read_bytes())
    assert ed25519.public_octets(key) == JOURNAL_PUBLIC_KEY  # type: ignore[arg-type] # another one would be unequal


def test_a_publisher_may_be_there_before_its_first_bundle(client: Path) -> None:
    """Its key has to be pinned by the ceremony that makes the bundle."""
    Path("authorities.toml").unlink()
    Path("bundle-key.pem").write_bytes(bundle_key_pem())
    text = client.read_text(encoding="utf-8")
    client.write_text(text.replace("[client]\n", '[client]\nbundle_key = "bundle-key.pem"\n'), encoding="utf-8")
    assert run("publisher", "init", "web", "--client", "client.toml").exit_code == 0
    waits = run("publisher", "run", "-c", "web/publisher.toml")
    assert "for no bundle is installed yet: cassiopeia publisher install BUNDLE" in waits.stderr

    hierarchy = make_hierarchy()
    for number in (1, 2):
        bundle = client_bundle(hierarchy, names=[FIRST] if number == 1 else [FIRST, SECOND], number=number)
        Path("client.bundle").write_bytes(signed(bundle))
        looked = run("publisher", "install", "-c", "web/publisher.toml", "client.bundle", "--dry-run")
        assert (looked.exit_code, load_publisher_config(Path("web/publisher.toml")).bundles.number) == (0, number - 1)
        done = run("publisher", "install", "-c", "web/publisher.toml", "client.bundle")
        assert done.exit_code == 0
        config = load_publisher_config(Path("web/publisher.toml"))
        assert config.bundles.number == number
        assert len(load_authorities(config.authorities)) == number
    again = run("publisher", "install", "-c", "web/publisher.toml", "client.bundle")
    assert "It is installed already; nothing was changed." in again.stdout


@pytest.mark.parametrize("at", [10, 200, -10])
def test_a_bundle_with_a_flipped_bit_changes_nothing(client: Path, at: int) -> None:
    Path("bundle-key.pem").write_bytes(bundle_key_pem())
    text = client.read_text(encoding="utf-8")
    client.write_text(text.replace("[client]\n", '[client]\nbundle_key = "bundle-key.pem"\n'), encoding="utf-8")
    run("publisher", "init", "web", "--client", "client.toml")
    octets = bytearray(signed(client_bundle(make_hierarchy())))
    octets[at] ^= 1
    Path("client.bundle").write_bytes(octets)
    there = {path: path.read_bytes() for path in Path("web").rglob("*") if path.is_file()}

    done = run("publisher", "install", "-c", "web/publisher.toml", "client.bundle")

    assert done.exit_code == 1
    assert done.stdout == ""
    assert {path: path.read_bytes() for path in Path("web").rglob("*") if path.is_file()} == there
