"""Requests that we assemble: other software reads them as what they are."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support.authorities import p256_key, sign

from cassiopeia.core.algorithms import algorithms_for
from cassiopeia.core.certification_request import assemble_request_info, compose_request

KEY = p256_key()
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_it_asks_for_this_key_under_this_name_and_for_nothing_else() -> None:
    info = assemble_request_info("assured_2027_1", SPKI)
    (algorithm,) = algorithms_for(KEY.public_key())

    request = x509.load_der_x509_csr(compose_request(info, algorithm, sign(KEY, algorithm, info)))

    assert request.tbs_certrequest_bytes == info
    assert request.is_signature_valid
    assert request.public_key() == KEY.public_key()
    assert request.subject.rfc4514_string() == "CN=assured_2027_1"
    assert (list(request.extensions), list(request.attributes)) == ([], [])


def test_it_has_the_octets_of_another_implementation() -> None:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "assured_2027_1")])
    (algorithm,) = algorithms_for(KEY.public_key())
    hashed = x509.CertificateSigningRequestBuilder().subject_name(subject)

    other = hashed.sign(KEY, hashes.SHA256())

    assert assemble_request_info("assured_2027_1", SPKI) == other.tbs_certrequest_bytes
    assert compose_request(other.tbs_certrequest_bytes, algorithm, other.signature) == other.public_bytes(Encoding.DER)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_name_that_is_none_is_our_own_mistake(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        assemble_request_info(name, SPKI)
