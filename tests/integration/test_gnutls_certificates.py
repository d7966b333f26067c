"""GnuTLS's own programs believe what every backend signs: certificates, CRLs and certification requests of ours.

Needs the programs `certtool` and `openssl` (Debian: apt-get install gnutls-bin openssl). Neither knows ML-DSA: what
such keys sign is verified by pyca/cryptography. `certtool` looks at the machine's clock, and so everything here is
issued now.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import (
    TestCa,
    approve,
    entries,
    load_profile,
    make_authority,
    make_ca,
    p256_key,
    server_request,
    subject_public_key_info,
)
from tests.support.crypto_backends import CaKeys, kind_for, openssl, private_key, signing, title

from cassiopeia.core import crl
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority
from cassiopeia.core.certificate import assemble_tbs, check_certificate, compose_certificate
from cassiopeia.core.certification_request import assemble_request_info, compose_request

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
SIGNING = signing()
ML_DSA = [each for each in SIGNING if each[1].name.startswith("ML-DSA")]
CLASSIC = [each for each in SIGNING if each not in ML_DSA]


@pytest.fixture(scope="module")
def ca_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CaKeys]:
    keys = CaKeys(tmp_path_factory.mktemp("ca-keys"))
    yield keys
    keys.close()


def certtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the program, whatever it answers."""
    return subprocess.run(["certtool", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


def hierarchy(algorithm: SignatureAlgorithm) -> tuple[TestCa, TestCa, Authority]:
    key, begin, end = private_key(kind_for(algorithm)), NOW - dt.timedelta(days=30), NOW + dt.timedelta(days=4 * 365)
    root = make_ca("Test root", key=p256_key(), not_before=begin, not_after=end)
    ca = make_ca("unassured_2026_2", key=key, issuer=root, not_before=begin, not_after=end)
    return root, ca, make_authority(ca, pss=algorithm.is_pss)


def issue(keys: CaKeys, backend: str, algorithm: SignatureAlgorithm, authority: Authority) -> bytes:
    """A certificate whose TBS is ours, and whose signature is the backend's."""
    request = server_request(signature_hash=algorithm.hash_name)
    profile = dataclasses.replace(load_profile(request.profile), evidence=(), family=authority.family)
    approved = approve(request, profile=profile, authority=authority, now=NOW)
    assert approved.algorithm == algorithm
    tbs = assemble_tbs(approved)
    octets = compose_certificate(tbs, keys.open(backend, kind_for(algorithm)).sign(algorithm, tbs))
    info = subject_public_key_info(request)
    check_certificate(octets, authority=authority, request=request, subject_public_key_info=info)
    return octets


def make_crl(keys: CaKeys, backend: str, algorithm: SignatureAlgorithm, authority: Authority) -> bytes:
    tbs = crl.assemble_tbs_crl(
        issuer=authority.subject,
        algorithm=algorithm,
        this_update=NOW,
        next_update=NOW + dt.timedelta(days=10),
        entries=entries(range(1, 9), NOW),
        crl_number=5,
        authority_key_identifier=authority.key_identifier,
    )
    octets = crl.compose_crl(tbs, keys.open(backend, kind_for(algorithm)).sign(algorithm, tbs))
    crl.check_crl(octets, authority=authority)
    return octets


def spoilt(octets: bytes) -> bytes:
    """One bit of the signature is another."""
    return octets[:-9] + bytes([octets[-9] ^ 1]) + octets[-8:]


@pytest.mark.parametrize(("backend", "algorithm"), CLASSIC, ids=title)
def test_certificates(ca_keys: CaKeys, tmp_path: Path, backend: str, algorithm: SignatureAlgorithm) -> None:
    root, ca, authority = hierarchy(algorithm)
    (tmp_path / "root.pem").write_bytes(root.pem)
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    octets = issue(ca_keys, backend, algorithm, authority)
    for content, good in ((octets, True), (spoilt(octets), False)):
        leaf = x509.load_der_x509_certificate(content).public_bytes(Encoding.PEM)
        (tmp_path / "leaf.pem").write_bytes(leaf)
        (tmp_path / "chain.pem").write_bytes(leaf + ca.pem)
        done = certtool("--verify", f"--load-ca-certificate={tmp_path}/root.pem", f"--infile={tmp_path}/chain.pem")
        assert (done.returncode == 0) == good, done.stdout + done.stderr
        assert ("Chain verification output: Verified. The certificate is trusted." in done.stdout) == good
        checked = openssl(
            *("verify", "-x509_strict", "-CAfile", f"{tmp_path}/root.pem"),
            *("-untrusted", f"{tmp_path}/ca.pem", f"{tmp_path}/leaf.pem"),
        )
        assert (checked.returncode == 0) == good, checked.stderr


@pytest.mark.parametrize(("backend", "algorithm"), CLASSIC, ids=title)
def test_crls(ca_keys: CaKeys, tmp_path: Path, backend: str, algorithm: SignatureAlgorithm) -> None:
    _, ca, authority = hierarchy(algorithm)
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    octets = make_crl(ca_keys, backend, algorithm, authority)
    for content, good in ((octets, True), (spoilt(octets), False)):
        (tmp_path / "ca.crl").write_bytes(x509.load_der_x509_crl(content).public_bytes(Encoding.PEM))
        done = certtool("--verify-crl", f"--load-ca-certificate={tmp_path}/ca.pem", f"--infile={tmp_path}/ca.crl")
        assert ("Verification output: Verified." in done.stdout) == good, done.stdout + done.stderr
        checked = openssl("crl", "-noout", "-CAfile", tmp_path / "ca.pem", "-in", tmp_path / "ca.crl")
        assert ("verify OK" in checked.stderr) == good, checked.stderr


@pytest.mark.parametrize(("backend", "algorithm"), CLASSIC, ids=title)
def test_certification_requests(ca_keys: CaKeys, tmp_path: Path, backend: str, algorithm: SignatureAlgorithm) -> None:
    key = ca_keys.open(backend, kind_for(algorithm))
    info = assemble_request_info("unassured_2026_2", key.public_key_info)
    octets = compose_request(info, algorithm, key.sign(algorithm, info))
    for content, good in ((octets, True), (spoilt(octets), False)):
        (tmp_path / "ca.csr").write_bytes(content)
        done = certtool("--crq-info", "--inder", f"--infile={tmp_path}/ca.csr")
        assert ("Self signature: verified" in done.stdout) == good, done.stdout + done.stderr
        checked = openssl("req", "-inform", "DER", "-noout", "-verify", "-in", tmp_path / "ca.csr")
        assert ("verify OK" in checked.stderr) == good, checked.stderr


@pytest.mark.parametrize(("backend", "algorithm"), ML_DSA, ids=title)
def test_ml_dsa_by_the_library(ca_keys: CaKeys, backend: str, algorithm: SignatureAlgorithm) -> None:
    root, ca, authority = hierarchy(algorithm)
    ca.certificate.verify_directly_issued_by(root.certificate)
    certificate = x509.load_der_x509_certificate(issue(ca_keys, backend, algorithm, authority))
    certificate.verify_directly_issued_by(ca.certificate)
    listed = x509.load_der_x509_crl(make_crl(ca_keys, backend, algorithm, authority))
    assert listed.is_signature_valid(ca.certificate.public_key())  # type: ignore[arg-type] # its types know no ML-DSA
    key = ca_keys.open(backend, kind_for(algorithm))
    info = assemble_request_info("unassured_2026_2", key.public_key_info)
    assert x509.load_der_x509_csr(compose_request(info, algorithm, key.sign(algorithm, info))).is_signature_valid
