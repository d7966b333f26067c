"""A publisher's directory: the responder's key, publisher.toml and all that it names."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia import files
from cassiopeia.client.installing import Machine
from cassiopeia.config import ClientConfig, load_authorities, read_text
from cassiopeia.config.publisher import PublisherConfig, http_address, load_publisher_config
from cassiopeia.config.toml_writer import toml_value
from cassiopeia.core import ed25519
from cassiopeia.errors import OperatorError
from cassiopeia.publisher.key import make_responder_key, public_pem

CONFIGURATION: Final = "publisher.toml"
PUBLIC_KEY: Final = "responder.pem"


@dataclass(frozen=True, kw_only=True, slots=True)
class PublisherFiles:
    """What a publisher is given.

    `public_directory` is what it serves, as seen from its own directory. `journal_keys` are the public halves (PEM) of
    what the signers' journals are known by, and `authorities` the files beside authorities.toml and that file itself,
    each by its name; none where a bundle brings them. `bundle_key` (PEM) is that of the ceremony; without it, no bundle
    can be installed until it is there.
    """

    store_url: str
    public_directory: str
    name: str = "publisher"
    journal_keys: Mapping[str, bytes]
    authorities: Mapping[str, bytes] = field(default_factory=dict)
    bundle_key: bytes | None = None
    listen: str = "127.0.0.1:8080"
    key_algorithm: str = "P-256"


def write_publisher(directory: Path, given: PublisherFiles) -> bytes:
    """Fill an empty directory; return the public half of the new key (PEM), for the signers to pin."""
    public = public_pem(make_responder_key(directory / "responder.key", algorithm=given.key_algorithm))
    files.write_file(directory / PUBLIC_KEY, public, mode=files.PUBLIC)
    for name in ("peers", "responder", "certificates"):
        files.make_directory(directory / name)
    for name, pem in given.journal_keys.items():
        files.write_file(directory / "peers" / f"{name}.pem", pem, mode=files.PUBLIC)
    for name, octets in given.authorities.items():
        files.write_file(directory / name, octets, mode=files.PUBLIC)
    if given.bundle_key is not None:
        files.write_file(directory / "bundle-key.pem", given.bundle_key, mode=files.PUBLIC)
    files.write_file(directory / CONFIGURATION, _publisher_toml(given), mode=files.PUBLIC)
    return public


def make_publisher(directory: Path, client: ClientConfig, *, listen: str, key_algorithm: str) -> bytes:
    """Make a new directory for a publisher of what this client has; return its public key (PEM)."""
    http_address(directory / CONFIGURATION, listen)
    try:
        keys = {
            "journal" if number == 1 else f"journal-{number}": _pem(each)
            for number, each in enumerate(client.journal_keys, 1)
        }
        if not keys:
            raise OperatorError(
                f"{client.source}: names no journal key; OCSP answers are made from the journal, and version 1 of "
                "the protocol has none"
            )
        bundle_key = client.bundles.key_file
        given = PublisherFiles(
            store_url=client.store_url,
            public_directory=str(client.publish_directory),
            journal_keys=keys,
            authorities=_authority_files(client),
            name=directory.absolute().name,
            bundle_key=None if bundle_key is None or not bundle_key.exists() else bundle_key.read_bytes(),
            listen=listen,
            key_algorithm=key_algorithm,
        )
        with files.new_tree(directory, mode=files.SECRET_DIRECTORY, what="a publisher") as building:
            public = write_publisher(building, given)
            config = load_publisher_config(building / CONFIGURATION)
            if given.authorities:
                load_authorities(config.authorities)
            return public
    except OSError as error:
        raise OperatorError(f"{error.filename or directory}: {error.strerror}; nothing was made") from error


def publisher_machine(config: PublisherConfig) -> Machine:
    """Where client bundles are installed for this publisher, which has no use for their profiles."""
    profiles = (config.bundles.installed or config.source.parent) / "profiles"
    return Machine(
        source=config.source,
        bundles=config.bundles,
        authorities=config.authorities,
        profiles=profiles,
        load=lambda installation: load_publisher_config(config.source, installation=installation),
    )


def pinning_toml(name: str) -> str:
    """What signer.toml says to certify this responder, whose key is in responders/NAME.pem."""
    return f'[ocsp]\nresponders = ["responders/{name}.pem"]\n'


def _authority_files(client: ClientConfig) -> dict[str, bytes]:
    """authorities.toml and the certificates beside it, as the ceremony lays them out.

    None before the first bundle: the publisher's key has to be known to the ceremony that makes it.
    """
    if not client.authorities.exists():
        return {}
    beside = client.authorities.parent
    found = {"authorities.toml": read_text(client.authorities).encode()}
    for path in sorted((beside / "certificates").glob("*.pem")):
        found[f"certificates/{path.name}"] = path.read_bytes()
    return found


def _pem(public_key: bytes) -> bytes:
    return ed25519.load_public_key(public_key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _publisher_toml(given: PublisherFiles) -> str:
    keys = [f"peers/{name}.pem" for name in given.journal_keys]
    return textwrap.dedent(
        f"""\
        # The publisher: serves CRLs and CA certificates, and answers OCSP. Relative paths are relative to this file.

        authorities = "authorities.toml"

        [publisher]
        name = {toml_value(given.name)}
        bundles = "bundles"                # where one is installed, its CAs take the place of those above
        bundle_key = "bundle-key.pem"      # who signs them: the ceremony

        [store]
        url = {toml_value(given.store_url)}

        [journal]
        keys = {toml_value(keys)}       # what the signers' journals are known by

        [http]
        listen = {toml_value(given.listen)}          # for a web server in front of it, or for the world
        directory = {toml_value(given.public_directory)}       # what the client publishes

        [ocsp]
        key = "responder.key"              # the signer knows its public half, responder.pem
        path = "/ocsp"
        answer_hours = 12                  # how long an answer may be kept
        cache_seconds = 300                # how long HTTP caches may keep it
        """
    )
