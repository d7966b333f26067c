"""How the signer is, in its own words, as the store keeps them for `cassiopeia status` and for drafts of orders."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from cassiopeia.protocol import payload


def status_document(report: payload.StatusReport) -> dict[str, Any]:
    """A report as JSON has it; what people compare and type stands there in hexadecimal."""
    orders = dataclasses.asdict(report.orders) | {
        "disabled_validators": [each.hex() for each in report.orders.disabled_validators],
        "validators": [dataclasses.asdict(each) | {"key_id": each.key_id.hex()} for each in report.orders.validators],
    }
    told = dataclasses.asdict(report) | {
        "configuration_hash": report.configuration_hash.hex(),
        "orders": orders,
        "extensions": [],
    }
    document: dict[str, Any] = json.loads(msgspec.json.encode(told))
    return document


def capacity(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """What changes when a signer may do now what it put off before: state, configuration, orders obeyed."""
    return document.get("state"), document.get("configuration_hash"), document.get("order_sequence", 0)
