"""The drill: a signer's disk is lost, and another comes back too old. Twice the authority goes on, with nothing lost.

Run by `python -m examples.drill`. Everything is driven from outside, by the commands that a person would type; the
runbook (docs/runbook.md) tells the same story for the day when it is no drill. It ends with status 0 only if every
certificate came out the same, every revocation stands, and every CRL number has risen.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from examples.demo import heading, show
from examples.system import CommandFailed, System

PROFILE = "9004-unproved-server"
SIGNER, CLIENT, OTHER = "ca/signer/signer.toml", "ca/client/client.toml", "ca/client/other.toml"
NUMBERS_SKIPPED = 65_536


def main() -> None:
    parser = argparse.ArgumentParser(description="Lose a signer's disk, put an old one back, and go on both times.")
    parser.add_argument("--key-algorithm", default="P-256", help="of every CA key")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cassiopeia-drill-"))
    started = time.monotonic()
    try:
        options = ["--unproved-profiles", "--key-algorithm", arguments.key_algorithm]
        with System(directory=directory, init_options=options) as system:
            Drill(system).run()
    except CommandFailed as failure:
        raise SystemExit(str(failure)) from None
    finally:
        shutil.rmtree(directory)
    print(f"\nDone in {time.monotonic() - started:.0f} seconds: nothing was lost, and nothing was made twice.")


class Drill:
    """One run. `requests` are the options of each request, by its id; `serials` what came of them."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._requests: dict[str, list[str]] = {}
        self._serials: dict[str, str] = {}
        self._revoked: list[str] = []
        self._numbers: dict[str, int] = {}

    def run(self) -> None:
        self._make_authority()
        self._work()
        self._lose_the_disk()
        self._take_the_safe_backup_out()
        self._make_it_again("first.journal")
        self._go_on(5, epoch=2)
        self._ask_again()
        self._put_an_old_disk_back()
        self._make_it_again("second.journal", "--replace")
        self._go_on(8, epoch=3)
        self._stop()

    def _make_authority(self) -> None:
        heading(
            "1. An authority is made, and a backup of its signer with it", "The backup holds the keys: into the safe."
        )
        self._system.run(*self._system.init_command)
        self._type("backup", "-c", SIGNER, "safe.backup")
        self._system.start_signer("--verbose")
        self._system.start_client("--verbose")
        self._system.wait_for_log("client", "session open")

    def _work(self) -> None:
        heading("2. It works: three certificates, one of them revoked", "")
        # What is lost later shall be the newest, and not the first CRLs, which stay published until they are due again.
        self._wait(lambda: self._every_crl_is_above(0), "the client has copied that every CRL is signed")
        for name in ("one", "two", "three"):
            self._issue(name)
        self._revoke(next(iter(self._serials)))
        self._remember_numbers()

    def _lose_the_disk(self) -> None:
        heading(
            "3. The signer's disk is lost, in the middle of the work",
            "The client is killed too, so that its copy of the journal may lack the newest entries.",
        )
        self._issue("four")
        self._system.kill("client")
        self._system.kill("signer")
        shutil.rmtree(self._system.directory / "ca/signer")
        print("    $ rm -r ca/signer")

    def _take_the_safe_backup_out(self) -> None:
        heading(
            "4. The journal is made again from the client's copy",
            "A new disk, the backup from the safe, and the client's copy of the journal, carried to the signer.",
        )
        self._type("restore", "safe.backup", "ca/signer")

    def _make_it_again(self, export: str, *options: str) -> None:
        self._type("journal", "export", "-c", CLIENT, "--out", export)
        self._type("signer", "rebuild", "-c", SIGNER, "--journal", export, *options)

    def _go_on(self, step: int, *, epoch: int) -> None:
        heading(
            f"{step}. It goes on",
            "New CRLs come at once, their numbers far above all that may have gone out. Revoked stays revoked.",
        )
        self._system.start_signer("--verbose")
        self._system.start_client("--verbose")
        floor = (epoch - 1) * NUMBERS_SKIPPED
        self._wait(lambda: self._every_crl_is_above(floor), "the client has copied that every CRL is signed")
        if "waits" in self._requests:
            self._wait(lambda: self._ask_request("waits")["state"] == "issued", "the request that waited is issued")
            self._note("waits", self._ask_request("waits"))
        self._issue(f"new-{epoch}")
        self._revoke(list(self._serials)[epoch - 1])
        self._check_numbers()
        self._check_revoked()
        self._type("journal", "verify", "-c", CLIENT)

    def _ask_again(self) -> None:
        heading(
            "6. Whoever asks again gets the same",
            "Another client, with an empty database, brings the same requests under the same ids.",
        )
        system = self._system
        system.stop("client")
        config = (system.directory / CLIENT).read_text().replace("store.sqlite", "other.sqlite")
        (system.directory / OTHER).write_text(config.replace('directory = "public"', 'directory = "other"'))
        system.run("store", "upgrade", "-c", OTHER)
        system.start_client(name="other", config=OTHER)
        for name, options in self._requests.items():
            answer = json.loads(system.run("request", "submit", "-c", OTHER, "--json", "--wait", *options).stdout)
            self._expect(answer["serial_number"] == self._serials[name], f"{name}: the same certificate")
        system.stop("other")
        # Stopped in order: a backup of the whole signer, such as one makes before a move.
        system.stop("signer")
        self._type("backup", "-c", SIGNER, "old.backup")
        system.start_signer("--verbose")
        system.start_client("--verbose")
        self._issue("after-the-backup")
        self._remember_numbers()

    def _put_an_old_disk_back(self) -> None:
        heading(
            "7. Somebody puts the backup's old journal back",
            "It is sound in itself, and it has forgotten what came after it. The client has not: the signer halts, and "
            "is made whole as before.",
        )
        system = self._system
        system.stop("client")
        system.stop("signer")
        self._type("restore", "old.backup", "ca/old")
        shutil.rmtree(system.directory / "ca/signer")
        (system.directory / "ca/old").rename(system.directory / "ca/signer")
        print("    $ rm -r ca/signer; mv ca/old ca/signer")
        system.start_signer("--verbose")
        system.start_client("--verbose")
        system.wait_for_log("signer", "halted: ")
        self._prepare("waits")
        system.client("request", "submit", options=self._requests["waits"])
        self._wait(lambda: system.ask("status")["signers"][0]["state"] == "halted", "the client hears it")
        show(system.client("status").stdout)
        self._expect(self._ask_request("waits")["state"] == "queued", "the request waits, and is not refused")
        system.stop("client")
        system.stop("signer")

    def _stop(self) -> None:
        heading("9. Everything stops cleanly", "")
        for name in ("client", "signer"):
            self._system.stop(name)
            print(f"    {name} ended with status 0")
        self._type("journal", "verify", "-c", SIGNER, "--crl", "ca/client/public")

    # Words for the steps above.

    def _prepare(self, name: str) -> None:
        csr = f"{name}.csr"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        self._system.openssl("req", "-new", *key, "-nodes", "-keyout", f"{name}.key", "-subj", "/", "-out", csr)
        domain = f"{name}.example.org"
        identifier = f"{len(self._requests) + 1:02x}" * 32
        self._requests[name] = ["--id", identifier, "--profile", PROFILE, "--cn", domain, "--dns", domain, csr]

    def _issue(self, name: str) -> None:
        self._prepare(name)
        self._note(name, self._system.ask("request", "submit", options=["--wait", *self._requests[name]]))

    def _note(self, name: str, answer: Any) -> None:
        self._serials[name] = answer["serial_number"]
        print(f"    {name}: issued by {answer['authority']}, serial {answer['serial_number']}")

    def _ask_request(self, name: str) -> Any:
        return self._system.ask("request", "show", options=[self._requests[name][1]])

    def _revoke(self, name: str) -> None:
        serial = self._serials[name]
        self._system.client("certificate", "revoke", options=[serial, "--reason", "superseded", "--wait"])
        self._revoked.append(serial)
        print(f"    {name}: revoked, serial {serial}")

    def _crl_numbers(self) -> dict[str, int]:
        """The newest of each sub-CA, by the client's copy of the journal."""
        shown = self._system.ask("journal", "show", options=["--kind", "crl"])
        return {each["signing_ca"]: each["number"] for each in shown}

    def _every_crl_is_above(self, floor: int) -> bool:
        sub_cas = {path.stem for path in (self._system.directory / "ca/client/certificates").glob("*_*.pem")}
        numbers = self._crl_numbers()
        return sub_cas == numbers.keys() and min(numbers.values()) > floor

    def _remember_numbers(self) -> None:
        self._numbers = self._crl_numbers()

    def _check_numbers(self) -> None:
        numbers = self._crl_numbers()
        for name, number in numbers.items():
            self._expect(number > self._numbers.get(name, 0), f"{name}: CRL number {number}")
        self._numbers = numbers

    def _check_revoked(self) -> None:
        listed: set[str] = set()
        for path in (self._system.directory / "ca/client/public").glob("*_*.crl"):
            text = self._system.openssl("crl", "-inform", "DER", "-in", str(path), "-noout", "-text").stdout
            listed |= {each.lower() for each in re.findall(r"Serial Number: ([0-9A-F]+)", text)}
        self._expect(
            listed == set(self._revoked), f"{len(self._revoked)} certificates are revoked, no less and no more"
        )

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        self._system.wait_until(condition, what)

    def _expect(self, fact: bool, words: str) -> None:  # noqa: FBT001 - a condition that was looked at
        if not fact:
            raise CommandFailed(f"not so: {words}")
        print(f"    {words}")

    def _type(self, *arguments: str) -> None:
        print(f"    $ cassiopeia {' '.join(arguments)}")
        show(self._system.run(*arguments).stdout)


if __name__ == "__main__":
    main()
