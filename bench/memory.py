"""Resident memory of the signer's processes while it issues: it must stay flat."""

from __future__ import annotations

from pathlib import Path

from bench import backlog

CERTIFICATES = 10_000


def main(*, quick: bool) -> None:
    total = CERTIFICATES // 10 if quick else CERTIFICATES
    steps = (total // 10, total // 2, total)
    print(f"\nResident memory of the signer (front and workers) over {total:,} certificates of a P-256 sub-CA, MiB")
    with backlog.made_system("P-256") as system:
        signer = system.start_signer()
        system.wait_for_log("signer", "running")
        backlog.drain(system)
        first = resident_mib(signer.pid)
        print(f"  {0:7,} certificates: {_show(first)}")
        issued = 0
        for step in steps:
            backlog.submit(system, step - issued)
            backlog.drain(system)
            issued = step
            now = resident_mib(signer.pid)
            print(f"  {issued:7,} certificates: {_show(now)}, {sum(now) / sum(first):.2f} times the start", flush=True)
        system.stop("signer")


def resident_mib(pid: int) -> list[float]:
    """Of the process and its children, the front first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    sizes = []
    for each in [str(pid), *children]:
        status = Path(f"/proc/{each}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
        sizes.append(int(line.split()[1]) / 1024)
    return sizes


def _show(sizes: list[float]) -> str:
    front, *workers = sizes
    return f"front {front:5.1f}, workers {', '.join(f'{each:5.1f}' for each in workers)}"
