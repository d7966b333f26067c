"""A worker of the signer that does as it is told: a program, started in the real one's place.

How it starts stands in the name of its configuration file; what it does with a task, in the account of a request or in
the name of the CA that is to sign. It shares no code with what is tested but the framing's library.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

CONFIGURATION_HASH = b"configuration"

standing: list[int] = []
"""How many keys were blocked, each time that somebody said what stands."""


def send(stream: socket.socket, body: bytes) -> None:
    stream.sendall(struct.pack(">I", len(body)) + body)


def say(stream: socket.socket, *outcomes: dict[str, Any]) -> None:
    send(stream, msgspec.msgpack.encode(outcomes))


def start(stream: socket.socket, how: str) -> None:
    if how == "dies":
        os._exit(1)
    if how == "unusable":
        say(stream, {"type": "Unusable", "message": "the passphrase is wrong"})
        os._exit(1)
    if how == "lacking":
        say(stream, {"type": "Unusable", "message": "the passphrase is not there", "may_come": True})
        os._exit(1)
    if how in {"dies-opening", "hangs-opening"} and "--without" not in sys.argv:
        say(stream, {"type": "Opening", "signing_ca": "sick"})
        if how == "hangs-opening":
            time.sleep(600)
        os._exit(1)
    if how.endswith("-opening") or how == "lacks":
        without = sys.argv[sys.argv.index("--without") + 1] if how != "lacks" else "sick"
        lacking = {"signing_ca": without, "code": "key-left-out", "message": "it ends workers"}
        say(stream, {"type": "Ready", "configuration_hash": CONFIGURATION_HASH, "lacking": [lacking]})
        return
    if how == "silent":
        return
    if how == "empty":
        say(stream)
        return
    if how == "garbage":
        stream.sendall(b"\xff" * 64)
        return
    hash_ = b"another" if how == "changed" else CONFIGURATION_HASH
    say(stream, {"type": "Ready", "configuration_hash": hash_})


def answer(task: dict[str, Any], size: int) -> dict[str, Any]:
    """Tell who answers, and how many tasks came along."""
    if task["type"] == "Sign":
        return {"type": "Signed", "task": task["task"], "signature": f"{os.getpid()} {size}".encode()}
    if task["type"] == "TryKey":
        return {"type": "Usable", "task": task["task"]}
    message = ",".join(map(str, standing)) if order_of(task) == "told" else str(os.getpid())
    return {"type": "Denied", "task": task["task"], "code": "ok", "field": str(size), "message": message}


def order_of(task: dict[str, Any]) -> str:
    """What the task wants the worker to do; checks of proofs want nothing."""
    if task["type"] == "Decide":
        return str(task["request"]["account"])
    return str(task.get("signing_ca", ""))


def carry_out(stream: socket.socket, messages: list[dict[str, Any]]) -> None:
    standing.extend(len(each["standing"]["blocked_keys"]) for each in messages if each["type"] == "Stands")
    tasks = [each for each in messages if each["type"] != "Stands"]
    outcomes = [answer(task, len(tasks)) for task in tasks]
    for order in map(order_of, tasks):
        word, _, argument = order.partition(" ")
        if word == "die":
            os._exit(1)
        elif word == "die-once":
            if not Path(argument).exists():
                Path(argument).touch()
                os._exit(1)
        elif word == "hang":
            time.sleep(600)
        elif word == "wait":
            while not Path(argument).exists():
                time.sleep(0.005)
        elif word == "garbage":
            send(stream, b"\xc1")
            return
        elif word == "huge":
            stream.sendall(b"\xff" * 4)
            return
        elif word == "forget":
            outcomes = outcomes[:-1]
        elif word == "twice":
            say(stream, *outcomes)
        elif word == "ready-again":
            say(stream, {"type": "Ready", "configuration_hash": CONFIGURATION_HASH})
    say(stream, *outcomes)


def main() -> None:
    stream = socket.socket(fileno=int(sys.argv[-1]))
    how = Path(sys.argv[3 if sys.argv[1] == "--without" else 1]).name
    start(stream, how)
    buffer = b""
    while octets := stream.recv(1 << 16):
        buffer += octets
        while len(buffer) >= 4 and len(buffer) >= 4 + int.from_bytes(buffer[:4], "big"):
            end = 4 + int.from_bytes(buffer[:4], "big")
            carry_out(stream, msgspec.msgpack.decode(buffer[4:end]))
            buffer = buffer[end:]
    if how == "stubborn":
        time.sleep(600)


if __name__ == "__main__":
    main()
