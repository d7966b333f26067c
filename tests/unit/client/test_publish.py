from __future__ import annotations

import os
from pathlib import Path

import pytest
from cryptography import x509
from tests.support.authorities import NOW, default_authority, entries, p256_key, sign

from cassiopeia.client.publish import Publisher
from cassiopeia.core import algorithms, crl
from cassiopeia.errors import OperatorError


def make_crl(number: int = 1) -> bytes:
    authority = default_authority()
    algorithm = algorithms.choose_algorithm(authority.public_key, "")
    tbs = crl.assemble_tbs_crl(
        issuer=authority.subject,
        algorithm=algorithm,
        this_update=NOW,
        next_update=authority.not_after,
        entries=entries(range(1, number)),
        crl_number=number,
        authority_key_identifier=authority.key_identifier,
    )
    return crl.compose_crl(tbs, sign(p256_key(), algorithm, tbs))


def test_a_crl_is_served_as_der_and_as_pem(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "public" / "pki")
    publisher.publish_crl("ca", make_crl())
    der = (tmp_path / "public/pki/ca.crl").read_bytes()
    pem = (tmp_path / "public/pki/ca.crl.pem").read_bytes()
    assert x509.load_pem_x509_crl(pem) == x509.load_der_x509_crl(der)
    assert sorted(path.name for path in (tmp_path / "public/pki").iterdir()) == ["ca.crl", "ca.crl.pem"]


def test_anybody_may_read_what_is_published(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Publisher(tmp_path).publish_crl("ca", make_crl())
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    """Whoever has the old one open reads it to its end."""
    publisher = Publisher(tmp_path)
    first, second = make_crl(1), make_crl(500)
    publisher.publish_crl("ca", first)
    with (tmp_path / "ca.crl").open("rb", buffering=0) as reading:
        start = reading.read(10)
        publisher.publish_crl("ca", second)
        assert start + reading.read() == first
    assert (tmp_path / "ca.crl").read_bytes() == second


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    der = make_crl()
    publisher.publish_crl("ca", der)
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    publisher.publish_crl("ca", der)
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == before
    newer = make_crl(2)
    publisher.publish_crl("ca", newer)
    assert (tmp_path / "ca.crl").read_bytes() == newer


def test_a_place_where_no_directory_can_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OperatorError, match=f"{tmp_path}/file/public: cannot publish here: Not a directory"):
        Publisher(tmp_path / "file" / "public")


def test_a_directory_that_went_away_is_named(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path / "public")
    (tmp_path / "public").rmdir()
    with pytest.raises(OperatorError, match=r"public/ca\.crl\.pem: cannot publish: No such file"):
        publisher.publish_crl("ca", make_crl())


def test_nothing_half_written_stays_behind(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    (tmp_path / "ca.crl.pem" / "in the way").mkdir(parents=True)
    with pytest.raises(OperatorError, match=r"ca\.crl\.pem: cannot publish: Is a directory"):
        publisher.publish_crl("ca", make_crl())
    assert [path.name for path in tmp_path.iterdir()] == ["ca.crl.pem"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish_crl("ca", make_crl())

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(OperatorError, match=r"ca\.crl: cannot read what is published: Permission denied"):
        publisher.publish_crl("ca", make_crl())


def test_a_ca_certificate_is_served_as_der_and_as_pem(tmp_path: Path) -> None:
    publisher = Publisher(tmp_path)
    der = default_authority().certificate
    publisher.publish_certificate("ca", der)
    assert (tmp_path / "ca.crt").read_bytes() == der
    pem = (tmp_path / "ca.pem").read_bytes()
    assert x509.load_pem_x509_certificate(pem) == x509.load_der_x509_certificate(der)
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    publisher.publish_certificate("ca", der)
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == before
