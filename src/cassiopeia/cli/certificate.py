"""`cassiopeia certificate`: what was issued, and revoking it."""

from __future__ import annotations

import datetime as dt
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cassiopeia.cli.options import (
    config_option,
    json_option,
    print_fields,
    print_json,
    print_table,
    show_time,
    timeout_option,
    write_out,
)
from cassiopeia.cli.passphrase import read_passphrase
from cassiopeia.cli.revocation_options import REASONS, parse_past_day
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.config import ClientConfig
    from cassiopeia.store.database import Store
    from cassiopeia.store.records import CertificateRecord

_POLL_S = 0.1


@click.group()
def certificate() -> None:
    """List, show, fetch and revoke certificates."""


@certificate.command(name="list")
@config_option
@click.option("--account", help="Only those of this account.")
@click.option("--profile", help="Only those of this profile.")
@click.option("--authority", metavar="SUB-CA", help="Only those that this sub-CA signed.")
@click.option("--revoked", is_flag=True, help="Only revoked ones.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), metavar="NUMBER", help="So many at most."
)
@click.option("--after", type=int, metavar="NUMBER", help="Next page: the number that the last page ended with.")
@json_option
def list_certificates(
    config_path: Path,
    account: str | None,
    profile: str | None,
    authority: str | None,
    revoked: bool,
    limit: int,
    after: int | None,
    as_json: bool,
) -> None:
    """List certificates, newest first."""
    with _open(config_path)[1] as store:
        page = store.certificates.page(
            account=account,
            profile=profile,
            authority=authority,
            revocation_state="revoked" if revoked else None,
            limit=limit,
            after=after,
        )
    if as_json:
        print_json({"certificates": [_document(each) for each in page.items], "next": page.next_page})
        return
    print_table(
        ("SERIAL NUMBER", "SUB-CA", "PROFILE", "ACCOUNT", "VALID UNTIL", "STATE", "SUBJECT"),
        [
            (
                each.serial_number,
                each.authority,
                each.profile,
                each.account,
                show_time(each.not_after),
                _state(each),
                each.subject,
            )
            for each in page.items
        ],
    )
    if page.next_page is not None:
        click.echo(f"More: --after {page.next_page}")


@certificate.command(short_help="Show one certificate.")
@config_option
@click.argument("serial")
@json_option
def show(config_path: Path, serial: str, as_json: bool) -> None:
    """Show the certificate with this serial number (hexadecimal; the beginning is enough)."""
    with _open(config_path)[1] as store:
        record = store.certificates.look_up(serial)
    if as_json:
        print_json(_document(record))
        return
    print_fields(
        {
            "serial number": record.serial_number,
            "sub-CA": record.authority,
            "subject": record.subject,
            "state": _state(record),
            "valid from": show_time(record.not_before),
            "valid until": show_time(record.not_after),
            "issued": show_time(record.issued_at),
            "revoked": show_time(record.revoked_at),
            "reason": _reason(record),
            "invalid since": show_time(record.invalidity_date),
            "profile": record.profile,
            "account": record.account,
            "request": record.request_id,
        }
    )


@certificate.command()
@config_option
@click.argument("serial")
@click.option("--format", "form", type=click.Choice(["pem", "der", "chain"]), default="pem", show_default=True,
              help="chain: PEM with the CAs up to, without, the root.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of standard output.")
def get(config_path: Path, serial: str, form: str, out: Path | None) -> None:
    """Fetch a certificate."""
    config, store = _open(config_path)
    with store:
        record = store.certificates.look_up(serial)
    if form == "der":
        write_out(record.der, out)
        return
    certificates = [record.der, *(_chain(config, record.authority) if form == "chain" else [])]
    write_out("".join(ssl.DER_cert_to_PEM_cert(each) for each in certificates).encode(), out)


@certificate.command()
@config_option
@click.argument("serial")
@click.option("--reason", type=click.Choice(list(REASONS), case_sensitive=False), metavar="REASON",
              help=f"One of: {', '.join(REASONS)} (the default is the first).")  # fmt: skip
@click.option("--key", "key_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="The certificate's own private key (PEM), which proves that it is compromised: no cap holds this "
              "up. It is neither stored nor sent.")  # fmt: skip
@click.option("--passphrase-file", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE",
              help="The passphrase of that key, instead of asking.")  # fmt: skip
@click.option("--proof", "proof_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Such a proof, made elsewhere: the signature alone (see the wire specification).")  # fmt: skip
@click.option("--invalid-since", callback=parse_past_day, metavar="DATE",
              help="Since when the key is known or suspected to be bad, YYYY-MM-DD.")  # fmt: skip
@click.option("--wait/--no-wait", default=False, help="Wait until the CRL that shows it is published.")
@timeout_option
@json_option
def revoke(
    config_path: Path,
    serial: str,
    reason: str | None,
    key_file: Path | None,
    passphrase_file: Path | None,
    proof_file: Path | None,
    invalid_since: dt.datetime | None,
    wait: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Revoke a certificate, for ever. The CRL follows within a second or so.

    A revocation that was set aside is queued again, as it was first asked for. With the compromised key itself
    (--key), or what it has signed (--proof), the reason is keyCompromise, and one that waits already goes on at once.
    """
    from cassiopeia.client import compromised_key  # noqa: PLC0415 - `--help` must be quick

    if (key_file or proof_file) and reason not in {None, "keyCompromise"}:
        raise click.UsageError("--key and --proof say keyCompromise by themselves: leave --reason out.")
    if key_file and proof_file:
        raise click.UsageError("give --key or --proof, not both.")
    now = dt.datetime.now(dt.UTC)
    with _open(config_path)[1] as store:
        authority = proof = None
        if key_file or proof_file:
            found = store.certificates.look_up(serial)
            serial, authority, reason = found.serial_number, found.authority, "keyCompromise"
            if key_file:
                proof = compromised_key.make_proof(key_file, found.der, lambda: read_passphrase(passphrase_file))
            elif proof_file:
                proof = compromised_key.read_proof(proof_file, found.der)
        record = store.certificates.request_revocation(
            serial,
            now=now,
            authority=authority,
            reason=REASONS[reason or "unspecified"],
            invalidity_date=invalid_since,
            proof=proof,
        )
        again = store.certificates.retry_revocation(record, now=now)
        deadline = time.monotonic() + timeout_s
        while wait and record.revoked_at is None:
            if time.monotonic() > deadline:
                raise OperatorError(
                    f"the revocation of {record.serial_number} still waits after {timeout_s:g} seconds; it is not "
                    "lost: see `cassiopeia status`"
                )
            time.sleep(_POLL_S)
            record = store.certificates.look_up(record.serial_number, authority=record.authority)
    if as_json:
        print_json({**_document(record), "queued_again": again})
    elif record.revoked_at is None:
        queued = "was set aside, and is queued again as it was first asked for" if again else "is queued"
        click.echo(f"{record.serial_number}: the revocation {queued}")
    else:
        click.echo(f"{record.serial_number}: revoked on {show_time(record.revoked_at)}, the CRL is published")


def _open(config_path: Path) -> tuple[ClientConfig, Store]:
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    config = load_client_config(config_path)
    return config, open_store(config.store_url)


def _chain(config: ClientConfig, authority: str) -> list[bytes]:
    """DER of the sub-CA and the CAs above it; the root is left out, because whoever trusts it has it."""
    from cassiopeia.config import load_authorities, load_chain  # noqa: PLC0415 - as in `_open`

    offline = {each.name: each for each in load_chain(config.authorities)}
    for entry in load_authorities(config.authorities):
        if entry.authority.name == authority:
            chain = [entry.authority.certificate]
            issuer = entry.issuer
            while offline[issuer].issuer != issuer:
                chain.append(offline[issuer].certificate)
                issuer = offline[issuer].issuer
            return chain
    raise OperatorError(f"{config.authorities}: no sub-CA is called {authority}")


def _document(record: CertificateRecord) -> dict[str, Any]:
    return {
        "serial_number": record.serial_number,
        "authority": record.authority,
        "subject": record.subject,
        "state": _state(record),
        "not_before": record.not_before,
        "not_after": record.not_after,
        "issued": record.issued_at,
        "revoked": record.revoked_at,
        "reason": _reason(record),
        "invalid_since": record.invalidity_date,
        "profile": record.profile,
        "account": record.account,
        "request": record.request_id,
    }


def _state(record: CertificateRecord) -> str:
    if record.revocation_state == "none":
        return "expired" if record.not_after < dt.datetime.now(dt.UTC) else "valid"
    return "revoked" if record.revocation_state == "revoked" else "being revoked"


def _reason(record: CertificateRecord) -> str:
    names = {code: name for name, code in REASONS.items() if code}
    return names.get(record.revocation_reason or 0, "")
