"""The intents that nobody has confirmed yet, each with its deadline: what may still be ended, and why."""

from __future__ import annotations

from collections.abc import Collection

from cassiopeia.signer.journal import Intent


class OpenIntents:
    """By serial number, of this start alone: what was open before it has been abandoned. Deadlines are monotonic."""

    def __init__(self) -> None:
        self._intents: dict[bytes, tuple[float, Intent]] = {}

    def __len__(self) -> int:
        return len(self._intents)

    def add(self, intent: Intent, *, deadline: float) -> None:
        self._intents[intent.serial_number] = deadline, intent

    def remove(self, intent: Intent) -> None:
        """It is confirmed, or abandoned."""
        self._intents.pop(intent.serial_number, None)

    def every(self) -> list[Intent]:
        return [intent for _, intent in self._intents.values()]

    def late(self, now: float) -> list[Intent]:
        return [intent for deadline, intent in self._intents.values() if now > deadline]

    def of(self, signing_ca: str) -> list[Intent]:
        return [intent for intent in self.every() if intent.signing_ca == signing_ca]

    def of_others(self, authorities: Collection[str]) -> list[Intent]:
        """Those of no sub-CA of these names."""
        return [intent for intent in self.every() if intent.signing_ca not in authorities]

    def among(self, serial_numbers: Collection[bytes]) -> list[Intent]:
        return [intent for intent in self.every() if intent.serial_number in serial_numbers]
