"""Certificate revocation lists: entries, assembly from encoded entries, reading, and the client's patch.

Owns the CRL v2 of RFC 5280 5: extensions AKI, then CRL number; entries in journal order, never pruned. It also reads
and patches the original's CRLs, which are v1. A list of 21,300 entries stays one string of octets throughout: nothing
here makes a Python object for each. Which certificates are revoked is the journal's knowledge.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1

from cassiopeia.core import algorithms, der
from cassiopeia.core.algorithms import SignatureAlgorithm
from cassiopeia.core.authority import Authority
from cassiopeia.core.request import Revocation
from cassiopeia.errors import InternalError, PeerError, Refused

# RFC 5280 5.3.1. Not certificateHold (6) and removeFromCRL (8): a revocation here is for ever. 7 is not used.
REASONS: Final = {
    1: "keyCompromise",
    2: "cACompromise",
    3: "affiliationChanged",
    4: "superseded",
    5: "cessationOfOperation",
    9: "privilegeWithdrawn",
    10: "aACompromise",
}
_UNSPECIFIED: Final = 0  # "SHOULD be absent instead of using the unspecified (0) reasonCode value"

_VERSION_2: Final = b"\x02\x01\x01"
_REASON_CODE: Final = bytes.fromhex("0603551d15")  # 2.5.29.21
_INVALIDITY_DATE: Final = bytes.fromhex("0603551d18")  # 2.5.29.24
_CRL_NUMBER: Final = bytes.fromhex("0603551d14")  # 2.5.29.20
_AUTHORITY_KEY_IDENTIFIER: Final = bytes.fromhex("0603551d23")  # 2.5.29.35
_CRL_EXTENSIONS: Final = 0xA0
_KEY_IDENTIFIER: Final = 0x80
_MAXIMUM_SERIAL_OCTETS: Final = 21  # RFC 5280 4.1.2.2 says 20, and to be lenient: the original's have 21
_MAXIMUM_NUMBER_OCTETS: Final = 20  # RFC 5280 5.2.3
_ENTRY_PARTS: Final = 3  # RFC 5280 5.1: serial number, date, extensions (which may be absent)
_ENTRY_EXTENSIONS: Final = 10

_Time = TypeVar("_Time", asn1.UTCTime, asn1.GeneralizedTime)


@dataclass(frozen=True, kw_only=True, slots=True)
class Crl:
    """A CRL that was decoded strictly, its signature not verified yet.

    `entries` are the DER of the revoked certificates one behind the other (empty for none). `number` is 0 and
    `authority_key_identifier` empty in the original's v1 CRLs.
    """

    version: int
    tbs: bytes
    issuer: bytes
    algorithm: SignatureAlgorithm
    this_update: dt.datetime
    next_update: dt.datetime
    entries: bytes
    number: int
    authority_key_identifier: bytes
    signature: bytes


def encode_revocation(revocation: Revocation, date: dt.datetime) -> bytes:
    """DER of one entry of revokedCertificates, revoked at `date`; raises Refused for what a CRL cannot or must not say.

    35 octets with a serial number of 16, 49 with a reason, 75 with reason and invalidity date.
    """
    serial_number, reason, invalidity_date = revocation.serial_number, revocation.reason, revocation.invalidity_date
    if serial_number <= 0 or serial_number.bit_length() > 8 * _MAXIMUM_SERIAL_OCTETS:
        raise Refused("This is not a serial number.", code="serial-invalid", field="serial_number")
    extensions = b""
    if reason not in (None, _UNSPECIFIED):
        if reason not in REASONS:
            raise Refused(
                f"The reason {reason} is not one for which a certificate is revoked; use one of "
                f"{', '.join(f'{code} ({name})' for code, name in REASONS.items())}.",
                code="reason-invalid",
                field="reason",
            )
        extensions += _extension(_REASON_CODE, der.encode(der.ENUMERATED, bytes((reason,))))
    if invalidity_date is not None:
        # RFC 5280 5.3.2: when the key became, or is thought to have become, invalid. That is never to come.
        if invalidity_date > date:
            raise Refused("The invalidity date is in the future.", code="date-invalid", field="invalidity_date")
        extensions += _extension(_INVALIDITY_DATE, der.generalized_time(invalidity_date))
    return der.encode(
        der.SEQUENCE,
        asn1.encode_der(serial_number),
        asn1.encode_der(der.time(date)),
        der.encode(der.SEQUENCE, extensions) if extensions else b"",
    )


def assemble_tbs_crl(
    *,
    issuer: bytes,
    algorithm: SignatureAlgorithm,
    this_update: dt.datetime,
    next_update: dt.datetime,
    entries: bytes,
    crl_number: int,
    authority_key_identifier: bytes,
) -> bytes:
    """DER of a v2 TBSCertList around `entries`, which are `encode_revocation` one behind the other."""
    if crl_number < 1:
        raise InternalError("CRL numbers begin with 1")  # 0 stands for "none" on the wire
    identifier = der.encode(der.SEQUENCE, der.encode(_KEY_IDENTIFIER, authority_key_identifier))
    extensions = der.encode(
        der.SEQUENCE,
        _extension(_AUTHORITY_KEY_IDENTIFIER, identifier),
        _extension(_CRL_NUMBER, asn1.encode_der(crl_number)),
    )
    body = _assemble_body(issuer, algorithm.der, this_update, next_update, entries)
    return der.encode(der.SEQUENCE, _VERSION_2, *body, der.encode(_CRL_EXTENSIONS, extensions))


def compose_crl(tbs: bytes, signature: bytes) -> bytes:
    """DER of the CertificateList; its outer algorithm is the inner one (RFC 5280 5.1.1.2)."""
    # The algorithm stands behind the version, which v1 leaves out: the first SEQUENCE of the list.
    _, start, _ = der.read(tbs)
    tag, _, end = der.read(tbs, start)
    if tag == der.INTEGER:
        start = end
        _, _, end = der.read(tbs, start)
    return der.encode_signed(tbs, tbs[start:end], signature)


def read_crl(octets: bytes) -> Crl:
    """Decode a CRL strictly, v2 with AKI and number or v1; raises PeerError. `check_crl` verifies it as well."""
    # 1. The library walks over the whole structure, every entry and date included, without an object for each, and
    #    sees that both algorithms are the same one (RFC 5280 5.1.1.2).
    try:
        x509.load_der_x509_crl(octets)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise PeerError(f"this is not a CRL: {error}") from error
    # 2. The outer parts.
    tbs, algorithm, signature = der.split_signed(octets)
    parts = der.elements(der.content(tbs, der.SEQUENCE), at_most=7)
    version = 2 if parts[0][0] == der.INTEGER else 1
    if version == 2:  # noqa: PLR2004 - the version of the CRL
        del parts[0]
    issuer, this_update = parts[1][1], parts[2][1]
    if len(parts) < 4 or parts[3][0] not in (der.UTC_TIME, der.GENERALIZED_TIME):  # noqa: PLR2004 - the fourth part
        raise PeerError("the CRL does not say when the next one comes")  # RFC 5280 5.1.2.5
    next_update, rest = parts[3][1], parts[4:]
    # 3. The entries, which are absent when there are none (RFC 5280 5.1.2.6), and the extensions.
    entries = b""
    if rest and rest[0][0] == der.SEQUENCE:
        entries = der.content(rest.pop(0)[1], der.SEQUENCE)
        if not entries:
            raise PeerError("the CRL has an empty list of entries")
    number, authority_key_identifier = 0, b""
    if version == 2:  # noqa: PLR2004 - the version of the CRL
        number, authority_key_identifier = _read_extensions(rest)
    elif rest:
        raise PeerError("the CRL has extensions, which version 1 has not")  # RFC 5280 5.1.2.1
    crl = Crl(
        version=version,
        tbs=tbs,
        issuer=issuer,
        algorithm=algorithms.algorithm_from_der(algorithm),
        this_update=_read_time(this_update),
        next_update=_read_time(next_update),
        entries=entries,
        number=number,
        authority_key_identifier=authority_key_identifier,
        signature=signature,
    )
    if crl.this_update >= crl.next_update:
        raise PeerError("the CRL ends before it begins")
    return crl


def check_crl(octets: bytes, *, authority: Authority) -> Crl:
    """Read a CRL and check that it is the sub-CA's: issuer, key identifier, signature; raises PeerError."""
    crl = read_crl(octets)
    if crl.issuer != authority.subject:
        raise PeerError(f"the CRL is not that of {authority.name}")
    if crl.version == 2 and crl.authority_key_identifier != authority.key_identifier:  # noqa: PLR2004 - v1 has none
        raise PeerError(f"the CRL is for another key than that of {authority.name}")
    algorithms.verify(authority.public_key, crl.algorithm, crl.signature, crl.tbs)
    return crl


def entry_serials(entries: bytes) -> Iterator[int]:
    """The serial numbers of these entries in their order; raises PeerError when they are not entries."""
    start = 0
    while start < len(entries):
        tag, content, end = der.read(entries, start)
        if tag != der.SEQUENCE:
            raise PeerError("an entry of the CRL is not a sequence")
        tag, first, last = der.read(entries, content)
        if tag != der.INTEGER or last > end:
            raise PeerError("an entry of the CRL does not begin with a serial number")
        yield int.from_bytes(entries[first:last], "big")
        start = end


def read_revocations(entries: bytes) -> Iterator[tuple[Revocation, dt.datetime]]:
    """What these entries say, and when each certificate was revoked; raises PeerError when they are not entries."""
    start = 0
    while start < len(entries):
        _, _, end = der.read(entries, start)
        yield _read_revocation(entries[start:end])
        start = end


def patch(
    crl: Crl | None,
    *,
    authority: Authority,
    algorithm_der: bytes,
    this_update: dt.datetime,
    next_update: dt.datetime,
    crl_number: int,
    new_entries: bytes,
    signature: bytes,
) -> Crl:
    """The client's new CRL: the entries of `crl` (None: it has none yet), the new ones, and the signer's new dates.

    `crl` was checked, and is not read again: what this costs is hashing, whatever the length of the list. Raises
    PeerError when the result is not the CRL that the signer signed; then the client asks for the full one. A v1 CRL
    gives a v1 CRL again, for which `crl_number` means nothing.
    """
    is_version_1 = crl is not None and crl.version == 1
    algorithm = algorithms.algorithm_from_der(algorithm_der)
    if not is_version_1 and crl_number <= (crl.number if crl else 0):
        raise PeerError(f"the CRL number {crl_number} is not higher than the last one")  # RFC 5280 5.2.3

    def assemble(entries: bytes) -> bytes:
        if is_version_1:
            body = _assemble_body(authority.subject, algorithm_der, this_update, next_update, entries)
            return der.encode(der.SEQUENCE, *body)
        return assemble_tbs_crl(
            issuer=authority.subject,
            algorithm=algorithm,
            this_update=this_update,
            next_update=next_update,
            entries=entries,
            crl_number=crl_number,
            authority_key_identifier=authority.key_identifier,
        )

    # 1. All that is new, read strictly, as a CRL of its own.
    new = read_crl(compose_crl(assemble(new_entries), signature))
    # 2. Behind what was read before: the signature is over both.
    entries = crl.entries + new_entries if crl else new_entries
    tbs = assemble(entries)
    algorithms.verify(authority.public_key, algorithm, signature, tbs)
    return replace(new, tbs=tbs, entries=entries)


def _assemble_body(
    issuer: bytes, algorithm: bytes, this_update: dt.datetime, next_update: dt.datetime, entries: bytes
) -> tuple[bytes, ...]:
    """What v1 and v2 have in common."""
    return (
        algorithm,
        issuer,
        asn1.encode_der(der.time(this_update)),
        asn1.encode_der(der.time(next_update)),
        *((der.header(der.SEQUENCE, len(entries)), entries) if entries else ()),
    )


def _extension(identifier: bytes, value: bytes) -> bytes:
    """None of ours is critical, and FALSE is the default."""
    return der.encode(der.SEQUENCE, identifier, der.encode(der.OCTET_STRING, value))


def _read_extensions(rest: list[tuple[int, bytes]]) -> tuple[int, bytes]:
    """CRL number and key identifier, from extensions that are these two, in this order (PROTOCOL "Canonical CRL")."""
    if len(rest) != 1:
        raise PeerError("the CRL has no extensions")
    content = der.content(der.content(rest[0][1], _CRL_EXTENSIONS), der.SEQUENCE)
    extensions = [der.content(each, der.SEQUENCE) for _, each in der.elements(content, at_most=2)]
    if [each[: len(_CRL_NUMBER)] for each in extensions] != [_AUTHORITY_KEY_IDENTIFIER, _CRL_NUMBER]:
        raise PeerError("the CRL's extensions are not authority key identifier and CRL number")
    identifier, number = (der.content(each[len(_CRL_NUMBER) :], der.OCTET_STRING) for each in extensions)
    value = der.content(number, der.INTEGER)
    if not 1 <= len(value) <= _MAXIMUM_NUMBER_OCTETS or value[0] & 0x80:
        raise PeerError("the CRL's number is not one")
    return int.from_bytes(value, "big"), der.content(der.content(identifier, der.SEQUENCE), _KEY_IDENTIFIER)


def _read_revocation(octets: bytes) -> tuple[Revocation, dt.datetime]:
    parts = [each for _, each in der.elements(der.content(octets, der.SEQUENCE), at_most=_ENTRY_PARTS)]
    if len(parts) < _ENTRY_PARTS - 1:
        raise PeerError("an entry of the CRL has no date")
    reason, invalidity_date = None, None
    if len(parts) == _ENTRY_PARTS:
        for _, each in der.elements(der.content(parts[2], der.SEQUENCE), at_most=_ENTRY_EXTENSIONS):
            extension = der.content(each, der.SEQUENCE)
            # Neither is critical, so that the value is what follows the identifier.
            if extension.startswith(_REASON_CODE):
                value = der.content(extension[len(_REASON_CODE) :], der.OCTET_STRING)
                reason = int.from_bytes(der.content(value, der.ENUMERATED), "big")
            elif extension.startswith(_INVALIDITY_DATE):
                value = der.content(extension[len(_INVALIDITY_DATE) :], der.OCTET_STRING)
                invalidity_date = _decode_time(asn1.GeneralizedTime, value).as_datetime()
            else:
                raise PeerError("an entry of the CRL has an extension that no CRL of ours has")
    number = int.from_bytes(der.content(parts[0], der.INTEGER), "big")
    return Revocation(serial_number=number, reason=reason, invalidity_date=invalidity_date), _read_time(parts[1])


def _decode_time(form: type[_Time], octets: bytes) -> _Time:
    try:
        return asn1.decode_der(form, octets)
    except ValueError as error:
        raise PeerError(f"a time of the CRL cannot be read: {error}") from error


def _read_time(octets: bytes) -> dt.datetime:
    if octets[0] == der.UTC_TIME:
        return der.moment(_decode_time(asn1.UTCTime, octets))
    return der.moment(_decode_time(asn1.GeneralizedTime, octets))
