"""What is asked of every crypto backend: it signs with what it claims, and all others agree that it did.

Needs the libraries of all backends and the programs `openssl` and `softhsm2-util` (Debian: apt-get install openssl
softhsm2 libwolfssl35; libgnutls30 is always there); what is missing is a failure. OpenSSL 3.0 knows no ML-DSA: those
signatures are verified by pyca/cryptography alone.
"""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from tests.support.ca_keys import ALGORITHMS as KEY_KINDS
from tests.support.ca_keys import CaKey as KeyKind
from tests.support.crypto_backends import (
    BACKENDS,
    FILE_BACKENDS,
    MAKES,
    SIGNS,
    VERIFIES,
    CaKeys,
    key_kind,
    kind_for,
    openssl,
    private_key,
    public_key_info,
    signing,
    title,
    verifiers,
)

from cassiopeia.core import algorithms
from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm, algorithms_for
from cassiopeia.core.key_uri import BACKENDS as ALL_BACKENDS
from cassiopeia.core.key_uri import FileUri
from cassiopeia.errors import InternalError, OperatorError
from cassiopeia.signer.keystore.backends import load_backend
from cassiopeia.signer.keystore.ca_key import CA_KEY_ALGORITHMS

OCTETS = b"to be signed"


def test_no_backend_is_left_out() -> None:
    assert set(BACKENDS) == set(ALL_BACKENDS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_claims_what_it_is_known_to_do(backend: str) -> None:
    found = load_backend(backend)
    assert found.name == backend
    assert tuple(each.name for each in found.signs) == SIGNS[backend]
    assert tuple(each.name for each in found.verifies) == VERIFIES[backend]


@pytest.mark.parametrize(("backend", "algorithm"), signing(), ids=title)
def test_its_signature_is_one_to_every_other(ca_keys: CaKeys, backend: str, algorithm: SignatureAlgorithm) -> None:
    key = ca_keys.open(backend, kind_for(algorithm))
    public_key = private_key(kind_for(algorithm)).public_key()
    # Nothing, something, and more than any buffer on the way.
    for octets in (b"", OCTETS, bytes(range(256)) * 5000):
        signature = key.sign(algorithm, octets)
        algorithms.verify(public_key, algorithm, signature, octets)
        for other in verifiers(algorithm):
            other.verify(key.public_key_info, algorithm, signature, octets)


@pytest.mark.parametrize(
    ("backend", "algorithm"), [each for each in signing() if not each[1].name.startswith("ML-DSA")], ids=title
)
def test_its_signature_is_one_to_the_program_openssl(
    ca_keys: CaKeys, tmp_path: Path, backend: str, algorithm: SignatureAlgorithm
) -> None:
    key = ca_keys.open(backend, kind_for(algorithm))
    public_key = load_der_public_key(key.public_key_info)
    (tmp_path / "public.pem").write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "signature").write_bytes(key.sign(algorithm, OCTETS))
    options = ["-digest", algorithm.hash_name] if algorithm.hash_name else []
    if algorithm.is_pss:
        options += ["-pkeyopt", "rsa_padding_mode:pss", "-pkeyopt", "rsa_pss_saltlen:digest"]
    for octets, expected in ((OCTETS, 0), (OCTETS + b".", 1)):
        (tmp_path / "octets").write_bytes(octets)
        done = openssl(
            *("pkeyutl", "-verify", "-pubin", "-inkey", f"{tmp_path}/public.pem", "-rawin", *options),
            *("-sigfile", f"{tmp_path}/signature", "-in", f"{tmp_path}/octets"),
        )
        assert done.returncode == expected, done.stdout + done.stderr
        assert ("Signature Verified Successfully" in done.stdout) == (expected == 0)


@pytest.mark.parametrize(
    ("backend", "algorithm"), signing(names=("sha256WithRSAEncryption", "rsassaPss-sha512")), ids=title
)
def test_larger_rsa_keys(ca_keys: CaKeys, backend: str, algorithm: SignatureAlgorithm) -> None:
    key = ca_keys.open(backend, "RSA-4096")
    signature = key.sign(algorithm, OCTETS)
    assert len(signature) == 512
    for other in verifiers(algorithm):
        other.verify(key.public_key_info, algorithm, signature, OCTETS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [each for each in KEY_KINDS if each not in ("RSA-PSS", "RSA-4096")])
def test_a_key_is_known_for_what_it_is(ca_keys: CaKeys, backend: str, kind: KeyKind) -> None:
    """Its public half is that of the key, and it offers what both key and backend can do, the usual one first."""
    expected = tuple(each for each in algorithms_for(private_key(kind).public_key()) if each.name in SIGNS[backend])
    if not expected:
        with pytest.raises(OperatorError):
            ca_keys.store(backend).open(ca_keys.put(backend, kind))
        return
    key = ca_keys.open(backend, kind)
    assert key.public_key_info == public_key_info(private_key(kind))
    assert tuple(key.algorithms) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_key_of_another_kind_signs_nothing(ca_keys: CaKeys, backend: str) -> None:
    key = ca_keys.open(backend, "P-256")
    for algorithm in ALGORITHMS:
        if algorithm.name != "ecdsa-with-SHA256":
            with pytest.raises(InternalError, match=algorithm.name):
                key.sign(algorithm, OCTETS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", CA_KEY_ALGORITHMS)
def test_a_key_that_it_made_is_there_when_it_is_opened_again(ca_keys: CaKeys, backend: str, kind: str) -> None:
    store = ca_keys.store(backend)
    uri = ca_keys.new(backend, kind)
    if kind not in MAKES[backend]:
        with pytest.raises(OperatorError):
            store.generate(uri, kind)
        with pytest.raises(OperatorError):
            store.open(uri)
        return
    made = store.generate(uri, kind)
    opened = store.open(uri)
    assert opened.public_key_info == made.public_key_info
    assert tuple(opened.algorithms) == tuple(made.algorithms) != ()
    public_key = load_der_public_key(made.public_key_info)
    for key in (made, opened):
        algorithms.verify(public_key, key.algorithms[0], key.sign(key.algorithms[0], OCTETS), OCTETS)
    assert key_kind(public_key) == kind
    if isinstance(public_key, rsa.RSAPublicKey):
        assert public_key.public_numbers().e == 65537


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_made_where_a_key_is(ca_keys: CaKeys, backend: str) -> None:
    store = ca_keys.store(backend)
    uri = ca_keys.new(backend, "first")
    first = store.generate(uri, "P-256").public_key_info
    with pytest.raises(OperatorError):
        store.generate(uri, "P-256")
    assert store.open(uri).public_key_info == first


@pytest.mark.parametrize("backend", FILE_BACKENDS)
def test_a_key_file_that_it_made_is_one_for_all(ca_keys: CaKeys, backend: str) -> None:
    uri = ca_keys.new(backend, "shared")
    public = ca_keys.store(backend).generate(uri, "P-256").public_key_info
    assert isinstance(uri, FileUri)
    assert stat.S_IMODE(Path(uri.path).stat().st_mode) == 0o600
    assert Path(uri.path).read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    for each in FILE_BACKENDS:
        assert ca_keys.store(each).open(uri).public_key_info == public
