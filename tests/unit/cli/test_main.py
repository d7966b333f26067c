from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner, Result

from cassiopeia import __version__
from cassiopeia.cli import main as cli
from cassiopeia.errors import (
    ConfigurationError,
    InternalError,
    OperatorError,
    PeerError,
    Refused,
    StateUnknown,
    Unavailable,
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.cassiopeia, list(arguments), prog_name="cassiopeia")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """`cassiopeia status` becomes a command that raises."""

    def raising(error: BaseException) -> None:
        @click.command()
        def status() -> None:
            raise error

        monkeypatch.setattr(cli, "_load", lambda _: status)

    return raising


def test_the_version_is_said() -> None:
    assert run("--version").output == f"cassiopeia, version {__version__}\n"


def test_help_names_every_command_and_loads_none() -> None:
    program = (
        "import sys\n"
        "from cassiopeia.cli.main import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "loaded = [each for each in sys.modules if each.startswith('cassiopeia.') or each == 'cryptography']\n"
        "ours = ['cassiopeia.cli', 'cassiopeia.cli.main', 'cassiopeia.errors', 'cassiopeia.process_guard']\n"
        "assert sorted(loaded) == ours, loaded\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    for name in ("init", "signer", "client", "request", "certificate", "crl", "profile", "store", "status"):
        assert f"\n  {name} " in done.stdout


def test_without_a_command_help_is_shown() -> None:
    result = run()

    assert result.exit_code == 2
    assert result.output.startswith("Usage: cassiopeia [OPTIONS] COMMAND")


def test_a_command_is_found_by_its_name() -> None:
    result = run("init", "--help")

    assert result.exit_code == 0
    assert result.output.startswith("Usage: cassiopeia init [OPTIONS] DIRECTORY")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("fly",), "No such command 'fly'. Try: cassiopeia --help"),
        (("--fly",), "No such option '--fly'. Try: cassiopeia --help"),
        (("init",), "Missing argument 'DIRECTORY'. Try: cassiopeia init --help"),
        (("init", "x", "--periods", "0"), "Invalid value for '--periods': 0 is not in the range 1<=x<=24."),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: tuple[str, ...], line: str) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"cassiopeia: error: {line}")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OperatorError("key.pem: wrong\n  passphrase"), "key.pem: wrong passphrase"),
        (ConfigurationError("is missing", source="a.toml", key="b.c"), "a.toml: b.c: is missing"),
        (Refused("The name is not allowed.", code="name", field="CN"), "The name is not allowed."),
        (Unavailable("no signer answers"), "no signer answers"),
        (PeerError("the peer spoke nonsense"), "the peer spoke nonsense"),
        (StateUnknown("the disk failed"), "the disk failed"),
        (PermissionError(13, "Permission denied", "/etc/x"), "/etc/x: Permission denied"),
        (TimeoutError("timed out"), "timed out"),
        (click.FileError("x.csr", "gone"), "Could not open file 'x.csr': gone"),
        (
            ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy.orm"),
            "this needs the package 'sqlalchemy'; run: pip install 'cassiopeia-ca[client]'",
        ),
        (
            ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn"),
            "this needs the package 'uvicorn'; run: pip install 'cassiopeia-ca[publisher]'",
        ),
        (
            ModuleNotFoundError("No module named 'shamir_mnemonic'", name="shamir_mnemonic"),
            "this needs the package 'shamir_mnemonic'; run: pip install 'cassiopeia-ca[ceremony]'",
        ),
    ],
)
def test_every_foreseen_error_is_one_line(
    command: Callable[[BaseException], None], error: BaseException, line: str
) -> None:
    command(error)

    result = run("status")

    assert (result.exit_code, result.stderr) == (1, f"cassiopeia: error: {line}\n")


@pytest.mark.parametrize(
    "error",
    [
        InternalError("bug"),
        ValueError("bug"),
        ModuleNotFoundError("No module named 'cassiopeia.x'", name="cassiopeia.x"),
        ModuleNotFoundError("odd"),
    ],
)
def test_a_bug_keeps_its_traceback(command: Callable[[BaseException], None], error: Exception) -> None:
    command(error)

    assert run("status").exception is error


def test_a_reader_that_went_away_is_no_error(command: Callable[[BaseException], None]) -> None:
    command(BrokenPipeError(32, "Broken pipe"))

    result = run("status")

    assert (result.exit_code, result.stderr) == (1, "")


def test_a_shell_can_complete_the_commands() -> None:
    context = click.Context(cli.cassiopeia)

    assert [each.value for each in cli.cassiopeia.shell_complete(context, "s")] == ["signer", "store", "status"]


def test_every_command_on_the_list_exists() -> None:
    for name in cli._COMMANDS:
        module = importlib.import_module(f"cassiopeia.cli.{name}")
        assert getattr(module, name).name == name


def test_the_process_ends_with_the_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # This process is the tests' own, and shall stay as it is.
    monkeypatch.setattr(cli, "_guard_process", lambda _: None)

    with pytest.raises(SystemExit) as ended:
        cli.main(["fly"])

    assert ended.value.code == 2
    assert capsys.readouterr().err == "cassiopeia: error: No such command 'fly'. Try: cassiopeia --help\n"
