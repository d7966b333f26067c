"""Revocation lists: sizes, forms, what is refused, and the client's patch."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID
from tests.support.authorities import (
    NOW,
    default_authority,
    default_ca,
    entries,
    make_authority,
    make_ca,
    p256_key,
    sign,
)

from cassiopeia.core import algorithms, crl, der
from cassiopeia.core.crl import (
    Crl,
    assemble_tbs_crl,
    check_crl,
    compose_crl,
    encode_revocation,
    entry_serials,
    read_crl,
    read_revocations,
)
from cassiopeia.core.request import Revocation
from cassiopeia.errors import InternalError, PeerError, Refused, SignatureInvalid

SERIAL = 0x01_00112233445566778899AABBCCDDEE
LATER = NOW + dt.timedelta(days=10)
AUTHORITY = default_authority()
ALGORITHM = algorithms.choose_algorithm(AUTHORITY.public_key, "")


def tbs_crl(listed: bytes = b"", *, number: int = 1, this_update: dt.datetime = NOW) -> bytes:
    return assemble_tbs_crl(
        issuer=AUTHORITY.subject,
        algorithm=ALGORITHM,
        this_update=this_update,
        next_update=this_update + dt.timedelta(days=10),
        entries=listed,
        crl_number=number,
        authority_key_identifier=AUTHORITY.key_identifier,
    )


def signature_of(tbs: bytes) -> bytes:
    return sign(p256_key(), ALGORITHM, tbs)


def signed(tbs: bytes) -> bytes:
    return compose_crl(tbs, signature_of(tbs))


def tbs_crl_1(listed: bytes = b"", this_update: dt.datetime = NOW) -> bytes:
    """A TBSCertList as the original makes them: v1, nothing optional but nextUpdate and entries."""
    parts = (
        ALGORITHM.der,
        AUTHORITY.subject,
        b"\x17\x0d" + f"{this_update:%y%m%d%H%M%SZ}".encode(),
        b"\x17\x0d" + f"{this_update + dt.timedelta(days=1, seconds=10):%y%m%d%H%M%SZ}".encode(),
        der.encode(der.SEQUENCE, listed) if listed else b"",
    )
    return der.encode(der.SEQUENCE, *parts)


@pytest.mark.parametrize(
    ("reason", "invalidity_date", "octets"),
    [
        pytest.param(None, None, 35, id="plain"),
        pytest.param(0, None, 35, id="unspecified-is-left-out"),
        pytest.param(1, None, 49, id="reason"),
        pytest.param(1, NOW, 75, id="reason-and-invalidity-date"),
        pytest.param(None, NOW, 63, id="invalidity-date-alone"),
    ],
)
def test_entries_have_the_size_that_the_limit_on_certificates_counts_on(
    reason: int | None, invalidity_date: dt.datetime | None, octets: int
) -> None:
    revocation = Revocation(serial_number=SERIAL, reason=reason, invalidity_date=invalidity_date)
    assert len(encode_revocation(revocation, NOW)) == octets


def test_entries_octet_for_octet() -> None:
    since = dt.datetime(2026, 11, 1, 0, 0, 0, 999999, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    entry = encode_revocation(Revocation(serial_number=SERIAL, reason=4, invalidity_date=since), NOW)
    assert entry.hex() == (
        "3049"
        "02100100112233445566778899aabbccddee"
        "170d3236313132333132333031355a"  # 261123123015Z
        "3026"
        "300a0603551d1504030a0104"
        "30180603551d180411180f32303236313033313233303030305a"  # 20261031230000Z
    )


def test_entries_say_again_what_was_put_into_them() -> None:
    since = NOW - dt.timedelta(days=3)
    said = [
        (Revocation(serial_number=SERIAL), NOW),
        (Revocation(serial_number=SERIAL + 1, reason=4), NOW.replace(year=2050)),
        (Revocation(serial_number=SERIAL + 2, invalidity_date=since), NOW),
        (Revocation(serial_number=1 << 167, reason=1, invalidity_date=since), NOW),
    ]
    octets = b"".join(encode_revocation(*each) for each in said)
    assert list(read_revocations(octets)) == said


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        pytest.param("020101", "expected one DER element with tag 30", id="no-sequence"),
        pytest.param("3003020101", "has no date", id="no-date"),
        pytest.param("3012020101170d3939393939393939393939395a", "cannot be read", id="no-such-date"),
        pytest.param("30050201010500", "cannot be read", id="no-date-at-all"),
        pytest.param(
            "3020020101170d3236313132333132333031355a300c300a0603551d1d04030a0101", "no CRL of ours", id="extension"
        ),
    ],
)
def test_what_says_no_revocation(octets: str, reason: str) -> None:
    with pytest.raises(PeerError, match=reason):
        list(read_revocations(bytes.fromhex(octets)))


@pytest.mark.parametrize("reason", list(crl.REASONS))
@pytest.mark.parametrize("year", [2049, 2050])
def test_entries_are_read_by_the_library(reason: int, year: int) -> None:
    date = NOW.replace(year=year)
    since = NOW - dt.timedelta(days=3)
    listed = encode_revocation(Revocation(serial_number=SERIAL, reason=reason, invalidity_date=since), date)
    assert listed[20] == (der.UTC_TIME if year == 2049 else der.GENERALIZED_TIME)
    (revoked,) = x509.load_der_x509_crl(signed(tbs_crl(listed)))
    assert (revoked.serial_number, revoked.revocation_date_utc) == (SERIAL, date)
    flags = {1: "key_compromise", 2: "ca_compromise", 3: "affiliation_changed", 4: "superseded"}
    flags |= {5: "cessation_of_operation", 9: "privilege_withdrawn", 10: "aa_compromise"}
    read_reason = revoked.extensions.get_extension_for_class(x509.CRLReason)
    assert (read_reason.value.reason, read_reason.critical) == (x509.ReasonFlags[flags[reason]], False)
    assert revoked.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc == since


@pytest.mark.parametrize("reason", [-1, 6, 7, 8, 11, 256])
def test_reasons_that_are_refused(reason: int) -> None:
    with pytest.raises(Refused) as refusal:
        encode_revocation(Revocation(serial_number=SERIAL, reason=reason), NOW)
    assert (refusal.value.code, refusal.value.field) == ("reason-invalid", "reason")


@pytest.mark.parametrize("serial_number", [0, -1, 1 << 168])
def test_serial_numbers_that_are_refused(serial_number: int) -> None:
    with pytest.raises(Refused) as refusal:
        encode_revocation(Revocation(serial_number=serial_number), NOW)
    assert refusal.value.code == "serial-invalid"


def test_an_invalidity_date_in_the_future_is_refused() -> None:
    encode_revocation(Revocation(serial_number=SERIAL, invalidity_date=NOW), NOW)
    with pytest.raises(Refused) as refusal:
        encode_revocation(Revocation(serial_number=SERIAL, invalidity_date=NOW + dt.timedelta(seconds=1)), NOW)
    assert refusal.value.field == "invalidity_date"


def test_serial_numbers_of_the_original_have_21_octets() -> None:
    serial_number = 0x0200000004B7146DBE4CC5B938E7073E75A82323AA
    assert list(entry_serials(encode_revocation(Revocation(serial_number=serial_number), NOW))) == [serial_number]


@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_crl_as_the_library_reads_it(count: int) -> None:
    octets = signed(tbs_crl(entries(range(1, 1 + count)), number=77))
    read = x509.load_der_x509_crl(octets)
    assert read.issuer == default_ca().certificate.subject
    assert (read.last_update_utc, read.next_update_utc) == (NOW, LATER)
    assert [each.serial_number for each in read] == list(range(1, 1 + count))
    assert [(each.oid, each.critical) for each in read.extensions] == [
        (x509.OID_AUTHORITY_KEY_IDENTIFIER, False),
        (ExtensionOID.CRL_NUMBER, False),
    ]
    assert read.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 77
    identifier = read.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert identifier == x509.AuthorityKeyIdentifier(AUTHORITY.key_identifier, None, None)
    assert read.is_signature_valid(p256_key().public_key())


def test_no_entries_means_no_list() -> None:
    tbs = der.elements(der.content(tbs_crl(), der.SEQUENCE), at_most=7)
    assert [tag for tag, _ in tbs] == [0x02, 0x30, 0x30, 0x17, 0x17, 0xA0]


def test_crl_numbers_begin_with_one() -> None:
    with pytest.raises(InternalError):
        tbs_crl(number=0)


def test_reads_what_was_assembled() -> None:
    listed = entries(range(1, 4))
    tbs = tbs_crl(listed, number=1 << 150)
    signature = signature_of(tbs)
    assert check_crl(compose_crl(tbs, signature), authority=AUTHORITY) == Crl(
        version=2,
        tbs=tbs,
        issuer=AUTHORITY.subject,
        algorithm=ALGORITHM,
        this_update=NOW,
        next_update=LATER,
        entries=listed,
        number=1 << 150,
        authority_key_identifier=AUTHORITY.key_identifier,
        signature=signature,
    )


def test_reads_the_version_1_of_the_original() -> None:
    listed = entries(range(5, 8))
    read = check_crl(signed(tbs_crl_1(listed)), authority=AUTHORITY)
    assert (read.version, read.entries, read.number, read.authority_key_identifier) == (1, listed, 0, b"")


def test_time_goes_on_after_2049() -> None:
    moment = dt.datetime(2049, 12, 25, tzinfo=dt.UTC)
    read = read_crl(signed(tbs_crl(this_update=moment)))
    assert (read.this_update, read.next_update) == (moment, dt.datetime(2050, 1, 4, tzinfo=dt.UTC))


def with_extensions(*extensions: str) -> bytes:
    """The default TBSCertList with other extensions, given in hex."""
    parts = der.elements(der.content(tbs_crl(), der.SEQUENCE), at_most=7)
    parts[-1] = (0xA0, der.encode(0xA0, der.encode(der.SEQUENCE, *map(bytes.fromhex, extensions))))
    return der.encode(der.SEQUENCE, *(octets for _, octets in parts))


def replaced(place: int, octets: bytes) -> bytes:
    """The default TBSCertList with another part."""
    parts = [part for _, part in der.elements(der.content(tbs_crl(), der.SEQUENCE), at_most=7)]
    parts[place] = octets
    return der.encode(der.SEQUENCE, *parts)


AKI = "300f0603551d2304083006800401020304"
NUMBER = "300a0603551d140403020101"


@pytest.mark.parametrize(
    ("tbs", "reason"),
    [
        pytest.param(replaced(5, b""), "no extensions", id="no-extensions"),
        pytest.param(with_extensions(NUMBER, AKI), "are not", id="other-order"),
        pytest.param(with_extensions(NUMBER), "are not", id="no-identifier"),
        pytest.param(with_extensions(AKI), "are not", id="no-number"),
        pytest.param(with_extensions(AKI, "300a0603551d1b0403020101"), "are not", id="delta-crl"),
        pytest.param(with_extensions(AKI, NUMBER, "300a0603551d1b0403020101"), "more than 2", id="one-more"),
        pytest.param(with_extensions(AKI, "300a0603551d1404030201ff"), "number", id="negative-number"),
        pytest.param(with_extensions(AKI, "30090603551d1404020200"), "number", id="empty-number"),
        pytest.param(with_extensions(AKI, "301e0603551d1404170215" + "01" * 21), "number", id="long-number"),
        pytest.param(with_extensions(AKI, "300a0603551d1404030a0101"), "tag 02", id="enumerated-number"),
        pytest.param(with_extensions("300f0603551d2304083006820401020304", NUMBER), "tag 80", id="other-identifier"),
        pytest.param(with_extensions("30120603551d230101ff04083006800401020304", NUMBER), "tag 04", id="critical"),
        pytest.param(replaced(4, b""), "next one", id="no-next-update"),
        pytest.param(replaced(4, b"\x17\x0d260101000000Z"), "before it begins", id="next-update-before-this"),
        pytest.param(replaced(4, b"\x18\x0f20270101000000Z"), "RFC 5280", id="generalized-time-before-2050"),
        pytest.param(replaced(4, b"\x17\x0d270101000000Z\x30\x00"), "empty list", id="empty-list"),
        pytest.param(replaced(1, bytes.fromhex("300d06092a864886f70d0101050500")), "not one", id="sha1"),
        pytest.param(replaced(0, b"\x02\x01\x00"), "not a CRL", id="version-1-said"),
        pytest.param(replaced(0, b"\x02\x01\x02"), "not a CRL", id="version-3"),
        pytest.param(replaced(0, b""), "version 1 has not", id="version-1-with-extensions"),
        pytest.param(tbs_crl(b"\x30\x00"), "not a CRL", id="entry-without-content"),
        pytest.param(tbs_crl(entries(range(1, 3))[:-1]), "not a CRL", id="entry-cut-short"),
    ],
)
def test_refuses_a_crl_in_another_form(tbs: bytes, reason: str) -> None:
    parts = der.elements(der.content(tbs, der.SEQUENCE), at_most=8)
    algorithm = next(octets for tag, octets in parts if tag == der.SEQUENCE)
    with pytest.raises(PeerError, match=reason):
        read_crl(der.encode_signed(tbs, algorithm, b"signature"))


def test_refuses_two_algorithms_and_a_crooked_signature() -> None:
    with pytest.raises(PeerError, match="algorithms do not match"):
        read_crl(der.encode_signed(tbs_crl(), bytes.fromhex("300506032b6570"), b"signature"))
    with pytest.raises(PeerError, match="whole number"):
        read_crl(der.encode(der.SEQUENCE, tbs_crl(), ALGORITHM.der, b"\x03\x02\x01\x80"))


@pytest.mark.parametrize("octets", [b"", b"\x30\x00", b"x" * 1000, default_ca().der, signed(tbs_crl()) + b"\0"])
def test_refuses_what_is_no_crl(octets: bytes) -> None:
    with pytest.raises(PeerError, match="not a CRL"):
        read_crl(octets)


def test_checks_whose_crl_it_is() -> None:
    octets = signed(tbs_crl())
    stranger = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(PeerError, match="is not that of"):
        check_crl(octets, authority=make_authority(make_ca("assured_2026_1", key=p256_key()), name="assured_2026_1"))
    with pytest.raises(PeerError, match="another key"):
        check_crl(octets, authority=make_authority(make_ca("unassured_2026_2", key=stranger)))
    with pytest.raises(SignatureInvalid):
        check_crl(compose_crl(tbs_crl(), sign(stranger, ALGORITHM, tbs_crl())), authority=AUTHORITY)


def test_reads_a_crl_that_the_library_made() -> None:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(default_ca().certificate.subject)
        .last_update(NOW)
        .next_update(LATER)
        .add_extension(x509.AuthorityKeyIdentifier(AUTHORITY.key_identifier, None, None), critical=False)
        .add_extension(x509.CRLNumber(3), critical=False)
    )
    for serial_number in (9, 1 << 127):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial_number).revocation_date(NOW).build()
        )
    octets = builder.sign(p256_key(), hashes.SHA256()).public_bytes(Encoding.DER)
    read = check_crl(octets, authority=AUTHORITY)
    assert read.number == 3
    assert list(entry_serials(read.entries)) == [9, 1 << 127]
    assert read.tbs == tbs_crl(read.entries, number=3)


@pytest.mark.parametrize("octets", ["02", "0201", "020101", "3000", "3002050030", "30020500", "3003020301"])
def test_entries_that_are_none(octets: str) -> None:
    with pytest.raises(PeerError):
        list(entry_serials(bytes.fromhex(octets)))


def patch(
    crl_: Crl | None, *, new: bytes, signature: bytes, number: int, this_update: dt.datetime = NOW, lasts_days: int = 10
) -> Crl:
    return crl.patch(
        crl_,
        authority=AUTHORITY,
        algorithm_der=ALGORITHM.der,
        this_update=this_update,
        next_update=this_update + dt.timedelta(days=lasts_days),
        crl_number=number,
        new_entries=new,
        signature=signature,
    )


def test_patches_from_nothing_and_further() -> None:
    first, second = entries(range(1, 4)), entries(range(4, 6))
    step_1 = patch(None, new=first, signature=signature_of(tbs_crl(first)), number=1)
    assert step_1 == check_crl(compose_crl(tbs_crl(first), step_1.signature), authority=AUTHORITY)
    target = tbs_crl(first + second, number=2)
    step_2 = patch(step_1, new=second, signature=signature_of(target), number=2)
    assert step_2 == check_crl(compose_crl(target, step_2.signature), authority=AUTHORITY)
    assert list(entry_serials(step_2.entries)) == [1, 2, 3, 4, 5]


def test_a_patch_that_does_not_give_the_signed_crl_is_not_believed() -> None:
    listed = entries(range(1, 4))
    copy = read_crl(signed(tbs_crl(listed)))
    signature = signature_of(tbs_crl(listed + entries(range(4, 6)), number=2))
    for wrong in (b"", entries(range(5, 6)), entries(range(4, 7))):
        with pytest.raises(SignatureInvalid):
            patch(copy, new=wrong, signature=signature, number=2)
    with pytest.raises(PeerError, match="not a CRL"):
        patch(copy, new=b"\x05\x00", signature=signature, number=2)
    with pytest.raises(SignatureInvalid):
        patch(copy, new=entries(range(4, 6)), signature=signature, number=2, this_update=NOW + dt.timedelta(seconds=1))


@pytest.mark.parametrize("number", [0, 6, 7])
def test_crl_numbers_only_rise(number: int) -> None:
    copy = read_crl(signed(tbs_crl(number=7)))
    with pytest.raises(PeerError, match="not higher"):
        patch(copy, new=b"", signature=signature_of(tbs_crl(number=8)), number=number)


def test_a_version_1_crl_stays_one() -> None:
    copy = read_crl(signed(tbs_crl_1(entries(range(1, 3)))))
    later = NOW + dt.timedelta(days=1)
    new = entries(range(3, 4), later)
    target = dataclasses.replace(copy, tbs=tbs_crl_1(copy.entries + new, later))
    parts = der.elements(der.content(target.tbs, der.SEQUENCE), at_most=5)
    assert parts[3][1] == b"\x17\x0d261125123025Z"
    # The original signs a day and ten seconds; here the answer says so.
    patched = crl.patch(
        copy,
        authority=AUTHORITY,
        algorithm_der=ALGORITHM.der,
        this_update=later,
        next_update=later + dt.timedelta(days=1, seconds=10),
        crl_number=0,
        new_entries=new,
        signature=signature_of(target.tbs),
    )
    assert patched == check_crl(compose_crl(target.tbs, patched.signature), authority=AUTHORITY)
    assert patched.version == 1
