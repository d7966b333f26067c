"""The `openssl` program reads and verifies our CRLs, and `openssl verify -crl_check` believes them.

Needs the program `openssl` (Debian: apt-get install openssl).
"""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import (
    NOW,
    PrivateKey,
    TestCa,
    approve,
    entries,
    make_authority,
    make_ca,
    p256_key,
    rsa_key,
    server_request,
    sign,
)

from cassiopeia.core import crl
from cassiopeia.core.algorithms import choose_algorithm
from cassiopeia.core.certificate import assemble_tbs, compose_certificate
from cassiopeia.core.request import Revocation

KEYS: dict[str, Callable[[], PrivateKey]] = {
    "P-256": p256_key,
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA": rsa_key,
    "RSA-PSS": rsa_key,
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


def openssl(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=60)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def make_crl(ca: TestCa, listed: bytes, *, number: int = 5, pss: bool = False) -> bytes:
    authority = make_authority(ca, pss=pss)
    algorithm = choose_algorithm(authority.public_key, "", pss=pss)
    tbs = crl.assemble_tbs_crl(
        issuer=authority.subject,
        algorithm=algorithm,
        this_update=NOW,
        next_update=NOW + dt.timedelta(days=10),
        entries=listed,
        crl_number=number,
        authority_key_identifier=authority.key_identifier,
    )
    octets = crl.compose_crl(tbs, sign(ca.key, algorithm, tbs))
    crl.check_crl(octets, authority=authority)
    return octets


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("count", [0, 1, 50])
def test_is_read_and_verified(tmp_path: Path, kind: str, count: int) -> None:
    ca = make_ca("unassured_2026_2", key=KEYS[kind]())
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    octets = make_crl(ca, entries(range(1, 1 + count)), pss=kind == "RSA-PSS")
    done = openssl("crl", "-inform", "DER", "-noout", "-text", "-CAfile", tmp_path / "ca.pem", stdin=octets)
    assert done.returncode == 0
    assert "verify OK" in done.stderr
    assert "Version 2 (0x1)" in done.stdout
    assert re.search(r"X509v3 CRL Number: *\n +5\n", done.stdout)
    assert done.stdout.count("Serial Number:") == count
    assert ("No Revoked Certificates." in done.stdout) == (count == 0)


def test_reasons_and_dates_in_words() -> None:
    ca = make_ca("unassured_2026_2", key=p256_key())
    since = dt.datetime(2026, 10, 1, 8, 0, 0, tzinfo=dt.UTC)
    listed = b"".join(
        crl.encode_revocation(Revocation(serial_number=place, reason=reason, invalidity_date=since), NOW)
        for place, reason in enumerate(crl.REASONS, start=1)
    )
    text = openssl("crl", "-inform", "DER", "-noout", "-text", stdin=make_crl(ca, listed)).stdout
    assert [line.strip() for line in re.findall(r"CRL Reason Code: *\n(.*)\n", text)] == [
        "Key Compromise",
        "CA Compromise",
        "Affiliation Changed",
        "Superseded",
        "Cessation Of Operation",
        "Privilege Withdrawn",
        "AA Compromise",
    ]
    assert text.count("Oct  1 08:00:00 2026 GMT") == len(crl.REASONS)
    assert text.count("Revocation Date: Nov 23 12:30:15 2026 GMT") == len(crl.REASONS)


def test_a_revoked_certificate_is_revoked_and_another_is_not(tmp_path: Path) -> None:
    ca = make_ca("unassured_2026_2", key=p256_key())
    approved = approve(server_request(), authority=make_authority(ca))
    tbs = assemble_tbs(approved)
    leaf = x509.load_der_x509_certificate(compose_certificate(tbs, sign(ca.key, approved.algorithm, tbs)))
    (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    revocation = Revocation(serial_number=approved.serial_number, reason=1)
    for listed, good in ((entries(range(1, 9)), True), (crl.encode_revocation(revocation, NOW), False)):
        octets = make_crl(ca, listed)
        (tmp_path / "crl.pem").write_bytes(x509.load_der_x509_crl(octets).public_bytes(Encoding.PEM))
        done = openssl(
            *("verify", "-crl_check", "-x509_strict", "-attime", str(int(NOW.timestamp()) + 60)),
            *("-CAfile", tmp_path / "ca.pem", "-CRLfile", tmp_path / "crl.pem", tmp_path / "leaf.pem"),
        )
        assert (done.returncode == 0) == good
        assert ("certificate revoked" in done.stderr) == (not good)


def test_a_full_crl_is_sound(tmp_path: Path) -> None:
    """21,400 entries; what they cost is counted in tests/unit/core/test_crl_long.py."""
    ca = make_ca("unassured_2026_2", key=p256_key())
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    first = 1 << 120
    listed = entries(range(first, first + 21_400))
    assert len(listed) == 21_400 * 35
    authority = make_authority(ca)
    octets = make_crl(ca, listed)
    copy = crl.read_crl(octets)
    assert copy.entries == listed
    assert len(octets) < 1 << 20
    done = openssl("crl", "-inform", "DER", "-noout", "-CAfile", tmp_path / "ca.pem", stdin=octets)
    assert "verify OK" in done.stderr
    assert sum(1 for _ in crl.entry_serials(copy.entries)) == 21_400
    assert crl.check_crl(octets, authority=authority) == copy
