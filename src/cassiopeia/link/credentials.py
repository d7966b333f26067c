"""The link's own credentials: from files to TLS settings with pinned peers.

Owns the files' rules (a private key is nobody else's to read) and the TLS parameters of both protocol versions. Link
certificates are self-signed carriers of a key: their dates, names and issuers mean nothing. It never touches a key
that signs certificates. Source: wire specification, "Links"; RFC 8446, RFC 7301.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cassiopeia.errors import OperatorError
from cassiopeia.protocol.channel import ALPN, LinkTls, public_key_pin, remember_presented_certificates

__all__ = ["LinkTls", "Version1Tls", "certificate_pin", "client_tls", "make_link_key", "signer_tls"]

# X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h: an expired link certificate must never cut off the signer.
_NO_CHECK_TIME = 0x200000
# What the original offers, and its AEAD siblings. RSA alone, so that OpenSSL picks the version 1 certificate.
_VERSION_1_CIPHERS = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"
# RFC 5280 4.1.2.5: "no well-defined expiration date".
_NO_EXPIRY = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
_LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class Version1Tls:
    """What a signer needs to speak version 1: a certificate (RSA, for TLS 1.2) and peers of its own."""

    certificate: Path
    key: Path
    peers: Sequence[Path]


def signer_tls(*, certificate: Path, key: Path, peers: Sequence[Path], version_1: Version1Tls | None = None) -> LinkTls:
    """Return the signer's side. Version 1 is off unless it has a certificate and peers of its own."""
    bare_context = functools.partial(_signer_context, version_1=version_1 is not None)
    context = bare_context()
    trusted = _load_peers(context, peers)
    own_pins = {2: _load_own(context, certificate, key)}
    peer_pins = {2: trusted}
    if version_1 is not None:
        _require_key_kinds(version_1=version_1.certificate, version_2=certificate)
        own_pins[1] = _load_own(context, version_1.certificate, version_1.key)
        peer_pins[1] = _load_peers(context, version_1.peers)
        if common := peer_pins[1] & peer_pins[2]:
            raise OperatorError(f"link: the same key is a peer of versions 1 and 2 ({min(common)}): use two keys")
    return LinkTls(context=context, bare_context=bare_context, own_pins=own_pins, peer_pins=peer_pins)


def client_tls(*, certificate: Path, key: Path, peers: Sequence[Path], version: int = 2) -> LinkTls:
    """Return the client's side, for one version of the protocol."""
    bare_context = functools.partial(_client_context, version=version)
    context = bare_context()
    trusted = _load_peers(context, peers)
    own_pin = _load_own(context, certificate, key)
    return LinkTls(
        context=context, bare_context=bare_context, own_pins={version: own_pin}, peer_pins={version: trusted}
    )


def certificate_pin(path: Path) -> str:
    """Return the pin (SHA-256 of SubjectPublicKeyInfo, hex) of the one certificate in a PEM file."""
    return public_key_pin(_read_certificate(path))


def make_link_key(*, certificate: Path, key: Path, common_name: str, version: int = 2) -> str:
    """Make a link key and its self-signed certificate (Ed25519; RSA-2048 for version 1); return its pin.

    Neither file may exist. The key file is for its owner alone.
    """
    private_key = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if version == 1
        else ed25519.Ed25519PrivateKey.generate()
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .not_valid_before(_LONG_AGO)
        .not_valid_after(_NO_EXPIRY)
        .serial_number(x509.random_serial_number())
        .public_key(private_key.public_key())
        .sign(private_key, hashes.SHA256() if version == 1 else None)
    )
    _create(key, private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
    _create(certificate, made.public_bytes(Encoding.PEM), mode=0o644)
    return public_key_pin(made.public_bytes(Encoding.DER))


def _signer_context(*, version_1: bool) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    # No tickets: nothing is ever resumed, and each would cost octets on the line.
    context.num_tickets = 0
    if version_1:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_VERSION_1_CIPHERS)
        context.set_alpn_protocols([ALPN[2], ALPN[1]])
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols([ALPN[2]])
    return context


def _client_context(*, version: int) -> ssl.SSLContext:
    context = _context(ssl.PROTOCOL_TLS_CLIENT)
    if version == 1:
        # An original signer knows nothing newer, and ours picks its version 1 certificate for certain.
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_VERSION_1_CIPHERS)
    else:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN[version]])
    return context


def _context(protocol: int) -> ssl.SSLContext:
    """Return what both sides and both versions share: a certificate is demanded, its dates are not looked at."""
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    # A peer's certificate is trusted as itself, whoever issued it: no root is needed above it.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    remember_presented_certificates(context)
    return context


def _load_peers(context: ssl.SSLContext, paths: Sequence[Path]) -> frozenset[str]:
    """Trust the certificates in these files; return their pins."""
    if not paths:
        raise OperatorError("link: no peer certificate is configured: name at least one")
    certificates = [_read_certificate(path) for path in paths]
    context.load_verify_locations(cadata=b"".join(certificates))
    return frozenset(map(public_key_pin, certificates))


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> str:
    pin = certificate_pin(certificate)
    _require_private(key)

    def refuse_passphrase() -> str:
        raise OperatorError(f"{key}: the link key is encrypted: store it without a passphrase, mode 600")

    try:
        context.load_cert_chain(certificate, key, password=refuse_passphrase)
    except ssl.SSLError as error:
        reason = (error.reason or "not a PEM private key").lower().replace("_", " ")
        raise OperatorError(f"{key}: cannot be used with {certificate}: {reason}") from error
    return pin


def _read_certificate(path: Path) -> bytes:
    """Return the DER of the only certificate in a PEM file."""
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
        if len(certificates) != 1:
            raise OperatorError(f"{path}: holds {len(certificates)} certificates: leave only the peer's own")
        octets = certificates[0].public_bytes(Encoding.DER)
        public_key_pin(octets)
    except OSError as error:
        raise OperatorError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise OperatorError(f"{path}: is not a PEM certificate: {error}") from error
    return octets


def _require_private(key: Path) -> None:
    try:
        mode = stat.S_IMODE(key.stat().st_mode)
        key.read_bytes()
    except OSError as error:
        raise OperatorError(f"{key}: cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise OperatorError(f"{key}: a private key that others may read or write (mode {mode:04o}): chmod 600 {key}")


def _require_key_kinds(*, version_1: Path, version_2: Path) -> None:
    """OpenSSL keeps one certificate for each type of key, and TLS 1.2 must find RSA for version 1."""
    for path, wanted in ((version_1, True), (version_2, False)):
        public_key = x509.load_der_x509_certificate(_read_certificate(path)).public_key()
        if isinstance(public_key, rsa.RSAPublicKey) is not wanted:
            kind = "an RSA key (version 1)" if wanted else "a key other than RSA while version 1 is on"
            raise OperatorError(f"{path}: the link certificate must have {kind}")


def _create(path: Path, octets: bytes, *, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except OSError as error:
        raise OperatorError(f"{path}: cannot be created: {error.strerror}") from error
    with open(descriptor, "wb") as file:  # noqa: PTH123 - Path.open takes no descriptor
        file.write(octets)
        file.flush()
        os.fsync(descriptor)
