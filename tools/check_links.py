"""Checks that every relative link in the tracked Markdown files leads to a file, and every #anchor to a heading.

Links to the outside are not followed: the check needs no network and gives the same answer every day.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(`{3,}|~{3,}).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)|\b(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ +(.*?)[ #]*$", re.MULTILINE)
OUTSIDE = ("http://", "https://", "mailto:")


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],  # noqa: S607 - git from PATH
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    faults = [
        f"{name}: {target}: {reason}"
        for name in sorted(filter(None, listed.split("\0")))
        for target, reason in _broken_links(ROOT / name)
    ]
    if faults:
        sys.stderr.write("\n".join([*faults, ""]))
    return len(faults) > 0


def _broken_links(page: Path) -> list[tuple[str, str]]:
    broken: list[tuple[str, str]] = []
    for match in LINK.finditer(CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))):
        target: str = match[1] or match[2]
        if target.startswith(OUTSIDE):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        if not linked.exists():
            broken.append((target, "no such file"))
        elif anchor and linked.suffix == ".md" and anchor not in _anchors(linked):
            broken.append((target, "no such heading"))
    return broken


def _anchors(page: Path) -> set[str]:
    """The anchors that a Markdown renderer gives to the headings: lower case, dashes for blanks, no punctuation."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


if __name__ == "__main__":
    sys.exit(main())
