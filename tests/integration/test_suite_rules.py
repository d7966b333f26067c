"""The rules in tests/conftest.py are tried on small suites of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SKIPPED_TEST = (
    "import pytest\n\n@pytest.mark.parametrize('n', [1])\ndef test_it(n):\n    pytest.skip('no such program')\n"
)
IMPERATIVE_XFAIL = "import pytest\n\ndef test_it():\n    pytest.xfail('no right to mount')\n"
IMPERATIVE_XFAIL_IN_FIXTURE = (
    "import pytest\n\n@pytest.fixture\ndef disk():\n    pytest.xfail('no right to mount')\n\n"
    "def test_it(disk):\n    pass\n"
)
# Not a test of ours left open: a suite in which the rule against imperative xfail must let the strict mark pass.
MARKED_XFAIL = "import pytest\n\n@pytest.mark.xfail(strict=True)\ndef test_it():\n    assert False\n"
SKIPPED_MODULE = "import pytest\n\npytest.importorskip('a_module_that_is_not_there')\n\ndef test_it():\n    pass\n"
FORGETFUL_TEST = (
    "import subprocess\n\n"
    "def test_it():\n"
    "    subprocess.Popen(['sleep', '600'], start_new_session=True).returncode = 0\n"
)


def run_suite(directory: Path, text: str, *, ci: str) -> subprocess.CompletedProcess[str]:
    (directory / "test_small.py").write_text(text, encoding="utf-8")
    (directory / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    environment |= {"CI": ci, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-ra", "test_small.py"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("text", [SKIPPED_TEST, SKIPPED_MODULE])
def test_a_skip_fails_in_ci(tmp_path: Path, text: str) -> None:
    result = run_suite(tmp_path, text, ci="true")

    assert result.returncode != 0
    assert "in CI everything must run" in result.stdout


def test_a_skip_is_a_skip_elsewhere(tmp_path: Path) -> None:
    result = run_suite(tmp_path, SKIPPED_TEST, ci="")

    assert result.returncode == 0
    assert "1 skipped" in result.stdout


@pytest.mark.parametrize("ci", ["", "true"])
@pytest.mark.parametrize("text", [IMPERATIVE_XFAIL, IMPERATIVE_XFAIL_IN_FIXTURE])
def test_a_test_that_calls_itself_an_expected_failure_fails(tmp_path: Path, text: str, ci: str) -> None:
    result = run_suite(tmp_path, text, ci=ci)

    assert result.returncode == 1
    assert "call pytest.skip(): no right to mount" in result.stdout
    assert "xfailed" not in result.stdout


def test_a_test_that_is_marked_runs_to_its_expected_failure(tmp_path: Path) -> None:
    result = run_suite(tmp_path, MARKED_XFAIL, ci="true")

    assert result.returncode == 0
    assert "1 xfailed" in result.stdout


def test_a_process_left_running_fails_the_session_and_is_ended(tmp_path: Path) -> None:
    result = run_suite(tmp_path, FORGETFUL_TEST, ci="")

    assert result.returncode == 1
    assert "left running by a test" in result.stdout
    [line] = [line for line in result.stdout.splitlines() if line.endswith("sleep 600")]
    assert not Path("/proc", line.split(":")[0], "cmdline").exists() or _is_zombie(line.split(":")[0])


def _is_zombie(process_id: str) -> bool:
    return Path("/proc", process_id, "stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] == "Z"
