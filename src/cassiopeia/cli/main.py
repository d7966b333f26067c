"""The command `cassiopeia`: finds the group that is asked for, and makes every error one clear line.

Groups are imported only when they are called: the signer's machine has nothing of the database's side installed, and
`--help` loads none of them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

import click
from click.exceptions import NoArgsIsHelpError

from cassiopeia import __version__, process_guard
from cassiopeia.errors import CassiopeiaError, InternalError

# Name and what it does. The command of that name is in the module of that name beside this one.
_COMMANDS: Final[Mapping[str, str]] = {
    "init": "Make a new authority: keys, certificates, configuration.",
    "ceremony": "Make and extend a hierarchy of CAs, offline.",
    "signer": "Run the signer, which holds the CA keys.",
    "client": "Run the signer client, which takes jobs to the signer.",
    "validator": "State what was seen, and vouch for requests.",
    "publisher": "Serve CRLs and CA certificates, and answer OCSP.",
    "request": "Submit requests for certificates, and see what became of them.",
    "certificate": "List, show, fetch and revoke certificates.",
    "revoke": "Revoke many certificates at once: plan, run, see how far it is.",
    "crl": "Show, fetch, renew and watch certificate revocation lists.",
    "profile": "Check profiles, import those of the original, release one that is held.",
    "journal": "Show, verify and export the signer's journal, and prove what is in it.",
    "order": "Tell a signer what only its operators can tell it.",
    "backend": "List, check and measure the crypto libraries that sign.",
    "backup": "Write one side, signer or client, to one file.",
    "restore": "Take a backup out again.",
    "store": "Make the store's tables, or bring them up to date.",
    "status": "Say how signer, queue and CRLs are.",
    "doctor": "Look at everything, and say what to do, and by when.",
}
# Whoever runs these has private keys: what they have in memory stays out of swap, and no file of theirs is for others
# unless it is said so for that file.
_WITH_KEYS: Final = frozenset({"backend", "ceremony", "init", "order", "publisher", "signer", "validator"})
# What it makes belongs to several machines, and the store's part of it to a group.
_FOR_SEVERAL: Final = frozenset({"init"})
_PACKAGE: Final = "cassiopeia"
# Which extra brings a package; the client's brings the others.
_EXTRAS: Final[Mapping[str, str]] = {"starlette": "publisher", "uvicorn": "publisher", "shamir_mnemonic": "ceremony"}


class OneLineError(click.ClickException):
    """An error as a person sees it: one line on stderr."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code  # type: ignore[misc] # click declares a class variable, and reads it by instance

    def show(self, file: Any = None) -> None:
        click.echo(f"{_PACKAGE}: error: {self.message}", file=file or sys.stderr)


class LazyGroup(click.Group):
    """A group whose commands are modules that are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        return _load(cmd_name) if cmd_name in _COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _one_line():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, name=_PACKAGE)
@click.version_option(__version__, prog_name=_PACKAGE)
def cassiopeia() -> None:
    """Run a certificate authority whose private keys live on a machine that nobody can reach.

    Begin with `cassiopeia init DIRECTORY --unproved-profiles`, which says what to start next.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    given = sys.argv[1:] if arguments is None else list(arguments)
    _guard_process(given[0] if given else "")
    sys.exit(cassiopeia.main(args=given, prog_name=_PACKAGE))


def _guard_process(command: str) -> None:
    try:
        with _one_line():
            process_guard.guard_process()
    except OneLineError as error:
        error.show()
        sys.exit(error.exit_code)
    if command in _WITH_KEYS:
        process_guard.lock_memory()
    if command in _WITH_KEYS - _FOR_SEVERAL:
        process_guard.keep_files_private()


def _load(name: str) -> click.Command:
    module = importlib.import_module(f"{_PACKAGE}.cli.{name}")
    command: click.Command = getattr(module, name)
    return command


@contextmanager
def _one_line() -> Iterator[None]:
    """Turn what went wrong on purpose into one line; a bug keeps its traceback."""
    try:
        yield
    except (NoArgsIsHelpError, OneLineError):
        raise
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx is not None else _PACKAGE
        message = error.format_message()
        stop = "" if message.endswith((".", "?")) else "."
        raise OneLineError(f"{message}{stop} Try: {path} --help", exit_code=error.exit_code) from error
    except click.ClickException as error:
        raise OneLineError(error.format_message(), exit_code=error.exit_code) from error
    except (InternalError, BrokenPipeError):
        raise
    except CassiopeiaError as error:
        raise OneLineError(str(error)) from error
    except ModuleNotFoundError as error:
        package = (error.name or _PACKAGE).split(".")[0]
        if package == _PACKAGE:
            raise
        # The signer's machine: it has only what the signer needs.
        extra = _EXTRAS.get(package, "client")
        raise OneLineError(f"this needs the package {package!r}; run: pip install '{_PACKAGE}-ca[{extra}]'") from error
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        raise OneLineError(f"{name}{error.strerror or error}") from error
