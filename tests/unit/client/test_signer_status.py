from __future__ import annotations

import json
from dataclasses import replace

from tests.support.conversations import STATUS_REPORT

from cassiopeia.client.signer_status import capacity, status_document


def test_what_people_compare_and_type_is_hexadecimal() -> None:
    document = status_document(STATUS_REPORT)
    assert document["configuration_hash"] == STATUS_REPORT.configuration_hash.hex()
    assert document["orders"]["disabled_validators"] == ["76" * 8]
    assert document["orders"]["validators"] == [{"name": "front", "key_id": "76" * 8, "kinds": ["attestation"]}]
    assert [each["ends"] is None for each in document["orders"]["caps"]] == [True, False]
    assert json.loads(json.dumps(document)) == document


def test_a_signer_that_obeyed_an_order_may_do_what_it_put_off() -> None:
    before = status_document(STATUS_REPORT)
    assert capacity(before) == capacity(status_document(replace(STATUS_REPORT, free_octets=1)))
    assert capacity(before) != capacity(status_document(replace(STATUS_REPORT, order_sequence=9)))
    assert capacity({"state": "running", "configuration_hash": ""}) == ("running", "", 0)
