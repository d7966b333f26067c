"""Taking over a new configuration while the signer runs: it is read anew, tried by workers of its own, then in force.

Owns what is on trial, and nothing of what is in force: until a new worker has unlocked and proved every key, the signer
goes on as it is, and whatever goes wrong leaves it so. Then all of it comes into force in one turn of the loop, which
is for the front (`service`). A trial begins at SIGHUP, by an order that has installed a bundle, and when another bundle
is found to be in force on the disk.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cassiopeia.config import KeyUse, SignerConfig, current_installation, load_signer_config
from cassiopeia.core.authority import Authority
from cassiopeia.core.key_uri import FileUri
from cassiopeia.core.sample import unsound_profiles
from cassiopeia.errors import OperatorError
from cassiopeia.link.credentials import LinkTls
from cassiopeia.signer import weak_keys
from cassiopeia.signer.configuration import Loaded, load
from cassiopeia.signer.lines import link_tls
from cassiopeia.signer.pool import WorkerPool

_log = logging.getLogger(__name__)

# Longer than a worker has for its start: one that hangs is replaced once.
_TIME_LIMIT_S: Final = 400.0
# What failed for want of memory or of a passphrase may do later; nobody has to come for it.
_RETRY_S: Final = 600.0
# The same for what is likely to come soon: a token that is put back. Ever less often, up to `_RETRY_S`.
_RETRY_SOON_S: Final = 60.0
_DOUBLINGS: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A configuration that may come into force: all that the front needs of it, and its workers."""

    loaded: Loaded
    tls: LinkTls
    missing_lists: tuple[str, ...]
    unsound_profiles: Mapping[str, str]
    pool: WorkerPool


class Takeover:
    """At most one trial at a time. `make_pool` makes the workers of a configuration, and does not start them.

    It is given what to call when one of them cannot work. `hindrance` says why a candidate that is ready may not come
    into force at this moment, if anything does.
    """

    def __init__(
        self,
        in_force: Loaded,
        *,
        config_path: Path,
        now: Callable[[], dt.datetime],
        make_pool: Callable[[Loaded, Callable[[str], None]], WorkerPool],
        hindrance: Callable[[Candidate], str] = lambda _candidate: "",
    ) -> None:
        self._in_force = in_force
        self._config_path = config_path
        self._now = now
        self._make_pool = make_pool
        self._hindrance = hindrance
        self._candidate: Candidate | None = None
        self._deadline = 0.0
        self._unusable = ""
        self._alarm = ""
        # The installation that was taken over, or tried, last; and when the next trial of it is due.
        self._tried = in_force.config.bundles.installed
        self._retry_at: float | None = None
        # What was asked for, and may come into force as it is once something else has changed; how often it was tried.
        self._awaited: Loaded | None = None
        self._retries = 0

    @property
    def pending(self) -> bool:
        """Whether a configuration is on trial."""
        return self._candidate is not None

    def begin(self, why: str) -> None:
        """Put what the disk says now on trial, in the place of whatever is; a fault stands in log and alarms."""
        self._alarm, self._awaited, self._retries = "", None, 0
        self._begin(why)

    def _begin(self, why: str) -> None:
        self.stop()
        self._unusable, self._retry_at = "", None
        self._tried = _look(self._in_force.config)
        _log.info("takes over its configuration: %s", why)
        try:
            self._candidate = self._read()
            self._check_awaited(self._candidate.loaded)
            self._deadline = time.monotonic() + _TIME_LIMIT_S
            _start(self._candidate.pool)
        except OperatorError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with new files, the signer goes on
            _log.exception("the new configuration cannot be read")
            self._fail(f"it cannot be read ({type(error).__name__}, see the signer's log)")

    def look(self) -> None:
        """Begin if another bundle is in force on the disk than here, or a trial of it is due again; cheap."""
        installed = _look(self._in_force.config)
        if installed != self._tried:
            what = "no bundle" if installed is None else f"the bundle {installed.name}"
            self.begin(f"{what} is in force on the disk")
        elif self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._begin("once more")

    def turn(self) -> Candidate | None:
        """Give the candidate out once, when it is ready; call after every turn of the loop."""
        candidate = self._candidate
        if candidate is None:
            return None
        if not self._unusable:
            self._tend(candidate.pool)
        if self._unusable:
            self._fail(self._unusable, awaited=candidate.loaded if candidate.pool.failure_may_pass else None)
            return None
        if not candidate.pool.unlocked:
            return None
        if hindrance := self._hindrance(candidate):
            self._fail(hindrance, awaited=candidate.loaded)
            return None
        self._candidate, self._in_force = None, candidate.loaded
        self._alarm, self._awaited = "", None
        candidate.pool.take_office()
        return candidate

    def seconds_to_deadline(self) -> float | None:
        if self._candidate is None:
            return None
        return self._candidate.pool.seconds_to_deadline()

    @property
    def failure(self) -> str:
        """Why the last trial came to nothing; empty when it did not."""
        return self._alarm

    def alarms(self) -> Iterator[str]:
        if self._alarm:
            yield self._alarm

    def stop(self) -> None:
        """Give up what is on trial."""
        candidate, self._candidate = self._candidate, None
        if candidate is not None:
            candidate.pool.end()

    def _read(self) -> Candidate:
        loaded = load(load_signer_config(self._config_path))
        check_takeover(self._in_force, loaded, now=self._now())
        loaded.report()
        return Candidate(
            loaded=loaded,
            tls=link_tls(loaded.config),
            missing_lists=weak_keys.report(loaded.config.weak_keys),
            unsound_profiles=unsound_profiles(loaded.profiles.values(), loaded.authorities.values()),
            pool=self._make_pool(loaded, self._note_unusable),
        )

    def _tend(self, pool: WorkerPool) -> None:
        try:
            pool.check_time()
            pool.pump()
        except OSError as error:
            self._unusable = _no_process(error)
        if not pool.unlocked and time.monotonic() > self._deadline:
            self._unusable = self._unusable or f"no worker was ready within {_TIME_LIMIT_S:g} seconds"

    def _note_unusable(self, reason: str) -> None:
        self._unusable = self._unusable or reason

    def _check_awaited(self, found: Loaded) -> None:
        """Raise `OperatorError` for anything but what was asked for: files that people edit are theirs until they ask.

        What bundle is in force on the disk is always asked for.
        """
        awaited = self._awaited
        if (
            awaited is not None
            and self._tried == awaited.config.bundles.installed
            and (found.config, found.digest) != (awaited.config, awaited.digest)
        ):
            raise OperatorError("it could not come into force when it was asked for, and its files have changed since")

    def _fail(self, reason: str, *, awaited: Loaded | None = None) -> None:
        """Go on as before. With `awaited`, the same may do later as it is, and is tried again."""
        self.stop()
        self._awaited = awaited
        what = "Mend that, then `systemctl reload` (SIGHUP)"
        if awaited is not None:
            self._retry_at = time.monotonic() + min(_RETRY_SOON_S * 2 ** min(self._retries, _DOUBLINGS), _RETRY_S)
            self._retries += 1
            what = "The new configuration is tried again by itself while its files stay as they are"
        elif self._tried != self._in_force.config.bundles.installed:
            self._retry_at = time.monotonic() + _RETRY_S
        self._alarm = f"the new configuration is not in force, the signer goes on with the old one: {reason}. {what}"
        _log.error("%s", self._alarm)


def _start(pool: WorkerPool) -> None:
    try:
        pool.start()
    except OSError as error:
        raise OperatorError(_no_process(error)) from error


def _no_process(error: OSError) -> str:
    """No memory for a process, or no descriptor."""
    return f"no worker can be started: {error.strerror}"


def _look(config: SignerConfig) -> Path | None:
    """The installation that is in force on the disk; where that cannot be told, it counts as no other than before."""
    try:
        return current_installation(config.bundles.directory)
    except OperatorError:
        return config.bundles.installed


def describe(old: Loaded, new: Loaded) -> Iterator[str]:
    """What changes, a phrase each; the names are those that operators know."""
    yield from _named("sub-CA", old.authorities, new.authorities)
    yield from _named("profile", old.profiles, new.profiles)
    before, after = ({each.name: each for each in one.config.validators} for one in (old, new))
    yield from _named("validator", before, after)
    switched: dict[str, list[str]] = {}
    for name in sorted(old.keys.keys() & new.keys.keys()):
        if old.keys[name] != new.keys[name]:
            switched.setdefault(_switch(old.keys[name], new.keys[name]), []).append(name)
    for switch, names in switched.items():
        yield f"key of {', '.join(names)}: {switch}"
    if (old.config.operators, old.config.quorum) != (new.config.operators, new.config.quorum):
        yield f"{len(new.config.operators)} operators, {new.config.quorum} of whom must agree"
    same = "the same rules as before:" if old.digest == new.digest else "in the journal as"
    yield f"{same} configuration {new.digest.hex()[:16]}"


def _switch(old: KeyUse, new: KeyUse) -> str:
    """From which library to which; from where to where only if the key moves, so that many have one phrase."""
    stays = isinstance(old.uri, FileUri) and isinstance(new.uri, FileUri) and old.uri.path == new.uri.path
    before, after = (one.backend if stays else str(one.uri) for one in (old, new))
    return f"{_verified(before, old)} -> {_verified(after, new)}"


def _verified(signing: str, use: KeyUse) -> str:
    return f"{signing}, verified by {use.verify_with} too" if use.verify_with else signing


def _named(kind: str, old: Mapping[str, object], new: Mapping[str, object]) -> Iterator[str]:
    for verb, names in (
        ("new", new.keys() - old.keys()),
        ("changed", {name for name in new.keys() & old.keys() if new[name] != old[name]}),
        ("gone", old.keys() - new.keys()),
    ):
        if names:
            yield f"{kind} {verb}: {', '.join(sorted(names))}"


def check_takeover(old: Loaded, new: Loaded, *, now: dt.datetime) -> None:
    """Raise `OperatorError` for what a running signer cannot take over, whatever it may do at its next start."""
    # 1. What it is, where it keeps its journal, and where it is heard.
    for key, before, after in (
        ("[signer] id", old.config.signer_id, new.config.signer_id),
        ("[signer] state", old.config.state, new.config.state),
        ("[link] listen", old.config.listen, new.config.listen),
        ("[journal] key", old.config.journal_key, new.config.journal_key),
    ):
        if before != after:
            raise OperatorError(
                f"{new.config.source}: {key} cannot change while the signer runs: put {before} back, or start the "
                "signer again"
            )
    # 2. A sub-CA is what it is, and its CRLs go on until it ends.
    for authority in old.authorities.values():
        _check_kept(authority, new.authorities.get(authority.name), source=new.config.authorities, now=now)


def _check_kept(old: Authority, new: Authority | None, *, source: Path, now: dt.datetime) -> None:
    if new is None:
        if now <= old.not_after:
            raise OperatorError(
                f"{source}: the sub-CA {old.name} is missing, and its CRLs go on until {old.not_after:%Y-%m-%d}: "
                "name it again, with `retired = true` if it shall issue no more"
            )
    elif (new.subject, new.key_identifier, new.public_key) != (old.subject, old.key_identifier, old.public_key):
        raise OperatorError(
            f"{source}: the sub-CA {old.name} has another key or subject than before: the new one needs a name of its "
            "own"
        )
