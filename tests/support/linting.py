"""TBSCertificates for the linter, as they are issued and with a fault; and a linter in the test's hands."""

from __future__ import annotations

import dataclasses
import selectors
from typing import Any

from tests.support.authorities import approve, load_profile, server_request

from cassiopeia.client.lint_pool import LintFailure, LintPool
from cassiopeia.client.lint_tasks import Finding, LintResult, LintTask
from cassiopeia.core.certificate import assemble_tbs


def tbs_of(profile: str = "9004-unproved-server", **changes: Any) -> bytes:
    """What would be signed for a request of this profile."""
    return assemble_tbs(approve(server_request(profile=profile, **changes)))


def unfit_for_its_key() -> bytes:
    """Against RFC 5480 3: an elliptic curve's key is to encipher other keys."""
    usage = "0603551d0f0101ff0404"  # id-ce-keyUsage, critical, and behind it a BIT STRING
    honest = tbs_of()
    faulty = honest.replace(bytes.fromhex(f"{usage}03020780"), bytes.fromhex(f"{usage}03020520"))
    assert faulty != honest
    return faulty


def valid_too_long() -> bytes:
    """Against the rules for servers alone: 300 days."""
    profile = dataclasses.replace(load_profile("9004-unproved-server"), maximum_validity_days=300)
    return assemble_tbs(approve(server_request(), profile=profile))


def finding(code: str, *, grave: bool = True) -> Finding:
    severity = "ERROR" if grave else "WARNING"
    return Finding(code=code, grave=grave, severity=severity, message=f"{code} is wrong", place="certificate")


class HandPool(LintPool):
    """A pool without workers: the test answers."""

    def __init__(self) -> None:
        super().__init__(count=0, selector=selectors.SelectSelector())
        self.tasks: dict[int, LintTask] = {}

    def submit(self, task: LintTask) -> None:
        assert task.number not in self.tasks
        self.tasks[task.number] = task

    def answer(self, *findings: Finding) -> None:
        """Answer the task that has waited longest."""
        number = next(iter(self.tasks))
        del self.tasks[number]
        self._answers.append(LintResult(number=number, findings=findings))

    def fail(self, *, died: bool) -> None:
        number = next(iter(self.tasks))
        del self.tasks[number]
        self._answers.append(LintFailure(number=number, died=died, reason="no linter"))
