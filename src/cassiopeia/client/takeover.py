"""Noticing that another bundle is in force on the client's machine, and reading what it brings.

Owns when to look, and what is said while new files cannot be used: the client goes on with those that it has. How it
changes from one to the other is the loop's part (`worker`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from cassiopeia.config import ClientConfig, current_installation, load_client_config
from cassiopeia.errors import OperatorError

_log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 2.0
_RETRY_S: Final = 60.0


class Takeover:
    """Looks at the link that names the bundle in force; `compose` makes of a configuration what the loop needs."""

    def __init__(self, config: ClientConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._next_look = 0.0
        self.alarm = ""
        """Why the newest bundle is not worked by, for people; empty where it is."""

    def look(self) -> ClientConfig | None:
        """The configuration with the bundle that is in force now, when it is another one than before; cheap."""
        if self._clock() < self._next_look:
            return None
        self._next_look = self._clock() + _LOOK_EVERY_S
        try:
            if current_installation(self._config.bundles.directory) == self._config.bundles.installed:
                self.alarm = ""
                return None
            return load_client_config(self._config.source)
        except OperatorError as error:
            self.failed(error)
            return None

    def failed(self, error: OperatorError) -> None:
        """What was found cannot be used: look again after a while, and let people know."""
        self._next_look = self._clock() + _RETRY_S
        alarm = f"another bundle is in force on the client's machine, and the client goes on without it: {error}"
        if alarm != self.alarm:
            _log.error("%s", alarm)
        self.alarm = alarm

    def done(self, config: ClientConfig) -> None:
        """The loop works by this one now."""
        self._config = config
        self.alarm = ""
