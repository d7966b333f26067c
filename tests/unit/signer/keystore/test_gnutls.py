from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cffi
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa, x25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from tests.support.authorities import PrivateKey, p256_key, rsa_key
from tests.support.signer import PASSPHRASE, write_key

from cassiopeia.core import algorithms
from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm
from cassiopeia.core.key_uri import FileUri, parse_key_uri
from cassiopeia.errors import InternalError, OperatorError, SignatureInvalid, Unavailable
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore import gnutls
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.gnutls import GnuTls
from cassiopeia.signer.keystore.interface import CaKey, KeyStore, StoreSettings

_CLAIMED = tuple(each for each in ALGORITHMS if not each.key_kind.startswith("ML-DSA"))
_OCTETS = b"to be signed"
_MAKE: dict[str, Callable[[], PrivateKey]] = {
    "RSA": rsa_key,
    "EC-sha256": p256_key,
    "EC-sha384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EC-sha512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}
every_algorithm = pytest.mark.parametrize("algorithm", _CLAIMED, ids=lambda each: each.name)
every_curve = pytest.mark.parametrize(
    "algorithm", [each for each in _CLAIMED if each.key_kind == "EC"], ids=lambda each: each.name
)


@functools.cache
def library() -> GnuTls:
    return gnutls.load()


@functools.cache
def key_for(algorithm: SignatureAlgorithm) -> PrivateKey:
    kind = f"EC-{algorithm.hash_name}" if algorithm.key_kind == "EC" else algorithm.key_kind
    return _MAKE[kind]()


def named(name: str) -> SignatureAlgorithm:
    return next(each for each in ALGORITHMS if each.name == name)


def key_info(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def open_store(directory: Path, passphrase: bytes = PASSPHRASE) -> KeyStore:
    file = directory / "passphrase"
    file.write_bytes(passphrase)
    file.chmod(0o600)
    return library().open_store(StoreSettings(passphrase=SecretSource(what="the passphrase", file=file)))


def open_key(directory: Path, key: PrivateKey | bytes, passphrase: bytes = PASSPHRASE) -> CaKey:
    """This key, or whatever these octets of a key file are."""
    if isinstance(key, bytes):
        (directory / "ca.key").write_bytes(key)
        (directory / "ca.key").chmod(0o600)
    else:
        write_key(directory / "ca.key", key)
    return open_store(directory, passphrase).open(FileUri(path=str(directory / "ca.key")))


def signed_by_openssl(algorithm: SignatureAlgorithm) -> bytes:
    key = key_for(algorithm)
    if isinstance(key, rsa.RSAPrivateKey):
        digest = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[algorithm.hash_name]
        pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return key.sign(_OCTETS, pss if algorithm.is_pss else padding.PKCS1v15(), digest)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digests = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
        return key.sign(_OCTETS, ec.ECDSA(digests[algorithm.hash_name]))
    return key.sign(_OCTETS)


def test_it_says_which_library_it_is() -> None:
    assert library().name == "gnutls"
    assert library().version.startswith("GnuTLS 3.")
    assert tuple(library().signs) == tuple(library().verifies) == _CLAIMED


@every_algorithm
@pytest.mark.parametrize("octets", [b"", _OCTETS, bytes(100_000)], ids=["nothing", "some", "many"])
def test_what_it_signs_openssl_verifies(tmp_path: Path, algorithm: SignatureAlgorithm, octets: bytes) -> None:
    private = key_for(algorithm)
    key = open_key(tmp_path, private)

    signature = key.sign(algorithm, octets)

    assert algorithm in key.algorithms
    assert key.algorithms == tuple(
        each for each in algorithms.algorithms_for(private.public_key()) if each in library().signs
    )
    assert key.public_key_info == key_info(private)
    algorithms.verify(private.public_key(), algorithm, signature, octets)
    library().verify(key.public_key_info, algorithm, signature, octets)
    with pytest.raises(SignatureInvalid):
        library().verify(key.public_key_info, algorithm, signature, octets + b"\0")


@every_algorithm
def test_what_openssl_signs_it_verifies(algorithm: SignatureAlgorithm) -> None:
    library().verify(key_info(key_for(algorithm)), algorithm, signed_by_openssl(algorithm), _OCTETS)


@every_algorithm
def test_a_signature_cut_extended_or_changed_is_refused(algorithm: SignatureAlgorithm) -> None:
    signature = signed_by_openssl(algorithm)
    flipped = [
        signature[:place] + bytes([signature[place] ^ 1 << bit]) + signature[place + 1 :]
        for place in (0, 1, len(signature) // 2, len(signature) - 1)
        for bit in range(8)
    ]
    for wrong in (b"", b"\0", signature[:-1], signature[1:], signature + b"\0", b"\0" + signature, *flipped):
        with pytest.raises(SignatureInvalid):
            library().verify(key_info(key_for(algorithm)), algorithm, wrong, _OCTETS)


@pytest.mark.parametrize("bit", range(8))
def test_the_last_octet_of_ed448_counts(bit: int) -> None:
    """GnuTLS 3.7 itself does not look at it."""
    algorithm = named("Ed448")
    signature = signed_by_openssl(algorithm)
    with pytest.raises(SignatureInvalid, match="last octet of an Ed448 signature is zero"):
        library().verify(key_info(key_for(algorithm)), algorithm, signature[:-1] + bytes([1 << bit]), _OCTETS)


@pytest.mark.parametrize("algorithm", [each for each in _CLAIMED if each.is_pss], ids=lambda each: each.name)
@pytest.mark.parametrize("salt", [0, 20, 31, 33, 47, 49, 63, 65])
def test_a_salt_of_another_length_than_the_hash_is_refused(algorithm: SignatureAlgorithm, salt: int) -> None:
    digest = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[algorithm.hash_name]
    signature = rsa_key().sign(_OCTETS, padding.PSS(padding.MGF1(digest), salt), digest)
    with pytest.raises(SignatureInvalid):
        library().verify(key_info(rsa_key()), algorithm, signature, _OCTETS)


def integer(value: int) -> bytes:
    octets = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    return b"\x02" + bytes([len(octets)]) + octets


def sequence(*parts: bytes, length_octets: int = 0) -> bytes:
    content = b"".join(parts)
    length = len(content).to_bytes(length_octets or 1, "big")
    return b"\x30" + (bytes([0x80 | len(length)]) if length_octets or len(content) > 127 else b"") + length + content


@every_curve
def test_an_ecdsa_signature_is_der_or_nothing(algorithm: SignatureAlgorithm) -> None:
    """GnuTLS 3.7 itself takes any BER."""
    info = key_info(key_for(algorithm))
    signature = signed_by_openssl(algorithm)
    r, s = decode_dss_signature(signature)
    assert sequence(integer(r), integer(s)) == signature
    padded = b"\x02" + bytes([integer(r)[1] + 1]) + b"\0" + integer(r)[2:]
    for wrong in (
        sequence(padded, integer(s)),
        sequence(integer(r), integer(s), length_octets=2),
        b"\x30\x80" + integer(r) + integer(s) + b"\0\0",
        sequence(integer(r), integer(s), b"\x05\0"),
        sequence(integer(r)),
        sequence(),
        sequence(integer(r), b"\x02\0"),
        sequence(integer(r), b"\x04" + integer(s)[1:]),
        sequence(integer(r), integer(-s)),
        sequence(integer(r), integer(0)),
        sequence(integer(0), integer(s)),
        sequence(integer(0), integer(0)),
        signature + b"\0",
    ):
        with pytest.raises(SignatureInvalid, match="is no DER of two"):
            library().verify(info, algorithm, wrong, _OCTETS)


@every_curve
def test_numbers_out_of_range_are_refused(algorithm: SignatureAlgorithm) -> None:
    # SEC 2: the orders of the three groups.
    order = {
        "sha256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
        "sha384": (1 << 384) - 0x389CB27E0BC8D220A7E5F24DB74F58851313E695333AD68D,
        "sha512": (1 << 521) - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
    }[algorithm.hash_name]
    info = key_info(key_for(algorithm))
    r, s = decode_dss_signature(signed_by_openssl(algorithm))
    library().verify(info, algorithm, sequence(integer(r), integer(order - s)), _OCTETS)  # so the order is right
    for wrong in ((r, s + order), (r + order, s), (r, order), (order, s), (order, order)):
        with pytest.raises(SignatureInvalid, match="does not verify"):
            library().verify(info, algorithm, sequence(*map(integer, wrong)), _OCTETS)


@pytest.mark.parametrize("name", ["Ed25519", "Ed448"])
def test_eddsa_with_s_past_the_order_is_refused(name: str) -> None:
    """RFC 8032 5.1.7 and 5.2.7: otherwise anybody makes a second signature from one."""
    order, width = {
        "Ed25519": ((1 << 252) + 27742317777372353535851937790883648493, 32),
        "Ed448": ((1 << 446) - 13818066809895115352007386748515426880336692474882178609894547503885, 57),
    }[name]
    signature = signed_by_openssl(named(name))
    s = int.from_bytes(signature[width:], "little") + order
    with pytest.raises(SignatureInvalid):
        library().verify(
            key_info(key_for(named(name))), named(name), signature[:width] + s.to_bytes(width, "little"), _OCTETS
        )


@every_algorithm
def test_another_kind_of_key_or_another_key_verifies_nothing(algorithm: SignatureAlgorithm) -> None:
    signature = signed_by_openssl(algorithm)
    for other in _CLAIMED:
        if key_for(other) is not key_for(algorithm):
            with pytest.raises(SignatureInvalid):
                library().verify(key_info(key_for(other)), algorithm, signature, _OCTETS)
            with pytest.raises(SignatureInvalid):
                library().verify(key_info(key_for(algorithm)), other, signature, _OCTETS)


def test_a_public_key_that_it_does_not_take_is_an_operator_s_matter() -> None:
    with pytest.raises(OperatorError, match="this public key cannot be used: GnuTLS says"):
        library().verify(b"\x30\0", named("Ed25519"), bytes(64), _OCTETS)
    private = mldsa.MLDSA44PrivateKey.generate()
    with pytest.raises(OperatorError, match="does not know ML-DSA-44: name another library"):
        library().verify(key_info(private), named("ML-DSA-44"), private.sign(b""), b"")
    with pytest.raises(OperatorError, match="this public key cannot be used"):
        library().verify(key_info(private), named("Ed25519"), bytes(64), b"")


def encrypted(key: PrivateKey | x25519.X25519PrivateKey, passphrase: bytes = PASSPHRASE) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))


def in_clear(key: PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_a_wrong_passphrase_unlocks_nothing(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"ca\.key: cannot unlock this CA key: wrong passphrase") as caught:
        open_key(tmp_path, p256_key(), b"wrong")
    assert "/etc/gnutls" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        in_clear(p256_key()),
        encrypted(p256_key()) + in_clear(p256_key()),
        in_clear(p256_key()) + encrypted(p256_key()),
        encrypted(p256_key()) + encrypted(p256_key()),
    ],
    ids=["empty", "words", "armour", "damaged", "certificate", "clear", "clear-behind", "clear-before", "two"],
)
def test_a_file_that_is_not_one_encrypted_key_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(OperatorError, match=r"not an encrypted PKCS#8 PEM file|a damaged file"):
        open_key(tmp_path, content)


@pytest.mark.parametrize(
    "options",
    [
        ["-v2", "aes-128-cbc"],
        ["-v2", "aes-192-cbc"],
        ["-v2", "des3"],
        ["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA1"],
        ["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"],
        ["-v2", "aes-256-cbc", "-iter", "100000"],
    ],
    ids=" ".join,
)
def test_it_unlocks_what_openssl_locked(tmp_path: Path, options: list[str]) -> None:
    assert open_key(tmp_path, locked_by_openssl(options)).public_key_info == key_info(p256_key())


@pytest.mark.parametrize("options", [["-scrypt"], ["-v2", "camellia-256-cbc"]], ids=" ".join)
def test_an_encryption_that_it_does_not_know_is_said(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(OperatorError, match="in PKCS#8 with PBES2, not scrypt: name another backend"):
        open_key(tmp_path, locked_by_openssl(options))


def locked_by_openssl(options: list[str], key: bytes | None = None) -> bytes:
    return subprocess.run(
        ["openssl", "pkcs8", "-topk8", *options, "-passout", f"pass:{PASSPHRASE.decode()}"],
        input=key or in_clear(p256_key()),
        capture_output=True,
        check=True,
    ).stdout


def test_a_key_of_a_kind_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"ca\.key: GnuTLS 3\.\S+ knows no keys of this kind: name another backend"):
        open_key(tmp_path, mldsa.MLDSA44PrivateKey.generate())


def rsa_pss_only() -> bytes:
    """A key of the kind id-RSASSA-PSS (RFC 4055 1.2), which the library of the certificates takes for a plain one."""
    made = subprocess.run(["openssl", "genpkey", "-algorithm", "RSA-PSS"], capture_output=True, check=True).stdout
    return locked_by_openssl([], made)


@pytest.mark.parametrize(
    "make",
    [
        lambda: encrypted(x25519.X25519PrivateKey.generate()),
        lambda: encrypted(ec.generate_private_key(ec.SECP224R1())),
        rsa_pss_only,
    ],
    ids=["X25519", "P-224", "RSASSA-PSS"],
)
def test_a_key_that_signs_nothing_here_is_refused(tmp_path: Path, make: Callable[[], bytes]) -> None:
    with pytest.raises(OperatorError, match="GnuTLS cannot sign with this CA key: take RSA"):
        open_key(tmp_path, make())


def test_a_passphrase_that_gnutls_changes_is_named_as_the_reason(tmp_path: Path) -> None:
    """RFC 8265 4.2: OpaqueString composes characters."""
    decomposed = "e\u0301".encode()
    with pytest.raises(OperatorError, match="GnuTLS changes some characters beyond ASCII"):
        open_key(tmp_path, encrypted(p256_key(), decomposed), decomposed)
    composed = "\u00e9".encode()
    assert open_key(tmp_path, encrypted(p256_key(), composed), composed).public_key_info == key_info(p256_key())


def test_a_passphrase_with_a_nul_is_not_cut_there(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="the passphrase has a NUL octet"):
        open_key(tmp_path, encrypted(p256_key(), b"a"), b"a\0b")


def test_a_key_in_a_token_is_not_for_this_store(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="a key in a token, and no key file"):
        open_store(tmp_path).open(parse_key_uri("pkcs11:token=ca;object=x"))


def test_another_key_s_algorithm_is_our_own_mistake(tmp_path: Path) -> None:
    key = open_key(tmp_path, p256_key())
    with pytest.raises(InternalError, match="does not sign with sha256WithRSAEncryption"):
        key.sign(named("sha256WithRSAEncryption"), b"")


@pytest.mark.parametrize("kind", ["RSA-2048", "RSA-3072", "P-256", "P-384", "P-521", "Ed25519", "Ed448"])
def test_a_key_that_it_makes_both_libraries_open(tmp_path: Path, kind: str) -> None:
    store = open_store(tmp_path)
    uri = FileUri(path=str(tmp_path / "new.key"))

    made = store.generate(uri, kind)

    assert (tmp_path / "new.key").stat().st_mode & 0o777 == 0o600
    assert store.open(uri).public_key_info == made.public_key_info
    private = load_pem_private_key((tmp_path / "new.key").read_bytes(), PASSPHRASE)
    assert private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == made.public_key_info
    assert made.algorithms == algorithms.algorithms_for(private.public_key())
    algorithms.verify(private.public_key(), made.algorithms[0], made.sign(made.algorithms[0], _OCTETS), _OCTETS)
    if isinstance(private, rsa.RSAPrivateKey):
        assert private.key_size == int(kind.removeprefix("RSA-"))
        assert private.public_key().public_numbers().e == 65537


@pytest.mark.parametrize("kind", ["P-256", "P-384", "P-521"])
def test_every_ec_key_that_it_makes_is_one_that_openssl_takes(tmp_path: Path, kind: str) -> None:
    """GnuTLS 3.7 by itself writes each second one with an octet too many or too few."""
    store = open_store(tmp_path)
    for number in range(6):
        store.generate(FileUri(path=str(tmp_path / f"{number}.key")), kind)
        assert load_pem_private_key((tmp_path / f"{number}.key").read_bytes(), PASSPHRASE)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "ca.key").write_bytes(b"precious")
    with pytest.raises(OperatorError, match="is there already, and nothing is overwritten"):
        open_store(tmp_path).generate(FileUri(path=str(tmp_path / "ca.key")), "P-256")
    assert (tmp_path / "ca.key").read_bytes() == b"precious"


def test_a_kind_that_it_does_not_make_is_said(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="makes no ML-DSA-65 keys; let another backend make it"):
        open_store(tmp_path).generate(FileUri(path=str(tmp_path / "ca.key")), "ML-DSA-65")
    assert not (tmp_path / "ca.key").exists()


def test_no_key_is_made_that_only_gnutls_could_open(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="has characters beyond ASCII, which GnuTLS changes"):
        open_store(tmp_path, "\u212b".encode()).generate(FileUri(path=str(tmp_path / "ca.key")), "P-256")
    assert not (tmp_path / "ca.key").exists()


def test_a_damaged_key_signs_nothing(tmp_path: Path) -> None:
    """A wrong signature can give an RSA key away: GnuTLS looks at each before it gives it out."""
    numbers = rsa_key().private_numbers()
    damaged = rsa.RSAPrivateNumbers(
        p=numbers.p,
        q=numbers.q,
        d=numbers.d ^ 1 << 99,
        dmp1=numbers.dmp1,
        dmq1=numbers.dmq1,
        iqmp=numbers.iqmp,
        public_numbers=numbers.public_numbers,
    ).private_key(unsafe_skip_rsa_key_validation=True)
    key = open_key(tmp_path, damaged)
    with pytest.raises(OperatorError, match=r"ca\.key: cannot sign with .*; restore this key from its backup"):
        key.sign(key.algorithms[0], _OCTETS)


_TRY: Final = """
import sys
from pathlib import Path
from cassiopeia.core.algorithms import ALGORITHMS
from cassiopeia.core.key_uri import FileUri
from cassiopeia.errors import OperatorError
from cassiopeia.secret_source import SecretSource
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.interface import StoreSettings

backend = load_backend("gnutls")
print(*(each.name for each in backend.signs))
directory = Path(sys.argv[1])
store = backend.open_store(StoreSettings(passphrase=SecretSource(what="it", file=directory / "passphrase")))
try:
    key = store.open(FileUri(path=str(directory / "ca.key")))
    algorithm = next(each for each in ALGORITHMS if each.name == sys.argv[2])
    backend.verify(key.public_key_info, algorithm, bytes.fromhex(sys.argv[3]), b"to be signed")
    print("verified")
except OperatorError as error:
    print(error)
"""


def tried(directory: Path, configuration: str, name: str) -> tuple[set[str], str]:
    """What the library says under a configuration of the machine: what it signs with, and how it takes a signature."""
    key_for_name = key_for(named(name))
    open_key(directory, key_for_name)
    (directory / "gnutls.conf").write_text(configuration)
    result = subprocess.run(
        [sys.executable, "-c", _TRY, str(directory), name, signed_by_openssl(named(name)).hex()],
        env={**os.environ, "PYTHONPATH": "src", "GNUTLS_SYSTEM_PRIORITY_FILE": str(directory / "gnutls.conf")},
        capture_output=True,
        text=True,
        check=True,
    )
    signs, said = result.stdout.splitlines()
    return set(signs.split()), said


_ALL: Final = {each.name for each in _CLAIMED}


@pytest.mark.parametrize(
    ("configuration", "name", "missing", "said"),
    [
        ("", "sha256WithRSAEncryption", set(), "verified"),
        ("insecure-sig = RSA-SHA256", "sha256WithRSAEncryption", {"sha256WithRSAEncryption"}, "forbids sha256WithRSA"),
        ("insecure-sig = RSA-SHA256", "sha384WithRSAEncryption", {"sha256WithRSAEncryption"}, "verified"),
        ("insecure-sig = EdDSA-Ed25519", "Ed25519", {"Ed25519"}, "cannot sign with this CA key"),
        ("disabled-curve = SECP256R1", "ecdsa-with-SHA256", {"ecdsa-with-SHA256"}, "its configuration on this machine"),
    ],
    ids=["nothing", "signature", "another", "eddsa", "curve"],
)
def test_what_the_machine_s_configuration_forbids_is_not_claimed_and_said(
    tmp_path: Path, configuration: str, name: str, missing: set[str], said: str
) -> None:
    signs, sentence = tried(tmp_path, f"[overrides]\n{configuration}\n", name)
    assert signs == _ALL - missing
    assert said in sentence


def test_a_missing_library_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gnutls, "_SONAME", "libgnutls.so.0")
    with pytest.raises(
        Unavailable, match=r"gnutls is not installed.*apt install libgnutls30.*libgnutls\.so\.0"
    ) as caught:
        load_backend.__wrapped__("gnutls")
    assert caught.value.code == "backend-missing"


def test_a_missing_cffi_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cffi", None)
    with pytest.raises(Unavailable, match=r"pip install 'cassiopeia-ca\[gnutls\]'.*cffi"):
        load_backend.__wrapped__("gnutls")


def test_a_library_that_is_too_old_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gnutls, "_OLDEST", b"99.0.0")
    with pytest.raises(Unavailable, match=r"gnutls cannot be used: it is older than 99\.0\.0; install a newer one"):
        gnutls.load()


def test_a_library_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a self-test of FIPS 140 that failed, which the library of Debian does not have."""
    dlopen = cffi.FFI.dlopen

    class NotStarting:
        def __init__(self, *arguments: Any) -> None:
            self._functions = dlopen(*arguments)

        def gnutls_global_init(self) -> int:
            return -400  # GNUTLS_E_SELF_TEST_ERROR

        def __getattr__(self, name: str) -> Any:
            return getattr(self._functions, name)

    def not_starting(*arguments: Any) -> NotStarting:
        return NotStarting(*arguments)

    monkeypatch.setattr(cffi.FFI, "dlopen", not_starting)
    with pytest.raises(
        Unavailable, match="gnutls cannot be used: GnuTLS says: Error while performing self checks"
    ) as caught:
        gnutls.load()
    assert caught.value.code == "backend-missing"
