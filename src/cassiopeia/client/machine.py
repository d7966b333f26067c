"""A client's directory: client.toml and the key of its end of the line, made on the machine that keeps them.

Owns the layout of that directory and the text of client.toml. Certificates, profiles and authorities.toml come from a
ceremony, and are no part of it; the store is made where client.toml says that it is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cassiopeia import files
from cassiopeia.config import link_address, load_client_config
from cassiopeia.config.toml_writer import toml_value
from cassiopeia.link.credentials import make_link_key
from cassiopeia.store.database import upgrade

CONFIGURATION: Final = "client.toml"
VERSION_1_CONFIGURATION: Final = "client-v1.toml"
BUNDLE_KEY: Final = "bundle-key.pem"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientFiles:
    """What a client is given; `peers` are public halves (PEM) of what the signer is known by, by their names.

    These are its link certificate, `signer` (version 1: `signer-v1`), and the key of its journal, `journal`.
    `bundle_key` (PEM) is that of the ceremony; without it, no bundle can be installed until it is there.
    """

    connect: str
    bundle_key: bytes | None = None
    version_1: bool = False
    peers: Mapping[str, bytes] = field(default_factory=dict)


def write_client(directory: Path, given: ClientFiles) -> None:
    """Fill an empty directory."""
    for name in ("peers", "certificates"):
        files.make_directory(directory / name)
    files.make_directory(directory / "public", mode=files.PUBLIC_DIRECTORY)
    for name, pem in given.peers.items():
        files.write_file(directory / "peers" / f"{name}.pem", pem, mode=files.PUBLIC)
    if given.bundle_key is not None:
        files.write_file(directory / BUNDLE_KEY, given.bundle_key, mode=files.PUBLIC)
    for version, configuration in {2: CONFIGURATION, 1: VERSION_1_CONFIGURATION}.items():
        if version == 1 and not given.version_1:
            continue
        suffix = "-v1" if version == 1 else ""
        make_link_key(
            certificate=directory / f"link{suffix}.pem",
            key=directory / f"link{suffix}.key",
            common_name="cassiopeia client link",
            version=version,
        )
        files.write_file(directory / configuration, _client_toml(given, version=version), mode=files.PUBLIC)


def make_client(directory: Path, given: ClientFiles) -> None:
    """Make a new directory for a client, and its store; a bundle brings the rest. Raises OperatorError."""
    with files.new_tree(directory, mode=files.PASSAGE_DIRECTORY, what="a client") as building:
        link_address(building / CONFIGURATION, given.connect, key="link.connect")
        write_client(building, given)
        upgrade(load_client_config(building / CONFIGURATION).store_url)


def _client_toml(given: ClientFiles, *, version: int) -> str:
    suffix = "-v1" if version == 1 else ""
    text = f"""\
        # The signer client: the database's side. Relative paths are relative to this file. No CA key is here.

        authorities = "authorities.toml"
        profiles = "profiles"

        [client]
        name = "client{suffix}"  # who leases jobs; each client its own
        bundles = "bundles"                # where one is installed, it takes the place of the two files above
        bundle_key = "bundle-key.pem"      # who signs them: the ceremony

        [store]
        url = "sqlite:///store.sqlite"     # or postgresql+psycopg://USER@HOST/DATABASE

        [link]
        connect = {toml_value(given.connect)}
        certificate = "link{suffix}.pem"
        key = "link{suffix}.key"
        peers = ["peers/signer{suffix}.pem"]
        version = {version}
        window = 400                       # requests under way at once

        [publish]
        directory = "public"               # for a web server to serve
        """
    journal = """
        [journal]
        keys = ["peers/journal.pem"]       # what the signer's journal is known by
        """
    return "".join(textwrap.dedent(each) for each in ([text] if version == 1 else [text, journal]))
