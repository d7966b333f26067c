"""What a signer was started with: its sub-CAs, its rules, and the hash that names all of them in every log entry."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cassiopeia.config import AuthorityEntry, KeyUse, SignerConfig, check_installed, load_authorities, load_profiles
from cassiopeia.core.authority import Authority
from cassiopeia.core.profile import Profile
from cassiopeia.core.rules import Rules
from cassiopeia.core.rules_document import (
    RULES_DOCUMENT,
    KeyUsed,
    PinnedValidator,
    RulesDocument,
    encode_rules_document,
)
from cassiopeia.core.sample import unsound_profiles
from cassiopeia.errors import ConfigurationError, OperatorError
from cassiopeia.signer.keystore.interface import StoreSettings
from cassiopeia.signer.weak_keys import content_of_lists, load_weak_keys

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What the front process knows of one configuration; `digest` is the hash over its documents.

    The digest is taken before all the rest is read, and a worker takes it afterwards: while both agree, nothing has
    changed in between. `keys` say how each sub-CA signs, `unused_tables` which ones are about none.
    """

    config: SignerConfig
    digest: bytes
    documents: Sequence[tuple[str, bytes]]
    profiles: Mapping[str, Profile]
    authorities: Mapping[str, Authority]
    retention: dt.timedelta | None
    keys: Mapping[str, KeyUse]
    unused_tables: Sequence[str]

    def report(self) -> None:
        """Log what people may have meant otherwise."""
        for each in self.unused_tables:
            _log.warning("%s", each)


def load(config: SignerConfig) -> Loaded:
    """Read all that the configuration names, but keys and credentials; raises `OperatorError`."""
    try:
        documents = configuration_documents(config)
        profiles = load_profiles(config.profiles)
        return Loaded(
            config=config,
            digest=_hash(documents),
            documents=documents,
            profiles=profiles,
            authorities={each.authority.name: each.authority for each in own_entries(config)},
            retention=retention(config, profiles),
            keys=key_uses(config),
            unused_tables=[f"{config.source}: {each}" for each in unused_tables(config).values()],
        )
    except OSError as error:
        raise OperatorError(
            f"{error.filename or config.source}: cannot be read: {error.strerror}; let the signer's user read it"
        ) from error


def own_entries(config: SignerConfig) -> list[AuthorityEntry]:
    """The sub-CAs that belong to this signer, each with where its key is; raises `OperatorError` if there are none."""
    check_installed(config.bundles, config.authorities, command="signer install")
    own = [
        replace(each, key=each.key or own_key(each.authority.name))
        for each in load_authorities(config.authorities)
        if each.authority.signer_id == config.signer_id
    ]
    if not own:
        raise OperatorError(f"{config.authorities}: no sub-CA belongs to signer {config.signer_id}")
    return own


def key_uses(config: SignerConfig) -> dict[str, KeyUse]:
    """How each sub-CA of this signer signs, by its name; raises `OperatorError`."""
    directory = config.authorities.parent
    return {
        each.authority.name: config.keys.use(each.authority.name, each.key, directory=directory)
        for each in own_entries(config)
    }


def store_settings(config: SignerConfig) -> StoreSettings:
    """What the key stores of this signer need to know."""
    return StoreSettings(
        passphrase=config.keys.passphrase,
        module=config.keys.module,
        pin=config.keys.pin,
        sessions=config.keys.sessions,
        processes=config.workers or os.cpu_count() or 1,
        state=config.state,
    )


def unused_tables(config: SignerConfig) -> dict[str, str]:
    """A sentence for each `[authority.NAME]` that no sub-CA of this signer has, by its name: it is written wrongly."""
    own = {each.authority.name for each in own_entries(config)}
    return {
        name: f"[authority.{name}] is for no sub-CA of this signer, and changes nothing: it has "
        f"{', '.join(sorted(own))}; mend the name or take the table away, and reload the signer"
        for name in sorted(config.keys.authorities.keys() - own)
    }


def own_key(name: str) -> str:
    """Where the key of a sub-CA is, beside authorities.toml, that names no other place: a bundle names none."""
    return f"file:keys/{name}.key"


def load_rules(config: SignerConfig) -> Rules:
    """How this signer judges requests; raises `OperatorError`."""
    profiles = load_profiles(config.profiles)
    authorities = tuple(each.authority for each in own_entries(config))
    return Rules(
        signer_id=config.signer_id,
        profiles=profiles,
        authorities=authorities,
        unsound_profiles=unsound_profiles(profiles.values(), authorities),
        version_1_profiles=frozenset(config.version_1.profiles if config.version_1 else ()),
        validators={each.key_id: each for each in config.validators},
        responder_keys=config.responder_keys,
        weak_keys=load_weak_keys(config.weak_keys or ()),
    )


def retention(config: SignerConfig, profiles: Mapping[str, Profile]) -> dt.timedelta | None:
    """How long the journal holds what is about persons (None: for ever); raises `ConfigurationError` if too short.

    While a certificate lives, a request for it that is repeated must get it again, and its names must be known.
    """
    if not config.retention_days:
        return None
    longest = max((each.maximum_validity_days + each.not_before_ahead_days for each in profiles.values()), default=0)
    if config.retention_days <= longest:
        raise ConfigurationError(
            f"certificates of these profiles live up to {longest} days: write more than that, or 0 to keep everything",
            source=str(config.source),
            key="journal.retention_days",
        )
    return dt.timedelta(days=config.retention_days)


def configuration_documents(config: SignerConfig) -> list[tuple[str, bytes]]:
    """What the hash covers, by name: for the journal, so that a stranger can judge what was decided by it."""
    own = own_entries(config)  # first of all, for it says best what is missing
    documents = [
        (path.name, path.read_bytes()) for path in [config.authorities, *sorted(config.profiles.glob("*.toml"))]
    ]
    documents += [(f"{each.authority.name}.crt", each.authority.certificate) for each in own]
    documents.append((RULES_DOCUMENT, rules_document(config)))
    return documents


def rules_document(config: SignerConfig) -> bytes:
    """Everything in `signer.toml` that decides how requests are judged, whatever its comments, order and paths."""
    return encode_rules_document(
        RulesDocument(
            signer_id=config.signer_id,
            version_1_profiles=tuple(sorted(config.version_1.profiles)) if config.version_1 else (),
            validators=tuple(
                PinnedValidator(name=each.name, public_key=each.public_key, kinds=tuple(sorted(each.kinds)))
                for each in sorted(config.validators, key=lambda one: one.name)
            ),
            responder_keys=tuple(sorted(each.hex() for each in config.responder_keys)),
            operators=tuple(sorted(config.operators)),
            quorum=config.quorum,
            caps=dict(sorted(config.caps.items())),
            weak_keys=tuple(content_of_lists(config.weak_keys or ())),
            keys=tuple(
                KeyUsed(authority=name, backend=use.backend, verify_with=use.verify_with)
                for name, use in sorted(key_uses(config).items())
            ),
        )
    )


def configuration_hash(config: SignerConfig) -> bytes:
    """SHA-256 over all that decides how requests are judged: the documents that the journal keeps of it."""
    return _hash(configuration_documents(config))


def _hash(documents: Sequence[tuple[str, bytes]]) -> bytes:
    digest = hashlib.sha256()
    for name, content in documents:
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.digest()
