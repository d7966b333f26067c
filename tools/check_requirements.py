"""Checks, without any index, that the pinned requirement files are fit to install from.

Every direct dependency (pyproject.toml, requirements/*.in) is pinned in its .txt at a version that it allows, every
pin is exact and carries SHA-256 hashes, the files agree with each other, and no line names a host or a path. That the
pins are complete is left to pip: with --require-hashes it refuses whatever is not pinned.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
EXTRAS: dict[str, tuple[str, ...]] = {
    "signer": (),
    "run": ("client", "postgresql", "ceremony", "publisher", "pkcs11", "gnutls", "wolfssl"),
}
INPUT_FILES = ("build", "test", "lint", "docs")
PIN = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[A-Za-z0-9.!+]+)"
    r"( ; [a-z_]+ (==|!=|<|>=) '[^']+'( and [a-z_]+ (==|!=|<|>=) '[^']+')*)?"
    r"( --hash=sha256:[0-9a-f]{64})+"
)


def main() -> int:
    faults: list[str] = []
    first_seen: dict[str, tuple[str, str]] = {}
    for name, requirements in _direct_requirements().items():
        source = f"requirements/{name}.txt"
        pins = _read_pins(source, faults)
        for requirement in requirements:
            version = pins.get(canonicalize_name(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                faults.append(f"{source}: {requirement} is not met")
        for package, version in pins.items():
            other, other_source = first_seen.setdefault(package, (version, source))
            if other != version:
                faults.append(f"{source}: {package} {version}, but {other} in {other_source}")
    if faults:
        sys.stderr.write("\n".join([*faults, "Run tools/compile-requirements; see CONTRIBUTING.md.", ""]))
    return len(faults) > 0


def _direct_requirements() -> dict[str, list[Requirement]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines: dict[str, list[str]] = {}
    for name, extras in EXTRAS.items():
        lines[name] = project["dependencies"] + [
            line for extra in extras for line in project["optional-dependencies"][extra]
        ]
    for name in INPUT_FILES:
        text = (ROOT / "requirements" / f"{name}.in").read_text(encoding="utf-8")
        lines[name] = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: [Requirement(line) for line in requirements] for name, requirements in lines.items()}


def _read_pins(source: str, faults: list[str]) -> dict[str, str]:
    """Package name to version; a line that is anything but a pin with hashes is added to the faults."""
    pins: dict[str, str] = {}
    text = re.sub(r"\s*\\\n\s*", " ", (ROOT / source).read_text(encoding="utf-8"))
    for line in text.splitlines():
        match = PIN.fullmatch(line)
        if match is None:
            faults.append(f"{source}: not an exact pin with SHA-256 hashes: {line[:80]}")
        else:
            pins[match["name"]] = match["version"]
    return pins


if __name__ == "__main__":
    sys.exit(main())
