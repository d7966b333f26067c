from __future__ import annotations

import errno
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


def test_a_directory_that_went_away_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher(tmp_path / "public")
    (tmp_path / "public").rmdir()
    assert not publisher.publish_crl("ca", make_crl())
    assert "public/ca.crl.pem: cannot publish: No such file" in caplog.text


def test_nothing_half_written_stays_behind(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publisher = Publisher(tmp_path)
    (tmp_path / "ca.crl.pem" / "in the way").mkdir(parents=True)
    assert not publisher.publish_crl("ca", make_crl())
    assert "ca.crl.pem: cannot publish: Is a directory" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["ca.crl.pem"]


def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = Publisher(tmp_path)
    publisher.publish_crl("ca", make_crl())

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert not publisher.publish_crl("ca", make_crl())
    assert "ca.crl.pem: cannot read what is published: Permission denied" in caplog.text


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


class FullDisk:
    """The disk under a directory, full until somebody makes room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = True
        self.tries = 0
        self.now = 0.0
        genuine = os.fsync

        def fsync(descriptor: int) -> None:
            self.tries += 1
            if self.is_full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            genuine(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)

    def clock(self) -> float:
        return self.now


def test_what_found_no_room_is_published_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk(monkeypatch)
    publisher = Publisher(tmp_path, clock=disk.clock)
    first, second = make_crl(1), make_crl(2)
    assert not publisher.publish_crl("ca", first)
    assert not publisher.publish_certificate("root", default_authority().certificate)
    assert "ca.crl.pem: cannot publish: No space left on device; tried again in 1 seconds" in caplog.text
    assert list(tmp_path.iterdir()) == []
    # Only the newest is wanted.
    assert not publisher.publish_crl("ca", second)
    disk.is_full = False
    disk.now = 1_000
    publisher.retry()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ca.crl", "ca.crl.pem", "root.crt", "root.pem"]
    assert (tmp_path / "ca.crl").read_bytes() == second
    disk.tries = 0
    publisher.retry()
    assert disk.tries == 0


def test_a_full_disk_is_tried_ever_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FullDisk(monkeypatch)
    publisher = Publisher(tmp_path, clock=disk.clock)
    publisher.publish_crl("ca", make_crl())
    waits = []
    for _ in range(6):
        began, tries = disk.now, disk.tries
        while disk.tries == tries:
            disk.now += 1
            publisher.retry()
        waits.append(disk.now - began)
    assert waits == [1, 5, 25, 125, 300, 300]
