"""A small hierarchy, and bundles of it: right ones, and such as no ceremony would make."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)
from tests.support import links
from tests.support.authorities import PROFILES, TestCa, make_ca
from tests.support.operators import public_pem

from cassiopeia import sealing
from cassiopeia.config import SignerConfig, load_signer_config
from cassiopeia.config.toml_writer import toml_document
from cassiopeia.core.bundle import CLIENT, PUBLICATION, SIGNER, Bundle, BundleFile, sealing_context, sign_bundle
from cassiopeia.signer.machine import SignerFiles, make_signer

# The sub-CAs are of 2026 and 2027, whenever a test runs.
NOW = dt.datetime(2026, 11, 23, 12, 30, 15, tzinfo=dt.UTC)
BUNDLE_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"the bundle key of the tests").digest())
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"the bundle key of another hierarchy").digest())
BUNDLE_PASSPHRASE = secrets.token_hex(32).encode()
PROFILE = "9004-unproved-server"
FIRST, SECOND = "unassured_2026_2", "unassured_2027_1"


def bundle_key_pem(key: Ed25519PrivateKey = BUNDLE_KEY) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, kw_only=True)
class SmallHierarchy:
    """A root, one structure CA `unassured`, and time sub-CAs by their names."""

    root: TestCa
    structure: TestCa
    time: Mapping[str, TestCa]

    @property
    def root_key(self) -> bytes:
        spki = self.root.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).digest()

    def certificate(self, name: str) -> TestCa:
        return {"root": self.root, "unassured": self.structure, **self.time}[name]


def make_hierarchy(names: Sequence[str] = (FIRST, SECOND)) -> SmallHierarchy:
    root = make_ca("root", key=_key())
    structure = make_ca("unassured", key=_key(), issuer=root)
    return SmallHierarchy(
        root=root, structure=structure, time={name: make_ca(name, key=_key(), issuer=structure) for name in names}
    )


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def authority_table(name: str, **changes: object) -> dict[str, object]:
    year, number = (int(each) for each in name.split("_")[1:])
    start = dt.datetime(year, 1 + 6 * (number - 1), 1, tzinfo=dt.UTC)
    return {
        "name": name,
        "certificate": f"certificates/{name}.pem",
        "issuer": "unassured",
        "signer_id": 1,
        "issues_from": max(start, NOW - dt.timedelta(days=20)),
        "issues_until": start + dt.timedelta(days=184),
        "maximum_certificates": 100,
        **changes,
    }


def signer_bundle(
    hierarchy: SmallHierarchy,
    *,
    number: int = 1,
    names: Iterable[str] | None = None,
    keys: Iterable[str] | None = None,
    sealed_to: bytes | None = None,
    operators: int = 0,
    tables: Mapping[str, Mapping[str, object]] | None = None,
) -> Bundle:
    """For signer 1: these sub-CAs (none named: all), with the keys of those in `keys` (None: of all of them)."""
    names = list(hierarchy.time if names is None else names)
    files = {
        "authorities.toml": toml_document(
            {"authority": [authority_table(name, **(tables or {}).get(name, {})) for name in names]}
        ),
        f"profiles/{PROFILE}.toml": (PROFILES / f"{PROFILE}.toml").read_text(),
        "pins.toml": toml_document(
            {
                "orders": {"operators": [f"operators/{each}.pem" for each in range(operators)], "quorum": 1},
                "validator": [{"name": "web", "key": "validators/web.pem", "kinds": ["attestation"]}],
            }
        ),
        "validators/web.pem": public_pem(3).decode(),
        **{f"operators/{each}.pem": public_pem(each).decode() for each in range(operators)},
        **{
            f"certificates/{name}.pem": hierarchy.certificate(name).pem.decode()
            for name in [*names, "root", "unassured"]
        },
    }
    kept = names if keys is None else keys
    return Bundle(
        kind=SIGNER,
        root_key=hierarchy.root_key,
        number=number,
        made_at=NOW,
        signer_id=1,
        files=_files(files),
        secrets=tuple(BundleFile(name=f"keys/{name}.key", octets=encrypted(hierarchy.time[name].key)) for name in kept),
        sealed_passphrase=None
        if sealed_to is None
        else sealing.seal(
            BUNDLE_PASSPHRASE,
            sealed_to,
            context=sealing_context(root_key=hierarchy.root_key, number=number, signer_id=1),
        ),
    )


def client_bundle(
    hierarchy: SmallHierarchy,
    *,
    number: int = 1,
    names: Iterable[str] | None = None,
    above: Sequence[str] | None = None,
) -> Bundle:
    names = list(hierarchy.time if names is None else names)
    chain = {"root": "root", "unassured": "root"}
    files = {
        "authorities.toml": toml_document(
            {
                "authority": [authority_table(name) for name in names],
                "ca": [
                    {"name": name, "certificate": f"certificates/{name}.pem", "issuer": issuer}
                    for name, issuer in chain.items()
                    if above is None or name in above
                ],
            }
        ),
        f"profiles/{PROFILE}.toml": (PROFILES / f"{PROFILE}.toml").read_text(),
        "hierarchy.toml": "# for people\n",
        **{f"certificates/{name}.pem": hierarchy.certificate(name).pem.decode() for name in [*names, *chain]},
    }
    return Bundle(
        kind=CLIENT, root_key=hierarchy.root_key, number=number, made_at=NOW, signer_id=0, files=_files(files)
    )


def publication_bundle(hierarchy: SmallHierarchy, *, number: int = 1, crl_number: int = 1) -> Bundle:
    files: dict[str, bytes] = {"fingerprints.txt": b"fingerprints\n"}
    for name in ("root", "unassured", *hierarchy.time):
        ca = hierarchy.certificate(name)
        files[f"{name}.crt"], files[f"{name}.pem"] = ca.der, ca.pem
    for name in ("root", "unassured"):
        crl = make_crl(hierarchy.certificate(name), number=crl_number)
        files[f"{name}.crl"] = crl.public_bytes(Encoding.DER)
        files[f"{name}.crl.pem"] = crl.public_bytes(Encoding.PEM)
    return Bundle(
        kind=PUBLICATION,
        root_key=hierarchy.root_key,
        number=number,
        made_at=NOW,
        signer_id=0,
        files=tuple(BundleFile(name=name, octets=octets) for name, octets in files.items()),
    )


def make_crl(ca: TestCa, *, number: int) -> x509.CertificateRevocationList:
    key = ca.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(NOW)
        .next_update(NOW + dt.timedelta(days=180))
        .add_extension(x509.CRLNumber(number), critical=False)
        .sign(key, hashes.SHA256())
    )


def signed(bundle: Bundle, key: Ed25519PrivateKey = BUNDLE_KEY) -> bytes:
    return sign_bundle(bundle, key)


def with_file(bundle: Bundle, name: str, octets: bytes | None) -> Bundle:
    """The same bundle with another file of this name, or with none."""
    others = tuple(each for each in bundle.files if each.name != name)
    return replace(bundle, files=others if octets is None else (*others, BundleFile(name=name, octets=octets)))


def encrypted(key: object, passphrase: bytes = BUNDLE_PASSPHRASE) -> bytes:
    octets: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))  # type: ignore[attr-defined] # any private key
    return octets


def _files(texts: Mapping[str, str]) -> tuple[BundleFile, ...]:
    return tuple(BundleFile(name=name, octets=text.encode()) for name, text in texts.items())


@dataclass(frozen=True, kw_only=True)
class SignerMachine:
    """A signer's directory that waits for its first bundle."""

    directory: Path
    hierarchy: SmallHierarchy = field(default_factory=make_hierarchy)

    @property
    def config(self) -> SignerConfig:
        """As it is read now."""
        return load_signer_config(self.directory / "signer.toml")

    @property
    def passphrase(self) -> bytes:
        return (self.directory / "passphrase").read_bytes().strip()

    def everything(self) -> dict[str, bytes]:
        """Every file and link, with what is in it: for what must not have changed."""
        found = {}
        for path in sorted(self.directory.rglob("*")):
            name = str(path.relative_to(self.directory))
            if path.is_symlink():
                found[name] = str(path.readlink()).encode()
            elif path.is_file():
                found[name] = path.read_bytes()
            else:
                found[name] = b"a directory"
        return found


def make_signer_machine(directory: Path) -> SignerMachine:
    client = links.certificate("client").read_bytes()
    given = SignerFiles(signer_id=1, listen="tcp:127.0.0.1:4433", bundle_key=bundle_key_pem(), peers={"client": client})
    make_signer(directory, given)
    return SignerMachine(directory=directory)
