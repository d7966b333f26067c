"""The main job in a minute: a CSR goes in, a certificate comes out of a signer that cannot be reached.

Run by `make demo`. Everything is driven from outside, by the commands that a person would type; the lines marked
`signer` and `client` are what those two processes logged themselves.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import textwrap
import time
from pathlib import Path

from examples.system import CommandFailed, System

WIDTH = 112

# What subscribers bring: a name, and how openssl makes the key.
KEYS = {
    "rsa-2048": ["-newkey", "rsa:2048"],
    "rsa-4096": ["-newkey", "rsa:4096"],
    "p-256": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "p-384": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "ed25519": ["-newkey", "ed25519"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Show the whole system at work, step by step.")
    parser.add_argument("--link", choices=["unix", "serial"], default="unix")
    parser.add_argument("--key-algorithm", default="RSA-4096", help="of every CA key; P-256 is quick")
    parser.add_argument("--keep", action="store_true", help="leave the files of this CA behind and say where")
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cassiopeia-demo-"))
    started = time.monotonic()
    try:
        options = ["--unproved-profiles"]
        if arguments.key_algorithm != parser.get_default("key_algorithm"):
            options += ["--key-algorithm", arguments.key_algorithm]
        with System(directory=directory, link=arguments.link, init_options=options) as system:
            Demo(system).run()
    except CommandFailed as failure:
        raise SystemExit(str(failure)) from None
    finally:
        if arguments.keep:
            print(f"The files of this CA are in {directory}")
        else:
            shutil.rmtree(directory)
    print(f"\nDone in {time.monotonic() - started:.0f} seconds. `make run` makes a CA that stays, for you to try.")


class Demo:
    """One run. `certificates` holds what was issued, by the name of its key."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._certificates: dict[str, Path] = {}
        self._first_request = ""

    def run(self) -> None:
        self._make_authority()
        self._start()
        self._submit()
        self._show_cycle()
        self._verify()
        self._revoke()
        self._stop()
        self._prove()

    def _make_authority(self) -> None:
        heading(
            "1. A small certificate authority is made",
            "The root signs five structure CAs, each of which signs a time sub-CA for this half-year. Only the time "
            "sub-CAs' keys go to the signer; the client's side gets no CA key at all.",
        )
        command = self._system.init_command
        print(f"    $ cassiopeia {' '.join(command)}")
        show(self._system.run(*command).stdout)

    def _start(self) -> None:
        over = "a serial line (two pseudo-terminals)" if self._system.link == "serial" else "a Unix socket"
        heading(
            "2. Signer and signer client start, as separate processes",
            f"Between them: {over}, mutual TLS with pinned keys, and the signer protocol. The signer listens to "
            "nothing else, and nobody can log in to it.",
        )
        self._system.start_signer("--verbose")
        self._system.start_client("--verbose")
        self._system.wait_for_log("signer", "running")
        self._system.wait_for_log("client", "session open")
        for name, words in (("signer", "locked"), ("signer", "running"), ("client", "session open")):
            for line in self._system.log(name).splitlines():
                if words in line:
                    print(f"    {name}  {line.partition(' ')[2]}")

    def _submit(self) -> None:
        heading(
            "3. Subscribers make keys and requests with openssl, and submit them",
            "These profiles demand no proof of control, and say so in their names. The real ones do: without signed "
            "proof the signer refuses them.",
        )
        for name, key in KEYS.items():
            csr = f"{name}.csr"
            self._system.openssl("req", "-new", *key, "-nodes", "-keyout", f"{name}.key", "-subj", "/", "-out", csr)
            domain = f"{name}.example.org"
            self._submit_one(name, ["--profile", "9004-unproved-server", "--cn", domain, "--dns", domain, csr])
        self._system.openssl("genrsa", "-out", "spkac.key", "2048")
        # openssl signs an SPKAC with MD5 unless told otherwise, and the signer refuses MD5.
        self._system.openssl("spkac", "-key", "spkac.key", "-digest", "sha256", "-out", "spkac.txt")
        person = ["--cn", "Momo", "--email", "momo@example.org"]
        self._submit_one("spkac", ["--profile", "9001-unproved-client", *person, "spkac.txt"])

    def _submit_one(self, name: str, options: list[str]) -> None:
        if not self._certificates:
            print(f"    $ cassiopeia request submit -c ca/client/client.toml --wait {' '.join(options)}")
        answer = self._system.ask("request", "submit", options=["--wait", *options])
        certificate = self._system.directory / f"{name}.crt"
        certificate.write_text(answer["certificate"])
        self._certificates[name] = certificate
        self._first_request = self._first_request or answer["id"]
        issued = f"{answer['state']} by {answer['authority']}, serial {answer['serial_number']}"
        print(f"    {name:9} request {answer['id'][:8]}: {issued}")

    def _show_cycle(self) -> None:
        heading(
            "4. What happened to the first of them: the issuance cycle",
            "The signer decides for itself, writes down what it is going to sign, and waits until the client has "
            "saved that log. Only then does it use a CA key.",
        )
        lines = [
            (line.partition(" ")[0], f"    {name}  {line.partition(' ')[2]}")
            for name in ("client", "signer")
            for line in self._system.log(name).splitlines()
            if self._first_request[:8] in line
        ]
        for _, line in sorted(lines, key=lambda each: each[0]):
            print(line)

    def _verify(self) -> None:
        heading("5. Every certificate verifies, through the whole chain", "")
        for number, certificate in enumerate(self._certificates.values()):
            options = self._system.trust_options(certificate)
            if number == 0:
                print(f"    $ openssl verify {' '.join(options)} {certificate.name}")
            show(self._system.openssl("verify", *options, certificate.name).stdout)

    def _revoke(self) -> None:
        heading(
            "6. One is revoked",
            "The signer journals it, signs the CRL anew and sends what changed; the client patches its copy, verifies "
            "it and publishes it.",
        )
        revoked = self._certificates["rsa-2048"]
        serial = self._system.openssl("x509", "-in", revoked.name, "-noout", "-serial").stdout.strip().split("=")[1]
        options = [serial, "--reason", "superseded", "--wait"]
        print(f"    $ cassiopeia certificate revoke -c ca/client/client.toml {' '.join(options)}")
        show(self._system.client("certificate", "revoke", options=options).stdout)
        crl = self._system.crl_of(revoked)
        print(f"    $ openssl crl -inform DER -noout -text -in {crl}")
        text = self._system.openssl("crl", "-inform", "DER", "-noout", "-text", "-in", crl).stdout
        show(text.split("    Signature Algorithm: ", 2)[1].split("\n", 1)[1])
        print("    $ openssl verify -crl_check -CRLfile ..., the rest as before")
        for certificate in self._certificates.values():
            self._check_revocation(certificate, revoked=certificate == revoked)

    def _check_revocation(self, certificate: Path, *, revoked: bool) -> None:
        crl = ["-crl_check", "-CRLfile", self._system.crl_of(certificate)]
        options = [*crl, *self._system.trust_options(certificate)]
        # openssl verify ends with 2 when a certificate does not verify.
        done = self._system.openssl("verify", *options, certificate.name, status=2 if revoked else 0)
        if revoked and "certificate revoked" not in done.stderr + done.stdout:
            raise CommandFailed(f"openssl does not say that {certificate.name} is revoked:\n{done.stderr}{done.stdout}")
        show(done.stdout + done.stderr)

    def _stop(self) -> None:
        heading("7. Everything stops cleanly", "")
        status = json.loads(self._system.client("status", options=["--json"]).stdout)
        print(f"    certificates in the last hour: {status['queue']['issued_last_hour']}, none waiting")
        for name in ("client", "signer"):
            self._system.stop(name)
            print(f"    {name} ended with status 0")
        if self._system.modem is not None:
            from_signer, from_client = self._system.modem.octets
            print(f"    octets on the serial line: {from_client:,} from the client, {from_signer:,} from the signer")

    def _prove(self) -> None:
        heading(
            "8. The signer's journal is read again, and compared with all of it",
            "Every hash, every signature and every rule; then what was published. A stranger can do the same: all that "
            "it takes is the journal's public key.",
        )
        options = ["--crl", "ca/client/public"]
        for certificate in self._certificates.values():
            options += ["--certificates", certificate.name]
        print("    $ cassiopeia journal verify -c ca/signer/signer.toml --crl ca/client/public --certificates ...")
        show(self._system.run("journal", "verify", "-c", "ca/signer/signer.toml", *options).stdout)


def heading(title: str, explanation: str) -> None:
    print(f"\n{title}")
    if explanation:
        print(textwrap.indent(textwrap.fill(explanation, WIDTH), "  "))


def show(output: str) -> None:
    print(textwrap.indent(output.rstrip(), "    "), flush=True)


if __name__ == "__main__":
    main()
