"""What is wrong with a journal and did not end its replay: counted, and as much of it kept as people can read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

MAXIMUM_FINDINGS: Final = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that is wrong: the entry where it shows (0: none), and a sentence."""

    index: int
    reason: str

    def __str__(self) -> str:
        return f"entry {self.index}: {self.reason}" if self.index else self.reason


@dataclass(kw_only=True, slots=True)
class Findings:
    """`count` things are wrong; `kept` are the first of them, at most `MAXIMUM_FINDINGS`."""

    count: int = 0
    kept: list[Finding] = field(default_factory=list)

    def add(self, index: int, reason: str) -> None:
        self.count += 1
        if len(self.kept) < MAXIMUM_FINDINGS:
            self.kept.append(Finding(index=index, reason=reason))
