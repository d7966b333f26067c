"""Bundles that come over the line: kept until an order names them, unpacked by a process of its own, put in force.

The line brings a bundle and then an order for it; without the order a bundle changes nothing. Its keys never come into
this process. What the journal says was ordered, and a crash has left undone, is done at the next start, and only then:
afterwards people may have had their reasons to put another bundle in force by hand.
"""

from __future__ import annotations

import logging
import selectors
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cassiopeia import installations
from cassiopeia.config import SignerConfig, current_installation
from cassiopeia.core.bundle import SIGNER, bundle_hash
from cassiopeia.errors import OperatorError, PeerError, Refused, Unavailable
from cassiopeia.installations import Staged
from cassiopeia.journal.order import InstallBundle
from cassiopeia.protocol.session import Session
from cassiopeia.signer import answers
from cassiopeia.signer.staging import NotNow, Unfit, Unpack, Unpacked, read_answer
from cassiopeia.steps import step
from cassiopeia.worker_process import WorkerProcess, stop

_log = logging.getLogger(__name__)

# Forty RSA-4096 keys take half a minute on a slow machine.
_TIME_LIMIT_S = 300.0
_RETRY_S = 60.0
_BUSY_RETRY_S: Final = 5
# Each holds its session: whoever sends one order over one line after the other shall not fill the memory.
_MOST_WAITING: Final = 16
_MISSING_RETRY_S: Final = 1

Verdict = Staged | Refused | Unavailable
"""What became of a bundle that was to be unpacked; it may be possible later."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Held:
    """A bundle whose signature was verified when it came."""

    bundle_hash: bytes
    number: int
    octets: bytes


class BundleDesk:
    """Keeps one bundle and unpacks one at a time. `installed` is called, with the number, when another is in force."""

    def __init__(
        self,
        config: SignerConfig,
        *,
        selector: selectors.BaseSelector,
        installed: Callable[[int], None],
        command: Sequence[str] = (sys.executable, "-P", "-m", "cassiopeia.signer.staging"),
    ) -> None:
        self._config = config
        self._selector = selector
        self._installed = installed
        self._command = (*command, str(config.source))
        self._held: _Held | None = None
        self._process: WorkerProcess | None = None
        self._deadline = 0.0
        self._unpacking: _Held | None = None
        self._waiting: list[Callable[[Verdict], None]] = []
        self._wanted: InstallBundle | None = None
        # What was ordered, and is left to people.
        self._undone: InstallBundle | None = None
        self._retry_at = 0.0
        self._alarm = ""

    def follow(self, config: SignerConfig) -> None:
        """Take and install bundles as this configuration says."""
        self._config = config
        if self._undone is not None and config.bundles.number >= self._undone.number:
            self._undone, self._alarm = None, ""

    def received(self, session: Session, handle: int, octets: bytes) -> None:
        """Keep a bundle in the place of the one before, or say what is wrong with it."""
        try:
            self._held = self._look(octets)
        except Refused as refusal:
            _log.warning("a bundle is refused: %s", refusal.message)
            answers.refuse(session, handle, refusal)
            return
        _log.info("bundle %d came over the line, and waits for its order", self._held.number)
        session.send_bundle_held(handle)

    def prepare(self, wanted: InstallBundle, done: Callable[[Verdict], None]) -> None:
        """Unpack the bundle of an order that was verified; `done` is called in a later turn of the loop.

        Raises Unavailable when it is not here, or while another is unpacked, and Refused when it is another.
        """
        unpacking = self._unpacking
        if unpacking is not None:
            if unpacking.bundle_hash != wanted.bundle_hash:
                raise Unavailable("Another bundle is being unpacked.", code="busy", retry_after_s=_BUSY_RETRY_S)
            _check_number(unpacking, wanted)
            if len(self._waiting) == _MOST_WAITING:
                raise Unavailable("The bundle is being unpacked.", code="busy", retry_after_s=_BUSY_RETRY_S)
            self._waiting.append(done)
            return
        held = self._held
        if held is None or held.bundle_hash != wanted.bundle_hash:
            raise Unavailable(
                "The bundle of this order has not come over the line since the signer was started; it is sent again.",
                code="bundle-missing",
                retry_after_s=_MISSING_RETRY_S,
            )
        _check_number(held, wanted)
        try:
            process = WorkerProcess(self._command, selector=self._selector, hear=self._hear, lost=self._lost)
        except OSError as error:  # no memory for a process, no descriptor
            raise Unavailable(
                f"No process can be started to unpack the bundle: {error.strerror}.", retry_after_s=_BUSY_RETRY_S
            ) from error
        self._process, self._unpacking, self._held = process, held, None
        self._waiting.append(done)
        self._deadline = time.monotonic() + _TIME_LIMIT_S
        process.send([Unpack(bundle=held.octets)])

    def install(self, wanted: InstallBundle) -> None:
        """Put in force what was unpacked, now that the journal holds the order; where that fails, later."""
        step("install 2 order durable")
        self._wanted, self._undone, self._retry_at = wanted, None, 0.0
        self.settle()

    def resume(self, ordered: InstallBundle, *, fresh: bool) -> None:
        """What the journal says was ordered last; `fresh`: there has been no start since."""
        if self._is_settled(ordered):
            return
        if fresh:
            self.install(ordered)
            return
        self._undone = ordered
        self._alarm = (
            f"bundle {ordered.number} was ordered, and is not in force: install it with `cassiopeia signer install`, "
            "or have a newer one made"
        )
        _log.warning("%s", self._alarm)

    def discard(self, staged: Staged) -> None:
        """Leave nothing of a bundle that was unpacked and shall not come into force."""
        if staged.is_in_force:
            return
        try:
            installations.discard(self._config.bundles, staged)
        except OperatorError as error:
            _log.warning("what was unpacked of bundle %d is left: %s", staged.number, error)

    def settle(self) -> None:
        """Put in force what was ordered and is not yet; cheap when nothing is."""
        wanted = self._wanted
        if wanted is None or time.monotonic() < self._retry_at:
            return
        bundles = self._config.bundles
        staged = Staged(directory=bundles.place(wanted.number), number=wanted.number, bundle_hash=wanted.bundle_hash)
        try:
            changes = not self._is_settled(wanted)
            if changes:
                installations.activate(bundles, staged)
                step("install 3 bundle in force")
        except OperatorError as error:
            self._retry_at = time.monotonic() + _RETRY_S
            if not self._alarm:
                _log.error("bundle %d was ordered, and cannot be put in force: %s", wanted.number, error)
            self._alarm = (
                f"bundle {wanted.number} was ordered, and cannot be put in force: {error}. It is tried again every "
                "minute; or install it with `cassiopeia signer install`"
            )
            return
        self._wanted, self._alarm = None, ""
        if changes:
            self._installed(wanted.number)

    def check_time(self) -> None:
        """End a process that hangs, and try again what could not be put in force; call in every turn of the loop."""
        if self._process is not None and time.monotonic() > self._deadline:
            self._end(Refused(f"The bundle was not unpacked within {_TIME_LIMIT_S:g} seconds.", code="order-bundle"))
        self.settle()

    def seconds_to_deadline(self) -> float | None:
        deadlines = [self._deadline] if self._process is not None else []
        deadlines += [self._retry_at] if self._wanted is not None else []
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def alarms(self) -> Iterator[str]:
        if self._alarm:
            yield self._alarm

    def stop(self) -> None:
        """Close the stream: the process ends by itself, or is killed."""
        if self._process is not None:
            stop([self._process])
            self._process = None

    def _look(self, octets: bytes) -> _Held:
        """The bundle, if the bundle key has signed it for this signer; raises Refused."""
        bundles = self._config.bundles
        if bundles.key_file is None:
            raise Refused("this signer takes no bundles: its signer.toml names no bundle_key", code="bundle-unheard")
        try:
            bundle = installations.open_bundle(bundles, octets, kinds=(SIGNER,), source=self._config.source)
        except OperatorError as error:
            raise Refused(str(error), code="bundle-invalid") from error
        if bundle.signer_id != self._config.signer_id:
            raise Refused(
                f"this bundle is for signer {bundle.signer_id}, and this is signer {self._config.signer_id}",
                code="bundle-signer",
            )
        if bundle.secrets and bundle.sealed_passphrase is None:
            raise Refused(
                "the keys in this bundle are not sealed to this signer: carry it to the signer's machine, with its "
                "passphrase by another way; or name the signer's sealing key in the hierarchy",
                code="bundle-unsealed",
            )
        return _Held(bundle_hash=bundle_hash(octets), number=bundle.number, octets=octets)

    def _hear(self, body: bytes) -> None:
        answer, unpacked = read_answer(body), self._unpacking
        if unpacked is None:
            raise PeerError("it answered what it was not asked")
        match answer:
            case Unfit(reason=reason):
                self._end(Refused(reason, code="order-bundle"))
            case NotNow(reason=reason, code=code, retry_after_s=retry_after_s):
                self._held = self._held or unpacked
                self._end(Unavailable(reason, code=code, retry_after_s=retry_after_s))
            case Unpacked(directory=directory, is_in_force=is_in_force):
                self._end(
                    Staged(
                        directory=Path(directory),
                        number=unpacked.number,
                        bundle_hash=unpacked.bundle_hash,
                        is_in_force=is_in_force,
                    )
                )

    def _lost(self, fault: PeerError | None) -> None:
        """It died amid its work, or broke the rules: a bundle that does that is not tried for ever."""
        reason = "died" if fault is None else f"broke the rules between us ({fault})"
        self._end(
            Refused(
                f"The process that unpacks the bundle {reason}, and nothing was changed; see the signer's log.",
                code="order-bundle",
            )
        )

    def _end(self, verdict: Verdict) -> None:
        process, self._process, self._unpacking = self._process, None, None
        if process is not None:
            process.end()
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done(verdict)

    def _is_settled(self, wanted: InstallBundle) -> bool:
        """Whether this bundle or a newer one is in force; raises OperatorError."""
        current = current_installation(self._config.bundles.directory)
        return current is not None and int(current.name) >= wanted.number


def _check_number(held: _Held, wanted: InstallBundle) -> None:
    if held.number != wanted.number:
        raise Refused(
            f"the bundle with this hash has the number {held.number}, and the order says {wanted.number}",
            code="order-bundle",
            field="number",
        )
