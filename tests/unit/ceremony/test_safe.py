from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.support.ceremonies import with_changed
from tests.support.safes import make_safe, put_away

from cassiopeia.ceremony.record import Record, read_record, write_record
from cassiopeia.ceremony.safe import (
    OFFLINE_NAME,
    PASSPHRASE_NAME,
    Safe,
    bundle_files,
    describe,
    make_secret,
    offline_bundle,
    open_safe,
    read_offline,
    read_secret,
    secret_text,
)
from cassiopeia.core import structure
from cassiopeia.core.bundle import CLIENT, Bundle, SignedBundle, sign_bundle
from cassiopeia.errors import OperatorError

SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def safe() -> Safe:
    return make_safe()


@pytest.fixture(scope="module")
def octets(safe: Safe) -> bytes:
    return offline_bundle(safe, secret=SECRET)


def bundle_of(octets: bytes) -> Bundle:
    return structure.decode(Bundle, structure.decode(SignedBundle, octets).bundle)


def reopened(octets: bytes, directory: Path, *, secret: bytes = SECRET) -> Safe:
    path = directory / OFFLINE_NAME
    path.write_bytes(octets)
    _, bundle = read_offline(path)
    return open_safe(bundle, secret=secret, source=OFFLINE_NAME)


def fails(octets: bytes, directory: Path, *, secret: bytes = SECRET) -> str:
    with pytest.raises(OperatorError) as caught:
        reopened(octets, directory, secret=secret)
    return str(caught.value)


def test_everything_comes_out_as_it_went_in(safe: Safe, octets: bytes, tmp_path: Path) -> None:
    again = reopened(octets, tmp_path)

    assert again.record == safe.record
    assert again.certificates == safe.certificates
    assert again.crls == safe.crls
    assert again.declaration.profiles == safe.declaration.profiles
    assert again.declaration.hierarchy.time == safe.declaration.hierarchy.time
    assert {name: key.public_key() for name, key in again.keys.items()} == {
        name: key.public_key() for name, key in safe.keys.items()
    }
    assert again.bundle_public_pem == safe.bundle_public_pem


def test_the_safe_shows_no_key_of_its_own(safe: Safe) -> None:
    assert "PrivateKey" not in repr(safe)
    assert describe(safe.record) == "ceremony 1 of 2026-01-23 12:30 UTC"


def test_without_its_secret_nothing_opens(octets: bytes, tmp_path: Path) -> None:
    assert "does not open with this passphrase" in fails(octets, tmp_path, secret=make_secret())
    assert not re.search(rb"BEGIN PRIVATE KEY", octets)


def test_every_flipped_bit_is_noticed(octets: bytes, tmp_path: Path) -> None:
    for place in range(0, len(octets), len(octets) // 40):
        altered = bytearray(octets)
        altered[place] ^= 0x10

        assert "is no offline bundle, or a damaged one" in fails(bytes(altered), tmp_path), place


def test_a_bundle_of_somebody_else_does_not_pass(safe: Safe, octets: bytes, tmp_path: Path) -> None:
    """Who has the bundle and not its secret puts a key of his own into it, and signs."""
    theirs = Ed25519PrivateKey.generate()
    bundle = bundle_of(octets)
    files = {each.name: each.octets for each in bundle.files}
    foreign = Safe(
        declaration=safe.declaration,
        record=safe.record,
        certificates=safe.certificates,
        crls=safe.crls,
        keys=safe.keys,
        bundle_key=theirs,
    )
    files["bundle-key.pem"] = foreign.bundle_public_pem

    false = sign_bundle(replace(bundle, files=bundle_files(files)), theirs)

    assert "was signed by another key than the one in it" in fails(false, tmp_path)


def without(bundle: Bundle, name: str) -> Bundle:
    return replace(bundle, files=tuple(each for each in bundle.files if each.name != name))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("record.json", "the offline bundle is not complete: the bundle has no record.json"),
        ("hierarchy.toml", "is not complete: the bundle has no hierarchy.toml"),
        ("certificates/root.pem", "is not complete: the bundle has no certificates/root.pem"),
        ("bundle-key.pem", "the bundle has no bundle-key.pem"),
    ],
)
def test_what_is_missing_is_named(safe: Safe, octets: bytes, tmp_path: Path, name: str, reason: str) -> None:
    assert reason in fails(sign_bundle(without(bundle_of(octets), name), safe.bundle_key), tmp_path)


def test_a_key_that_is_missing_or_another_ones_is_named(safe: Safe, octets: bytes, tmp_path: Path) -> None:
    bundle = bundle_of(octets)
    secrets = {each.name: each.octets for each in bundle.secrets}
    lost = {name: each for name, each in secrets.items() if name != "keys/root.key"}
    swapped = {**secrets, "keys/root.key": secrets["keys/unassured.key"]}
    no_bundle_key = {name: each for name, each in secrets.items() if name != "keys/bundle.key"}
    root_for_bundles = {**secrets, "keys/bundle.key": secrets["keys/root.key"]}

    def say(found: dict[str, bytes]) -> str:
        return fails(sign_bundle(replace(bundle, secrets=bundle_files(found)), safe.bundle_key), tmp_path)

    assert "the key of root does not open" in say(lost)
    assert "the key of root does not fit its certificate" in say(swapped)
    assert "does not open with this passphrase" in say(no_bundle_key)
    assert "the key that signs bundles is none" in say(root_for_bundles)


def test_another_hierarchy_or_number_than_it_says_is_noticed(safe: Safe, octets: bytes, tmp_path: Path) -> None:
    bundle = bundle_of(octets)

    for false in (replace(bundle, root_key=bytes(32)), replace(bundle, number=2)):
        assert "what it says of itself is not what is in it" in fails(sign_bundle(false, safe.bundle_key), tmp_path)


def test_other_bundles_are_not_the_safe(safe: Safe, octets: bytes, tmp_path: Path) -> None:
    other = sign_bundle(replace(bundle_of(octets), kind=CLIENT), safe.bundle_key)

    assert "is a client bundle; the safe's is called offline.bundle" in fails(other, tmp_path)
    assert "is no offline bundle" in fails(b"hello", tmp_path)
    with pytest.raises(OperatorError, match="cannot read the offline bundle: No such file"):
        read_offline(tmp_path / "none")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    with pytest.raises(OperatorError, match="too large for a bundle"):
        read_offline(large)


def test_the_passphrase_is_for_its_owner_alone(safe: Safe, tmp_path: Path) -> None:
    put_away(safe, tmp_path)
    path = tmp_path / PASSPHRASE_NAME

    assert secret_text(read_secret(path)) == path.read_text()
    path.chmod(0o640)
    with pytest.raises(OperatorError, match="others may read the safe's passphrase: chmod 600"):
        read_secret(path)
    path.chmod(0o600)
    path.write_text("secret")
    with pytest.raises(OperatorError, match="is not the safe's passphrase, 64 hexadecimal digits") as caught:
        read_secret(path)
    assert "'secret'" not in str(caught.value)
    with pytest.raises(OperatorError, match="cannot read the safe's passphrase"):
        read_secret(tmp_path / "none")


def test_only_what_is_there_signs(safe: Safe) -> None:
    assert safe.holds("root")
    assert safe.authority("root").key == safe.keys["root"]
    with pytest.raises(OperatorError, match="the key of unassured_2026_1 is not in the safe"):
        safe.authority("unassured_2026_1")
    with pytest.raises(OperatorError, match="there is no CA 'nobody' in this hierarchy; there are root, unassured"):
        safe.authority("nobody")


def test_a_record_is_read_as_it_was_written(safe: Safe) -> None:
    assert read_record(write_record(safe.record)) == safe.record


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda text: text.replace('"version": 1', '"version": 2'), "a newer version may have written it"),
        (lambda text: text.replace('"number": 1', '"number": 0'), "number: expected int >= 1"),
        (lambda text: text.replace('"number": 1', '"number": 1, "moon": 1'), "moon: this key is not known here"),
        (lambda text: text[:-3], "is no JSON"),
        (lambda text: text.replace('"name": "unassured"', '"name": "root"'), "names a CA twice"),
    ],
    ids=["newer", "zero", "unknown", "cut", "twice"],
)
def test_a_record_that_is_none_is_refused(safe: Safe, edit: object, reason: str) -> None:
    text = write_record(safe.record).decode()
    assert callable(edit)
    altered = edit(text)
    assert altered != text

    with pytest.raises(OperatorError, match=re.escape(reason)):
        read_record(altered.encode())


def test_a_record_knows_what_is_below_a_ca(safe: Safe) -> None:
    record: Record = safe.record

    assert [each.name for each in record.below("root")] == ["unassured", *(each.name for each in record.time)]
    assert [each.name for each in record.below("unassured")] == [each.name for each in record.time]
    assert record.below(record.time[0].name) == ()
    structure_ca = record.structure_of("unassured")
    assert structure_ca is not None
    assert structure_ca.name == "unassured"
    assert record.structure_of("assured") is None
    retired = with_changed(record, msgspec.structs.replace(structure_ca, retired=True))
    assert retired.structure_of("unassured") is None
    assert record.root.made_in == 1
    assert record.root.not_before <= dt.datetime(2026, 1, 23, 12, tzinfo=dt.UTC)
