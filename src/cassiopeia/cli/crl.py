"""`cassiopeia crl`: the certificate revocation lists."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cassiopeia.cli.options import (
    config_option,
    json_option,
    print_fields,
    print_json,
    print_table,
    show_time,
    write_out,
)
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.store.database import Store
    from cassiopeia.store.records import CrlRecord


@click.group()
def crl() -> None:
    """Show and fetch certificate revocation lists."""


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


def _get(store: Store, authority: str) -> CrlRecord:
    record = store.crls.get(authority)
    if record is None:
        raise OperatorError(f"there is no CRL of {authority!r} yet; `cassiopeia crl show` lists those that are there")
    return record


def _open(config_path: Path) -> Store:
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    return open_store(load_client_config(config_path).store_url)
