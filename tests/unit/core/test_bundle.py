from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.core import ed25519, structure
from cassiopeia.core.bundle import (
    BUNDLE_TAG,
    CLIENT,
    HIGHEST_NUMBER,
    KINDS,
    MAXIMUM_FILES,
    MAXIMUM_OCTETS,
    OFFLINE,
    PUBLICATION,
    SIGNER,
    Bundle,
    BundleFile,
    SignedBundle,
    bundle_hash,
    key_id,
    read_bundle,
    sign_bundle,
)
from cassiopeia.errors import PeerError, SignatureInvalid

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = ed25519.public_octets(KEY)
BUNDLE = Bundle(
    kind=SIGNER,
    root_key=hashlib.sha256(b"root").digest(),
    number=7,
    made_at=dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC),
    signer_id=5,
    files=(
        BundleFile(name="authorities.toml", octets=b"a"),
        BundleFile(name="certificates/root.pem", octets=b"r"),
    ),
    secrets=(BundleFile(name="keys/assured_2026_2.key", octets=b"k"),),
    sealed_passphrase=b"sealed",
)


def forged(bundle: Bundle, key: Ed25519PrivateKey = KEY) -> bytes:
    """Signed by somebody who does not look at what a bundle may say."""
    octets = structure.encode(bundle)
    signed = SignedBundle(
        bundle=octets, key=key_id(ed25519.public_octets(key)), signature=key.sign(BUNDLE_TAG + octets)
    )
    return structure.encode(signed)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_signed_is_read_again(kind: str) -> None:
    bundle = replace(BUNDLE, kind=kind, signer_id=5 if kind == SIGNER else 0)

    assert read_bundle(sign_bundle(bundle, KEY), public_key=PUBLIC) == bundle


def test_secrets_and_the_sealed_passphrase_may_be_left_out() -> None:
    bundle = replace(BUNDLE, secrets=(), sealed_passphrase=None)

    octets = sign_bundle(bundle, KEY)

    assert read_bundle(octets, public_key=PUBLIC) == bundle
    assert len(octets) < len(sign_bundle(BUNDLE, KEY))


def test_there_is_one_encoding_and_its_hash_names_it() -> None:
    octets = sign_bundle(BUNDLE, KEY)

    assert sign_bundle(BUNDLE, KEY) == octets
    assert bundle_hash(octets) == hashlib.sha256(octets).digest()


def test_files_are_found_by_name() -> None:
    assert BUNDLE.file("certificates/root.pem") == b"r"
    with pytest.raises(PeerError, match=r"the bundle has no pins\.toml"):
        BUNDLE.file("pins.toml")
    with pytest.raises(PeerError, match="has no keys/assured"):
        BUNDLE.file("keys/assured_2026_2.key")  # a secret is no file


def test_another_key_is_named() -> None:
    with pytest.raises(PeerError, match="it belongs to another hierarchy") as caught:
        read_bundle(sign_bundle(BUNDLE, OTHER), public_key=PUBLIC)

    assert not isinstance(caught.value, SignatureInvalid)
    assert key_id(PUBLIC).hex()[:16] in str(caught.value)


def test_every_flipped_bit_is_noticed() -> None:
    octets = sign_bundle(BUNDLE, KEY)

    for place in range(len(octets)):
        for bit in range(8):
            changed = bytearray(octets)
            changed[place] ^= 1 << bit
            with pytest.raises(PeerError):
                read_bundle(bytes(changed), public_key=PUBLIC)


def test_a_changed_bundle_has_a_wrong_signature() -> None:
    signed = structure.decode(SignedBundle, sign_bundle(BUNDLE, KEY))
    changed = replace(signed, bundle=structure.encode(replace(BUNDLE, number=8)))

    with pytest.raises(SignatureInvalid, match="the bundle was changed after it was signed"):
        read_bundle(structure.encode(changed), public_key=PUBLIC)


def test_a_changed_name_of_our_key_is_not_taken_for_another_hierarchy() -> None:
    signed = structure.decode(SignedBundle, sign_bundle(BUNDLE, KEY))
    changed = replace(signed, key=key_id(PUBLIC)[:-1] + b"?")

    with pytest.raises(SignatureInvalid, match="the bundle was changed after it was signed: our key has signed it"):
        read_bundle(structure.encode(changed), public_key=PUBLIC)


def test_a_signature_over_anything_else_is_none_over_a_bundle() -> None:
    octets = structure.encode(BUNDLE)
    signed = SignedBundle(bundle=octets, key=key_id(PUBLIC), signature=KEY.sign(octets))  # without the tag

    with pytest.raises(SignatureInvalid):
        read_bundle(structure.encode(signed), public_key=PUBLIC)


@pytest.mark.parametrize("length", [0, 1, 100])
def test_what_is_no_bundle_is_none(length: int) -> None:
    with pytest.raises(PeerError, match="this is not the DER of a SignedBundle"):
        read_bundle(bytes(length), public_key=PUBLIC)


def test_a_bundle_has_a_largest_size() -> None:
    with pytest.raises(PeerError, match=f"at most {MAXIMUM_OCTETS} octets"):
        read_bundle(bytes(MAXIMUM_OCTETS + 1), public_key=PUBLIC)


BAD = {
    "kind": (replace(BUNDLE, kind="web"), "there is no kind of bundle 'web'"),
    "root": (replace(BUNDLE, root_key=bytes(31)), "has 32 octets"),
    "number 0": (replace(BUNDLE, number=0), "counted from 1"),
    "number too high": (replace(BUNDLE, number=HIGHEST_NUMBER + 1), f"counted from 1 to {HIGHEST_NUMBER}"),
    "no signer": (replace(BUNDLE, signer_id=0), "names its signer"),
    "no such signer": (replace(BUNDLE, signer_id=127), "names its signer"),
    "client with a signer": (replace(BUNDLE, kind=CLIENT), "and no other"),
    "offline with a signer": (replace(BUNDLE, kind=OFFLINE), "and no other"),
    "publication with a signer": (replace(BUNDLE, kind=PUBLICATION), "and no other"),
    "too many files": (
        replace(BUNDLE, files=tuple(BundleFile(name=f"f{each}", octets=b"") for each in range(MAXIMUM_FILES + 1))),
        f"at most {MAXIMUM_FILES} files",
    ),
    "the same file twice": (
        replace(BUNDLE, files=(BundleFile(name="a/B.pem", octets=b"1"), BundleFile(name="a/b.pem", octets=b"2"))),
        "two files of the bundle have the same name",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_bundle_says_is_neither_signed_nor_read(name: str) -> None:
    bundle, words = BAD[name]

    with pytest.raises(PeerError, match=words):
        sign_bundle(bundle, KEY)
    with pytest.raises(PeerError, match=words):
        read_bundle(forged(bundle), public_key=PUBLIC)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../a",
        "a/../b",
        "a/b/c",
        ".hidden",
        "a/.hidden",
        "a//b",
        "a/",
        "a\n",
        "a b",
        "ä",
        "a\\b",
        "x" * 129,
    ],
)
@pytest.mark.parametrize("place", ["files", "secrets"])
def test_a_name_never_leads_out_of_the_bundle(place: str, name: str) -> None:
    files = (BundleFile(name=name, octets=b""),)
    bundle = replace(BUNDLE, files=files) if place == "files" else replace(BUNDLE, secrets=files)

    with pytest.raises(PeerError, match="which is no name for one"):
        read_bundle(forged(bundle), public_key=PUBLIC)
