"""Bundles whose signatures are right, and which are not what they should be: no ceremony lets them out."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.unit.ceremony.test_holding import declared, hold

from cassiopeia.ceremony import proving
from cassiopeia.ceremony.conducting import Outcome
from cassiopeia.core.bundle import Bundle, BundleFile, read_bundle, sign_bundle
from cassiopeia.errors import OperatorError

SIGNER = "signer-1.bundle"
CLIENT = "client.bundle"
PUBLICATION = "publication.bundle"


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What a ceremony wrote, in a place of this test's own, and what it was proved against."""

    directory: Path
    outcome: Outcome
    arguments: dict[str, Any]

    def repeat(self) -> object:
        return proving.prove(self.directory, self.outcome, **self.arguments)

    def bundle(self, name: str) -> Bundle:
        key = self.outcome.safe.bundle_key.public_key()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return read_bundle((self.directory / name).read_bytes(), public_key=der)

    def write(self, name: str, bundle: Bundle) -> None:
        (self.directory / name).write_bytes(sign_bundle(bundle, self.outcome.safe.bundle_key))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """One ceremony, whose last proof (the first one is its rehearsal's) can be repeated."""
    given: list[tuple[Outcome, dict[str, Any]]] = []
    prove = proving.prove

    def remember(directory: Path, outcome: Outcome, **arguments: Any) -> object:
        given.append((outcome, arguments))
        return prove(directory, outcome, **arguments)

    out = tmp_path_factory.mktemp("ceremony") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proving, "prove", remember)
        hold(out, declaration=declared())
    outcome, arguments = given[-1]
    return Proof(directory=out, outcome=outcome, arguments=arguments)


@pytest.fixture
def proof(made: Proof, tmp_path: Path) -> Proof:
    shutil.copytree(made.directory, tmp_path / "copy")
    return replace(made, directory=tmp_path / "copy")


def test_what_a_ceremony_wrote_is_right(proof: Proof) -> None:
    for name in (SIGNER, CLIENT, PUBLICATION):
        before = (proof.directory / name).read_bytes()
        proof.write(name, proof.bundle(name))
        assert (proof.directory / name).read_bytes() == before
    proof.repeat()


def a_key_too_few(proof: Proof, bundle: Bundle) -> Bundle:
    assert len(bundle.secrets) > 1
    return replace(bundle, secrets=bundle.secrets[1:])


def keys_swapped(proof: Proof, bundle: Bundle) -> Bundle:
    first, second, *others = bundle.secrets
    swapped = (replace(first, octets=second.octets), replace(second, octets=first.octets))
    return replace(bundle, secrets=(*swapped, *others))


def files_of_another(proof: Proof, bundle: Bundle) -> Bundle:
    return replace(bundle, files=proof.bundle("signer-2.bundle").files)


def a_secret(proof: Proof, bundle: Bundle) -> Bundle:
    return replace(bundle, secrets=proof.bundle(SIGNER).secrets)


def a_sealed_passphrase(proof: Proof, bundle: Bundle) -> Bundle:
    return replace(bundle, sealed_passphrase=b"sealed")


def another_number(proof: Proof, bundle: Bundle) -> Bundle:
    return replace(bundle, number=bundle.number + 1)


def another_root(proof: Proof, bundle: Bundle) -> Bundle:
    return replace(bundle, root_key=bytes(32))


def crls_swapped(proof: Proof, bundle: Bundle) -> Bundle:
    other = {"root.crl": "assured.crl", "assured.crl": "root.crl"}
    changed = (BundleFile(name=each.name, octets=bundle.file(other.get(each.name, each.name))) for each in bundle.files)
    return replace(bundle, files=tuple(changed))


def a_revocation_too_many(proof: Proof, bundle: Bundle) -> Bundle:
    safe = proof.outcome.safe
    right = x509.load_der_x509_crl(bundle.file("root.crl"))
    moment = right.last_update_utc
    serial_number = safe.certificates["assured"].serial_number
    entry = x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(moment).build()
    builder = x509.CertificateRevocationListBuilder().issuer_name(right.issuer).add_revoked_certificate(entry)
    builder = builder.last_update(moment).next_update(right.next_update_utc or moment)
    for extension in right.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    wrong = builder.sign(safe.keys["root"], hashes.SHA256()).public_bytes(Encoding.DER)
    files = (replace(each, octets=wrong) if each.name == "root.crl" else each for each in bundle.files)
    return replace(bundle, files=tuple(files))


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        (SIGNER, a_key_too_few, "signer-1.bundle: has not the keys that were made for this signer"),
        (SIGNER, keys_swapped, "does not fit its certificate"),
        (SIGNER, files_of_another, "signer-1.bundle: has a sub-CA of another signer"),
        (SIGNER, another_number, "signer-1.bundle: says another kind, number or hierarchy than it should"),
        (CLIENT, a_secret, "client.bundle: has something secret in it"),
        (CLIENT, a_sealed_passphrase, "client.bundle: has something secret in it"),
        (CLIENT, another_root, "client.bundle: says another kind, number or hierarchy than it should"),
        (PUBLICATION, crls_swapped, "root: its CRL is wrong: "),
        (PUBLICATION, a_revocation_too_many, "root: its CRL does not list exactly what was revoked"),
    ],
)
def test_what_was_signed_and_is_wrong_is_noticed(
    proof: Proof, name: str, spoil: Callable[[Proof, Bundle], Bundle], reason: str
) -> None:
    proof.write(name, spoil(proof, proof.bundle(name)))

    with pytest.raises(OperatorError, match=re.escape(reason)):
        proof.repeat()
