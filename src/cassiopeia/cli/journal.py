"""`cassiopeia journal`: what the signer did, read and proved without it."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from cassiopeia.cli.journal_recover import recover
from cassiopeia.cli.journal_source import open_source, read_public_key
from cassiopeia.cli.options import json_option, print_json, visible, write_out
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.journal.entry import JournalEntry
    from cassiopeia.journal.readable import Facts

_F = TypeVar("_F", bound=Callable[..., Any])


def _unless_file(context: click.Context, parameter: click.Parameter, value: Path | None) -> Path | None:
    """A configuration that only the environment names gives way to --file."""
    from_environment = context.get_parameter_source(str(parameter.name)) is ParameterSource.ENVIRONMENT
    return None if from_environment and context.params.get("file") else value


def _source_options(command: _F) -> _F:
    for option in (
        click.option("--signer", "signer_id", type=click.IntRange(1, 127), help="Of a client's copies, this signer's."),
        click.option(
            "--file",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            help="Read this exported journal instead.",
        ),
        click.option(
            "-c",
            "--config",
            "config_path",
            type=click.Path(path_type=Path, dir_okay=False, exists=True),
            envvar="CASSIOPEIA_CONFIG",
            callback=_unless_file,
            help="signer.toml (the signer stands still) or client.toml (its copy); or set CASSIOPEIA_CONFIG.",
        ),
    ):
        command = option(command)
    return command


_key_option = click.option(
    "--key",
    "key_paths",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Trust this journal key (public, PEM) instead of those that the configuration names.",
)


@click.group()
def journal() -> None:
    """Show, verify and export the signer's journal, and prove what is in it.

    Reads the signer's own journal while the signer stands still (-c signer.toml), the client's copy at any time
    (-c client.toml), or an exported file (--file).
    """


journal.add_command(recover)


@journal.command()
@_source_options
@click.option("--serial", default="", help="Only what is about the certificate whose serial number begins like this.")
@click.option("--request", default="", help="Only what is about the request whose id begins like this.")
@click.option("--kind", "kinds", multiple=True, help="Only entries of this kind, as intent, result, crl.")
@click.option("--from", "first", type=click.DateTime(), metavar="TIME", help="Only from this time on (UTC).")
@click.option("--to", "last", type=click.DateTime(), metavar="TIME", help="Only until this time (UTC).")
@json_option
def show(
    config_path: Path | None,
    file: Path | None,
    signer_id: int | None,
    serial: str,
    request: str,
    kinds: tuple[str, ...],
    first: dt.datetime | None,
    last: dt.datetime | None,
    as_json: bool,
) -> None:
    """Show entries, one a line, the newest last. Judges nothing: `verify` does."""
    from cassiopeia.journal import entry as entries  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.journal import readable  # noqa: PLC0415 - as above

    if unknown := set(kinds) - set(entries.BODIES):
        raise click.UsageError(
            f"there are no entries of the kind {unknown.pop()!r}; kinds: {', '.join(entries.BODIES)}"
        )
    chosen = _Chosen(
        serial=_hexadecimal(serial, "--serial"),
        request=_hexadecimal(request, "--request"),
        kinds=frozenset(kinds),
        first=None if first is None else first.replace(tzinfo=dt.UTC),
        last=None if last is None else last.replace(tzinfo=dt.UTC),
    )
    documents = []
    for log in open_source(config_path, file, signer_id=signer_id).logs():
        entry = entries.decode_entry(log.entry)
        said = readable.facts(entry, entries.decode_body(entry), log.parts)
        if not chosen.takes(entry, said):
            continue
        if as_json:
            documents.append(_document(entry, said))
        else:
            click.echo(visible(readable.line(entry, said)))
    if as_json:
        print_json(documents)


@journal.command(short_help="Replay everything, and compare it with what there is.")
@_source_options
@_key_option
@click.option(
    "--certificates",
    "certificate_paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Compare these certificates too (PEM or DER; a directory: all in it).",
)
@click.option(
    "--crl",
    "crl_paths",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Compare these CRLs too (PEM or DER; a directory: all in it).",
)
@click.option("--quick", is_flag=True, help="Do not verify the signatures of certificates and CRLs again.")
def verify(
    config_path: Path | None,
    file: Path | None,
    signer_id: int | None,
    key_paths: tuple[Path, ...],
    certificate_paths: tuple[Path, ...],
    crl_paths: tuple[Path, ...],
    quick: bool,
) -> None:
    """Replay everything, and compare it with signed heads, certificates and CRLs.

    Says what was checked. If anything is wrong, says at which entry, and ends with status 1.
    """
    from cassiopeia.cli.journal_check import check  # noqa: PLC0415 - as above

    source = open_source(config_path, file, signer_id=signer_id, keys=key_paths)
    report = check(source, certificates=certificate_paths, crls=crl_paths, deep=not quick)
    for line in report.lines:
        click.echo(visible(line))
    if report.wrong:
        for line in report.wrong:
            click.echo(visible(f"WRONG     {line}"))
        raise OperatorError(f"{source.name}: {report.verdict}")
    click.echo("Nothing is wrong.")


@journal.command()
@_source_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of standard output.")
def export(config_path: Path | None, file: Path | None, signer_id: int | None, out: Path | None) -> None:
    """Write the whole journal as text, one JSON document a line.

    It has all that is about persons, as far as that was not removed. From a client's copy it has all that a lost signer
    can be made again from (`cassiopeia signer rebuild`).
    """
    from cassiopeia.journal.replay import Replay  # noqa: PLC0415 - as above
    from cassiopeia.journal.transcript import encode_item  # noqa: PLC0415 - as above

    source = open_source(config_path, file, signer_id=signer_id)
    items = map(encode_item, source.items(Replay(deep=False)))
    if out is None:
        sys.stdout.buffer.writelines(items)
        return
    _write_new(out, items)
    click.echo(f"{out}: written")


@journal.command(short_help="Prove what the journal says of a certificate.")
@click.argument("serial")
@_source_options
@click.option("--without-parts", is_flag=True, help="Leave out what is about persons: names, keys, reasons.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of standard output.")
def prove(
    serial: str,
    config_path: Path | None,
    file: Path | None,
    signer_id: int | None,
    without_parts: bool,
    out: Path | None,
) -> None:
    """Prove what the journal says of the certificate with this SERIAL number (its beginning is enough).

    The proof can be checked with the signer's public key alone: by `cassiopeia journal check-proof`, or by hand as
    docs/journal.md says.
    """
    from cassiopeia.cli.journal_check import prove as make_proof  # noqa: PLC0415 - as above

    digits = _hexadecimal(serial, "SERIAL")
    source = open_source(config_path, file, signer_id=signer_id)
    write_out(make_proof(source, digits, without_parts=without_parts), out)


@journal.command("check-proof")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--key",
    "key_paths",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The signer's journal key (public, PEM).",
)
def check_proof(file: Path, key_paths: tuple[Path, ...]) -> None:
    """Check a proof, and show what it proves."""
    from cassiopeia.journal import entry as entries  # noqa: PLC0415 - as above
    from cassiopeia.journal import proof as proofs  # noqa: PLC0415 - as above
    from cassiopeia.journal import readable  # noqa: PLC0415 - as above

    with file.open("rb") as stream:
        proof = proofs.read_proof(stream.read(proofs.MAXIMUM_OCTETS + 1))
    head, shown = proofs.check_proof(proof, {read_public_key(each) for each in key_paths})
    for entry, proved in zip(shown, proof.entries, strict=True):
        said = readable.facts(entry, entries.decode_body(entry), proved.log.parts)
        click.echo(visible(readable.line(entry, said)))
    click.echo(
        f"Proved: these are entries of the journal of signer {head.signer_id}, signed over {head.size} entries on "
        f"{readable.moment(head.time)}."
    )


@journal.command("rotate-key")
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="signer.toml; the signer stands still.",
)
def rotate_key(config_path: Path) -> None:
    """Sign the journal with a new key from now on. The old one vouches for it, so clients need nothing.

    The key file that signer.toml names is replaced. Prints the new public key, for whoever keeps it.
    """
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - as above
        Encoding,
        PublicFormat,
    )

    from cassiopeia.config import load_signer_config  # noqa: PLC0415 - as above
    from cassiopeia.core.ed25519 import load_public_key  # noqa: PLC0415 - as above
    from cassiopeia.signer.key_rotation import rotate_key as rotate  # noqa: PLC0415 - as above

    config = load_signer_config(config_path)
    key = load_public_key(rotate(config, now=dt.datetime.now(dt.UTC).replace(microsecond=0)))
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    click.echo(f"The journal's key is another one now ({config.journal_key}). Its public half:")
    click.echo(pem, nl=False)
    click.echo(
        "Clients follow by themselves. Add it to [journal] keys of each client.toml at the next occasion, and make a "
        "new backup of the signer's directory."
    )


class _Chosen:
    """The filters of `show`. What is about a certificate or a request follows from its intent, which comes first."""

    def __init__(
        self,
        *,
        serial: str,
        request: str,
        kinds: frozenset[str],
        first: dt.datetime | None,
        last: dt.datetime | None,
    ) -> None:
        self._serial, self._request, self._kinds = serial, request, kinds
        self._first, self._last = first, last
        self._intents: set[object] = set()

    def takes(self, entry: JournalEntry, said: Facts) -> bool:
        about = self._is_about(entry, said)
        return (
            about
            and (not self._kinds or entry.kind in self._kinds)
            and (self._first is None or entry.time >= self._first)
            and (self._last is None or entry.time <= self._last)
        )

    def _is_about(self, entry: JournalEntry, said: Facts) -> bool:
        if not self._serial and not self._request:
            return True
        serials, requests = said.get("serials", []), said.get("answers", [])
        found = bool(self._serial) and any(
            str(each).startswith(self._serial)
            for each in (said.get("serial", ""), *(serials if isinstance(serials, list) else ()))
        )
        found = found or (
            bool(self._request)
            and any(
                str(each).startswith(self._request)
                for each in (said.get("request", ""), *(requests if isinstance(requests, list) else ()))
            )
        )
        if found and entry.kind == "intent":
            self._intents.add(entry.index)
        return found or said.get("intent") in self._intents


def _document(entry: JournalEntry, said: Facts) -> dict[str, object]:
    from cassiopeia.journal import readable  # noqa: PLC0415 - as above

    return {"index": entry.index, "time": readable.moment(entry.time), "kind": entry.kind, **said}


def _hexadecimal(text: str, option: str) -> str:
    digits = text.lower().replace(":", "").removeprefix("0x")
    if not all(each in "0123456789abcdef" for each in digits):
        raise click.UsageError(f"{option} is hexadecimal, as `cassiopeia journal show` prints it")
    return digits


def _write_new(path: Path, items: Iterator[bytes]) -> None:
    """All of it or nothing: an export that was cut short must not look like one."""
    from cassiopeia.files import new_file  # noqa: PLC0415 - as above

    with new_file(path) as stream:
        stream.writelines(items)
