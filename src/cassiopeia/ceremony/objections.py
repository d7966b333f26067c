"""Objections: what a reviewer finds in a hierarchy, or in a CA that was made elsewhere.

Owns the value alone; `review` raises them, with `review_structure` and `review_profiles`, and `review_adopted` does.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Severity(enum.Enum):
    """An error means that the authority would not work as declared; a warning, that somebody will regret it."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, kw_only=True, slots=True)
class Objection:
    """One objection; `code` is for machines and documents, `where` names the part of the hierarchy."""

    severity: Severity
    code: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.severity.value}: {self.where}: {self.what} [{self.code}]"


def error(code: str, where: str, what: str) -> Objection:
    return Objection(severity=Severity.ERROR, code=code, where=where, what=what)


def warning(code: str, where: str, what: str) -> Objection:
    return Objection(severity=Severity.WARNING, code=code, where=where, what=what)


def note(code: str, where: str, what: str) -> Objection:
    return Objection(severity=Severity.NOTE, code=code, where=where, what=what)
