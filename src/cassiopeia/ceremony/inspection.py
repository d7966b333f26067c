"""Looking at what a ceremony made, once more, from the octets of its files: by the linter, and by our own eyes.

Owns what every artefact must be before anybody carries it away: a chain from the root down, identifiers that fit
(RFC 5280 4.2.1.1), dates within those above (4.1.2.5), path lengths (4.2.1.9), CRLs of the right issuer with rising
numbers (5.2.3), keys that fit their certificates, and nothing grave that pkilint finds. It makes nothing, and believes
nothing that was in memory.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cassiopeia.ceremony.lint_tasks import CERTIFICATE, CRL, ArtefactTask, Remark, read_findings, write_tasks
from cassiopeia.core import algorithms, crl
from cassiopeia.core.crl import Crl
from cassiopeia.errors import OperatorError, PeerError

_LINT_TIME_LIMIT_S: Final = 600
_WORKER: Final = (sys.executable, "-P", "-m", "cassiopeia.ceremony.lint_worker")


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What the linter says of one artefact, by its file's name."""

    artefact: str
    remark: Remark

    def __str__(self) -> str:
        return f"{self.artefact}: {self.remark}"


def require_linter() -> None:
    """Raise OperatorError unless the linter is installed."""
    if importlib.util.find_spec("pkilint") is None:
        raise OperatorError(
            "the package pkilint, which looks at what a ceremony makes, is not installed: "
            "pip install 'cassiopeia-ca[ceremony]'"
        )


def lint(*, certificates: Mapping[str, bytes], crls: Mapping[str, bytes]) -> tuple[Finding, ...]:
    """Everything that pkilint finds in these certificates and CRLs (DER, by name), in their order.

    Raises OperatorError when the linter does not run: then nothing was linted, which is never the same as good.
    """
    require_linter()
    tasks = [ArtefactTask(name=name, kind=CERTIFICATE, octets=octets) for name, octets in certificates.items()]
    tasks += [ArtefactTask(name=name, kind=CRL, octets=octets) for name, octets in crls.items()]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            _WORKER, input=write_tasks(tasks), capture_output=True, timeout=_LINT_TIME_LIMIT_S, check=True
        )
        answers = read_findings(done.stdout)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
        raise OperatorError(f"the linter does not work: {_last_words(error)}; nothing was linted") from error
    if [each.name for each in answers] != [each.name for each in tasks]:
        raise OperatorError("the linter did not answer for each certificate and CRL; nothing counts as linted")
    return tuple(Finding(artefact=answer.name, remark=remark) for answer in answers for remark in answer.remarks)


def refuse_grave(findings: Iterable[Finding]) -> None:
    """Raise OperatorError when there is an error or worse among them."""
    grave = [each for each in findings if each.remark.grave]
    if grave:
        more = f" (and {len(grave) - 1} more)" if len(grave) > 1 else ""
        raise OperatorError(f"the linter objects to {grave[0]}{more}: mend the hierarchy file, and begin again")


def check_chain(
    certificates: Mapping[str, bytes], issuers: Mapping[str, str], *, adopted: Collection[str] = ()
) -> None:
    """Raise OperatorError unless these CA certificates (DER, by name) are a tree below a root.

    `issuers` gives the name of the CA above each; a root stands above itself. Those that were `adopted` need no path
    length, since somebody else chose what they say. An adopted structure CA may have an
    issuer that is not among them: then it is the top, and what is above it is not looked at.
    """
    read = {name: read_certificate(octets, source=name) for name, octets in certificates.items()}
    by_key: dict[bytes, str] = {}
    by_serial: dict[tuple[bytes, int], str] = {}
    for name, certificate in read.items():
        issuer = issuers[name]
        _check_ca(certificate, name)
        if issuer in read:
            _check_issued(certificate, name, read[issuer], issuer, is_adopted=name in adopted)
        # Keys and serial numbers are made at random: two that are the same were not.
        other = by_key.setdefault(_public_octets(certificate.public_key()), name)
        if other != name:
            raise OperatorError(f"{name}: has the same key as {other}: look at this machine's random numbers")
        other = by_serial.setdefault((certificate.issuer.public_bytes(), certificate.serial_number), name)
        if other != name:
            raise OperatorError(f"{name}: has the same serial number as {other}")  # RFC 5280 4.1.2.2


def check_crl(
    octets: bytes,
    *,
    name: str,
    issuer: bytes,
    number: int,
    now: dt.datetime,
    revoked: Collection[int] | None = None,
) -> Crl:
    """Read a CRL (DER) and check that it is this CA's (certificate, DER), with this number, and good now.

    `revoked` are the serial numbers that it has to list, and no others. Raises OperatorError.
    """
    certificate = read_certificate(issuer, source=name)
    try:
        found = crl.read_crl(octets)
        listed = sorted(crl.entry_serials(found.entries))
        algorithms.verify(certificate.public_key(), found.algorithm, found.signature, found.tbs)
    except PeerError as error:
        raise OperatorError(f"{name}: its CRL is wrong: {error}") from error
    if found.issuer != certificate.subject.public_bytes():
        raise OperatorError(f"{name}: its CRL names another issuer")
    if found.authority_key_identifier != _subject_key_identifier(certificate, name):
        raise OperatorError(f"{name}: its CRL names another key than that of its certificate")  # RFC 5280 5.2.1
    if found.number != number:
        raise OperatorError(f"{name}: its CRL has the number {found.number}, and {number} comes next")
    if revoked is not None and listed != sorted(revoked):
        raise OperatorError(f"{name}: its CRL does not list exactly what was revoked")
    if not found.this_update <= now < found.next_update:
        raise OperatorError(
            f"{name}: its CRL is good from {found.this_update:%Y-%m-%d} to {found.next_update:%Y-%m-%d}, which is not "
            "now: look at this machine's clock"
        )
    return found


def check_key(pem: bytes, passphrase: bytes, *, name: str, certificate: bytes) -> None:
    """Raise OperatorError unless this file (PKCS#8, PEM) opens, and its key signs as the certificate (DER) says."""
    key = unlock_key(pem, passphrase, name=name)
    prove_key(key, name=name, certificate=certificate)


def unlock_key(pem: bytes, passphrase: bytes | None, *, name: str) -> CertificateIssuerPrivateKeyTypes:
    """The key in a PKCS#8 file (PEM), with its passphrase if it is encrypted; raises OperatorError."""
    try:
        key = load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise OperatorError(f"the key of {name} does not open: wrong passphrase, or a damaged file") from None
    if isinstance(
        key,
        rsa.RSAPrivateKey
        | ec.EllipticCurvePrivateKey
        | ed25519.Ed25519PrivateKey
        | ed448.Ed448PrivateKey
        | mldsa.MLDSA44PrivateKey
        | mldsa.MLDSA65PrivateKey
        | mldsa.MLDSA87PrivateKey,
    ):
        return key
    raise OperatorError(f"the key of {name} is of a kind that signs no certificates")


def prove_key(key: CertificateIssuerPrivateKeyTypes, *, name: str, certificate: bytes) -> None:
    """Raise OperatorError unless the key is that of the certificate (DER), and a signature by it verifies."""
    theirs = read_certificate(certificate, source=name).public_key()
    if _public_octets(key.public_key()) != _public_octets(theirs):
        raise OperatorError(f"the key of {name} does not fit its certificate")
    # RFC 2986: a certification request is signed with the key that it is for, whatever its kind.
    digest = hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) else None
    proof = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, digest)
    if not proof.is_signature_valid:
        raise OperatorError(f"the key of {name} makes signatures that do not verify: the file is damaged")


def read_certificate(octets: bytes, *, source: str) -> x509.Certificate:
    """Raises OperatorError for what is no certificate (DER), or has extensions that cannot be read."""
    try:
        certificate = x509.load_der_x509_certificate(octets)
        certificate.public_key()
        _ = certificate.extensions
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise OperatorError(f"{source}: its certificate cannot be read: {error}") from error
    return certificate


def _check_ca(certificate: x509.Certificate, name: str) -> None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound as error:
        raise OperatorError(f"{name}: its certificate has no {error.oid.dotted_string} extension") from error
    if not (constraints.critical and constraints.value.ca):
        raise OperatorError(f"{name}: its certificate is not that of a CA")  # RFC 5280 4.2.1.9
    if not (usage.critical and usage.value.key_cert_sign and usage.value.crl_sign):
        raise OperatorError(f"{name}: its certificate lets its key sign no certificates and CRLs")  # RFC 5280 4.2.1.3
    _subject_key_identifier(certificate, name)


def _check_issued(
    certificate: x509.Certificate, name: str, issuer: x509.Certificate, issuer_name: str, *, is_adopted: bool
) -> None:
    # 1. The signature, and the names.
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise OperatorError(f"{name}: its certificate is not one that {issuer_name} has signed") from error
    # 2. The identifiers by which verifiers find the key above (RFC 5280 4.2.1.1); a root needs none.
    if issuer_name != name:
        try:
            identifier = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        except x509.ExtensionNotFound as error:
            raise OperatorError(f"{name}: its certificate has no authority key identifier") from error
        if identifier.key_identifier != _subject_key_identifier(issuer, issuer_name):
            raise OperatorError(f"{name}: its certificate names another key than that of {issuer_name}")
    # 3. Nothing outlives what it stands on.
    if not (
        issuer.not_valid_before_utc <= certificate.not_valid_before_utc
        and certificate.not_valid_after_utc <= issuer.not_valid_after_utc
    ):
        raise OperatorError(f"{name}: its certificate is valid outside of the dates of {issuer_name}")
    # 4. Path lengths: each is shorter than the one above (RFC 5280 6.1.4, l and m).
    above, own = _path_length(issuer), _path_length(certificate)
    if own is None and is_adopted:
        return
    if issuer_name != name and above is not None and (own is None or own >= above):
        raise OperatorError(f"{name}: its path length does not fit below {issuer_name}")
    # 5. What it is for.
    _check_usages(certificate, name, issuer, issuer_name)


def _check_usages(certificate: x509.Certificate, name: str, issuer: x509.Certificate, issuer_name: str) -> None:
    """What the CA above may not vouch for, nothing below it may: so browsers and mail readers reckon."""
    above, own = _extended_key_usage(issuer), _extended_key_usage(certificate)
    if above is not None and (own is None or not own <= above):
        raise OperatorError(f"{name}: its certificate is for more than that of {issuer_name} is (extended key usage)")


def _extended_key_usage(certificate: x509.Certificate) -> set[x509.ObjectIdentifier] | None:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return None


def _public_octets(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _path_length(certificate: x509.Certificate) -> int | None:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _subject_key_identifier(certificate: x509.Certificate, name: str) -> bytes:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound as error:
        raise OperatorError(f"{name}: its certificate has no subject key identifier") from error


def _last_words(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines: Sequence[bytes] = error.stderr.strip().splitlines() or [b"it said nothing"]
        return lines[-1].decode(errors="replace")
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it took longer than {_LINT_TIME_LIMIT_S} seconds"
    return str(error)
