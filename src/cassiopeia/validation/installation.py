"""A validator's directory: its key, validator.toml and all that it names, ready to run or to be carried elsewhere."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cassiopeia import files
from cassiopeia.config import ClientConfig, read_text
from cassiopeia.config.toml_writer import toml_value
from cassiopeia.core import ed25519
from cassiopeia.core.evidence import STATEMENT_KINDS
from cassiopeia.errors import OperatorError
from cassiopeia.validation.key import make_validator_key, public_pem

CONFIGURATION = "validator.toml"
BUNDLE_KEY = "bundle-key.pem"


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidatorFiles:
    """What a validator is given: TOML of the profiles and PEM of the signers' journal keys, both by their names.

    `bundle_key` (PEM) is that of the ceremony; without it, no bundle can be installed until it is there.
    """

    name: str
    store_url: str
    profiles: Mapping[str, str]
    journal_keys: Mapping[str, bytes]
    kinds: Sequence[str] = STATEMENT_KINDS
    bundle_key: bytes | None = None


def write_validator(directory: Path, given: ValidatorFiles) -> bytes:
    """Fill an empty directory; return the public half of the new key (PEM)."""
    key = make_validator_key(directory / "validator.key")
    public = public_pem(key)
    files.write_file(directory / "validator.pem", public, mode=files.PUBLIC)
    if given.bundle_key is not None:
        files.write_file(directory / BUNDLE_KEY, given.bundle_key, mode=files.PUBLIC)
    profiles = files.make_directory(directory / "profiles")
    for name, text in given.profiles.items():
        files.write_file(profiles / f"{name}.toml", text, mode=files.PUBLIC)
    peers = files.make_directory(directory / "peers")
    for name, pem in given.journal_keys.items():
        files.write_file(peers / f"{name}.pem", pem, mode=files.PUBLIC)
    files.write_file(directory / CONFIGURATION, _validator_toml(given), mode=files.PUBLIC)
    return public


def make_validator(directory: Path, client: ClientConfig, *, name: str, kinds: Sequence[str]) -> bytes:
    """Make a new directory for a validator of this client's store; return its public key (PEM)."""
    try:
        profiles = {path.stem: read_text(path) for path in sorted(client.profiles.glob("*.toml"))}
        if not profiles:
            raise OperatorError(
                f"{client.profiles}: no profile is here; a validator needs those of the signer: install the client's "
                "bundle first (cassiopeia client install BUNDLE), or copy them"
            )
        keys = {
            "journal" if number == 1 else f"journal-{number}": _pem(each)
            for number, each in enumerate(client.journal_keys, 1)
        }
        if not keys:
            raise OperatorError(
                f"{client.source}: names no journal key; a validator works with version 2 of the protocol alone"
            )
        bundle_key = client.bundles.key_file
        given = ValidatorFiles(
            name=name,
            store_url=client.store_url,
            profiles=profiles,
            journal_keys=keys,
            kinds=kinds,
            bundle_key=None if bundle_key is None or not bundle_key.exists() else bundle_key.read_bytes(),
        )
        with files.new_tree(directory, mode=files.SECRET_DIRECTORY, what="a validator") as building:
            return write_validator(building, given)
    except OSError as error:
        raise OperatorError(f"{error.filename or directory}: {error.strerror}; nothing was made") from error


def _pem(public_key: bytes) -> bytes:
    return ed25519.load_public_key(public_key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _validator_toml(given: ValidatorFiles) -> str:
    keys = [f"peers/{name}.pem" for name in given.journal_keys]
    return textwrap.dedent(
        f"""\
        # The validator: signs what was seen, and vouches for requests. Relative paths are relative to this file.

        profiles = "profiles"              # those of the signer

        [validator]
        name = {toml_value(given.name)}
        key = "validator.key"              # the signer knows its public half, validator.pem
        kinds = {toml_value(list(given.kinds))}
        bundles = "bundles"                # where one is installed, its profiles take the place of those above
        bundle_key = "bundle-key.pem"      # who signs them: the ceremony

        [store]
        url = {toml_value(given.store_url)}

        [journal]
        keys = {toml_value(keys)}       # what the signers' word is known by

        # A program that looks again when an observation has lapsed (docs/evidence.md):
        # [[check]]
        # kinds = ["caa-permits"]
        # command = ["/usr/local/bin/check-caa"]
        # timeout_s = 60
        """
    )
