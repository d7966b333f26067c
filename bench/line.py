"""Octets on the serial line, counted at the line itself: for one certificate, proved or not, and one revocation."""

from __future__ import annotations

from examples.system import System

from bench import backlog
from cassiopeia.store.database import open_store
from cassiopeia.store.records import CertificateRecord

CERTIFICATES = 100


def main(*, quick: bool) -> None:
    count = CERTIFICATES // 10 if quick else CERTIFICATES
    print("\nOctets on the line (both directions, TLS and framing included; RSA-2048 request, RSA-4096 sub-CA)")
    for version, profile in ((2, backlog.UNPROVED), (2, backlog.PROVED), (1, backlog.UNPROVED)):
        with backlog.made_system("RSA-4096", link="serial", version_1=version == 1) as system:
            if version == 1:
                system.client_config = "ca/client/client-v1.toml"
            system.start_signer()
            system.wait_for_log("signer", "running")
            backlog.drain(system)  # the first CRLs
            if profile == backlog.PROVED:
                system.start_validator()
            start = _octets(system)
            _issue(system, 1, profile)
            single = _octets(system)
            _issue(system, count, profile)
            many = _octets(system)
            _revoke(system)
            revoked = _octets(system)
            for name in list(system.processes):
                system.stop(name)
        fresh = single - start
        # The second drain's own session cost as much as the first's without its certificate: take the difference.
        each = (many - single - fresh) / (count - 1)
        proofs = ", with two observations and an attestation" if profile == backlog.PROVED else ""
        print(f"  version {version}: {fresh:7,} for one certificate in a session of its own{proofs}")
        print(f"             {each:7,.0f} for each further one in a session of {count}")
        print(f"             {revoked - many:7,} for one revocation in a session of its own", flush=True)


def _issue(system: System, count: int, profile: str) -> None:
    backlog.submit(system, count, profile=profile)
    backlog.drain(system)


def _revoke(system: System) -> None:
    system.client("certificate", "revoke", options=[_any_certificate(system).serial_number])
    backlog.drain(system)


def _any_certificate(system: System) -> CertificateRecord:
    with open_store(f"sqlite:///{system.directory}/ca/client/store.sqlite") as store:
        return store.certificates.page(limit=1).items[0]


def _octets(system: System) -> int:
    if system.modem is None:
        raise RuntimeError("octets are counted on a serial line")
    return sum(system.modem.octets)
