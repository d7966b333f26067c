"""What the signer has found wrong with itself since it was started, for its alarms.

Nothing here is the fault of a request, and nothing of it ends by itself: each stays until somebody has looked, mended
what it is, and started the signer again or let it take its configuration over anew.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

_log = logging.getLogger(__name__)


class OwnFaults:
    """`unsound` are the profiles that issue nothing, by name, each with the reason (`core.sample`)."""

    def __init__(self, unsound: Mapping[str, str]) -> None:
        self._unsound = dict(unsound)
        self._findings: dict[str, tuple[int, str]] = {}  # by profile: how many, and what was found last
        self._serials_taken = 0
        self._wrong_signatures: dict[str, int] = {}  # by sub-CA

    def follow(self, unsound: Mapping[str, str], *, mended: Collection[str]) -> None:
        """Another configuration is in force: what was found about the profiles that it has `mended` is over."""
        self._unsound = dict(unsound)
        self._findings = {name: found for name, found in self._findings.items() if name not in mended}

    def report(self) -> None:
        """Say in the log what is known at the start."""
        for alarm in self.alarms():
            _log.error("ALARM: %s", alarm)

    def lint_finding(self, profile: str, message: str) -> None:
        """The lint has stopped a certificate."""
        count, _ = self._findings.get(profile, (0, ""))
        self._findings[profile] = count + 1, message
        _log.error("ALARM: profile %s: %s", profile, message)

    def serial_number_taken(self, serial_number: bytes) -> None:
        """A worker drew a serial number that the journal has already."""
        self._serials_taken += 1
        _log.error(
            "ALARM: the random serial number %s is in the journal already: the machine's random numbers are broken",
            serial_number.hex(),
        )

    def signature_wrong(self, signing_ca: str) -> None:
        """A worker answered with a signature that is not over the octets that it was given."""
        self._wrong_signatures[signing_ca] = self._wrong_signatures.get(signing_ca, 0) + 1
        _log.error(
            "ALARM: a worker gave a signature of %s that is not over what was linted and journaled; it was not"
            " released, and the worker is replaced",
            signing_ca,
        )

    def alarms(self) -> Iterable[str]:
        for profile, reason in sorted(self._unsound.items()):
            yield f"profile {profile} issues nothing: {reason}; mend the profile, and reload the signer"
        for profile, (count, message) in sorted(self._findings.items()):
            yield f"profile {profile}: {count} certificates were stopped by the signer's own lint; the last: {message}"
        if self._serials_taken:
            yield (
                f"random serial numbers came up twice, {self._serials_taken} times: the machine's random numbers are"
                " broken; stop the signer, and move to another machine"
            )
        for signing_ca, count in sorted(self._wrong_signatures.items()):
            yield (
                f"{count} signatures of {signing_ca} were not over what was linted and journaled, and were not"
                " released: look for damage or an intruder on the signing machine"
            )
