"""A sub-CA whose key is in a token of SoftHSM, as docs/crypto-backends.md sets it up; the whole system from outside.

Debian: apt install softhsm2 opensc.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.system import CASSIOPEIA, System
from tests.support.acceptance import (
    SERVER,
    issue,
    make_key,
    make_request,
    requests,
    start,
    submit,
    verify,
    wait_for_crls,
)
from tests.support.softhsm import SoftHsm

PAGE = Path(__file__).resolve().parents[2] / "docs" / "crypto-backends.md"
DOCUMENTED_CA = "unassured_2026_2"


def try_out() -> tuple[list[str], str]:
    """The commands of the try-out, all blocks of them, and what it adds to signer.toml."""
    found = re.search(
        r"^### Try it in five minutes\n(.*?)^##", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert found is not None
    blocks = re.findall(r"```console\n(.*?)```", found[1], re.DOTALL)
    toml = re.search(r"```toml\n(.*?)```", found[1], re.DOTALL)
    assert toml is not None
    return [re.sub(r"^[$#] ", "", block, flags=re.MULTILINE) for block in blocks], toml[1]


class TokenSystem:
    """A system whose sub-CA that issues now has its key in a token; its signer calls the library through the spy."""

    def __init__(self, system: System, monkeypatch: pytest.MonkeyPatch) -> None:
        self.system = system
        self.signer = system.directory / "ca/signer"
        self.softhsm = SoftHsm(directory=self.signer)
        (self.name,) = [each for each in self.published("unassured_*.pem") if self.issues_now(each)]
        self.follow(monkeypatch)

    def published(self, pattern: str) -> list[str]:
        return sorted(path.stem for path in (self.signer / "certificates").glob(pattern))

    def issues_now(self, name: str) -> bool:
        table = (self.signer / "authorities.toml").read_text().split(f'name = "{name}"')[1].split("[[authority]]")[0]
        dates = re.findall(r"issues_(?:from|until) = (\S+)", table)
        now = subprocess.run(["date", "-u", "+%Y-%m-%dT%H:%M:%SZ"], capture_output=True, text=True, check=True).stdout
        return bool(dates[0] <= now.strip() < dates[1])

    def follow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Do what the page says, up to the start of the signer."""
        (install, make, run), toml = try_out()
        assert "apt install softhsm2" in install
        assert "cassiopeia signer run -c signer.toml" in run
        script = "set -euo pipefail\n" + make.replace(DOCUMENTED_CA, self.name)
        subprocess.run(["bash", "-c", script], cwd=self.signer, check=True, capture_output=True, timeout=120)
        with (self.signer / "signer.toml").open("a", encoding="utf-8") as file:
            file.write("\n" + toml.replace(DOCUMENTED_CA, self.name))
        for name, value in self.softhsm.variables.items():
            monkeypatch.setenv(name, value)

    @property
    def refused(self) -> int:
        """How often the token refused a PIN, as the signer remembers it."""
        return sum(len(json.loads(path.read_bytes())) for path in (self.signer / "state/tokens").glob("*.refused"))

    @property
    def cannot_use_its_key(self) -> str:
        return f"cannot use the key of {self.name}: "

    def request(self) -> list[str]:
        key = make_key(self.system, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        csr = make_request(self.system, key)
        return ["--profile", SERVER, "--dns", "www.example.org", csr]

    def check(self) -> None:
        """`backend check`, in a process of its own, which sees the tokens."""
        command = [*CASSIOPEIA, "backend", "check", "-c", "signer.toml"]
        done = subprocess.run(command, cwd=self.signer, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> str:
        return " ".join(self.system.client("status").stdout.split())


@pytest.fixture
def token(alone: System, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenSystem]:
    yield TokenSystem(alone, monkeypatch)
    for name in list(alone.processes):
        alone.stop(name)
        assert "Traceback" not in alone.log(name)


def test_what_the_page_says_gives_certificates_and_crls_that_the_token_signed(token: TokenSystem) -> None:
    system = token.system
    token.check()
    assert not (token.signer / "keys" / f"{token.name}.key").exists()

    start(system)
    wait_for_crls(system)
    certificate = issue(system, *token.request())

    assert "OK" in verify(system, certificate)
    assert (system.directory / f"ca/client/public/{token.name}.crl").exists()


def test_requests_wait_for_a_token_that_was_pulled_out_and_others_do_not(token: TokenSystem) -> None:
    system = token.system
    start(system)
    wait_for_crls(system)
    issue(system, *token.request())

    token.softhsm.unplug()
    waiting = [submit(system, *token.request()) for _ in range(3)]
    system.wait_until(lambda: token.cannot_use_its_key in token.status(), "status tells of it")
    assert {each["state"] for each in requests(system) if each["id"] in waiting} & {
        "issued",
        "refused",
        "failed",
    } == set()

    token.softhsm.plug()
    system.wait_until(lambda: {state(system, each) for each in waiting} == {"issued"}, "what waited is issued")
    verify(system, issue(system, *token.request()))


def test_a_wrong_pin_is_given_to_the_token_once_and_other_sub_cas_work(token: TokenSystem) -> None:
    system, softhsm = token.system, token.softhsm
    softhsm.write_pin("000000")
    start(system)
    others = [each for each in token.published("*.pem") if each != token.name]
    public = system.directory / "ca/client/public"
    system.wait_until(lambda: all((public / f"{each}.crl").exists() for each in others), "others have their CRLs")
    waiting = submit(system, *token.request())
    system.wait_until(lambda: token.cannot_use_its_key in token.status(), "status tells of it")
    # Neither a restart nor a reload tries it again.
    system.stop("signer")
    system.start_signer("--verbose")
    system.wait_until(lambda: system.log("client").count("session open") == 2, "the signer is back")
    system.processes["signer"].send_signal(signal.SIGHUP)
    system.wait_until(lambda: token.cannot_use_its_key in token.status(), "status tells of it")
    assert token.refused == 1
    assert state(system, waiting) == "queued"
    assert "000000" not in system.log("signer") + system.log("client") + token.status()

    softhsm.write_pin()
    token.check()

    system.wait_until(lambda: state(system, waiting) == "issued", "the signer goes on by itself")
    wait_for_crls(system)
    assert token.refused == 0


def state(system: System, identifier: str) -> str:
    return str(next(each["state"] for each in requests(system) if each["id"] == identifier))
