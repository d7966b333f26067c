"""Signature algorithms: which there are, how X.509 names them, which one a CA key uses, and how to verify.

Owns the AlgorithmIdentifiers (RFC 5280 4.1.1.2): RSA PKCS#1 v1.5 (RFC 4055 5), RSASSA-PSS with explicit parameters
(RFC 4055 3.1), ECDSA (RFC 5758 3.2), Ed25519 and Ed448 (RFC 8410), ML-DSA (RFC 9881). Never signs: the key store does.
SHA-1 and MD5 do not exist here.

Which hash a signature uses is the CA key's matter. An RSA key takes the one that was wished. Every other key demands
its own (EdDSA and ML-DSA have theirs built in; for ECDSA, the CA/Browser Forum's Baseline Requirements 7.1.3.2.2 tie
one to each curve), and a wish for another is ignored, not refused: the subscriber does not choose the sub-CA, clients
of the original always wish for some hash, and what is used instead is never weaker than the key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from cassiopeia.errors import PeerError, Refused, SignatureInvalid


@dataclass(frozen=True, kw_only=True, slots=True)
class SignatureAlgorithm:
    """One way to sign. `der` is its AlgorithmIdentifier; `hash_name` is empty where the key has its own.

    `key_kind` is the kind of key that it takes: RSA, EC, Ed25519, Ed448, ML-DSA-44, ML-DSA-65 or ML-DSA-87.
    """

    name: str
    key_kind: str
    hash_name: str = ""
    is_pss: bool = False
    der: bytes


# The octets of the PSS entries are those of the Baseline Requirements 7.1.3.2.1: hash and MGF-1 hash with NULL
# parameters, salt as long as the hash, trailer field left out because it is the default.
_RSA: Final = tuple(
    SignatureAlgorithm(name=name, key_kind="RSA", hash_name=hash_name, der=bytes.fromhex(octets))
    for name, hash_name, octets in (
        ("sha256WithRSAEncryption", "sha256", "300d06092a864886f70d01010b0500"),
        ("sha384WithRSAEncryption", "sha384", "300d06092a864886f70d01010c0500"),
        ("sha512WithRSAEncryption", "sha512", "300d06092a864886f70d01010d0500"),
    )
)
_PSS: Final = tuple(
    SignatureAlgorithm(
        name=f"rsassaPss-{hash_name}",
        key_kind="RSA",
        hash_name=hash_name,
        is_pss=True,
        der=bytes.fromhex(
            f"304106092a864886f70d01010a3034a00f300d06096086480165030402{arc}0500"
            f"a11c301a06092a864886f70d010108300d06096086480165030402{arc}0500a2030201{salt_octets:02x}"
        ),
    )
    for hash_name, arc, salt_octets in (("sha256", "01", 32), ("sha384", "02", 48), ("sha512", "03", 64))
)
_ECDSA: Final = tuple(
    SignatureAlgorithm(name=name, key_kind="EC", hash_name=hash_name, der=bytes.fromhex(octets))
    for name, hash_name, octets in (
        ("ecdsa-with-SHA256", "sha256", "300a06082a8648ce3d040302"),
        ("ecdsa-with-SHA384", "sha384", "300a06082a8648ce3d040303"),
        ("ecdsa-with-SHA512", "sha512", "300a06082a8648ce3d040304"),
    )
)
_INTRINSIC: Final = tuple(
    SignatureAlgorithm(name=name, key_kind=name, der=bytes.fromhex(octets))
    for name, octets in (
        ("Ed25519", "300506032b6570"),
        ("Ed448", "300506032b6571"),
        ("ML-DSA-44", "300b0609608648016503040311"),
        ("ML-DSA-65", "300b0609608648016503040312"),
        ("ML-DSA-87", "300b0609608648016503040313"),
    )
)
ALGORITHMS: Final = _RSA + _PSS + _ECDSA + _INTRINSIC

_BY_DER: Final = {algorithm.der: algorithm for algorithm in ALGORITHMS}
_BY_CURVE: Final = dict(zip(("secp256r1", "secp384r1", "secp521r1"), _ECDSA, strict=True))
_BY_KEY_TYPE: Final = dict(
    zip(
        (
            ed25519.Ed25519PublicKey,
            ed448.Ed448PublicKey,
            mldsa.MLDSA44PublicKey,
            mldsa.MLDSA65PublicKey,
            mldsa.MLDSA87PublicKey,
        ),
        _INTRINSIC,
        strict=True,
    )
)
_HASHES: Final = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}
_WEAK_HASHES: Final = ("md2", "md4", "md5", "ripemd160", "sha1", "sha224")


def algorithms_for(public_key: PublicKeyTypes) -> tuple[SignatureAlgorithm, ...]:
    """Every algorithm with which this CA key may sign, the preferred one first.

    Raises Refused (`ca-key-unsupported`) for a key that this software does not sign with.
    """
    if isinstance(public_key, rsa.RSAPublicKey):
        return _RSA + _PSS
    if isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name in _BY_CURVE:
        return (_BY_CURVE[public_key.curve.name],)
    for key_type, algorithm in _BY_KEY_TYPE.items():
        if isinstance(public_key, key_type):
            return (algorithm,)
    raise Refused(
        "This CA key cannot be used: take RSA, P-256, P-384, P-521, Ed25519, Ed448 or ML-DSA.",
        code="ca-key-unsupported",
    )


def choose_algorithm(ca_public_key: PublicKeyTypes, signature_hash: str, *, pss: bool = False) -> SignatureAlgorithm:
    """The algorithm for a signature by this CA key.

    `signature_hash` is the subscriber's wish: empty, sha256, sha384 or sha512; anything else is Refused whatever the
    key. `pss` is the CA's own preference, and means nothing for a key that is not RSA.
    """
    check_signature_hash(signature_hash)
    candidates = tuple(each for each in algorithms_for(ca_public_key) if each.is_pss == pss or each.key_kind != "RSA")
    fitting = tuple(each for each in candidates if each.hash_name == signature_hash)
    return (fitting or candidates)[0]


def check_signature_hash(signature_hash: str) -> None:
    """Whether a subscriber may wish for this hash: empty, sha256, sha384 or sha512; else raises Refused."""
    if signature_hash.lower().replace("-", "") in _WEAK_HASHES:
        raise Refused(
            f"Nothing is signed with {signature_hash}; wish for sha256, sha384 or sha512.",
            code="signature-hash-weak",
            field="signature_hash",
        )
    if signature_hash and signature_hash not in _HASHES:
        raise Refused(
            f"The hash {signature_hash[:20]!a} is not known; wish for sha256, sha384 or sha512.",
            code="signature-hash-unknown",
            field="signature_hash",
        )


def algorithm_from_der(der: bytes) -> SignatureAlgorithm:
    """The algorithm with exactly this AlgorithmIdentifier; raises PeerError."""
    try:
        return _BY_DER[der]
    except KeyError:
        raise PeerError(f"the signature algorithm {der[:80].hex()} is not one that is accepted") from None


def verify(public_key: PublicKeyTypes, algorithm: SignatureAlgorithm, signature: bytes, data: bytes) -> None:
    """Verify a CA's signature; raises SignatureInvalid, also when the key is of another kind than the algorithm's."""
    try:
        if isinstance(public_key, rsa.RSAPublicKey) and algorithm.key_kind == "RSA":
            digest = _HASHES[algorithm.hash_name]
            # RFC 4055 3.1: the salt is as long as the hash, and no other length is accepted.
            pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
            public_key.verify(signature, data, pss if algorithm.is_pss else padding.PKCS1v15(), digest)
        elif isinstance(public_key, ec.EllipticCurvePublicKey) and algorithm.key_kind == "EC":
            public_key.verify(signature, data, ec.ECDSA(_HASHES[algorithm.hash_name]))
        elif isinstance(
            public_key,
            ed25519.Ed25519PublicKey
            | ed448.Ed448PublicKey
            | mldsa.MLDSA44PublicKey
            | mldsa.MLDSA65PublicKey
            | mldsa.MLDSA87PublicKey,
        ) and algorithms_for(public_key) == (algorithm,):
            public_key.verify(signature, data)
        else:
            raise SignatureInvalid(f"this key does not sign with {algorithm.name}")
    except (InvalidSignature, ValueError):
        # ValueError: PSS has no signature by an RSA key that is too short for the hash (RFC 8017 9.1.1).
        raise SignatureInvalid(f"the {algorithm.name} signature does not verify") from None
