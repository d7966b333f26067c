"""Installed bundles on a machine's disk: unpacked whole, looked at, and put in force by one rename.

Owns how a bundle becomes a directory and how `current` comes to name it: a crash, a full disk or a second installation
at the same time leave what was in force as it was. Knows what is wrong with a bundle on any machine: another hierarchy,
an older number, a chain that leads elsewhere. What a signer demands besides is `signer.installing`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia import files
from cassiopeia.config import CURRENT, Bundles, current_installation
from cassiopeia.config.toml import Table, read_ed25519, read_toml
from cassiopeia.config.toml_writer import toml_document
from cassiopeia.core.bundle import Bundle, bundle_hash, read_bundle
from cassiopeia.errors import OperatorError, PeerError

# What an installation says of itself, beside the files of its bundle.
RECORD: Final = "installation.toml"
CERTIFICATES: Final = "certificates"

_LONGEST_CHAIN: Final = 8
# What an installation that was killed leaves: a directory on its way, one that was only looked at, the link. What else
# somebody keeps there stays.
_LEFT_BEHIND: Final = (".[0-9][0-9][0-9][0-9].*", ".look.*", f".{CURRENT}.*")


class Record(Table, frozen=True, kw_only=True):
    """Which bundle an installation is: hashes in hex."""

    number: int
    root_key: str
    bundle: str
    made_at: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """A bundle that is unpacked and proved. `is_in_force` says that it was installed already."""

    directory: Path
    number: int
    bundle_hash: bytes
    is_in_force: bool = False


def open_bundle(bundles: Bundles, octets: bytes, *, kinds: Collection[str], source: Path) -> Bundle:
    """The bundle, if our bundle key has signed it and it is of one of these kinds; raises OperatorError.

    `source` is the configuration that names the key.
    """
    if bundles.key_file is None:
        raise OperatorError(
            f"{source}: it names no bundle_key, and without one no bundle can be trusted: put the ceremony's "
            'bundle-key.pem beside it, and write bundle_key = "bundle-key.pem"'
        )
    public_key = read_ed25519(source, bundles.key_file, key="bundle_key")
    try:
        bundle = read_bundle(octets, public_key=public_key)
    except PeerError as error:
        raise OperatorError(
            f"{error}; nothing was changed: take this machine's bundle from the ceremony once more"
        ) from error
    if bundle.kind not in kinds:
        raise OperatorError(
            f"this bundle is for another machine: it is of the kind {bundle.kind}, and here belongs "
            f"{' or '.join(kinds)}; nothing was changed"
        )
    return bundle


def stage(
    bundles: Bundles,
    bundle: Bundle,
    octets: bytes,
    *,
    complete: Callable[[Path], None],
    mode: int = files.SECRET_DIRECTORY,
) -> Staged:
    """Unpack the bundle into a directory of its own, durably; nothing that is in force changes.

    `complete` gets the directory before it counts, adds what the machine has itself, and raises for what is wrong; it
    runs while nobody else installs. Raises OperatorError, and then nothing is left.
    """
    digest = bundle_hash(octets)
    with _alone(bundles.directory):
        is_in_force = _check_newer(bundles, bundle, digest)
        place = bundles.place(bundle.number)
        staged = Staged(directory=place, number=bundle.number, bundle_hash=digest, is_in_force=is_in_force)
        if is_in_force:
            return staged
        if place.exists():
            # Somebody unpacked this number before and did not put it in force.
            _remove(place)
        with files.new_tree(place, mode=mode, what="an installation") as building, _of_the_bundle(building):
            _unpack(bundle, building)
            _write_record(bundle, digest, building)
            complete(building)
        return staged


def rehearse(bundles: Bundles, bundle: Bundle, octets: bytes, *, complete: Callable[[Path], None]) -> bool:
    """Do everything that `stage` does, and leave nothing of it; say whether this bundle is in force already."""
    with _alone(bundles.directory):
        is_in_force = _check_newer(bundles, bundle, bundle_hash(octets))
        if not is_in_force:
            with unpacked(bundle, directory=bundles.directory) as building:
                complete(building)
        return is_in_force


def activate(bundles: Bundles, staged: Staged) -> None:
    """Put what was staged in force, at once and durably; raises OperatorError, which says so if it is in force yet."""
    with _alone(bundles.directory):
        current = current_installation(bundles.directory)
        if current == staged.directory and _is(current, staged):
            return
        if current is not None and int(current.name) >= staged.number:
            raise OperatorError(
                f"bundle {staged.number} is not put in force: bundle {int(current.name)} was installed in the meantime"
            )
        if not _is(staged.directory, staged):
            raise OperatorError(
                f"{staged.directory}: this is not what was unpacked here a moment ago: install the bundle again"
            )
        link = bundles.directory / f".{CURRENT}.{os.getpid()}"
        try:
            link.symlink_to(staged.directory.name)
            link.replace(bundles.directory / CURRENT)
        except OSError as error:
            raise OperatorError(f"{bundles.directory / CURRENT}: cannot be made: {error.strerror}") from error
        finally:
            link.unlink(missing_ok=True)
        try:
            files.sync_directory(bundles.directory)
        except OSError as error:
            raise OperatorError(
                f"{bundles.directory / CURRENT}: bundle {staged.number} is in force, but the disk did not confirm it: "
                f"{error.strerror}; mend that before the machine is switched off"
            ) from error


def discard(bundles: Bundles, staged: Staged) -> None:
    """Remove what was staged and shall not come into force; what is in force stays. Raises OperatorError."""
    with _alone(bundles.directory):
        if current_installation(bundles.directory) != staged.directory and _is(staged.directory, staged):
            _remove(staged.directory)


@contextmanager
def unpacked(bundle: Bundle, *, directory: Path | None = None) -> Iterator[Path]:
    """The files of a bundle in a temporary directory, to be looked at."""
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".look.") as place:
            building = Path(place)
            _unpack(bundle, building)
            with _of_the_bundle(building):
                yield building
    except OSError as error:
        raise OperatorError(f"cannot unpack the bundle: {error.strerror or error}; nothing was changed") from error


def read_certificates(directory: Path) -> list[x509.Certificate]:
    """Every certificate (NAME.pem) of a directory; raises OperatorError."""
    return [_read_certificate(path) for path in sorted(directory.glob("*.pem"))]


def check_chains(known: Sequence[x509.Certificate], root_key: bytes, certificates: Iterable[x509.Certificate]) -> None:
    """Raise OperatorError unless each of the certificates leads to the root of this key by those that are known.

    Dates are not looked at: what has ended still has CRLs.
    """
    for certificate in certificates:
        above, name = certificate, certificate.subject.rfc4514_string()
        for _ in range(_LONGEST_CHAIN):
            if above.subject == above.issuer:
                break
            above = _issuer_of(above, known, name)
        spki = above.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if above.subject != above.issuer or hashlib.sha256(spki).digest() != root_key:
            raise OperatorError(f"the certificate of {name} does not lead to the root of this hierarchy")


def _issuer_of(below: x509.Certificate, known: Sequence[x509.Certificate], name: str) -> x509.Certificate:
    for each in known:
        if each.subject == below.issuer:
            try:
                below.verify_directly_issued_by(each)
            except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
                continue
            return each
    raise OperatorError(
        f"the CA above {below.subject.rfc4514_string()}, in the chain of {name}, is not in the bundle, or has not "
        "signed it"
    )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise OperatorError(f"{path}: this is not a certificate in PEM") from error


def _check_newer(bundles: Bundles, bundle: Bundle, digest: bytes) -> bool:
    """Whether it is the one in force already; raises OperatorError for one that must not take its place."""
    current = current_installation(bundles.directory)
    if current is None:
        return False
    record = read_toml(current / RECORD, Record)
    if record.root_key != bundle.root_key.hex():
        raise OperatorError(
            f"this bundle belongs to another hierarchy: its root key is {bundle.root_key.hex()[:16]}, and that of the "
            f"installed bundle {record.root_key[:16]}; nothing was changed: take this machine's from its own ceremony"
        )
    if bundle.number == record.number and digest.hex() == record.bundle:
        return True
    if bundle.number == record.number:
        raise OperatorError(
            f"another bundle of the same number {bundle.number} is installed: two ceremonies began from the same "
            "offline bundle; hold the next one from the newer of the two; nothing was changed"
        )
    if bundle.number < record.number:
        raise OperatorError(
            f"this bundle is older than the installed one: its number is {bundle.number}, and {record.number} is in "
            "force; nothing was changed: take the newest"
        )
    return False


def _unpack(bundle: Bundle, building: Path) -> None:
    for each in bundle.files:
        path = building / each.name
        if path.parent != building and not path.parent.exists():
            files.make_directory(path.parent)
        files.write_file(path, each.octets, mode=files.PUBLIC)


def _write_record(bundle: Bundle, digest: bytes, building: Path) -> None:
    record = {
        "number": bundle.number,
        "root_key": bundle.root_key.hex(),
        "bundle": digest.hex(),
        "made_at": f"{bundle.made_at:%Y-%m-%dT%H:%M:%SZ}",
    }
    files.write_file(building / RECORD, toml_document(record), mode=files.PUBLIC)


def _is(directory: Path, staged: Staged) -> bool:
    return directory.is_dir() and read_toml(directory / RECORD, Record).bundle == staged.bundle_hash.hex()


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Nobody else installs meanwhile; what an installation left that was killed is removed."""
    _check_owner(directory)
    is_new = not directory.exists()
    try:
        if is_new:
            directory.mkdir(mode=files.SECRET_DIRECTORY, exist_ok=True)
            files.sync_directory(directory.parent)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OperatorError(f"{directory}: cannot be used for bundles: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OperatorError(
                f"{directory}: another bundle is being installed; wait until that is done, and look again"
            ) from None
        for pattern in _LEFT_BEHIND:
            for each in directory.glob(pattern):
                _remove(each)
        yield
    finally:
        if is_new and not any(directory.iterdir()):
            directory.rmdir()
        os.close(descriptor)


def _check_owner(directory: Path) -> None:
    """What somebody else installs, the program could not read."""
    try:
        owner = (directory if directory.exists() else directory.parent).stat().st_uid
    except OSError as error:
        raise OperatorError(f"{directory}: cannot be used for bundles: {error.strerror}") from error
    if owner != os.geteuid():
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise OperatorError(f"{directory}: belongs to the user {name}, who has to install: sudo -u '{name}' ...")


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        raise OperatorError(f"{path}: cannot be removed: {error.strerror}") from error


@contextmanager
def _of_the_bundle(building: Path) -> Iterator[None]:
    """Errors name files as the bundle has them: the directory that they lay in is gone when somebody reads that."""
    try:
        yield
    except OperatorError as error:
        message = str(error).replace(f"{building}/", "").replace(str(building), "the bundle")
        raise OperatorError(f"this bundle cannot be installed: {message}; nothing was changed") from error
