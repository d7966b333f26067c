"""What installing a bundle shows, on whatever machine: what it is, what would change, and what has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cassiopeia.core.bundle import Bundle

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False, exists=True))
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Verify everything and say what would change; change nothing."
)


def read_bundle_file(path: Path) -> bytes:
    """The whole file; one octet more than a bundle may have is enough to refuse it."""
    from cassiopeia.core.bundle import MAXIMUM_OCTETS  # noqa: PLC0415 - `--help` must not load the crypto library

    with path.open("rb") as stream:
        return stream.read(MAXIMUM_OCTETS + 1)


def print_bundle(bundle: Bundle, octets: bytes) -> None:
    """What people compare with the transcript of the ceremony."""
    from cassiopeia.core.bundle import bundle_hash  # noqa: PLC0415 - as above

    click.echo(f"Bundle {bundle.number} ({bundle.kind}), made {bundle.made_at:%Y-%m-%d %H:%M}Z.")
    click.echo(f"SHA-256 of the file: {bundle_hash(octets).hex()}")
    click.echo(f"SHA-256 of the root's key: {bundle.root_key.hex()}")


def print_changes(sentences: Sequence[str]) -> None:
    for each in sentences or ["nothing changes"]:
        click.echo(f"  {each}")
