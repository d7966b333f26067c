"""The safe: everything that a ceremony leaves for the next one, in one file, whose keys open with one secret.

Owns the offline bundle: what is in it, how its keys are encrypted, and how it is opened. The secret is a key-encryption
key of 32 random octets; in hex it is the passphrase of every key file. It lies beside the bundle in a file of its own,
or is split into shares (`shares`) and written nowhere.

Who gives a false bundle cannot know that secret: the key that signed it has to be the one inside. An older bundle than
the last one opens like any other, so people are told its number and its date.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from cassiopeia.ceremony.declaration import HIERARCHY_FILE as HIERARCHY_NAME
from cassiopeia.ceremony.declaration import Declaration, portable_files, read_declaration
from cassiopeia.ceremony.hierarchy import ROOT_NAME
from cassiopeia.ceremony.inspection import unlock_key
from cassiopeia.ceremony.key_ceremony import CertificationAuthority, encrypt_key
from cassiopeia.ceremony.record import RECORD_NAME, Record, read_record, write_record
from cassiopeia.core import structure
from cassiopeia.core.bundle import (
    KINDS,
    MAXIMUM_OCTETS,
    OFFLINE,
    Bundle,
    BundleFile,
    SignedBundle,
    read_bundle,
    sign_bundle,
)
from cassiopeia.errors import OperatorError, PeerError

SECRET_OCTETS: Final = 32
OFFLINE_NAME: Final = "offline.bundle"
PASSPHRASE_NAME: Final = "offline.passphrase"  # noqa: S105 - the name of a file
SHARES_DIRECTORY: Final = "shares"
BUNDLE_KEY_NAME: Final = "bundle-key.pem"

_BUNDLE_PRIVATE: Final = "keys/bundle.key"
_FOR_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_PASSPHRASE: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Safe:
    """What is in the safe.

    `keys` holds those of the offline CAs, and of those whose certificate is awaited, by name: the keys that are there.
    `crls` holds the last CRL of each offline CA that has one.
    """

    declaration: Declaration
    record: Record
    certificates: Mapping[str, x509.Certificate]
    crls: Mapping[str, x509.CertificateRevocationList]
    keys: Mapping[str, CertificateIssuerPrivateKeyTypes] = field(repr=False)
    bundle_key: Ed25519PrivateKey = field(repr=False)

    def holds(self, name: str) -> bool:
        """Whether this CA can sign here: its key and its certificate are in the safe."""
        return name in self.keys and name in self.certificates

    def authority(self, name: str) -> CertificationAuthority:
        """An offline CA that can sign; raises OperatorError when its key is not here."""
        known = self.record.authority(name)
        if not self.holds(name):
            raise OperatorError(f"the key of {name} is not in the safe: whoever holds it has to sign for it")
        return CertificationAuthority(
            name=name, issuer=known.issuer, key=self.keys[name], certificate=self.certificates[name]
        )

    @property
    def bundle_public_pem(self) -> bytes:
        return public_pem(self.bundle_key)


def make_secret() -> bytes:
    """A new key-encryption key. No key derivation has to make up for a weak one."""
    return os.urandom(SECRET_OCTETS)


def offline_bundle(safe: Safe, *, secret: bytes) -> bytes:
    """The signed bundle that `open_safe` opens with the same secret."""
    passphrase = secret.hex().encode()
    contents = portable_files(safe.declaration)
    contents[RECORD_NAME] = write_record(safe.record)
    contents[BUNDLE_KEY_NAME] = safe.bundle_public_pem
    for name, certificate in safe.certificates.items():
        contents[f"certificates/{name}.pem"] = certificate.public_bytes(Encoding.PEM)
    for name, crl in safe.crls.items():
        contents[f"crls/{name}.crl"] = crl.public_bytes(Encoding.DER)
    secrets = {f"keys/{name}.key": encrypt_key(key, passphrase) for name, key in safe.keys.items()}
    secrets[_BUNDLE_PRIVATE] = encrypt_key(safe.bundle_key, passphrase)
    bundle = Bundle(
        kind=OFFLINE,
        root_key=bytes.fromhex(safe.record.root_key),
        number=safe.record.number,
        made_at=safe.record.made_at,
        signer_id=0,
        files=bundle_files(contents),
        secrets=bundle_files(secrets),
    )
    return sign_bundle(bundle, safe.bundle_key)


def bundle_files(contents: Mapping[str, bytes]) -> tuple[BundleFile, ...]:
    return tuple(BundleFile(name=name, octets=octets) for name, octets in sorted(contents.items()))


def read_offline(path: Path) -> tuple[bytes, Bundle]:
    """The octets of an offline bundle, and what is in it but for the keys; raises OperatorError.

    It is whole and unaltered since somebody signed it. Only `open_safe` says that it was the ceremony.
    """
    try:
        if path.stat().st_size > MAXIMUM_OCTETS:
            raise OperatorError(f"{path}: is too large for a bundle: name the offline.bundle of the last ceremony")
        octets = path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the offline bundle: {error.strerror}") from error
    try:
        claimed = structure.decode(Bundle, structure.decode(SignedBundle, octets).bundle)
        if claimed.kind in KINDS and claimed.kind != OFFLINE:
            raise OperatorError(f"{path}: is a {claimed.kind} bundle; the safe's is called {OFFLINE_NAME}")
        bundle = read_bundle(octets, public_key=_public_der(claimed.file(BUNDLE_KEY_NAME)))
    except PeerError as error:
        raise OperatorError(f"{path}: is no offline bundle, or a damaged one: {error}; take another copy") from error
    return octets, bundle


def kept_record(bundle: Bundle) -> Record:
    """The record in a bundle that `read_offline` gave; raises OperatorError."""
    try:
        return read_record(bundle.file(RECORD_NAME))
    except PeerError as error:
        raise OperatorError(f"the offline bundle is not complete: {error}") from error


def open_safe(bundle: Bundle, *, secret: bytes, source: str) -> Safe:
    """What is in an offline bundle that `read_offline` gave, keys and all; raises OperatorError."""
    passphrase = secret.hex().encode()
    # 1. The bundle key says that whoever knew the secret made the bundle.
    private = {each.name: each.octets for each in bundle.secrets}
    record = kept_record(bundle)
    bundle_key = _open_bundle_key(private.get(_BUNDLE_PRIVATE, b""), passphrase, source=source)
    try:
        if public_pem(bundle_key) != bundle.file(BUNDLE_KEY_NAME):
            raise OperatorError(f"{source}: was signed by another key than the one in it: it is false; take another")
        # 2. What was declared, and what was made.
        declaration = read_declaration(
            bundle.file(HIERARCHY_NAME).decode(), read=lambda name: _file(bundle, name), source=f"{source}: hierarchy"
        )
        certificates = {
            each.name: x509.load_pem_x509_certificate(bundle.file(f"certificates/{each.name}.pem"))
            for each in record.authorities
        }
        crls = {
            each.name.removeprefix("crls/").removesuffix(".crl"): x509.load_der_x509_crl(each.octets)
            for each in bundle.files
            if each.name.startswith("crls/")
        }
    except (PeerError, ValueError) as error:
        raise OperatorError(f"{source}: is not complete: {error}") from error
    # 3. The keys, each with its certificate.
    names = [each.name for each in record.authorities if each.key == "safe"]
    keys = {}
    for name in [*names, *(each.name for each in record.awaited)]:
        keys[name] = unlock_key(private.get(f"keys/{name}.key", b""), passphrase, name=name)
        if name in certificates and keys[name].public_key() != certificates[name].public_key():
            raise OperatorError(f"{source}: the key of {name} does not fit its certificate; take another copy")
    # 4. All of it is one hierarchy, and one ceremony.
    if not (
        root_key_of(certificates[ROOT_NAME]) == bundle.root_key == bytes.fromhex(record.root_key)
        and bundle.number == record.number
    ):
        raise OperatorError(f"{source}: what it says of itself is not what is in it; take another copy")
    return Safe(
        declaration=declaration,
        record=record,
        certificates=certificates,
        crls=crls,
        keys=keys,
        bundle_key=bundle_key,
    )


def read_secret(path: Path) -> bytes:
    """The safe's secret from `offline.passphrase`; raises OperatorError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(1024).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the safe's passphrase: {error.strerror}") from error
    if mode & _FOR_OTHERS:
        raise OperatorError(f"{path}: others may read the safe's passphrase: chmod 600 {path}")
    if not _PASSPHRASE.fullmatch(text):
        raise OperatorError(f"{path}: is not the safe's passphrase, 64 hexadecimal digits; name offline.passphrase")
    return bytes.fromhex(text)


def secret_text(secret: bytes) -> str:
    """What `read_secret` reads."""
    return f"{secret.hex()}\n"


def root_key_of(certificate: x509.Certificate) -> bytes:
    """Which hierarchy this is: SHA-256 of the root's SubjectPublicKeyInfo."""
    return hashlib.sha256(
        certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).digest()


def public_pem(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def describe(record: Record) -> str:
    """Number and date, by which people see whether it is the newest."""
    return f"ceremony {record.number} of {record.made_at.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"


def _open_bundle_key(pem: bytes, passphrase: bytes, *, source: str) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise OperatorError(
            f"{source}: does not open with this passphrase, or these shares: take those of the same ceremony"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise OperatorError(f"{source}: the key that signs bundles is none; take another copy")
    return key


def _public_der(pem: bytes) -> bytes:
    try:
        return load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PeerError(f"{BUNDLE_KEY_NAME} is no public key") from error


def _file(bundle: Bundle, name: str) -> bytes:
    try:
        return bundle.file(name)
    except PeerError as error:
        raise OSError(f"the bundle has no {name}") from error
