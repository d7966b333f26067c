"""`cassiopeia ceremony run`, `extend` and `crl`: holding a ceremony, and going on from the last one."""

from __future__ import annotations

import datetime as dt
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from cassiopeia.cli.ceremony_safe import open_offline, safe_options
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.ceremony.sub_ca_request import SubCaRequest
    from cassiopeia.ceremony.writing import Held, Split

# As in `core.crl`, which `--help` must not load; a test holds them together.
REASONS: Final = (
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "privilegeWithdrawn",
    "aACompromise",
)
_MOST_SHARES: Final = 16

_FILE = click.Path(path_type=Path, dir_okay=False)
hierarchy_argument = click.argument("hierarchy_file", metavar="FILE", type=_FILE)
out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="The new directory for all that is made; nothing is ever overwritten.",
)
csr_option = click.option(
    "--csr",
    "requests",
    multiple=True,
    metavar="NAME=FILE",
    help="Certify the key that this request brings, from `cassiopeia signer csr`, as sub-CA NAME; once for each.",
)
shares_option = click.option(
    "--shares",
    type=click.IntRange(2, _MOST_SHARES),
    help="Split the safe's passphrase into so many shares, and write it nowhere.",
)
threshold_option = click.option(
    "--threshold", type=click.IntRange(2, _MOST_SHARES), help="So many of the shares open the safe."
)


@click.command(short_help="Make a whole hierarchy: keys, certificates, CRLs, bundles.")
@hierarchy_argument
@out_option
@shares_option
@threshold_option
@csr_option
def run(hierarchy_file: Path, out: Path, shares: int | None, threshold: int | None, requests: tuple[str, ...]) -> None:
    """Make the hierarchy of FILE, after a rehearsal with keys that are thrown away.

    That is: every key and certificate, the first CRLs, signed bundles for the safe, for each signer, for clients and
    for publication, and a transcript to sign. Everything is read again from its file before --out is there. See first
    what `cassiopeia ceremony plan FILE` says.
    """
    from cassiopeia.ceremony import holding  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.ceremony.declaration import load_declaration  # noqa: PLC0415 - as above

    with ended_by_signals():
        held = holding.run(
            load_declaration(hierarchy_file),
            out,
            split_into=split_of(shares, threshold),
            requests=read_requests(requests),
            clock=now,
            say=click.echo,
        )
    report(held)


@click.command(short_help="Make sub-CAs for later periods.")
@click.argument("hierarchy_file", metavar="[FILE]", type=_FILE, required=False)
@safe_options
@click.option("--period", metavar="YEAR-NUMBER", required=True, help="The first period, as 2027-1.")
@click.option("--periods", type=click.IntRange(1, 24), help="So many periods, instead of what the hierarchy says.")
@csr_option
@out_option
def extend(
    hierarchy_file: Path | None,
    offline: Path,
    passphrase_file: Path | None,
    share_files: Sequence[Path],
    typed: int,
    period: str,
    periods: int | None,
    requests: tuple[str, ...],
    out: Path,
) -> None:
    """Make what the hierarchy of FILE wants from a period on, and is not there yet.

    FILE may have changed since the last ceremony: more spares, other families, signers, profiles and pinned keys, but
    the same root. Without it, the hierarchy is that of the last ceremony. The CRLs of the offline CAs are signed anew
    as well.
    """
    from cassiopeia.ceremony import holding  # noqa: PLC0415 - as above
    from cassiopeia.ceremony.calendar import period_start  # noqa: PLC0415 - as above
    from cassiopeia.ceremony.declaration import load_declaration  # noqa: PLC0415 - as above

    with ended_by_signals():
        opened = open_offline(offline, passphrase_file=passphrase_file, share_files=share_files, typed=typed)
        declaration = opened.safe.declaration if hierarchy_file is None else load_declaration(hierarchy_file)
        held = holding.extend_hierarchy(
            opened,
            declaration,
            out,
            first=period_start(period, declaration.hierarchy.time),
            periods=periods,
            requests=read_requests(requests),
            clock=now,
            say=click.echo,
        )
    report(held)


@click.command(short_help="Sign the CRLs of the offline CAs anew; revoke a CA.")
@safe_options
@click.option("--revoke", multiple=True, metavar="NAME", help="Revoke this CA, and retire all that is below it.")
@click.option(
    "--reason",
    type=click.Choice(REASONS),
    metavar="REASON",
    help=f"Why, as RFC 5280 5.3.1 calls it; without it, nothing is said: {', '.join(REASONS)}.",
)
@out_option
def crl(
    offline: Path,
    passphrase_file: Path | None,
    share_files: Sequence[Path],
    typed: int,
    revoke: tuple[str, ...],
    reason: str | None,
    out: Path,
) -> None:
    """Sign the CRLs of root and structure CAs anew, with CAs on them that are trusted no more.

    A revoked sub-CA, and each below a revoked structure CA, is retired: it signs no certificate any more, and its own
    CRL goes on. There are new bundles for the machines then, which have to be installed on them.
    """
    from cassiopeia.ceremony import holding  # noqa: PLC0415 - as above

    if reason is not None and not revoke:
        raise click.UsageError("--reason says why a CA is revoked: name it with --revoke.")
    with ended_by_signals():
        opened = open_offline(offline, passphrase_file=passphrase_file, share_files=share_files, typed=typed)
        held = holding.renew(
            opened, out, revoke=tuple(dict.fromkeys(revoke)), reason=reason or "", clock=now, say=click.echo
        )
    report(held)


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def split_of(shares: int | None, threshold: int | None) -> Split | None:
    from cassiopeia.ceremony.writing import Split  # noqa: PLC0415 - as above

    if (shares is None) != (threshold is None):
        raise click.UsageError("Give both --shares and --threshold, as --shares 5 --threshold 3.")
    return None if shares is None or threshold is None else Split(shares=shares, threshold=threshold)


def read_requests(given: Sequence[str]) -> Mapping[str, SubCaRequest]:
    """NAME=FILE of each --csr."""
    from cassiopeia.ceremony.sub_ca_request import read_request  # noqa: PLC0415 - as above

    return {name: read_request(path) for name, path in named_files(given, option="--csr").items()}


def named_files(given: Sequence[str], *, option: str) -> dict[str, Path]:
    """NAME=FILE, each name once."""
    named: dict[str, Path] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise click.UsageError(f"{option} {text!r}: write NAME=FILE.")
        if name in named:
            raise click.UsageError(f"{option}: {name} is given twice.")
        named[name] = Path(file)
    return named


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind what is under way, so that nothing is left of it."""
    before = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _: object) -> NoReturn:
    raise OperatorError(
        f"ended by {signal.Signals(number).name}: nothing was made, unless the whole directory is there; run the same "
        "command again"
    )


def report(held: Held) -> None:
    """What was made, where it is, and where each part of it belongs."""
    from cassiopeia.ceremony import writing  # noqa: PLC0415 - as above
    from cassiopeia.ceremony.safe import OFFLINE_NAME, PASSPHRASE_NAME, SHARES_DIRECTORY  # noqa: PLC0415 - as above

    record = held.outcome.safe.record
    lines = [(OFFLINE_NAME, "the safe: keys of the offline CAs; destroy older copies")]
    if held.rehearsed:
        lines.append(
            (f"{SHARES_DIRECTORY}/", f"what opens it ({len(held.rehearsed)} choices were tried): one for each person")
        )
    elif record.shares is None:
        lines.append((PASSPHRASE_NAME, "what opens it: keep it elsewhere"))
    for each in held.signers:
        name = writing.signer_bundle_name(each.signer_id)
        lines.append((name, f"for signer {each.signer_id}: cassiopeia signer install {name}"))
        if each.passphrase is not None and not each.is_sealed:
            lines.append((writing.signer_passphrase_name(each.signer_id), "opens its keys; carry it by another way"))
    if held.outcome.for_machines:
        lines.append(
            (writing.CLIENT_NAME, f"for clients and validators: cassiopeia client install {writing.CLIENT_NAME}")
        )
    if held.outcome.crls:
        lines.append((writing.PUBLICATION_NAME, "CRLs and certificates to publish; the same lies in public/"))
    if record.awaited:
        names = ", ".join(each.name for each in record.awaited)
        lines.append(
            (f"{writing.REQUESTS_DIRECTORY}/", f"for the holder of the root's key, who has to certify {names}")
        )
    lines.append(("transcript.txt", "what was done, with lines to sign; transcript.html says the same"))
    click.echo(f"Ceremony {record.number} is in {held.directory}:")
    width = max(len(name) for name, _ in lines)
    for name, what in lines:
        click.echo(f"  {name.ljust(width)}  {what}")
    if held.outcome.certified:
        click.echo(f"New CAs: {', '.join(held.outcome.certified)}")
    click.echo(f"SHA-256 of the root certificate: {held.root_fingerprint}")
