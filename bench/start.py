"""How long a signer with many sub-CAs takes to start, and what its processes hold in memory then."""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path

from examples.system import CASSIOPEIA, System

from bench.memory import resident_mib
from bench.processor_time import processor_times
from cassiopeia.ceremony import hierarchy

# Five families, each with a spare: ten sub-CAs a period.
_HIERARCHY = Path(hierarchy.__file__).with_name(hierarchy.DEFAULT_NAME)
_SUB_CAS_A_PERIOD = 10
_PERIODS = (1, 4, 8)


def main(*, quick: bool) -> None:
    print("\nStart of a signer: seconds from its process to `running`, CPU seconds until then, resident memory in MiB")
    for algorithm in ("P-256", "RSA-4096"):
        for periods in _PERIODS[: 1 if quick else None]:
            _measure(algorithm, periods)


def _measure(algorithm: str, periods: int) -> None:
    options = ["--hierarchy", str(_HIERARCHY), "--key-algorithm", algorithm, "--periods", str(periods)]
    with (
        tempfile.TemporaryDirectory(prefix="cassiopeia-bench-") as directory,
        System(directory=Path(directory), init_options=options) as system,
    ):
        # Not as a command of the system, which has less time: making eighty RSA-4096 keys takes minutes.
        subprocess.run([*CASSIOPEIA, *system.init_command], cwd=directory, stdout=subprocess.DEVNULL, check=True)
        count = _SUB_CAS_A_PERIOD * periods
        first = _start(system, count)
        again = _start(system, count)
    for what, line in (("first start", first), ("once more", again)):
        print(f"  {algorithm:8} {count:3} sub-CAs, {what}: {line}", flush=True)


def _start(system: System, count: int) -> str:
    begun = time.monotonic()
    signer = system.start_signer()
    seen = system.log("signer").count("running:")
    system.wait_until(lambda: system.log("signer").count("running:") > seen, "the signer runs")
    if f"unlocking {count} sub-CA keys" not in system.log("signer"):
        raise AssertionError(f"the default hierarchy does not make {count} sub-CAs of so many periods")
    took_s = time.monotonic() - begun
    times = processor_times(system)
    front, *workers = resident_mib(signer.pid)
    system.stop("signer")
    cpu = ", ".join(f"{what} {seconds:.2f}" for what, seconds in sorted(times.items()))
    return f"{took_s:.1f} s; {cpu}; front {front:.0f}, workers {', '.join(f'{each:.0f}' for each in workers)} MiB"
