"""`make run`: a CA that is made once, stops when it is told to, and is the same when it starts again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from examples.system import System
from tests.support.acceptance import SERVER, certificates, issue, make_key, make_request, verify

ROOT = Path(__file__).resolve().parents[2]
TIME_LIMIT_S = 60


@contextmanager
def run(system: System, log: Path, stop_by: signal.Signals) -> Iterator[None]:
    """`examples/run.py` until the block ends; then it must stop cleanly, and leave no process behind."""
    command = [sys.executable, "-m", "examples.run", "--directory", str(system.directory / "ca")]
    command += ["--key-algorithm", "P-256", "--http-port", "0"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        system.wait_until(lambda: "session open" in log.read_text() or process.poll() is not None, "the CA is running")
        assert process.poll() is None, log.read_text()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        yield
        process.send_signal(stop_by)
        assert process.wait(TIME_LIMIT_S) == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert len(children) == 4
    assert [child for child in children if Path("/proc", child).exists()] == []
    assert "Traceback" not in log.read_text()


def test_it_keeps_everything_across_restarts(short_path: Path) -> None:
    system = System(directory=short_path)
    request = make_request(system, make_key(system, "-algorithm", "ED25519"))
    logs = short_path / "first.log", short_path / "second.log"

    with run(system, logs[0], signal.SIGTERM):
        first = issue(system, "--profile", SERVER, "--dns", "first.example.org", request)
    root = (short_path / "ca/client/public/root.pem").read_bytes()
    with run(system, logs[1], signal.SIGINT):
        second = issue(system, "--profile", SERVER, "--dns", "second.example.org", request)

    assert "Making a CA under" in logs[0].read_text()
    assert "Making a CA under" not in logs[1].read_text()
    assert (short_path / "ca/client/public/root.pem").read_bytes() == root
    assert [verify(system, each) for each in (first, second)] == [f"{first.name}: OK\n", f"{second.name}: OK\n"]
    assert len([each for each in certificates(system) if each["account"] != "ocsp-responder"]) == 2


def test_the_commands_that_it_shows_work(short_path: Path) -> None:
    system = System(directory=short_path)
    with run(system, short_path / "run.log", signal.SIGTERM):
        said = (short_path / "run.log").read_text().split("From a second terminal:\n")[1].split("CA certificates")[0]
        shown = "\n".join(line for line in said.splitlines() if line.startswith("    "))
        done = subprocess.run(
            ["bash", "-e"],
            input=shown,
            cwd=short_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIME_LIMIT_S,
        )
    assert done.returncode == 0, done.stderr
    # Both certificates go into the same file, the later one over the first.
    assert (short_path / "example.pem").read_text().count("-----BEGIN CERTIFICATE-----") == 1
    assert re.search(r"[1-9][0-9]* issued in the last hour", done.stdout)


def test_an_empty_directory_is_filled_and_impatience_leaves_no_orphans(short_path: Path) -> None:
    directory, log = short_path / "ca", short_path / "run.log"
    directory.mkdir()
    command = [sys.executable, "-m", "examples.run", "--directory", str(directory), "--key-algorithm", "P-256"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
    try:
        System(directory=short_path).wait_until(
            lambda: "session open" in log.read_text() or process.poll() is not None, "the CA is running"
        )
        assert process.poll() is None, log.read_text()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii").split()
        deadline = time.monotonic() + TIME_LIMIT_S
        while process.poll() is None and time.monotonic() < deadline:
            process.send_signal(signal.SIGINT)
            time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        assert process.poll() == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert "Making a CA under" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert len(children) == 4
    assert [child for child in children if Path("/proc", child).exists()] == []


@pytest.mark.parametrize("what", ["signer", "client", "validator"])
def test_one_that_ends_by_itself_ends_the_other(short_path: Path, what: str) -> None:
    system = System(directory=short_path, init_options=("--unproved-profiles", "--key-algorithm", "P-256"))
    system.run(*system.init_command)
    configuration = short_path / "ca" / what / f"{what}.toml"
    configuration.write_text(configuration.read_text() + "colour = 1\n")
    before = time.monotonic()

    command = [sys.executable, "-m", "examples.run", "--directory", str(short_path / "ca")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S)

    assert done.returncode == 1
    assert f"{what}.toml: " in done.stderr
    assert "colour: this key is not known here" in done.stderr
    assert f"{what} ended by itself with status 1; its last words stand above" in done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - before < TIME_LIMIT_S / 2
    assert not [each for each in Path("/proc").glob("[0-9]*/cmdline") if str(short_path) in read(each)]


def read(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended meanwhile
        return ""


def test_a_directory_that_cannot_be_made_is_one_line() -> None:
    command = [sys.executable, "-m", "examples.run", "--directory", "/proc/nowhere/ca"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S, env=dict(os.environ)
    )

    assert done.returncode == 1
    assert done.stderr.startswith("cassiopeia: error: ")
    assert done.stderr.count("\n") == 1
