"""Certification requests and SPKACs put together octet by octet: sound ones, and one for each fault.

Everything is made anew from fresh keys, so that no fixture goes stale; the names of the faults are the names of the
tests. Each fault comes with the code of the refusal that must follow.
"""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, padding, rsa, x25519

from cassiopeia.core import der

NULL = b"\x05\x00"
SHA256_WITH_RSA = "1.2.840.113549.1.1.11"
SHA1_WITH_RSA = "1.2.840.113549.1.1.5"
MD5_WITH_RSA = "1.2.840.113549.1.1.4"
RSASSA_PSS = "1.2.840.113549.1.1.10"
RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"
ECDSA_WITH_SHA1 = "1.2.840.10045.4.1"
EC_PUBLIC_KEY = "1.2.840.10045.2.1"
PRIME_FIELD = "1.2.840.10045.1.1"
P256 = "1.2.840.10045.3.1.7"
ED25519 = "1.3.101.112"
ML_DSA_44 = "2.16.840.1.101.3.4.3.17"

Sign = Callable[[bytes], bytes]


def object_identifier(dotted: str) -> bytes:
    """DER, by X.690 8.19."""
    first, second, *rest = map(int, dotted.split("."))
    octets = b""
    for arc in (40 * first + second, *rest):
        part = bytes((arc & 0x7F,))
        while arc := arc >> 7:
            part = bytes((0x80 | arc & 0x7F,)) + part
        octets += part
    return der.encode(0x06, octets)


def integer(value: int) -> bytes:
    return der.encode(der.INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def bit_string(octets: bytes, *, unused: int = 0) -> bytes:
    return der.encode(der.BIT_STRING, bytes((unused,)), octets)


def algorithm(dotted: str, parameters: bytes = b"") -> bytes:
    return der.encode(der.SEQUENCE, object_identifier(dotted), parameters)


def public_key_info(key: object) -> bytes:
    public_key = key.public_key()  # type: ignore[attr-defined]  # any private key of the library
    octets = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(octets, bytes)
    return octets


def rsa_key_info(modulus: int, exponent: int, *, dotted: str = RSA_ENCRYPTION, parameters: bytes = NULL) -> bytes:
    numbers = der.encode(der.SEQUENCE, integer(modulus), integer(exponent))
    return der.encode(der.SEQUENCE, algorithm(dotted, parameters), bit_string(numbers))


def ec_key_info(point: bytes, *, parameters: bytes | None = None) -> bytes:
    parameters = object_identifier(P256) if parameters is None else parameters
    return der.encode(der.SEQUENCE, algorithm(EC_PUBLIC_KEY, parameters), bit_string(point))


def explicit_p256() -> bytes:
    """SpecifiedECDomain (SEC 1 C.2) with the numbers of P-256: what CVE-2020-0601 was made of."""
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    b = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
    base = bytes.fromhex(
        "046B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296"
        "4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5"
    )
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    return der.encode(
        der.SEQUENCE,
        integer(1),
        der.encode(der.SEQUENCE, object_identifier(PRIME_FIELD), integer(p)),
        der.encode(
            der.SEQUENCE,
            der.encode(der.OCTET_STRING, (p - 3).to_bytes(32, "big")),
            der.encode(der.OCTET_STRING, b.to_bytes(32, "big")),
        ),
        der.encode(der.OCTET_STRING, base),
        integer(n),
        integer(1),
    )


@functools.cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def sign_ecdsa(octets: bytes) -> bytes:
    return ec_key().sign(octets, ec.ECDSA(hashes.SHA256()))


def sign_rsa(octets: bytes) -> bytes:
    return rsa_key().sign(octets, padding.PKCS1v15(), hashes.SHA256())


def certification_request(
    *,
    key_info: bytes | None = None,
    version: bytes = b"\x02\x01\x00",
    subject: bytes = b"\x30\x00",
    attributes: bytes = b"\xa0\x00",
    signature_algorithm: bytes = algorithm(ECDSA_WITH_SHA256),
    sign: Sign = sign_ecdsa,
    outer: bytes = b"",
) -> bytes:
    key_info = public_key_info(ec_key()) if key_info is None else key_info
    information = der.encode(der.SEQUENCE, version, subject, key_info, attributes)
    return der.encode(der.SEQUENCE, information, signature_algorithm, bit_string(sign(information)), outer)


def spkac(
    *,
    key_info: bytes | None = None,
    challenge: bytes = b"",
    signature_algorithm: bytes = algorithm(ECDSA_WITH_SHA256),
    sign: Sign = sign_ecdsa,
    unused_bits: int = 0,
) -> bytes:
    key_info = public_key_info(ec_key()) if key_info is None else key_info
    signed = der.encode(der.SEQUENCE, key_info, der.encode(0x16, challenge))
    signature = bit_string(sign(signed), unused=unused_bits)
    return der.encode(der.SEQUENCE, signed, signature_algorithm, signature)


def pem(octets: bytes, label: str = "CERTIFICATE REQUEST") -> bytes:
    body = base64.encodebytes(octets).decode("ascii")
    return f"-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode("ascii")


def duplicate_extensions() -> bytes:
    """An extensionRequest (RFC 2985 5.4.2) in which the same extension stands twice."""
    extension = der.encode(
        der.SEQUENCE,
        object_identifier("2.5.29.19"),
        der.encode(der.OCTET_STRING, der.encode(der.SEQUENCE, b"\x01\x01\xff")),
    )
    extensions = der.encode(der.SEQUENCE, extension, extension)
    attribute = der.encode(der.SEQUENCE, object_identifier("1.2.840.113549.1.9.14"), der.encode(0x31, extensions))
    return der.encode(0xA0, attribute)


@functools.cache
def sound_requests() -> dict[str, tuple[bytes, str]]:
    """Requests that are to be accepted, with the key's description."""
    ed25519_key, mldsa_key = ed25519.Ed25519PrivateKey.generate(), mldsa.MLDSA44PrivateKey.generate()
    pss = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(
            rsa_key(),
            hashes.SHA384(),
            rsa_padding=padding.PSS(padding.MGF1(hashes.SHA384()), padding.PSS.DIGEST_LENGTH),
        )
    )
    return {
        "p-256": (certification_request(), "P-256"),
        "pem": (pem(certification_request()), "P-256"),
        "pem-old-label": (pem(certification_request(), "NEW CERTIFICATE REQUEST"), "P-256"),
        "pem-with-text-before": (b"Certificate Request:\r\n  Data:\n" + pem(certification_request()), "P-256"),
        "pem-with-crlf": (pem(certification_request()).replace(b"\n", b"\r\n"), "P-256"),
        "duplicate-extensions-are-not-looked-at": (certification_request(attributes=duplicate_extensions()), "P-256"),
        "rsa-2048": (_rsa_request(public_key_info(rsa_key())), "RSA-2048"),
        "rsa-signed-by-pss": (pss.public_bytes(serialization.Encoding.DER), "RSA-2048"),
        "ed25519": (
            certification_request(
                key_info=public_key_info(ed25519_key), signature_algorithm=algorithm(ED25519), sign=ed25519_key.sign
            ),
            "Ed25519",
        ),
        "ml-dsa-44": (
            certification_request(
                key_info=public_key_info(mldsa_key), signature_algorithm=algorithm(ML_DSA_44), sign=mldsa_key.sign
            ),
            "ML-DSA-44",
        ),
    }


@functools.cache
def bad_requests() -> dict[str, tuple[bytes, str]]:
    """Requests by the name of their fault, each with the code of its refusal."""
    good = certification_request()
    other = ec.generate_private_key(ec.SECP256R1())
    pss_sha1 = algorithm(RSASSA_PSS, b"\x30\x00")  # RFC 4055 3.1: the defaults are SHA-1
    return {
        "empty": (b"", "request-empty"),
        "blanks": (b" \r\n\t", "request-empty"),
        "ten-megabytes": (b"\x30" * 10_000_000, "request-too-large"),
        "one-octet-too-long": (b"\x30" * (64 * 1024 + 1), "request-too-large"),
        "text": (b"please give me a certificate", "request-malformed"),
        "utf-16": (pem(good).decode().encode("utf-16"), "request-malformed"),
        "cut-off": (good[:-1], "request-malformed"),
        "octet-behind": (good + b"\x00", "request-malformed"),
        "element-behind": (certification_request(outer=NULL), "request-malformed"),
        "nested-deeply": (b"\x30\x80" * 5_000, "request-malformed"),
        "pem-cut-off": (pem(good)[:-20], "request-malformed"),
        "pem-base64-damaged": (pem(good).replace(b"\nM", b"\n!", 1), "request-malformed"),
        "pem-empty": (pem(b""), "request-malformed"),
        "pem-text-behind": (pem(good) + b"and more", "request-malformed"),
        "pem-twice": (pem(good) * 2, "request-malformed"),
        "pem-label-certificate": (pem(good, "CERTIFICATE"), "pem-label"),
        "pem-label-empty": (pem(good, ""), "pem-label"),
        "pem-private-key": (pem(good, "EC PRIVATE KEY"), "private-key-sent"),
        "pem-private-key-beside": (pem(good, "PRIVATE KEY") + pem(good), "private-key-sent"),
        "version-2": (certification_request(version=integer(1)), "request-malformed"),
        "version-negative": (certification_request(version=integer(-1)), "request-malformed"),
        "key-ec-without-curve": (certification_request(key_info=_ec_key_without_curve()), "request-malformed"),
        "attributes-missing": (certification_request(attributes=b""), "request-malformed"),
        "signature-changed": (good[:-1] + bytes((good[-1] ^ 1,)), "signature-invalid"),
        "signature-empty": (certification_request(sign=lambda _: b""), "signature-invalid"),
        "signature-by-another-key": (certification_request(key_info=public_key_info(other)), "signature-invalid"),
        "signature-algorithm-of-another-key": (
            certification_request(signature_algorithm=algorithm(SHA256_WITH_RSA, NULL)),
            "signature-invalid",
        ),
        "signature-pss-without-parameters": (
            _rsa_request(public_key_info(rsa_key()), signature_algorithm=algorithm(RSASSA_PSS)),
            "signature-algorithm",
        ),
        "signature-pss-with-sha-1": (
            _rsa_request(public_key_info(rsa_key()), signature_algorithm=pss_sha1),
            "signature-algorithm",
        ),
        "signature-sha-1": (
            _rsa_request(public_key_info(rsa_key()), signature_algorithm=algorithm(SHA1_WITH_RSA, NULL)),
            "signature-algorithm",
        ),
        "signature-md5": (
            _rsa_request(public_key_info(rsa_key()), signature_algorithm=algorithm(MD5_WITH_RSA, NULL)),
            "signature-algorithm",
        ),
        "signature-ecdsa-with-sha-1": (
            certification_request(signature_algorithm=algorithm(ECDSA_WITH_SHA1)),
            "signature-algorithm",
        ),
        "signature-algorithm-unknown": (
            certification_request(signature_algorithm=algorithm("1.2.3.4")),
            "signature-algorithm",
        ),
        **{name: (_rsa_request(information), code) for name, (information, code) in bad_keys().items()},
    }


@functools.cache
def bad_spkacs() -> dict[str, tuple[bytes, str]]:
    """As `bad_requests`."""
    good = spkac()
    rsa_info = public_key_info(rsa_key())
    mldsa_key = mldsa.MLDSA44PrivateKey.generate()
    return {
        "empty": (b"\n", "request-empty"),
        "ten-megabytes": (b"SPKAC=" + b"M" * 10_000_000, "request-too-large"),
        "prefix-alone": (b"SPKAC=", "request-malformed"),
        "base64-damaged": (b"SPKAC=" + base64.b64encode(good)[:-1], "request-malformed"),
        "cut-off": (good[:-1], "request-malformed"),
        "octet-behind": (good + b"\x00", "request-malformed"),
        "pem": (pem(certification_request()), "pem-label"),
        "certification-request": (certification_request(), "request-malformed"),
        "key-ec-without-curve": (spkac(key_info=_ec_key_without_curve()), "key-unsupported"),
        "challenge-not-ascii": (spkac(challenge=b"\xff"), "request-malformed"),
        "challenge-too-long": (spkac(challenge=b"x" * 1025), "request-malformed"),
        "signature-changed": (good[:-1] + bytes((good[-1] ^ 1,)), "signature-invalid"),
        "signature-rsa-changed": (
            spkac(key_info=rsa_info, signature_algorithm=algorithm(SHA256_WITH_RSA, NULL), sign=lambda _: b"x" * 256),
            "signature-invalid",
        ),
        "signature-with-unused-bits": (spkac(sign=lambda _: b"\x00" * 64, unused_bits=3), "signature-invalid"),
        "signature-algorithm-of-another-key": (
            spkac(signature_algorithm=algorithm(SHA256_WITH_RSA, NULL)),
            "signature-invalid",
        ),
        "signature-md5": (
            spkac(key_info=rsa_info, signature_algorithm=algorithm(MD5_WITH_RSA, NULL)),
            "signature-algorithm",
        ),
        "signature-sha-1": (
            spkac(key_info=rsa_info, signature_algorithm=algorithm(SHA1_WITH_RSA, NULL)),
            "signature-algorithm",
        ),
        "signature-pss": (
            spkac(key_info=rsa_info, signature_algorithm=algorithm(RSASSA_PSS, b"\x30\x00")),
            "signature-algorithm",
        ),
        "signature-ml-dsa": (
            spkac(key_info=public_key_info(mldsa_key), signature_algorithm=algorithm(ML_DSA_44), sign=mldsa_key.sign),
            "signature-algorithm",
        ),
        **{name: (spkac(key_info=information), code) for name, (information, code) in bad_keys().items()},
    }


@functools.cache
def bad_keys() -> dict[str, tuple[bytes, str]]:
    """SubjectPublicKeyInfos by the name of their fault, each with the code of its refusal."""
    modulus = rsa_key().public_key().public_numbers().n
    point = ec_key().public_key()
    uncompressed = point.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    compressed = point.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    off_curve = uncompressed[:-1] + bytes((uncompressed[-1] ^ 1,))
    return {
        "key-rsa-1024": (rsa_key_info(modulus >> 1024 | 1, 65537), "key-weak"),
        "key-rsa-2047": (rsa_key_info(modulus >> 1 | 1, 65537), "key-weak"),
        "key-rsa-2049": (rsa_key_info(modulus << 1 | 1, 65537), "key-weak"),
        "key-rsa-16384": (rsa_key_info((modulus << 14336) | 1, 65537), "key-unsupported"),
        "key-rsa-400000": (rsa_key_info((modulus << 397952) | 1, 65537), "key-unsupported"),
        "key-rsa-modulus-zero": (rsa_key_info(0, 65537), "key-unsupported"),
        "key-rsa-modulus-negative": (rsa_key_info(-modulus, 65537), "key-unsupported"),
        "key-rsa-modulus-even": (rsa_key_info(modulus - 1, 65537), "key-weak"),
        "key-rsa-exponent-1": (rsa_key_info(modulus, 1), "key-unsupported"),
        "key-rsa-exponent-3": (rsa_key_info(modulus, 3), "key-weak"),
        "key-rsa-exponent-even": (rsa_key_info(modulus, 65538), "key-unsupported"),
        "key-rsa-exponent-negative": (rsa_key_info(modulus, -65537), "key-unsupported"),
        "key-rsa-exponent-huge": (rsa_key_info(modulus, 2**2000 + 1), "key-weak"),
        "key-rsa-without-null": (rsa_key_info(modulus, 65537, parameters=b""), "key-encoding"),
        "key-rsa-bound-to-pss": (rsa_key_info(modulus, 65537, dotted=RSASSA_PSS, parameters=b""), "key-encoding"),
        "key-ec-compressed": (ec_key_info(compressed), "key-encoding"),
        "key-ec-off-the-curve": (ec_key_info(off_curve), "key-unsupported"),
        "key-ec-at-infinity": (ec_key_info(b"\x00"), "key-unsupported"),
        "key-ec-empty": (ec_key_info(b""), "key-unsupported"),
        "key-ec-explicit-parameters": (ec_key_info(uncompressed, parameters=explicit_p256()), "key-encoding"),
        "key-ec-secp256k1": (public_key_info(ec.generate_private_key(ec.SECP256K1())), "key-unsupported"),
        "key-ec-p-224": (public_key_info(ec.generate_private_key(ec.SECP224R1())), "key-unsupported"),
        "key-ec-unknown-curve": (
            ec_key_info(uncompressed, parameters=object_identifier("1.2.3.4")),
            "key-unsupported",
        ),
        "key-dsa": (public_key_info(dsa.generate_private_key(2048)), "key-unsupported"),
        "key-ed448": (public_key_info(ed448.Ed448PrivateKey.generate()), "key-unsupported"),
        "key-x25519": (public_key_info(x25519.X25519PrivateKey.generate()), "key-unsupported"),
        "key-unknown": (der.encode(der.SEQUENCE, algorithm("1.2.3.4"), bit_string(b"key")), "key-unsupported"),
        "key-with-unused-bits": (
            der.encode(der.SEQUENCE, algorithm(ED25519), bit_string(b"\x00" * 32, unused=4)),
            "key-unsupported",
        ),
    }


def _rsa_request(key_info: bytes, *, signature_algorithm: bytes = algorithm(SHA256_WITH_RSA, NULL)) -> bytes:
    return certification_request(key_info=key_info, signature_algorithm=signature_algorithm, sign=sign_rsa)


def _ec_key_without_curve() -> bytes:
    point = ec_key().public_key()
    uncompressed = point.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return ec_key_info(uncompressed, parameters=b"")
