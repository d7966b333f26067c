"""A system whose signer obeys two operators, and what they do: draft, sign, send."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.system import System
from tests.support.acceptance import QuickSystem, make_authority
from tests.support.warm_commands import WarmCommands

OPERATORS = ("anna", "ben")


@contextmanager
def ordered_system(directory: Path, commands: WarmCommands, *options: str) -> Iterator[System]:
    """An authority with two operators, of whom both must sign what loosens; nothing of it runs yet."""
    keys = [word for name in OPERATORS for word in ("--operator-key", f"{name}.pem")]
    with QuickSystem(directory=directory, init_options=(*options, *keys, "--quorum", "2"), commands=commands) as made:
        (directory / "passphrase").write_text("correct horse battery staple\n")
        for name in OPERATORS:
            done = made.run("order", "key", f"{name}.key", "--passphrase-file", "passphrase")
            (directory / f"{name}.pem").write_text(done.stdout)
        make_authority(made)
        yield made
        for name in list(made.processes):
            made.stop(name)


def order(system: System, *words: str, by: tuple[str, ...] = OPERATORS, status: int = 0) -> tuple[str, str]:
    """Draft an order, let these sign it, and send it; return what the draft said, and what came of it."""
    path = system.directory / "x.order"
    path.unlink(missing_ok=True)
    draft = system.client("order", "make", *words, options=["--reason", "a drill", "--out", path.name])
    for name in by:
        system.run("order", "sign", path.name, "--key", f"{name}.key", "--passphrase-file", "passphrase", "--yes")
    sent = system.client("order", "send", options=[path.name, "--wait"], status=status)
    return draft.stdout, sent.stdout + sent.stderr
