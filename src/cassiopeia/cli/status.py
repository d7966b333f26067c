"""`cassiopeia status`: is it working, how long is the queue, how old are the CRLs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cassiopeia.cli.options import config_option, json_option, print_json, print_table, show_time
from cassiopeia.cli.profile import holds_document, print_holds

if TYPE_CHECKING:
    from cassiopeia.store.records import CrlHeader, QueueStatistics, SetAsideJob, SignerStatus

# The client asks every half minute; after this long its silence means something.
_SILENCE_S = 120
_SET_ASIDE_LINES = 20


@click.command()
@config_option
@json_option
def status(config_path: Path, as_json: bool) -> None:
    """Show the queue, the signer's last word and the age of each CRL."""
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    now = dt.datetime.now(dt.UTC)
    with open_store(load_client_config(config_path).store_url) as store:
        queue = store.queue.statistics(now=now)
        aside = store.queue.set_aside_jobs(limit=_SET_ASIDE_LINES)
        signers = store.signers.list()
        crls = store.crls.headers()
        holds = store.lint_streaks.suspicious()
    if as_json:
        print_json(_document(queue, aside, signers, crls, now) | {"held_profiles": holds_document(holds)})
        return
    _print_queue(queue)
    print_holds(holds)
    _print_set_aside(aside, total=sum(queue.set_aside.values()))
    _print_signers(signers, now)
    _print_crls(crls, now)


def _print_queue(queue: QueueStatistics) -> None:
    waiting, leased, aside = (sum(each.values()) for each in (queue.waiting, queue.leased, queue.set_aside))
    click.echo(f"queue    {waiting} waiting, {leased} with a client, {aside} set aside for a person to look at")
    if waiting or leased:
        click.echo(f"         the oldest has waited {_span(queue.oldest_age_s)}")
    click.echo(f"         {queue.issued_last_hour} issued in the last hour")


def _print_set_aside(jobs: tuple[SetAsideJob, ...], *, total: int) -> None:
    if not jobs:
        return
    print_table(
        ("         SET ASIDE", "PUT BACK BY", "REASON"),
        [(f"         {show_time(each.set_aside_at)}", _remedy(each), each.reason) for each in jobs],
    )
    if total > len(jobs):
        click.echo(f"         and {total - len(jobs)} more")


def _remedy(job: SetAsideJob) -> str:
    if job.kind == "sign":
        return f"cassiopeia request retry {job.request_id[:12]}"
    if job.kind == "revoke":
        return f"cassiopeia certificate revoke {job.serial_number}"
    return f"nobody: the client asks for the next CRL of {job.authority} by itself"


def _print_signers(signers: tuple[SignerStatus, ...], now: dt.datetime) -> None:
    if not signers:
        click.echo("signer   never heard: is `cassiopeia client run` running, and the signer?")
    for each in signers:
        silent_s = (now - each.seen_at).total_seconds()
        reason = f" ({each.report['reason']})" if each.report["reason"] else ""
        click.echo(f"signer {each.signer_id} {each.report['state']}{reason}, heard {_span(silent_s)} ago")
        if silent_s > _SILENCE_S:
            click.echo(
                "         WARNING: silent for too long: is `cassiopeia client run` running? does the line stand?"
            )
        print_table(
            ("         SUB-CA", "ISSUED", "REVOKED", "VALID UNTIL"),
            [
                (f"         {one['name']}", str(one["issued"]), str(one["revoked"]), one["not_after"][:10])
                for one in each.report["authorities"]
            ],
        )


def _print_crls(crls: tuple[CrlHeader, ...], now: dt.datetime) -> None:
    for each in crls:
        left_s = (each.next_update - now).total_seconds()
        warning = "" if left_s > 0 else "  WARNING: it has run out"
        click.echo(
            f"CRL      {each.authority}: number {each.number}, {each.octets} octets, signed "
            f"{show_time(each.this_update)}, {left_s / 3600:.0f} hours left{warning}"
        )


def _document(
    queue: QueueStatistics,
    aside: tuple[SetAsideJob, ...],
    signers: tuple[SignerStatus, ...],
    crls: tuple[CrlHeader, ...],
    now: dt.datetime,
) -> dict[str, Any]:
    return {
        "queue": {
            "waiting": dict(queue.waiting),
            "leased": dict(queue.leased),
            "postponed": dict(queue.postponed),
            "set_aside": dict(queue.set_aside),
            "oldest_age_s": queue.oldest_age_s,
            "issued_last_hour": queue.issued_last_hour,
            # The latest, as many as the text shows; the counts above are of all.
            "set_aside_jobs": [
                {
                    "kind": each.kind,
                    "request": each.request_id,
                    "serial_number": each.serial_number,
                    "authority": each.authority,
                    "reason": each.reason,
                    "set_aside_at": each.set_aside_at,
                }
                for each in aside
            ],
        },
        "signers": [{"signer_id": each.signer_id, "seen": each.seen_at, **each.report} for each in signers],
        "crls": [
            {
                "authority": each.authority,
                "number": each.number,
                "this_update": each.this_update,
                "next_update": each.next_update,
                "hours_left": round((each.next_update - now).total_seconds() / 3600, 1),
            }
            for each in crls
        ],
    }


def _span(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
