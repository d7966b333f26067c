"""A CA whose link speaks version 1, and requests as the original client words them.

The CA is made once for a run of the tests; each `System` gets a copy. The imitated original, whichever side it plays,
has the link certificate `original` of `links`: RSA, under a root that it sends along.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from examples.system import CASSIOPEIA, System
from tests.support import links, original

from cassiopeia.journal import entry as entries
from cassiopeia.journal.entry import JournalEntry, Log
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_reader import read_journal

LINKS = ("unix", "serial")
PROFILE = "9004-unproved-server"
# What `init` writes into signer.toml, client.toml and client-v1.toml.
_SOCKET = '"unix:../run/signer.sock"'


def lay_out(system: System) -> None:
    """Put a CA into `system`; with a null modem, both ends are at its devices."""
    ca = system.directory / "ca"
    shutil.copytree(_template(), ca)
    if system.modem is not None:
        signer_device, client_device = system.modem.devices
        edit(ca / "signer/signer.toml", _SOCKET, f'"serial:{signer_device}"')
        for name in ("client", "client-v1"):
            edit(ca / f"client/{name}.toml", _SOCKET, f'"serial:{client_device}"')


def edit(path: Path, old: str, new: str) -> None:
    """Replace what must be there exactly once."""
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new))


def tls(*, server_side: bool, trusted: Path) -> ssl.SSLContext:
    """TLS of the imitated original."""
    return original.tls_context(
        server_side=server_side, chain=links.certificate("original_chain"), key=links.key("original"), trusted=trusted
    )


def signing_ca(system: System, family: str = "unassured") -> str:
    """The one time sub-CA of a family; its name depends on the day."""
    (certificate,) = (system.directory / "ca/signer/certificates").glob(f"{family}_*.pem")
    return certificate.stem


def csr(*, bulk: bytes = b"") -> bytes:
    """A PEM PKCS#10 with a key of its own; `bulk` makes it as long as wished (in a challenge password)."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if bulk:
        builder = builder.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, bulk)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def spkac(directory: Path) -> bytes:
    """`SPKAC=` and base64, by the openssl program."""
    key = directory / "spkac.key"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key],
        check=True,
        capture_output=True,
    )
    done = subprocess.run(["openssl", "spkac", "-key", key, "-digest", "sha256"], check=True, capture_output=True)
    return done.stdout.strip()


def request(
    name: str,
    *,
    proof: bytes | None = None,
    profile: str = PROFILE,
    to: str = "2m",
    more: Sequence[tuple[int, bytes]] = (),
) -> list[tuple[int, bytes]]:
    """The parts of a request in the original's order, up to `sign`."""
    proof = proof or csr()
    kind = original.SET_SPKAC if proof.startswith(b"SPKAC=") else original.SET_CSR
    return [
        (kind, proof),
        (original.SET_SIGNATURE_TYPE, b"sha256"),
        (original.SET_PROFILE, profile.encode()),
        (original.WISH_FROM, b""),
        (original.WISH_TO, to.encode()),
        (original.ADD_AVA, f"CN,{name}".encode()),
        (original.ADD_SAN, f"DNS,{name}".encode()),
        *more,
    ]


def journal(system: System, kind: str) -> list[tuple[JournalEntry, Log]]:
    """The journal's entries of one kind, oldest first: of a copy, because the signer lets nobody else in."""
    copy = system.directory / "journal"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(system.directory / "ca/signer/state", copy)
    logs = [(entries.decode_entry(log.entry), log) for log in read_journal(copy / FILE_NAME)]
    return [(entry, log) for entry, log in logs if entry.kind == kind]


@functools.cache
def _template() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="cassiopeia-v1-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    options = ["--unproved-profiles", "--version-1", "--key-algorithm", "P-256", "--periods", "1"]
    subprocess.run([*CASSIOPEIA, "init", "ca", *options], cwd=directory, check=True, capture_output=True)
    return directory / "ca"
