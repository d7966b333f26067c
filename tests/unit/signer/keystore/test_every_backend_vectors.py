"""Vectors of others, through every backend's verification: good ones are good, and each that was spoilt is not.

From the package `cryptography-vectors`: NIST's validation vectors for RSA and ECDSA (FIPS 186-3, the bad ones each with
what was changed), those of RFC 8032 and of its authors for EdDSA, and the known answers for ML-DSA (FIPS 204). RSA
below 2,048 bits is left out: no CA key is that small. Vectors of Wycheproof are not in the package; what they try is
tried in the other files of this suite, by signatures that are made for it.
"""

from __future__ import annotations

from collections.abc import Callable

import cryptography_vectors
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.crypto_backends import title, verifying
from tests.support.nist_vectors import vectors

from cassiopeia.core.algorithms import ALGORITHMS, SignatureAlgorithm
from cassiopeia.errors import SignatureInvalid
from cassiopeia.signer.keystore.backends import load_backend

CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
RSA_FILES = {False: "RSA/FIPS_186-2/SigVer15_186-3.rsp", True: "RSA/FIPS_186-2/SigVerPSS_186-3.rsp"}
MADE_FILES = {False: "RSA/FIPS_186-2/SigGen15_186-3.rsp", True: "RSA/FIPS_186-2/SigGenPSS_186-3.rsp"}
RSA = tuple(each.name for each in ALGORITHMS if each.key_kind == "RSA")
ECDSA = tuple(each.name for each in ALGORITHMS if each.key_kind == "EC")
ML_DSA = tuple(each.name for each in ALGORITHMS if each.key_kind.startswith("ML-DSA"))


def info(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def takes(backend: str, public_key_info: bytes, algorithm: SignatureAlgorithm, signature: bytes, octets: bytes) -> bool:
    """A key that the library does not take for one has no signatures."""
    try:
        load_backend(backend).verify(public_key_info, algorithm, signature, octets)
    except SignatureInvalid:
        return False
    return True


def rsa_vectors(path: str, algorithm: SignatureAlgorithm, *, ends_with: str) -> list[dict[str, str]]:
    return [
        each
        for each in vectors(path, ends_with=ends_with)
        if int(each["section"].split("=")[1]) >= 2048 and each["SHAAlg"].lower() == algorithm.hash_name
    ]


def public_exponent_of(vector: dict[str, str]) -> int:
    return int(vector["e"], 16)


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=RSA), ids=title)
def test_nist_rsa_signatures_good_and_bad(backend: str, algorithm: SignatureAlgorithm) -> None:
    """NIST's PSS vectors are salted with 10 octets; ours takes as many as the hash has, and so none of these."""
    counts = {True: 0, False: 0}
    for vector in rsa_vectors(RSA_FILES[algorithm.is_pss], algorithm, ends_with="Result"):
        key = info(rsa.RSAPublicNumbers(public_exponent_of(vector), int(vector["n"], 16)).public_key())
        good = vector["Result"].startswith("P") and not algorithm.is_pss
        taken = takes(backend, key, algorithm, bytes.fromhex(vector["S"]), bytes.fromhex(vector["Msg"]))
        assert taken == good, vector
        counts[good] += 1
    assert sum(counts.values()) == 3 * 18
    assert counts[True] == (0 if algorithm.is_pss else 9)


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=RSA), ids=title)
def test_nist_rsa_signatures_that_were_made(backend: str, algorithm: SignatureAlgorithm) -> None:
    count = 0
    for vector in rsa_vectors(MADE_FILES[algorithm.is_pss], algorithm, ends_with="S"):
        key = info(rsa.RSAPublicNumbers(public_exponent_of(vector), int(vector["n"], 16)).public_key())
        # Without a salt at all, as these PSS vectors are.
        expected = not algorithm.is_pss
        taken = takes(backend, key, algorithm, bytes.fromhex(vector["S"]), bytes.fromhex(vector["Msg"]))
        assert taken == expected, vector
        count += 1
    assert count == 30


@pytest.mark.parametrize(("file", "last", "number"), [("SigVer", "Result", 15), ("SigGen", "S", 15)])
@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=ECDSA), ids=title)
def test_nist_ecdsa_signatures_good_and_bad(
    backend: str, algorithm: SignatureAlgorithm, file: str, last: str, number: int
) -> None:
    curve = {"sha256": "P-256", "sha384": "P-384", "sha512": "P-521"}[algorithm.hash_name]
    wanted = f"{curve},{algorithm.hash_name.upper().replace('SHA', 'SHA-')}"
    counts = {True: 0, False: 0}
    for vector in vectors(f"ECDSA/FIPS_186-3/{file}.rsp", ends_with=last):
        if vector["section"] != wanted:
            continue
        numbers = ec.EllipticCurvePublicNumbers(int(vector["Qx"], 16), int(vector["Qy"], 16), CURVES[curve]())
        signature = encode_dss_signature(int(vector["R"], 16), int(vector["S"], 16))
        good = vector.get("Result", "P").startswith("P")
        taken = takes(backend, info(numbers.public_key()), algorithm, signature, bytes.fromhex(vector["Msg"]))
        assert taken == good, vector
        counts[good] += 1
    assert sum(counts.values()) == number
    assert counts[True] >= 3
    assert (counts[False] >= 3) == (file == "SigVer")


def ed25519_vectors() -> list[tuple[bytes, bytes, bytes]]:
    """Public key, octets and signature, as the authors of Ed25519 published them."""
    with cryptography_vectors.open_vector_file("asymmetric/Ed25519/sign.input", "r") as lines:
        found = [line.strip().split(":") for line in lines]
    return [
        (bytes.fromhex(public), bytes.fromhex(octets), bytes.fromhex(signed)[:64])
        for _, public, octets, signed, *_ in found
    ]


def ed448_vectors() -> list[tuple[bytes, bytes, bytes]]:
    """Those of RFC 8032 7.4 that have no context: certificates have none."""
    found = []
    for vector in vectors("Ed448/rfc8032.txt", ends_with="SIGNATURE"):
        if "CONTEXT" in vector:
            continue
        found.append(tuple(bytes.fromhex(vector[name]) for name in ("PUBLIC", "MESSAGE", "SIGNATURE")))
    return found  # type: ignore[return-value] # three of them


EDDSA = {"Ed25519": ed25519_vectors, "Ed448": ed448_vectors}
EDDSA_KEYS: dict[str, Callable[[bytes], PublicKeyTypes]] = {
    "Ed25519": ed25519.Ed25519PublicKey.from_public_bytes,
    "Ed448": ed448.Ed448PublicKey.from_public_bytes,
}


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=tuple(EDDSA)), ids=title)
def test_eddsa_signatures_that_are_published(backend: str, algorithm: SignatureAlgorithm) -> None:
    count = 0
    for public, octets, signature in EDDSA[algorithm.name]():
        key = info(EDDSA_KEYS[algorithm.name](public))
        assert takes(backend, key, algorithm, signature, octets), public.hex()
        assert not takes(backend, key, algorithm, signature, octets + b"\0"), public.hex()
        count += 1
    assert count == {"Ed25519": 1024, "Ed448": 8}[algorithm.name]


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=("Ed448",)), ids=title)
def test_an_ed448_signature_with_a_context_is_none_for_a_certificate(
    backend: str, algorithm: SignatureAlgorithm
) -> None:
    (vector,) = [each for each in vectors("Ed448/rfc8032.txt", ends_with="SIGNATURE") if each.get("COUNT") == "2"]
    assert vector["CONTEXT"]
    key = info(ed448.Ed448PublicKey.from_public_bytes(bytes.fromhex(vector["PUBLIC"])))
    assert not takes(backend, key, algorithm, bytes.fromhex(vector["SIGNATURE"]), bytes.fromhex(vector["MESSAGE"]))


ML_DSA_KEYS: dict[str, type[mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey]] = {
    "ML-DSA-44": mldsa.MLDSA44PrivateKey,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey,
}


@pytest.mark.parametrize(("backend", "algorithm"), verifying(names=ML_DSA), ids=title)
def test_ml_dsa_signatures_that_are_known(backend: str, algorithm: SignatureAlgorithm) -> None:
    """The known answers have contexts, and so are none for certificates (RFC 9881 3); their keys sign without one."""
    count = 0
    name = algorithm.name.replace("-", "").replace("MLDSA", "MLDSA_")
    for vector in vectors(f"MLDSA/kat_{name}_det_pure.rsp", ends_with="ctx"):
        octets, signed, context = (bytes.fromhex(vector[each]) for each in ("msg", "sm", "ctx"))
        known = signed[: len(signed) - len(octets)]
        key = ML_DSA_KEYS[algorithm.name].from_seed_bytes(bytes.fromhex(vector["xi"]))
        assert key.public_key().public_bytes_raw().hex() == vector["pk"]
        key.public_key().verify(known, octets, context)
        assert not takes(backend, info(key.public_key()), algorithm, known, octets), vector["count"]
        assert takes(backend, info(key.public_key()), algorithm, key.sign(octets), octets), vector["count"]
        count += 1
    assert count == 100
