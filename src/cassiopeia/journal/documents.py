"""The documents that a configuration entry keeps: what requests were judged by, and the sub-CAs' certificates among it.

A certificate is the document NAME.pem or NAME.crt (DER), in whatever directory, of the sub-CA NAME.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from cassiopeia.core.authority import Authority, load_authority
from cassiopeia.errors import OperatorError, PeerError
from cassiopeia.journal.entry import Document, Documents

_SUFFIXES: Final = (".pem", ".crt")


def read_authorities(documents: Documents, *, signer_id: int) -> dict[str, Authority]:
    """Every sub-CA whose certificate is among these, by name; raises PeerError for one that cannot be read."""
    authorities = {}
    for each in documents.documents:
        name = each.name.rpartition("/")[2]
        if name.endswith(_SUFFIXES):
            name = name.rpartition(".")[0]
            try:
                authorities[name] = load_authority(_certificate(each), name=name, signer_id=signer_id)
            except OperatorError as error:
                raise PeerError(f"the configuration names a sub-CA that is none: {error}") from error
    return authorities


def _certificate(document: Document) -> bytes:
    if document.name.endswith(".crt"):
        return document.octets
    try:
        return x509.load_pem_x509_certificate(document.octets).public_bytes(Encoding.DER)
    except ValueError as error:
        raise PeerError(f"the certificate {document.name[:80]!a} of the configuration cannot be read") from error
