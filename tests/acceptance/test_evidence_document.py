"""docs/evidence.md: the validator in fifty lines and the check program do what the page says, word for word.

Needs the `openssl` program (Debian: apt install openssl).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from examples.system import System
from tests.support.acceptance import make_key, make_request, start, submit, verify

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evidence.md").read_text(encoding="utf-8")


def snippet(language: str, first: str) -> str:
    """The block of code that begins so."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if block.startswith(first))
    return found


def test_it_has_fifty_lines_and_nothing_of_ours() -> None:
    program = snippet("python", '"""own.py')

    assert len(program.splitlines()) <= 50
    assert max(map(len, program.splitlines())) <= 130
    assert not re.search(r"import .*cassiopeia|from cassiopeia", program)


def test_it_states_and_attests_and_the_signer_believes_it(alone: System) -> None:
    directory = alone.directory
    (directory / "own.py").write_text(snippet("python", '"""own.py'))
    for command in re.findall(r"^\$ openssl (.*?)(?: +#.*)?$", PAGE, re.MULTILINE):
        alone.openssl(*command.split())
    signer = directory / "ca/signer"
    (signer / "validators/own.pem").write_bytes((directory / "own.pem").read_bytes())
    pin = snippet("toml", '[[validator]]\nname = "own"')
    (signer / "signer.toml").write_text((signer / "signer.toml").read_text() + pin)
    start(alone)
    csr = make_request(alone, make_key(alone, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))
    request = ["--profile", "0004-server", "--dns", "www.example.org", csr]
    proved, unproved = submit(alone, *request), submit(alone, *request)

    def run(request_id: str, *seen: str) -> None:
        command = [sys.executable, "-I", "own.py", "ca/client/store.sqlite", "own.key", request_id[:6], *seen]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")

    run(proved, "dns-control=www.example.org", "caa-permits=www.example.org")
    run(unproved, "dns-control=www.example.org")

    alone.client("request", "wait", options=["--out", "www.pem", proved])
    assert verify(alone, directory / "www.pem") == "www.pem: OK\n"
    refused = alone.client("request", "wait", options=[unproved], status=1).stderr
    assert "missing for the account 'operator': caa-permits for www.example.org." in refused
    # What it states is found by ours, which only has to be told whom to believe.
    validator = directory / "ca/validator/validator.toml"
    validator.write_text(validator.read_text().replace("[store]", 'peers = ["../signer/validators/own.pem"]\n[store]'))
    listed = alone.validator("list").stdout
    assert re.search(r"^caa-permits +www\.example\.org +operator +own +\S+ \S+ +20", listed, re.MULTILINE)
    alone.start_validator()
    alone.client("request", "submit", options=["--wait", *request])
    for name in ("validator", "client", "signer"):
        alone.stop(name)


def test_the_check_program_sees_what_the_registry_says(tmp_path: Path) -> None:
    registry, program = tmp_path / "domains", tmp_path / "check"
    registry.write_text("momo example.org\n")
    program.write_text(snippet("sh", "#!/bin/sh").replace("/srv/registry/domains", str(registry)))
    program.chmod(0o700)

    def run(account: str, value: str) -> subprocess.CompletedProcess[str]:
        told = {"CASSIOPEIA_KIND": "dns-control", "CASSIOPEIA_ACCOUNT": account, "CASSIOPEIA_VALUE": value}
        environment = {"PATH": os.environ["PATH"], **told}
        return subprocess.run([str(program)], env=environment, capture_output=True, text=True, check=False, timeout=60)

    seen = run("momo", "example.org")
    assert (seen.returncode, seen.stdout) == (0, "registry\n")
    for account, value in [("momo", "www.example.org"), ("beppo", "example.org"), ("-e", "."), ("momo", "example.or.")]:
        assert (run(account, value).returncode, run(account, value).stderr) == (
            1,
            "the registry does not say so any more\n",
        )
