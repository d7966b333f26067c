"""Inputs that are nearly right: what the suite runs where no coverage-guided fuzzer is at hand."""

from __future__ import annotations

import random


def mutated(octets: bytes, choice: random.Random) -> bytes:
    """Octets changed, cut out, doubled, put in: a few times."""
    changed = bytearray(octets)
    for _ in range(choice.randint(1, 4)):
        start = choice.randrange(len(changed) + 1)
        end = min(len(changed), start + choice.choice((1, 1, 2, 8, 64)))
        match choice.randrange(5):
            case 0:
                changed[start:end] = choice.randbytes(end - start)
            case 1:
                del changed[start:end]
            case 2:
                changed[start:start] = changed[start:end]
            case 3:
                changed[start:start] = choice.randbytes(choice.randint(1, 8))
            case _:
                changed[start:end] = bytes([choice.choice((0, 1, 0x7F, 0x80, 0xFF))]) * (end - start)
    return bytes(changed)
