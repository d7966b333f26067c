"""The ring's rules, with libraries that do as each test says; real ones are tried together elsewhere."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support import authorities
from tests.support.authorities import PrivateKey, default_authority, p256_key, rsa_key
from tests.support.crypto_backends import FILE_BACKENDS
from tests.support.signer import PASSPHRASE, write_key

from cassiopeia.config import KeyUse
from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm, algorithms_for, verify
from cassiopeia.core.key_uri import FileUri, KeyUri
from cassiopeia.errors import InternalError, OperatorError, SignatureInvalid, Unavailable
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore import ring as ring_module
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.interface import Backend, CaKey, KeyStore, SignatureMistrusted, StoreSettings
from cassiopeia.signer.keystore.ring import KeyRing

AUTHORITY = default_authority()
NAME = AUTHORITY.name
(ECDSA,) = algorithms_for(AUTHORITY.public_key)

Sign = Callable[[SignatureAlgorithm, bytes], bytes]
Verify = Callable[[bytes], None]


@dataclass
class Library:
    """A backend whose one key signs by `make`, and which judges signatures by `judge`."""

    name: str = "gnutls"
    version: str = "1"
    signs: Sequence[SignatureAlgorithm] = ALGORITHMS
    verifies: Sequence[SignatureAlgorithm] = ALGORITHMS
    key: PrivateKey | None = None
    make: Sign | None = None
    judge: Verify = lambda _signature: None
    closed: int = 0

    def open_store(self, _settings: StoreSettings) -> KeyStore:
        return self

    def list_keys(self) -> Sequence[KeyUri]:
        return ()

    def open(self, _uri: KeyUri) -> CaKey:
        return self

    def generate(self, uri: KeyUri, key_algorithm: str) -> CaKey:
        raise AssertionError(f"nobody makes {key_algorithm} keys here: {uri}")

    def close(self) -> None:
        self.closed += 1

    @property
    def public_key_info(self) -> bytes:
        public = (self.key or p256_key()).public_key()
        return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def algorithms(self) -> Sequence[SignatureAlgorithm]:
        return [each for each in self.signs if each in algorithms_for((self.key or p256_key()).public_key())]

    def sign(self, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
        return self.make(algorithm, octets) if self.make else honest(algorithm, octets)

    def verify(self, _key: bytes, _algorithm: SignatureAlgorithm, signature: bytes, _octets: bytes) -> None:
        self.judge(signature)


def honest(algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
    return authorities.sign(p256_key(), algorithm, octets)


def says_wrong(_signature: bytes) -> None:
    raise SignatureInvalid("so it says")


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, Library]:
    made = {"gnutls": Library(), "wolfssl": Library(name="wolfssl")}

    def load(name: str) -> Backend:
        return made[name] if name in made else load_backend(name)

    monkeypatch.setattr(ring_module, "load_backend", load)
    return made


def new_ring(directory: Path = Path("/none")) -> KeyRing:
    return KeyRing(StoreSettings(passphrase=SecretSource(what="the passphrase", file=directory / "passphrase")))


def use(*, backend: str = "gnutls", verify_with: str = "") -> KeyUse:
    return KeyUse(uri=FileUri(path="/ca.key", backend=backend), verify_with=verify_with)


def test_a_signature_comes_out_when_all_who_are_asked_agree(libraries: dict[str, Library]) -> None:
    asked: list[bytes] = []
    libraries["wolfssl"].judge = asked.append
    ring = new_ring()
    ring.add(AUTHORITY, use(verify_with="wolfssl"))
    asked.clear()

    signature = ring.sign(NAME, ECDSA, b"to be signed")

    verify(AUTHORITY.public_key, ECDSA, signature, b"to be signed")
    assert asked == [signature]


def test_real_files_go_through_real_openssl(tmp_path: Path) -> None:
    write_key(tmp_path / "ca.key", p256_key())
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    ring = new_ring(tmp_path)
    ring.add(AUTHORITY, KeyUse(uri=FileUri(path=str(tmp_path / "ca.key"), backend="openssl")))
    verify(AUTHORITY.public_key, ECDSA, ring.sign(NAME, ECDSA, b"x"), b"x")


def flipped(algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
    signature = bytearray(honest(algorithm, octets))
    signature[-1] ^= 1
    return bytes(signature)


@pytest.mark.parametrize(
    "fault",
    [
        flipped,
        lambda algorithm, octets: honest(algorithm, octets + b"!"),
        lambda _algorithm, _octets: b"",
        lambda algorithm, octets: honest(algorithm, octets)[:-1],
        lambda algorithm, octets: honest(algorithm, octets) + b"\0",
    ],
    ids=["one bit", "other octets", "nothing", "too short", "too long"],
)
def test_what_does_not_verify_is_given_to_nobody(libraries: dict[str, Library], fault: Sign) -> None:
    ring = new_ring()
    ring.add(AUTHORITY, use())
    libraries["gnutls"].make = fault

    with pytest.raises(SignatureMistrusted) as mistrusted:
        ring.sign(NAME, ECDSA, b"to be signed")

    assert (mistrusted.value.signing, mistrusted.value.verifying) == ("gnutls", "openssl")
    assert NAME in mistrusted.value.message


def test_a_second_opinion_that_disagrees_stops_a_good_signature_too(libraries: dict[str, Library]) -> None:
    ring = new_ring()
    ring.add(AUTHORITY, use(verify_with="wolfssl"))
    libraries["wolfssl"].judge = says_wrong

    with pytest.raises(SignatureMistrusted, match="wolfssl finds a signature wrong that gnutls made") as mistrusted:
        ring.sign(NAME, ECDSA, b"to be signed")

    assert (mistrusted.value.signing, mistrusted.value.verifying) == ("gnutls", "wolfssl")


def test_a_second_opinion_that_cannot_say_releases_nothing(libraries: dict[str, Library]) -> None:
    def cannot(_signature: bytes) -> None:
        raise InternalError("out of memory")

    ring = new_ring()
    ring.add(AUTHORITY, use(verify_with="wolfssl"))
    libraries["wolfssl"].judge = cannot
    with pytest.raises(InternalError, match="out of memory"):
        ring.sign(NAME, ECDSA, b"to be signed")


def test_a_key_of_another_certificate_is_refused(libraries: dict[str, Library]) -> None:
    libraries["gnutls"].key = rsa_key()
    with pytest.raises(OperatorError, match=f"{NAME}: the key file:/ca.key.* does not belong to this sub-CA"):
        new_ring().add(AUTHORITY, use())


def test_a_library_that_cannot_sign_so_is_named(libraries: dict[str, Library]) -> None:
    libraries["gnutls"].signs = ()
    with pytest.raises(OperatorError, match=rf"gnutls cannot sign with ecdsa-with-SHA256 .* \[authority\.{NAME}\]"):
        new_ring().add(AUTHORITY, use())


def test_a_library_that_cannot_verify_so_is_named(libraries: dict[str, Library]) -> None:
    libraries["wolfssl"].verifies = ()
    with pytest.raises(OperatorError, match=r'wolfssl cannot verify ecdsa-with-SHA256: .*verify_with = "none"'):
        new_ring().add(AUTHORITY, use(verify_with="wolfssl"))


def test_a_key_that_signs_wrongly_is_not_taken(libraries: dict[str, Library]) -> None:
    libraries["gnutls"].make = flipped
    ring = new_ring()
    with pytest.raises(SignatureMistrusted, match="makes wrong signatures: it is damaged, restore it from its backup"):
        ring.add(AUTHORITY, use())
    with pytest.raises(KeyError):
        ring.sign(NAME, ECDSA, b"to be signed")


def test_a_library_that_is_not_there_may_come(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Backend:
        raise Unavailable(f"the crypto backend {name} is not installed", code="backend-missing")

    monkeypatch.setattr(ring_module, "load_backend", missing)
    with pytest.raises(Unavailable, match="gnutls is not installed"):
        new_ring().add(AUTHORITY, use())


def test_one_store_serves_all_keys_of_a_backend_and_is_closed_once(libraries: dict[str, Library]) -> None:
    ring = new_ring()
    ring.add(AUTHORITY, use())
    ring.add(AUTHORITY, use())
    ring.close()
    ring.close()
    assert libraries["gnutls"].closed == 1


@pytest.mark.parametrize("backend", FILE_BACKENDS)
def test_a_closed_ring_holds_no_key(tmp_path: Path, backend: str) -> None:
    """Memory that a library has not freed it has not overwritten either."""
    write_key(tmp_path / "ca.key", p256_key())
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    (tmp_path / "passphrase").chmod(0o600)
    ring = new_ring(tmp_path)
    ring.add(AUTHORITY, KeyUse(uri=FileUri(path=str(tmp_path / "ca.key"), backend=backend)))
    key = weakref.ref(ring._held[AUTHORITY.name].key)
    assert key() is not None
    ring.close()
    gc.collect()
    assert key() is None
