"""The checks in tools/ find what they are there for: each is run on a copy of the project with one fault in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run_check(directory: Path, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, f"tools/{name}.py"], cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("requirements", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_requirement_files_are_fit(project: Path) -> None:
    result = run_check(project, "check_requirements")

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("surplus==1.0", "not an exact pin with SHA-256 hashes: surplus==1.0"),
        ("surplus @ file:///tmp/surplus.whl", "not an exact pin"),
        ("--index-url example", "not an exact pin"),
        (f"click==0.1 --hash=sha256:{'0' * 64}", "requirements/signer.txt: click>=8.1 is not met"),
        (f"cffi==0.1 --hash=sha256:{'0' * 64}", "but 0.1 in requirements/signer.txt"),
    ],
)
def test_an_unfit_requirement_is_named(project: Path, line: str, complaint: str) -> None:
    pins = project / "requirements" / "signer.txt"
    pins.write_text(f"{pins.read_text(encoding='utf-8')}{line}\n", encoding="utf-8")

    result = run_check(project, "check_requirements")

    assert result.returncode == 1
    assert complaint in result.stderr


def test_a_dependency_without_a_pin_is_named(project: Path) -> None:
    with (project / "requirements" / "test.in").open("a", encoding="utf-8") as inputs:
        inputs.write("surplus>=1\n")

    result = run_check(project, "check_requirements")

    assert result.returncode == 1
    assert "requirements/test.txt: surplus>=1 is not met" in result.stderr


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("[a](missing.md)", "page.md: missing.md: no such file"),
        ("[a](other.md#nowhere)", "page.md: other.md#nowhere: no such heading"),
        ("[a](other.md#what-it-is)", ""),
        ("`[a](missing.md)`", ""),
        ("```text\n[a](missing.md)\n```", ""),
        ("[a](https://example.org/missing)", ""),
    ],
)
def test_links_that_lead_nowhere_are_named(project: Path, link: str, complaint: str) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    (project / "other.md").write_text("# Other\n\n## What it is\n", encoding="utf-8")
    (project / "page.md").write_text(f"# Page\n\n{link}\n", encoding="utf-8")

    result = run_check(project, "check_links")

    assert result.stderr.strip() == complaint
    assert result.returncode == (1 if complaint else 0)
