"""One worker process of the signer: holds the CA keys, judges requests, assembles, signs, verifies its own signatures.

Started by the front process as `python -P -m cassiopeia.signer.worker CONFIG [INSTALLATION] DESCRIPTOR`; it talks over
that one descriptor only. Requests are parsed here, never in the front: whatever a hostile CSR does to a parser, it
costs one worker and one request.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from cassiopeia.config import SignerConfig, load_signer_config
from cassiopeia.core import algorithms, certificate, compromise, lint, policy
from cassiopeia.core.rules import Rules, Standing
from cassiopeia.errors import CassiopeiaError, InternalError, Refused, Unavailable
from cassiopeia.frames import FrameReader, frame
from cassiopeia.process_guard import guard_process, lock_memory
from cassiopeia.signer.configuration import configuration_hash, key_uses, load_rules, store_settings
from cassiopeia.signer.keystore.ring import KeyRing
from cassiopeia.signer.tasks import (
    CheckProofs,
    Decide,
    Decided,
    Deferred,
    Denied,
    Outcome,
    Proved,
    Ready,
    Sign,
    Signed,
    Stands,
    Task,
    Unusable,
    read_tasks,
)
from cassiopeia.worker_process import bound_memory

_SERIAL_ENTROPY_OCTETS = 15


class Worker:
    """Carries out tasks with the keys and profiles of one configuration."""

    def __init__(
        self,
        *,
        rules: Rules,
        keys: KeyRing,
    ) -> None:
        self._rules = rules
        self._authorities = {each.name: each for each in rules.authorities}
        self._keys = keys
        self._standing: Standing | None = None

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
                case CheckProofs():
                    return _check_proofs(task)
        except Refused as refusal:
            return Denied(task=task.task, code=refusal.code, field=refusal.field, message=refusal.message)
        except Unavailable as error:
            return Deferred(task=task.task, code=error.code, message=error.message, retry_after_s=error.retry_after_s)
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
        authority = self._authorities.get(task.signing_ca)
        if authority is None:
            # An intent from before the operators took it away.
            raise Unavailable(
                f"this signer no longer has the sub-CA {task.signing_ca}", code="unknown-ca", retry_after_s=3600
            )
        algorithm = algorithms.algorithm_from_der(task.algorithm)
        return Signed(task=task.task, signature=self._keys.sign(authority.name, algorithm, task.octets))


def _check_proofs(task: CheckProofs) -> Proved:
    for claim in task.claims:
        compromise.check_compromise(claim)
    return Proved(task=task.task)


def _deferred(task: Task, error: CassiopeiaError) -> Deferred:
    sys.stderr.write(f"signer worker: {type(error).__name__}: {error}\n")
    return Deferred(task=task.task, code="internal", message="the signer met an internal error", retry_after_s=60)


def make_worker(config: SignerConfig) -> Worker:
    """Load profiles, sub-CAs and keys, and prove each key; raises `OperatorError`."""
    rules, uses = load_rules(config), key_uses(config)
    keys = KeyRing(store_settings(config))
    for authority in rules.authorities:
        keys.add(authority, uses[authority.name])
    return Worker(rules=rules, keys=keys)


def serve(worker: Worker, stream: socket.socket) -> None:
    """Answer batches of tasks until the front closes the stream."""
    reader = FrameReader()
    while octets := stream.recv(1 << 20):
        for body in reader.feed(octets):
            stream.sendall(frame(worker.answer(read_tasks(body))))


def main() -> None:
    # There will be CA keys in memory.
    guard_process()
    lock_memory()
    # The front decides when to stop: a Ctrl-C on the terminal reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    path, *installation, descriptor = sys.argv[1:]
    # A front that has gone wants no answer, and another worker may have told it already why none can start.
    with socket.socket(fileno=int(descriptor)) as stream, contextlib.suppress(ConnectionError):
        try:
            config = load_signer_config(Path(path), installation=next(map(Path, installation), None))
            worker = make_worker(config)
            bound_memory()
            # Where the limit of locked memory is a number, now it may suffice.
            lock_memory()
        except CassiopeiaError as error:
            may_come = isinstance(error, Unavailable)
            stream.sendall(frame([Unusable(message=str(error), may_come=may_come)]))
            raise SystemExit(1) from None
        stream.sendall(frame([Ready(configuration_hash=configuration_hash(config))]))
        serve(worker, stream)


if __name__ == "__main__":
    main()
