"""The signer's front process with its real workers and its real examiner, turned by hand, and clients in memory."""

from __future__ import annotations

import datetime as dt
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.authorities import NOW, PROFILES, make_ca, p256_key
from tests.support.conversations import Pair, joined
from tests.support.signer import install

from cassiopeia.config import load_signer_config
from cassiopeia.core.request import CertificateRequest
from cassiopeia.protocol.events import CertificateIssued, LogReceived, RequestAbandoned, RequestFailed, RequestRefused
from cassiopeia.signer.service import Signer

TIME_LIMIT_S = 60.0


class RunningSigner:
    """Two workers, unless another command is given in the place of theirs; one client, who confirms every log.

    It has these profiles beside the usual one. What comes of each request stands under its handle.
    """

    def __init__(self, directory: Path, *, workers: Sequence[str] = (), profiles: Sequence[str] = ()) -> None:
        self.directory = directory
        began = dt.datetime.now(dt.UTC)
        ca = make_ca("unassured_2026_2", key=p256_key(), not_before=began - dt.timedelta(days=3))
        self.path = install(directory, ca=ca)
        for name in profiles:
            shutil.copy(PROFILES / f"{name}.toml", directory / "profiles")
        authorities = directory / "authorities.toml"
        text = authorities.read_text(encoding="utf-8")
        # These workers are real, and so is their clock.
        text = text.replace(f"{NOW - dt.timedelta(days=1):%Y-%m-%d}", f"{began - dt.timedelta(days=2):%Y-%m-%d}")
        authorities.write_text(text.replace("2027-01-01", f"{began + dt.timedelta(days=60):%Y-%m-%d}"))
        self.path.write_text(self.path.read_text(encoding="utf-8").replace("id = 1\n", "id = 1\nworkers = 2\n"))
        self._workers = workers
        self.start()

    def start(self) -> None:
        config = load_signer_config(self.path)
        self.signer = Signer(config, config_path=self.path)
        if self._workers:
            self.signer._pool._command = self._workers
        self.signer._lines.open()
        self.pair: Pair = joined()
        self.issued: dict[int, bytes] = {}
        self.failed: dict[int, RequestFailed] = {}
        self.refused: dict[int, RequestRefused] = {}
        self.abandoned: set[int] = set()
        self.signer._start()

    def stop(self) -> None:
        self.signer._stop()

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def ready(self) -> bool:
        """Whether both workers have their keys."""
        return [each.ready for each in self.signer._pool._members] == [True] * 2

    @property
    def answered(self) -> set[int]:
        return {*self.issued, *self.failed, *self.refused, *self.abandoned}

    def submit(self, request: CertificateRequest) -> int:
        return self.pair.client.submit(request)

    def run_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIME_LIMIT_S
        while not done():
            assert time.monotonic() < deadline, "nothing came"
            self.turn()

    def turn(self) -> None:
        for event in [*self.pair.to_signer(), *self.pair.signer.take_events()]:
            self.signer._on_event(self.pair.signer, event)
        ready = self.signer._selector.select(0.02)
        for key, mask in ready:
            key.data(mask)
        self.signer._turn(idle=not ready)
        events = self.pair.to_client()
        self.abandoned.update(each.handle for each in events if isinstance(each, RequestAbandoned))
        for event in events:
            match event:
                case LogReceived(handle=handle):
                    # The last word to a request may come right behind its log.
                    if handle not in self.abandoned:
                        self.pair.client.confirm_log(handle)
                case CertificateIssued(handle=handle, signature=signature):
                    assert signature
                    self.issued[handle] = signature
                case RequestFailed(handle=handle):
                    self.failed[handle] = event
                case RequestRefused(handle=handle):
                    self.refused[handle] = event
                case RequestAbandoned():
                    pass  # noted above
                case _:
                    raise AssertionError(f"{event} was not expected")
