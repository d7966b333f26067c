"""Print the tracked figures. These machines are shared and noisy: trust the ratios, not the seconds."""

from __future__ import annotations

import argparse

from bench import crl, hostile, journal, key_history, keys, line, lint, memory, ocsp, proofs, shares, start, throughput

PARTS = {
    "throughput": throughput.main,
    "line": line.main,
    "lint": lint.main,
    "crl": crl.main,
    "memory": memory.main,
    "start": start.main,
    "ocsp": ocsp.main,
    "shares": shares.main,
    "journal": journal.main,
    "keys": keys.main,
    "key_history": key_history.main,
    "hostile": hostile.main,
    "proofs": proofs.main,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help=f"some of {', '.join(PARTS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that everything runs")
    arguments = parser.parse_args()
    for part in arguments.parts or PARTS:
        PARTS[part](quick=arguments.quick)


if __name__ == "__main__":
    main()
