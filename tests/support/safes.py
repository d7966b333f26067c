"""A safe as a ceremony leaves it: one family, quick keys; made in memory, opened by a passphrase or by shares."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from pathlib import Path

import msgspec

from cassiopeia.ceremony.conducting import begin
from cassiopeia.ceremony.declaration import load_declaration
from cassiopeia.ceremony.hierarchy import with_key_algorithm, with_periods
from cassiopeia.ceremony.safe import OFFLINE_NAME, PASSPHRASE_NAME, Safe, make_secret, offline_bundle, secret_text
from cassiopeia.ceremony.shares import Share, share_document, share_file_name, share_set, split
from cassiopeia.ceremony.unlocking import as_kept

LONG_AGO = dt.datetime(2026, 1, 23, 12, 30, tzinfo=dt.UTC)


def make_safe(*, now: dt.datetime = LONG_AGO) -> Safe:
    """What the first ceremony leaves."""
    declaration = load_declaration()
    hierarchy = with_periods(with_key_algorithm(declaration.hierarchy, "P-256"), 1)
    hierarchy = msgspec.structs.replace(hierarchy, family=hierarchy.family[:1])
    family = hierarchy.family[0].name
    profiles = {
        name: text for name, text in declaration.profiles.items() if f'family = "{family}"' in text or "ocsp" in name
    }
    return begin(dataclasses.replace(declaration, hierarchy=hierarchy, profiles=profiles), now=now).safe


def put_away(safe: Safe, directory: Path) -> Path:
    """The offline bundle in a directory, with its passphrase in a file."""
    secret = make_secret()
    bundle = directory / OFFLINE_NAME
    bundle.write_bytes(offline_bundle(safe, secret=secret))
    passphrase = directory / PASSPHRASE_NAME
    passphrase.write_text(secret_text(secret))
    passphrase.chmod(0o600)
    return bundle


def put_away_split(safe: Safe, directory: Path, *, shares: int = 3, threshold: int = 2) -> tuple[Path, list[Share]]:
    """The offline bundle and share-N.txt in a directory."""
    secret = make_secret()
    made = split(secret, shares=shares, threshold=threshold)
    record = msgspec.structs.replace(safe.record, shares=as_kept(share_set(made)))
    bundle = directory / OFFLINE_NAME
    bundle.write_bytes(offline_bundle(dataclasses.replace(safe, record=record), secret=secret))
    for share in made:
        text = share_document(share, count=shares, made_on=safe.record.made_at.date())
        (directory / share_file_name(share)).write_text(text)
    return bundle, list(made)


def shows(share: Share, text: str) -> bool:
    """Whether two words of a share that follow each other stand in a text; one alone comes up in any."""
    runs = itertools.pairwise(share.words[2:])
    return any(f"{one} {other}" in " ".join(text.split()) for one, other in runs)
