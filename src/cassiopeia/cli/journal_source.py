"""Where `cassiopeia journal` reads from: a signer's own journal, a client's copy of one, or an exported file.

Each gives the same items (`journal.transcript`), as often as they are asked for, and the keys that its owner trusts.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cassiopeia.errors import OperatorError, PeerError

if TYPE_CHECKING:
    from cassiopeia.config import ClientConfig, SignerConfig
    from cassiopeia.journal.entry import Log
    from cassiopeia.journal.replay import Replay
    from cassiopeia.journal.transcript import Item


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One journal. `keys` (DER SubjectPublicKeyInfo) are trusted because of `trusted_by`; None: by nobody.

    `logs` gives every entry, and judges none. `items` gives all there is, each entry after the replay has taken it.
    `complete` says that parts are missing only where an entry says so. `client` is set for a client's copy.
    """

    name: str
    logs: Callable[[], Iterator[Log]]
    items: Callable[[Replay], Iterator[Item]]
    keys: tuple[bytes, ...] | None
    trusted_by: str
    complete: bool
    client: ClientConfig | None = None


def open_source(
    config_path: Path | None, file: Path | None, *, signer_id: int | None, keys: tuple[Path, ...] = ()
) -> Source:
    """The journal that the options name; raises OperatorError."""
    trusted = tuple(read_public_key(each) for each in keys) or None
    if (config_path is None) == (file is None):
        raise OperatorError("name one journal: -c signer.toml or -c client.toml, or --file with an exported one")
    if file is not None:
        return _of_file(file, trusted)
    assert config_path is not None  # noqa: S101 - one of the two is there
    return _of_config(config_path, trusted, signer_id)


def read_public_key(path: Path) -> bytes:
    """A journal's public key from a PEM file, as DER SubjectPublicKeyInfo; raises OperatorError."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - `--help` must be quick
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - as above

    from cassiopeia.core.ed25519 import public_octets  # noqa: PLC0415 - as above

    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise OperatorError(f"{path}: this is not a journal's public key: Ed25519, in PEM (BEGIN PUBLIC KEY)")
    return public_octets(key)


def is_signer_config(path: Path) -> bool:
    """Whether a configuration is a signer's or a client's; raises OperatorError for anything else."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OperatorError(f"{path}: this is not TOML: {error}") from error
    if ("signer" in tables) == ("client" in tables):
        raise OperatorError(f"{path}: this is neither a signer.toml nor a client.toml")
    return "signer" in tables


def _of_file(path: Path, trusted: tuple[bytes, ...] | None) -> Source:
    from cassiopeia.journal.entry import Log  # noqa: PLC0415 - as above

    return Source(
        name=str(path),
        logs=lambda: (item for item in read_file(path) if isinstance(item, Log)),
        items=lambda replay: _replayed(read_file(path), replay),
        keys=trusted,
        trusted_by="--key",
        complete=False,
    )


def read_file(path: Path) -> Iterator[Item]:
    from cassiopeia.journal.transcript import read_transcript  # noqa: PLC0415 - as above

    with path.open("rb") as stream:
        try:
            yield from read_transcript(stream.readline)
        except PeerError as error:
            raise OperatorError(f"{path}: {error}") from error


def _replayed(items: Iterator[Item], replay: Replay) -> Iterator[Item]:
    from cassiopeia.journal.entry import Log  # noqa: PLC0415 - as above

    for item in items:
        if isinstance(item, Log):
            replay.append(item)
        yield item


def _of_config(path: Path, trusted: tuple[bytes, ...] | None, signer_id: int | None) -> Source:
    from cassiopeia.config import load_client_config, load_signer_config  # noqa: PLC0415 - as above

    if is_signer_config(path):
        return _of_signer(load_signer_config(path), trusted)
    client = load_client_config(path)
    return Source(
        name=str(path),
        logs=lambda: _read_logs(client, signer_id),
        items=lambda replay: _read_copy(client, signer_id, replay),
        keys=trusted or client.journal_keys or None,
        trusted_by="--key" if trusted else f"[journal] keys of {path}",
        complete=False,
        client=client,
    )


def _of_signer(config: SignerConfig, trusted: tuple[bytes, ...] | None) -> Source:
    from cassiopeia.core.ed25519 import public_octets  # noqa: PLC0415 - as above
    from cassiopeia.signer.journal_file import FILE_NAME  # noqa: PLC0415 - as above
    from cassiopeia.signer.journal_key import load_journal_key  # noqa: PLC0415 - as above
    from cassiopeia.signer.journal_reader import export, read_journal  # noqa: PLC0415 - as above

    key = load_journal_key(config.journal_key)
    return Source(
        name=str(config.source),
        logs=lambda: read_journal(config.state / FILE_NAME),
        items=lambda replay: export(config.state, key, replay),
        keys=trusted or (public_octets(key),),
        trusted_by="--key" if trusted else str(config.journal_key),
        complete=True,
    )


def _read_logs(client: ClientConfig, signer_id: int | None) -> Iterator[Log]:
    from cassiopeia.client.journal_export import choose_copy  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    with open_store(client.store_url) as store:
        yield from store.journal_copies.logs(choose_copy(store, signer_id).link.signer_id)


def _read_copy(client: ClientConfig, signer_id: int | None, replay: Replay) -> Iterator[Item]:
    from cassiopeia.client.journal_export import choose_copy, export  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    with open_store(client.store_url) as store:
        yield from export(store, choose_copy(store, signer_id), replay)
