"""Machines that are made one by one, and what a ceremony gives to them, as people type it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from tests.support.bundles import (
    BUNDLE_PASSPHRASE,
    FIRST,
    PROFILE,
    SECOND,
    SmallHierarchy,
    bundle_key_pem,
    client_bundle,
    make_hierarchy,
    publication_bundle,
    signed,
    signer_bundle,
    with_file,
)

from cassiopeia import sealing
from cassiopeia.cli import options
from cassiopeia.cli.main import cassiopeia
from cassiopeia.config import SignerConfig, load_client_config, load_signer_config
from cassiopeia.installations import Staged
from cassiopeia.link.credentials import client_tls, signer_tls
from cassiopeia.signer import installing
from cassiopeia.signer.keystore.ca_key import CA_KEY_ALGORITHMS

GIVEN = ["--signer", "bundle-key.pem", "--journal", "bundle-key.pem"]


@pytest.fixture(autouse=True)
def _in_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bundle-key.pem").write_bytes(bundle_key_pem())


@pytest.fixture
def hierarchy() -> SmallHierarchy:
    return make_hierarchy()


def run(*arguments: str, status: int = 0) -> Result:
    done = CliRunner().invoke(cassiopeia, arguments, prog_name="cassiopeia")
    assert done.exit_code == status, done.output
    return done


def error(*arguments: str) -> str:
    return " ".join(run(*arguments, status=1).stderr.split())


def make_both() -> None:
    run("signer", "init", "signer", "--id", "1", "--listen", "unix:signer.sock", "--bundle-key", "bundle-key.pem")
    files = ["--signer", "signer/link.pem", "--journal", "signer/journal.pem", "--bundle-key", "bundle-key.pem"]
    run("client", "init", "client", "--connect", "unix:../signer/signer.sock", *files)
    Path("signer/peers/client.pem").write_bytes(Path("client/link.pem").read_bytes())


def everything() -> dict[str, bytes]:
    return {str(each): each.read_bytes() for each in sorted(Path().rglob("*")) if each.is_file()}


def test_the_kinds_of_key_are_those_that_there_are() -> None:
    assert options.CA_KEY_ALGORITHMS == CA_KEY_ALGORITHMS


def test_two_machines_that_were_made_apart_know_each_other() -> None:
    make_both()

    signer = load_signer_config(Path("signer/signer.toml"))
    client = load_client_config(Path("client/client.toml"))
    ours = signer_tls(certificate=signer.certificate, key=signer.key, peers=signer.peers)
    theirs = client_tls(certificate=client.certificate, key=client.key, peers=client.peers)
    assert ours.peer_pins == {2: frozenset({theirs.own_pins[2]})}
    assert theirs.peer_pins == {2: frozenset({ours.own_pins[2]})}
    assert signer.signer_id == 1


def test_each_says_what_has_to_be_carried_where() -> None:
    said = run("signer", "init", "signer", "--id", "3", "--listen", "serial:/dev/ttyS0").stdout

    assert "link.pem, journal.pem  to its client" in said
    assert "sealing.pem            to the ceremony" in said
    assert sealing.sealing_fingerprint(Path("signer/sealing.pem").read_bytes()) in said
    assert "as peers/client.pem" in said
    assert "bundle-key.pem of the ceremony" in said
    assert "cassiopeia signer install BUNDLE -c signer/signer.toml" in said
    options = ["--signer", "signer/link.pem", "--journal", "signer/journal.pem"]
    said = run("client", "init", "client", "--connect", "serial:/dev/ttyS1", *options).stdout
    assert "to the signer, as peers/client.pem" in said
    assert "cassiopeia client install BUNDLE -c client/client.toml" in said
    assert Path("client/store.sqlite").exists()


def test_secrets_of_a_signer_are_its_owners_alone() -> None:
    run("signer", "init", "signer", "--id", "1", "--listen", "unix:s")

    for path in Path("signer").rglob("*"):
        if path.suffix == ".key" or path.name == "passphrase":
            assert path.stat().st_mode & 0o777 == 0o600, path
    assert Path("signer").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["signer", "init", "bundle-key.pem", "--id", "1", "--listen", "unix:s"], "a signer is never overwritten"),
        (["signer", "init", "new", "--id", "1", "--listen", "pigeon:x"], "link.listen"),
        (
            [
                "client",
                "init",
                "bundle-key.pem",
                "--connect",
                "unix:s",
                "--signer",
                "bundle-key.pem",
                "--journal",
                "bundle-key.pem",
            ],
            "a client is never overwritten",
        ),
        (
            [
                "client",
                "init",
                "new",
                "--connect",
                "pigeon:x",
                "--signer",
                "bundle-key.pem",
                "--journal",
                "bundle-key.pem",
            ],
            "link.connect",
        ),
        (
            ["client", "init", "new", "--connect", "unix:s", "--signer", "bundle-key.pem", "--journal", "text"],
            "is not a public key in PEM",
        ),
    ],
    ids=["occupied", "address", "client occupied", "client address", "journal"],
)
def test_a_machine_that_cannot_be_made_leaves_nothing(arguments: list[str], words: str) -> None:
    Path("text").write_text("none")
    before = everything()

    assert words in error(*arguments)

    assert everything() == before
    assert not list(Path().glob(".*"))


def test_the_signer_without_a_bundle_says_what_to_do() -> None:
    make_both()

    assert "no bundle is installed yet: cassiopeia signer install BUNDLE" in error(
        "signer", "run", "-c", "signer/signer.toml"
    )
    assert "no bundle is installed yet: cassiopeia client install BUNDLE" in error(
        "client", "run", "--drain", "-c", "client/client.toml"
    )


def test_a_bundle_is_looked_at_first_and_then_installed(hierarchy: SmallHierarchy) -> None:
    make_both()
    Path("signer-1.bundle").write_bytes(signed(signer_bundle(hierarchy)))
    Path("signer-1.passphrase").write_bytes(BUNDLE_PASSPHRASE + b"\n")
    before = everything()
    command = [
        "signer",
        "install",
        "-c",
        "signer/signer.toml",
        "signer-1.bundle",
        "--passphrase-file",
        "signer-1.passphrase",
    ]

    dry = run(*command, "--dry-run").stdout
    assert everything() == before
    assert f"  sub-CA {FIRST}: new" in dry
    assert "Installed" not in dry
    shown, _, last = dry.rpartition("Nothing")
    assert last == " was changed: this was a dry run.\n"
    assert hierarchy.root_key.hex() in dry
    done = run(*command).stdout
    assert done.startswith(shown)
    assert "signer/bundles/0001; a signer that runs takes it over" in done
    assert "signer-1.passphrase is of no use any more" in done
    assert load_signer_config(Path("signer/signer.toml")).bundles.number == 1
    assert BUNDLE_PASSPHRASE.decode() not in done
    for again in (command, [*command, "--dry-run"]):
        assert run(*again).stdout.endswith("It is installed already; nothing was changed.\n")


def test_a_sealed_bundle_needs_no_passphrase(hierarchy: SmallHierarchy) -> None:
    make_both()
    sealed = signer_bundle(hierarchy, sealed_to=Path("signer/sealing.pem").read_bytes())
    Path("signer-1.bundle").write_bytes(signed(sealed))

    run("signer", "install", "-c", "signer/signer.toml", "signer-1.bundle")

    assert load_signer_config(Path("signer/signer.toml")).bundles.number == 1


def test_an_error_is_one_line_and_nothing_is_changed(hierarchy: SmallHierarchy) -> None:
    make_both()
    Path("b").write_bytes(signed(signer_bundle(hierarchy)))
    Path("c").write_bytes(signed(client_bundle(hierarchy)))
    before = everything()

    assert "give it with --passphrase-file" in error("signer", "install", "-c", "signer/signer.toml", "b")
    assert "it is of the kind client" in error("signer", "install", "-c", "signer/signer.toml", "c")
    assert "it is of the kind signer" in error("client", "install", "-c", "client/client.toml", "b")
    assert "this is not the DER" in error("client", "install", "-c", "client/client.toml", "bundle-key.pem")

    assert everything() == before


def test_a_machine_of_somebody_else_is_left_to_them(hierarchy: SmallHierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    make_both()
    Path("c").write_bytes(signed(client_bundle(hierarchy)))
    monkeypatch.setattr(os, "geteuid", lambda: 4_242)

    said = error("client", "install", "-c", "client/client.toml", "c")

    assert "belongs to the user" in said
    assert "who has to install: sudo -u" in said


def test_a_client_is_given_its_bundle_and_what_it_publishes(hierarchy: SmallHierarchy) -> None:
    make_both()
    Path("client.bundle").write_bytes(signed(client_bundle(hierarchy)))
    Path("publication.bundle").write_bytes(signed(publication_bundle(hierarchy)))
    install = ["client", "install", "-c", "client/client.toml"]

    assert f"profile {PROFILE}: new" in run(*install, "client.bundle", "--dry-run").stdout
    assert load_client_config(Path("client/client.toml")).bundles.number == 0
    assert "Installed in" in run(*install, "client.bundle").stdout
    assert load_client_config(Path("client/client.toml")).bundles.number == 1
    assert "nothing was changed" in run(*install, "client.bundle").stdout
    assert "It would be published" in run(*install, "publication.bundle", "--dry-run").stdout
    assert not list(Path("client/public").iterdir())
    assert "root.crl: new" in run(*install, "publication.bundle").stdout
    assert Path("client/public/root.crl").exists()
    assert "nothing changes" in run(*install, "publication.bundle").stdout


def test_a_validator_is_given_the_clients_bundle(hierarchy: SmallHierarchy) -> None:
    make_both()
    Path("client.bundle").write_bytes(signed(client_bundle(hierarchy)))
    run("client", "install", "-c", "client/client.toml", "client.bundle")
    run("validator", "init", "web", "--client", "client/client.toml")
    text = "# more than before\n" + client_bundle(hierarchy).file(f"profiles/{PROFILE}.toml").decode()
    second = with_file(client_bundle(hierarchy, number=2), "profiles/0004-server.toml", text.encode())
    Path("second.bundle").write_bytes(signed(second))

    said = run("validator", "install", "-c", "web/validator.toml", "second.bundle").stdout

    assert "  profile 0004-server: new\n" in said
    assert "sub-CA" not in said
    assert Path("web/bundles/current").readlink() == Path("0002")


@pytest.mark.parametrize("algorithm", ["P-256", "Ed25519", "RSA-2048", "ML-DSA-44"])
def test_a_key_is_born_in_the_signer_and_a_request_comes_out(algorithm: str) -> None:
    make_both()
    command = ["signer", "csr", "-c", "signer/signer.toml", SECOND, "--key-algorithm", algorithm]

    done = run(*command, "--out", "sub.csr")

    request = x509.load_pem_x509_csr(Path("sub.csr").read_bytes())
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == f"CN={SECOND}"
    path = Path("signer/keys") / f"{SECOND}.key"
    assert path.stat().st_mode & 0o777 == 0o600
    passphrase = Path("signer/passphrase").read_bytes().strip()
    assert load_pem_private_key(path.read_bytes(), passphrase).public_key() == request.public_key()
    assert str(path) in done.stderr
    before = everything()
    assert "is there already, and nothing is overwritten" in error(*command)
    assert everything() == before


def test_a_key_that_is_there_is_asked_for_again() -> None:
    make_both()
    command = ["signer", "csr", "-c", "signer/signer.toml", SECOND]
    run(*command, "--key-algorithm", "P-384", "--key-uri", "file:state/own.key", "--out", "first.csr")

    done = run(*command, "--key-uri", "file:state/own.key", "--existing")

    requests = (Path("first.csr").read_bytes(), done.stdout.encode())
    first, second = (x509.load_pem_x509_csr(each).public_key() for each in requests)
    assert first == second
    assert f"write into {Path('signer/signer.toml').absolute()}:" in done.stderr
    assert f'[authority.{SECOND}]\nkey = "file:state/own.key"\n' in done.stderr
    both = run(*command, "--existing", "--key-algorithm", "P-384", status=2).stderr
    assert "Give either --existing or --key-algorithm" in both


def test_a_passphrase_that_was_read_is_overwritten(hierarchy: SmallHierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    make_both()
    Path("signer.bundle").write_bytes(signed(signer_bundle(hierarchy)))
    Path("opens").write_bytes(b" " + BUNDLE_PASSPHRASE + b"\r\n")
    seen: list[bytearray] = []
    stage = installing.stage

    def watched(config: SignerConfig, octets: bytes, *, passphrase: bytearray) -> Staged:
        assert bytes(passphrase) == BUNDLE_PASSPHRASE
        seen.append(passphrase)
        return stage(config, octets, passphrase=passphrase)

    monkeypatch.setattr(installing, "stage", watched)

    run("signer", "install", "-c", "signer/signer.toml", "signer.bundle", "--passphrase-file", "opens")

    assert [set(each) for each in seen] == [{0}]


def test_a_request_goes_to_stdout_without_a_file_for_it() -> None:
    make_both()

    done = run("signer", "csr", "-c", "signer/signer.toml", SECOND, "--key-algorithm", "P-256")

    assert done.stdout.startswith("-----BEGIN CERTIFICATE REQUEST-----\n")


def test_a_name_that_no_sub_ca_has_is_refused() -> None:
    make_both()

    assert "is not the name of a sub-CA" in error("signer", "csr", "-c", "signer/signer.toml", "../root")
