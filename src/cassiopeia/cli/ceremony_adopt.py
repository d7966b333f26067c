"""`cassiopeia ceremony adopt`: a hierarchy that goes on from CAs which were there before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cassiopeia.cli.ceremony_hold import (
    csr_option,
    ended_by_signals,
    hierarchy_argument,
    named_files,
    now,
    read_requests,
    report,
    shares_option,
    split_of,
    threshold_option,
)
from cassiopeia.cli.ceremony_safe import open_offline, passphrase_option, share_option, typed_option
from cassiopeia.cli.passphrase import read_passphrase

if TYPE_CHECKING:
    from cassiopeia.ceremony.adopting import Adopted

_NONE: Final = "none"
_FILE = click.Path(path_type=Path, dir_okay=False)
_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command(short_help="Go on from a root or structure CAs that were made elsewhere.")
@hierarchy_argument
@click.option(
    "--ca",
    "certificates",
    multiple=True,
    metavar="NAME=FILE",
    help="The certificate of `root`, or of the structure CA of a family; once for each.",
)
@click.option(
    "--key", "keys", multiple=True, metavar="NAME=FILE", help="Its key; without it, the root's stays elsewhere."
)
@click.option(
    "--crl",
    "crls",
    multiple=True,
    metavar="NAME=FILE",
    help="Its last CRL, whose number and entries go on; `NAME=none` if it never had one.",
)
@click.option(
    "--key-passphrase",
    "key_passphrases",
    multiple=True,
    metavar="NAME=FILE",
    help="The passphrase of its key; without it, it is asked for.",
)
@click.option(
    "--offline", type=_FILE, help="The offline bundle that --csr-out made: the root's answers are given with --ca."
)
@passphrase_option
@share_option
@typed_option
@shares_option
@threshold_option
@csr_option
@click.option(
    "--csr-out",
    type=_DIRECTORY,
    help="Only make keys for structure CAs, and requests for the root that stays elsewhere, in this new directory.",
)
@click.option("--out", type=_DIRECTORY, help="The new directory for all that is made; nothing is ever overwritten.")
def adopt(  # noqa: PLR0917 - click passes every option by itself
    hierarchy_file: Path,
    certificates: tuple[str, ...],
    keys: tuple[str, ...],
    crls: tuple[str, ...],
    key_passphrases: tuple[str, ...],
    offline: Path | None,
    passphrase_file: Path | None,
    share_files: Sequence[Path],
    typed: int,
    shares: int | None,
    threshold: int | None,
    requests: tuple[str, ...],
    csr_out: Path | None,
    out: Path | None,
) -> None:
    """Make the hierarchy of FILE below a root, or structure CAs, that were made elsewhere.

    What is adopted with its key is signed with as if it had been made here, and its CRL goes on. Of a root whose key
    stays elsewhere the certificate is enough: --csr-out asks it for structure CAs, and its answers are adopted in a
    second ceremony, with --offline. Whatever else FILE declares is made.
    """
    from cassiopeia.ceremony import holding  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.ceremony.declaration import load_declaration  # noqa: PLC0415 - as above

    place = out or csr_out
    if place is None or (out is not None and csr_out is not None):
        raise click.UsageError("Give one of --out and --csr-out.")
    if csr_out is not None and requests:
        raise click.UsageError("--csr-out makes no sub-CAs: give --csr with --out.")
    if offline is None and (passphrase_file is not None or share_files or typed):
        raise click.UsageError("Name what these open with --offline.")
    declaration = load_declaration(hierarchy_file)
    with ended_by_signals():
        adopted = _read_adopted(certificates, keys=keys, crls=crls, key_passphrases=key_passphrases)
        opened = None
        if offline is not None:
            opened = open_offline(offline, passphrase_file=passphrase_file, share_files=share_files, typed=typed)
        split_into = split_of(shares, threshold)
        if csr_out is not None:
            held = holding.ask_for_certificates(
                declaration, adopted, place, opened=opened, split_into=split_into, clock=now, say=click.echo
            )
        else:
            held = holding.adopt_authorities(
                declaration,
                adopted,
                place,
                opened=opened,
                split_into=split_into,
                requests=read_requests(requests),
                clock=now,
                say=click.echo,
            )
    report(held)


def _read_adopted(
    certificates: Sequence[str], *, keys: Sequence[str], crls: Sequence[str], key_passphrases: Sequence[str]
) -> list[Adopted]:
    from cassiopeia.ceremony.adopting import read_adopted  # noqa: PLC0415 - as above

    certificate_files = named_files(certificates, option="--ca")
    key_files = named_files(keys, option="--key")
    crl_files = named_files(crls, option="--crl")
    passphrase_files = named_files(key_passphrases, option="--key-passphrase")
    for option, given in (("--key", key_files), ("--crl", crl_files), ("--key-passphrase", passphrase_files)):
        for name in given:
            if name not in certificate_files:
                raise click.UsageError(f"{option} {name}=...: give its certificate as well, with --ca {name}=FILE.")
    for name in key_files:
        if name not in crl_files:
            raise click.UsageError(
                f"--key {name}=...: give its last CRL as well, with --crl {name}=FILE, so that numbers go on; or "
                f"--crl {name}={_NONE}, if there never was one."
            )
    adopted = []
    for name, certificate in certificate_files.items():
        crl = crl_files.get(name)
        adopted.append(
            read_adopted(
                name,
                certificate,
                key=key_files.get(name),
                crl=None if crl is None or str(crl) == _NONE else crl,
                ask_passphrase=_asking(passphrase_files.get(name)),
            )
        )
    return adopted


def _asking(file: Path | None) -> Callable[[Path], bytearray]:
    """Gives the passphrase of a key from a file, or from whoever sits there."""
    return lambda path: read_passphrase(file, prompt=f"Passphrase of {path}")
