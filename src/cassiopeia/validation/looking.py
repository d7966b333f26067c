"""Looking at requests before vouching for them, in a process of its own: a request that ends a parser costs itself.

What kills two workers has no key that anybody knows of: it is not vouched for.
"""

from __future__ import annotations

import itertools
import logging
import selectors
import sys
import time
import typing
from collections.abc import Sequence
from typing import Final

import msgspec

from cassiopeia.core.csr import MAXIMUM_REQUEST_OCTETS
from cassiopeia.core.request import CertificateRequest, KeyKind
from cassiopeia.errors import PeerError, Unavailable
from cassiopeia.validation.look_worker import LOOK_TIME_LIMIT_S, Look, LookTask
from cassiopeia.worker_process import WorkerProcess, stop

_log = logging.getLogger(__name__)

_WORKER: Final = (sys.executable, "-P", "-m", "cassiopeia.validation.look_worker")
_DEATHS: Final = 2
# Loading the crypto library takes a second; on a busy machine, many.
_START_TIME_LIMIT_S: Final = 60.0
_NOTHING: Final = LookTask(key_kind="csr", key_proof=b"")
_decoder = msgspec.msgpack.Decoder(Look)


class Looker:
    """One worker, started when it is needed, and anew after its death."""

    def __init__(self, *, command: Sequence[str] = _WORKER, time_limit_s: float = LOOK_TIME_LIMIT_S) -> None:
        self._command = command
        self._time_limit_s = time_limit_s
        self._selector = selectors.DefaultSelector()
        self._worker: WorkerProcess | None = None
        self._answers: list[Look] = []
        self._is_lost = False

    def look(self, requests: Sequence[CertificateRequest]) -> list[Look]:
        """What each of them is, in their order; raises Unavailable when no worker starts."""
        done: list[Look] = []
        deaths = 0
        while len(done) < len(requests):
            if reason := _not_shown(requests[len(done)]):
                done.append(Look(reason=reason))
                continue
            # One that a worker died of, or hung over, is tried alone: whoever comes behind it has no part in that.
            answered = self._ask([requests[len(done)]] if deaths else _in_a_row(requests[len(done) :]))
            done += answered
            deaths = 0 if answered else deaths + 1
            if deaths == _DEATHS:
                request_id = requests[len(done)].request_id.hex()[:12]
                _log.error("request %s: looking at it has ended two processes; it is not attested", request_id)
                done.append(Look(reason="looking at it has ended two processes", is_fatal=True))
                deaths = 0
        return done

    def close(self) -> None:
        if self._worker is not None:
            stop([self._worker])
            self._worker = None
        self._selector.close()

    def _ask(self, requests: Sequence[CertificateRequest]) -> list[Look]:
        """The answers up to the death of the worker."""
        worker = self._worker or self._start()
        tasks = [LookTask(key_kind=each.key_kind, key_proof=each.key_proof) for each in requests]
        return self._exchange(worker, tasks, self._time_limit_s)

    def _exchange(self, worker: WorkerProcess, tasks: Sequence[LookTask], limit_s: float) -> list[Look]:
        self._answers = []
        worker.send(tasks)
        begun = time.monotonic()
        while not self._is_lost and len(self._answers) < len(tasks):
            before = len(self._answers)
            for key, mask in self._selector.select(limit_s):
                key.data(mask)
            if len(self._answers) > before:
                begun = time.monotonic()
            elif time.monotonic() - begun > limit_s:
                _log.error("the process that looks at requests (%d) hangs and is ended", worker.pid)
                self._is_lost = True
        if self._is_lost:
            self._bury(worker)
        return self._answers

    def _start(self) -> WorkerProcess:
        """A worker that has answered once: what it dies of from now on is what it looks at."""
        self._is_lost = False
        worker = self._worker = WorkerProcess(
            self._command, selector=self._selector, hear=self._hear, lost=lambda _fault: self._lose()
        )
        if not self._exchange(worker, [_NOTHING], _START_TIME_LIMIT_S):
            raise Unavailable("the process that looks at requests does not start; its words stand above")
        return worker

    def _hear(self, body: bytes) -> None:
        try:
            self._answers.append(_decoder.decode(body))
        except msgspec.MsgspecError as error:
            raise PeerError(f"it sent what is no answer: {error}") from error

    def _lose(self) -> None:
        self._is_lost = True

    def _bury(self, worker: WorkerProcess) -> None:
        status = worker.end()
        self._worker = None
        _log.error("the process that looks at requests is gone (status %d); another takes its place", status)


def _not_shown(request: CertificateRequest) -> str:
    """Why a request need not be looked at, and no worker has to bear it: the signer refuses it for that alone."""
    if request.key_kind not in typing.get_args(KeyKind):
        return f"{request.key_kind[:20]!a} is neither csr nor spkac"
    if len(request.key_proof) > MAXIMUM_REQUEST_OCTETS:
        return f"it is longer than {MAXIMUM_REQUEST_OCTETS} octets"
    return ""


def _in_a_row(requests: Sequence[CertificateRequest]) -> list[CertificateRequest]:
    return list(itertools.takewhile(lambda each: not _not_shown(each), requests))
