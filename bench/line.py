"""Octets on the serial line, counted at the line itself: for one certificate and one revocation, versions 1 and 2."""

from __future__ import annotations

from examples.system import System

from bench import backlog
from cassiopeia.store.database import open_store
from cassiopeia.store.records import CertificateRecord

CERTIFICATES = 100


def main(*, quick: bool) -> None:
    count = CERTIFICATES // 10 if quick else CERTIFICATES
    print("\nOctets on the line (both directions, TLS and framing included; RSA-2048 request, RSA-4096 sub-CA)")
    for version in (2, 1):
        with backlog.made_system("RSA-4096", link="serial", version_1=version == 1) as system:
            if version == 1:
                system.client_config = "ca/client/client-v1.toml"
            system.start_signer()
            system.wait_for_log("signer", "running")
            backlog.drain(system)  # the first CRLs
            start = _octets(system)
            _issue(system, 1)
            single = _octets(system)
            _issue(system, count)
            many = _octets(system)
            _revoke(system)
            revoked = _octets(system)
            system.stop("signer")
        fresh = single - start
        # The second drain's own session cost as much as the first's without its certificate: take the difference.
        each = (many - single - fresh) / (count - 1)
        print(f"  version {version}: {fresh:7,} for one certificate in a session of its own")
        print(f"             {each:7,.0f} for each further one in a session of {count}")
        print(f"             {revoked - many:7,} for one revocation in a session of its own", flush=True)


def _issue(system: System, count: int) -> None:
    backlog.submit(system, count)
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
