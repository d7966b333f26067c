"""A hierarchy that lives through years within seconds: ceremonies, machines, and what openssl says of it at any time.

Every program is the real one, in a process of its own; only its clocks are moved (`machine_time.clock`).
"""

from __future__ import annotations

import datetime as dt
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from tests.support.acceptance import QuickSystem, error_line, issue, make_key, make_request, serial_of, submit
from tests.support.machine_time.clock import SimulatedTime

PUBLIC = "ca/client/public"
SIGNER, CLIENT = "ca/signer/signer.toml", "ca/client/client.toml"
SIGNER_ID = 5
GOOD, REVOKED, EXPIRED, CRL_EXPIRED = "OK", "certificate revoked", "certificate has expired", "CRL has expired"

SERVER = "9004-unproved-server"
CLUB = "8001-club"
CLUB_PROFILE = """
title = "Members of the club"
family = "club"
key_usage = ["digitalSignature"]
extended_key_usage = ["clientAuth"]
maximum_validity_days = 365
maximum_alt_names = 1
evidence = []

[subject]
CN = "optional"

[alt_names]
URI = "optional"
"""


@dataclass(kw_only=True)
class Life(QuickSystem):
    """A signer and a client in `ca`, and the ceremonies, each in a directory of its own."""

    time: SimulatedTime
    crl_numbers: dict[str, int] = field(default_factory=dict)
    expected: dict[Path, str] = field(default_factory=dict)

    def make_machines(self, ceremony: str) -> None:
        """Each side for itself, with what has to be carried from one to the other."""
        (self.directory / "ca/run").mkdir(parents=True)
        common = ["--bundle-key", f"{ceremony}/bundle-key.pem"]
        listen = ["--listen", "unix:../run/signer.sock"]
        self.run("signer", "init", "ca/signer", "--id", str(SIGNER_ID), *listen, *common)
        theirs = ["--signer", "ca/signer/link.pem", "--journal", "ca/signer/journal.pem"]
        self.run("client", "init", "ca/client", "--connect", "unix:../run/signer.sock", *theirs, *common)
        pin = (self.directory / "ca/client/link.pem").read_bytes()
        (self.directory / "ca/signer/peers/client.pem").write_bytes(pin)

    def install(self, ceremony: str, *options: str) -> None:
        """The bundles of a ceremony, each by its own command."""
        self._install_signer(ceremony, *options)
        self._install_client(ceremony)

    def install_while_running(self, ceremony: str, number: int) -> None:
        """The same, and both programs, which are not started again, work by it."""
        before = {name: self.processes[name].pid for name in ("signer", "client")}
        in_force = self.log("signer").count("the new configuration is in force")
        self._install_signer(ceremony)
        self.wait_until(
            lambda: self.log("signer").count("the new configuration is in force") > in_force, "the signer takes it over"
        )
        self._install_client(ceremony)
        self.wait_for_log("client", f"works by bundle {number} now")
        assert {name: each.pid for name, each in self.processes.items()} == before
        assert not any(each.poll() for each in self.processes.values())

    def move_to(self, *date: int) -> None:
        """Let time pass until then, and wait until every CRL that the signer owes is of that time."""
        moment = dt.datetime(*date, tzinfo=dt.UTC)  # type: ignore[misc,arg-type] # as many numbers as it takes
        self.time.move_to(moment)
        if self.processes:
            self.wait_for_crls(moment)

    def wait_for_crls(self, moment: dt.datetime) -> None:
        """Each sub-CA's CRL is signed anew; the numbers only rise."""
        names = sorted(path.stem for path in (self.directory / "ca/client/bundles/current/certificates").glob("*_*"))
        assert names
        old = moment - dt.timedelta(days=1)
        self.wait_until(lambda: all(self._is_newer(name, old) for name in names), f"the CRLs are of {moment}")
        for name in self.published:
            crl = x509.load_der_x509_crl((self.directory / PUBLIC / f"{name}.crl").read_bytes())
            number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
            assert number >= self.crl_numbers.get(name, 0), f"{name}: its CRL number fell"
            self.crl_numbers[name] = number

    @property
    def published(self) -> list[str]:
        """The CAs whose CRL is public."""
        return sorted(path.stem for path in (self.directory / PUBLIC).glob("*.crl"))

    def obtain(self, profile: str, name: str) -> Path:
        """A certificate for a key of its own, by the queue."""
        return issue(self, *self._wish(profile, name))

    def submit(self, profile: str, name: str) -> str:
        """The id of a request for one; nobody waits for it."""
        return submit(self, *self._wish(profile, name))

    def why_it_waits(self, request: str) -> str:
        return error_line(self.client("request", "wait", options=[request, "--timeout", "0"], status=1))

    def revoke(self, certificate: Path, reason: str) -> None:
        self.client("certificate", "revoke", options=[serial_of(self, certificate), "--reason", reason, "--wait"])

    def chain(self, certificate: Path) -> list[str]:
        """The names of the CAs above it, as they are published: the root is the last one."""
        public = (self.directory / PUBLIC).glob("*.crt")
        published = {
            (read := x509.load_der_x509_certificate(each.read_bytes())).subject: (each.stem, read) for each in public
        }
        names, below = [], x509.load_pem_x509_certificate(certificate.read_bytes())
        while below.issuer != below.subject:
            name, below = published[below.issuer]
            names.append(name)
        return names

    def authority_of(self, certificate: Path) -> str:
        return self.chain(certificate)[0]

    def verdict(self, certificate: Path) -> str:
        """What `openssl verify -crl_check_all` says at this time, with every CRL as it is published now."""
        *between, root = self.chain(certificate)
        crls = [word for name in (*between, root) for word in ("-CRLfile", f"{PUBLIC}/{name}.crl.pem")]
        trust = ["-CAfile", f"{PUBLIC}/{root}.pem"]
        trust += [word for name in between for word in ("-untrusted", f"{PUBLIC}/{name}.pem")]
        how = ["-attime", str(int(self.time.now.timestamp())), "-x509_strict", "-crl_check_all"]
        command = ["openssl", "verify", *how, *crls, *trust, str(certificate)]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    def standing(self, certificate: Path) -> str:
        """As `verdict`, in its words, by pyca's signatures: for chains that openssl cannot verify."""
        now, below = self.time.now, x509.load_pem_x509_certificate(certificate.read_bytes())
        for name in self.chain(certificate):
            public = self.directory / PUBLIC / name
            above = x509.load_pem_x509_certificate(public.with_suffix(".pem").read_bytes())
            crl = x509.load_der_x509_crl(public.with_suffix(".crl").read_bytes())
            below.verify_directly_issued_by(above)
            assert crl.issuer == above.subject
            assert crl.is_signature_valid(above.public_key())  # type: ignore[arg-type] # a key that signs
            assert above.not_valid_before_utc <= now <= above.not_valid_after_utc
            assert crl.next_update_utc is not None
            if not crl.last_update_utc <= now <= crl.next_update_utc:
                return CRL_EXPIRED
            if crl.get_revoked_certificate_by_serial_number(below.serial_number) is not None:
                return REVOKED
            if now > below.not_valid_after_utc:
                return EXPIRED
            below = above
        return GOOD

    def check(self, word: str = "", *certificates: Path) -> None:
        """Expect this of these from now on; every certificate that was named is what it ought to be at this time."""
        self.expected |= dict.fromkeys(certificates, word)
        for certificate, each in self.expected.items():
            said = self.verdict(certificate)
            assert each in said, f"{certificate.name} by {self.authority_of(certificate)} at {self.time.now}: {said}"

    def concerns(self) -> list[str]:
        """What `cassiopeia status` asks people to do: the codes."""
        return [each["code"] for each in self.ask("status")["concerns"]]

    def _install_signer(self, ceremony: str, *options: str) -> None:
        self.run("signer", "install", f"{ceremony}/signer-{SIGNER_ID}.bundle", "-c", SIGNER, *options)

    def _install_client(self, ceremony: str) -> None:
        for bundle in ("client", "publication"):
            self.run("client", "install", f"{ceremony}/{bundle}.bundle", "-c", CLIENT)

    def _wish(self, profile: str, name: str) -> list[str]:
        key = make_key(self, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        names = ["--uri", f"https://{name}.house.test/"] if profile == CLUB else ["--dns", f"{name}.house.test"]
        return ["--profile", profile, *names, make_request(self, key)]

    def _is_newer(self, name: str, moment: dt.datetime) -> bool:
        path = self.directory / PUBLIC / f"{name}.crl"
        return path.exists() and x509.load_der_x509_crl(path.read_bytes()).last_update_utc > moment
