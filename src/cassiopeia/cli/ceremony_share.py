"""`cassiopeia ceremony share`: look at shares, and make new ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cassiopeia.cli.ceremony_hold import ended_by_signals, now
from cassiopeia.cli.ceremony_safe import (
    gather_shares,
    open_offline,
    safe_options,
    typed_option,
)
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.ceremony.shares import Share

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def share() -> None:
    """Look at the shares of the key to the safe, and make new ones."""


@share.command(short_help="Say whether each SHARE is whole, and belongs to the safe.")
@click.argument("share_files", metavar="[SHARE]...", nargs=-1, type=_FILE)
@typed_option
@click.option("--offline", type=_FILE, help="The offline bundle: says of each share whether it is the right one.")
@click.option(
    "--bundle-key",
    type=_FILE,
    help="bundle-key.pem from one of the machines: says whether the bundle is the right one.",
)
def check(share_files: Sequence[Path], typed: int, offline: Path | None, bundle_key: Path | None) -> None:
    """Say whether each SHARE (a file) is whole; with --offline, whether it belongs to the safe.

    One share can be looked at by itself, without the others. When there are enough of them, the safe is opened, and
    nothing of what is in it is shown. Words can also be typed.
    """
    if not share_files and not typed:
        raise click.UsageError("Missing shares: name their files, or have words asked for with --typed 1.")
    shares = gather_shares(share_files, typed=typed)
    if offline is None:
        if bundle_key is not None:
            raise click.UsageError("--bundle-key says something of a bundle: name that with --offline.")
        _check_alone(shares)
    else:
        _check_with_safe(shares, offline, bundle_key)


@share.command()
@safe_options
@click.option("--shares", type=click.IntRange(2, 16), default=5, show_default=True, help="Make so many new shares.")
@click.option(
    "--threshold", type=click.IntRange(2, 16), default=3, show_default=True, help="So many of them open the safe."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The new directory for the offline bundle, its shares and the transcript.",
)
def reshare(
    offline: Path,
    passphrase_file: Path | None,
    share_files: Sequence[Path],
    typed: int,
    shares: int,
    threshold: int,
    out: Path,
) -> None:
    """Give the safe a new secret, and split that into new shares.

    For when a share is lost, or somebody leaves; or when the safe was not split before. The keys stay what they are.
    """
    from cassiopeia.ceremony import resharing, safe  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.ceremony.writing import Split  # noqa: PLC0415 - as above

    with ended_by_signals():
        opened = open_offline(offline, passphrase_file=passphrase_file, share_files=share_files, typed=typed)
        held = resharing.reshare(
            opened, out, split_into=Split(shares=shares, threshold=threshold), clock=now, say=click.echo
        )
    record = held.outcome.safe.record
    click.echo(f"Made in {out}, in place of {safe.describe(opened.safe.record)}:")
    click.echo(f"  {safe.OFFLINE_NAME}: the safe, as ceremony {record.number}, which is the newest one now")
    click.echo(
        f"  {safe.SHARES_DIRECTORY}/: {shares} shares, {threshold} of which open it; {len(held.rehearsed)} choices of "
        "them were tried"
    )
    click.echo("  transcript.txt, transcript.html: what was done, with lines to sign")
    for sentence in resharing.OLD_COPIES:
        click.echo(sentence)


def _check_alone(shares: Sequence[tuple[str, Share]]) -> None:
    from cassiopeia.ceremony.shares import check_together, recover  # noqa: PLC0415 - as above

    for source, each in shares:
        _say(source, each, "is whole")
    check_together(shares)
    if len(shares) >= shares[0][1].threshold:
        recover(shares)
        click.echo("They fit together. Which safe they open, only the offline bundle can say: see --offline.")


def _check_with_safe(shares: Sequence[tuple[str, Share]], offline: Path, bundle_key: Path | None) -> None:
    from cassiopeia.ceremony import safe, unlocking  # noqa: PLC0415 - as above
    from cassiopeia.ceremony.shares import check_share, check_together, recover  # noqa: PLC0415 - as above

    _, bundle = safe.read_offline(offline)
    if bundle_key is not None:
        unlocking.check_bundle_key(bundle, bundle_key, source=str(offline))
    record = safe.kept_record(bundle)
    if record.shares is None:
        raise OperatorError(f"{offline}: is not split into shares: it opens with its passphrase file alone")
    known = unlocking.as_share_set(record.shares)
    for source, each in shares:
        check_share(each, known, source=source)
        _say(source, each, f"belongs to the safe of {safe.describe(record)}")
    check_together(shares)
    if len(shares) >= known.threshold:
        safe.open_safe(bundle, secret=recover(shares, known), source=str(offline))
        click.echo(f"Together they open it: {len(bundle.secrets)} keys, each the one of its certificate.")


def _say(source: str, share: Share, what: str) -> None:
    click.echo(f"{source}: share {share.number} of the set {share.set_name!r}, {share.threshold} are needed: {what}")
