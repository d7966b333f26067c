"""CAs for tests: made in memory with the library's own builders, so that what is tested is judged by something else."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import cassiopeia.core
from cassiopeia.core import crl
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority, load_authority
from cassiopeia.core.policy import ApprovedRequest, decide
from cassiopeia.core.profile import Profile, parse_profile
from cassiopeia.core.request import CertificateRequest, Revocation, SubjectAltName, SubjectAttribute
from cassiopeia.core.rules import Rules, Standing

PrivateKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)

NOW = dt.datetime(2026, 11, 23, 12, 30, 15, tzinfo=dt.UTC)
PROFILES = Path(cassiopeia.core.__file__).parent / "profiles"
HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}


@dataclass(frozen=True, kw_only=True)
class TestCa:
    """A CA with its key at hand."""

    __test__ = False
    key: PrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    """One RSA key for the whole run: making one is slow."""
    return rsa.generate_private_key(65537, 2048)


@functools.cache
def p256_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def make_ca(
    common_name: str,
    *,
    key: PrivateKey,
    issuer: TestCa | None = None,
    not_before: dt.datetime = NOW - dt.timedelta(days=30),
    not_after: dt.datetime = NOW + dt.timedelta(days=4 * 365),
    is_ca: bool = True,
    key_cert_sign: bool = True,
) -> TestCa:
    """A CA certificate, self-signed without an issuer."""
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Test PKI"),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )
    signer = issuer.key if issuer else key
    identifier = x509.SubjectKeyIdentifier.from_public_key(signer.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not key_cert_sign,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=key_cert_sign,
                crl_sign=key_cert_sign,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    needs_hash = isinstance(signer, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return TestCa(key=key, certificate=builder.sign(signer, hashes.SHA256() if needs_hash else None))


def make_authority(ca: TestCa, *, name: str = "unassured_2026_2", pss: bool = False, urls: bool = True) -> Authority:
    return load_authority(
        ca.der,
        name=name,
        signer_id=1,
        pss=pss,
        crl_urls=(f"http://crl.example.org/{name}.crl",) if urls else (),
        issuer_urls=(f"http://crt.example.org/{name}.crt",) if urls else (),
        ocsp_urls=("http://ocsp.example.org",) if urls else (),
    )


@functools.cache
def default_ca() -> TestCa:
    return make_ca("unassured_2026_2", key=p256_key())


@functools.cache
def default_authority() -> Authority:
    return make_authority(default_ca())


def sign(key: PrivateKey, algorithm: SignatureAlgorithm, octets: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        digest = HASHES[algorithm.hash_name]
        pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return key.sign(octets, pss if algorithm.is_pss else padding.PKCS1v15(), digest)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(octets, ec.ECDSA(HASHES[algorithm.hash_name]))
    return key.sign(octets)


def load_profile(name: str) -> Profile:
    return parse_profile((PROFILES / f"{name}.toml").read_text(encoding="utf-8"), name=name, source=name)


@functools.cache
def certification_request(kind: str = "P-256") -> bytes:
    """DER of a PKCS#10 request that says nothing but its key."""
    keys: dict[str, Callable[[], PrivateKey]] = {
        "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "RSA": rsa_key,
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "ML-DSA-44": mldsa.MLDSA44PrivateKey.generate,
    }
    key = keys[kind]()
    digest = None if kind in ("Ed25519", "ML-DSA-44") else hashes.SHA256()
    return (
        x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest).public_bytes(Encoding.DER)
    )


def subject_public_key_info(request: CertificateRequest) -> bytes:
    public_key = x509.load_der_x509_csr(request.key_proof).public_key()
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def attributes(**values: str) -> tuple[SubjectAttribute, ...]:
    return tuple(SubjectAttribute(type=each, value=value) for each, value in values.items())


def alt_names(*values: str) -> tuple[SubjectAltName, ...]:
    """From texts as `DNS,www.example.org`."""
    return tuple(SubjectAltName(type=each.partition(",")[0], value=each.partition(",")[2]) for each in values)


def server_request(**changes: object) -> CertificateRequest:
    """A request that the profile 9004-unproved-server takes."""
    values: dict[str, object] = {
        "key_kind": "csr",
        "key_proof": certification_request(),
        "profile": "9004-unproved-server",
        "attributes": attributes(CN="www.example.org"),
        "alt_names": alt_names("DNS,www.example.org", "DNS,example.org"),
    }
    return CertificateRequest(**(values | changes))  # type: ignore[arg-type] # a test may ask for anything


def approve(
    request: CertificateRequest,
    *,
    profile: Profile | None = None,
    authority: Authority | None = None,
    now: dt.datetime = NOW,
) -> ApprovedRequest:
    authority = authority or default_authority()
    responder_keys = {hashlib.sha256(subject_public_key_info(request)).digest()} if request.ocsp_target_ca else ()
    return decide(
        request,
        rules=Rules(
            signer_id=1,
            profiles={request.profile or "ocsp": profile or load_profile(request.profile)},
            authorities=(authority,),
            responder_keys=frozenset(responder_keys),
        ),
        standing=Standing(),
        now=now,
        serial_entropy=bytes(range(15)),
        issued={},
        version=2,
    )


def entries(serial_numbers: range, date: dt.datetime = NOW) -> bytes:
    """Entries of a CRL, one behind the other."""
    return b"".join(crl.encode_revocation(Revocation(serial_number=each), date) for each in serial_numbers)
