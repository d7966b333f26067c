"""What a journal says of its signer's rules reads back, in later versions, too."""

from __future__ import annotations

import pytest
from tests.support.evidence import TestValidator

from cassiopeia.core.rules_document import (
    PinnedValidator,
    RulesDocument,
    encode_rules_document,
    read_rules_document,
)
from cassiopeia.errors import PeerError

VALIDATOR = TestValidator(kinds=("attestation", "dns-control"))
DOCUMENT = RulesDocument(
    signer_id=1,
    version_1_profiles=("9004-unproved-server",),
    validators=(PinnedValidator(name="front", public_key=VALIDATOR.public_key, kinds=("attestation", "dns-control")),),
    responder_keys=("ab" * 32,),
)


def test_a_document_reads_back() -> None:
    octets = encode_rules_document(DOCUMENT)
    assert read_rules_document(octets) == DOCUMENT
    assert encode_rules_document(read_rules_document(octets)) == octets
    assert DOCUMENT.pinned() == {VALIDATOR.key_id: VALIDATOR.pinned}


def test_people_can_read_it() -> None:
    assert encode_rules_document(DOCUMENT).decode().splitlines()[:3] == [
        "{",
        '  "signer_id": 1,',
        '  "version_1_profiles": [',
    ]


def test_what_a_later_version_adds_is_passed_over() -> None:
    octets = encode_rules_document(DOCUMENT).replace(b"{\n", b'{\n"later": [1],', 1)
    assert read_rules_document(octets) == DOCUMENT


@pytest.mark.parametrize("octets", [b"", b"[]", b"{}", b'{"signer_id": "1"}', b"\xff", b'{"signer_id": 1} x'])
def test_what_is_no_document_is_named(octets: bytes) -> None:
    with pytest.raises(PeerError, match=r"^the document rules\.json of the configuration cannot be read: "):
        read_rules_document(octets)
