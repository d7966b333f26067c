"""The main job in a minute: a CSR goes in, a certificate comes out of a signer that cannot be reached.

Run by `make demo`. Everything is driven from outside, by the commands that a person would type; the lines marked
`signer` and `client` are what those two processes logged themselves.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import tempfile
import textwrap
import time
from contextlib import closing
from pathlib import Path

from examples.system import CommandFailed, System

WIDTH = 112
POLL_S = 0.1
RESPONDER_TIME_LIMIT_S = 30.0

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


# Whom the names are proved for, and who would like to have one of them.
OWNER, CHEAT = "momo", "grey-man"
PROVED_NAME = "shop.example.org"
DATABASE = "ca/client/store.sqlite"
ATTESTED = "SELECT request.request_id FROM attestation JOIN request ON request.id = attestation.request_row"
COPY_ATTESTATION = """
UPDATE attestation SET proofs = (
    SELECT theirs.proofs FROM attestation AS theirs JOIN request ON request.id = theirs.request_row
    WHERE request.request_id = :honest
) WHERE request_row = (SELECT id FROM request WHERE request_id = :stolen)
"""


class Demo:
    """One run. `certificates` holds what was issued, by the name of its key."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._certificates: dict[str, Path] = {}
        self._first_request = ""
        self._url = ""

    def run(self) -> None:
        self._make_authority()
        self._start()
        self._submit()
        self._show_cycle()
        self._prove_names()
        self._cheat()
        self._cheat_in_the_database()
        self._verify()
        self._revoke()
        self._stop()
        self._read_journal()

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
            "2. Signer, signer client, validator and publisher start, as separate processes",
            f"Between signer and client: {over}, mutual TLS with pinned keys, and the signer protocol. The signer "
            "listens to nothing else, and nobody can log in to it. The validator has a key of its own, which the "
            "signer knows; so has the publisher, which answers OCSP and gets its certificates by itself.",
        )
        self._system.start_signer("--verbose")
        self._system.start_client("--verbose")
        self._system.start_validator("--verbose")
        self._url = self._system.start_publisher()
        begun = [
            ("signer", "locked"),
            ("signer", "running"),
            ("client", "session open"),
            ("validator", "is heard: its requests are attested"),
            ("publisher", "serving at"),
            ("publisher", "certified until"),
        ]
        for name, words in begun:
            self._system.wait_for_log(name, words)
            for line in self._system.log(name).splitlines():
                if words in line:
                    print(f"    {name:9}  {line.partition(' ')[2]}")

    def _submit(self) -> None:
        heading(
            "3. Subscribers make keys and requests with openssl, and submit them",
            "Here by profiles that demand no proof of anything, and say so in their names: for trying out.",
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

    def _submit_one(self, name: str, options: list[str]) -> str:
        """Have a certificate issued, and keep it; return the id of the request."""
        if not self._certificates:
            print(f"    $ cassiopeia request submit -c ca/client/client.toml --wait {' '.join(options)}")
        answer = self._system.ask("request", "submit", options=["--wait", *options])
        certificate = self._system.directory / f"{name}.crt"
        certificate.write_text(answer["certificate"])
        self._certificates[name] = certificate
        self._first_request = self._first_request or answer["id"]
        issued = f"{answer['state']} by {answer['authority']}, serial {answer['serial_number']}"
        print(f"    {name:9} request {answer['id'][:8]}: {issued}")
        request_id: str = answer["id"]
        return request_id

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

    def _prove_names(self) -> None:
        heading(
            "5. What is proved is issued",
            "0004-server, the real profile for servers, demands that somebody saw two things for each domain name: the "
            "account controls it, and its CAA records let this authority issue. In this version a person or a script "
            "looks, and says so.",
        )
        for kind, method in (("dns-control", "dns"), ("caa-permits", "dns")):
            said = self._system.observe(kind, PROVED_NAME, OWNER, "--method", method)
            print(f"    $ cassiopeia validator observe {kind} {PROVED_NAME} --account {OWNER} --method {method}")
            show(said)
        csr = self._make_request("proved")
        options = ["--profile", "0004-server", "--account", OWNER, "--dns", PROVED_NAME, csr]
        print(f"    $ cassiopeia request submit --wait {' '.join(options)}")
        request_id = self._submit_one("proved", options)
        print("  Before the client took it to the signer, the validator vouched for exactly this request:")
        for line in self._system.log("validator").splitlines():
            if request_id[:8] in line:
                print(f"    validator  {line.partition(' ')[2]}")

    def _cheat(self) -> None:
        heading(
            "6. What is not proved is refused, with the list",
            f"{CHEAT} asks for a name of his own invention, and for {OWNER}'s.",
        )
        csr = self._make_request("cheat")
        options = ["--profile", "0004-server", "--account", CHEAT, "--dns", "bank.example.org", "--dns", PROVED_NAME]
        print(f"    $ cassiopeia request submit --wait {' '.join(options)} {csr}")
        show(self._system.client("request", "submit", options=["--wait", *options, csr], status=1).stderr)

    def _cheat_in_the_database(self) -> None:
        heading(
            "7. Whoever holds the database gets no further",
            f"{CHEAT} has broken into it. {OWNER} asks for another certificate, and the validator vouches for that; "
            f"{CHEAT} copies the attestation, with the observations behind it, to a request with a key of his own, "
            "before the client takes both to the signer.",
        )
        self._system.stop("client")
        honest = self._queue("honest", OWNER)
        stolen = self._queue("stolen", CHEAT)
        self._system.wait_until(lambda: self._attested() == {honest, stolen}, "both requests are attested")
        print(f"    {CHEAT}'s SQL:")
        show(textwrap.indent(COPY_ATTESTATION.strip(), "    "))
        with closing(sqlite3.connect(self._system.directory / DATABASE)) as database, database:
            database.execute(COPY_ATTESTATION, {"honest": honest, "stolen": stolen})
        self._system.start_client("--verbose")
        answer = self._system.client("request", "wait", options=[stolen], status=1)
        print("    For him it vouches for nothing; the client has his request attested anew, as what it is:")
        for line in self._system.log("client").splitlines():
            if f"{stolen[:8]}: attested anew" in line:
                print(f"    client     {line.partition(' ')[2]}")
        print(f"    {CHEAT}: {answer.stderr.strip()}")
        issued = self._system.ask("request", "wait", options=[honest])
        print(f"    {OWNER}: {issued['state']} by {issued['authority']}, serial {issued['serial_number']}")

    def _queue(self, name: str, account: str) -> str:
        """Submit a request for the proved name; return its id."""
        options = ["--profile", "0004-server", "--account", account, "--dns", PROVED_NAME, self._make_request(name)]
        request_id: str = self._system.ask("request", "submit", options=options)["id"]
        return request_id

    def _attested(self) -> set[str]:
        """The ids of the requests that a validator has vouched for."""
        with closing(sqlite3.connect(self._system.directory / DATABASE)) as database:
            return {request_id for (request_id,) in database.execute(ATTESTED)}

    def _make_request(self, name: str) -> str:
        """A key and a CSR by openssl; return the name of the CSR's file."""
        csr = f"{name}.csr"
        key = [*KEYS["p-256"], "-nodes", "-keyout", f"{name}.key"]
        self._system.openssl("req", "-new", *key, "-subj", "/", "-out", csr)
        return csr

    def _verify(self) -> None:
        heading("8. Every certificate verifies, through the whole chain", "")
        for number, certificate in enumerate(self._certificates.values()):
            options = self._system.trust_options(certificate)
            if number == 0:
                print(f"    $ openssl verify {' '.join(options)} {certificate.name}")
            show(self._system.openssl("verify", *options, certificate.name).stdout)

    def _revoke(self) -> None:
        heading(
            "9. One is revoked",
            "The signer journals it, signs the CRL anew and sends what changed; the client patches its copy, verifies "
            "it and publishes it.",
        )
        revoked = self._certificates["rsa-2048"]
        serial = self._system.openssl("x509", "-in", revoked.name, "-noout", "-serial").stdout.strip().split("=")[1]
        self._ask_responder(revoked, "good")
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
        print("  Within a second, the publisher says so to whoever asks:")
        self._ask_responder(revoked, "revoked")

    def _ask_responder(self, certificate: Path, expected: str) -> None:
        """OCSP (RFC 6960): answers are made from CRLs and journal entries, and the responder has verified both."""
        issuer = f"ca/client/public/{self._system.authority_of(certificate)}.pem"
        options = ["-issuer", issuer, "-CAfile", issuer, "-partial_chain", "-cert", certificate.name]
        print(f"    $ openssl ocsp -url {self._url}/ocsp {' '.join(options)}")
        deadline = time.monotonic() + RESPONDER_TIME_LIMIT_S
        while True:
            try:
                said = self._system.openssl("ocsp", "-url", f"{self._url}/ocsp", *options)
            except CommandFailed:
                # Until it knows enough it says "trylater", and openssl ends with 1.
                if time.monotonic() > deadline:
                    raise
            else:
                if f"{certificate.name}: {expected}\n" in said.stdout:
                    break
                if time.monotonic() > deadline:
                    raise CommandFailed(f"OCSP does not call {certificate.name} {expected}:\n{said.stdout}")
            time.sleep(POLL_S)
        show(said.stderr + said.stdout)

    def _check_revocation(self, certificate: Path, *, revoked: bool) -> None:
        crl = ["-crl_check", "-CRLfile", self._system.crl_of(certificate)]
        options = [*crl, *self._system.trust_options(certificate)]
        # openssl verify ends with 2 when a certificate does not verify.
        done = self._system.openssl("verify", *options, certificate.name, status=2 if revoked else 0)
        if revoked and "certificate revoked" not in done.stderr + done.stdout:
            raise CommandFailed(f"openssl does not say that {certificate.name} is revoked:\n{done.stderr}{done.stdout}")
        show(done.stdout + done.stderr)

    def _stop(self) -> None:
        heading("10. Everything stops cleanly", "")
        status = json.loads(self._system.client("status", options=["--json"]).stdout)
        print(f"    certificates in the last hour: {status['queue']['issued_last_hour']}, none waiting")
        for name in ("publisher", "validator", "client", "signer"):
            self._system.stop(name)
            print(f"    {name} ended with status 0")
        if self._system.modem is not None:
            from_signer, from_client = self._system.modem.octets
            print(f"    octets on the serial line: {from_client:,} from the client, {from_signer:,} from the signer")

    def _read_journal(self) -> None:
        heading(
            "11. The signer's journal is read again, and compared with all of it",
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
