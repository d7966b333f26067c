"""What only wolfSSL has: limits of this version, and what its objects demand of their owner.

Needs libwolfssl.so.35 (Debian: apt-get install libwolfssl35).
"""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from tests.support.authorities import PrivateKey, p256_key, rsa_key
from tests.support.ca_keys import ca_key
from tests.support.signer import PASSPHRASE, write_key

from cassiopeia.core import der
from cassiopeia.core.algorithms import ALGORITHMS, algorithms_for, verify
from cassiopeia.core.key_uri import FileUri
from cassiopeia.errors import InternalError, OperatorError, SignatureInvalid
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore import openssl, wolfssl_library
from cassiopeia.signer.keystore.interface import StoreSettings
from cassiopeia.signer.keystore.wolfssl import WolfSslKeyStore, load
from cassiopeia.signer.keystore.wolfssl_library import Library

ECDSA_SHA256 = next(each for each in ALGORITHMS if each.name == "ecdsa-with-SHA256")
RSA_SHA256 = ALGORITHMS[0]
ED25519 = next(each for each in ALGORITHMS if each.name == "Ed25519")
ED25519_PREFIX = bytes.fromhex("302e020100300506032b657004220420")


@functools.cache
def large_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=4104)


def settings(directory: Path, passphrase: bytes = PASSPHRASE) -> StoreSettings:
    file = directory / "passphrase"
    file.write_bytes(passphrase)
    file.chmod(0o600)
    return StoreSettings(passphrase=SecretSource(what="the passphrase", file=file))


def open_store(directory: Path, passphrase: bytes = PASSPHRASE) -> WolfSslKeyStore:
    return load().open_store(settings(directory, passphrase))


def public_octets(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def uri(path: Path) -> FileUri:
    return FileUri(path=str(path))


def write_octets(store: WolfSslKeyStore, path: Path, octets: bytes) -> FileUri:
    """A key file whose encryption is right, and in which these octets are for a PrivateKeyInfo."""
    padding = 16 - len(octets) % 16
    path.write_bytes(store._encrypt(bytearray(octets + bytes([padding]) * padding)))
    path.chmod(0o600)
    return uri(path)


def resident_octets() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Key files


@pytest.mark.parametrize(
    ("options", "is_taken"),
    [
        ("-v2 aes-256-cbc", True),
        ("-v2 aes-128-cbc", True),
        ("-v2 aes-256-cbc -v2prf hmacWithSHA1", True),
        ("-v2 aes-256-cbc -iter 600000", True),
        ("-v2 des3", True),
        ("-v2 aes-192-cbc", False),
        ("-v2 camellia-256-cbc", False),
        ("-v2 aes-256-cbc -v2prf hmacWithSHA512", False),
        ("-scrypt", False),
    ],
)
def test_takes_key_files_as_openssl_writes_them_and_says_which(tmp_path: Path, options: str, *, is_taken: bool) -> None:
    store = open_store(tmp_path)
    write_key(tmp_path / "original.key", p256_key())
    passphrase = f"pass:{PASSPHRASE.decode()}"
    command = ["openssl", "pkcs8", "-topk8", "-in", "original.key", "-out", "ca.key", "-passin", passphrase]
    subprocess.run([*command, "-passout", passphrase, *options.split()], cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "ca.key").chmod(0o600)

    if is_taken:
        assert store.open(uri(tmp_path / "ca.key")).public_key_info == public_octets(p256_key())
    else:
        with pytest.raises(
            OperatorError, match=r"cannot unlock.*; wolfSSL needs PBES2 .* openssl pkcs8 -topk8 -v2 aes"
        ):
            store.open(uri(tmp_path / "ca.key"))


@pytest.mark.parametrize(
    "passphrase",
    [b"x", b"with a zero \0 in it", b"z" * 1000, "Gänsefüßchen".encode()],
    ids=["1", "zero", "long", "utf8"],
)
def test_every_passphrase_is_taken_whole(tmp_path: Path, passphrase: bytes) -> None:
    write_key(tmp_path / "ca.key", p256_key(), passphrase=passphrase)
    assert open_store(tmp_path, passphrase).open(uri(tmp_path / "ca.key"))
    if len(passphrase) > 1:
        with pytest.raises(OperatorError, match="wrong passphrase"):
            open_store(tmp_path, passphrase[:-1]).open(uri(tmp_path / "ca.key"))


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256", "Ed25519", "Ed448"])
def test_a_key_with_attributes_behind_it_is_taken_as_by_openssl(tmp_path: Path, kind: str) -> None:
    """RFC 5958 2: the name of a key may stand there."""
    private, _ = ca_key(kind)
    inside = der.content(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), der.SEQUENCE)
    name = der.encode(0x31, der.encode(0x1E, "ca".encode("utf-16-be")))
    attributes = der.encode(0xA0, der.encode(der.SEQUENCE, bytes.fromhex("06092a864886f70d010914"), name))
    store = open_store(tmp_path)
    path = write_octets(store, tmp_path / "ca.key", der.encode(der.SEQUENCE, inside, attributes))
    for each in (store, openssl.load().open_store(settings(tmp_path))):
        key = each.open(path)
        assert key.public_key_info == public_octets(private)
        verify(private.public_key(), key.algorithms[0], key.sign(key.algorithms[0], b"x"), b"x")


def test_a_wrong_passphrase_is_called_so_whatever_comes_out(tmp_path: Path) -> None:
    """One in some 250 makes octets of a key file that begin as a key does, and that wolfSSL gives back."""
    store = open_store(tmp_path)
    for octets in (bytes.fromhex("3003a1b2c3"), bytes.fromhex("308203a1b2") + bytes(940), b"\x30", b"\x30\xff"):
        with pytest.raises(OperatorError, match=r"ca\.key: cannot unlock this CA key: wrong passphrase"):
            store.open(write_octets(store, tmp_path / "ca.key", octets))


def test_what_it_makes_costs_a_thief_some_time(tmp_path: Path) -> None:
    """And is PBES2 with PBKDF2, HMAC-SHA-256 and AES-256-CBC, which every library reads."""
    key = open_store(tmp_path).generate(uri(tmp_path / "ca.key"), "P-256")
    assert (
        key.public_key_info
        == openssl.load().open_store(settings(tmp_path)).open(uri(tmp_path / "ca.key")).public_key_info
    )
    shown = subprocess.run(
        ["openssl", "asn1parse", "-in", tmp_path / "ca.key"], capture_output=True, text=True, check=True
    ).stdout
    for expected in ("PBES2", "PBKDF2", "INTEGER           :0186A0", "hmacWithSHA256", "aes-256-cbc"):
        assert expected in shown


def test_two_files_with_one_passphrase_have_nothing_in_common(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first, second = (
        write_octets(store, tmp_path / name, ED25519_PREFIX + bytes(32)).path for name in ("first.key", "second.key")
    )
    assert Path(first).read_bytes().splitlines()[1:] != Path(second).read_bytes().splitlines()[1:]


@pytest.mark.parametrize("key_algorithm", ["ML-DSA-44", "RSA-1024", "P-224"])
def test_makes_no_other_keys(tmp_path: Path, key_algorithm: str) -> None:
    with pytest.raises(OperatorError, match=f"wolfSSL makes no {key_algorithm} keys: take RSA-2048, .*another library"):
        open_store(tmp_path).generate(uri(tmp_path / "ca.key"), key_algorithm)
    assert not (tmp_path / "ca.key").exists()


@pytest.mark.parametrize(
    "key",
    [
        lambda: ec.generate_private_key(ec.SECP256K1()),
        x25519.X25519PrivateKey.generate,
        mldsa.MLDSA65PrivateKey.generate,
        large_rsa_key,
    ],
    ids=["secp256k1", "X25519", "ML-DSA-65", "RSA-4104"],
)
def test_a_key_that_it_cannot_use_is_refused_with_what_it_takes(tmp_path: Path, key: object) -> None:
    private = key()  # type: ignore[operator]
    path = tmp_path / "ca.key"
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE)))
    path.chmod(0o600)
    with pytest.raises(OperatorError, match=r"ca\.key: wolfSSL does not take this CA key: use RSA up to 4096 bits, P-"):
        open_store(tmp_path).open(uri(path))


@pytest.mark.parametrize(
    "octets",
    [
        ED25519_PREFIX[:-1] + b"\x1f" + bytes(32),
        bytes.fromhex("3081050201003013") + bytes.fromhex("06072a8648ce3d020106082a8648ce3d0301070401") + b"\0" * 9,
        bytes.fromhex("301402010030") + bytes.fromhex("0d06092a864886f70d01010105000400"),
    ],
    ids=["seed-of-another-length", "P-256-without-a-key", "RSA-without-a-key"],
)
def test_what_looks_like_a_key_and_is_none_is_refused(tmp_path: Path, octets: bytes) -> None:
    store = open_store(tmp_path)
    with pytest.raises(
        OperatorError, match=r"ca\.key: .*(this key is damaged: restore it|cannot unlock|does not take)"
    ):
        store.open(write_octets(store, tmp_path / "ca.key", octets))


# Signatures


def test_a_key_that_16_threads_share_makes_no_wrong_signature(tmp_path: Path) -> None:
    """RSA is where wolfSSL keeps its state in the key: without the lock, one in seven is wrong."""
    store = open_store(tmp_path)
    key = store.open(uri(Path(write_key(tmp_path / "ca.key", rsa_key())) and tmp_path / "ca.key"))
    public, wrong = rsa_key().public_key(), []

    def sign(number: int) -> None:
        for count in range(30):
            octets = b"%d %d" % (number, count)
            try:
                verify(public, RSA_SHA256, key.sign(RSA_SHA256, octets), octets)
            except (SignatureInvalid, OperatorError) as error:
                wrong.append(error)

    threads = [threading.Thread(target=sign, args=(number,)) for number in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


def test_threads_that_end_leave_nothing_behind(tmp_path: Path) -> None:
    """wolfSSL keeps 0.8 MB of tables for every thread that has made or verified an ECDSA signature."""
    write_key(tmp_path / "ca.key", p256_key())
    backend, key = load(), open_store(tmp_path).open(uri(tmp_path / "ca.key"))
    done = []

    def sign() -> None:
        for _ in range(3):
            backend.verify(key.public_key_info, ECDSA_SHA256, key.sign(ECDSA_SHA256, b"x"), b"x")
        done.append(1)

    def run(count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=sign)
            thread.start()
            thread.join()

    run(5)
    before = resident_octets()
    run(60)
    assert len(done) == 65
    assert resident_octets() - before < 16 << 20


@pytest.mark.parametrize("kind", ["RSA-2048", "P-256", "Ed25519"])
def test_a_closed_store_signs_nothing_more(tmp_path: Path, kind: str) -> None:
    private, _ = ca_key(kind)
    write_key(tmp_path / "ca.key", private)
    store = open_store(tmp_path)
    key = store.open(uri(tmp_path / "ca.key"))
    assert key.sign(key.algorithms[0], b"")
    store.close()
    store.close()
    with pytest.raises(InternalError, match="the store of this key is closed"):
        key.sign(key.algorithms[0], b"")


def test_secrets_are_overwritten_when_they_are_freed() -> None:
    library, freed = Library(), []
    functions = library.functions

    class Watched:
        def __getattr__(self, name: str) -> object:
            return getattr(functions, name)

        @staticmethod
        def wolfSSL_OPENSSL_cleanse(pointer: Any, count: int) -> None:  # noqa: N802 - wolfSSL's name
            functions.wolfSSL_OPENSSL_cleanse(pointer, count)
            freed.append(bytes(library.ffi.buffer(pointer, count)))

    library.functions = Watched()
    secret = library.secret(8)
    library.ffi.memmove(secret, b"password", 8)
    assert freed == []
    del secret
    gc.collect()
    assert freed == [bytes(8)]


# Public keys


def test_a_longer_rsa_key_is_refused_and_not_called_wrong() -> None:
    key = large_rsa_key()
    with pytest.raises(OperatorError, match="does not take an RSA key of 4104 bits: it takes RSA up to 4096 bits"):
        load().verify(public_octets(key), RSA_SHA256, bytes(513), b"")


def test_a_point_off_the_curve_is_refused() -> None:
    """Or a key could be given out that looks like one, and signs for whoever chose it."""
    info = bytearray(public_octets(p256_key()))
    info[-1] ^= 1
    with pytest.raises(OperatorError, match=r"wolfSSL does not take this public key: .*point"):
        load().verify(bytes(info), ECDSA_SHA256, b"", b"")


@pytest.mark.parametrize("first", [0x02, 0x06])
def test_a_point_that_is_not_written_out_is_refused(first: int) -> None:
    whole = public_octets(p256_key())
    point = whole[-65:]
    written = bytes([first + (point[-1] & 1)]) + (point[1:33] if first == 0x02 else point[1:])
    info = der.encode(der.SEQUENCE, whole[2:-68], der.encode(der.BIT_STRING, b"\0", written))
    with pytest.raises(OperatorError, match="not written with both coordinates"):
        load().verify(info, ECDSA_SHA256, b"", b"")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Ed25519", b"\xee" + b"\xff" * 30 + b"\x7f"),
        ("Ed25519", b"\1" + bytes(30) + b"\x80"),
        ("Ed448", b"\1" + bytes(55) + b"\1"),
        ("Ed448", b"\1" + bytes(55) + b"\x80"),
    ],
    ids=["y-past-the-prime", "sign-of-0", "ed448-last-octet", "ed448-sign-of-0"],
)
def test_an_eddsa_key_in_another_form_than_its_one_is_refused(name: str, key: bytes) -> None:
    """wolfSSL itself takes each of these points, and then this signature under it over anything."""
    algorithm = next(each for each in ALGORITHMS if each.name == name)
    identifier = bytes.fromhex("300506032b6570" if name == "Ed25519" else "300506032b6571")
    info = der.encode(der.SEQUENCE, identifier, der.encode(der.BIT_STRING, b"\0", key))
    with pytest.raises(OperatorError, match=f"it is no {name} key in its one form"):
        load().verify(info, algorithm, b"\1" + bytes(2 * len(key) - 1), b"x")


@pytest.mark.parametrize("kind", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
def test_ml_dsa_is_what_it_cannot_verify(kind: str) -> None:
    private, _ = ca_key(kind)
    algorithm = algorithms_for(private.public_key())[0]
    assert algorithm not in load().verifies
    with pytest.raises(OperatorError, match="wolfSSL does not take this public key: it takes RSA up to 4096 bits"):
        load().verify(public_octets(private), algorithm, b"", b"")


# The library


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wolfssl_library, "SONAME", "libwolfssl.so.0")
    with pytest.raises(OSError, match=r"libwolfssl\.so\.0"):
        load()


def test_a_library_that_was_built_without_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        wolfssl_library, "_DECLARATIONS", wolfssl_library._DECLARATIONS + "int wc_falcon_sign_everything(void);"
    )
    with pytest.raises(ImportError, match=r"this libwolfssl\.so\.35 was built without wc_falcon_sign_everything"):
        load()


def test_a_version_whose_keys_are_larger_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wolfssl_library, "_WORKSPACE_OCTETS", 4096 + 64)
    store = open_store(tmp_path)
    with pytest.raises(InternalError, match="needs more room for a key than it ever did"):
        store.open(write_octets(store, tmp_path / "ca.key", ED25519_PREFIX + bytes(32)))


def test_it_says_which_it_is() -> None:
    assert load().version.startswith("wolfSSL 5.")
