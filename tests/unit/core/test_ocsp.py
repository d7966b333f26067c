from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp as library
from tests.support.authorities import NOW, TestCa, default_authority, default_ca, make_ca, p256_key, sign
from tests.support.ocsp_requests import asked, issuer_key_hash, issuer_name_hash, key_info

from cassiopeia.core import der, ocsp
from cassiopeia.core.algorithms import choose_algorithm
from cassiopeia.core.ocsp import CertId, ErrorStatus, SingleResponse
from cassiopeia.errors import InternalError, PeerError

SHA256 = bytes.fromhex("300b0609608648016503040201")
NONCE_OID = bytes.fromhex("06092b0601050507300102")
OTHER_OID = bytes.fromhex("06092b0601050507300104")


def cert_id(
    *, algorithm: bytes = SHA256, name: bytes = b"n" * 32, key: bytes = b"k" * 32, serial: bytes = b"\x05"
) -> bytes:
    return der.encode(
        der.SEQUENCE,
        algorithm,
        der.encode(der.OCTET_STRING, name),
        der.encode(der.OCTET_STRING, key),
        der.encode(der.INTEGER, serial),
    )


def extension(identifier: bytes, value: bytes, *, critical: bytes = b"") -> bytes:
    return der.encode(der.SEQUENCE, identifier, critical, der.encode(der.OCTET_STRING, value))


def request(
    *members: bytes, version: bytes = b"", requestor: bytes = b"", extensions: bytes | None = None, behind: bytes = b""
) -> bytes:
    """A request put together by hand."""
    listed = der.encode(der.SEQUENCE, *(members or (der.encode(der.SEQUENCE, cert_id()),)))
    more = b"" if extensions is None else der.encode(0xA2, der.encode(der.SEQUENCE, extensions))
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, version, requestor, listed, more), behind)


@pytest.mark.parametrize("name", ocsp.HASHES)
def test_what_the_library_asks_is_understood(name: str) -> None:
    read = ocsp.read_request(asked(0x7F << 120, name=name, nonce=b"n" * 32))

    [only] = read.cert_ids
    assert only.serial_number == 0x7F << 120
    assert only.issuer == (name, issuer_name_hash(default_ca(), name), issuer_key_hash(default_ca(), name))
    assert read.nonce == b"n" * 32


@pytest.mark.parametrize("name", ocsp.HASHES)
def test_an_issuer_is_known_by_each_hash(name: str) -> None:
    ca = default_ca()
    ids = ocsp.issuer_ids(default_authority().subject, key_info(ca))

    assert ocsp.read_request(asked(name=name)).cert_ids[0].issuer in ids
    assert len(set(ids)) == len(ocsp.HASHES)


def test_no_key_names_no_issuer() -> None:
    with pytest.raises(PeerError, match="not a SubjectPublicKeyInfo"):
        ocsp.responder_id(der.encode(der.SEQUENCE, SHA256))


def test_several_certificates_keep_their_order_and_their_octets() -> None:
    members = [der.encode(der.SEQUENCE, cert_id(serial=bytes([each]))) for each in (3, 1, 2)]

    read = ocsp.read_request(request(*members))

    assert [each.serial_number for each in read.cert_ids] == [3, 1, 2]
    assert [der.encode(der.SEQUENCE, each.octets) for each in read.cert_ids] == members
    assert read.nonce == b""


def test_what_says_nothing_to_the_point_is_passed_over() -> None:
    member = der.encode(der.SEQUENCE, cert_id(), der.encode(0xA0, der.encode(der.SEQUENCE, extension(OTHER_OID, b""))))
    octets = request(
        member,
        version=der.encode(0xA0, b"\x02\x01\x00"),
        requestor=der.encode(0xA1, der.encode(0x82, b"example.org")),
        extensions=extension(OTHER_OID, b"x", critical=b"\x01\x01\x00")
        + extension(NONCE_OID, der.encode(der.OCTET_STRING, b"n"), critical=b"\x01\x01\xff"),
        behind=der.encode(0xA0, b""),
    )

    read = ocsp.read_request(octets)

    assert read.cert_ids[0].serial_number == 5
    assert read.nonce == b"n"


@pytest.mark.parametrize(("length", "repeated"), [(1, True), (32, True), (33, False), (128, False)])
def test_a_nonce_is_repeated_up_to_32_octets(length: int, repeated: bool) -> None:  # noqa: FBT001 - the expectation
    nonce = b"n" * length
    value = der.encode(der.OCTET_STRING, nonce)

    assert ocsp.read_request(request(extensions=extension(NONCE_OID, value))).nonce == (nonce if repeated else b"")


def test_serial_numbers_may_be_anything_that_der_can_say() -> None:
    read = ocsp.read_request(request(der.encode(der.SEQUENCE, cert_id(serial=b"\xff"))))

    assert read.cert_ids[0].serial_number == -1


BAD: dict[str, bytes] = {
    "nothing": b"",
    "no-sequence": b"\x04\x00",
    "behind": request(behind=b"\x05\x00"),
    "signed-twice": request(behind=der.encode(0xA0, b"") * 2),
    "version-2": request(version=der.encode(0xA0, b"\x02\x01\x01")),
    "empty": der.encode(der.SEQUENCE, der.encode(der.SEQUENCE)),
    "only-version": der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode(0xA0, b"\x02\x01\x00"))),
    "no-certificate": der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE))),
    "too-many": request(*[der.encode(der.SEQUENCE, cert_id())] * (ocsp.MAXIMUM_CERT_IDS + 1)),
    "too-long": b"\x30" * (ocsp.MAXIMUM_REQUEST_OCTETS + 1),
    "member": request(der.encode(der.SEQUENCE)),
    "member-behind": request(der.encode(der.SEQUENCE, cert_id(), b"\x05\x00")),
    "cert-id": request(der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, SHA256))),
    "hash": request(der.encode(der.SEQUENCE, cert_id(algorithm=bytes.fromhex("300c06082a864886f70d02050500")))),
    "hash-length": request(der.encode(der.SEQUENCE, cert_id(key=b"k" * 20))),
    "no-serial": request(der.encode(der.SEQUENCE, cert_id(serial=b""))),
    "long-serial": request(der.encode(der.SEQUENCE, cert_id(serial=b"\x01" * 22))),
    "padded-serial": request(der.encode(der.SEQUENCE, cert_id(serial=b"\x00\x05"))),
    "extensions-tag": der.encode(
        der.SEQUENCE,
        der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, cert_id())), b"\x05\x00"),
    ),
    "extension": request(extensions=der.encode(der.SEQUENCE, NONCE_OID)),
    "extension-order": request(extensions=der.encode(der.SEQUENCE, der.encode(der.OCTET_STRING, b""), NONCE_OID)),
    "boolean": request(extensions=extension(OTHER_OID, b"", critical=b"\x01\x01\x01")),
    "twice": request(extensions=extension(OTHER_OID, b"") * 2),
    "critical": request(extensions=extension(OTHER_OID, b"", critical=b"\x01\x01\xff")),
    "critical-member": request(
        der.encode(
            der.SEQUENCE,
            cert_id(),
            der.encode(0xA0, der.encode(der.SEQUENCE, extension(NONCE_OID, b"", critical=b"\x01\x01\xff"))),
        )
    ),
    "many-extensions": request(extensions=b"".join(extension(b"\x06\x01" + bytes([each]), b"") for each in range(17))),
    "bare-nonce": request(extensions=extension(NONCE_OID, b"n" * 16)),
    "empty-nonce": request(extensions=extension(NONCE_OID, b"\x04\x00")),
    "long-nonce": request(extensions=extension(NONCE_OID, der.encode(der.OCTET_STRING, b"n" * 129))),
}


@pytest.mark.parametrize("name", BAD)
def test_anything_else_is_no_request(name: str) -> None:
    with pytest.raises(PeerError):
        ocsp.read_request(BAD[name])


def respond(ca: TestCa, *responses: tuple[bytes, bytes], nonce: bytes = b"") -> bytes:
    """An answer by `ca` itself: CertID and status of each."""
    tbs = ocsp.assemble_tbs_response(
        responder=ocsp.responder_id(key_info(ca)),
        produced_at=NOW,
        responses=[
            SingleResponse(
                cert_id=ocsp.read_request(octets).cert_ids[0],
                status=status,
                this_update=NOW - dt.timedelta(hours=1),
                next_update=NOW + dt.timedelta(hours=12),
            )
            for octets, status in responses
        ],
        nonce=nonce,
    )
    algorithm = choose_algorithm(ca.key.public_key(), "")
    return ocsp.compose_response(
        tbs, algorithm=algorithm.der, signature=sign(ca.key, algorithm, tbs), certificates=[ca.der]
    )


def test_the_library_reads_a_good_answer() -> None:
    ca = default_ca()

    read = library.load_der_ocsp_response(respond(ca, (asked(7), ocsp.GOOD), nonce=b"n" * 32))

    assert read.response_status is library.OCSPResponseStatus.SUCCESSFUL
    assert read.certificate_status is library.OCSPCertStatus.GOOD
    assert (read.serial_number, read.produced_at_utc) == (7, NOW)
    assert (read.this_update_utc, read.next_update_utc) == (NOW - dt.timedelta(hours=1), NOW + dt.timedelta(hours=12))
    assert (read.issuer_name_hash, read.issuer_key_hash) == (
        issuer_name_hash(ca, "sha256"),
        issuer_key_hash(ca, "sha256"),
    )
    assert read.responder_key_hash == issuer_key_hash(ca, "sha1")
    assert read.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce == b"n" * 32
    assert [each.public_bytes(Encoding.DER) for each in read.certificates] == [ca.der]
    assert isinstance(ca.key, ec.EllipticCurvePrivateKey)
    ca.key.public_key().verify(read.signature, read.tbs_response_bytes, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("reason", [None, 0, 1, 4, 9])
def test_the_library_reads_when_and_why_a_certificate_was_revoked(reason: int | None) -> None:
    date = dt.datetime(2055, 1, 2, 3, 4, 5, tzinfo=dt.UTC)

    read = library.load_der_ocsp_response(respond(default_ca(), (asked(), ocsp.revoked(date, reason))))

    assert read.certificate_status is library.OCSPCertStatus.REVOKED
    assert read.revocation_time_utc == date
    names = {
        1: x509.ReasonFlags.key_compromise,
        4: x509.ReasonFlags.superseded,
        9: x509.ReasonFlags.privilege_withdrawn,
    }
    assert read.revocation_reason == names.get(reason or 0)
    assert not list(read.extensions)


def test_the_library_reads_several_answers_in_one() -> None:
    answers = [(asked(1), ocsp.GOOD), (asked(2, name="sha1"), ocsp.UNKNOWN), (asked(3), ocsp.revoked(NOW, 1))]

    read = library.load_der_ocsp_response(respond(default_ca(), *answers))

    status = library.OCSPCertStatus
    assert [(each.serial_number, each.certificate_status) for each in read.responses] == [
        (1, status.GOOD),
        (2, status.UNKNOWN),
        (3, status.REVOKED),
    ]


@pytest.mark.parametrize("status", ErrorStatus, ids=lambda status: status.name)
def test_the_library_reads_why_there_is_no_answer(status: ErrorStatus) -> None:
    assert library.load_der_ocsp_response(ocsp.error_response(status)).response_status.name == status.name


def test_an_answer_to_nothing_is_our_own_bug() -> None:
    with pytest.raises(InternalError):
        ocsp.assemble_tbs_response(responder=b"r" * 20, produced_at=NOW, responses=[], nonce=b"")


@pytest.mark.parametrize(
    "change", [lambda octets, at: octets[:at], lambda octets, at: octets[:at] + b"\x00" + octets[at:]]
)
def test_whatever_becomes_of_a_request_it_is_one_or_none(change: Callable[[bytes, int], bytes]) -> None:
    octets = asked(0x1234, nonce=b"n" * 16)
    outcomes: set[type] = set()
    for at in range(len(octets)):
        try:
            outcomes.add(type(ocsp.read_request(change(octets, at)).cert_ids[0]))
        except PeerError:
            outcomes.add(PeerError)
    assert outcomes <= {PeerError, CertId}
    assert PeerError in outcomes


def test_other_cas_are_other_issuers() -> None:
    other = make_ca("other", key=p256_key())  # the same key under another name

    assert ocsp.read_request(asked(ca=other)).cert_ids[0].issuer not in ocsp.issuer_ids(
        default_authority().subject, key_info(default_ca())
    )
