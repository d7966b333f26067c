"""A whole CA in one directory, driven from outside: the commands, the two processes, their logs.

The demo, the benchmarks and the acceptance tests use it; it knows nothing but the command line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from examples.null_modem import NullModem

CASSIOPEIA = [sys.executable, "-m", "cassiopeia"]
TIME_LIMIT_S = 60.0
COMMAND_TIME_LIMIT_S = 120.0
_POLL_S = 0.05


class CommandFailed(Exception):
    """A command ended with another status than 0; the message has all that it printed."""


@dataclass(kw_only=True)
class System:
    """Use as a context manager: whatever was started has ended at the end. The CA is in `directory`/ca."""

    directory: Path
    link: str = "unix"
    init_options: Sequence[str] = ("--unproved-profiles",)
    baud: int = 0
    client_config: str = "ca/client/client.toml"
    validator_config: str = "ca/validator/validator.toml"
    publisher_config: str = "ca/publisher/publisher.toml"
    modem: NullModem | None = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        if self.link == "serial":
            self.modem = self._stack.enter_context(NullModem(baud=self.baud))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()
        self._stack.close()

    @property
    def init_command(self) -> list[str]:
        """`cassiopeia init`, with the devices when the link is serial."""
        devices = []
        if self.modem is not None:
            signer_device, client_device = self.modem.devices
            devices = ["--signer-device", signer_device, "--client-device", client_device]
        return ["init", "ca", *self.init_options, *devices]

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """One `cassiopeia` command; raises `CommandFailed` when it ends with another status than expected."""
        done = self.execute(arguments)
        if done.returncode != status:
            shown = " ".join(arguments)
            raise CommandFailed(f"cassiopeia {shown}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def execute(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in the directory of this system."""
        command = [*CASSIOPEIA, *arguments]
        return subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=False, timeout=COMMAND_TIME_LIMIT_S
        )

    def client(self, *words: str, options: Sequence[str] = (), status: int = 0) -> subprocess.CompletedProcess[str]:
        """A command of the database's side: `words`, then its configuration, then `options`."""
        return self.run(*words, "-c", self.client_config, *options, status=status)

    def validator(self, *words: str, options: Sequence[str] = (), status: int = 0) -> subprocess.CompletedProcess[str]:
        """The same with the validator's configuration."""
        return self.run("validator", *words, "-c", self.validator_config, *options, status=status)

    def observe(self, kind: str, value: str, account: str, *options: str) -> str:
        """State what was seen; return what the command says."""
        return self.validator("observe", options=[kind, value, "--account", account, *options]).stdout

    def ask(self, *words: str, options: Sequence[str] = ()) -> Any:
        """A command of the database's side, answered as JSON."""
        return json.loads(self.client(*words, options=["--json", *options]).stdout)

    def openssl(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        command = ["openssl", *arguments]
        done = subprocess.run(
            command, cwd=self.directory, capture_output=True, text=True, check=False, timeout=COMMAND_TIME_LIMIT_S
        )
        if done.returncode != status:
            raise CommandFailed(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start_signer(self, *options: str) -> subprocess.Popen[bytes]:
        return self._start("signer", ["signer", "run", "-c", "ca/signer/signer.toml", *options])

    def start_client(self, *options: str, name: str = "client", config: str | None = None) -> subprocess.Popen[bytes]:
        return self._start(name, ["client", "run", "-c", config or self.client_config, *options])

    def start_validator(self, *options: str, name: str = "validator") -> subprocess.Popen[bytes]:
        return self._start(name, ["validator", "run", "-c", self.validator_config, *options])

    def start_publisher(self, *options: str) -> str:
        """At any port that is free; return the URL where it serves."""
        path = self.directory / self.publisher_config
        path.write_text(path.read_text().replace('"127.0.0.1:8080"', '"127.0.0.1:0"'))
        before = self.log("publisher").count("serving at ")
        self._start("publisher", ["publisher", "run", "-c", self.publisher_config, *options])
        self.wait_until(lambda: self.log("publisher").count("serving at ") > before, "the publisher serves")
        return self.log("publisher").rpartition("serving at ")[2].splitlines()[0]

    def log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def wait_for_log(self, name: str, words: str) -> None:
        self.wait_until(lambda: words in self.log(name), f"{name} logs {words!r}")

    def wait_until(self, condition: Callable[[], bool], what: str, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        deadline = time.monotonic() + time_limit_s
        while not condition():
            if time.monotonic() > deadline:
                raise CommandFailed(f"waited in vain until {what}\n{self._logs()}")
            for name, process in self.processes.items():
                if process.poll() not in {None, 0}:
                    raise CommandFailed(f"{name} ended with status {process.returncode}\n{self._logs()}")
            time.sleep(_POLL_S)

    def stop(self, name: str) -> None:
        """SIGTERM, and the process must end well."""
        process = self.processes.pop(name)
        process.terminate()
        if process.wait(TIME_LIMIT_S) != 0:
            raise CommandFailed(f"{name} ended with status {process.returncode}\n{self.log(name)}")

    def kill(self, name: str) -> None:
        """SIGKILL: the process has no time for anything."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def wait_for_end(self, name: str, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        """Wait until the process ends by itself, and well."""
        process = self.processes.pop(name)
        if process.wait(time_limit_s) != 0:
            raise CommandFailed(f"{name} ended with status {process.returncode}\n{self.log(name)}")

    def process_ids(self, name: str) -> frozenset[int]:
        """The process and its workers."""
        process_id = self.processes[name].pid
        children = Path(f"/proc/{process_id}/task/{process_id}/children").read_text(encoding="ascii")
        return frozenset({process_id, *map(int, children.split())})

    def authority_of(self, certificate: Path) -> str:
        """Name of the sub-CA that signed this certificate (PEM)."""
        issuer = self.openssl("x509", "-in", str(certificate), "-noout", "-issuer", "-nameopt", "multiline").stdout
        return issuer.split("commonName")[1].split("=")[1].strip()

    def trust_options(self, certificate: Path) -> list[str]:
        """What `openssl verify` is given for this certificate: the root to trust, and the CAs between."""
        authority = self.authority_of(certificate)
        public = "ca/client/public"
        family = authority.split("_")[0]
        between = ["-untrusted", f"{public}/{family}.pem", "-untrusted", f"{public}/{authority}.pem"]
        return ["-CAfile", f"{public}/root.pem", *between]

    def crl_of(self, certificate: Path) -> str:
        return f"ca/client/public/{self.authority_of(certificate)}.crl"

    def _start(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([*CASSIOPEIA, *arguments], cwd=self.directory, stdout=log, stderr=log)
        self.processes[name] = process
        return process

    def _logs(self) -> str:
        return "\n".join(f"--- {log.stem}\n{log.read_text()}" for log in sorted(self.directory.glob("*.log")))
