"""Every library signs, and every other one is asked before the signature is given to anybody."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.support.authorities import make_authority, make_ca
from tests.support.ca_keys import CaKey as KeyKind
from tests.support.crypto_backends import BACKENDS, FILE_BACKENDS, CaKeys, private_key

from cassiopeia.config import KeyUse
from cassiopeia.core import algorithms
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority
from cassiopeia.core.key_uri import FileUri, KeyUri
from cassiopeia.errors import OperatorError
from cassiopeia.signer.keystore.interface import CaKey, SignatureMistrusted
from cassiopeia.signer.keystore.ring import KeyRing

OCTETS = b"to be signed"
PAIRS = [(signing, verifying) for signing in BACKENDS for verifying in FILE_BACKENDS]
KINDS: tuple[tuple[KeyKind, bool], ...] = (("RSA-2048", False), ("RSA-2048", True), ("P-384", False), ("Ed448", False))


def authority_of(kind: KeyKind, *, pss: bool = False) -> Authority:
    return make_authority(make_ca("unassured_2026_2", key=private_key(kind)), pss=pss)


def use(keys: CaKeys, backend: str, kind: KeyKind, verify_with: str) -> KeyUse:
    """How configuration names this key."""
    uri: KeyUri = keys.put(backend, kind)
    if isinstance(uri, FileUri):
        uri = FileUri(path=uri.path, backend=backend)
    found = KeyUse(uri=uri, verify_with=verify_with)
    assert found.backend == backend
    return found


@pytest.mark.parametrize(("signing", "verifying"), PAIRS)
@pytest.mark.parametrize(("kind", "pss"), KINDS)
def test_any_two_agree(ca_keys: CaKeys, signing: str, verifying: str, kind: KeyKind, pss: bool) -> None:  # noqa: FBT001 - a column
    """The same key, whichever library has it."""
    authority = authority_of(kind, pss=pss)
    ring = KeyRing(ca_keys.settings(signing))
    ring.add(authority, use(ca_keys, signing, kind, verifying))
    algorithm = algorithms.choose_algorithm(authority.public_key, "", pss=pss)
    signature = ring.sign(authority.name, algorithm, OCTETS)
    algorithms.verify(private_key(kind).public_key(), algorithm, signature, OCTETS)
    ring.close()


class Spoiling:
    """A key whose signatures have one bit wrong after the first, which shows that the key is the sub-CA's."""

    def __init__(self, key: CaKey) -> None:
        self._key = key
        self.public_key_info = key.public_key_info
        self.algorithms: Sequence[SignatureAlgorithm] = key.algorithms

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        signature = self._key.sign(algorithm, octets)
        return signature if octets != OCTETS else signature[:-9] + bytes([signature[-9] ^ 1]) + signature[-8:]


class SpoilingStore:
    def __init__(self, keys: CaKeys, backend: str) -> None:
        self._store = keys.store(backend)

    def open(self, uri: KeyUri) -> CaKey:
        return Spoiling(self._store.open(uri))


@pytest.mark.parametrize(("signing", "verifying"), PAIRS)
def test_the_second_finds_what_the_first_lets_pass(
    ca_keys: CaKeys, monkeypatch: pytest.MonkeyPatch, signing: str, verifying: str
) -> None:
    authority = authority_of("RSA-2048")
    algorithm = algorithms.choose_algorithm(authority.public_key, "")
    ring = KeyRing(ca_keys.settings(signing))
    monkeypatch.setattr(ring, "_store", lambda backend: SpoilingStore(ca_keys, backend))
    ring.add(authority, use(ca_keys, signing, "RSA-2048", verifying))
    with pytest.raises(SignatureMistrusted) as first:
        ring.sign(authority.name, algorithm, OCTETS)
    assert (first.value.signing, first.value.verifying) == (signing, "openssl")
    if verifying == "openssl":
        return
    # OpenSSL is broken today, and takes anything.
    monkeypatch.setattr(algorithms, "verify", lambda *_: None)
    with pytest.raises(SignatureMistrusted) as second:
        ring.sign(authority.name, algorithm, OCTETS)
    assert (second.value.signing, second.value.verifying) == (signing, verifying)


@pytest.mark.parametrize("verifying", ["gnutls", "wolfssl", "pkcs11"])
def test_who_cannot_verify_is_not_asked_in_vain(ca_keys: CaKeys, verifying: str) -> None:
    ring = KeyRing(ca_keys.settings("openssl"))
    with pytest.raises(OperatorError, match=f"{verifying} cannot verify ML-DSA-44: name another library"):
        ring.add(authority_of("ML-DSA-44"), use(ca_keys, "openssl", "ML-DSA-44", verifying))
