"""`cassiopeia crl`: the certificate revocation lists: what the store has, and what the world gets."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cassiopeia.cli.options import (
    config_option,
    json_option,
    log_format_option,
    print_fields,
    print_json,
    print_table,
    set_up_logging,
    show_time,
    timeout_option,
    verbose_option,
    write_out,
)
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.store.database import Store
    from cassiopeia.store.records import CrlRecord, ServedCrl

_POLL_S = 0.1


@click.group()
def crl() -> None:
    """Show, fetch, renew and watch certificate revocation lists."""


@crl.command()
@config_option
@click.argument("authority", metavar="[SUB-CA]", required=False)
@json_option
def show(config_path: Path, authority: str | None, as_json: bool) -> None:
    """Show one CRL, or a line for each."""
    from cassiopeia.core.crl import entry_serials, read_crl  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.records import serial_text  # noqa: PLC0415 - as above

    with _open(config_path) as store:
        if authority is None:
            headers = store.crls.headers()
            if as_json:
                print_json([
                    {"authority": each.authority, "number": each.number, "this_update": each.this_update,
                     "next_update": each.next_update, "octets": each.octets} for each in headers
                ])  # fmt: skip
                return
            print_table(
                ("SUB-CA", "NUMBER", "SIGNED", "VALID UNTIL", "OCTETS"),
                [
                    (each.authority, str(each.number), show_time(each.this_update), show_time(each.next_update),
                     str(each.octets)) for each in headers
                ],
            )  # fmt: skip
            return
        record = _get(store, authority)
    serials = [serial_text(serial) for serial in entry_serials(read_crl(record.der).entries)]
    if as_json:
        print_json(
            {
                "authority": record.authority,
                "number": record.number,
                "this_update": record.this_update,
                "next_update": record.next_update,
                "revoked": serials,
            }
        )
        return
    left = record.next_update - dt.datetime.now(dt.UTC)
    print_fields(
        {
            "sub-CA": record.authority,
            "number": str(record.number),
            "signed": show_time(record.this_update),
            "valid until": f"{show_time(record.next_update)} ({left.total_seconds() / 3600:.0f} hours left)",
            "octets": str(len(record.der)),
            "revoked": str(len(serials)),
        }
    )
    for serial in serials:
        click.echo(f"  {serial}")


@crl.command()
@config_option
@click.argument("authority", metavar="SUB-CA")
@click.option("--format", "form", type=click.Choice(["pem", "der"]), default="pem", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of standard output.")
def get(config_path: Path, authority: str, form: str, out: Path | None) -> None:
    """Fetch the current CRL of a sub-CA."""
    from cryptography import x509  # noqa: PLC0415 - `--help` must be quick
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415 - as above

    with _open(config_path) as store:
        der = _get(store, authority).der
    write_out(der if form == "der" else x509.load_der_x509_crl(der).public_bytes(Encoding.PEM), out)


@crl.command()
@config_option
@click.argument("authority", metavar="SUB-CA")
@click.option("--wait/--no-wait", default=False, help="Wait until the new CRL is there.")
@timeout_option
def renew(config_path: Path, authority: str, wait: bool, timeout_s: float) -> None:
    """Have the CRL of a sub-CA signed anew, now.

    Nobody has to: signer and client do it each day. It shows that the way is open, and gives a CRL that was lost.
    """
    from cassiopeia.config import load_authorities, load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    config = load_client_config(config_path)
    names = [each.authority.name for each in load_authorities(config.authorities)]
    if authority not in names:
        raise OperatorError(f"{config.authorities}: no sub-CA is called {authority!r}; there are: {', '.join(names)}")
    with open_store(config.store_url) as store:
        before = store.crls.get(authority)
        queued = store.queue.request_crl(authority, now=dt.datetime.now(dt.UTC))
        deadline = time.monotonic() + timeout_s
        while wait:
            record = store.crls.get(authority)
            if record is not None and record != before:
                click.echo(
                    f"{authority}: number {record.number} is signed, valid until {show_time(record.next_update)}"
                )
                return
            if time.monotonic() > deadline:
                raise OperatorError(
                    f"the CRL of {authority} was not signed anew within {timeout_s:g} seconds; the wish is not lost: "
                    "see `cassiopeia status`"
                )
            time.sleep(_POLL_S)
    click.echo(f"{authority}: {'a new signature is queued' if queued else 'a new signature is under way already'}")


@crl.command(short_help="Fetch every CRL as a stranger would, and compare.")
@config_option
@click.option("--once", is_flag=True, help="Look once, and exit with status 1 if something is not as it should be.")
@click.option("--every", "every_m", default=15, show_default=True, type=click.IntRange(1, 1440), metavar="MINUTES",
              help="Look so often.")  # fmt: skip
@json_option
@verbose_option
@log_format_option
def watch(config_path: Path, once: bool, every_m: int, as_json: bool, verbose: bool, log_format: str) -> None:
    """Fetch every CRL over HTTP, as a stranger would, and compare it with what should be served.

    The URLs are those that stand in certificates, of sub-CAs and of the CAs above them. `cassiopeia status` says
    what was seen last. Run it where the world is outside: not behind the publisher's own cache or name server.
    """
    from cassiopeia.client.crl_watch import CrlWatch  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    if as_json and not once:
        raise click.UsageError("--json goes with --once.")
    config = load_client_config(config_path)
    with open_store(config.store_url) as store:
        watcher = CrlWatch(config, store)
        if not once:
            set_up_logging(verbose=verbose, log_format=log_format)
            watcher.run(every_s=every_m * 60)
            return
        seen = watcher.look()
    if as_json:
        print_json([_served_document(each) for each in seen])
    else:
        print_table(("CA", "STATE", "WHAT IS SERVED", "URL"), [(e.authority, e.state, e.what, e.url) for e in seen])
    if any(each.state != "served" for each in seen):
        click.get_current_context().exit(1)


def _served_document(seen: ServedCrl) -> dict[str, object]:
    return {
        "authority": seen.authority,
        "url": seen.url,
        "state": seen.state,
        "what": seen.what,
        "number": seen.number,
        "this_update": seen.this_update,
        "next_update": seen.next_update,
    }


def _get(store: Store, authority: str) -> CrlRecord:
    record = store.crls.get(authority)
    if record is None:
        raise OperatorError(f"there is no CRL of {authority!r} yet; `cassiopeia crl show` lists those that are there")
    return record


def _open(config_path: Path) -> Store:
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    return open_store(load_client_config(config_path).store_url)
