"""The signer's journal: octets on its disk, proving it at a start, and replaying it as a stranger would."""

from __future__ import annotations

import time

from bench import backlog
from cassiopeia.config import load_signer_config
from cassiopeia.journal.replay import Replay
from cassiopeia.signer.journal import Journal
from cassiopeia.signer.journal_file import FILE_NAME
from cassiopeia.signer.journal_key import load_journal_key
from cassiopeia.signer.journal_reader import read_journal

CERTIFICATES = 2000


def main(*, quick: bool) -> None:
    count = CERTIFICATES // 10 if quick else CERTIFICATES
    print(f"\nThe signer's journal behind {count:,} certificates (P-256 sub-CA, RSA-2048 requests)")
    with backlog.made_system("P-256") as system:
        backlog.submit(system, count)
        system.start_signer()
        system.wait_for_log("signer", "running")
        backlog.drain(system)
        system.stop("signer")
        config = load_signer_config(system.directory / "ca/signer/signer.toml")
        path = config.state / FILE_NAME
        octets = path.stat().st_size
        began = time.process_time()
        journal = Journal(config.state, signer_id=config.signer_id, key=load_journal_key(config.journal_key))
        opening_s, size = time.process_time() - began, journal.size
        journal.close()
        print(f"  {octets / count:8,.0f} octets on the disk a certificate")
        print(f"  {opening_s / size * 1e6:8,.0f} microseconds of CPU an entry to prove it at a start")
        for what, deep, judge in (
            ("without signatures", False, False),
            ("with signatures", True, False),
            ("with signatures, and judged anew (`journal verify`)", True, True),
        ):
            began = time.process_time()
            replay = Replay(deep=deep, judge=judge)
            for log in read_journal(path):
                replay.append(log)
            replay.finish(complete=True)
            rate = size / (time.process_time() - began)
            print(f"  {rate:8,.0f} entries a second replayed, {what}", flush=True)
            if replay.judging is not None and replay.judging.findings.count:
                raise AssertionError(str(replay.judging.findings.kept[0]))
