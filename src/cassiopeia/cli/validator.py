"""`cassiopeia validator`: what was seen, said by a key that the signer knows; and vouching for requests that wait."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from cassiopeia.cli.bundles import bundle_argument, dry_run_option, print_bundle, read_bundle_file
from cassiopeia.cli.options import (
    configuration,
    json_option,
    log_format_option,
    print_json,
    print_table,
    set_up_logging,
    show_time,
    verbose_option,
    visible,
)
from cassiopeia.errors import OperatorError, Refused

if TYPE_CHECKING:
    from cassiopeia.config import ValidatorConfig
    from cassiopeia.core.evidence import Observation
    from cassiopeia.store.database import Store
    from cassiopeia.validation.statement import Statement

_ATTESTATION: Final = "attestation"
# As in `core.evidence`, which `--help` must not load; a test holds them together.
_KINDS: Final = ("dns-control", "caa-permits", "mailbox-control", "name-verified", "organisation")
_READ_CHARACTERS: Final = 64 << 20
# It names a file, too.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_validator_option = configuration("validator.toml", variable="CASSIOPEIA_VALIDATOR")


@click.group()
def validator() -> None:
    """State what was seen, and vouch for requests, with a key that the signer knows.

    `observe` signs what you or a script have seen; `run` vouches for each request that waits, together with what was
    seen for its account. Without both the signer issues nothing but profiles that demand no evidence.
    """


@validator.command(short_help="Make another validator: its key and validator.toml.")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--client",
    "client_path",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="client.toml of the client whose store it will use.",
)
@click.option("--name", help="What signer.toml calls it; default: the name of DIRECTORY.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice([_ATTESTATION, *_KINDS]),
    metavar="KIND",
    help=f"What it may sign: {_ATTESTATION}, {', '.join(_KINDS)}; may be given several times. Default: all.",
)
def init(directory: Path, client_path: Path, name: str | None, kinds: tuple[str, ...]) -> None:
    """Make a validator in DIRECTORY, which must be new or empty, and print what the signer has to be told.

    Its key never leaves DIRECTORY; the signer learns the public half. DIRECTORY can be carried to a machine of its own,
    which needs the store (PostgreSQL, then) and nothing else.
    """
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.signer.machine import pinning_toml  # noqa: PLC0415 - as above
    from cassiopeia.validation.installation import make_validator  # noqa: PLC0415 - as above

    name = name or directory.absolute().name
    if not _NAME.fullmatch(name):
        raise OperatorError(f"{name!a} is no name for a validator: give --name, of letters, digits and . _ -")
    kinds = kinds or (_ATTESTATION, *_KINDS)
    public = make_validator(directory, load_client_config(client_path), name=name, kinds=kinds)
    click.echo(public.decode(), nl=False)
    click.echo(
        f"{directory}: made. Now, on the signer: save what was printed above as validators/{name}.pem beside "
        "signer.toml, add these lines to signer.toml, and reload the signer (SIGHUP):\n",
        err=True,
    )
    click.echo(pinning_toml(name, kinds), err=True)
    attests = _ATTESTATION in kinds
    click.echo(
        f"Then: cassiopeia validator {'run' if attests else 'observe'} -c {directory / 'validator.toml'}", err=True
    )
    if not attests:
        click.echo(
            "It attests no requests. Save its key beside the validator that does, too, and name the file there in "
            "validator.peers of validator.toml.",
            err=True,
        )


@validator.command(short_help="Install the profiles that a ceremony gives to clients.")
@_validator_option
@bundle_argument
@dry_run_option
def install(config_path: Path, bundle: Path, dry_run: bool) -> None:
    """Verify BUNDLE, which is the one for clients, show what it changes, and put it in force at once.

    After any error nothing has changed. A validator that runs is started again to take it over.
    """
    from cassiopeia.cli.client_machine import install_on  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.client import installing  # noqa: PLC0415 - as above
    from cassiopeia.config import load_validator_config  # noqa: PLC0415 - as above
    from cassiopeia.core.bundle import CLIENT  # noqa: PLC0415 - as above

    machine = installing.validator_machine(load_validator_config(config_path))
    octets = read_bundle_file(bundle)
    opened = installing.open_public_bundle(machine, octets, kinds=(CLIENT,))
    print_bundle(opened, octets)
    install_on(machine, opened, octets, dry_run=dry_run)


@validator.command(short_help="State that something was seen.")
@_validator_option
@click.argument("kind", required=False, type=click.Choice(_KINDS), metavar="[KIND]")
@click.argument("value", required=False)
@click.option("--account", help="For whom: an observation serves the requests of this account alone.")
@click.option("--method", metavar="WORD", help="How it was seen, as dns, http, mail or passport; default: stated.")
@click.option("--at", metavar="TIME", help="When it was seen, as 2026-11-23T12:00:00Z; default: now.")
@click.option("--row", metavar="TABLE:KEY", help="The row of a database that it is about.")
@click.option("--c", "country", metavar="CODE", help="An organisation's country, two letters.")
@click.option("--st", "state", metavar="NAME", help="Its state or province.")
@click.option("--l", "locality", metavar="NAME", help="Its place.")
@click.option("--o", "organisation", metavar="NAME", help="Its name.")
@click.option("--ou", "units", multiple=True, metavar="NAME", help="A part of it; may be given several times.")
@click.option("--cn", "common_name", metavar="NAME", help="Somebody, or something, of this organisation.")
@click.option(
    "--from",
    "source",
    type=click.File("r", encoding="utf-8"),
    metavar="FILE",
    help="Instead of all this: lines of JSON with the keys kind, value or organisation, account, method, at, row; - "
    "reads standard input. All of them are stated, or none.",
)
@json_option
def observe(  # noqa: PLR0917 - click passes every option by itself
    config_path: Path,
    kind: str | None,
    value: str | None,
    account: str | None,
    method: str | None,
    at: str | None,
    row: str | None,
    country: str | None,
    state: str | None,
    locality: str | None,
    organisation: str | None,
    units: tuple[str, ...],
    common_name: str | None,
    source: IO[str] | None,
    as_json: bool,
) -> None:
    """State that you, or your script, saw KIND for VALUE; the validator's key signs it.

    \b
    KIND is one of
      dns-control      a domain name that the account controls
      caa-permits      a domain name, or *.NAME: its CAA records let us issue
      mailbox-control  a mail address that the account reads
      name-verified    a person's name, whose papers somebody has seen
      organisation     no VALUE: the account speaks for --o, of --c, --l and so on

    Only state what was seen: from then on the signer believes it, until it is too old for the profile.
    """  # noqa: D301 - click leaves lines behind a backspace as they are
    from cassiopeia.validation.statement import warn_of_breadth  # noqa: PLC0415 - as above

    parts = {"C": country, "ST": state, "L": locality, "O": organisation, "OU": units, "CN": common_name}
    stated = {"value": value, "account": account, "method": method, "at": at, "row": row}
    one = {name: given for name, given in stated.items() if given}
    of_organisation = {name: given for name, given in parts.items() if given}
    if source is not None:
        if kind or one or of_organisation:
            raise click.UsageError("Give either --from, or one statement on the command line.")
        statements = _read(source)
    elif kind is None or account is None:
        raise click.UsageError("Name KIND, VALUE and --account, or give --from FILE.")
    else:
        statements = (_statement(kind, one, of_organisation),)
    now = dt.datetime.now(dt.UTC)
    config, store = _open(config_path)
    with store:
        observations = _state(config, store, statements, now=now)
    if warning := warn_of_breadth(observations):
        click.echo(f"cassiopeia: warning: {warning}", err=True)
    if as_json:
        print_json([_document(each) for each in observations])
        return
    for each in observations:
        click.echo(
            f"{each.kind} {_shown(each)}: stated for {visible(each.account)}, seen {show_time(each.observed_at)}"
        )


@validator.command(name="list", short_help="Show what is proved, and until when.")
@_validator_option
@click.option("--account", help="Only for this account.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), metavar="NUMBER", help="So many at most."
)
@json_option
def list_observations(config_path: Path, account: str | None, limit: int, as_json: bool) -> None:
    """Show what was seen, the newest first, and until when it is good for which profiles."""
    from cassiopeia.config import load_profiles  # noqa: PLC0415 - as above
    from cassiopeia.validation.overview import overview  # noqa: PLC0415 - as above

    config, store = _open(config_path)
    with store:
        found = overview(config, store, load_profiles(config.profiles), account=account, limit=limit)
    if as_json:
        print_json([{**_document(each.observation), "doubt": each.doubt, "until": dict(each.until)} for each in found])
        return
    print_table(
        ("KIND", "VALUE", "ACCOUNT", "METHOD", "SEEN", "PROVED UNTIL"),
        [
            (
                each.observation.kind,
                _shown(each.observation),
                each.observation.account,
                each.observation.method,
                show_time(each.observation.observed_at),
                each.says_until(now=dt.datetime.now(dt.UTC)),
            )
            for each in found
        ],
    )


@validator.command(short_help="Vouch for one request now, or say what is missing.")
@_validator_option
@click.argument("request_id", metavar="REQUEST")
@click.option(
    "--incomplete", is_flag=True, help="Vouch for it although proofs are missing: the signer will refuse it for good."
)
def attest(config_path: Path, request_id: str, incomplete: bool) -> None:
    """Vouch for one queued REQUEST (the beginning of its id is enough), under the signer's nonce of this moment.

    `run` does so by itself. When something is not proved, this says what, and how to state it.
    """
    from cassiopeia.validation.attesting import Attester  # noqa: PLC0415 - as above

    config, store = _open(config_path)
    with store:
        attester = Attester.of(config, store)
        try:
            done = attester.attest_one(request_id, incomplete=incomplete, now=dt.datetime.now(dt.UTC))
        finally:
            attester.close()
    for each in done.chosen:
        click.echo(f"  {each.kind} {_shown(each)}, by {each.method}, seen {show_time(each.observed_at)}")
    click.echo(f"request {done.request_id.hex()[:12]}: attested for signer {done.signer_id}, good for some minutes")


@validator.command(short_help="Vouch for requests as they come.")
@_validator_option
@verbose_option
@log_format_option
def run(config_path: Path, verbose: bool, log_format: str) -> None:
    """Vouch for the requests that wait, each just before it is its turn, until SIGTERM or Ctrl-C.

    What has lapsed is looked at again by the programs that validator.toml names; what cannot be proved again waits, and
    its owner is told why (`cassiopeia request show`).
    """
    from cassiopeia.validation.service import ValidatorService  # noqa: PLC0415 - as above

    set_up_logging(verbose=verbose, log_format=log_format)
    config, store = _open(config_path)
    with store:
        ValidatorService(config, store).run()


def _open(config_path: Path) -> tuple[ValidatorConfig, Store]:
    from cassiopeia.config import load_validator_config  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    config = load_validator_config(config_path)
    return config, open_store(config.store_url)


def _read(source: IO[str]) -> tuple[Statement, ...]:
    from cassiopeia.validation.statement import read_statements  # noqa: PLC0415 - as above

    try:
        text = source.read(_READ_CHARACTERS)
    except UnicodeDecodeError as error:
        raise OperatorError(f"{source.name}: octet {error.start} is not UTF-8; nothing was stated") from error
    statements = read_statements(text)
    if not statements:
        raise OperatorError(f"{source.name}: no statement is in it; write a line of JSON for each")
    return statements


def _statement(kind: str, one: Mapping[str, str], of_organisation: Mapping[str, Any]) -> Statement:
    from cassiopeia.validation.statement import Statement  # noqa: PLC0415 - as above

    return Statement(kind=kind, organisation=of_organisation, **one)


def _state(
    config: ValidatorConfig, store: Store, statements: tuple[Statement, ...], *, now: dt.datetime
) -> list[Observation]:
    """Sign and keep all of them, or none; raises Refused or OperatorError."""
    from cassiopeia.validation.key import load_validator_key  # noqa: PLC0415 - as above
    from cassiopeia.validation.statement import observe as make  # noqa: PLC0415 - as above

    key = load_validator_key(config.key)
    made = []
    for number, each in enumerate(statements, 1):
        if each.kind in _KINDS and each.kind not in config.kinds:
            raise OperatorError(
                f"{config.source}: this validator's key does not sign {each.kind}; it signs "
                f"{', '.join(sorted(config.kinds))}"
            )
        try:
            made.append(make(each, key, now=now))
        except Refused as refusal:
            where = f"statement {number}: " if len(statements) > 1 else ""
            raise OperatorError(f"{where}{refusal.message.rstrip('.')}; nothing was stated") from refusal
    store.evidence.put_observations([octets for _, octets in made], now=now)
    store.evidence.hurry({observation.account for observation, _ in made}, now=now)
    return [observation for observation, _ in made]


def _document(observation: Observation) -> dict[str, Any]:
    return {
        "kind": observation.kind,
        "value": observation.value,
        "account": observation.account,
        "method": observation.method,
        "observed": observation.observed_at,
        "row": f"{observation.table}:{observation.primary_key}" if observation.table else "",
        "validator": observation.validator.hex(),
    }


def _shown(observation: Observation) -> str:
    """The value on one line."""
    return visible(observation.value.replace("\n", ", "))
