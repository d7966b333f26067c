"""A sub-CA's key in a token, from its birth to its signatures, and a key that moves there; with a real SoftHSM."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import PrivateKey, make_ca, rsa_key
from tests.support.bundles import (
    BUNDLE_PASSPHRASE,
    FIRST,
    NOW,
    SECOND,
    SignerMachine,
    make_signer_machine,
    signed,
    signer_bundle,
)
from tests.support.softhsm import MODULE, PIN, SoftHsm, make_softhsm

from cassiopeia.ceremony.hierarchy import default_hierarchy_text
from cassiopeia.core import algorithms
from cassiopeia.core.authority import load_authority
from cassiopeia.signer.installing import activate, stage

PAGE = Path(__file__).resolve().parents[2] / "docs" / "crypto-backends.md"
TOKEN = "cassiopeia"  # noqa: S105 - the name of a token
URI = f"pkcs11:token={TOKEN};object={FIRST}"
OCTETS = b"what a certificate says"

# What a worker does with a key, in a process of its own: it loads the token's library.
SIGN = """
import pathlib, sys
from cassiopeia.config import load_signer_config
from cassiopeia.core import algorithms
from cassiopeia.signer.tasks import Sign, Signed
from cassiopeia.signer.worker import make_worker
from cassiopeia.signer.configuration import own_entries

config = load_signer_config(pathlib.Path(sys.argv[1]))
entry = next(each for each in own_entries(config) if each.authority.name == sys.argv[2])
algorithm = algorithms.algorithms_for(entry.authority.public_key)[0]
signed = make_worker(config).carry_out(
    Sign(task=1, signing_ca=entry.authority.name, algorithm=algorithm.der, octets=sys.argv[3].encode())
)
assert isinstance(signed, Signed), signed
print(signed.signature.hex())
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A signer's machine with a token."""

    machine: SignerMachine
    hsm: SoftHsm

    @property
    def config(self) -> Path:
        return self.machine.directory / "signer.toml"

    def write(self, text: str) -> None:
        self.config.write_text(f"{self.config.read_text(encoding='utf-8')}\n{text}\n", encoding="utf-8")

    def run(self, *command: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "cassiopeia", *command],
            env=self.hsm.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert PIN not in done.stdout + done.stderr
        return done

    def install(self, octets: bytes, *, status: int = 0) -> str:
        bundle = self.hsm.directory / "bundle"
        bundle.write_bytes(octets)
        passphrase = self.hsm.directory / "passphrase"
        passphrase.write_bytes(BUNDLE_PASSPHRASE)
        done = self.run("signer", "install", "-c", self.config, bundle, "--passphrase-file", passphrase, status=status)
        return " ".join((done.stderr if status else done.stdout).split())

    def sign(self, name: str, certificate: bytes) -> None:
        """By a worker's hands; the signature verifies against this certificate."""
        done = subprocess.run(
            [sys.executable, "-c", SIGN, self.config, name, OCTETS.decode()],
            env=self.hsm.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        public_key = load_authority(certificate, name=name, signer_id=1).public_key
        algorithm = algorithms.algorithms_for(public_key)[0]
        algorithms.verify(public_key, algorithm, bytes.fromhex(done.stdout), OCTETS)

    def key_files(self) -> list[str]:
        return sorted(str(each.relative_to(self.machine.directory)) for each in self.machine.directory.rglob("*.key"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    hsm = make_softhsm(tmp_path / "hsm")
    hsm.make_token(TOKEN)
    site = Site(machine=make_signer_machine(tmp_path / "signer"), hsm=hsm)
    site.write(f'[pkcs11]\nmodule = "{MODULE}"\npin_file = "{hsm.write_pin()}"')
    return site


class Elsewhere:
    """Of a key that is in a token, its public half: as much as a certificate needs."""

    def __init__(self, request: bytes) -> None:
        self._public_key = x509.load_pem_x509_csr(request).public_key()

    def public_key(self) -> Any:
        return self._public_key


@pytest.mark.parametrize("algorithm", ["RSA-2048", "P-384", "Ed25519"])
def test_a_key_is_born_in_a_token_and_never_leaves_it(site: Site, algorithm: str) -> None:
    csr: list[str | Path] = ["signer", "csr", "-c", site.config, FIRST]
    before = site.key_files()

    # 1. It is born, and asks for its certificate.
    done = site.run(*csr, "--key-uri", URI, "--key-algorithm", algorithm)
    request = done.stdout.encode()
    assert x509.load_pem_x509_csr(request).is_signature_valid
    line = f'[authority.{FIRST}]\nkey = "{URI}"\n'
    assert line in done.stderr
    assert site.key_files() == before
    said = site.run(*csr, "--key-uri", URI, "--key-algorithm", algorithm, status=1).stderr
    assert "is there already, and nothing is overwritten" in said
    again = site.run(*csr, "--key-uri", URI, "--existing").stdout.encode()
    assert Elsewhere(again).public_key() == Elsewhere(request).public_key()
    # 2. The bundle brings the certificate, and the key is proved where it is.
    site.write(line)
    hierarchy = site.machine.hierarchy
    born = make_ca(FIRST, key=Elsewhere(request), issuer=hierarchy.structure)  # type: ignore[arg-type] # not to sign
    hierarchy = replace(hierarchy, time={**hierarchy.time, FIRST: born})
    octets = signed(signer_bundle(hierarchy, keys=[SECOND]))
    unchanged = site.machine.everything()
    with site.hsm.away():
        assert "this bundle cannot be installed now" in site.install(octets, status=1)
    assert site.machine.everything() == unchanged
    assert "Installed in" in site.install(octets)
    assert site.key_files() == sorted([*before, f"bundles/0001/keys/{SECOND}.key"])
    # 3. It signs.
    site.sign(FIRST, born.certificate.public_bytes(Encoding.DER))
    # 4. The next bundle does not have to know of it.
    site.install(signed(signer_bundle(hierarchy, number=2, keys=[])))
    assert site.key_files() == sorted([*before, f"bundles/0001/keys/{SECOND}.key", f"bundles/0002/keys/{SECOND}.key"])
    site.sign(FIRST, born.certificate.public_bytes(Encoding.DER))


def test_a_key_that_belongs_to_another_sub_ca_is_not_taken(site: Site) -> None:
    site.run("signer", "csr", "-c", site.config, FIRST, "--key-uri", URI, "--key-algorithm", "P-256")
    site.write(f'[authority.{FIRST}]\nkey = "{URI}"')
    before = site.machine.everything()

    said = site.install(signed(signer_bundle(site.machine.hierarchy, keys=[SECOND])), status=1)

    assert f"{FIRST}: the key {URI} does not belong to this sub-CA's certificate" in said
    assert site.machine.everything() == before


def test_a_real_ceremony_certifies_what_a_token_asks_for(site: Site, tmp_path: Path) -> None:
    text = default_hierarchy_text().replace('"RSA-4096"', '"P-256"')
    hierarchy = tmp_path / "hierarchy.toml"
    hierarchy.write_text(
        re.sub(r"(?m)^(periods|spares) = .*", lambda each: f"{each[1]} = {each[1] == 'periods':d}", text)
    )
    plan = site.run("ceremony", "plan", hierarchy).stdout
    found = re.search(r"\bunassured_[0-9]{4}_[0-9]\b", plan)
    assert found is not None
    name = found.group()
    uri, request = f"pkcs11:token={TOKEN};object={name}", tmp_path / "request"

    site.run("signer", "csr", "-c", site.config, name, "--key-uri", uri, "--key-algorithm", "P-256", "--out", request)
    site.run("ceremony", "run", hierarchy, "--out", tmp_path / "out", "--csr", f"{name}={request}")
    site.write(f'[authority.{name}]\nkey = "{uri}"')
    shutil.copy(tmp_path / "out/bundle-key.pem", site.machine.directory)
    bundle, passphrase = tmp_path / "out/signer-1.bundle", tmp_path / "out/signer-1.passphrase"
    site.run("signer", "install", "-c", site.config, bundle, "--passphrase-file", passphrase)

    installed = site.machine.directory / "bundles/current"
    assert not (installed / "keys" / f"{name}.key").exists()
    assert list((installed / "keys").iterdir())
    certificate = x509.load_pem_x509_certificate((installed / f"certificates/{name}.pem").read_bytes())
    site.sign(name, certificate.public_bytes(Encoding.DER))


def documented() -> tuple[str, str]:
    """The command that moves a key into a token, and what signer.toml says then."""
    section = PAGE.read_text(encoding="utf-8").partition("## Moving a key into a token")[2].partition("\n## ")[0]
    command = re.search(r"```console\n\$ (softhsm2-util --import .*?)\n```", section, re.DOTALL)
    configuration = re.search(r"```toml\n(.*?)```", section, re.DOTALL)
    assert command is not None
    assert configuration is not None
    return command.group(1), configuration.group(1)


@pytest.mark.parametrize(
    "key",
    [rsa_key(), ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()],
    ids=["RSA-2048", "P-256", "Ed25519"],
)
def test_a_key_moves_into_a_token_and_nothing_is_issued_anew(site: Site, key: PrivateKey) -> None:
    hierarchy = site.machine.hierarchy
    moving = make_ca(FIRST, key=key, issuer=hierarchy.structure)
    hierarchy = replace(hierarchy, time={**hierarchy.time, FIRST: moving})
    machine = site.machine
    octets = signed(signer_bundle(hierarchy))
    activate(machine.config, stage(machine.config, octets, passphrase=BUNDLE_PASSPHRASE, now=NOW))
    site.sign(FIRST, moving.certificate.public_bytes(Encoding.DER))
    command, configuration = (each.replace("assured_2026_2", FIRST) for each in documented())

    done = subprocess.run(
        ["bash", "-c", f"set -e; {command} --pin {PIN}"],
        cwd=machine.directory,
        env=site.hsm.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    site.write(configuration)
    (machine.directory / f"bundles/0001/keys/{FIRST}.key").unlink()

    site.sign(FIRST, moving.certificate.public_bytes(Encoding.DER))
    # Neither does a later bundle need the file.
    site.install(signed(signer_bundle(hierarchy, number=2, keys=[])))
    assert f"bundles/0002/keys/{FIRST}.key" not in site.key_files()
    site.sign(FIRST, moving.certificate.public_bytes(Encoding.DER))
