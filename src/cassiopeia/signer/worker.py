"""One worker process of the signer: holds the CA keys, judges requests, assembles, signs, verifies its own signatures.

Started by the front process as `python -P -m cassiopeia.signer.worker [--without NAME]... CONFIG [INSTALLATION]
DESCRIPTOR`; it talks over that one descriptor only. A sub-CA whose key cannot be used, or that is to be left out
because its key has ended other workers, keeps it from nothing else. Requests are parsed here, never in the front:
whatever a hostile CSR does to a parser, it costs one worker and one request.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from cassiopeia.config import KeyUse, SignerConfig, load_signer_config
from cassiopeia.core import algorithms, certificate, compromise, lint, policy
from cassiopeia.core.authority import Authority
from cassiopeia.core.key_uri import FileUri
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.errors import CassiopeiaError, InternalError, OperatorError, Refused, Unavailable
from cassiopeia.frames import FrameReader, frame
from cassiopeia.process_guard import guard_process, lock_memory
from cassiopeia.signer.configuration import configuration_hash, key_uses, load_rules, store_settings
from cassiopeia.signer.keystore.interface import SignatureMistrusted
from cassiopeia.signer.keystore.ring import KeyRing
from cassiopeia.signer.tasks import (
    MISTRUSTED,
    CheckProofs,
    Decide,
    Decided,
    Deferred,
    Denied,
    LackingKey,
    Mistrusted,
    Opening,
    Outcome,
    Proved,
    Ready,
    Sign,
    Signed,
    Stands,
    Task,
    TryKey,
    Unusable,
    Usable,
    read_tasks,
    shortened,
)
from cassiopeia.worker_process import bound_memory

_SERIAL_ENTROPY_OCTETS = 15
_TRY_AGAIN_S = 5


class Worker:
    """Carries out tasks with the keys and profiles of one configuration."""

    def __init__(
        self,
        *,
        rules: Rules,
        keys: KeyRing,
        uses: Mapping[str, KeyUse] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rules = rules
        self._uses = uses or {}
        self._clock = clock
        self._lacking: dict[str, LackingKey] = {}
        self._try_again_at = dict.fromkeys(self._uses, 0.0)
        self._authorities = {each.name: each for each in rules.authorities}
        self._keys = keys
        self._standing: Standing | None = None

    @property
    def lacking(self) -> tuple[LackingKey, ...]:
        return tuple(self._lacking.values())

    def open_keys(self, *, without: Collection[str] = (), opening: Callable[[str], None] = lambda _name: None) -> None:
        """Open and prove every key; call `opening` with the name of each sub-CA before.

        Raises `OperatorError` for a wrong key, and `Unavailable` where the key files are locked. Other keys that cannot
        be used now are `lacking`.
        """
        for authority in self._rules.authorities:
            name = authority.name
            if name in without:
                self._lacking[name] = LackingKey(
                    signing_ca=name,
                    code="key-left-out",
                    message=f"{name}: workers of the signer ended when they opened its key: is its library, or its "
                    "token, sound?",
                )
                continue
            opening(name)
            try:
                self._keys.add(authority, self._uses[name])
            except SignatureMistrusted as error:
                self._lack(name, MISTRUSTED, error.message)
            except Unavailable as error:
                if error.code == "locked" and isinstance(self._uses[name].uri, FileUri):
                    raise
                self._lack(name, error.code, error.message)

    def _lack(self, name: str, code: str, message: str) -> None:
        self._lacking[name] = LackingKey(signing_ca=name, code=code, message=shortened(message))
        self._try_again_at[name] = self._clock() + _TRY_AGAIN_S

    def answer(self, messages: Iterable[Task | Stands]) -> list[Outcome]:
        """Carry out what is a task, in order, and take note of what stands."""
        outcomes: list[Outcome] = []
        for each in messages:
            if isinstance(each, Stands):
                self._standing = each.standing
            else:
                outcomes.append(self.carry_out(each))
        return outcomes

    def carry_out(self, task: Task) -> Outcome:
        try:
            match task:
                case Decide():
                    return self._decide(task)
                case Sign():
                    return self._sign(task)
                case TryKey():
                    return self._try_key(task)
                case CheckProofs():
                    return _check_proofs(task)
        except Refused as refusal:
            return Denied(
                task=task.task,
                code=refusal.code,
                field=shortened(refusal.field),
                message=shortened(refusal.message),
            )
        except Unavailable as error:
            return Deferred(
                task=task.task,
                code=error.code,
                message=shortened(error.message),
                retry_after_s=error.retry_after_s,
            )
        except SignatureMistrusted as error:
            sys.stderr.write(f"signer worker: {error}\n")
            return Mistrusted(
                task=task.task,
                signing_ca=task.signing_ca if isinstance(task, Sign | TryKey) else "",
                signing=error.signing,
                verifying=error.verifying,
                message=shortened(error.message),
            )
        except OperatorError as error:
            if isinstance(task, Sign | TryKey):
                return Deferred(task=task.task, code="key-unusable", message=shortened(str(error)), retry_after_s=60)
            return _deferred(task, error)
        except CassiopeiaError as error:
            return _deferred(task, error)

    def _decide(self, task: Decide) -> Decided:
        standing = task.standing or self._standing
        if standing is None:
            raise InternalError("nobody has told this worker what stands")
        approved = policy.decide(
            task.request,
            rules=self._rules,
            standing=standing,
            now=task.now,
            serial_entropy=os.urandom(_SERIAL_ENTROPY_OCTETS),
            issued=task.issued,
            version=task.version,
        )
        # Nothing that the lint has not seen gets any further, and nothing between here and the key changes it.
        linted = lint.lint(certificate.assemble_tbs(approved), approved, signer_id=self._rules.signer_id, now=task.now)
        return Decided(
            task=task.task,
            signing_ca=approved.authority.name,
            serial_number=approved.serial_number.to_bytes(16, "big"),
            algorithm=approved.algorithm.der,
            tbs_certificate=linted.octets,
            validators=approved.validators,
        )

    def _sign(self, task: Sign) -> Signed:
        authority = self._authority(task.signing_ca)
        self._regain(authority)
        algorithm = algorithms.algorithm_from_der(task.algorithm)
        return Signed(task=task.task, signature=self._keys.sign(authority.name, algorithm, task.octets))

    def _try_key(self, task: TryKey) -> Usable:
        authority = self._authority(task.signing_ca)
        if not self._regain(authority):
            self._keys.prove(authority.name)
        return Usable(task=task.task)

    def _authority(self, name: str) -> Authority:
        if name not in self._authorities:
            # An intent from before the operators took it away.
            raise Unavailable(f"this signer no longer has the sub-CA {name}", code="unknown-ca", retry_after_s=3600)
        return self._authorities[name]

    def _regain(self, authority: Authority) -> bool:
        """Open a key that is lacking, but not all the time; return whether that was done. Raises as `KeyRing.add`."""
        name = authority.name
        lacking = self._lacking.get(name)
        if lacking is None:
            return False
        if self._clock() < self._try_again_at[name]:
            raise Unavailable(lacking.message, code=lacking.code, retry_after_s=_TRY_AGAIN_S)
        self._try_again_at[name] = self._clock() + _TRY_AGAIN_S
        try:
            self._keys.add(authority, self._uses[name])
        except Unavailable as error:
            self._lack(name, error.code, error.message)
            raise
        del self._lacking[name]
        return True


def _check_proofs(task: CheckProofs) -> Proved:
    for claim in task.claims:
        compromise.check_compromise(claim)
    return Proved(task=task.task)


def _deferred(task: Task, error: CassiopeiaError) -> Deferred:
    sys.stderr.write(f"signer worker: {type(error).__name__}: {error}\n")
    return Deferred(task=task.task, code="internal", message="the signer met an internal error", retry_after_s=60)


def make_worker(
    config: SignerConfig, *, without: Collection[str] = (), opening: Callable[[str], None] = lambda _name: None
) -> Worker:
    """Load profiles, sub-CAs and keys, and prove each key; raises as `Worker.open_keys` does."""
    worker = Worker(rules=load_rules(config), keys=KeyRing(store_settings(config)), uses=key_uses(config))
    worker.open_keys(without=without, opening=opening)
    return worker


def serve(worker: Worker, stream: socket.socket) -> None:
    """Answer batches of tasks until the front closes the stream."""
    reader = FrameReader()
    while octets := stream.recv(1 << 20):
        for body in reader.feed(octets):
            stream.sendall(frame(worker.answer(read_tasks(body))))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("config", type=Path)
    parser.add_argument("installation", type=Path, nargs="?")
    parser.add_argument("descriptor", type=int)
    return parser


def main() -> None:
    # There will be CA keys in memory.
    guard_process()
    lock_memory()
    # The front decides when to stop: a Ctrl-C on the terminal reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    arguments = _parser().parse_args()
    # A front that has gone wants no answer, and another worker may have told it already why none can start.
    with socket.socket(fileno=arguments.descriptor) as stream, contextlib.suppress(ConnectionError):
        try:
            config = load_signer_config(arguments.config, installation=arguments.installation)
            worker = make_worker(
                config,
                without=arguments.without,
                opening=lambda name: stream.sendall(frame([Opening(signing_ca=name)])),
            )
            bound_memory()
            # Where the limit of locked memory is a number, now it may suffice.
            lock_memory()
        except CassiopeiaError as error:
            may_come = isinstance(error, Unavailable)
            stream.sendall(frame([Unusable(message=shortened(str(error)), may_come=may_come)]))
            raise SystemExit(1) from None
        stream.sendall(frame([Ready(configuration_hash=configuration_hash(config), lacking=worker.lacking)]))
        serve(worker, stream)


if __name__ == "__main__":
    main()
