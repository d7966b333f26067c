"""`cassiopeia backend`: which crypto libraries there are, whether they are well, and how quick they are here.

Runs with what a signer has installed, and with whatever else of `signer.keystore.backends.NEEDS` it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cassiopeia.cli.options import json_option, print_json, print_table, visible
from cassiopeia.core.key_uri import BACKENDS, PKCS11, FileUri, Pkcs11Uri, parse_key_uri
from cassiopeia.errors import CassiopeiaError, OperatorError

if TYPE_CHECKING:
    from cassiopeia.config import KeyUse, SignerConfig
    from cassiopeia.core.algorithms import SignatureAlgorithm
    from cassiopeia.core.key_uri import KeyUri
    from cassiopeia.signer.keystore.interface import Backend, StoreSettings
    from cassiopeia.signer.keystore.self_test import Finding
    from cassiopeia.signer.keystore.speed import Contestant, Figure

_REFERENCE: Final = "openssl"
_GOOD: Final = "ok"
_WRONG: Final = "WRONG"
_UNTRIED: Final = "-"


_file = click.Path(path_type=Path, dir_okay=False, exists=True)


def _token_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--module", type=_file, help="The PKCS#11 library of the token, where the URI names none."),
        click.option("--pin-file", type=_file, help="The PIN of the token, where the URI names none."),
        click.option("-c", "--config", "config_path", type=_file, help="signer.toml, whose settings are used."),
    ):
        command = option(command)
    return command


def _key_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a key needs that is named by its URI, where no signer.toml says it."""
    passphrase = click.option("--passphrase-file", type=_file, help="The passphrase of the key files.")
    return _token_options(passphrase(command))


_backend_option = click.option(
    "--backend", "names", multiple=True, type=click.Choice(BACKENDS), help="Only this library; may be repeated."
)


@click.group()
def backend() -> None:
    """Look at the crypto libraries that can sign for sub-CAs.

    Which of them signs for which sub-CA stands in signer.toml: `backend` in [keys] and [authority.NAME].
    """


@backend.command("list", short_help="Say what each library can do, and what is missing.")
@_token_options
@json_option
def list_backends(config_path: Path | None, pin_file: Path | None, module: Path | None, as_json: bool) -> None:
    """Say which libraries there are, what each can do, and what is missing for the others.

    With --config also: by which of them each sub-CA signs, and who verifies that beside OpenSSL. With that or --module:
    the keys that are in tokens, by the URIs that name them. No PIN is given to a token but that of --pin-file; without
    it, most show public keys alone.
    """
    from cassiopeia.core.algorithms import ALGORITHMS  # noqa: PLC0415 - `--help` must not load the crypto library
    from cassiopeia.signer.keystore.backends import NEEDS, find_backends  # noqa: PLC0415 - as above

    settings = _KeySettings(config_path, passphrase_file=None, pin_file=pin_file, module=module)
    uses = {} if settings.config is None else _key_uses(settings.config)
    found = find_backends()
    fault, keys = "", []
    try:
        keys = _keys_in_tokens(settings.store if pin_file else replace(settings.store, pin=None))
    except CassiopeiaError as error:
        fault = str(error)
    if as_json:
        print_json(
            {
                "backends": [
                    {"name": name, "extra": NEEDS[name].extra, "package": NEEDS[name].package, **_describe(each)}
                    for name, each in found.items()
                ],
                "authorities": [
                    {"name": name, "backend": use.backend, "verify_with": use.verify_with, "key": str(use.uri)}
                    for name, use in uses.items()
                ],
                "keys": keys,
                "keys_fault": fault,
            }
        )
        return
    there = {name: each for name, each in found.items() if not isinstance(each, CassiopeiaError)}
    print_table(("backend", "version"), [(name, each.version or "as the token says") for name, each in there.items()])
    for each in found.values():
        if isinstance(each, CassiopeiaError):
            click.echo(str(each))
    click.echo()
    print_table(
        ("algorithm", *there),
        [(each.name, *(_ability(one, each) for one in there.values())) for each in ALGORITHMS],
    )
    if "pkcs11" in there:
        click.echo("What a token can do, it says itself: cassiopeia backend check pkcs11:token=LABEL;object=LABEL")
    if uses:
        click.echo()
        print_table(
            ("sub-CA", "signs", "verifies besides", "key"),
            [(name, use.backend, use.verify_with or "-", visible(str(use.uri))) for name, use in uses.items()],
        )
    if fault:
        raise OperatorError(fault)
    if settings.store.module:
        click.echo(f"\nkeys in the tokens of {settings.store.module}{':' if keys else ': none'}")
    for key in keys:
        click.echo(visible(key))


def _key_uses(config: SignerConfig) -> dict[str, KeyUse]:
    from cassiopeia.signer.configuration import key_uses  # noqa: PLC0415 - `--help` must be quick

    return key_uses(config)


def _keys_in_tokens(settings: StoreSettings) -> list[str]:
    """The URIs of what the configured PKCS#11 library shows; none without one."""
    from cassiopeia.signer.keystore.backends import load_backend  # noqa: PLC0415 - `--help` must be quick

    if not settings.module:
        return []
    store = load_backend(PKCS11).open_store(settings)
    try:
        return [str(each) for each in store.list_keys()]
    finally:
        store.close()


@backend.command(short_help="Try the libraries, and the keys of a signer.")
@click.argument("uris", nargs=-1, metavar="[URI]...")
@_backend_option
@_key_options
@json_option
def check(
    uris: tuple[str, ...],
    names: tuple[str, ...],
    config_path: Path | None,
    passphrase_file: Path | None,
    pin_file: Path | None,
    module: Path | None,
    as_json: bool,
) -> None:
    """Try the libraries, and with --config the keys of a signer; exit with 1 when anything is wrong.

    Each library that is there verifies and makes known signatures; then it signs with a fresh key, and every other one
    verifies that, and has to refuse it with a bit flipped. With --config, the key of each sub-CA is opened and proved
    as at the signer's start, and any other that an [authority.NAME] names. URI names one that stands nowhere yet:
    file:PATH, file:PATH?backend=gnutls, pkcs11:token=LABEL;object=LABEL.

    A token that refused its PIN is asked once more, for a person is there now: correct the PIN file before.
    """
    from cassiopeia.signer.keystore.backends import find_backends  # noqa: PLC0415 - `--help` must be quick

    settings = _KeySettings(config_path, passphrase_file=passphrase_file, pin_file=pin_file, module=module)
    named = settings.read_uris(uris)
    found = find_backends()
    findings: list[Finding] = []
    for each in _check(found, names, named, settings):
        findings.append(each)
        if not as_json:
            click.echo(
                f"{_WRONG if each.fault else _GOOD:<5} {visible(each.subject)}: {visible(each.fault or each.done)}"
            )
    untried = {
        name: str(each) for name, each in found.items() if isinstance(each, CassiopeiaError) and name not in names
    }
    if not isinstance(found[PKCS11], CassiopeiaError) and not any(each.backend == PKCS11 for each in findings):
        untried[PKCS11] = "no key in a token was named: give its URI, or a signer.toml whose keys are in one"
    if as_json:
        print_json({"findings": [asdict(each) for each in findings], "untried": untried})
    else:
        for name, why in untried.items():
            click.echo(f"{_UNTRIED:<5} {name}: {why}")
    if not findings:
        raise OperatorError(f"nothing was tried: {untried[PKCS11]}")
    wrong = [each for each in findings if each.fault]
    if wrong:
        raise OperatorError(
            f"{len(wrong)} of {len(findings)} checks failed; the first: {wrong[0].subject}: {wrong[0].fault}"
        )
    if not as_json:
        click.echo(f"{len(findings)} checks, and nothing is wrong.")


@backend.command(short_help="Measure signatures a second.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=0.5,
    show_default=True,
    metavar="SECONDS",
    help="Measure each figure for so long.",
)
@click.option(
    "--key-algorithm",
    "kinds",
    multiple=True,
    metavar="ALGORITHM",
    help="Only this kind of key, as RSA-4096 or P-256; may be repeated.",
)
@_backend_option
@click.option("--verify", is_flag=True, help="Measure verifications too: what a second opinion costs.")
@click.option(
    "--token",
    "tokens",
    multiple=True,
    metavar="URI",
    help="Measure this key in a token, and others of its kind; may be repeated.",
)
@_key_options
@json_option
def bench(
    seconds: float,
    kinds: tuple[str, ...],
    names: tuple[str, ...],
    verify: bool,
    tokens: tuple[str, ...],
    config_path: Path | None,
    passphrase_file: Path | None,
    pin_file: Path | None,
    module: Path | None,
    as_json: bool,
) -> None:
    """Measure signatures a second, by one thread with one fresh key, as a table.

    The libraries take turns. In brackets: how many times as quick as OpenSSL in the same run.
    """
    from cassiopeia.signer.keystore import speed  # noqa: PLC0415 - `--help` must be quick
    from cassiopeia.signer.keystore.backends import find_backends, load_backend  # noqa: PLC0415 - as above
    from cassiopeia.signer.keystore.ca_key import CA_KEY_ALGORITHMS  # noqa: PLC0415 - as above
    from cassiopeia.signer.keystore.trial_keys import trial_keys  # noqa: PLC0415 - as above

    for kind in kinds:
        if kind not in CA_KEY_ALGORITHMS:
            raise OperatorError(f"there is no key algorithm {kind!r}: take one of {', '.join(CA_KEY_ALGORITHMS)}")
    settings = _KeySettings(config_path, passphrase_file=passphrase_file, pin_file=pin_file, module=module)
    named = [_in_token(each) for each in settings.read_uris(tokens)]
    found = {name: load_backend(name) for name in names} if names else find_backends()
    with trial_keys() as trial, ExitStack() as scope:
        # 1. Tokens first: their keys say which kinds are measured, where nobody says it.
        tokens_there: list[Contestant] = []
        if named:
            store = load_backend(PKCS11).open_store(settings.store)
            scope.callback(store.close)
            tokens_there += speed.token_contestants(load_backend(PKCS11), store, named)
        of_tokens = {kind for each in tokens_there for kind in each.keys}
        wanted = kinds or [each for each in CA_KEY_ALGORITHMS if not of_tokens or each in of_tokens]
        # 2. The libraries.
        contestants: list[Contestant] = []
        for name, each in found.items():
            if not isinstance(each, CassiopeiaError) and name != PKCS11:
                store = each.open_store(trial.settings)
                scope.callback(store.close)
                contestants.append(speed.file_contestant(each, store, trial, wanted))
        contestants += tokens_there
        # 3. Signing, and verifying.
        signing = list(speed.measure(contestants, wanted, seconds=seconds))
        verifying = list(speed.measure_verifying(contestants, wanted, seconds=seconds)) if verify else []
    if as_json:
        print_json({"signatures": _documents(signing), "verifications": _documents(verifying)})
        return
    _print_figures("signatures a second", signing)
    if verifying:
        click.echo()
        _print_figures("verifications a second", verifying)


class _KeySettings:
    """How the keys are opened that somebody names on the command line, or a signer.toml names."""

    def __init__(
        self, config_path: Path | None, *, passphrase_file: Path | None, pin_file: Path | None, module: Path | None
    ) -> None:
        from cassiopeia.config import load_signer_config  # noqa: PLC0415 - `--help` must be quick
        from cassiopeia.secret_source import SecretSource  # noqa: PLC0415 - as above
        from cassiopeia.signer.configuration import store_settings  # noqa: PLC0415 - as above
        from cassiopeia.signer.keystore.interface import StoreSettings  # noqa: PLC0415 - as above

        self.config: SignerConfig | None = None if config_path is None else load_signer_config(config_path)
        self._has_passphrase = self.config is not None or passphrase_file is not None
        passphrase = SecretSource(what="the passphrase of the CA keys", file=passphrase_file)
        if self.config is not None:
            self.store: StoreSettings = store_settings(self.config)
        else:
            self.store = StoreSettings(passphrase=passphrase)
        if passphrase_file is not None:
            self.store = replace(self.store, passphrase=passphrase)
        if module is not None:
            self.store = replace(self.store, module=str(module.absolute()))
        if pin_file is not None:
            self.store = replace(self.store, pin=SecretSource(what="the PIN of the token", file=pin_file))

    def read_uris(self, texts: Sequence[str]) -> list[KeyUri]:
        """What was named, paths relative to where the command runs; raises `OperatorError`."""
        from cassiopeia.config.keys import resolve_key_uri  # noqa: PLC0415 - `--help` must be quick

        uris = [resolve_key_uri(parse_key_uri(each), Path.cwd()) for each in texts]
        if not self._has_passphrase and any(isinstance(each, FileUri) for each in uris):
            raise OperatorError("a key file has a passphrase: name its file with --passphrase-file, or use --config")
        return uris


def _check(
    found: Mapping[str, Backend | CassiopeiaError], names: Sequence[str], uris: Sequence[KeyUri], settings: _KeySettings
) -> Iterator[Finding]:
    from cassiopeia.signer.configuration import (  # noqa: PLC0415 - `--help` must be quick
        key_uses,
        own_entries,
        unused_tables,
    )
    from cassiopeia.signer.keystore import self_test  # noqa: PLC0415 - as above
    from cassiopeia.signer.keystore.trial_keys import trial_keys  # noqa: PLC0415 - as above

    # 1. The libraries; one that is missing is a fault where somebody asked for it.
    there = [each for each in found.values() if not isinstance(each, CassiopeiaError)]
    with trial_keys() as trial:
        for name in names or found:
            tried = found[name]
            if not isinstance(tried, CassiopeiaError):
                yield from self_test.check_backend(tried, [each for each in there if each is not tried], trial)
            elif names:
                yield self_test.Finding(subject=name, backend=name, fault=str(tried))
    # 2. The keys.
    checks = self_test.KeyChecks(settings.store)
    if settings.config is not None:
        uses = key_uses(settings.config)
        for entry in own_entries(settings.config):
            yield checks.check_authority(entry.authority, uses[entry.authority.name])
        # The line of signer.toml may be there before the bundle that brings the sub-CA; one that names no key may have
        # been meant to switch another one.
        for name, why in unused_tables(settings.config).items():
            if (key := settings.config.keys.authorities[name].key) is not None:
                use = settings.config.keys.use(name, key, directory=Path.cwd())
                yield checks.check_key(use.uri, there)
            else:
                yield self_test.Finding(subject=str(settings.config.source), backend="", fault=why)
    for uri in uris:
        yield checks.check_key(uri, there)


def _in_token(uri: KeyUri) -> Pkcs11Uri:
    if not isinstance(uri, Pkcs11Uri):
        raise OperatorError(f"{uri}: this is no key in a token; key files are made for this, and need no name")
    return uri


def _describe(backend: Backend | CassiopeiaError) -> dict[str, Any]:
    if isinstance(backend, CassiopeiaError):
        return {"available": False, "version": "", "missing": str(backend), "signs": [], "verifies": []}
    return {
        "available": True,
        "version": backend.version,
        "missing": "",
        "signs": [each.name for each in backend.signs],
        "verifies": [each.name for each in backend.verifies],
    }


def _ability(backend: Backend, algorithm: SignatureAlgorithm) -> str:
    able = [word for word, known in (("signs", backend.signs), ("verifies", backend.verifies)) if algorithm in known]
    return ", ".join(able) or "-"


def _documents(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    rates = {(each.key_algorithm, each.algorithm, each.by): each.a_second for each in figures}
    documents = []
    for (kind, algorithm, by), rate in rates.items():
        reference = rates.get((kind, algorithm, _REFERENCE))
        documents.append(
            {
                "key_algorithm": kind,
                "algorithm": algorithm.name,
                "by": by,
                "a_second": round(rate, 1),
                "ratio": None if reference is None else round(rate / reference, 3),
            }
        )
    return documents


def _print_figures(title: str, figures: Sequence[Figure]) -> None:
    documents = _documents(figures)
    by = list(dict.fromkeys(each["by"] for each in documents))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for each in documents:
        ratio = "" if each["ratio"] is None or each["by"] == _REFERENCE else f" ({each['ratio']:.2f})"
        cells.setdefault((each["key_algorithm"], each["algorithm"]), {})[each["by"]] = f"{each['a_second']:,.0f}{ratio}"
    click.echo(title)
    print_table(
        ("key", "algorithm", *by), [(*row, *(cell.get(name, "-") for name in by)) for row, cell in cells.items()]
    )
