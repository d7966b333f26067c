"""`cassiopeia request`: from a CSR to a certificate, on the database's side."""

from __future__ import annotations

import datetime as dt
import os
import re
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
from cassiopeia.errors import OperatorError, Refused

if TYPE_CHECKING:
    from cassiopeia.store.database import Store
    from cassiopeia.store.records import RequestRecord

_POLL_S = 0.1
_READ_OCTETS = 1 << 20
_ATTRIBUTES = ("CN", "EMAIL", "C", "L", "ST", "O", "OU")


@click.group()
def request() -> None:
    """Submit requests for certificates, and see what became of them."""


@request.command(short_help="Submit a CSR or an SPKAC.")
@config_option
@click.argument("file", type=click.File("rb"))
@click.option("--profile", default="", metavar="NAME",
              help="What kind of certificate, as 9004-unproved-server: a file in the profiles directory.")  # fmt: skip
@click.option(
    "--ocsp-for", default="", metavar="SUB-CA", help="Instead of a profile: an OCSP responder of this sub-CA."
)
@click.option("--cn", help="Common name of the subject.")
@click.option("--subject", multiple=True, metavar="TYPE=VALUE",
              help=f"Attribute of the subject, each by itself: {', '.join(_ATTRIBUTES)}.")  # fmt: skip
@click.option(
    "--dns",
    multiple=True,
    metavar="NAME",
    help="Alternative name: a domain name, as people write it. This and the next three may be given again and again.",
)
@click.option("--email", multiple=True, metavar="ADDRESS", help="Alternative name: a mail address.")
@click.option("--ip", multiple=True, metavar="ADDRESS", help="Alternative name: an IP address.")
@click.option("--uri", multiple=True, metavar="URI", help="Alternative name: a URI.")
@click.option(
    "--digest",
    default="",
    metavar="HASH",
    help="sha256, sha384 or sha512, heeded where the sub-CA's key leaves a choice (RSA).",
)
@click.option("--from", "wish_from", default="", metavar="DATE", help="First day, YYYY-MM-DD; default: now.")
@click.option(
    "--to",
    "wish_to",
    default="",
    metavar="DATE",
    help="End: the first day not covered any more, YYYY-MM-DD, or a span: 90d, 6m, 2y; default: the longest.",
)
@click.option("--account", default="operator", show_default=True, help="On whose behalf; accounts take turns.")
@click.option(
    "--id", "request_id", metavar="HEX", help="Request id (64 digits): submitting twice makes one certificate."
)
@click.option("--wait/--no-wait", default=False, help="Wait for the certificate and print it.")
@timeout_option
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="With --wait: write the PEM certificate here."
)
@json_option
def submit(  # noqa: PLR0917 - click passes every option by itself
    config_path: Path,
    file: Any,
    profile: str,
    ocsp_for: str,
    cn: str | None,
    subject: tuple[str, ...],
    dns: tuple[str, ...],
    email: tuple[str, ...],
    ip: tuple[str, ...],
    uri: tuple[str, ...],
    digest: str,
    wish_from: str,
    wish_to: str,
    account: str,
    request_id: str | None,
    wait: bool,
    timeout_s: float,
    out: Path | None,
    as_json: bool,
) -> None:
    """Submit FILE, a CSR (PEM or DER) or an SPKAC (as `openssl spkac` writes it); - reads standard input.

    Names come from the options alone: what a CSR says about names and extensions is never copied.
    """
    from cassiopeia.core.request import CertificateRequest, SubjectAltName, SubjectAttribute  # noqa: PLC0415 - lazy
    from cassiopeia.store.submission import submit as submit_request  # noqa: PLC0415 - `--help` must be quick

    if bool(profile) == bool(ocsp_for):
        raise OperatorError("name either --profile or --ocsp-for; profiles are in the profiles directory")
    # One octet more than anybody accepts is enough to refuse it.
    proof = file.read(_READ_OCTETS)
    attributes = [*([("CN", cn)] if cn is not None else []), *(_attribute(each) for each in subject)]
    alt_names = [("DNS", dns), ("email", email), ("IP", ip), ("URI", uri)]
    wanted = CertificateRequest(
        key_kind="spkac" if proof.lstrip().startswith(b"SPKAC=") else "csr",
        key_proof=proof,
        profile=profile,
        ocsp_target_ca=ocsp_for,
        account=account,
        signature_hash=digest.lower(),
        wish_from=wish_from,
        wish_to=wish_to,
        attributes=tuple(SubjectAttribute(type=kind, value=value) for kind, value in attributes),
        alt_names=tuple(SubjectAltName(type=kind, value=value) for kind, values in alt_names for value in values),
    )
    with _open(config_path) as store:
        record = submit_request(store, wanted, request_id=_request_id(request_id), now=_now())
        if wait:
            _finish(store, _await(store, record, timeout_s), out=out, as_json=as_json)
            return
        if as_json:
            print_json(_document(store, record))
        else:
            click.echo(f"{record.request.request_id.hex()}  {record.state}")
        _fail_if_refused(record)


@request.command()
@config_option
@click.argument("request_id", metavar="ID")
@json_option
def show(config_path: Path, request_id: str, as_json: bool) -> None:
    """Show one request; the beginning of its ID is enough."""
    with _open(config_path) as store:
        record = store.requests.look_up(request_id)
        if as_json:
            print_json(_document(store, record))
            return
        wanted = record.request
        print_fields(
            {
                "request": wanted.request_id.hex(),
                "state": _state(record),
                "reason": f"{record.refusal_message} [{record.refusal_code}]" if record.state == "refused" else "",
                "profile": wanted.profile or f"OCSP responder of {wanted.ocsp_target_ca}",
                "account": wanted.account,
                "subject": ", ".join(f"{each.type}={each.value}" for each in wanted.attributes),
                "alternative names": ", ".join(f"{each.type}:{each.value}" for each in wanted.alt_names),
                "from": wanted.wish_from,
                "to": wanted.wish_to,
                "submitted": show_time(record.created_at),
                "changed": show_time(record.updated_at),
                "last difficulty": record.last_error,
                **{f"death {number}": line for number, line in enumerate(record.dead_holders, 1)},
                "sub-CA": record.authority,
                "serial number": record.serial_number,
            }
        )


@request.command(short_help="Wait for the certificate, or the refusal.")
@config_option
@click.argument("request_id", metavar="ID")
@timeout_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the PEM certificate here.")
@json_option
def wait(config_path: Path, request_id: str, timeout_s: float, out: Path | None, as_json: bool) -> None:
    """Wait until a request is issued (prints the certificate) or refused (says why)."""
    with _open(config_path) as store:
        record = _await(store, store.requests.look_up(request_id), timeout_s)
        _finish(store, record, out=out, as_json=as_json)


@request.command(short_help="Queue a request again that was set aside.")
@config_option
@click.argument("request_id", metavar="ID")
@json_option
def retry(config_path: Path, request_id: str, as_json: bool) -> None:
    """Put a request that was set aside back into the queue, when the cause is mended.

    `cassiopeia status` lists what was set aside, and why.
    """
    with _open(config_path) as store:
        record = store.requests.retry(request_id, now=_now())
        if as_json:
            print_json(_document(store, record))
            return
    click.echo(f"{record.request.request_id.hex()}  {_state(record)} again")


@request.command(name="list")
@config_option
@click.option("--state", type=click.Choice(["queued", "refused", "issued"]), help="Only these.")
@click.option("--account", help="Only those of this account.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), metavar="NUMBER", help="So many at most."
)
@click.option("--after", type=int, metavar="NUMBER", help="Next page: the number that the last page ended with.")
@json_option
def list_requests(
    config_path: Path, state: Any, account: str | None, limit: int, after: int | None, as_json: bool
) -> None:
    """List requests, newest first."""
    with _open(config_path) as store:
        page = store.requests.page(state=state, account=account, limit=limit, after=after)
        if as_json:
            print_json({"requests": [_document(store, each) for each in page.items], "next": page.next_page})
            return
    print_table(
        ("REQUEST", "STATE", "PROFILE", "ACCOUNT", "SUBMITTED", "NAMES OR REASON"),
        [
            (
                each.request.request_id.hex()[:12],
                _state(each),
                each.request.profile or each.request.ocsp_target_ca,
                each.request.account,
                show_time(each.created_at),
                each.refusal_message or (each.last_error if each.awaits_evidence else _names(each)),
            )
            for each in page.items
        ],
    )
    if page.next_page is not None:
        click.echo(f"More: --after {page.next_page}")


def _open(config_path: Path) -> Store:
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    return open_store(load_client_config(config_path).store_url)


def _await(store: Store, record: RequestRecord, timeout_s: float) -> RequestRecord:
    deadline = time.monotonic() + timeout_s
    while record.state == "queued":
        if time.monotonic() > deadline:
            request_id = record.request.request_id.hex()
            difficulty = f" ({record.last_error})" if record.last_error else ""
            raise OperatorError(
                f"request {request_id} still waits after {timeout_s:g} seconds{difficulty}; it is not lost: see "
                f"`cassiopeia status`, and wait on with `cassiopeia request wait {request_id[:12]}`"
            )
        time.sleep(_POLL_S)
        found = store.requests.find(record.request.request_id)
        if found is None:
            raise OperatorError("the request has vanished from the database")
        record = found
    return record


def _finish(store: Store, record: RequestRecord, *, out: Path | None, as_json: bool) -> None:
    if as_json:
        print_json(_document(store, record))
        _fail_if_refused(record)
        return
    _fail_if_refused(record)
    try:
        write_out(_pem(store, record).encode(), out)
    except OSError as error:
        raise OperatorError(
            f"{out}: {error.strerror}; the certificate is issued and kept: fetch it with "
            f"`cassiopeia certificate get {record.serial_number}`"
        ) from error
    if out is not None:
        click.echo(f"{out}: certificate {record.serial_number}, issued by {record.authority}")


def _fail_if_refused(record: RequestRecord) -> None:
    if record.state == "refused":
        raise Refused(record.refusal_message, code=record.refusal_code, field=record.refusal_field)


def _document(store: Store, record: RequestRecord) -> dict[str, Any]:
    wanted = record.request
    document: dict[str, Any] = {
        "id": wanted.request_id.hex(),
        "state": record.state,
        "set_aside": record.set_aside,
        "awaits_evidence": record.awaits_evidence,
        "last_difficulty": record.last_error,
        "dead_holders": list(record.dead_holders),
        "profile": wanted.profile,
        "account": wanted.account,
        "subject": [{"type": each.type, "value": each.value} for each in wanted.attributes],
        "alt_names": [{"type": each.type, "value": each.value} for each in wanted.alt_names],
        "submitted": record.created_at,
        "changed": record.updated_at,
    }
    if record.state == "refused":
        document["refusal"] = {
            "code": record.refusal_code,
            "field": record.refusal_field,
            "message": record.refusal_message,
        }
    if record.state == "issued":
        document |= {
            "authority": record.authority,
            "serial_number": record.serial_number,
            "certificate": _pem(store, record),
        }
    return document


def _pem(store: Store, record: RequestRecord) -> str:
    import ssl  # noqa: PLC0415 - as in `_open`

    certificate = store.certificates.of_request(record.request.request_id)
    if certificate is None:
        raise OperatorError(f"request {record.request.request_id.hex()} is issued, but its certificate is missing")
    return ssl.DER_cert_to_PEM_cert(certificate.der)


def _state(record: RequestRecord) -> str:
    if record.awaits_evidence:
        return "waits for evidence"
    return "set aside" if record.set_aside else record.state


def _names(record: RequestRecord) -> str:
    wanted = record.request
    values = [*(each.value for each in wanted.attributes), *(each.value for each in wanted.alt_names)]
    return ", ".join(dict.fromkeys(values))


def _attribute(text: str) -> tuple[str, str]:
    kind, separator, value = text.partition("=")
    if not separator or kind.upper() not in _ATTRIBUTES:
        raise OperatorError(f"--subject {text!r}: write TYPE=VALUE with one of {', '.join(_ATTRIBUTES)}")
    return kind.upper(), value


def _request_id(text: str | None) -> bytes:
    if text is None:
        return os.urandom(32)
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", text):
        raise OperatorError("--id: a request id is 64 hexadecimal digits")
    return bytes.fromhex(text)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
