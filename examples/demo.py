"""The main job in a minute: a CSR goes in, a certificate comes out of a signer that cannot be reached.

Run by `make demo`. Everything below is driven from outside, by the commands that a person would type; the lines
marked `signer` and `client` are what those two processes logged themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from examples.null_modem import NullModem

WIDTH = 112
START_TIME_LIMIT_S = 60.0
CASSIOPEIA = [sys.executable, "-m", "cassiopeia"]

# What subscribers bring: a name, and how openssl makes the key.
REQUESTS = {
    "rsa-2048": ["-newkey", "rsa:2048"],
    "rsa-4096": ["-newkey", "rsa:4096"],
    "p-256": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p-384": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "ed25519": ["-newkey", "ed25519"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Show the whole system at work, step by step.")
    parser.add_argument("--link", choices=["unix", "serial"], default="unix")
    parser.add_argument("--keep", action="store_true", help="leave the files of this CA behind and say where")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cassiopeia-demo-"))
    started = time.monotonic()
    try:
        with ExitStack() as stack:
            Demo(directory, stack, link=arguments.link).run()
    finally:
        if arguments.keep:
            print(f"The files of this CA are in {directory}")
        else:
            shutil.rmtree(directory)
    print(f"\nDone in {time.monotonic() - started:.0f} seconds. `make run` makes a CA that stays, for you to try.")


class Demo:
    """One run, in a directory of its own."""

    def __init__(self, directory: Path, stack: ExitStack, *, link: str) -> None:
        self._directory = directory
        self._stack = stack
        self._link = link
        self._certificates: dict[str, Path] = {}

    def run(self) -> None:
        self._make_authority()
        self._start()
        self._submit()
        self._show_cycle()
        self._verify()
        self._revoke()
        self._stop()

    def _make_authority(self) -> None:
        heading(
            "1. A small certificate authority is made",
            "The root signs five structure CAs, each of which signs a time sub-CA for this half-year. Only the time "
            "sub-CAs' keys go to the signer; the client's side gets no key at all.",
        )
        arguments = ["init", "ca"]
        if self._link == "serial":
            self._modem = self._stack.enter_context(NullModem())
            signer_end, client_end = self._modem.devices
            arguments += ["--signer-device", signer_end, "--client-device", client_end]
        self._show(arguments)

    def _start(self) -> None:
        over = "a serial line (two pseudo-terminals)" if self._link == "serial" else "a Unix socket"
        heading(
            "2. Signer and signer client start, as separate processes",
            f"Between them: {over}, mutual TLS with pinned keys, and the signer protocol. The signer listens to "
            "nothing else, and nothing logs in to it.",
        )
        self._signer = self._start_process("signer", ["signer", "run", "-c", "ca/signer/signer.toml", "--verbose"])
        self._client = self._start_process("client", ["client", "run", "-c", "ca/client/client.toml", "--verbose"])
        self._wait_for_log("signer", "running")
        self._wait_for_log("client", "session open")
        self._print_log("signer", "unlocked", "running")
        self._print_log("client", "session open")

    def _submit(self) -> None:
        heading(
            "3. Subscribers make keys and requests with openssl, and submit them",
            "The demo's profiles demand no proof of control, and say so in their names. The real ones do: without "
            "signed proof the signer refuses them.",
        )
        for name, key in REQUESTS.items():
            subject = ["-subj", f"/CN={name}"]
            run(["openssl", "req", "-new", *key, "-nodes", "-keyout", f"{name}.key", *subject, "-out", f"{name}.csr"],
                cwd=self._directory)  # fmt: skip
            names = ["--dns", f"{name}.example.org", "--cn", f"{name}.example.org"]
            self._submit_one(name, ["--profile", "9004-unproved-server", *names, f"{name}.csr"])
        run(["openssl", "genrsa", "-out", "spkac.key", "2048"], cwd=self._directory)
        # openssl signs an SPKAC with MD5 unless told otherwise, and the signer refuses MD5.
        run(["openssl", "spkac", "-key", "spkac.key", "-digest", "sha256", "-out", "spkac.txt"], cwd=self._directory)
        person = ["--cn", "Momo", "--email", "momo@example.org"]
        self._submit_one("spkac", ["--profile", "9001-unproved-client", "--spkac", *person, "spkac.txt"])

    def _submit_one(self, name: str, arguments: list[str]) -> None:
        command = ["request", "submit", "-c", "ca/client/client.toml", "--wait", "--json", *arguments]
        answer = json.loads(self._cassiopeia(command))
        self._certificates[name] = self._directory / f"{name}.crt"
        self._certificates[name].write_text(answer["certificate"])
        answer_line = f"{name:9} request {answer['id'][:8]}  {answer['state']} by {answer['authority']}"
        print(f"    {answer_line}  serial {answer['serial_number']}")
        self._first_request = getattr(self, "_first_request", answer["id"])

    def _show_cycle(self) -> None:
        heading(
            "4. What happened to the first of them: the issuance cycle",
            "The signer decides for itself, writes down what it is going to sign, and waits until the client has saved "
            "that log. Only then does it use a CA key.",
        )
        lines = []
        for name in ("signer", "client"):
            for line in self._log(name).read_text().splitlines():
                if self._first_request[:8] in line:
                    time_of_day, _, message = line.partition(" ")
                    lines.append((time_of_day, f"    {name}  {message}"))
        for _, line in sorted(lines, key=lambda each: each[0]):
            print(line)

    def _verify(self) -> None:
        heading("5. Every certificate verifies, through the whole chain", "")
        for name, certificate in self._certificates.items():
            self._show_openssl(["verify", *self._trust(certificate), certificate.name], name)

    def _revoke(self) -> None:
        heading(
            "6. One is revoked",
            "The signer journals it, signs the CRL anew and sends what changed; the client patches its copy, verifies "
            "it and publishes it.",
        )
        victim = self._certificates["rsa-2048"]
        serial = run(["openssl", "x509", "-in", victim.name, "-noout", "-serial"], cwd=self._directory).split("=")[1]
        command = ["certificate", "revoke", "-c", "ca/client/client.toml", serial.strip(), "--reason", "superseded"]
        self._show([*command, "--wait"])
        crl = f"ca/client/public/{self._authority(victim)}.crl"
        text = self._openssl(["crl", "-inform", "DER", "-in", crl, "-noout", "-text"])
        print(f"    $ openssl crl -inform DER -in {crl} -noout -text")
        print(textwrap.indent(text.split("    Signature Algorithm: ")[1].split("\n", 1)[1].rstrip(), "    "))
        for name, certificate in self._certificates.items():
            crl = f"ca/client/public/{self._authority(certificate)}.crl"
            arguments = ["verify", "-crl_check", "-CRLfile", crl, *self._trust(certificate), certificate.name]
            self._show_openssl(arguments, name, fails=certificate == victim)

    def _stop(self) -> None:
        heading("7. Everything stops cleanly", "")
        for name, process in (("client", self._client), ("signer", self._signer)):
            process.send_signal(signal.SIGTERM)
            print(f"    {name} ended with status {process.wait(30)}")
            if process.returncode != 0:
                raise SystemExit(f"{name} did not end cleanly:\n{self._log(name).read_text()}")
        if self._link == "serial":
            from_signer, from_client = self._modem.octets
            print(f"    octets on the serial line: {from_client:,} from the client, {from_signer:,} from the signer")

    def _authority(self, certificate: Path) -> str:
        issuer = self._openssl(["x509", "-in", certificate.name, "-noout", "-issuer", "-nameopt", "multiline"])
        return issuer.split("commonName")[1].split("=")[1].strip()

    def _trust(self, certificate: Path) -> list[str]:
        """What `openssl verify` is given: the root to trust, and the CAs between."""
        authority = self._authority(certificate)
        public = "ca/client/public"
        family = authority.split("_")[0]
        return [
            "-CAfile", f"{public}/root.pem",
            "-untrusted", f"{public}/{family}.pem",
            "-untrusted", f"{public}/{authority}.pem",
        ]  # fmt: skip

    def _show_openssl(self, arguments: list[str], name: str, *, fails: bool = False) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self._directory, capture_output=True, text=True, check=False)
        if fails != (done.returncode != 0):
            raise SystemExit(f"unexpected answer of openssl for {name}:\n{done.stdout}{done.stderr}")
        if fails:
            print(textwrap.indent((done.stderr + done.stdout).rstrip(), "    "))
        else:
            print(f"    {done.stdout.rstrip()}")

    def _openssl(self, arguments: list[str]) -> str:
        return run(["openssl", *arguments], cwd=self._directory)

    def _show(self, arguments: list[str]) -> None:
        print(f"    $ cassiopeia {' '.join(arguments)}")
        print(textwrap.indent(self._cassiopeia(arguments).rstrip(), "    "))

    def _cassiopeia(self, arguments: list[str]) -> str:
        return run([*CASSIOPEIA, *arguments], cwd=self._directory)

    def _start_process(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        print(f"    $ cassiopeia {' '.join(arguments)} &")
        with self._log(name).open("wb") as log:
            process = subprocess.Popen([*CASSIOPEIA, *arguments], cwd=self._directory, stdout=log, stderr=log)
        self._stack.callback(end, process)
        return process

    def _log(self, name: str) -> Path:
        return self._directory / f"{name}.log"

    def _wait_for_log(self, name: str, words: str) -> None:
        wait_until(lambda: words in self._log(name).read_text(), what=f"{name} logs {words!r}", log=self._log(name))

    def _print_log(self, name: str, *words: str) -> None:
        for line in self._log(name).read_text().splitlines():
            if any(word in line for word in words):
                print(f"    {name}  {line.partition(' ')[2]}")


def heading(title: str, explanation: str) -> None:
    print(f"\n{title}")
    if explanation:
        print(textwrap.indent(textwrap.fill(explanation, WIDTH), "  "))


def run(command: list[str], *, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode != 0:
        raise SystemExit(f"$ {' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_until(condition: Callable[[], bool], *, what: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIME_LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain until {what}:\n{log.read_text()}")
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
