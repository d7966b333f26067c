"""Adopting CAs that were there before: a root or structure CAs, with their keys, or with a root that stays elsewhere.

Owns what is read of them and checked. What goes on from them is like any other ceremony: their CRLs keep their entries
and count on (RFC 5280 5.2.3). A root whose key is somebody else's is asked for the certificates of structure CAs:
requests go out, the ceremony ends with their keys in the safe, and another one takes in what comes back.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from cassiopeia.ceremony import inspection
from cassiopeia.ceremony.conducting import Outcome, Work, check_same_root
from cassiopeia.ceremony.declaration import Declaration
from cassiopeia.ceremony.hierarchy import ROOT_NAME, Family
from cassiopeia.ceremony.key_ceremony import Entropy, make_key
from cassiopeia.ceremony.objections import Objection
from cassiopeia.ceremony.review_adopted import review_adopted
from cassiopeia.ceremony.safe import Safe
from cassiopeia.ceremony.sub_ca_request import SubCaRequest
from cassiopeia.errors import OperatorError
from cassiopeia.secret_source import wipe

AskPassphrase = Callable[[Path], bytearray]
"""Gives the passphrase of an encrypted key file; whoever asks wipes it."""

_NO_REQUESTS: Final[Mapping[str, SubCaRequest]] = {}
# Lists of a part of what is revoked, which are no list to go on from (RFC 5280 5.2.4, 5.2.5).
_PARTIAL: Final = (x509.IssuingDistributionPoint, x509.DeltaCRLIndicator)


@dataclass(frozen=True, kw_only=True, slots=True)
class Adopted:
    """A CA that was made elsewhere: `name` is `root`, or a family's. `crl` is its last one, if it ever had any."""

    name: str
    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes | None = field(default=None, repr=False)
    crl: x509.CertificateRevocationList | None = None


def read_adopted(
    name: str, certificate: Path, *, key: Path | None, crl: Path | None, ask_passphrase: AskPassphrase
) -> Adopted:
    """Read the files of a CA, PEM or DER each; raises OperatorError for what does not belong together."""
    read = _read_certificate(certificate)
    der = read.public_bytes(Encoding.DER)
    private = None
    if key is not None:
        private = _read_key(key, ask_passphrase)
        inspection.prove_key(private, name=name, certificate=der)
    return Adopted(
        name=name, certificate=read, key=private, crl=None if crl is None else _read_crl(crl, name=name, issuer=read)
    )


def adopt(
    declaration: Declaration,
    adopted: Sequence[Adopted],
    *,
    safe: Safe | None = None,
    now: dt.datetime,
    requests: Mapping[str, SubCaRequest] = _NO_REQUESTS,
    entropy: Entropy = secrets.token_bytes,
) -> Outcome:
    """A ceremony that takes these CAs in, and makes what is declared below them; raises OperatorError.

    `safe` is what the ceremony left that asked for certificates.
    """
    work = _begin(declaration, adopted, safe=safe, now=now, entropy=entropy)
    work.grow(first=now, requests=requests)
    work.sign_crls()
    return work.close(Ed25519PrivateKey.generate() if safe is None else safe.bundle_key, for_machines=True)


def request_certificates(
    declaration: Declaration,
    adopted: Sequence[Adopted],
    *,
    safe: Safe | None = None,
    now: dt.datetime,
    entropy: Entropy = secrets.token_bytes,
) -> tuple[Outcome, dict[str, bytes]]:
    """A ceremony that makes keys for the structure CAs that there are not, and requests (PEM, by name) for the root."""
    work = _begin(declaration, adopted, safe=safe, now=now, entropy=entropy)
    if work.has_root_key:
        raise OperatorError("the root's key is here: it signs structure CAs itself, and nobody has to be asked")
    requests: dict[str, bytes] = {}
    for family in declaration.hierarchy.family:
        if work.knows(family.name):
            continue
        key = make_key(declaration.hierarchy.structure_of(family).key_algorithm)
        work.await_certificate(family.name, family=family.name, key=key)
        requests[family.name] = work.scribe.request_structure(family, key).public_bytes(Encoding.PEM)
    if not requests:
        raise OperatorError("every family has its structure CA, or has asked for it: there is nothing to ask for")
    outcome = work.close(Ed25519PrivateKey.generate() if safe is None else safe.bundle_key, for_machines=False)
    return outcome, requests


def review_all(declaration: Declaration, adopted: Iterable[Adopted], *, now: dt.datetime) -> tuple[Objection, ...]:
    """What there is to object to these CAs."""
    adopted = tuple(adopted)
    names = [each.name for each in adopted]
    families = {each.name: each for each in declaration.hierarchy.family}
    found: list[Objection] = []
    for each in adopted:
        below: Sequence[Family] = [families[each.name]] if each.name in families else []
        if each.name == ROOT_NAME and each.key is not None:
            below = [family for name, family in families.items() if name not in names]
        found += review_adopted(
            each.certificate,
            hierarchy=declaration.hierarchy,
            families=below,
            is_root=each.name == ROOT_NAME,
            now=now,
        )
    return tuple(found)


def _begin(
    declaration: Declaration, adopted: Sequence[Adopted], *, safe: Safe | None, now: dt.datetime, entropy: Entropy
) -> Work:
    if safe is not None:
        check_same_root(safe.declaration.hierarchy, declaration.hierarchy, source=declaration.source)
    by_name = {each.name: each for each in adopted}
    families = [each.name for each in declaration.hierarchy.family]
    unknown = [name for name in by_name if name not in (ROOT_NAME, *families)]
    if unknown:
        raise OperatorError(f"{unknown[0]!r} is neither the root nor a family of the hierarchy: {', '.join(families)}")
    for each in adopted:
        if each.crl is not None and each.crl.last_update_utc > now:
            raise OperatorError(
                f"{each.name}: its last CRL is of {each.crl.last_update_utc:%Y-%m-%d %H:%M} UTC, and this machine's "
                f"clock says {now:%Y-%m-%d %H:%M}: set the clock, or look at that CRL"
            )
    work = Work(declaration, now=now, entropy=entropy, safe=safe)
    root = _root(by_name.get(ROOT_NAME), safe)
    if safe is None:
        found = by_name[ROOT_NAME]
        work.take(ROOT_NAME, root, key=found.key, crl=found.crl, crl_number=_number(found.crl))
    for name, each in by_name.items():
        if name != ROOT_NAME:
            _check_not_revoked(each, by=by_name[ROOT_NAME].crl if ROOT_NAME in by_name else None, safe=safe)
            _take_structure(work, each, root=root, safe=safe)
    return work


def _root(given: Adopted | None, safe: Safe | None) -> x509.Certificate:
    """The certificate of the root above everything."""
    if safe is not None:
        kept = safe.certificates[ROOT_NAME]
        if given is not None and given.certificate != kept:
            raise OperatorError("the root is another than the one in the safe: a hierarchy has one root for its life")
        return kept
    if given is None:
        raise OperatorError("give the root's certificate with --ca root=FILE, whoever has its key")
    try:
        given.certificate.verify_directly_issued_by(given.certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise OperatorError("the root's certificate is not signed by itself: give the one at the top") from error
    return given.certificate


def _check_not_revoked(each: Adopted, *, by: x509.CertificateRevocationList | None, safe: Safe | None) -> None:
    """Raise OperatorError for a structure CA that is on a CRL of the root that is here."""
    if by is None and safe is not None:
        by = safe.crls.get(ROOT_NAME)
    found = None if by is None else by.get_revoked_certificate_by_serial_number(each.certificate.serial_number)
    if found is not None:
        raise OperatorError(
            f"{each.name}: the root has revoked its certificate on {found.revocation_date_utc:%Y-%m-%d}: nothing below "
            "it would be accepted; leave it out, and the root makes another one"
        )


def _take_structure(work: Work, each: Adopted, *, root: x509.Certificate, safe: Safe | None) -> None:
    try:
        each.certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise OperatorError(f"{each.name}: its certificate is not one that the root has signed") from error
    awaited = safe is not None and each.name in [one.name for one in safe.record.awaited]
    key = each.key
    if safe is not None and awaited:
        key = safe.keys[each.name]
        if key.public_key() != each.certificate.public_key():
            raise OperatorError(
                f"{each.name}: its certificate is for another key than the one that its request was for: take the "
                f"answer to requests/{each.name}.csr"
            )
    elif work.knows(each.name):
        raise OperatorError(f"{each.name}: is in the safe already: a family's structure CA is adopted once")
    if key is None:
        raise OperatorError(
            f"{each.name}: its key has to sign sub-CAs: give it with --key {each.name}=FILE, or have a request made, "
            "with --csr-out"
        )
    work.take(each.name, each.certificate, family=each.name, key=key, crl=each.crl, crl_number=_number(each.crl))


def _number(crl: x509.CertificateRevocationList | None) -> int:
    """Its CRL number; 0 for one without, as those of version 1 are."""
    if crl is None:
        return 0
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _read_certificate(path: Path) -> x509.Certificate:
    octets = _read(path, "certificate")
    try:
        is_pem = octets.lstrip().startswith(b"-----BEGIN")
        read = x509.load_pem_x509_certificate(octets) if is_pem else x509.load_der_x509_certificate(octets)
    except (ValueError, x509.InvalidVersion) as error:
        raise OperatorError(f"{path}: is not a certificate (PEM or DER)") from error
    return inspection.read_certificate(read.public_bytes(Encoding.DER), source=str(path))


def _read_key(path: Path, ask_passphrase: AskPassphrase) -> CertificateIssuerPrivateKeyTypes:
    octets = _read(path, "key")
    is_pem = octets.lstrip().startswith(b"-----BEGIN")
    load = load_pem_private_key if is_pem else load_der_private_key
    try:
        try:
            key = load(octets, None)
        except TypeError:  # it is encrypted
            passphrase = ask_passphrase(path)
            try:
                key = load(octets, passphrase)  # type: ignore[arg-type] # it takes any buffer, without a copy
            finally:
                wipe(passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise OperatorError(f"{path}: is not a private key (PEM or DER), or its passphrase is another one") from None
    # One place says which kinds of key sign certificates.
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return inspection.unlock_key(pem, None, name=str(path))


def _read_crl(path: Path, *, name: str, issuer: x509.Certificate) -> x509.CertificateRevocationList:
    octets = _read(path, "CRL")
    try:
        is_pem = octets.lstrip().startswith(b"-----BEGIN")
        crl = x509.load_pem_x509_crl(octets) if is_pem else x509.load_der_x509_crl(octets)
        partial = [each for each in crl.extensions if isinstance(each.value, _PARTIAL)]
        is_theirs = crl.issuer == issuer.subject and crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type] # read_certificate and prove_key saw the key
        for entry in crl:
            _ = entry.extensions
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion) as error:
        raise OperatorError(f"{path}: is not a CRL (PEM or DER) that can be gone on from: {error}") from error
    if not is_theirs:
        raise OperatorError(f"{path}: is not a CRL that {name} has signed")
    if partial:
        raise OperatorError(f"{path}: lists only a part of what {name} has revoked: give its full CRL")
    return crl


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the {what}: {error.strerror}") from error
