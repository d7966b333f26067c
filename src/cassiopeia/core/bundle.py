"""Bundles: what a ceremony gives to each machine, in one file, signed by the ceremony's bundle key.

Owns the octets (docs/wire.asn1 is the authority on them), the signature (Ed25519, RFC 8032, over a tag and the DER of
the bundle) and the checks of what a bundle may say at all. Knows nothing of what its files mean, of disks, or of how
secrets are sealed: a bundle travels through many hands, and only what verifies counts.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cassiopeia.core import ed25519, structure
from cassiopeia.errors import PeerError, SignatureInvalid

BUNDLE_TAG: Final = b"cassiopeia bundle\0"

OFFLINE: Final = "offline"
SIGNER: Final = "signer"
CLIENT: Final = "client"
PUBLICATION: Final = "publication"
KINDS: Final = (OFFLINE, SIGNER, CLIENT, PUBLICATION)

MAXIMUM_OCTETS: Final = 16 * 1024 * 1024
MAXIMUM_FILES: Final = 4096
HIGHEST_NUMBER: Final = 9_999

_HASH_OCTETS: Final = 32
_HIGHEST_SIGNER_ID: Final = 0x7E
# One directory below the bundle's own at the most; no name that begins with a dot, none that leaves the bundle.
_FILE_NAME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BundleFile:
    """A file of a bundle: a name, with one directory in front of it at the most, and what is in it."""

    name: str
    octets: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """What a ceremony gives to one machine.

    `root_key` is SHA-256 of the root's SubjectPublicKeyInfo: which hierarchy this is. `number` is that of the ceremony,
    counted from 1 and the same in all its bundles. `signer_id` is 0 where the bundle is for no signer. `files` are for
    everybody on that machine; `secrets` are key files (PKCS#8, PEM, encrypted with the bundle's passphrase), which is
    either carried by another way or `sealed_passphrase`, sealed to the signer's own key (`sealing.seal`).
    """

    kind: str
    root_key: bytes
    number: int
    made_at: dt.datetime
    signer_id: int
    files: tuple[BundleFile, ...]
    secrets: tuple[BundleFile, ...] = ()
    sealed_passphrase: bytes | None = None

    def file(self, name: str) -> bytes:
        """What is in the file of this name; raises PeerError when the bundle has none."""
        for each in self.files:
            if each.name == name:
                return each.octets
        raise PeerError(f"the bundle has no {name}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedBundle:
    """`bundle` is the DER of a `Bundle`; `key` is SHA-256 of the SubjectPublicKeyInfo that verifies `signature`."""

    bundle: bytes
    key: bytes
    signature: bytes


def sign_bundle(bundle: Bundle, key: Ed25519PrivateKey) -> bytes:
    """DER of the `SignedBundle`; raises PeerError for a bundle that no reader would take."""
    _check(bundle)
    octets = structure.encode(bundle)
    signed = SignedBundle(
        bundle=octets, key=key_id(ed25519.public_octets(key)), signature=key.sign(BUNDLE_TAG + octets)
    )
    return structure.encode(signed)


def read_bundle(octets: bytes, *, public_key: bytes) -> Bundle:
    """The bundle, if the bundle key (DER SubjectPublicKeyInfo) has signed it.

    Raises PeerError for octets that are no bundle or that another key has signed, SignatureInvalid for a wrong
    signature.
    """
    if len(octets) > MAXIMUM_OCTETS:
        raise PeerError(f"a bundle has at most {MAXIMUM_OCTETS} octets")
    signed = structure.decode(SignedBundle, octets)
    ours = key_id(public_key)
    try:
        ed25519.verify(public_key, signed.signature, BUNDLE_TAG + signed.bundle)
    except SignatureInvalid:
        if signed.key != ours:
            raise PeerError(
                f"the bundle is signed by the key {signed.key.hex()[:16]}, and ours is {ours.hex()[:16]}: it belongs "
                "to another hierarchy"
            ) from None
        raise SignatureInvalid("the bundle was changed after it was signed: its signature is wrong") from None
    if signed.key != ours:
        raise SignatureInvalid(
            "the bundle was changed after it was signed: our key has signed it, and it names another"
        )
    bundle = structure.decode(Bundle, signed.bundle)
    _check(bundle)
    return bundle


def key_id(public_key: bytes) -> bytes:
    """How bundles name the key that signed them: SHA-256 of its DER SubjectPublicKeyInfo."""
    return hashlib.sha256(public_key).digest()


def bundle_hash(octets: bytes) -> bytes:
    """How orders and people name a signed bundle: SHA-256 of all its octets."""
    return hashlib.sha256(octets).digest()


def sealing_context(*, root_key: bytes, number: int, signer_id: int) -> bytes:
    """Which bundle a passphrase is sealed for: the hash of the root's key, the number in 4 octets, the id in one."""
    return root_key + number.to_bytes(4, "big") + bytes([signer_id])


def _check(bundle: Bundle) -> None:
    if bundle.kind not in KINDS:
        raise PeerError(f"there is no kind of bundle {bundle.kind[:40]!a}: they are {', '.join(KINDS)}")
    if len(bundle.root_key) != _HASH_OCTETS:
        raise PeerError(f"the hash of the root's key has {_HASH_OCTETS} octets")
    if not 1 <= bundle.number <= HIGHEST_NUMBER:
        raise PeerError(f"ceremonies are counted from 1 to {HIGHEST_NUMBER}")
    if (bundle.kind == SIGNER) != (1 <= bundle.signer_id <= _HIGHEST_SIGNER_ID):
        raise PeerError(f"a signer's bundle, and no other, names its signer: 1 to {_HIGHEST_SIGNER_ID}")
    _check_names(bundle.files)
    _check_names(bundle.secrets)


def _check_names(files: Iterable[BundleFile]) -> None:
    names = [each.name for each in files]
    if len(names) > MAXIMUM_FILES:
        raise PeerError(f"a bundle has at most {MAXIMUM_FILES} files")
    for name in names:
        if not _FILE_NAME.fullmatch(name):
            raise PeerError(f"a file of the bundle is called {name[:80]!a}, which is no name for one")
    # Where case does not count, one of two would be lost.
    if len({name.casefold() for name in names}) != len(names):
        raise PeerError("two files of the bundle have the same name")
