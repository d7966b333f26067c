"""Installing a bundle on the signer's machine: everything is verified and every key proved before anything is switched.

Owns what a signer demands of a bundle: that it is its own, drops no sub-CA whose CRLs must go on, and that the machine
has the key of each sub-CA (from the bundle, from the installation before, or born here), encrypted with the signer's
own passphrase. How a bundle becomes a directory and comes into force is `installations`. The front process of a running
signer must not do this: CA keys go through memory here.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cassiopeia import files, installations
from cassiopeia.changes import Contents, changes, read_contents
from cassiopeia.config import AuthorityEntry, Pins, SignerConfig, load_authorities, load_profiles, load_signer_config
from cassiopeia.core.authority import Authority
from cassiopeia.core.bundle import SIGNER, Bundle, sealing_context
from cassiopeia.errors import OperatorError, Unavailable
from cassiopeia.installations import Staged
from cassiopeia.sealing import unseal
from cassiopeia.signer.configuration import load_rules, own_key, retention
from cassiopeia.signer.keystore.ca_key import encrypt_ca_key
from cassiopeia.signer.keystore.interface import StoreSettings
from cassiopeia.signer.keystore.ring import KeyRing

__all__ = ["Staged", "activate", "differences", "open_signer_bundle", "own_passphrase", "rehearse", "stage"]

_KEYS: Final = "keys"


def open_signer_bundle(config: SignerConfig, octets: bytes) -> Bundle:
    """The bundle, if it is one for this signer and our bundle key has signed it; raises OperatorError."""
    bundle = installations.open_bundle(config.bundles, octets, kinds=(SIGNER,), source=config.source)
    if bundle.signer_id != config.signer_id:
        raise OperatorError(
            f"this bundle is for signer {bundle.signer_id}, and this is signer {config.signer_id}; nothing was changed"
        )
    return bundle


def stage(config: SignerConfig, octets: bytes, *, passphrase: bytes | None, now: dt.datetime | None = None) -> Staged:
    """Verify everything and unpack the bundle beside the one in force; what is in force stays.

    `passphrase` is that of the bundle's keys, where it is not sealed in the bundle. Raises OperatorError, and then
    nothing is left.
    """
    bundle = open_signer_bundle(config, octets)
    candidate = _Candidate(config, bundle, passphrase=passphrase, now=now or dt.datetime.now(dt.UTC))
    return installations.stage(config.bundles, bundle, octets, complete=candidate.complete)


def rehearse(config: SignerConfig, octets: bytes, *, passphrase: bytes | None, now: dt.datetime | None = None) -> bool:
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

    def __init__(self, config: SignerConfig, bundle: Bundle, *, passphrase: bytes | None, now: dt.datetime) -> None:
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
        own = own_passphrase(config)
        given = {each.name: each.octets for each in self._bundle.secrets}
        keys = KeyRing(StoreSettings(passphrase=config.keys.passphrase))
        bundle_passphrase = self._passphrase(config, own) if given else b""
        for authority in authorities:
            octets = given.pop(f"{_KEYS}/{authority.name}.key", None)
            if octets is not None:
                key = _unlock(octets, bundle_passphrase, authority)
                encrypted = encrypt_ca_key(key, own)
            else:
                encrypted = _find(authority, before, own)
            files.write_file(directory / f"{authority.name}.key", encrypted)
            keys.add(authority, config.keys.use(authority.name, own_key(authority.name), directory=directory.parent))
        if given:
            raise OperatorError(f"it brings {min(given)}, which is the key of no sub-CA in it")

    def _passphrase(self, config: SignerConfig, own: bytes) -> bytes:
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


def own_passphrase(config: SignerConfig) -> bytes:
    """The passphrase of this signer's CA keys; raises OperatorError, also when it is only away."""
    try:
        with config.keys.passphrase.read() as passphrase:
            return bytes(passphrase)
    except Unavailable as error:
        raise OperatorError(error.message) from error


def _unlock(octets: bytes, passphrase: bytes, authority: Authority) -> CertificateIssuerPrivateKeyTypes:
    """A key of the bundle. It is validated here, once: the key store skips that at each start."""
    try:
        key = load_pem_private_key(octets, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OperatorError(
            f"the key of {authority.name} cannot be unlocked: is this the passphrase of another bundle?"
        ) from error
    if _public(key) != _spki(authority):
        raise OperatorError(
            f"the key of {authority.name} does not belong to the certificate of this sub-CA: whoever held the ceremony "
            "has to give you another bundle"
        )
    return key  # type: ignore[return-value] # a CA's public key is one of those that sign


def _find(authority: Authority, before: SignerConfig, passphrase: bytes) -> bytes:
    """The key of a sub-CA for which the bundle brings none, as it lies on this machine (encrypted)."""
    for path in _places(authority, before):
        try:
            octets = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OperatorError(f"{path}: cannot read the key of {authority.name}: {error.strerror}") from error
        try:
            key = load_pem_private_key(octets, passphrase, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise OperatorError(
                f"{path}: cannot unlock the key of {authority.name}: wrong passphrase, or not an encrypted PKCS#8 PEM "
                "file"
            ) from error
        if _public(key) == _spki(authority):
            return octets
    raise OperatorError(
        f"the key of {authority.name} is not in it, and not on this machine: it came with an earlier bundle, which has "
        f"to be installed first, or was born here ({before.source.parent / _KEYS / authority.name}.key)"
    )


def _places(authority: Authority, before: SignerConfig) -> Iterator[Path]:
    base = before.authorities.parent
    for each in _entries(before):
        if each.authority.name == authority.name:
            uri = each.key or own_key(authority.name)
            yield base / uri.removeprefix("file:")
    yield before.source.parent / _KEYS / f"{authority.name}.key"


def _public(key: PrivateKeyTypes) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _spki(authority: Authority) -> bytes:
    return authority.public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
