"""Installing a bundle on the signer's machine: everything is verified and every key proved before anything is switched.

Owns what a signer demands of a bundle: that it is its own, drops no sub-CA whose CRLs must go on, and that the machine
has the key of each sub-CA: in a file encrypted with the signer's own passphrase (from the bundle, from the installation
before, or born here), or where `[authority.NAME]` of signer.toml says, and then no file is written. How a bundle
becomes a directory and comes into force is `installations`. The front process of a running signer must not do this: CA
keys go through memory here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia import files, installations
from cassiopeia.changes import Contents, changes, read_contents
from cassiopeia.config import AuthorityEntry, Pins, SignerConfig, load_authorities, load_profiles, load_signer_config
from cassiopeia.core.authority import Authority
from cassiopeia.core.bundle import SIGNER, Bundle, sealing_context
from cassiopeia.core.key_uri import FileUri, parse_key_uri
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.installations import Staged
from cassiopeia.sealing import unseal
from cassiopeia.secret_source import wipe
from cassiopeia.signer.configuration import load_rules, own_key, retention, store_settings
from cassiopeia.signer.keystore import handover
from cassiopeia.signer.keystore.handover import WrongKey
from cassiopeia.signer.keystore.interface import SignatureMistrusted
from cassiopeia.signer.keystore.ring import KeyRing

__all__ = ["Staged", "activate", "differences", "open_signer_bundle", "rehearse", "stage"]

_KEYS: Final = "keys"


def open_signer_bundle(config: SignerConfig, octets: bytes) -> Bundle:
    """The bundle, if it is one for this signer and our bundle key has signed it; raises OperatorError."""
    bundle = installations.open_bundle(config.bundles, octets, kinds=(SIGNER,), source=config.source)
    if bundle.signer_id != config.signer_id:
        raise OperatorError(
            f"this bundle is for signer {bundle.signer_id}, and this is signer {config.signer_id}; nothing was changed"
        )
    return bundle


def stage(
    config: SignerConfig, octets: bytes, *, passphrase: bytes | bytearray | None, now: dt.datetime | None = None
) -> Staged:
    """Verify everything and unpack the bundle beside the one in force; what is in force stays.

    `passphrase` is that of the bundle's keys, where it is not sealed in the bundle. Raises OperatorError, or
    Unavailable for what may come (a token, a passphrase on a medium), and then nothing is left.
    """
    bundle = open_signer_bundle(config, octets)
    candidate = _Candidate(config, bundle, passphrase=passphrase, now=now or dt.datetime.now(dt.UTC))
    return installations.stage(config.bundles, bundle, octets, complete=candidate.complete)


def rehearse(
    config: SignerConfig, octets: bytes, *, passphrase: bytes | bytearray | None, now: dt.datetime | None = None
) -> bool:
    """Do all that `stage` does and leave nothing of it; say whether this very bundle is in force already."""
    bundle = open_signer_bundle(config, octets)
    candidate = _Candidate(config, bundle, passphrase=passphrase, now=now or dt.datetime.now(dt.UTC))
    return installations.rehearse(config.bundles, bundle, octets, complete=candidate.complete)


def activate(config: SignerConfig, staged: Staged) -> None:
    """Put a staged bundle in force, by one rename; a running signer takes it over. Raises OperatorError."""
    installations.activate(config.bundles, staged)


def differences(config: SignerConfig, bundle: Bundle) -> list[str]:
    """What the bundle would change on this machine, a sentence for each; raises OperatorError."""
    has_any = config.authorities.exists()
    before = Contents(
        authorities={each.authority.name: each.authority for each in _entries(config)},
        profiles=load_profiles(config.profiles) if has_any else {},
        pins=_pins(config),
    )
    with installations.unpacked(bundle) as directory:
        contents = read_contents(directory)
        pins = _pins(load_signer_config(config.source, installation=directory))
    return changes(before, Contents(authorities=contents.authorities, profiles=contents.profiles, pins=pins))


def _pins(config: SignerConfig) -> Pins:
    return Pins(
        operators=config.operators,
        quorum=config.quorum,
        validators=config.validators,
        responders=config.responder_keys,
    )


def _entries(config: SignerConfig) -> list[AuthorityEntry]:
    """This signer's sub-CAs as they are in force; none on a machine where nothing is installed yet."""
    if config.bundles.installed is None and not config.authorities.exists():
        return []
    return [each for each in load_authorities(config.authorities) if each.authority.signer_id == config.signer_id]


class _Candidate:
    """A bundle on its way into a directory of its own."""

    def __init__(
        self, config: SignerConfig, bundle: Bundle, *, passphrase: bytes | bytearray | None, now: dt.datetime
    ) -> None:
        self._source = config.source
        self._bundle = bundle
        self._bundle_passphrase = passphrase
        self._now = now

    def complete(self, building: Path) -> None:
        """Check the unpacked files, and put the keys beside them; raises OperatorError."""
        # 1. What is in force at this moment: somebody may have installed another bundle since we were asked.
        before = load_signer_config(self._source)
        config = load_signer_config(self._source, installation=building)
        # 2. The sub-CAs: all of this signer, each under the root, none dropped that has not ended.
        authorities = [self._check_entry(each, config.signer_id) for each in load_authorities(config.authorities)]
        installations.check_chains(
            installations.read_certificates(building / installations.CERTIFICATES),
            self._bundle.root_key,
            [x509.load_der_x509_certificate(each.certificate) for each in authorities],
        )
        self._check_nothing_dropped(_entries(before), {each.name: each for each in authorities})
        # 3. Their keys, encrypted with the signer's own passphrase.
        self._add_keys(authorities, before, config, files.make_directory(building / _KEYS))
        # 4. All else that the signer will load from here.
        rules = load_rules(config)
        retention(config, rules.profiles)

    def _check_entry(self, entry: AuthorityEntry, signer_id: int) -> Authority:
        authority = entry.authority
        if authority.signer_id != signer_id:
            raise OperatorError(f"the sub-CA {authority.name} belongs to signer {authority.signer_id}, not {signer_id}")
        if entry.key:
            raise OperatorError(f"the sub-CA {authority.name} names a place for its key, which is this machine's part")
        return authority

    def _check_nothing_dropped(self, before: list[AuthorityEntry], after: Mapping[str, Authority]) -> None:
        for each in before:
            name, old = each.authority.name, each.authority
            if name not in after and self._now <= old.not_after:
                raise OperatorError(
                    f"the sub-CA {name} is not in it, and its CRLs must be signed until {old.not_after:%Y-%m-%d}: "
                    "a bundle holds all that have not ended; begin the ceremony with the newest offline bundle"
                )
            if name in after and _spki(after[name]) != _spki(old):
                raise OperatorError(
                    f"the sub-CA {name} has another key in it than the one that is in force: a name is never used twice"
                )

    def _add_keys(
        self, authorities: list[Authority], before: SignerConfig, config: SignerConfig, directory: Path
    ) -> None:
        """Put the key files into the directory, and prove every key, wherever it is; raises OperatorError.

        Raises Unavailable for what may come: the passphrase's medium, a token, a library.
        """
        given = {each.name: each.octets for each in self._bundle.secrets}
        ring = KeyRing(store_settings(config))
        try:
            # 1. One after the other: the key file, where it is one of this bundle, and the proof.
            with ExitStack() as secrets:
                own = secrets.enter_context(config.keys.passphrase.read())
                passphrase = secrets.enter_context(_wiped(self._passphrase(config, own))) if given else bytearray()
                for authority in authorities:
                    octets = given.pop(f"{_KEYS}/{authority.name}.key", None)
                    table = config.keys.authorities.get(authority.name)
                    if table is not None and table.key is not None:
                        _check_stays(authority, table.key, octets, config)
                    else:
                        path = directory / f"{authority.name}.key"
                        files.write_file(path, _key_file(authority, octets, passphrase, before, own))
                    use = config.keys.use(authority.name, own_key(authority.name), directory=directory.parent)
                    ring.add(authority, use)
        except SignatureMistrusted as error:
            raise OperatorError(error.message) from error
        except Unavailable as error:
            raise Unavailable(
                f"this bundle cannot be installed now: {error.message}; nothing was changed",
                code=error.code,
                retry_after_s=error.retry_after_s,
            ) from error
        finally:
            ring.close()
        # 2. Nothing is left over.
        if given:
            raise OperatorError(f"it brings {min(given)}, which is the key of no sub-CA in it")

    def _passphrase(self, config: SignerConfig, own: bytearray) -> bytes | bytearray:
        if self._bundle_passphrase is not None:
            return self._bundle_passphrase
        if self._bundle.sealed_passphrase is None:
            raise OperatorError(
                "its keys are encrypted, and the passphrase is not in it: give it with --passphrase-file (the ceremony "
                f"wrote it into signer-{self._bundle.signer_id}.passphrase)"
            )
        try:
            private = config.sealing_key.read_bytes()
        except OSError as error:
            raise OperatorError(
                f"{config.sealing_key}: cannot read the key to which its passphrase is sealed: {error.strerror}"
            ) from error
        context = sealing_context(
            root_key=self._bundle.root_key, number=self._bundle.number, signer_id=self._bundle.signer_id
        )
        return unseal(self._bundle.sealed_passphrase, private, own, context=context)


@contextmanager
def _wiped(secret: bytes | bytearray) -> Iterator[bytearray]:
    """A copy that is overwritten afterwards. What came as `bytes` cannot be."""
    copy = bytearray(secret)
    try:
        yield copy
    finally:
        wipe(copy)


def _check_stays(authority: Authority, uri: str, octets: bytes | None, config: SignerConfig) -> None:
    """Raise OperatorError when the bundle brings the key of a sub-CA whose key this machine has elsewhere.

    To drop it would lose it, and to use it would be against what somebody has written.
    """
    if octets is not None:
        raise OperatorError(
            f"it brings the key of {authority.name} as a file, and {config.source} says that this key is {uri}: take "
            f"`key` out of [authority.{authority.name}] there, install the bundle again, and move the key afterwards"
        )


def _key_file(
    authority: Authority, octets: bytes | None, passphrase: bytearray, before: SignerConfig, own: bytearray
) -> bytes:
    """The key of a sub-CA, encrypted with the signer's own passphrase; raises OperatorError."""
    if octets is None:
        return _find(authority, before, own)
    try:
        return handover.relock(octets, passphrase, own, public_key_info=_spki(authority))
    except WrongKey as error:
        raise OperatorError(
            f"the key of {authority.name} does not belong to the certificate of this sub-CA: whoever held the ceremony "
            "has to give you another bundle"
        ) from error
    except OperatorError as error:
        raise OperatorError(
            f"the key of {authority.name} cannot be unlocked: is this the passphrase of another bundle?"
        ) from error


def _find(authority: Authority, before: SignerConfig, own: bytearray) -> bytes:
    """The key of a sub-CA for which the bundle brings none, as it lies on this machine (encrypted)."""
    for path in _places(authority, before):
        try:
            octets = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OperatorError(f"{path}: cannot read the key of {authority.name}: {error.strerror}") from error
        try:
            handover.check_key_file(octets, own, public_key_info=_spki(authority))
        except WrongKey:
            continue
        except OperatorError as error:
            raise OperatorError(f"{path}: cannot unlock the key of {authority.name}: {error}") from error
        return octets
    raise OperatorError(
        f"the key of {authority.name} is not in it, and not on this machine: it came with an earlier bundle, which has "
        f"to be installed first, or was born here ({before.source.parent / _KEYS / authority.name}.key); for a key in "
        f"a token, signer.toml says where it is: [authority.{authority.name}] key"
    )


def _places(authority: Authority, before: SignerConfig) -> Iterator[Path]:
    base = before.authorities.parent
    for each in _entries(before):
        if each.authority.name == authority.name:
            uri = parse_key_uri(each.key or own_key(authority.name))
            if isinstance(uri, FileUri):
                yield base / uri.path
            else:
                raise OperatorError(
                    f"{before.authorities} says that the key of {authority.name} is {uri}, and a bundle takes the "
                    f"place of that file: write it into signer.toml, as [authority.{authority.name}] key = ..."
                )
    yield before.source.parent / _KEYS / f"{authority.name}.key"


def _spki(authority: Authority) -> bytes:
    return authority.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
