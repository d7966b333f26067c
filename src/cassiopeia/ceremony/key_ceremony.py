"""The key ceremony: from a hierarchy to keys, CA certificates and the offline CAs' CRLs, all in memory.

Owns the contents of CA certificates (RFC 5280 4.2.1) and offline CRLs (RFC 5280 5). Writes no file, and makes no
subscriber's certificate. It signs with pyca's builders: nothing here is in a hurry.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificateIssuerPublicKeyTypes,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from cassiopeia.ceremony.calendar import PlannedAuthority
from cassiopeia.ceremony.hierarchy import (
    ROOT_NAME,
    Family,
    Hierarchy,
    KeyAlgorithm,
    NameConstraints,
    extended_key_usage_oid,
)
from cassiopeia.config import OFFLINE_SIGNER_ID
from cassiopeia.core.validity import ONE_SECOND, add_months
from cassiopeia.signer.keystore.ca_key import encrypt_ca_key, make_ca_key

_SERIAL_ENTROPY_OCTETS: Final = 15
_MONTHS_A_YEAR: Final = 12

# RFC 5280 4.2.1.9: how many CAs may stand between this one and a subscriber's certificate.
_ROOT_PATH_LENGTH: Final = 2
_STRUCTURE_PATH_LENGTH: Final = 1
_TIME_PATH_LENGTH: Final = 0

_EVERY_ADDRESS: Final = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))

# RFC 5280 4.2.1.3: a CA signs certificates and CRLs, and nothing else.
_CA_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)

# CA/Browser Forum BR 7.1.3.2.2.
_HASH_OF_CURVE: Final[dict[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}

Entropy = Callable[[int], bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class CertificationAuthority:
    """One CA with its private key. `issuer` is the name of the CA above it: its own for the root."""

    name: str
    issuer: str
    key: CertificateIssuerPrivateKeyTypes = field(compare=False, repr=False)
    certificate: x509.Certificate


def beginning(now: dt.datetime) -> dt.datetime:
    """From when on what a ceremony makes at `now` is valid: verifiers' clocks run behind a little.

    It is the hour that has begun (CA/Browser Forum BR 7.1.2 allows a day).
    """
    return now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)


def make_key(algorithm: KeyAlgorithm) -> CertificateIssuerPrivateKeyTypes:
    return make_ca_key(algorithm)


def encrypt_key(key: CertificateIssuerPrivateKeyTypes, passphrase: bytes) -> bytes:
    """Encrypted PKCS#8, PEM (RFC 5958, PBES2 of RFC 8018)."""
    return encrypt_ca_key(key, passphrase)


def make_serial_number(entropy: Entropy) -> int:
    """Sixteen octets as the signers make them, with an id in front that no signer has."""
    return int.from_bytes(bytes([OFFLINE_SIGNER_ID]) + entropy(_SERIAL_ENTROPY_OCTETS), "big")


def subject_of(hierarchy: Hierarchy, common_name: str) -> x509.Name:
    """The name of a CA of this hierarchy."""
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, hierarchy.organisation),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ]
    if hierarchy.country:
        attributes.insert(0, x509.NameAttribute(NameOID.COUNTRY_NAME, hierarchy.country))
    return x509.Name(attributes)


class Scribe:
    """Writes the certificates and CRLs of one ceremony: same hierarchy, same beginning for all.

    What is `made` gets a new key; what is `certified` has one already, and perhaps elsewhere.
    """

    def __init__(self, hierarchy: Hierarchy, *, not_before: dt.datetime, entropy: Entropy) -> None:
        self._hierarchy = hierarchy
        self._not_before = not_before
        self._entropy = entropy

    def make_root(self) -> CertificationAuthority:
        level = self._hierarchy.root
        key = make_key(level.key_algorithm)
        subject = subject_of(self._hierarchy, level.common_name)
        end = add_months(self._not_before, level.years * _MONTHS_A_YEAR)
        builder = self._builder(
            key.public_key(),
            subject=subject,
            issuer=subject,
            not_before=self._not_before,
            not_after=end - ONE_SECOND,
        )
        builder = _with_ca_extensions(builder, key.public_key(), path_length=_ROOT_PATH_LENGTH)
        return CertificationAuthority(name=ROOT_NAME, issuer=ROOT_NAME, key=key, certificate=_sign(builder, key))

    def certify_structure(
        self,
        family: Family,
        root: CertificationAuthority,
        public_key: CertificateIssuerPublicKeyTypes,
        *,
        generation: int = 1,
    ) -> x509.Certificate:
        """A structure CA for this key, which never outlives the root; each generation of a family has its own name."""
        end = add_months(self._not_before, self._hierarchy.structure_of(family).years * _MONTHS_A_YEAR)
        return self._certify(
            root,
            family,
            public_key,
            common_name=family.common_name if generation == 1 else f"{family.common_name} {generation}",
            not_after=min(end - ONE_SECOND, root.certificate.not_valid_after_utc),
            path_length=_STRUCTURE_PATH_LENGTH,
        )

    def request_structure(
        self, family: Family, key: CertificateIssuerPrivateKeyTypes
    ) -> x509.CertificateSigningRequest:
        """What somebody else's root is asked to sign (RFC 2986): a structure CA as ours would be."""
        usages = [x509.ObjectIdentifier(extended_key_usage_oid(each)) for each in family.extended_key_usage]
        return (
            x509.CertificateSigningRequestBuilder()
            .subject_name(subject_of(self._hierarchy, family.common_name))
            .add_extension(x509.BasicConstraints(ca=True, path_length=_STRUCTURE_PATH_LENGTH), critical=True)
            .add_extension(_CA_KEY_USAGE, critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(key, _hash_for(key))
        )

    def certify_time(
        self, planned: PlannedAuthority, above: CertificationAuthority, public_key: CertificateIssuerPublicKeyTypes
    ) -> x509.Certificate:
        """The certificate of a time sub-CA for this key."""
        return self._certify(
            above,
            planned.family,
            public_key,
            # The name that operators, logs and CRL files use: whoever reads a certificate finds the rest by it.
            common_name=planned.name,
            not_after=planned.not_after,
            path_length=_TIME_PATH_LENGTH,
        )

    def make_crl(
        self,
        authority: CertificationAuthority,
        *,
        number: int = 1,
        revoked: Iterable[x509.RevokedCertificate] = (),
    ) -> x509.CertificateRevocationList:
        """Version 2, with authority key identifier and CRL number (RFC 5280 5.2.1, 5.2.3)."""
        this_update = max(self._not_before, authority.certificate.not_valid_before_utc)
        next_update = add_months(self._not_before, self._hierarchy.crl_months) - ONE_SECOND
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(authority.certificate.subject)
            .last_update(this_update)
            .next_update(next_update)
            .add_extension(_authority_key_identifier(authority.certificate), critical=False)
            .add_extension(x509.CRLNumber(number), critical=False)
        )
        for each in revoked:
            builder = builder.add_revoked_certificate(each)
        return builder.sign(authority.key, _hash_for(authority.key))

    def _certify(
        self,
        above: CertificationAuthority,
        family: Family,
        public_key: CertificateIssuerPublicKeyTypes,
        *,
        common_name: str,
        not_after: dt.datetime,
        path_length: int,
    ) -> x509.Certificate:
        builder = self._builder(
            public_key,
            subject=subject_of(self._hierarchy, common_name),
            issuer=above.certificate.subject,
            # A CA above that was made elsewhere may be younger than the hour.
            not_before=max(self._not_before, above.certificate.not_valid_before_utc),
            not_after=not_after,
        )
        builder = _with_ca_extensions(builder, public_key, path_length=path_length)
        builder = builder.add_extension(_authority_key_identifier(above.certificate), critical=False)
        usages = [x509.ObjectIdentifier(extended_key_usage_oid(each)) for each in family.extended_key_usage]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if family.policy_identifiers:
            builder = builder.add_extension(_certificate_policies(family), critical=False)
        if family.name_constraints != NameConstraints():
            # RFC 5280 4.2.1.10: "Conforming CAs MUST mark this extension as critical".
            builder = builder.add_extension(_name_constraints(family.name_constraints), critical=True)
        point = x509.DistributionPoint(
            full_name=[x509.UniformResourceIdentifier(self._hierarchy.crl_url(above.name))],
            relative_name=None,
            reasons=None,
            crl_issuer=None,
        )
        builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
        access = x509.AccessDescription(
            AuthorityInformationAccessOID.CA_ISSUERS,
            x509.UniformResourceIdentifier(self._hierarchy.issuer_url(above.name)),
        )
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
        return _sign(builder, above.key)

    def _builder(
        self,
        public_key: CertificateIssuerPublicKeyTypes,
        *,
        subject: x509.Name,
        issuer: x509.Name,
        not_before: dt.datetime,
        not_after: dt.datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(make_serial_number(self._entropy))
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )


def _with_ca_extensions(
    builder: x509.CertificateBuilder, public_key: CertificateIssuerPublicKeyTypes, *, path_length: int
) -> x509.CertificateBuilder:
    """What every CA certificate has (RFC 5280 4.2.1.9, 4.2.1.3, 4.2.1.2)."""
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_CA_KEY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _certificate_policies(family: Family) -> x509.CertificatePolicies:
    qualifiers = [family.cps_url] if family.cps_url else None
    return x509.CertificatePolicies(
        [x509.PolicyInformation(x509.ObjectIdentifier(each), qualifiers) for each in family.policy_identifiers]
    )


def _name_constraints(constraints: NameConstraints) -> x509.NameConstraints:
    """The same as RFC 5280 4.2.1.10 writes it: a host and what is below it are two constraints on mail addresses."""
    permitted = [
        *map(x509.DNSName, constraints.permitted_domains),
        *itertools.chain.from_iterable(map(_mail_subtrees, constraints.permitted_mail_domains)),
    ]
    excluded = [
        *map(x509.DNSName, constraints.excluded_domains),
        *itertools.chain.from_iterable(map(_mail_subtrees, constraints.excluded_mail_domains)),
        # What is of a type that no constraint names is permitted: an address would be the way around the domains.
        *(map(x509.IPAddress, _EVERY_ADDRESS) if constraints.permitted_domains else ()),
    ]
    return x509.NameConstraints(permitted or None, excluded or None)


def _mail_subtrees(domain: str) -> tuple[x509.RFC822Name, x509.RFC822Name]:
    return x509.RFC822Name(domain), x509.RFC822Name(f".{domain}")


def _authority_key_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        identifier = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        # A CA that was made elsewhere, long ago: the hash that most had (RFC 5280 4.2.1.2, method 1).
        identifier = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _sign(builder: x509.CertificateBuilder, key: CertificateIssuerPrivateKeyTypes) -> x509.Certificate:
    return builder.sign(key, _hash_for(key))


def _hash_for(key: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """The hash that the key's strength asks for; EdDSA and ML-DSA bring their own."""
    if isinstance(key, rsa.RSAPrivateKey):
        return hashes.SHA256()
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return _HASH_OF_CURVE[key.curve.name]
    return None
