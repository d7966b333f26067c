"""`cassiopeia signer init`, `install` and `csr`: making the signer's machine, and what a ceremony gives to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from cassiopeia.cli.bundles import bundle_argument, dry_run_option, print_bundle, print_changes, read_bundle_file
from cassiopeia.cli.options import CA_KEY_ALGORITHMS, config_option, write_out

_USUAL_ALGORITHM = "RSA-4096"
_HIGHEST_SIGNER_ID = 126


@click.command(short_help="Make a signer's machine; its bundle brings the CAs.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--id",
    "signer_id",
    type=click.IntRange(1, _HIGHEST_SIGNER_ID),
    required=True,
    help="The number of this signer in the hierarchy.",
)
@click.option(
    "--listen", required=True, metavar="ADDRESS", help="Its end of the line: serial:/dev/ttyS0, tcp:IP:PORT, unix:PATH."
)
@click.option(
    "--bundle-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="bundle-key.pem of the ceremony; without it, put that into DIRECTORY before a bundle is installed.",
)
@click.option(
    "--client",
    "client_link",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="link.pem of its client; without it, put that into DIRECTORY as peers/client.pem.",
)
def init(directory: Path, signer_id: int, listen: str, bundle_key: Path | None, client_link: Path | None) -> None:
    """Make a signer in DIRECTORY, which must be new or empty, on the machine where it will stay.

    Its keys are made here and never leave: of the line, of the journal, the one to which bundles are sealed, and the
    passphrase of the CA keys. CAs, profiles and pinned keys come with a bundle: `cassiopeia signer install`.
    """
    from cassiopeia.sealing import sealing_fingerprint  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.signer.machine import SEALING_PUBLIC, SignerFiles, make_signer  # noqa: PLC0415 - as above

    given = SignerFiles(
        signer_id=signer_id,
        listen=listen,
        bundle_key=None if bundle_key is None else bundle_key.read_bytes(),
        peers={} if client_link is None else {"client": client_link.read_bytes()},
    )
    make_signer(directory, given)
    fingerprint = sealing_fingerprint((directory / SEALING_PUBLIC).read_bytes())
    click.echo(f"Made signer {signer_id} in {directory}. Its keys stay here; carry away, none of it secret:")
    click.echo("  link.pem, journal.pem  to its client (cassiopeia client init --signer ... --journal ...)")
    click.echo("  sealing.pem            to the ceremony, as the sealing_key of this signer")
    click.echo(f"SHA-256 of the sealing key: {fingerprint}")
    click.echo("Then bring here:")
    if client_link is None:
        click.echo("  link.pem of the client       as peers/client.pem")
    if bundle_key is None:
        click.echo("  bundle-key.pem of the ceremony")
    click.echo(f"  the signer's bundle          cassiopeia signer install BUNDLE -c {directory / 'signer.toml'}")


@click.command(short_help="Install what a ceremony made for this signer.")
@config_option
@bundle_argument
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="signer-N.passphrase, which came with the bundle, unless it is sealed in it.",
)
@dry_run_option
def install(config_path: Path, bundle: Path, passphrase_file: Path | None, dry_run: bool) -> None:
    """Verify BUNDLE, show what it changes, and put it in force at once, or after any error change nothing.

    Every key is proved against its certificate, and encrypted with the passphrase of this signer. A signer that runs
    takes the bundle over without a restart. The user who runs the signer has to install.
    """
    from cassiopeia.config import load_signer_config  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.signer import installing  # noqa: PLC0415 - as above

    config = load_signer_config(config_path)
    octets = read_bundle_file(bundle)
    opened = installing.open_signer_bundle(config, octets)
    print_bundle(opened, octets)
    # 1. Everything is verified; with --dry-run that is all.
    staged = None
    with _secret(passphrase_file) as passphrase:
        if dry_run:
            is_in_force = installing.rehearse(config, octets, passphrase=passphrase)
        else:
            staged = installing.stage(config, octets, passphrase=passphrase)
            is_in_force = staged.is_in_force
    if is_in_force:
        click.echo("It is installed already; nothing was changed.")
        return
    # 2. What it changes, before it does.
    click.echo("Everything in it is in order. It changes:")
    print_changes(installing.differences(config, opened))
    # 3. The switch.
    if staged is None:
        click.echo("Nothing was changed: this was a dry run.")
    else:
        installing.activate(config, staged)
        click.echo(f"Installed in {staged.directory}; a signer that runs takes it over.")
        if passphrase_file is not None:
            click.echo(f"{passphrase_file} is of no use any more: destroy it.")


@contextmanager
def _secret(path: Path | None) -> Iterator[bytearray | None]:
    """What is in the file, without blanks around it; overwritten in memory afterwards."""
    from cassiopeia.secret_source import wipe  # noqa: PLC0415 - `--help` must not load the crypto library

    if path is None:
        yield None
        return
    with path.open("rb", buffering=0) as stream:
        whole = bytearray(path.stat().st_size)
        stream.readinto(whole)
    secret = whole.strip()
    try:
        yield secret
    finally:
        wipe(whole)
        wipe(secret)


@click.command(short_help="Make a sub-CA's key here, and a request for its certificate.")
@config_option
@click.argument("name")
@click.option(
    "--key-algorithm",
    type=click.Choice(CA_KEY_ALGORITHMS),
    metavar="ALGORITHM",
    default=_USUAL_ALGORITHM,
    show_default=True,
    help=f"The kind of key that the hierarchy wants: {', '.join(CA_KEY_ALGORITHMS)}.",
)
@click.option(
    "--key-uri",
    default="",
    metavar="URI",
    help="Where the key is to be: pkcs11:token=LABEL;object=NAME, or file:PATH (relative to signer.toml).",
)
@click.option("--existing", is_flag=True, help="Make no key: ask for the certificate of the one that is there.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the request here, not to stdout.")
@click.pass_context
def csr(
    context: click.Context,
    config_path: Path,
    name: str,
    key_algorithm: str,
    key_uri: str,
    existing: bool,
    out: Path | None,
) -> None:
    """Make the key of the sub-CA NAME (as assured_2027_1) in this signer, where it stays.

    It lies in keys/NAME.key beside signer.toml, or where that file or --key-uri says. The request goes to the ceremony:
    cassiopeia ceremony extend --csr NAME=FILE. Its bundle brings the certificate.
    """
    from cassiopeia.config import load_signer_config  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.signer.key_birth import make_request, request_existing  # noqa: PLC0415 - as above

    is_chosen = context.get_parameter_source("key_algorithm") is click.core.ParameterSource.COMMANDLINE
    if existing and is_chosen:
        raise click.UsageError("Give either --existing or --key-algorithm: a key that is there has its kind.")
    config = load_signer_config(config_path)
    if existing:
        made = request_existing(config, name, key_uri=key_uri)
    else:
        made = make_request(config, name, key_algorithm=key_algorithm, key_uri=key_uri)
    click.echo(f"The key of {name} is {made.key}.", err=True)
    if made.configuration:
        click.echo(
            f"Before the bundle with its certificate comes, write into {config.source}:\n\n{made.configuration}",
            err=True,
        )
    write_out(made.request, out)
