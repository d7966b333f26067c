"""Installing bundles on machines that hold no CA key: client, validator, publisher; and what everybody may fetch.

Owns what such a machine demands of a client bundle, and how the publication bundle reaches the public directory: CRLs
there never go back to an older number. How a bundle becomes a directory and comes into force is `installations`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia import files, installations
from cassiopeia.changes import Contents, changes, read_contents
from cassiopeia.config import (
    Bundles,
    ClientConfig,
    ValidatorConfig,
    load_authorities,
    load_chain,
    load_client_config,
    load_profiles,
    load_validator_config,
)
from cassiopeia.core.bundle import CLIENT, PUBLICATION, Bundle
from cassiopeia.errors import OperatorError
from cassiopeia.installations import Staged

__all__ = [
    "Machine",
    "Staged",
    "activate",
    "client_machine",
    "differences",
    "open_public_bundle",
    "publish",
    "rehearse",
    "stage",
    "to_publish",
    "validator_machine",
]

_AUTHORITIES: Final = "authorities.toml"
_FINGERPRINTS: Final = "fingerprints.txt"

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Where client bundles are installed. `profiles` and `authorities` are those in force, if there are any yet.

    A machine that works with profiles alone has no `authorities` (None). `load` reads the machine's configuration with
    an installation in the place of the one in force.
    """

    source: Path
    bundles: Bundles
    authorities: Path | None
    profiles: Path
    load: Callable[[Path], object]


def client_machine(config: ClientConfig) -> Machine:
    return Machine(
        source=config.source,
        bundles=config.bundles,
        authorities=config.authorities,
        profiles=config.profiles,
        load=lambda installation: load_client_config(config.source, installation=installation),
    )


def validator_machine(config: ValidatorConfig) -> Machine:
    return Machine(
        source=config.source,
        bundles=config.bundles,
        authorities=None,
        profiles=config.profiles,
        load=lambda installation: load_validator_config(config.source, installation=installation),
    )


def open_public_bundle(machine: Machine, octets: bytes, *, kinds: tuple[str, ...] = (CLIENT, PUBLICATION)) -> Bundle:
    """The bundle, if it is of one of these kinds and our bundle key has signed it; raises OperatorError."""
    return installations.open_bundle(machine.bundles, octets, kinds=kinds, source=machine.source)


def stage(machine: Machine, octets: bytes, *, now: dt.datetime | None = None) -> Staged:
    """Verify a client bundle and unpack it beside the one in force; what is in force stays.

    Raises OperatorError, and then nothing is left.
    """
    bundle = open_public_bundle(machine, octets, kinds=(CLIENT,))
    return installations.stage(
        machine.bundles,
        bundle,
        octets,
        complete=lambda building: _check(machine, bundle, building, now=now or dt.datetime.now(dt.UTC)),
        mode=files.PUBLIC_DIRECTORY,
    )


def rehearse(machine: Machine, octets: bytes, *, now: dt.datetime | None = None) -> bool:
    """Do all that `stage` does and leave nothing of it; say whether this very bundle is in force already."""
    bundle = open_public_bundle(machine, octets, kinds=(CLIENT,))
    return installations.rehearse(
        machine.bundles,
        bundle,
        octets,
        complete=lambda building: _check(machine, bundle, building, now=now or dt.datetime.now(dt.UTC)),
    )


def activate(machine: Machine, staged: Staged) -> None:
    """Put a staged bundle in force, by one rename; raises OperatorError."""
    installations.activate(machine.bundles, staged)


def differences(machine: Machine, bundle: Bundle) -> list[str]:
    """What a client bundle would change on this machine, a sentence for each; raises OperatorError."""
    profiles = load_profiles(machine.profiles) if machine.profiles.is_dir() else {}
    with installations.unpacked(bundle) as directory:
        after = read_contents(directory)
    if machine.authorities is None:
        return changes(Contents(profiles=profiles), Contents(profiles=after.profiles))
    authorities = {}
    if machine.authorities.exists():
        authorities = {each.authority.name: each.authority for each in load_authorities(machine.authorities)}
    return changes(Contents(authorities=authorities, profiles=profiles), after)


def _check(machine: Machine, bundle: Bundle, building: Path, *, now: dt.datetime) -> None:
    """Raise OperatorError unless these unpacked files are what this machine can go on with."""
    # 1. All that the programs here will read.
    machine.load(building)
    entries = load_authorities(building / _AUTHORITIES)
    chain = {each.name: each for each in load_chain(building / _AUTHORITIES)}
    load_profiles(building / "profiles")
    # 2. One hierarchy, every CA in it where it says.
    certificates = [each.authority.certificate for each in entries] + [each.certificate for each in chain.values()]
    installations.check_chains(
        [x509.load_der_x509_certificate(each.certificate) for each in chain.values()],
        bundle.root_key,
        [x509.load_der_x509_certificate(each) for each in certificates],
    )
    for each in entries:
        if each.issuer not in chain:
            raise OperatorError(f"the CA {each.issuer}, above {each.authority.name}, is not in it")
        if each.key:
            raise OperatorError(f"the sub-CA {each.authority.name} names a key, and no CA key is on this machine")
    # 3. Nothing dropped whose CRLs still have to be fetched.
    names = {each.authority.name for each in entries}
    if machine.authorities is not None and machine.authorities.exists():
        for old in (each.authority for each in load_authorities(machine.authorities)):
            if old.name not in names and now <= old.not_after:
                raise OperatorError(
                    f"the sub-CA {old.name} is not in it, and it ends on {old.not_after:%Y-%m-%d}: a bundle holds all "
                    "that have not ended; begin the ceremony with the newest offline bundle"
                )


def to_publish(bundle: Bundle, directory: Path) -> tuple[dict[Path, bytes], list[str]]:
    """What of a publication bundle has to be written into the public directory, and a sentence for each such file.

    Everything is verified; CRLs that are not newer than what is there stay away. Raises OperatorError.
    """
    # 1. CA certificates, each under the root.
    certificates = {
        PurePosixPath(each.name).stem: _read(x509.load_der_x509_certificate, each.octets, each.name)
        for each in bundle.files
        if each.name.endswith(".crt")
    }
    try:
        installations.check_chains(list(certificates.values()), bundle.root_key, certificates.values())
    except OperatorError as error:
        raise OperatorError(f"this bundle cannot be published: {error}; nothing was changed") from error
    # 2. CRLs, each signed by the CA of its name.
    contents: dict[str, bytes] = {}
    for name, certificate in certificates.items():
        contents[f"{name}.crt"] = certificate.public_bytes(Encoding.DER)
        contents[f"{name}.pem"] = certificate.public_bytes(Encoding.PEM)
    for each in bundle.files:
        name = PurePosixPath(each.name).stem
        if each.name == f"{name}.crl":
            crl = _read_crl(name, each.octets, certificates)
            if not _is_older(crl, directory / each.name, certificates[name]):
                contents[each.name] = each.octets
                contents[f"{each.name}.pem"] = crl.public_bytes(Encoding.PEM)
        elif each.name == _FINGERPRINTS:
            contents[each.name] = each.octets
    # 3. What is there already.
    changed = {directory / name: octets for name, octets in contents.items() if not _holds(directory / name, octets)}
    return changed, [f"{path.name}: {'replaced' if path.exists() else 'new'}" for path in changed]


def publish(contents: Mapping[Path, bytes]) -> None:
    """Write what `to_publish` gave; raises OperatorError, and then nothing was replaced."""
    for directory in {path.parent for path in contents}:
        try:
            directory.mkdir(mode=files.PUBLIC_DIRECTORY, parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(f"{directory}: cannot publish here: {error.strerror}") from error
    files.replace_files(contents)


def _read_crl(name: str, octets: bytes, certificates: Mapping[str, x509.Certificate]) -> x509.CertificateRevocationList:
    crl = _read(x509.load_der_x509_crl, octets, f"{name}.crl")
    certificate = certificates.get(name)
    if certificate is None or not _is_of(crl, certificate):
        raise OperatorError(f"{name}.crl of this bundle is not signed by the CA of its name; nothing was changed")
    return crl


def _is_of(crl: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    """Whether this CA has signed it."""
    try:
        is_signed = crl.is_signature_valid(certificate.public_key())  # type: ignore[arg-type] # whatever does not sign CRLs raises TypeError
    except (InvalidSignature, TypeError, ValueError, UnsupportedAlgorithm):
        is_signed = False
    return is_signed and crl.issuer == certificate.subject


def _is_older(crl: x509.CertificateRevocationList, published: Path, certificate: x509.Certificate) -> bool:
    """Whether a newer one of the same CA is published; what is there and is no CRL of it counts as nothing."""
    try:
        there = x509.load_der_x509_crl(published.read_bytes())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OperatorError(f"{published}: cannot read what is published: {error.strerror}") from error
    except ValueError:
        return False
    # A forged one with the highest number must not keep the right one away.
    return _is_of(there, certificate) and _number(there) > _number(crl)


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except (x509.ExtensionNotFound, ValueError):
        return 0


def _holds(path: Path, octets: bytes) -> bool:
    try:
        return path.read_bytes() == octets
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OperatorError(f"{path}: cannot read what is published: {error.strerror}") from error


def _read(load: Callable[[bytes], _T], octets: bytes, name: str) -> _T:
    try:
        return load(octets)
    except ValueError as error:
        raise OperatorError(f"{name} of this bundle cannot be read; nothing was changed") from error
