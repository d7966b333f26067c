"""Checks, without any index, that the pinned requirement files are fit to install from.

Every direct dependency (pyproject.toml, requirements/*.in) must be pinned in its .txt at a version that it allows, every
pin must be exact and carry SHA-256 hashes, files must agree with each other, and no line may name a host or a path. That
the pins are complete is left to pip: with --require-hashes it refuses whatever is not pinned.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = {"signer": (), "run": ("client", "postgresql")}
FROM_FILES = ("build", "test", "lint", "docs")
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[A-Za-z0-9.!+]+)(?P<marker> ; [^\\]+?)?(?P<hashes>( --hash=sha256:[0-9a-f]{64})+)")


def main() -> int:
    faults: list[str] = []
    seen: dict[str, tuple[str, str]] = {}
    for name, wanted in _direct_requirements(ROOT).items():
        source = f"requirements/{name}.txt"
        pins = _read_pins((ROOT / source).read_text(encoding="utf-8"), source=source, faults=faults)
        for requirement in wanted:
            version = pins.get(canonicalize_name(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                faults.append(f"{source}: {requirement} is not met; run tools/compile-requirements")
        for package, version in pins.items():
            other, other_source = seen.setdefault(package, (version, source))
            if other != version:
                faults.append(f"{source}: {package} {version}, but {other} in {other_source}; run tools/compile-requirements")
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


def _direct_requirements(root: Path) -> dict[str, list[Requirement]]:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        name: [
            Requirement(line)
            for line in [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
        ]
        for name, extras in EXTRAS.items()
    }
    for name in FROM_FILES:
        lines = (root / "requirements" / f"{name}.in").read_text(encoding="utf-8").splitlines()
        wanted[name] = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return wanted


def _read_pins(text: str, *, source: str, faults: list[str]) -> dict[str, str]:
    """Package name to version; whatever is not a pin with hashes is added to the faults."""
    pins: dict[str, str] = {}
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        match = PIN.fullmatch(line)
        if match is None:
            faults.append(f"{source}: not an exact pin with SHA-256 hashes: {line[:80]}")
        else:
            pins[match["name"]] = match["version"]
    return pins


if __name__ == "__main__":
    sys.exit(main())
