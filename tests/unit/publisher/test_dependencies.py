"""The publisher runs with the packages of its own extra, and without those of the client and of the ceremony."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

IMPORT_WITHOUT = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in set(sys.argv[1:]):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import cassiopeia.publisher, cassiopeia.cli.publisher, cassiopeia.store.database
names = [each.name for each in pkgutil.walk_packages(cassiopeia.publisher.__path__, "cassiopeia.publisher.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_is_importable_with_its_own_extra_alone() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    own = {each.partition(">=")[0] for each in extras["publisher"]}
    others = {
        each.partition(">=")[0].partition("[")[0]
        for name in ("client", "ceremony", "postgresql")
        for each in extras[name]
    }
    absent = sorted(each.replace("-", "_") for each in others - own)
    assert "idna" in absent

    done = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT, *absent], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 9
