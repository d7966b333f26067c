"""`certificate revoke --key` and `--proof`: the key's own word, checked at once, and never the key itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from tests.support.authorities import PrivateKey, make_ca
from tests.support.client_store import opened_client_store, run
from tests.support.compromising import KINDS, key_of, prove
from tests.support.store import NOW, issued, lease_revoke, lease_sign, submit

from cassiopeia.cli.main import cassiopeia
from cassiopeia.core.compromise import CompromiseClaim, check_compromise
from cassiopeia.store.database import Store

KEY = key_of("Ed25519")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with opened_client_store(tmp_path, monkeypatch) as opened:
        yield opened


def certify(store: Store, key: PrivateKey = KEY) -> x509.Certificate:
    """A certificate for this key in the store."""
    made = make_ca("somebody", key=key, is_ca=False, key_cert_sign=False)
    submit(store, 1)
    [job] = lease_sign(store)
    result = issued(job, serial_number=made.certificate.serial_number, certificate=made.der)
    store.results.finish_issued([result], now=NOW)
    return made.certificate


def write_key(key: PrivateKey | x25519.X25519PrivateKey = KEY, passphrase: bytes = b"") -> None:
    encryption: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    Path("key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def check_queued(store: Store, certificate: x509.Certificate) -> None:
    """What a client will lease has the reason, and a proof that holds."""
    record = store.certificates.look_up(f"{certificate.serial_number:x}")
    assert (record.revocation_state, record.revocation_reason) == ("requested", 1)
    assert record.revocation_requested_at is not None
    [job] = lease_revoke(store, at=record.revocation_requested_at)
    assert job.revocation.proof is not None
    check_compromise(
        CompromiseClaim(
            serial_number=certificate.serial_number.to_bytes(20, "big"),
            tbs_certificate=certificate.tbs_certificate_bytes,
            proof=job.revocation.proof,
        )
    )


def error_of(certificate: x509.Certificate, *options: str, status: int = 1) -> str:
    result = run("certificate", "revoke", f"{certificate.serial_number:x}", *options)
    assert (result.exit_code, result.stdout) == (status, "")
    return result.stderr


def check_nothing_asked(store: Store, certificate: x509.Certificate) -> None:
    assert store.certificates.look_up(f"{certificate.serial_number:x}").revocation_state == "none"


@pytest.mark.parametrize("kind", KINDS)
def test_the_key_says_that_it_is_compromised(store: Store, kind: str) -> None:
    certificate = certify(store, key_of(kind))
    write_key(key_of(kind))
    result = run("certificate", "revoke", f"{certificate.serial_number:x}", "--key", "key.pem")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith(": the revocation is queued\n")
    check_queued(store, certificate)


def test_the_beginning_of_the_serial_number_is_enough(store: Store) -> None:
    certificate = certify(store)
    write_key()
    serial = store.certificates.look_up(f"{certificate.serial_number:x}").serial_number
    assert run("certificate", "revoke", serial[:8], "--key", "key.pem", "--reason", "keyCompromise").exit_code == 0
    check_queued(store, certificate)


def test_an_encrypted_key_is_unlocked(store: Store) -> None:
    certificate = certify(store)
    write_key(passphrase=b"correct horse")
    Path("passphrase").write_text("correct horse\n")
    arguments = ["certificate", "revoke", f"{certificate.serial_number:x}", "--key", "key.pem"]
    asked = CliRunner().invoke(cassiopeia, arguments, input="wrong\n", prog_name="cassiopeia")
    assert "key.pem: wrong passphrase, or the key is damaged" in asked.stderr
    check_nothing_asked(store, certificate)
    asked = CliRunner().invoke(cassiopeia, arguments, input="correct horse\n", prog_name="cassiopeia")
    assert asked.exit_code == 0
    assert run(*arguments, "--passphrase-file", "passphrase").exit_code == 0
    check_queued(store, certificate)


def test_a_proof_that_was_made_elsewhere_is_taken(store: Store) -> None:
    certificate = certify(store)
    Path("proof").write_bytes(prove(KEY, certificate.serial_number, certificate.tbs_certificate_bytes))
    assert run("certificate", "revoke", f"{certificate.serial_number:x}", "--proof", "proof").exit_code == 0
    check_queued(store, certificate)


def test_a_wrong_key_is_said_to_be_one(store: Store) -> None:
    certificate = certify(store)
    write_key(key_of("Ed25519", 1))
    line = error_of(certificate, "--key", "key.pem")
    assert f"key.pem: this is not the key of the certificate {certificate.serial_number:x}" in line
    write_key(x25519.X25519PrivateKey.generate())
    assert "this is not the key of the certificate" in error_of(certificate, "--key", "key.pem")
    check_nothing_asked(store, certificate)


def test_a_wrong_proof_is_refused_here(store: Store) -> None:
    certificate = certify(store)
    Path("proof").write_bytes(prove(KEY, certificate.serial_number + 1, certificate.tbs_certificate_bytes))
    line = error_of(certificate, "--proof", "proof")
    assert "proof: The proof that the key of certificate" in line
    assert "make it anew" in line
    check_nothing_asked(store, certificate)


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--key", "none.pem"), 1, "none.pem: cannot read the key: No such file"),
        (("--proof", "none"), 1, "none: cannot read the proof: No such file"),
        (("--key", "authorities.toml"), 1, "authorities.toml: this is no private key in PEM"),
        (("--key", "key.pem", "--reason", "superseded"), 2, "leave --reason out"),
        (("--proof", "key.pem", "--reason", "unspecified"), 2, "leave --reason out"),
        (("--key", "key.pem", "--proof", "proof"), 2, "not both"),
    ],
)
def test_what_proves_nothing_is_one_line(store: Store, options: tuple[str, ...], status: int, words: str) -> None:
    certificate = certify(store)
    write_key()
    Path("authorities.toml").write_text("no key")
    assert words in error_of(certificate, *options, status=status)
    check_nothing_asked(store, certificate)
