"""A signer's directory: signer.toml, its own keys and the passphrase of its CA keys, made where they stay.

Owns the layout of that directory and the text of signer.toml. CA keys, certificates, profiles and authorities.toml come
from a ceremony, and are no part of it.
"""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from cassiopeia import files
from cassiopeia.config import link_address, load_signer_config
from cassiopeia.config.toml_writer import toml_document, toml_value
from cassiopeia.link.credentials import make_link_key
from cassiopeia.sealing import make_sealing_key

CONFIGURATION: Final = "signer.toml"
PASSPHRASE: Final = "passphrase"  # noqa: S105 - the name of a file
# What the client's side knows the signer's journal by.
JOURNAL_PUBLIC: Final = "journal.pem"
# What a ceremony seals the passphrase of a bundle to.
SEALING_PUBLIC: Final = "sealing.pem"
BUNDLE_KEY: Final = "bundle-key.pem"

_PASSPHRASE_OCTETS: Final = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class SignerFiles:
    """What a signer is given.

    Keys are public ones (PEM) by their names: `peers` are the link certificates of its client (`client`, and for
    version 1 `client-v1`), then `operators`, `validators` with the kinds of statement that they may make, and
    `responders`, the only keys that are certified as those of OCSP responders.
    `version_1_profiles` is None when the signer refuses version 1 of the protocol. `bundle_key` (PEM) is that of the
    ceremony; without it, it has to be put into the directory before a bundle can be installed.
    """

    signer_id: int
    listen: str
    bundle_key: bytes | None = None
    version_1_profiles: Sequence[str] | None = None
    peers: Mapping[str, bytes] = field(default_factory=dict)
    operators: Mapping[str, bytes] = field(default_factory=dict)
    quorum: int = 1
    validators: Mapping[str, tuple[bytes, Sequence[str]]] = field(default_factory=dict)
    responders: Mapping[str, bytes] = field(default_factory=dict)


def write_signer_keys(directory: Path, *, version_1: bool = False) -> None:
    """Fill an empty directory with what this signer alone knows: its keys, and the passphrase of its CA keys."""
    for name in ("state", "keys", "certificates"):
        files.make_directory(directory / name)
    for version in (1, 2) if version_1 else (2,):
        suffix = "-v1" if version == 1 else ""
        make_link_key(
            certificate=directory / f"link{suffix}.pem",
            key=directory / f"link{suffix}.key",
            common_name="cassiopeia signer link",
            version=version,
        )
    _write_journal_key(directory)
    private, public = make_sealing_key(write_passphrase(directory))
    files.write_file(directory / "sealing.key", private)
    files.write_file(directory / SEALING_PUBLIC, public, mode=files.PUBLIC)


def write_signer_configuration(directory: Path, given: SignerFiles) -> None:
    """Write signer.toml and what it names into a directory that `write_signer_keys` has filled."""
    for name in ("peers", "validators"):
        files.make_directory(directory / name)
    for name, pem in given.peers.items():
        files.write_file(directory / "peers" / f"{name}.pem", pem, mode=files.PUBLIC)
    for name, (pem, _) in given.validators.items():
        files.write_file(directory / "validators" / f"{name}.pem", pem, mode=files.PUBLIC)
    if given.operators:
        operators = files.make_directory(directory / "operators")
        for name, pem in given.operators.items():
            files.write_file(operators / f"{name}.pem", pem, mode=files.PUBLIC)
    if given.responders:
        responders = files.make_directory(directory / "responders")
        for name, pem in given.responders.items():
            files.write_file(responders / f"{name}.pem", pem, mode=files.PUBLIC)
    if given.bundle_key is not None:
        files.write_file(directory / BUNDLE_KEY, given.bundle_key, mode=files.PUBLIC)
    files.write_file(directory / CONFIGURATION, _signer_toml(given), mode=files.PUBLIC)


def make_signer(directory: Path, given: SignerFiles) -> None:
    """Make a new directory for a signer, which has no CA yet: its bundle brings them. Raises OperatorError."""
    with files.new_tree(directory, mode=files.SECRET_DIRECTORY, what="a signer") as building:
        link_address(building / CONFIGURATION, given.listen, key="link.listen")
        write_signer_keys(building)
        write_signer_configuration(building, given)
        load_signer_config(building / CONFIGURATION)


def write_passphrase(directory: Path) -> bytes:
    """A passphrase of 256 random bits: no key derivation has to make up for a weak one."""
    passphrase = secrets.token_hex(_PASSPHRASE_OCTETS)
    files.write_file(directory / PASSPHRASE, f"{passphrase}\n")
    return passphrase.encode()


def pinning_toml(name: str, kinds: Sequence[str]) -> str:
    """What signer.toml says to believe this validator, whose key is in validators/NAME.pem."""
    return toml_document({"validator": [{"name": name, "key": f"validators/{name}.pem", "kinds": list(kinds)}]})


def _write_journal_key(directory: Path) -> None:
    """What signs the signer's journal, and what the client knows it by. Not encrypted: without it nothing starts."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files.write_file(directory / "journal.key", private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files.write_file(directory / JOURNAL_PUBLIC, public, mode=files.PUBLIC)


def _signer_toml(given: SignerFiles) -> str:
    text = f"""\
        # The signer: the machine that holds the keys. Relative paths are relative to this file.

        [signer]
        id = {given.signer_id}                             # 1 to 126; first octet of every serial number
        state = "state"                    # what it must never lose
        workers = 0                        # processes that sign; 0: one a core
        authorities = "authorities.toml"
        profiles = "profiles"
        bundles = "bundles"                # where one is installed, it takes the place of the two files above
        bundle_key = "bundle-key.pem"      # who signs them: the ceremony

        [keys]
        # Whoever has the keys and this file can sign. With systemd, keep it sealed by the TPM instead:
        # passphrase_credential = "ca-keys" (systemd-creds encrypt, LoadCredentialEncrypted=).
        passphrase_file = "passphrase"
        sealing_key = "sealing.key"        # opens the passphrases of bundles that come over the line

        [link]
        listen = {toml_value(given.listen)}
        certificate = "link.pem"
        key = "link.key"
        peers = ["peers/client.pem"]       # while keys are changed: the current one and the next
        sessions = 4
        """
    version_1 = f"""
        # For clients that know only version 1, which carries no evidence: nothing but these profiles.
        [link.version_1]
        certificate = "link-v1.pem"
        key = "link-v1.key"
        peers = ["peers/client-v1.pem"]
        profiles = {toml_value(list(given.version_1_profiles or ()))}
        """
    rest = """
        [journal]
        key = "journal.key"                # signs what the client keeps against a loss of the journal

        [crl]
        lifetime_days = 10                 # how long people have to reach a signer that stands still
        resign_hours = 24

        # Lists of keys that somebody has published, and that nobody shall have certified: docs/key-checks.md says where
        # to get them. Until one is named here, status reminds of it; weak_keys = [] says that there will be none.
        [key_checks]
        # weak_keys = ["weak-keys/blacklist.RSA-2048", "weak-keys/blocklist.dat"]
        """
    orders = f"""
        # Whose orders reach the signer over the line (cassiopeia order), and how many of them must sign.
        [orders]
        operators = {toml_value([f"operators/{name}.pem" for name in given.operators])}
        quorum = {given.quorum}
        """
    ocsp = f"""
        # Which keys are certified as those of OCSP responders (cassiopeia publisher).
        [ocsp]
        responders = {toml_value([f"responders/{name}.pem" for name in given.responders])}
        """
    validators = """
        # Whose statements are believed, and of which kinds (cassiopeia validator).
        """
    parts = [
        text,
        *([] if given.version_1_profiles is None else [version_1]),
        rest,
        *([orders] if given.operators else []),
        *([ocsp] if given.responders else []),
        validators,
    ]
    tables = "\n".join(pinning_toml(name, kinds) for name, (_, kinds) in given.validators.items())
    return "".join(textwrap.dedent(each) for each in parts) + tables
