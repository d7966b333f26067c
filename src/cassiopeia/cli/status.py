"""`cassiopeia status`: is it working, how long is the queue, how old are the CRLs, and what needs a person."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cassiopeia import ops
from cassiopeia.cli.options import config_option, json_option, print_json, print_table, show_time, visible
from cassiopeia.cli.profile import holds_document, print_holds

if TYPE_CHECKING:
    from cassiopeia.duties import Coverage
    from cassiopeia.store.records import CrlHeader, QueueStatistics, SetAsideJob, SignerStatus

_SET_ASIDE_LINES = 20
_INDENT = " " * 9
_TEN_YEARS_DAYS = 3_652
_ONE_SECOND = dt.timedelta(seconds=1)


@click.command()
@config_option
@json_option
@click.option("--check", is_flag=True, help="Say only what needs a person; exit with status 1 if anything does.")
@click.pass_context
def status(context: click.Context, config_path: Path, as_json: bool, check: bool) -> None:
    """Show the queue, the signer's last word, the age of each CRL, and what needs a person.

    With --check it is for cron or a monitor: silent, with exit status 0, as long as all is well.
    """
    from cassiopeia.client.situation import read_situation  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    config = load_client_config(config_path)
    now = dt.datetime.now(dt.UTC)
    with open_store(config.store_url) as store:
        aside = store.queue.set_aside_jobs(limit=_SET_ASIDE_LINES)
        situation = read_situation(config, store, now=now)
    concerns = ops.concerns(situation)
    if as_json:
        told = {} if check else _document(situation, aside) | {"held_profiles": holds_document(situation.held)}
        print_json(told | {"concerns": [concern_document(each) for each in concerns]})
    elif check:
        _print_concerns(concerns, now)
        _print_set_aside(aside, total=sum(situation.queue.set_aside.values()))
    else:
        _print_queue(situation.queue)
        print_holds(situation.held)
        _print_set_aside(aside, total=sum(situation.queue.set_aside.values()))
        _print_signers(situation)
        _print_validators(situation)
        _print_publishers(situation)
        _print_calendar(situation)
        _print_crls(ops.needed_crls(situation), now)
        _print_served(situation)
        _print_concerns(concerns, now)
        if not concerns:
            click.echo("well     nothing needs a person")
    if check and concerns:
        context.exit(1)


def _print_concerns(concerns: tuple[ops.Concern, ...], now: dt.datetime) -> None:
    for each in concerns:
        by = f"by {each.due:%F}: " if each.due is not None and each.due > now else ""
        click.echo(visible(f"TO DO    {each.what}"))
        click.echo(visible(f"{_INDENT}-> {by}{each.remedy}"))


def _print_queue(queue: QueueStatistics) -> None:
    waiting, leased, aside = (sum(each.values()) for each in (queue.waiting, queue.leased, queue.set_aside))
    click.echo(f"queue    {waiting} waiting, {leased} with a client, {aside} set aside for a person to look at")
    if waiting or leased:
        depth = {kind: queue.waiting[kind] + queue.leased[kind] for kind in queue.waiting}
        click.echo(f"{_INDENT}certificates {depth['sign']}, revocations {depth['revoke']}, CRLs {depth['crl']}")
        click.echo(f"{_INDENT}the oldest has waited {ops.span(queue.oldest_age_s)}")
    if postponed := sum(queue.postponed.values()):
        click.echo(f"{_INDENT}put off by the signer, and asked for again by themselves: {postponed}")
    if queue.unattested:
        click.echo(f"{_INDENT}waiting for evidence, until a validator has vouched for them: {queue.unattested}")
    if queue.suspected:
        click.echo(f"{_INDENT}tried alone, because a client died with them in hand: {queue.suspected}")
    click.echo(f"{_INDENT}{queue.issued_last_hour} issued in the last hour")


def _print_set_aside(jobs: tuple[SetAsideJob, ...], *, total: int) -> None:
    if not jobs:
        return
    print_table(
        (f"{_INDENT}SET ASIDE", "PUT BACK BY", "REASON"),
        [(f"{_INDENT}{show_time(each.set_aside_at)}", _remedy(each), each.reason) for each in jobs],
    )
    if total > len(jobs):
        click.echo(f"{_INDENT}and {total - len(jobs)} more")


def _remedy(job: SetAsideJob) -> str:
    if job.kind == "sign":
        return f"cassiopeia request retry {job.request_id[:12]}"
    if job.kind == "revoke":
        return f"cassiopeia certificate revoke {job.serial_number}"
    return f"nobody: the client asks for the next CRL of {job.authority} by itself"


def _print_signers(situation: ops.Situation) -> None:
    if not situation.signers and situation.hears_signers:
        click.echo("signer   never heard: is `cassiopeia client run` running, and the signer?")
    elif not situation.signers:
        click.echo("signer   over version 1 of the protocol a signer does not say how it is")
    for each in situation.signers:
        reason = f" ({each.report['reason']})" if each.report.get("reason") else ""
        heard = ops.span(ops.silent_s(each, situation.now))
        state = each.report.get("state", "unknown")
        click.echo(visible(f"signer {each.signer_id} {state}{reason}, heard {heard} ago"))
        for line in (_disk(each), _clock(each), _journal(each), _orders(each)):
            if line:
                click.echo(visible(f"{_INDENT}{line}"))
        print_table(
            (f"{_INDENT}SUB-CA", "ISSUED", "REVOKED", "VALID UNTIL"),
            [
                (f"{_INDENT}{one['name']}", str(one["issued"]), str(one["revoked"]), one["not_after"][:10])
                for one in each.report.get("authorities", ())
            ],
        )


def _print_validators(situation: ops.Situation) -> None:
    for each in situation.validators:
        click.echo(visible(f"validator {each.name}, heard {ops.span(ops.validator_silent_s(each, situation.now))} ago"))


def _print_publishers(situation: ops.Situation) -> None:
    for each in situation.publishers:
        heard = ops.span((situation.now - each.seen_at).total_seconds())
        click.echo(visible(f"publisher {each.name}, heard {heard} ago"))


def _disk(signer: SignerStatus) -> str:
    free, days = signer.report.get("free_octets"), ops.disk_days(signer)
    if not isinstance(free, int):
        return ""
    if days is None:
        left = ""
    elif days > _TEN_YEARS_DAYS:
        left = ", enough for more than ten years"
    else:
        left = f", full in {days:,.0f} days"
    return f"disk: {ops.show_octets(free)} free{left}"


def _clock(signer: SignerStatus) -> str:
    offset = ops.clock_offset_s(signer)
    if offset is None:
        return ""
    if abs(offset) < 1:
        return "clock: that of this machine"
    return f"clock: {ops.span(abs(offset))} {'behind' if offset > 0 else 'ahead of'} this machine's"


def _journal(signer: SignerStatus) -> str:
    journal = signer.report.get("journal")
    return f"journal: {journal['copied']} of {journal['entries']} entries copied" if journal else ""


def _orders(signer: SignerStatus) -> str:
    """What stands by order of the operators."""
    orders = signer.report.get("orders", {})
    names = {each["key_id"]: each["name"] for each in orders.get("validators", ())}
    stands = [f"{each} halted" for each in orders.get("halted_authorities", ())]
    stands += [f"validator {names.get(each, each)} disabled" for each in orders.get("disabled_validators", ())]
    if blocked := orders.get("blocked_keys"):
        stands.append(f"{blocked} {'key' if blocked == 1 else 'keys'} blocked")
    stands += [
        f"cap {each['name']} raised to {each['limit']} until {each['ends'][:16]}"
        for each in orders.get("caps", ())
        if each["ends"]
    ]
    return f"by order: {', '.join(stands)}" if stands else ""


def _print_calendar(situation: ops.Situation) -> None:
    """What issues now, and until when somebody will: a line for each family of each signer."""
    if not situation.coverage:
        return
    print_table(
        ("CALENDAR", "SIGNER", "ISSUES NOW", "COVERED UNTIL"),
        [
            (
                f"{_INDENT}{each.family}",
                str(each.signer_id),
                each.current.name if each.current else "nobody",
                show_covered(each),
            )
            for each in situation.coverage
        ],
    )


def show_covered(covered: Coverage) -> str:
    """The last day on which somebody issues; what comes behind a gap is told, too."""
    if covered.current is None:
        return f"again from {covered.resumes:%F}" if covered.resumes else "-"
    return f"{covered.until - _ONE_SECOND:%F}" + (f", again from {covered.resumes:%F}" if covered.resumes else "")


def _print_crls(crls: tuple[CrlHeader, ...], now: dt.datetime) -> None:
    for each in crls:
        left_h = ops.hours_left(each, now)
        left = f"{left_h:.0f} hours left" if left_h > 0 else "it has run out"
        click.echo(
            f"CRL      {each.authority}: number {each.number}, {each.octets} octets, signed "
            f"{show_time(each.this_update)}, {left}"
        )


def _print_served(situation: ops.Situation) -> None:
    """What the world gets: one line when all is well."""
    served = situation.served
    if not served:
        return
    good = sum(each.state == "served" for each in served)
    looked = ops.span((situation.now - max(each.seen_at for each in served)).total_seconds())
    click.echo(f"served   {good} of {len(served)} URLs of CRLs give what they should, seen {looked} ago")
    for each in served:
        if each.state != "served":
            click.echo(visible(f"{_INDENT}{each.authority} at {each.url}: {each.state}: {each.what}"))


def concern_document(concern: ops.Concern) -> dict[str, Any]:
    return {
        "code": concern.code,
        "what": concern.what,
        "remedy": concern.remedy,
        "due": concern.due,
        "urgent": concern.is_urgent,
    }


def _document(situation: ops.Situation, aside: tuple[SetAsideJob, ...]) -> dict[str, Any]:
    queue = situation.queue
    return {
        "queue": {
            "waiting": dict(queue.waiting),
            "leased": dict(queue.leased),
            "postponed": dict(queue.postponed),
            "set_aside": dict(queue.set_aside),
            "suspected": queue.suspected,
            "unattested": queue.unattested,
            "unattested_s": queue.unattested_s,
            "oldest_age_s": queue.oldest_age_s,
            "oldest_difficulty": queue.oldest_difficulty,
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
                    "dead_holders": list(each.dead_holders),
                }
                for each in aside
            ],
        },
        "signers": [
            {
                "signer_id": each.signer_id,
                "seen": each.seen_at,
                "silent_s": ops.silent_s(each, situation.now),
                "clock_offset_s": ops.clock_offset_s(each),
                "disk_days": ops.disk_days(each),
                **each.report,
            }
            for each in situation.signers
        ],
        "validators": [
            {
                "name": each.name,
                "seen": each.seen_at,
                "silent_s": ops.validator_silent_s(each, situation.now),
                **each.report,
            }
            for each in situation.validators
        ],
        "calendar": [
            {
                "family": each.family,
                "signer_id": each.signer_id,
                "issues_now": each.current.name if each.current else None,
                "covered_until": each.until if each.current else None,
                "resumes": each.resumes,
            }
            for each in situation.coverage
        ],
        "publishers": [
            {"name": each.name, "seen": each.seen_at, "alarms": list(each.alarms)} for each in situation.publishers
        ],
        "crls": [
            {
                "authority": each.authority,
                "number": each.number,
                "this_update": each.this_update,
                "next_update": each.next_update,
                "hours_left": round(ops.hours_left(each, situation.now), 1),
                "published": each.authority not in situation.unpublished,
            }
            for each in situation.crls
        ],
        "served_crls": [
            {
                "authority": each.authority,
                "url": each.url,
                "state": each.state,
                "what": each.what,
                "number": each.number,
                "next_update": each.next_update,
                "seen": each.seen_at,
                "since": each.since,
            }
            for each in situation.served
        ],
    }
