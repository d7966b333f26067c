"""`cassiopeia order make`: a draft of each order, and what it says, for whoever is going to sign it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cassiopeia.cli.bundles import bundle_argument, print_changes, read_bundle_file
from cassiopeia.cli.options import config_option, print_fields, show_time
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.client.order_draft import Heard
    from cassiopeia.journal.order import Arguments

# Beyond this, the clock of the machine where an order is made and the time that it names do not agree.
_AGREES_WITHIN: Final = dt.timedelta(hours=1)
# What comes of whole seconds, and of the way over the line.
_IS_RIGHT_WITHIN_S: Final = 3
_HEARD_WITHIN: Final = dt.timedelta(minutes=5)


@click.group()
def make() -> None:
    """Draft an order; nobody obeys it before it is signed.

    Those that halt, disable or block need one operator. All others loosen, and need the quorum of signer.toml.
    """


def _drafts(name: str, *, reason: str | None = None) -> Callable[[Callable[..., None]], click.Command]:
    """A command that makes a draft: what all of them have."""
    always: dict[str, Any] = {"required": True} if reason is None else {"default": reason, "show_default": True}

    def decorate(function: Callable[..., None]) -> click.Command:
        for option in (
            click.option(
                "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Write the order here."
            ),
            click.option("--reason", help="For those who sign, and for later.", **always),
            click.option(
                "--signer",
                "signer_id",
                type=click.IntRange(1, 126),
                default=1,
                show_default=True,
                help="For which one.",
            ),
            config_option,
        ):
            function = option(function)
        return make.command(name=name)(function)

    return decorate


@_drafts("confirm-clock", reason="the clock was compared")
@click.option(
    "--time",
    "said",
    metavar="TIME",
    help="The true time at this moment, as 2026-11-23T12:00:00Z. Without it: what this machine's clock shows.",
)
def confirm_clock(config_path: Path, signer_id: int, said: str | None, reason: str, out: Path) -> None:
    """Say what the time is, and end a halt for the clock.

    The order stays exact however long it takes to be signed, and is good until the signer is started again. Caps that
    are raised fall back with it: their ends were reckoned by the clock that was in doubt.
    """
    from cassiopeia.client.order_draft import draft_confirm_clock  # noqa: PLC0415 - `--help` must be quick

    now = dt.datetime.now(dt.UTC)
    true_time = now if said is None else _moment(said)
    draft = draft_confirm_clock(_hear(config_path, signer_id), reason=reason, true_time=true_time, now=now)
    _write(out, draft.octets, silent=draft.silent)
    if abs(true_time - now) > _AGREES_WITHIN:
        click.echo(
            f"WARNING: this machine's clock and --time are {_span(true_time - now)} apart: is that what you mean?",
            err=True,
        )
    click.echo(f"The signer takes it to be {show_time(draft.signer_time)}; the order {_effect(draft.correction)}.")
    _say_next(out)


@_drafts("halt-authority")
@click.argument("name")
def halt_authority(config_path: Path, signer_id: int, name: str, reason: str, out: Path) -> None:
    """Let the sub-CA NAME sign no more certificates.

    It is so until it is resumed. Its revocations and CRLs go on. Another sub-CA of its family takes its place, if there
    is one that issues now.
    """
    _halt_or_resume("HaltAuthority", config_path, signer_id, name=name, reason=reason, out=out)


@_drafts("resume-authority")
@click.argument("name")
def resume_authority(config_path: Path, signer_id: int, name: str, reason: str, out: Path) -> None:
    """Let the sub-CA NAME sign certificates again."""
    _halt_or_resume("ResumeAuthority", config_path, signer_id, name=name, reason=reason, out=out)


@_drafts("disable-validator")
@click.argument("name")
def disable_validator(config_path: Path, signer_id: int, name: str, reason: str, out: Path) -> None:
    """Believe the validator NAME (or key id) no longer.

    That holds whenever it said what it said. Requests that rest on it wait until another validator vouches for them.
    """
    _disable_or_enable("DisableValidator", config_path, signer_id, name=name, reason=reason, out=out)


@_drafts("enable-validator")
@click.argument("name")
def enable_validator(config_path: Path, signer_id: int, name: str, reason: str, out: Path) -> None:
    """Believe the validator NAME (or key id) again."""
    _disable_or_enable("EnableValidator", config_path, signer_id, name=name, reason=reason, out=out)


@_drafts("block-key")
@click.argument("key")
def block_key(config_path: Path, signer_id: int, key: str, reason: str, out: Path) -> None:
    """Certify this public key no more.

    KEY is a file with a certificate, a CSR or a public key, in PEM or DER, or the SHA-256 of the
    SubjectPublicKeyInfo in hexadecimal. Certificates that exist stand: revoke them.
    """
    _block_or_unblock("BlockKey", config_path, signer_id, key=key, reason=reason, out=out)


@_drafts("unblock-key")
@click.argument("key")
def unblock_key(config_path: Path, signer_id: int, key: str, reason: str, out: Path) -> None:
    """Let this public key be certified again.

    KEY is as for block-key.
    """
    _block_or_unblock("UnblockKey", config_path, signer_id, key=key, reason=reason, out=out)


@_drafts("raise-cap")
@click.argument("cap")
@click.argument("limit", type=click.IntRange(min=1))
@click.option(
    "--hours",
    type=click.IntRange(min=1),
    default=24,
    show_default=True,
    help="For so long, from when the signer obeys; 720 at most.",
)
def raise_cap(config_path: Path, signer_id: int, cap: str, limit: int, hours: int, reason: str, out: Path) -> None:
    """Raise the cap CAP to LIMIT for some hours.

    What waits for it goes on by itself. CAP is one of open-intents, profile-certificates, account-certificates,
    validator-certificates, revocations and refusals.
    """
    from cassiopeia.journal.order import RaiseCap  # noqa: PLC0415 - as above

    heard = _hear(config_path, signer_id)
    _draft(heard, RaiseCap(cap=cap, limit=limit, hours=hours), reason=reason, out=out)
    now = next((each["limit"] for each in heard.report.get("orders", {}).get("caps", ()) if each["name"] == cap), None)
    if now is not None:
        click.echo(f"The cap {cap} of signer {signer_id} is {now} now.")
    _say_next(out)


@_drafts("install-bundle")
@bundle_argument
def install_bundle(config_path: Path, signer_id: int, bundle: Path, reason: str, out: Path) -> None:
    """Let the signer install BUNDLE, of a ceremony.

    Its keys have to be sealed to this signer. What it changes is shown, as far as the signer has told what it has. The
    bundle goes along when the order is sent, and the signer works by it without a restart.
    """
    from cassiopeia.client.bundle_review import changes_in_words, review  # noqa: PLC0415 - as above
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - as above

    config = load_client_config(config_path)
    reviewed = review(read_bundle_file(bundle), bundle_key=config.bundles.key_file, source=config.source)
    if reviewed.bundle.signer_id != signer_id:
        raise OperatorError(
            f"{bundle}: is for signer {reviewed.bundle.signer_id}, and the order for signer {signer_id} (--signer)"
        )
    heard = _hear(config_path, signer_id)
    words = changes_in_words(reviewed.bundle, config, heard.report)
    _draft(heard, reviewed.arguments, reason=reason, out=out)
    click.echo("The bundle, beside what the signer has said that it has:")
    print_changes(words)
    click.echo(f"{out}: written. Now: cassiopeia order sign {out} --key FILE --bundle {bundle}")


def print_order(octets: bytes) -> None:
    """What an order says, and who has signed it."""
    from cassiopeia.journal.order import describe, read_order, read_signed  # noqa: PLC0415 - as above

    signatures = read_signed(octets).signatures
    names = ", ".join(each.key.hex()[:16] for each in signatures)
    print_fields({**describe(*read_order(octets)), "signed by": names or "nobody yet"})


def _halt_or_resume(kind: str, config_path: Path, signer_id: int, *, name: str, reason: str, out: Path) -> None:
    from cassiopeia.client.order_draft import find_authority  # noqa: PLC0415 - as above

    heard = _hear(config_path, signer_id)
    _draft(heard, _arguments(kind, authority=find_authority(heard, name)), reason=reason, out=out)
    _say_next(out)


def _disable_or_enable(kind: str, config_path: Path, signer_id: int, *, name: str, reason: str, out: Path) -> None:
    from cassiopeia.client.order_draft import find_validator  # noqa: PLC0415 - as above

    heard = _hear(config_path, signer_id)
    _draft(heard, _arguments(kind, validator=find_validator(heard, name)), reason=reason, out=out)
    _say_next(out)


def _block_or_unblock(kind: str, config_path: Path, signer_id: int, *, key: str, reason: str, out: Path) -> None:
    from cassiopeia.client.key_to_block import find_key  # noqa: PLC0415 - as above

    found = find_key(key)
    _draft(_hear(config_path, signer_id), _arguments(kind, key_hash=found.key_hash), reason=reason, out=out)
    click.echo(f"The key is that of {found.found_in}.")
    _say_next(out)


def _arguments(kind: str, **values: Any) -> Arguments:
    from cassiopeia.journal import order  # noqa: PLC0415 - as above

    made: Arguments = getattr(order, kind)(**values)
    return made


def _hear(config_path: Path, signer_id: int) -> Heard:
    from cassiopeia.client.order_draft import hear  # noqa: PLC0415 - as above
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    config = load_client_config(config_path)
    with open_store(config.store_url) as store:
        return hear(store, journal_keys=config.journal_keys, signer_id=signer_id)


def _draft(heard: Heard, arguments: Arguments, *, reason: str, out: Path) -> None:
    octets = heard.draft(arguments, reason=reason)
    _write(out, octets, silent=dt.datetime.now(dt.UTC) - heard.asked_at)


def _write(out: Path, octets: bytes, *, silent: dt.timedelta) -> None:
    """Write the order, show what it says, and warn if the signer may have been started again since it was heard."""
    from cassiopeia.client.order_draft import write_order  # noqa: PLC0415 - as above

    write_order(out, octets)
    print_order(octets)
    if silent > _HEARD_WITHIN:
        click.echo(
            f"WARNING: the signer was last heard {_span(silent)} ago; if it was started again since, it will refuse "
            "this order: make another one then",
            err=True,
        )


def _say_next(out: Path) -> None:
    click.echo(f"{out}: written. Now: cassiopeia order sign {out} --key FILE")


def _effect(correction: dt.timedelta) -> str:
    seconds = round(correction.total_seconds())
    if abs(seconds) <= _IS_RIGHT_WITHIN_S:
        return "confirms that"
    return f"sets it {'forward' if seconds > 0 else 'back'} by {_span(correction)}"


def _span(difference: dt.timedelta) -> str:
    seconds = abs(difference.total_seconds())
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; write 2026-11-23T12:00:00Z", param_hint="--time") from None
    if moment.tzinfo is None:
        raise click.BadParameter(
            f"{text!r} does not say of which time zone; write Z behind it for UTC", param_hint="--time"
        )
    return moment.astimezone(dt.UTC)
