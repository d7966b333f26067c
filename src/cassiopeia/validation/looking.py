"""Looking at requests before vouching for them, in a process of its own: a request that ends a parser costs itself.

What kills two workers is left to the signer, which judges every request in its own way.
"""

from __future__ import annotations

import logging
import selectors
import sys
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from cassiopeia.core.request import CertificateRequest
from cassiopeia.errors import PeerError, Unavailable
from cassiopeia.validation.look_worker import LOOK_TIME_LIMIT_S, Look, LookTask
from cassiopeia.worker_process import WorkerProcess, stop

_log = logging.getLogger(__name__)

_WORKER: Final = (sys.executable, "-P", "-m", "cassiopeia.validation.look_worker")
_DEATHS: Final = 2
# Loading the crypto library takes a second; on a busy machine, many.
_START_TIME_LIMIT_S: Final = 60.0
_decoder = msgspec.msgpack.Decoder(Look)


class Looker:
    """One worker, started when it is needed, and anew after its death."""

    def __init__(self, *, command: Sequence[str] = _WORKER, time_limit_s: float = LOOK_TIME_LIMIT_S) -> None:
        self._command = command
        self._time_limit_s = time_limit_s
        self._selector = selectors.DefaultSelector()
        self._worker: WorkerProcess | None = None
        self._has_worked = False
        self._answers: list[Look] = []
        self._is_lost = False

    def look(self, requests: Sequence[CertificateRequest]) -> list[Look]:
        """What each of them is, in their order; raises Unavailable when no worker starts."""
        done: list[Look] = []
        deaths = 0
        while len(done) < len(requests):
            answered = self._ask(requests[len(done) :])
            done += answered
            deaths = 1 if answered else deaths + 1
            if len(done) == len(requests):
                break
            # It died, or hung, over the first one that it has not answered.
            if deaths == _DEATHS:
                request_id = requests[len(done)].request_id.hex()[:12]
                _log.error("request %s: looking at it has ended two processes; it is left to the signer", request_id)
                done.append(Look(reason="looking at it has ended two processes"))
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
        self._answers = []
        worker.send([LookTask(key_kind=each.key_kind, key_proof=each.key_proof) for each in requests])
        begun, limit_s = time.monotonic(), self._time_limit_s if self._has_worked else _START_TIME_LIMIT_S
        while not self._is_lost and len(self._answers) < len(requests):
            before = len(self._answers)
            for key, mask in self._selector.select(limit_s):
                key.data(mask)
            if len(self._answers) > before:
                begun, limit_s = time.monotonic(), self._time_limit_s
                self._has_worked = True
            elif time.monotonic() - begun > limit_s:
                _log.error("the process that looks at requests (%d) hangs and is ended", worker.pid)
                self._is_lost = True
        if self._is_lost:
            self._bury(worker)
        return self._answers

    def _start(self) -> WorkerProcess:
        self._is_lost = False
        self._worker = WorkerProcess(
            self._command, selector=self._selector, hear=self._hear, lost=lambda _fault: self._lose()
        )
        return self._worker

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
        if not self._has_worked:
            raise Unavailable("the process that looks at requests does not start; its words stand above")
