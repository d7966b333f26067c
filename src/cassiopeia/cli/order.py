"""`cassiopeia order`: what operators can tell a signer over the line, from the draft to the answer."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cassiopeia.cli.bundles import print_bundle, print_changes, read_bundle_file
from cassiopeia.cli.options import (
    config_option,
    json_option,
    print_json,
    print_table,
    show_time,
    timeout_option,
)
from cassiopeia.cli.order_make import make, print_order
from cassiopeia.cli.passphrase import passphrase_for_a_while
from cassiopeia.errors import OperatorError

if TYPE_CHECKING:
    from cassiopeia.client.bundle_review import ReviewedBundle
    from cassiopeia.config import ClientConfig
    from cassiopeia.journal.order import Arguments, Order
    from cassiopeia.store.database import Store
    from cassiopeia.store.orders import StoredOrder

_ASK_EVERY_S: Final = 0.2
_LISTED: Final = 20

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_bundle_option = click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The bundle that the order installs: verified, compared with the order, and shown.",
)
_bundle_key_option = click.option(
    "--bundle-key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="bundle-key.pem of the ceremony, where there is no client.toml.",
)
_known_config_option = click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="CASSIOPEIA_CONFIG",
    help="client.toml: with it, --bundle is compared with what the signer has (or set CASSIOPEIA_CONFIG).",
)
_passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read the passphrase of the key from this file instead of asking for it.",
)


@click.group()
def order() -> None:
    """Tell a signer what nobody but its operators can tell it.

    `make` a draft from what the signer said last, let operators `sign` the file, each with a key of his own, then
    `send` it. One that restricts what the signer does needs one signature; one that loosens it as many as signer.toml
    asks for (quorum).
    """


@order.command(short_help="Make an operator's key.")
@_file
@_passphrase_option
def key(file: Path, passphrase_file: Path | None) -> None:
    """Make an operator's key in FILE, encrypted, and print its public half.

    FILE stays with the operator. The public half goes beside the signer's signer.toml, which names it under [orders].
    """
    from cassiopeia.ceremony.operator_key import make_operator_key, public_pem  # noqa: PLC0415 - `--help` must be quick

    with passphrase_for_a_while(passphrase_file, confirm=True) as passphrase:
        made = make_operator_key(file, passphrase)
    click.echo(public_pem(made), nl=False)
    click.echo(
        f"{file}: written. Save what was printed as NAME.pem on the signer, add it to operators under [orders] in "
        "signer.toml, and reload the signer (SIGHUP).",
        err=True,
    )


order.add_command(make)


@order.command(short_help="Say what an order says, and who has signed it.")
@_file
@_bundle_option
@_bundle_key_option
@_known_config_option
def show(file: Path, bundle: Path | None, bundle_key: Path | None, config_path: Path | None) -> None:
    """Say in words what the order in FILE says, and by which keys it is signed.

    Of an order that installs a bundle, with --bundle, also what that changes.
    """
    from cassiopeia.client.order_draft import read_order_file  # noqa: PLC0415 - as above

    octets = read_order_file(file)
    print_order(octets)
    _show_bundle(octets, bundle, bundle_key, config_path)


@order.command(short_help="Add a signature to an order.")
@_file
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The operator's key, made by `cassiopeia order key`.",
)
@_passphrase_option
@_bundle_option
@_bundle_key_option
@_known_config_option
@click.option("--yes", is_flag=True, help="Do not ask whether to sign, for scripts.")
def sign(
    file: Path,
    key_file: Path,
    passphrase_file: Path | None,
    bundle: Path | None,
    bundle_key: Path | None,
    config_path: Path | None,
    yes: bool,
) -> None:
    """Add a signature to the order in FILE, after showing what it says. Needs neither a database nor the line."""
    from cassiopeia.ceremony.operator_key import load_operator_key  # noqa: PLC0415 - as above
    from cassiopeia.client.order_draft import read_order_file, write_order  # noqa: PLC0415 - as above
    from cassiopeia.journal.order import sign_order  # noqa: PLC0415 - as above

    octets = read_order_file(file)
    print_order(octets)
    _show_bundle(octets, bundle, bundle_key, config_path)
    if not yes:
        click.confirm("Sign this?", abort=True)
    with passphrase_for_a_while(passphrase_file) as passphrase:
        private = load_operator_key(key_file, passphrase)
    signed = sign_order(octets, private)
    write_order(file, signed, replace=True)
    carried = "" if bundle is None else f" --bundle {bundle}"
    click.echo(f"{file}: signed. When all have signed: cassiopeia order send {file}{carried}")


@order.command(short_help="Give an order to the signer client.")
@_file
@config_option
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The bundle that the order installs: it goes first.",
)
@click.option("--wait", is_flag=True, help="Wait until the signer has answered.")
@timeout_option
def send(file: Path, config_path: Path, bundle: Path | None, wait: bool, timeout_s: float) -> None:
    """Give the order in FILE to the signer client, which takes it over the line at once."""
    from cassiopeia.client.order_draft import read_order_file  # noqa: PLC0415 - as above
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.journal.order import InstallBundle, read_order, read_signed  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    octets = read_order_file(file)
    said, arguments = read_order(octets)
    if not read_signed(octets).signatures:
        raise OperatorError(f"{file}: nobody has signed this order yet: cassiopeia order sign {file} --key FILE")
    config = load_client_config(config_path)
    carried = None
    if bundle is not None:
        carried = _review(arguments, bundle, config.bundles.key_file, source=config.source).octets
    elif isinstance(arguments, InstallBundle):
        raise OperatorError(f"{file}: this order installs a bundle, which has to go along: --bundle FILE")
    with open_store(config.store_url) as store:
        sent = store.orders.put(said.signer_id, said.sequence, octets, bundle=carried, now=dt.datetime.now(dt.UTC))
        if not wait:
            click.echo(f"order {sent.sequence} waits for signer {sent.signer_id}; see: cassiopeia order list")
            return
        answered = _wait(store, sent, timeout_s)
    if answered.state == "refused":
        raise OperatorError(f"signer {sent.signer_id} has refused order {sent.sequence}: {answered.answer}")
    click.echo(
        f"signer {sent.signer_id} has obeyed order {sent.sequence}: entry {answered.journal_index} of its journal"
    )


@order.command(name="list", short_help="Show what was sent, and what the signers answered.")
@config_option
@json_option
def list_(config_path: Path, as_json: bool) -> None:
    """Show the latest orders that were sent, and what the signers have answered."""
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    with open_store(load_client_config(config_path).store_url) as store:
        orders = store.orders.list(limit=_LISTED)
    if as_json:
        print_json({"orders": [_document(each) for each in orders]})
        return
    print_table(
        ("SENT", "SIGNER", "NUMBER", "ORDER", "STATE", "ANSWER"),
        [
            (
                show_time(each.created_at),
                str(each.signer_id),
                str(each.sequence),
                _read(each.octets)[0].action,
                each.state,
                each.answer if each.journal_index is None else f"entry {each.journal_index} of its journal",
            )
            for each in orders
        ],
    )


def _show_bundle(order_octets: bytes, bundle: Path | None, bundle_key: Path | None, config_path: Path | None) -> None:
    """What the bundle of an order changes, as far as it is at hand here."""
    from cassiopeia.client.bundle_review import changes_in_words, contents_in_words  # noqa: PLC0415 - as above
    from cassiopeia.config import load_client_config  # noqa: PLC0415 - as above
    from cassiopeia.journal.order import InstallBundle  # noqa: PLC0415 - as above

    said, arguments = _read(order_octets)
    if bundle is None:
        if isinstance(arguments, InstallBundle):
            click.echo("What is in the bundle is not known here: give it with --bundle.")
        return
    config = None if config_path is None else load_client_config(config_path)
    key_file, source = bundle_key, bundle
    if config is not None:
        key_file, source = bundle_key or config.bundles.key_file, config.source
    elif bundle_key is None:
        raise OperatorError(f"{bundle}: nothing says whether this is to be trusted: give --bundle-key, or -c")
    reviewed = _review(arguments, bundle, key_file, source=source)
    print_bundle(reviewed.bundle, reviewed.octets)
    report = None if config is None else _last_report(config, said.signer_id)
    if config is None or report is None:
        click.echo("It holds:")
        print_changes(contents_in_words(reviewed.bundle))
    else:
        click.echo("It changes, beside what the signer has said that it has:")
        print_changes(changes_in_words(reviewed.bundle, config, report))


def _review(arguments: Arguments, bundle: Path, key_file: Path | None, *, source: Path) -> ReviewedBundle:
    from cassiopeia.client.bundle_review import check_ordered, review  # noqa: PLC0415 - as above

    reviewed = review(read_bundle_file(bundle), bundle_key=key_file, source=source)
    check_ordered(reviewed, arguments)
    return reviewed


def _last_report(config: ClientConfig, signer_id: int) -> Mapping[str, Any] | None:
    from cassiopeia.store.database import open_store  # noqa: PLC0415 - as above

    with open_store(config.store_url) as store:
        return store.signers.report(signer_id)


def _read(octets: bytes) -> tuple[Order, Arguments]:
    from cassiopeia.journal.order import read_order  # noqa: PLC0415 - as above

    return read_order(octets)


def _wait(store: Store, sent: StoredOrder, timeout_s: float) -> StoredOrder:
    deadline = time.monotonic() + timeout_s
    while True:
        answered = store.orders.get(sent.id)
        if answered.state != "waiting":
            return answered
        if time.monotonic() >= deadline:
            answer = f" (the signer says: {answered.answer})" if answered.answer else ""
            raise OperatorError(
                f"order {sent.sequence} still waits after {timeout_s:g} seconds{answer}; it is not lost: is "
                "`cassiopeia client run` running, and does the line stand? See: cassiopeia order list"
            )
        time.sleep(_ASK_EVERY_S)


def _document(stored: StoredOrder) -> dict[str, Any]:
    said, _ = _read(stored.octets)
    return {
        "signer_id": stored.signer_id,
        "number": stored.sequence,
        "order": said.action,
        "reason": said.reason,
        "state": stored.state,
        "answer": stored.answer,
        "journal_index": stored.journal_index,
        "sent": stored.created_at,
        "changed": stored.updated_at,
    }
