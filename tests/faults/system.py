"""A CA whose two programs are started with a plan for their misfortunes, and which is driven through its store.

One authority is made for all tests and copied for each: it has published its first CRLs and has issued a few
certificates. The programs are real processes on a real store; requests are queued and results looked up in this
process, because hundreds of commands would cost more than what is tested.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from examples.system import TIME_LIMIT_S, CommandFailed, System
from tests.faults.launcher import Launch, Launcher, Plan
from tests.support.operators import public_pem

from cassiopeia.config import load_client_config
from cassiopeia.core.request import CertificateRequest, SubjectAltName
from cassiopeia.store.database import Store, open_store
from cassiopeia.store.records import CertificateRecord, RequestRecord
from cassiopeia.store.submission import submit

PROFILE = "9004-unproved-server"
SIGNER_ID = 1
ISSUED_BEFORE = 3
SIGNER, CLIENT = "ca/signer/signer.toml", "ca/client/client.toml"
# What takes a minute in production, so that a signer on a slow line is not given up too early.
IMPATIENT = {
    "cassiopeia.client.worker._ANSWER_TIME_LIMIT_S": 1.0,
    "cassiopeia.client.worker._RESET_TIME_LIMIT_S": 0.4,
    "cassiopeia.client.worker._POLL_S": 0.05,
    "cassiopeia.client.leases._LOOK_EVERY_S": 0.05,
    "cassiopeia.client.worker._RECONNECT_FIRST_S": 0.1,
    "cassiopeia.client.worker._RECONNECT_LAST_S": 0.3,
    "cassiopeia.client.worker._STATUS_EVERY_S": 1.0,
    "cassiopeia.client.crl_sync._RETRY_S": 0.5,
}


@dataclass(kw_only=True)
class FaultySystem(System):
    """Use as a context manager; `store` is open in between."""

    launcher: Launcher
    store_url: str = ""
    requests: list[bytes] = field(default_factory=list)

    @functools.cached_property
    def store(self) -> Store:
        url = self.store_url or f"sqlite:///{self.directory}/ca/client/store.sqlite"
        return self._stack.enter_context(open_store(url))

    def run_signer(self, plan: Plan | None = None) -> None:
        self._launch("signer", ["signer", "run", "-c", SIGNER, "--verbose"], plan)

    def run_client(self, plan: Plan | None = None, *options: str, name: str = "client", config: str = CLIENT) -> None:
        plan = plan or Plan()
        plan = Plan(
            **{each: getattr(plan, each) for each in Plan.__slots__} | {"constants": IMPATIENT | plan.constants}
        )
        self._launch(name, ["client", "run", "-c", config, "--verbose", *options], plan)

    def drain(self, **words: str) -> None:
        """Let a client work until the queue is empty."""
        self.run_client(None, "--drain", **words)
        self.wait_for_end(words.get("name", "client"))

    def request(self, count: int = 1, *, account: str = "alice") -> list[bytes]:
        """Queue requests by the one key of this account, each for a name of its own; return their ids."""
        identifiers = [os.urandom(32) for _ in range(count)]
        for identifier in identifiers:
            wanted = CertificateRequest(
                key_kind="csr",
                key_proof=_certification_request(account),
                profile=PROFILE,
                account=account,
                alt_names=(SubjectAltName(type="DNS", value=f"n{len(self.requests)}.example.org"),),
            )
            submit(self.store, wanted, request_id=identifier, now=_now())
            self.requests.append(identifier)
        return identifiers

    def revoke(self, count: int = 1) -> list[str]:
        """Queue the revocation of certificates that nobody has asked for yet; return their serial numbers."""
        page = self.store.certificates.page(revocation_state="none", limit=count)
        assert len(page.items) == count, "there are not so many certificates"
        for each in page.items:
            self.store.certificates.request_revocation(each.serial_number, now=_now(), reason=1)
        return [each.serial_number for each in page.items]

    def find(self, identifier: bytes) -> RequestRecord:
        record = self.store.requests.find(identifier)
        assert record is not None
        return record

    @functools.cached_property
    def authorities(self) -> list[str]:
        return sorted(path.stem for path in (self.directory / "ca/signer/certificates").glob("*.pem"))

    @property
    def journal_keys(self) -> list[bytes]:
        """What the client knows the signer's journal by."""
        return list(load_client_config(self.directory / CLIENT).journal_keys)

    @property
    def certificates(self) -> tuple[CertificateRecord, ...]:
        return self.store.certificates.page(limit=100_000).items

    def arm(self) -> None:
        """From here on, plans with `armed_by="armed"` count."""
        (self.directory / "armed").touch()

    def wait_for_death(self, name: str) -> None:
        """Wait until the process has been killed by its plan."""
        process = self.processes.pop(name)
        try:
            status = process.wait(TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise CommandFailed(f"{name} was to die, and did not\n{self._logs()}") from None
        if status != -signal.SIGKILL:
            raise CommandFailed(f"{name} was to be killed, and ended with status {status}\n{self._logs()}")

    def wait_for_pause(self, name: str) -> None:
        """Wait until the process has been stopped by its plan; `resume` lets it go on."""
        stat = Path(f"/proc/{self.processes[name].pid}/stat")
        # proc(5): the state stands behind the name, which is in parentheses.
        self.wait_until(lambda: stat.read_text().rpartition(") ")[2].startswith("T"), f"{name} is stopped")

    def resume(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGCONT)

    def wait_for_failure(self, name: str) -> int:
        """Wait until the process ends by itself, and not well; return its status."""
        process = self.processes.pop(name)
        status = process.wait(TIME_LIMIT_S)
        if status <= 0:
            raise CommandFailed(f"{name} was to fail, and ended with status {status}\n{self._logs()}")
        return status

    def logs(self) -> str:
        """What every program has printed."""
        return self._logs()

    def check_logs(self) -> None:
        """No process met what it did not expect; what it did expect is an error line at most."""
        for log in self.directory.glob("*.log"):
            assert "Traceback" not in log.read_text(), log.read_text()

    def _launch(self, name: str, arguments: list[str], plan: Plan | None) -> None:
        launch = Launch(directory=str(self.directory), arguments=arguments, plan=plan or Plan())
        started = self.launcher.start(launch, log=self.directory / f"{name}.log")
        self.processes[name] = started  # type: ignore[assignment] # it does what is asked of the other


def make_authority(directory: Path, launcher: Launcher) -> None:
    """A CA in `directory`/ca with CRLs and a few certificates."""
    (directory / "operator.pem").write_bytes(public_pem())
    options = ["--unproved-profiles", "--key-algorithm", "P-256", "--operator-key", "operator.pem"]
    with FaultySystem(directory=directory, init_options=options, launcher=launcher) as system:
        system.run(*system.init_command)
        configuration = directory / SIGNER
        text = configuration.read_text()
        assert "workers = 0 " in text
        configuration.write_text(text.replace("workers = 0 ", "workers = 1 "))
        # Where it is not the point: the linter takes longer to load than all the rest.
        with (directory / CLIENT).open("a") as file:
            file.write("\n[lint]\nworkers = 0\n")
        system.request(ISSUED_BEFORE)
        system.run_signer()
        system.drain()
        system.stop("signer")
    for log in directory.glob("*.log"):
        log.unlink()


@contextmanager
def copied(original: Path, directory: Path, launcher: Launcher) -> Iterator[FaultySystem]:
    """A system of its own with a copy of that authority."""
    shutil.copytree(original / "ca", directory / "ca")
    with FaultySystem(directory=directory, launcher=launcher) as system:
        system.requests = [bytes.fromhex(each.request_id) for each in reversed(system.certificates)]
        yield system


def replace(path: Path, *words: tuple[str, str]) -> None:
    """Change words in a configuration file, which must be there."""
    text = path.read_text()
    for old, new in words:
        assert old in text, f"{path} has no {old!r}"
        text = text.replace(old, new)
    path.write_text(text)


@functools.cache
def _certification_request(account: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
