"""Proving what a ceremony wrote, from its files: every bundle, every key, every certificate and CRL.

Owns what has to be true before a directory gets its name. It reads what machines and people will read, with the keys
that they will have, and raises OperatorError for anything that is not as it should be.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cassiopeia import files
from cassiopeia.ceremony import inspection
from cassiopeia.ceremony.bundling import AUTHORITIES_NAME, SignerBundle
from cassiopeia.ceremony.conducting import Outcome
from cassiopeia.ceremony.inspection import Finding
from cassiopeia.ceremony.safe import BUNDLE_KEY_NAME, OFFLINE_NAME, Safe, open_safe, read_offline
from cassiopeia.config import PINS, load_authorities, load_chain, load_pins, load_profiles
from cassiopeia.core.bundle import CLIENT, PUBLICATION, SIGNER, Bundle, BundleFile, read_bundle
from cassiopeia.errors import OperatorError, PeerError

# What the linter says of anything, as how a key identifier was calculated.
_MERE_INFORMATION: Final = ("DEBUG", "INFO", "NOTICE")


def prove(
    directory: Path, outcome: Outcome, *, secret: bytes, signers: Sequence[SignerBundle], now: dt.datetime
) -> tuple[Finding, ...]:
    """Prove what lies in a ceremony's directory; return what the linter remarks, none of it grave."""
    # 1. The safe opens, and has every key.
    _prove_offline(directory / OFFLINE_NAME, outcome, secret)
    # 2. Each bundle verifies with the key that machines will have, and can be read as they will.
    reader = _Reader(directory, outcome.safe)
    for each in signers:
        _prove_signer(reader.bundle(f"signer-{each.signer_id}.bundle", kind=SIGNER, outcome=outcome), each, outcome)
    if outcome.for_machines:
        _prove_client(reader.bundle("client.bundle", kind=CLIENT, outcome=outcome))
    if not outcome.for_machines and not outcome.crls:
        return ()
    # 3. What is published: certificates that are a tree, and CRLs that go on.
    bundle = reader.bundle("publication.bundle", kind=PUBLICATION, outcome=outcome)
    _prove_published(bundle, outcome, now=now)
    _prove_unpacked(directory / "public", bundle)
    # 4. The linter looks at what is new.
    certificates = {each: bundle.file(f"{each}.crt") for each in outcome.certified}
    crls = {each: bundle.file(f"{each}.crl") for each in outcome.crls}
    findings = inspection.lint(certificates=certificates, crls=crls)
    inspection.refuse_grave(findings)
    return tuple(each for each in findings if each.remark.severity not in _MERE_INFORMATION)


class _Reader:
    """Reads bundles with the public key that lies beside them."""

    def __init__(self, directory: Path, safe: Safe) -> None:
        self._directory = directory
        pem = (directory / BUNDLE_KEY_NAME).read_bytes()
        if pem != safe.bundle_public_pem:
            raise OperatorError(f"{BUNDLE_KEY_NAME}: was not written as it should be")
        self._public_key = load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def bundle(self, name: str, *, kind: str, outcome: Outcome) -> Bundle:
        try:
            bundle = read_bundle((self._directory / name).read_bytes(), public_key=self._public_key)
        except (OSError, PeerError) as error:
            raise OperatorError(f"{name}: does not verify as it was written: {error}") from error
        record = outcome.safe.record
        if (bundle.kind, bundle.number, bundle.root_key.hex()) != (kind, record.number, record.root_key):
            raise OperatorError(f"{name}: says another kind, number or hierarchy than it should")
        return bundle


def _prove_offline(path: Path, outcome: Outcome, secret: bytes) -> None:
    _, bundle = read_offline(path)
    again = open_safe(bundle, secret=secret, source=path.name)
    if again.record != outcome.safe.record or set(again.keys) != set(outcome.safe.keys):
        raise OperatorError(f"{path.name}: what is in it is not what was put into it")
    for name, key in again.keys.items():
        if name in again.certificates:
            der = again.certificates[name].public_bytes(Encoding.DER)
            inspection.prove_key(key, name=name, certificate=der)


def _prove_signer(bundle: Bundle, given: SignerBundle, outcome: Outcome) -> None:
    name = f"signer-{given.signer_id}.bundle"
    with _unpacked(bundle.files) as directory:
        entries = load_authorities(directory / AUTHORITIES_NAME)
        load_profiles(directory / "profiles")
        load_pins(directory / PINS)
    certificates = {each.authority.name: each.authority.certificate for each in entries}
    if any(each.authority.signer_id != given.signer_id for each in entries):
        raise OperatorError(f"{name}: has a sub-CA of another signer")
    keys = {each.name.removeprefix("keys/").removesuffix(".key"): each.octets for each in bundle.secrets}
    expected = {each for each in outcome.time_keys if each in certificates}
    if set(keys) != expected:
        raise OperatorError(f"{name}: has not the keys that were made for this signer")
    for each, pem in keys.items():
        inspection.check_key(pem, (given.passphrase or "").encode(), name=each, certificate=certificates[each])


def _prove_client(bundle: Bundle) -> None:
    if bundle.secrets or bundle.sealed_passphrase is not None:
        raise OperatorError("client.bundle: has something secret in it")
    with _unpacked(bundle.files) as directory:
        load_authorities(directory / AUTHORITIES_NAME)
        load_chain(directory / AUTHORITIES_NAME)
        load_profiles(directory / "profiles")


def _prove_published(bundle: Bundle, outcome: Outcome, *, now: dt.datetime) -> None:
    record = outcome.safe.record
    certificates = {each.name.removesuffix(".crt"): each.octets for each in bundle.files if each.name.endswith(".crt")}
    issuers = {name: record.authority(name).issuer for name in certificates}
    adopted = [each.name for each in record.authorities if each.adopted]
    inspection.check_chain(certificates, issuers, adopted=adopted)
    for name in outcome.crls:
        octets = bundle.file(f"{name}.crl")
        revoked = {
            outcome.safe.certificates[each.name].serial_number
            for each in record.authorities
            if each.issuer == name and each.revoked_at is not None
        }
        inspection.check_crl(
            octets,
            name=name,
            issuer=certificates[name],
            number=record.authority(name).crl_number,
            now=now,
            # Before it was adopted, a CA may have revoked what the record knows nothing of.
            revoked=None if name in adopted else revoked,
        )
        listed = {each.serial_number for each in x509.load_der_x509_crl(octets)}
        if not revoked <= listed:
            raise OperatorError(f"{name}: its CRL does not name every CA below it that is revoked")


def _prove_unpacked(directory: Path, bundle: Bundle) -> None:
    for each in bundle.files:
        if (directory / each.name).read_bytes() != each.octets:
            raise OperatorError(f"{directory.name}/{each.name}: is not what the publication bundle has")


@contextmanager
def _unpacked(contents: Sequence[BundleFile]) -> Iterator[Path]:
    """The files of a bundle in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="cassiopeia-") as place:
        directory = Path(place)
        for each in contents:
            path = directory / each.name
            path.parent.mkdir(exist_ok=True)
            files.write_file(path, each.octets)
        yield directory
