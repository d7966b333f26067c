"""A new secret for the safe, split among people anew: when a share is lost, or somebody leaves.

Owns `reshare`: the keys stay what they are, and are encrypted with a new key-encryption key. Old shares open old copies
of the offline bundle for ever, and the new bundle never: what else is to be done about them, the answer says.
"""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia import files
from cassiopeia.ceremony import inspection
from cassiopeia.ceremony.record import Record
from cassiopeia.ceremony.safe import (
    BUNDLE_KEY_NAME,
    OFFLINE_NAME,
    SHARES_DIRECTORY,
    Safe,
    describe,
    make_secret,
    offline_bundle,
    open_safe,
    read_offline,
)
from cassiopeia.ceremony.shares import (
    ShareSet,
    check_numbers,
    read_share_file,
    recover,
    rehearse,
    share_document,
    share_file_name,
    share_set,
    split,
)
from cassiopeia.ceremony.transcript import Minutes, Table, Transcript, as_html, as_text, hash_table, tool_versions
from cassiopeia.ceremony.unlocking import OpenedSafe, as_kept
from cassiopeia.errors import OperatorError


@dataclass(frozen=True, kw_only=True, slots=True)
class Resharing:
    """What was made: the new shares, the choices of them with which it was rehearsed, and the safe's new record."""

    directory: Path
    old: str
    shares: ShareSet
    rehearsed: tuple[tuple[int, ...], ...]
    record: Record


def reshare(opened: OpenedSafe, out: Path, *, shares: int, threshold: int, now: dt.datetime) -> Resharing:
    """Write the new directory `out`: the offline bundle under a new secret, and the shares of that secret.

    Nothing is there before all of it was opened again with what was written. Raises OperatorError.
    """
    old = opened.safe.record
    check_numbers(shares=shares, threshold=threshold)
    if now < old.made_at:
        raise OperatorError(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, and the safe is from {describe(old)}: set the clock"
        )
    with files.new_tree(out, mode=files.SECRET_DIRECTORY, what="what a ceremony made") as building:
        # 1. A new secret, and a set of shares that looks like no other.
        secret = make_secret()
        made = split(
            secret, shares=shares, threshold=threshold, other_than=old.shares.name if old.shares is not None else ""
        )
        known = share_set(made)
        # 2. The same safe under it. It is a ceremony of its own, so that people see which bundle is the newest.
        record = msgspec.structs.replace(
            old,
            number=old.number + 1,
            made_at=now.astimezone(dt.UTC).replace(microsecond=0),
            shares=as_kept(known),
        )
        safe = _with_record(opened.safe, record)
        files.write_file(building / OFFLINE_NAME, offline_bundle(safe, secret=secret))
        files.write_file(building / BUNDLE_KEY_NAME, safe.bundle_public_pem)
        directory = files.make_directory(building / SHARES_DIRECTORY)
        paths = [directory / share_file_name(share) for share in made]
        for path, share in zip(paths, made, strict=True):
            files.write_file(path, share_document(share, count=shares, made_on=record.made_at.date()))
        # 3. Open it with what lies there now, and look at every key.
        rehearsed = rehearse(paths, known, secret=secret)
        _open_again(building / OFFLINE_NAME, paths[-threshold:], known, opened)
        done = Resharing(directory=out, old=describe(old), shares=known, rehearsed=rehearsed, record=record)
        # 4. What people sign.
        transcript = _transcript(done, building, now=now)
        files.write_file(building / "transcript.txt", as_text(transcript))
        files.write_file(building / "transcript.html", as_html(transcript))
    return done


OLD_COPIES: Final = (
    """\
The old shares, and the old passphrase if there was one, open every old copy of the offline bundle for ever. \
Destroy them all: the shares, the passphrase's file, and the old bundles on every medium and in every safe.""",
    """\
The keys themselves are the old ones. If somebody may have had enough old shares together with an old bundle, \
new shares help nothing: revoke what those keys have signed, and make a new hierarchy.""",
)
"""What people must know, and do, when a safe has a new secret."""


def _with_record(safe: Safe, record: Record) -> Safe:
    return Safe(
        declaration=safe.declaration,
        record=record,
        certificates=safe.certificates,
        crls=safe.crls,
        keys=safe.keys,
        bundle_key=safe.bundle_key,
    )


def _open_again(bundle_path: Path, share_paths: Sequence[Path], known: ShareSet, opened: OpenedSafe) -> None:
    """Raise OperatorError unless the new bundle opens with these shares, and by nothing old, and has every key."""
    secret = recover([(path.name, read_share_file(path)) for path in share_paths], known)
    if hmac.compare_digest(secret, opened.secret):
        raise OperatorError("the new secret is the old one: this machine's random numbers are none; use another one")
    _, bundle = read_offline(bundle_path)
    again = open_safe(bundle, secret=secret, source=bundle_path.name)
    if set(again.keys) != set(opened.safe.keys):
        raise OperatorError("the new offline bundle has not all of the keys of the old one: keep the old one")
    for name, key in again.keys.items():
        if key.public_key() != opened.safe.keys[name].public_key():
            raise OperatorError(f"the new offline bundle has another key of {name} than the old one: keep the old one")
        if name in again.certificates:
            certificate = again.certificates[name].public_bytes(Encoding.DER)
            inspection.prove_key(key, name=name, certificate=certificate)


def _transcript(done: Resharing, directory: Path, *, now: dt.datetime) -> Transcript:
    shares = done.shares
    minutes = Minutes(
        title="New shares of the key to the safe",
        facts={"opened": done.old, "made": describe(done.record), "root key (SHA-256)": done.record.root_key},
    )
    minutes.add("What this was done with", at=now, facts=tool_versions())
    minutes.add(
        "The secret was split",
        f"The keys were encrypted with a new secret, which was split into {shares.count} shares and written nowhere "
        f"else. Any {shares.threshold} of them give it back.",
        at=now,
        facts={"set": shares.name},
        table=Table(
            header=("share", "its commitment (SHA-256)"),
            rows=tuple((str(number), each) for number, each in enumerate(shares.commitments, start=1)),
        ),
        to_fill_in=[f"Share {number} was given to" for number in range(1, shares.count + 1)],
    )
    minutes.add(
        "It was rehearsed",
        "The share files were read again, and these choices of them gave the secret back. With it the new offline "
        "bundle opened, and every key in it signed for its certificate.",
        at=now,
        table=Table(
            header=("choice", "shares"),
            rows=tuple(
                (str(number), ", ".join(map(str, chosen))) for number, chosen in enumerate(done.rehearsed, start=1)
            ),
        ),
    )
    minutes.add(
        "What goes into the safe",
        at=now,
        table=hash_table({name: (directory / name).read_bytes() for name in (OFFLINE_NAME, BUNDLE_KEY_NAME)}),
        to_fill_in=["The bag's number", "The safe"],
    )
    minutes.add(
        "Old copies",
        *OLD_COPIES,
        at=now,
        to_fill_in=["Old shares destroyed, their numbers", "Old bundles destroyed, how many"],
    )
    return minutes.close(signatories=("Ceremony leader", "Witness", "Witness"))
