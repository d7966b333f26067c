"""`cassiopeia init`: a new authority in one directory."""

from __future__ import annotations

import datetime as dt
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cassiopeia.cli.options import CA_KEY_ALGORITHMS

if TYPE_CHECKING:
    from cassiopeia.ceremony.hierarchy import Hierarchy
    from cassiopeia.ceremony.installation import Installation, LinkAddresses, ValidatorPin

# As in `core.evidence`, which `--help` must not load; a test holds them together.
_KINDS = ("attestation", "dns-control", "caa-permits", "mailbox-control", "name-verified", "organisation")
_LOWEST_PORT, _HIGHEST_PORT = 1024, 65535


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--url-base",
    default="",
    metavar="URL",
    help="Where certificates say that CRLs and CA certificates are; without it, a place that nobody can reach.",
)
@click.option(
    "--ocsp-url",
    default="",
    metavar="URL",
    help="Where certificates say that OCSP is asked, as http://pki.example.net/ocsp; without it, they do not say.",
)
@click.option(
    "--hierarchy",
    "hierarchy_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A hierarchy of your own (TOML) instead of the default one.",
)
@click.option(
    "--key-algorithm",
    type=click.Choice(CA_KEY_ALGORITHMS),
    metavar="ALGORITHM",
    help=f"Make every CA key of this kind, whatever the hierarchy says: {', '.join(CA_KEY_ALGORITHMS)}.",
)
@click.option(
    "--periods",
    type=click.IntRange(1, 24),
    help="Make time sub-CAs for so many periods (half-years, unless the hierarchy says otherwise) from now on.",
)
@click.option(
    "--unproved-profiles",
    is_flag=True,
    help="Add profiles that ask for no evidence, for trying out: whoever may submit gets a certificate for any name.",
)
@click.option("--version-1", is_flag=True, help="Let clients of protocol version 1 in, for the unproved profiles only.")
@click.option(
    "--operator-key",
    "operator_keys",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Obey orders signed with this key (public, from `cassiopeia order key`); may be given several times.",
)
@click.option(
    "--quorum",
    default=1,
    show_default=True,
    type=click.IntRange(1, 16),
    help="So many operators must sign an order.",
)
@click.option(
    "--validator-key",
    "validator_keys",
    multiple=True,
    metavar="FILE[:KINDS]",
    help="Believe this validator too (public key, from `cassiopeia validator init`): all that it states, or only these "
    f"kinds, with commas between: {', '.join(_KINDS)}; may be given several times.",
)
@click.option(
    "--signer-device", metavar="DEVICE", help="The signer's serial device, as /dev/ttyS0 (else a Unix socket)."
)
@click.option("--client-device", metavar="DEVICE", help="The client's serial device.")
@click.option(
    "--tcp",
    "tcp_port",
    type=click.IntRange(_LOWEST_PORT, _HIGHEST_PORT),
    metavar="PORT",
    help="Link the two over this port of 127.0.0.1.",
)
def init(  # noqa: PLR0917 - click passes every option by itself
    directory: Path,
    url_base: str,
    ocsp_url: str,
    hierarchy_path: Path | None,
    key_algorithm: str | None,
    periods: int | None,
    unproved_profiles: bool,
    version_1: bool,
    operator_keys: tuple[Path, ...],
    quorum: int,
    validator_keys: tuple[str, ...],
    signer_device: str | None,
    client_device: str | None,
    tcp_port: int | None,
) -> None:
    """Make a new authority in DIRECTORY, which must be new or empty.

    That is: a root, a structure CA for each kind of certificate, their first CRLs, the time sub-CAs that issue, link
    keys, the keys of a validator and an OCSP responder, and a configuration for each. After an error nothing is left.
    """
    from cassiopeia.ceremony.installation import initialise  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.ceremony.pins import files_beside, no_file  # noqa: PLC0415 - as above

    installation = initialise(
        directory,
        hierarchy=_hierarchy(hierarchy_path, key_algorithm=key_algorithm, periods=periods),
        now=dt.datetime.now(dt.UTC),
        url_base=url_base,
        ocsp_url=ocsp_url,
        link_addresses=_addresses(signer_device, client_device, tcp_port),
        demo_profiles=unproved_profiles,
        version_1=version_1,
        operator_keys=operator_keys,
        quorum=quorum,
        validator_keys=[_validator_pin(each) for each in validator_keys],
        read=no_file if hierarchy_path is None else files_beside(hierarchy_path),
    )
    _report(installation)


def _hierarchy(path: Path | None, *, key_algorithm: str | None, periods: int | None) -> Hierarchy:
    from cassiopeia.ceremony import hierarchy as declared  # noqa: PLC0415 - as above

    chosen = declared.load_hierarchy(path)
    if path is None:
        # Nobody who tries it out waits for the keys of two years; one period alone could end within days.
        chosen = declared.with_periods(chosen, 2, spares=0)
    for known in declared.KEY_ALGORITHMS:
        if known == key_algorithm:
            chosen = declared.with_key_algorithm(chosen, known)
    return chosen if periods is None else declared.with_periods(chosen, periods)


def _addresses(signer_device: str | None, client_device: str | None, tcp_port: int | None) -> LinkAddresses:
    from cassiopeia.ceremony.installation import LinkAddresses  # noqa: PLC0415 - as above

    if (signer_device is None) != (client_device is None):
        raise click.UsageError("A serial line has two ends: give both --signer-device and --client-device.")
    if signer_device is not None and tcp_port is not None:
        raise click.UsageError("There is one link: give either --tcp or the two serial devices.")
    if signer_device is not None:
        return LinkAddresses(listen=f"serial:{signer_device}", connect=f"serial:{client_device}")
    if tcp_port is not None:
        return LinkAddresses(listen=f"tcp:127.0.0.1:{tcp_port}", connect=f"tcp:127.0.0.1:{tcp_port}")
    return LinkAddresses()


def _validator_pin(text: str) -> ValidatorPin:
    """FILE, or FILE:KINDS; a colon within a file's name has the kinds behind it."""
    from cassiopeia.ceremony.installation import ValidatorPin  # noqa: PLC0415 - as above

    name, colon, listed = text.rpartition(":")
    if not colon:
        return ValidatorPin(path=Path(text))
    kinds = tuple(listed.split(","))
    for each in kinds:
        if each not in _KINDS:
            raise click.UsageError(f"--validator-key {text!r}: {each!r} is no kind; use {', '.join(_KINDS)}.")
    return ValidatorPin(path=Path(name), kinds=tuple(dict.fromkeys(kinds)))


def _report(made: Installation) -> None:
    root, structure, time = made.by_level
    click.echo(f"Made a new authority in {_shown(made.directory)}:")
    click.echo(f"  offline/    keys of {root[0]}, {', '.join(structure)}: take this directory away, into a safe")
    click.echo(f"  signer/     keys of {', '.join(time)}: for the signer's machine")
    click.echo("  client/     configuration and store, no CA key; public/ is what the publisher serves")
    click.echo("  validator/  the key that says what is proved: best on a machine of its own")
    click.echo("  publisher/  for the world: CRLs, CA certificates, and OCSP with a key of its own")
    click.echo(f"SHA-256 of the root certificate: {made.root_fingerprint}")
    if made.is_unreachable:
        click.echo(
            f"Certificates name {made.url_base}, which nobody can reach; for real use, start over with --url-base."
        )
    if not made.ocsp_urls:
        click.echo(
            "Certificates name no place for OCSP, so only who is told asks the publisher; for real use, start over "
            "with --ocsp-url."
        )
    if not made.has_unproved_profiles:
        click.echo(
            "Every profile asks for evidence, which `cassiopeia validator observe` states; to try the authority out "
            "without, start over with --unproved-profiles."
        )
    click.echo("Now start the four, each in a terminal of its own:")
    click.echo(f"  cassiopeia signer run -c {shlex.quote(_shown(made.signer_config))}")
    click.echo(f"  cassiopeia client run -c {shlex.quote(_shown(made.client_config))}")
    click.echo(f"  cassiopeia validator run -c {shlex.quote(_shown(made.validator_config))}")
    click.echo(f"  cassiopeia publisher run -c {shlex.quote(_shown(made.publisher_config))}")


def _shown(path: Path) -> str:
    """As the person would type it: relative where that is shorter."""
    return min(str(path), os.path.relpath(path), key=len)
