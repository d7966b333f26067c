"""Opening the safe: with its passphrase file, or with shares, wherever their words came from.

Owns which of the two a safe wants, and what is said when it is given the other. What is in the safe is `safe`'s part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cassiopeia.ceremony.record import KeptShares
from cassiopeia.ceremony.safe import (
    BUNDLE_KEY_NAME,
    PASSPHRASE_NAME,
    Safe,
    kept_record,
    open_safe,
    read_offline,
    read_secret,
)
from cassiopeia.ceremony.shares import Share, ShareSet, recover
from cassiopeia.core.bundle import Bundle
from cassiopeia.errors import OperatorError, PeerError


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedSafe:
    """A safe, and the secret that opened it: what is put into it again is encrypted with the same one."""

    safe: Safe
    secret: bytes = field(repr=False)


def unlock(
    offline: Path, *, passphrase_file: Path | None = None, shares: Sequence[tuple[str, Share]] = ()
) -> OpenedSafe:
    """Open an offline bundle; raises OperatorError that says which shares are missing or wrong.

    Without either, the passphrase is looked for beside the bundle. `shares` come with the place that each is from.
    """
    _, bundle = read_offline(offline)
    kept = kept_record(bundle).shares
    if passphrase_file is not None and shares:
        raise OperatorError("the safe opens with its passphrase file or with shares: give one of the two")
    if shares:
        if kept is None:
            raise OperatorError(
                f"{offline}: is not split into shares: give the file {PASSPHRASE_NAME}, or take the newest bundle"
            )
        secret = recover(shares, as_share_set(kept))
    elif passphrase_file is not None:
        secret = read_secret(passphrase_file)
    elif kept is None:
        secret = read_secret(offline.with_name(PASSPHRASE_NAME))
    else:
        raise OperatorError(
            f"{offline}: opens with {kept.threshold} of the {len(kept.commitments)} shares of the set {kept.name!r}: "
            "give their files, or have their words asked for"
        )
    return OpenedSafe(safe=open_safe(bundle, secret=secret, source=str(offline)), secret=secret)


def check_bundle_key(bundle: Bundle, path: Path, *, source: str) -> None:
    """Raise OperatorError unless the bundle names the same bundle key as this file, which was kept elsewhere."""
    try:
        pinned = load_pem_public_key(path.read_bytes())
        inside = load_pem_public_key(bundle.file(BUNDLE_KEY_NAME))
    except OSError as error:
        raise OperatorError(f"{path}: cannot read the bundle key: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm, PeerError) as error:
        raise OperatorError(f"{path}: is no public key in PEM; name the {BUNDLE_KEY_NAME} of a machine") from error
    if pinned != inside:
        raise OperatorError(f"{source}: is signed by another bundle key than {path}: it is false, or another CA's")


def as_share_set(kept: KeptShares) -> ShareSet:
    return ShareSet(name=kept.name, threshold=kept.threshold, commitments=kept.commitments)


def as_kept(shares: ShareSet) -> KeptShares:
    return KeptShares(name=shares.name, threshold=shares.threshold, commitments=shares.commitments)
