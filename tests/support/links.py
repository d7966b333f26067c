"""Link credentials on disk, made once for each run of the tests, and TLS peers that behave as a test wants."""

from __future__ import annotations

import atexit
import datetime as dt
import functools
import shutil
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from cassiopeia.errors import PeerError
from cassiopeia.link.credentials import LinkTls, Version1Tls, client_tls, make_link_key, signer_tls
from cassiopeia.protocol.channel import TlsChannel

VERSION_2 = ("signer", "client", "next_client", "stranger")
VERSION_1 = ("signer_1", "client_1")
# Every link certificate of version 2 has the same subject: a peer's next certificate has the name of its current one.
COMMON_NAME = "cassiopeia link"


@functools.cache
def directory() -> Path:
    """A directory with NAME.pem and NAME.key for every name above, `original` (a chain) and `expired`."""
    made = Path(tempfile.mkdtemp(prefix="cassiopeia-links-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    for name in VERSION_2 + VERSION_1:
        version = 1 if name in VERSION_1 else 2
        make_link_key(
            certificate=made / f"{name}.pem", key=made / f"{name}.key", common_name=COMMON_NAME, version=version
        )
    _make_original(made)
    _make_expired(made)
    return made


def certificate(name: str) -> Path:
    return directory() / f"{name}.pem"


def key(name: str) -> Path:
    return directory() / f"{name}.key"


@functools.cache
def signer(
    *, peers: tuple[str, ...] = ("client",), peers_1: tuple[str, ...] = (), name: str = "signer", name_1: str = ""
) -> LinkTls:
    """A signer's side; version 1 is on when it has peers."""
    version_1 = Version1Tls(
        certificate=certificate(name_1 or "signer_1"), key=key(name_1 or "signer_1"), peers=[*map(certificate, peers_1)]
    )
    return signer_tls(
        certificate=certificate(name),
        key=key(name),
        peers=[*map(certificate, peers)],
        version_1=version_1 if peers_1 else None,
    )


@functools.cache
def client(*, name: str = "client", peers: tuple[str, ...] = ("signer",), version: int = 2) -> LinkTls:
    return client_tls(certificate=certificate(name), key=key(name), peers=[*map(certificate, peers)], version=version)


def client_1(*, name: str = "client_1", peers: tuple[str, ...] = ("signer_1",)) -> LinkTls:
    return client(name=name, peers=peers, version=1)


class BareTls:
    """A TLS engine of the standard library with nothing of ours in it: what any peer could be."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool = False) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self.failure: ssl.SSLError | None = None
        self.done = False
        self.receive(b"")

    def receive(self, octets: bytes) -> None:
        self._incoming.write(octets)
        if self.failure is not None:
            return
        try:
            if not self.done:
                self.tls.do_handshake()
                self.done = True
            self.tls.read(1)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            self.failure = error

    def data_to_send(self) -> bytes:
        return self._outgoing.read()


def bare_client(*, name: str = "", alpn: str = "", tls: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    """A client that believes any server and offers exactly one TLS version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = tls
    if alpn:
        context.set_alpn_protocols([alpn])
    if name:
        context.load_cert_chain(certificate(name), key(name))
    return context


def shake_hands(signer_end: TlsChannel, client_end: TlsChannel | BareTls) -> tuple[str, str]:
    """Carry octets between the two until both are silent; return what each failed with (empty: nothing)."""
    failures = ["", ""]
    while True:
        to_signer = client_end.data_to_send()
        try:
            signer_end.receive(to_signer)
        except PeerError as error:
            failures[0] = str(error)
        to_client = signer_end.data_to_send()
        try:
            client_end.receive(to_client)
        except PeerError as error:
            failures[1] = str(error)
        if not to_signer and not to_client:
            return failures[0], failures[1]


def channels(signer_settings: LinkTls, client_settings: LinkTls) -> tuple[TlsChannel, TlsChannel]:
    return TlsChannel(tls=signer_settings, server_side=True), TlsChannel(tls=client_settings, server_side=False)


def _make_original(made: Path) -> None:
    """What the original has: an RSA leaf under a root of its own; `original_chain.pem` is both, as it sends them."""
    root_key = ec.generate_private_key(ec.SECP256R1())
    leaf_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = dt.datetime.now(dt.UTC)
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "communication root")])
    root = (
        _builder(root_name, root_name, root_key.public_key(), until=now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    leaf_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer_client")])
    leaf = (
        _builder(leaf_name, root_name, leaf_key.public_key(), until=now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    _write(made, "original", leaf_key, leaf.public_bytes(Encoding.PEM))
    (made / "original_root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (made / "original_chain.pem").write_bytes(leaf.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    shutil.copy(made / "original.key", made / "original_chain.key")


def _make_expired(made: Path) -> None:
    private_key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME)])
    expired = _builder(name, name, private_key.public_key(), until=dt.datetime(2011, 1, 1, tzinfo=dt.UTC))
    _write(made, "expired", private_key, expired.sign(private_key, hashes.SHA256()).public_bytes(Encoding.PEM))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
    *,
    until: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2010, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(until)
    )


def _write(
    made: Path, name: str, private_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, certificates: bytes
) -> None:
    (made / f"{name}.pem").write_bytes(certificates)
    (made / f"{name}.key").touch(mode=0o600)
    (made / f"{name}.key").write_bytes(private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
