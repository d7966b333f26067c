"""Certificates in a store as a signer would have issued them: with keys and names of their own."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.authorities import p256_key
from tests.support.store import certificate_request, lease_sign, request_id

from cassiopeia.store.database import Store
from cassiopeia.store.records import IssuedResult, serial_text

SERIAL = 1 << 120


def certificate(
    number: int, *, key: ec.EllipticCurvePrivateKey | None = None, names: tuple[str, ...] = (), at: dt.datetime
) -> bytes:
    """DER of a certificate with the serial number SERIAL + `number`."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"number {number}")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key((key or p256_key()).public_key())
        .serial_number(SERIAL + number)
        .not_valid_before(at)
        .not_valid_after(at + dt.timedelta(days=90))
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(each) for each in names])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(p256_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def certify(
    store: Store,
    *numbers: int,
    at: dt.datetime,
    account: str = "alice",
    authority: str = "unassured_2026_1",
    subject: str = "CN=www.example.org",
    key: ec.EllipticCurvePrivateKey | None = None,
    names: tuple[str, ...] = ("www.example.org",),
) -> list[str]:
    """Have these issued; return their serial numbers as the store writes them."""
    for number in numbers:
        wanted = certificate_request(account=account)
        store.requests.submit(wanted, request_id=request_id(number), now=at)
    jobs = {job.request.request_id: job for job in lease_sign(store, limit=len(numbers), at=at)}
    results = [
        IssuedResult(
            job_id=jobs[request_id(number)].id,
            authority=authority,
            serial_number=SERIAL + number,
            certificate=certificate(number, key=key, names=names, at=at),
            subject=subject,
            not_before=at,
            not_after=at + dt.timedelta(days=90),
        )
        for number in numbers
    ]
    store.results.finish_issued(results, now=at)
    return [serial_text(SERIAL + number) for number in numbers]
