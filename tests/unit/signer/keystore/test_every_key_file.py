"""What every library says of key files that are wrong, locked, damaged, missing, or somebody else's.

Needs the programs `openssl` and `certtool` (Debian: apt-get install openssl gnutls-bin), which make key files too.
"""

from __future__ import annotations

import base64
import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from tests.support.authorities import PrivateKey, make_authority, make_ca, p256_key, rsa_key
from tests.support.crypto_backends import FILE_BACKENDS, file_settings, openssl, public_key_info
from tests.support.signer import PASSPHRASE, write_key

from cassiopeia.config import KeyUse
from cassiopeia.config.keys import resolve_key_uri
from cassiopeia.core import algorithms, der
from cassiopeia.core.algorithms import ALGORITHMS
from cassiopeia.core.key_uri import FileUri, Pkcs11Uri, parse_key_uri
from cassiopeia.errors import OperatorError, SignatureInvalid
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.interface import CaKey, SignatureMistrusted
from cassiopeia.signer.keystore.ring import KeyRing

every_library = pytest.mark.parametrize("backend", FILE_BACKENDS)


def open_file(backend: str, path: Path, *, passphrase: bytes = PASSPHRASE) -> CaKey:
    store = load_backend(backend).open_store(file_settings(path.parent, passphrase=passphrase))
    return store.open(FileUri(path=str(path)))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@every_library
def test_a_path_counts_from_where_the_configuration_is(tmp_path: Path, backend: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    write_key(tmp_path / "ca.key", p256_key())
    store = load_backend(backend).open_store(file_settings(tmp_path))
    for uri, base in (("file:ca.key", tmp_path), (f"file:{tmp_path}/ca.key", tmp_path / "elsewhere")):
        key = store.open(resolve_key_uri(parse_key_uri(uri), base))
        assert key.public_key_info == public_key_info(p256_key())


@every_library
@pytest.mark.parametrize("passphrase", [b"wrong", b"correct hors", b"correct horse ", b"\xff\xfe", b"a" * 1000])
def test_a_wrong_passphrase_unlocks_nothing(tmp_path: Path, backend: str, passphrase: bytes) -> None:
    write_key(tmp_path / "ca.key", p256_key())
    with pytest.raises(OperatorError, match=r"ca\.key: cannot unlock this CA key: wrong passphrase") as caught:
        open_file(backend, tmp_path / "ca.key", passphrase=passphrase)
    assert "correct hors" not in str(caught.value)


@every_library
def test_a_key_in_clear_is_refused(tmp_path: Path, backend: str) -> None:
    """Whoever wrote it believed that the passphrase protects it."""
    write_key(tmp_path / "ca.key", p256_key(), passphrase=None)
    with pytest.raises(OperatorError, match="not an encrypted PKCS#8 PEM file"):
        open_file(backend, tmp_path / "ca.key")


@every_library
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a key",
        b"\0" * 2000,
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n-----END ENCRYPTED PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n!!!!\n-----END ENCRYPTED PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ],
    ids=["empty", "text", "zeros", "nothing-inside", "short-inside", "no-base64", "cut-off", "certificate"],
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, backend: str, content: bytes) -> None:
    with pytest.raises(OperatorError, match="cannot unlock this CA key"):
        open_file(backend, write(tmp_path / "ca.key", content))


def locked(*, style: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return p256_key().private_bytes(Encoding.PEM, style, BestAvailableEncryption(PASSPHRASE))


def in_clear() -> bytes:
    return p256_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@every_library
@pytest.mark.parametrize(
    "content",
    [
        locked(style=PrivateFormat.TraditionalOpenSSL),
        locked() + locked(),
        locked() + in_clear(),
        in_clear() + locked(),
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" + locked(),
    ],
    ids=["traditional", "two", "clear-behind", "clear-before", "certificate-before"],
)
def test_a_file_of_another_form_is_refused_by_all_and_not_by_the_next_one_alone(
    tmp_path: Path, backend: str, content: bytes
) -> None:
    """Or whoever switches would learn it on the day when the first library is broken."""
    with pytest.raises(
        OperatorError, match=r"ca\.key: .*not an encrypted PKCS#8 PEM file.*write it anew with openssl pkcs8 -topk8"
    ):
        open_file(backend, write(tmp_path / "ca.key", content))


@every_library
@pytest.mark.parametrize(
    "content",
    [b"CA 1\n" + locked() + b"kept since 2026\n", locked().replace(b"\n", b"\r\n")],
    ids=["text-around", "crlf"],
)
def test_what_may_stand_around_a_key_is_no_matter(tmp_path: Path, backend: str, content: bytes) -> None:
    key = open_file(backend, write(tmp_path / "ca.key", content))
    assert key.public_key_info == public_key_info(p256_key())


@every_library
def test_a_file_too_large_for_a_key_is_not_read(tmp_path: Path, backend: str) -> None:
    with pytest.raises(OperatorError, match="this is no key file: it has more than 65536 octets"):
        open_file(backend, write(tmp_path / "ca.key", b"\n" * 70_000))


@every_library
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_can_touch_is_refused(tmp_path: Path, backend: str, mode: int) -> None:
    write_key(tmp_path / "ca.key", p256_key(), mode=mode)
    with pytest.raises(OperatorError, match=f"others can read this CA key; run: chmod 600 {tmp_path}/ca.key"):
        open_file(backend, tmp_path / "ca.key")


@every_library
def test_a_key_that_is_not_there_is_named(tmp_path: Path, backend: str) -> None:
    with pytest.raises(OperatorError, match=f"{tmp_path}/ca.key: cannot read this CA key: No such file"):
        open_file(backend, tmp_path / "ca.key")
    (tmp_path / "directory").mkdir(mode=0o700)
    with pytest.raises(OperatorError, match=f"{tmp_path}/directory: cannot read this CA key: Is a directory"):
        open_file(backend, tmp_path / "directory")


@every_library
def test_a_key_in_a_token_is_not_for_a_store_of_files(tmp_path: Path, backend: str) -> None:
    store = load_backend(backend).open_store(file_settings(tmp_path))
    assert list(store.list_keys()) == []
    for act in (store.open, lambda uri: store.generate(uri, "P-256")):
        with pytest.raises(OperatorError, match="a key in a token, and no key file"):
            act(Pkcs11Uri(token="ca", label="x"))


@every_library
@pytest.mark.parametrize(
    "key",
    [
        x25519.X25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
        dsa.generate_private_key(2048),
    ],
    ids=["X25519", "secp256k1", "DSA"],
)
def test_a_key_that_no_ca_signs_with_is_refused(
    tmp_path: Path, backend: str, key: x25519.X25519PrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey
) -> None:
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))
    with pytest.raises(OperatorError, match=r"ca\.key: "):
        open_file(backend, write(tmp_path / "ca.key", content))


@every_library
@pytest.mark.parametrize("kind", ["EC", "RSA", "ED25519"])
def test_key_files_of_the_program_openssl(tmp_path: Path, backend: str, kind: str) -> None:
    options = {"EC": ["-pkeyopt", "ec_paramgen_curve:P-256"], "RSA": ["-pkeyopt", "rsa_keygen_bits:2048"]}
    (tmp_path / "clear").mkdir()
    secret = write(tmp_path / "passphrase", PASSPHRASE)
    plain, path, public = tmp_path / "clear" / "key", tmp_path / "ca.key", tmp_path / "public"
    assert openssl("genpkey", "-algorithm", kind, *options.get(kind, ()), "-out", plain).returncode == 0
    assert openssl("pkcs8", "-topk8", "-in", plain, "-out", path, "-passout", f"file:{secret}").returncode == 0
    assert openssl("pkey", "-in", plain, "-pubout", "-outform", "DER", "-out", public).returncode == 0
    path.chmod(0o600)
    assert open_file(backend, path).public_key_info == public.read_bytes()


def certtool_key(path: Path, *options: str) -> None:
    """A key file as `certtool` writes it."""
    done = subprocess.run(
        [
            *("certtool", "--generate-privkey", "--pkcs8", *options, f"--password={PASSPHRASE.decode()}"),
            *("--pkcs-cipher=aes-256", f"--outfile={path}"),
        ],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    path.chmod(0o600)


@every_library
def test_key_files_of_the_program_certtool(tmp_path: Path, backend: str) -> None:
    certtool_key(tmp_path / "ca.key", "--key-type=ed25519")
    key = open_file(backend, tmp_path / "ca.key")
    assert key.public_key_info == open_file("openssl", tmp_path / "ca.key").public_key_info


def test_an_ec_key_that_certtool_writes_with_a_zero_in_front(tmp_path: Path) -> None:
    """Every second one: what takes it signs with it, what does not says how to write it anew, and that is so."""
    path, anew, secret = tmp_path / "ca.key", tmp_path / "new.key", f"pass:{PASSPHRASE.decode()}"
    told = ""
    while not told:
        certtool_key(path, "--key-type=ecdsa", "--curve=secp256r1")
        try:
            open_file("openssl", path)
        except OperatorError as error:
            told = str(error)
    assert told.endswith(f"run openssl pkcs8 -topk8 -in {path} -out NEW and name NEW, or let gnutls or wolfssl sign")
    expected = open_file("gnutls", path).public_key_info
    assert open_file("wolfssl", path).public_key_info == expected
    done = openssl(
        *("pkcs8", "-topk8", "-in", path, "-out", anew),
        *("-passin", secret, "-passout", secret),
    )
    assert done.returncode == 0, done.stderr
    anew.chmod(0o600)
    for backend in FILE_BACKENDS:
        assert open_file(backend, anew).public_key_info == expected


def lock(directory: Path, info: bytes) -> Path:
    """A key file of this PrivateKeyInfo, locked by the program `openssl`, which does not validate the key."""
    plain, path, secret = directory / "clear", directory / "ca.key", write(directory / "secret", PASSPHRASE)
    plain.write_bytes(info)
    options = ("-topk8", "-inform", "DER", "-in", plain, "-out", path, "-passout", f"file:{secret}")
    assert openssl("pkcs8", *options).returncode == 0
    path.chmod(0o600)
    return path


def number(value: int) -> bytes:
    return der.encode(der.INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


@every_library
@pytest.mark.parametrize("damage", ["an even modulus", "an even prime"])
def test_an_rsa_key_that_cannot_sign_is_named(tmp_path: Path, backend: str, damage: str) -> None:
    """Nobody validates an RSA key when it is opened: it shows when it signs, and whoever is told must know which."""
    numbers = rsa_key().private_numbers()
    n, p = numbers.public_numbers.n, numbers.p
    values = (n & ~1 if "modulus" in damage else n, 65537, numbers.d, p & ~1 if "prime" in damage else p, numbers.q)
    inside = der.encode(der.SEQUENCE, number(0), *map(number, (*values, numbers.dmp1, numbers.dmq1, numbers.iqmp)))
    identifier = bytes.fromhex("300d06092a864886f70d0101010500")
    info = der.encode(der.SEQUENCE, number(0), identifier, der.encode(der.OCTET_STRING, inside))
    path = lock(tmp_path, info)

    def use() -> None:
        signature = open_file(backend, path).sign(ALGORITHMS[0], b"to be signed")
        # Where the library did not notice, the ring does.
        algorithms.verify(rsa_key().public_key(), ALGORITHMS[0], signature, b"to be signed")

    with pytest.raises((OperatorError, SignatureInvalid)) as caught:
        use()
    if isinstance(caught.value, OperatorError):
        assert str(caught.value).startswith(f"{path}: ")
        assert "another backend" in str(caught.value) or "from its backup" in str(caught.value)


def test_a_key_file_locked_anew_as_the_page_says_is_taken_by_all(tmp_path: Path) -> None:
    """docs/crypto-backends.md, known faults."""
    page = (Path(__file__).parents[4] / "docs" / "crypto-backends.md").read_text()
    (command,) = re.findall(r"\$ (\(umask 077; openssl pkcs8 .*\n.* mv ca\.key\.new ca\.key)\n", page)
    write_key(tmp_path / "ca.key", p256_key())
    write(tmp_path / "passphrase", PASSPHRASE)
    before = (tmp_path / "ca.key").read_bytes()
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "ca.key").read_bytes() != before
    shown = openssl("asn1parse", "-in", tmp_path / "ca.key").stdout
    assert f"INTEGER           :{600_000:06X}" in shown
    for backend in FILE_BACKENDS:
        assert open_file(backend, tmp_path / "ca.key").public_key_info == public_key_info(p256_key())


@every_library
@pytest.mark.parametrize("kind", ["P-256", "Ed25519"])
def test_a_damaged_key_file_never_signs_wrongly(tmp_path: Path, backend: str, kind: str) -> None:
    """Whichever octet a disk has spoilt: the ring refuses it, or it still is the sub-CA's key."""
    key: PrivateKey = p256_key() if kind == "P-256" else ed25519.Ed25519PrivateKey.generate()
    authority = make_authority(make_ca("unassured_2026_2", key=key))
    path = tmp_path / "ca.key"
    write_key(path, key)
    (body,) = re.findall(rb"KEY-----\n(.*)\n-----END", path.read_bytes(), re.DOTALL)
    octets = base64.b64decode(body)
    settings = file_settings(tmp_path)
    algorithm = algorithms.choose_algorithm(authority.public_key, "")
    refused = 0
    for place in range(0, len(octets), 3):
        spoilt = bytearray(octets)
        spoilt[place] ^= 0x55
        if not _cheap(bytes(spoilt), octets):
            continue
        pem = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n%s-----END ENCRYPTED PRIVATE KEY-----\n"
        write(path, pem % base64.encodebytes(bytes(spoilt)))
        ring = KeyRing(settings)
        try:
            ring.add(authority, KeyUse(uri=FileUri(path=str(path), backend=backend)))
        except (OperatorError, SignatureMistrusted):
            refused += 1
            continue
        signature = ring.sign(authority.name, algorithm, b"to be signed")
        algorithms.verify(key.public_key(), algorithm, signature, b"to be signed")
    assert refused > len(octets) // 6
    write_key(path, key)
    assert open_file(backend, path).public_key_info == public_key_info(key)


def _cheap(spoilt: bytes, sound: bytes) -> bool:
    """Whether the count of PBKDF2's iterations (RFC 8018 A.2) is the sound one: a spoilt one may take hours."""
    salt_end = sound.index(bytes.fromhex("06092a864886f70d01050c")) + 11
    begin = sound.index(b"\x02\x02", salt_end + 12)
    return spoilt[salt_end : begin + 4] == sound[salt_end : begin + 4]
