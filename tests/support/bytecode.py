"""Bytecode for the programs that tests start, where the suite itself writes none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where writing bytecode is switched off, every program would compile all that it imports."""
    if not os.environ.get("PYTHONDONTWRITEBYTECODE"):
        yield
        return
    base = tmp_path_factory.getbasetemp()
    # The workers of pytest-xdist have a directory each, beside each other.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("PYTHONDONTWRITEBYTECODE")
        environment.setenv("PYTHONPYCACHEPREFIX", str(shared / "bytecode"))
        yield
