"""Named steps of the issuance cycle and of revocation, where a crash must lose nothing: a place for tests to look in.

`step` does nothing in production. A test process sets `watcher` before it starts the signer or the client, and may end
the process there. The names are those of docs/issuance-cycle.md.
"""

from __future__ import annotations

from collections.abc import Callable

watcher: Callable[[str], None] | None = None


def step(name: str) -> None:
    """Say that this step was reached."""
    if watcher is not None:
        watcher(name)
