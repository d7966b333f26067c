"""`cassiopeia revoke`: many certificates at once: plan first, then run, then see how far it is."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cassiopeia.cli.options import config_option, json_option, print_fields, print_json, print_table, show_time, visible
from cassiopeia.cli.revocation_options import REASONS, parse_past_day
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.client.mass_revocation import Choice, Pace
    from cassiopeia.client.revocation_plan import Plan
    from cassiopeia.store.database import Store
    from cassiopeia.store.mass_revocation import Progress
    from cassiopeia.store.records import CertificateRecord

_SHOWN = 10
_plan_argument = click.argument("plan_path", metavar="PLAN", type=click.Path(path_type=Path, exists=True))


def _parse_moment(context: click.Context, parameter: click.Parameter, text: str | None) -> dt.datetime | None:
    del context, parameter
    if text is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time: write YYYY-MM-DD or YYYY-MM-DDTHH:MM, in UTC.") from None
    moment = moment.replace(tzinfo=moment.tzinfo or dt.UTC).astimezone(dt.UTC)
    if moment <= dt.datetime.now(dt.UTC):
        raise click.BadParameter(f"{text} is over.")
    return moment


@click.group()
def revoke() -> None:
    """Revoke many certificates at once: plan, run, and see how far it is."""


@revoke.command()
@config_option
@click.option("--account", help="All certificates of this account.")
@click.option("--key", metavar="FILE|SHA256", help="All certificates of this public key: a file with it (also a "
              "certificate or request), or SHA-256 of its SubjectPublicKeyInfo.")  # fmt: skip
@click.option("--family", help="All certificates of this family of sub-CAs.")
@click.option("--sub-ca", "authority", metavar="SUB-CA", help="All certificates of this sub-CA.")
@click.option("--list", "list_path", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE",
              help="The serial numbers in this file, one a line.")  # fmt: skip
@click.option("--reason", type=click.Choice(list(REASONS), case_sensitive=False), required=True, metavar="REASON",
              help=f"One of: {', '.join(REASONS)}.")  # fmt: skip
@click.option("--invalid-since", callback=parse_past_day, metavar="DATE",
              help="Since when the keys are known or suspected to be bad, YYYY-MM-DD.")  # fmt: skip
@click.option("--deadline", callback=_parse_moment, metavar="TIME",
              help="By when all must be revoked, YYYY-MM-DD or YYYY-MM-DDTHH:MM in UTC.")  # fmt: skip
@click.option("--notice", "notice_path", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="FILE",
              help="The text for each account: $account, $count, $reason, $deadline, $certificates.")  # fmt: skip
@click.option("--also-expired", is_flag=True, help="Also those that nobody accepts any more, as for signed code.")
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR",
              help="Make this directory: the plan, a table, a notice for each account.")  # fmt: skip
@json_option
def plan(
    config_path: Path,
    reason: str,
    invalid_since: dt.datetime | None,
    deadline: dt.datetime | None,
    notice_path: Path | None,
    also_expired: bool,
    out: Path,
    as_json: bool,
    **which: Any,
) -> None:
    """Say what a mass revocation would revoke, and write it down. Nothing is revoked.

    Look through certificates.csv, send the notices as you send mail, then `cassiopeia revoke run`.
    """
    from cassiopeia.client import mass_revocation, revocation_plan  # noqa: PLC0415 - `--help` must be quick

    now = dt.datetime.now(dt.UTC)
    template = None if notice_path is None else revocation_plan.read_template(notice_path)
    with _open(config_path) as store:
        what, found = _select(store, **which)
        choice = mass_revocation.choose(found, also_expired=also_expired, now=now)
        if not choice.chosen:
            raise OperatorError(f"there is nothing to revoke of {what}{_left_out(choice)}; no plan was made")
        made = revocation_plan.make_plan(
            choice.chosen,
            what=what,
            reason=REASONS[reason],
            invalidity_date=invalid_since,
            deadline=deadline,
            now=now,
        )
        notices = revocation_plan.write_plan(out, made, choice.chosen, template=template)
        paces = mass_revocation.paces(store, Counter(each.authority for each in made.named), now=now)
    if as_json:
        print_json(_plan_document(made, choice, paces, out=out, notices=notices))
        return
    records = [each.record for each in choice.chosen]
    click.echo(f"{len(records)} certificates of {visible(what)} would be revoked ({reason}){_left_out(choice)}.")
    for title, counts in (
        ("SUB-CA", Counter(each.authority for each in records)),
        ("ACCOUNT", Counter(each.account for each in records)),
        ("PROFILE", Counter(each.profile for each in records)),
    ):
        _print_counts(title, counts)
    _print_paces(paces, deadline)
    click.echo(f"{out}: the plan, certificates.csv with all of them, and {notices} notices.")
    if which["key"] is not None:
        click.echo("The key itself gets new certificates until it is blocked: `cassiopeia order make block-key`.")
    click.echo(f"Nothing is revoked yet. Next: cassiopeia revoke run {out}")


@revoke.command(name="run")
@config_option
@_plan_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
def run_plan(config_path: Path, plan_path: Path, yes: bool) -> None:
    """Revoke what the plan says, for ever.

    Each revocation goes into the queue, and the client takes it to the signer. What was queued or revoked before stays
    as it is: run it again after whatever has stopped it. What a signer's cap holds up waits, and goes on by itself.
    """
    from cassiopeia.client import mass_revocation, revocation_plan  # noqa: PLC0415 - `--help` must be quick

    made = revocation_plan.read_plan(plan_path)
    with _open(config_path) as store:
        if strange := store.mass_revocation.strangers(made.named):
            raise OperatorError(
                f"{plan_path}: {len(strange)} of its certificates are not in this store as the plan says, "
                f"{strange[0].serial_number} of {strange[0].authority} among them: is it the right configuration? "
                "Nothing was revoked; make the plan anew"
            )
        before = store.mass_revocation.progress(made.named)
        if not yes and (before.not_asked or before.set_aside):
            click.confirm(
                f"Revoke {before.not_asked + before.set_aside} certificates of {visible(made.what)} "
                f"({revocation_plan.reason_words(made.reason)}), for ever?",
                abort=True,
            )
        now = dt.datetime.now(dt.UTC)
        new = again = 0
        for queued in store.mass_revocation.queue(
            made.named, reason=made.reason, invalidity_date=made.invalidity_date, now=now
        ):
            new, again = new + queued.new, again + queued.again
        progress = store.mass_revocation.progress(made.named)
        paces = mass_revocation.paces(store, {}, now=now)
    click.echo(f"{new} revocations are queued, {again} that were set aside are queued again.")
    _print_progress(made, progress)
    _print_paces(paces, made.deadline)
    click.echo(f"See how far it is: cassiopeia revoke show {plan_path}")


@revoke.command()
@config_option
@_plan_argument
@json_option
@click.pass_context
def show(context: click.Context, config_path: Path, plan_path: Path, as_json: bool) -> None:
    """Show how far a mass revocation is, and when it will be done.

    Exit status 1: something was set aside, or the deadline is missed or will be.
    """
    from cassiopeia.client import mass_revocation, revocation_plan  # noqa: PLC0415 - `--help` must be quick

    made = revocation_plan.read_plan(plan_path)
    now = dt.datetime.now(dt.UTC)
    with _open(config_path) as store:
        progress = store.mass_revocation.progress(made.named)
        paces = mass_revocation.paces(store, {}, now=now) if progress.waiting else ()
    late = _is_late(made, progress, paces, now=now)
    if as_json:
        print_json(_progress_document(made, progress, paces, late=late))
    else:
        _print_progress(made, progress)
        _print_paces(paces, made.deadline)
        if late:
            click.echo("The deadline is missed, or will be: raise the cap, see `cassiopeia status`.")
    if late or progress.set_aside:
        context.exit(1)


def _select(
    store: Store, *, account: str | None, key: str | None, family: str | None, authority: str | None,
    list_path: Path | None,
) -> tuple[str, Iterable[CertificateRecord]]:  # fmt: skip
    """Exactly one way to choose, in words and in certificates."""
    from cassiopeia.client import mass_revocation  # noqa: PLC0415 - `--help` must be quick

    if sum(each is not None for each in (account, key, family, authority, list_path)) != 1:
        raise click.UsageError("give one of --account, --key, --family, --sub-ca and --list.")
    if account is not None:
        return f"the account {account}", mass_revocation.of_account(store, account)
    if key is not None:
        return f"the key {key}", mass_revocation.of_key(store, key)
    if family is not None:
        return f"the family {family}", mass_revocation.of_family(store, family)
    if authority is not None:
        return f"the sub-CA {authority}", mass_revocation.of_authority(store, authority)
    assert list_path is not None  # noqa: S101 - one of the five
    return f"the list {list_path}", mass_revocation.of_list(store, list_path)


def _left_out(choice: Choice) -> str:
    left = {
        "revoked already": choice.revoked,
        "being revoked": choice.being_revoked,
        "expired": choice.expired,
    }
    told = ", ".join(f"{count} {what}" for what, count in left.items() if count)
    return f"; left out: {told}" if told else ""


def _print_counts(title: str, counts: Counter[str]) -> None:
    print_table((title, "CERTIFICATES"), [(name, str(count)) for name, count in counts.most_common(_SHOWN)])
    if len(counts) > _SHOWN:
        click.echo(f"and {len(counts) - _SHOWN} more")


def _print_paces(paces: tuple[Pace, ...], deadline: dt.datetime | None) -> None:
    """When what waits will be done; nothing is known of signers that have not told their caps."""
    from cassiopeia.client.mass_revocation import REVOCATIONS  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.journal.order import CAPS  # noqa: PLC0415 - as above

    for each in paces:
        click.echo(
            f"signer {each.signer_id}: {each.waiting} revocations, {each.limit} an hour, {each.room} now: "
            f"done by {show_time(each.done_at)}, or a little later"
        )
        if deadline is not None and each.done_at > deadline:
            click.echo(
                f"  that is after the deadline, {show_time(deadline)}: raise the cap, "
                f"`cassiopeia order make raise-cap revocations {min(each.enough, CAPS[REVOCATIONS])}`"
            )


def _print_progress(made: Plan, progress: Progress) -> None:
    waiting = sum(progress.waiting.values())
    print_fields(
        {
            "plan": f"{len(made.certificates)} certificates of {made.what}",
            "revoked": str(progress.revoked),
            "waiting": f"{waiting}: {progress.difficulty}" if progress.difficulty else str(waiting),
            "not asked for": str(progress.not_asked) if progress.not_asked else "",
            "set aside": str(progress.set_aside) if progress.set_aside else "",
            "last revoked": show_time(progress.last_revoked_at),
            "deadline": show_time(made.deadline),
        }
    )
    for serial_number, why in progress.reasons:
        click.echo(visible(f"  {serial_number}: {why}"))


def _is_late(made: Plan, progress: Progress, paces: tuple[Pace, ...], *, now: dt.datetime) -> bool:
    if made.deadline is None or progress.revoked == len(made.certificates):
        return False
    return now > made.deadline or any(each.done_at > made.deadline for each in paces)


def _plan_document(made: Plan, choice: Choice, paces: tuple[Pace, ...], *, out: Path, notices: int) -> dict[str, Any]:
    records = [each.record for each in choice.chosen]
    return {
        "what": made.what,
        "certificates": len(records),
        "revoked_already": choice.revoked,
        "being_revoked": choice.being_revoked,
        "expired": choice.expired,
        "by_authority": dict(Counter(each.authority for each in records)),
        "by_account": dict(Counter(each.account for each in records)),
        "by_profile": dict(Counter(each.profile for each in records)),
        "notices": notices,
        "directory": str(out),
        "signers": [_pace_document(each) for each in paces],
    }


def _progress_document(made: Plan, progress: Progress, paces: tuple[Pace, ...], *, late: bool) -> dict[str, Any]:
    return {
        "what": made.what,
        "certificates": len(made.certificates),
        "revoked": progress.revoked,
        "waiting": sum(progress.waiting.values()),
        "not_asked": progress.not_asked,
        "set_aside": progress.set_aside,
        "last_revoked": progress.last_revoked_at,
        "deadline": made.deadline,
        "late": late,
        "signers": [_pace_document(each) for each in paces],
    }


def _pace_document(pace: Pace) -> dict[str, Any]:
    return {
        "signer_id": pace.signer_id,
        "waiting": pace.waiting,
        "limit": pace.limit,
        "room": pace.room,
        "done_at": pace.done_at,
    }


def _open(config_path: Path) -> Store:
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    return open_store(load_client_config(config_path).store_url)
