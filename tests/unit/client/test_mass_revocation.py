"""Choosing what is revoked, and saying when it will be done."""

from __future__ import annotations

import datetime as dt
import hashlib
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.support.certified import SERIAL, certificate, certify
from tests.support.store import NOW, after, issue, lease_revoke

from cassiopeia.client import mass_revocation
from cassiopeia.client.mass_revocation import Pace, choose, of_account, of_authority, of_family, of_key, of_list, takes
from cassiopeia.errors import OperatorError
from cassiopeia.store.database import Store
from cassiopeia.store.records import CertificateRecord, serial_text


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass_revocation, "_PAGE", 2)


@pytest.fixture
def bad_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture
def filled(store: Store, bad_key: ec.EllipticCurvePrivateKey) -> Store:
    certify(store, 1, 2, 3, at=NOW, account="alice")
    certify(store, 4, 5, at=NOW, account="bob", authority="assured_2026_1", key=bad_key)
    certify(store, 6, at=NOW, account="bob", authority="assured_2026_2")
    # As an original signer's, or one that somebody has written into the store.
    issue(store, 1, first=50, account="carol")
    return store


def numbers(found: object) -> list[int]:
    assert hasattr(found, "__iter__")
    return sorted(int(each.serial_number, 16) - SERIAL for each in found)


def test_by_account(filled: Store) -> None:
    assert numbers(of_account(filled, "alice")) == [1, 2, 3]
    assert numbers(of_account(filled, "bob")) == [4, 5, 6]
    assert numbers(of_account(filled, "nobody")) == []


def test_by_sub_ca_and_family(filled: Store) -> None:
    assert numbers(of_authority(filled, "assured_2026_1")) == [4, 5]
    assert numbers(of_family(filled, "assured")) == [4, 5, 6]
    with pytest.raises(OperatorError, match="assured_2026_1, assured_2026_2, unassured_2026_1"):
        list(of_authority(filled, "assured_2027_1"))
    with pytest.raises(OperatorError, match="there are some of: assured, unassured"):
        list(of_family(filled, "orga"))


def test_a_sub_ca_of_another_form_is_a_family_of_its_own(store: Store) -> None:
    certify(store, 1, at=NOW, authority="taken-over")
    assert numbers(of_family(store, "taken-over")) == [1]


@pytest.mark.parametrize("form", ["public", "public-der", "certificate", "certificate-der", "request", "request-der"])
def test_by_a_file_with_the_key(filled: Store, bad_key: ec.EllipticCurvePrivateKey, tmp_path: Path, form: str) -> None:
    encoding = Encoding.DER if form.endswith("der") else Encoding.PEM
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(bad_key, hashes.SHA256())
    made = x509.load_der_x509_certificate(certificate(99, key=bad_key, at=NOW))
    octets = {
        "public": bad_key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo),
        "certificate": made.public_bytes(encoding),
        "request": request.public_bytes(encoding),
    }[form.removesuffix("-der")]
    (tmp_path / "key").write_bytes(octets)
    assert numbers(of_key(filled, str(tmp_path / "key"))) == [4, 5]


def test_by_the_digest_of_the_key(filled: Store, bad_key: ec.EllipticCurvePrivateKey) -> None:
    info = bad_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashlib.sha256(info).hexdigest()
    assert numbers(of_key(filled, digest)) == [4, 5]
    assert numbers(of_key(filled, ":".join(digest[i : i + 2] for i in range(0, 64, 2)).upper())) == [4, 5]
    assert numbers(of_key(filled, "0" * 64)) == []


def test_a_private_key_is_not_wanted(filled: Store, bad_key: ec.EllipticCurvePrivateKey, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(bad_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(OperatorError, match="certificate revoke SERIAL --key"):
        list(of_key(filled, str(path)))
    path.write_bytes(b"rubbish")
    with pytest.raises(OperatorError, match="64 hexadecimal digits"):
        list(of_key(filled, str(path)))
    with pytest.raises(OperatorError, match="cannot read the key"):
        list(of_key(filled, str(tmp_path / "none")))


def test_by_list(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "list"
    colons = ":".join(serial_text(SERIAL + 1)[i : i + 2] for i in range(0, 32, 2))
    path.write_text(f"# those of May\n{colons}\n\n0x{SERIAL + 4:X}  # Bob's\n")
    assert numbers(of_list(filled, path)) == [1, 4]


def test_a_list_with_a_stranger_in_it_is_no_list(filled: Store, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("\n".join([serial_text(SERIAL + 1), *(f"77{number:02x}" for number in range(8)), "zz"]))
    with pytest.raises(OperatorError, match=r"line 2: there is no certificate .* \(and 4 more\); nothing was planned"):
        list(of_list(filled, path))
    path.write_bytes(b"\xff")
    with pytest.raises(OperatorError, match="hexadecimal digits, one a line"):
        list(of_list(filled, path))
    with pytest.raises(OperatorError, match="cannot read the list"):
        list(of_list(filled, tmp_path / "none"))


def test_a_number_that_was_cut_off_is_not_in_the_list(filled: Store, tmp_path: Path) -> None:
    (record,) = of_account(filled, "carol")
    path = tmp_path / "list"
    path.write_text(f"{record.serial_number}\n0X{record.serial_number[:-2]}\n")
    with pytest.raises(OperatorError, match=r"list: line 2: 0X\w+ is only the beginning of a serial number"):
        list(of_list(filled, path))


def test_a_list_that_is_too_long(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mass_revocation, "_LARGEST_LIST", 10)
    (tmp_path / "list").write_text("0" * 11)
    with pytest.raises(OperatorError, match="split it"):
        list(of_list(filled, tmp_path / "list"))


def test_what_needs_nothing_is_left_out(filled: Store) -> None:
    first, second, _ = (f"{SERIAL + number:x}" for number in (1, 2, 3))
    filled.certificates.request_revocation(first, now=NOW)
    (job,) = lease_revoke(filled)
    filled.results.finish_revoked([job.id], revoked_at=NOW, now=NOW)
    filled.certificates.request_revocation(second, now=NOW)

    def found() -> list[CertificateRecord]:
        return [*of_account(filled, "alice"), *of_account(filled, "alice")]

    choice = choose(found(), also_expired=False, now=NOW)
    assert numbers(each.record for each in choice.chosen) == [3]
    assert (choice.revoked, choice.being_revoked, choice.expired) == (1, 1, 0)
    (chosen,) = choice.chosen
    assert chosen.sha256 == hashlib.sha256(chosen.record.der).hexdigest()
    later = NOW + dt.timedelta(days=91)
    assert choose(found(), also_expired=False, now=later).expired == 1
    assert numbers(each.record for each in choose(found(), also_expired=True, now=later).chosen) == [3]


def test_the_oldest_first(filled: Store) -> None:
    choice = choose(of_account(filled, "bob"), also_expired=False, now=NOW)
    assert [int(each.record.serial_number, 16) - SERIAL for each in choice.chosen] == [4, 5, 6]


def report(*names: str, limit: object = 10, cap: str = "revocations") -> dict[str, object]:
    return {
        "authorities": [{"name": each} for each in names],
        "orders": {"caps": [{"name": "refusals", "limit": 1}, {"name": cap, "limit": limit}]},
    }


def test_each_signer_at_its_own_pace(filled: Store) -> None:
    filled.signers.save(1, report("unassured_2026_1"), now=NOW)
    filled.signers.save(2, report("assured_2026_1", "assured_2026_2", limit=2), now=NOW)
    filled.certificates.request_revocation(f"{SERIAL + 1:x}", now=NOW)
    (job,) = lease_revoke(filled)
    filled.results.finish_revoked([job.id], revoked_at=NOW, now=NOW)
    filled.certificates.request_revocation(f"{SERIAL + 4:x}", now=NOW)
    now = after(60)
    paces = mass_revocation.paces(filled, {"unassured_2026_1": 25, "assured_2026_2": 2}, now=now)
    assert paces == (
        Pace(signer_id=1, waiting=25, limit=10, room=9, enough=26, done_at=now + takes(25, limit=10, room=9)),
        Pace(signer_id=2, waiting=3, limit=2, room=2, enough=3, done_at=now + takes(3, limit=2, room=2)),
    )
    # An hour later what was revoked takes no room any more.
    (pace, _) = mass_revocation.paces(filled, {"unassured_2026_1": 25}, now=after(3_700))
    assert pace.room == 10


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(report("a"), id="others"),
        pytest.param({}, id="nothing"),
        pytest.param(report("unassured_2026_1", limit="x"), id="nonsense"),
        pytest.param(report("unassured_2026_1", cap="x"), id="no-cap"),
    ],
)
def test_of_a_signer_that_does_not_tell_nothing_is_said(filled: Store, told: dict[str, object]) -> None:
    filled.signers.save(1, told, now=NOW)
    assert mass_revocation.paces(filled, {"unassured_2026_1": 25}, now=NOW) == ()


@pytest.mark.parametrize(
    ("count", "room", "hours"), [(0, 0, 0), (5, 5, 0), (6, 5, 1), (15, 5, 1), (16, 5, 2), (1, 0, 1)]
)
def test_how_long_it_takes(count: int, room: int, hours: int) -> None:
    # A minute for the signer's steps, and two places in the line of ten an hour.
    assert takes(count, limit=10, room=room) == hours * dt.timedelta(minutes=73)
