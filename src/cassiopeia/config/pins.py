"""The keys that a signer believes and obeys: those that signer.toml names, and those of the installed bundle.

Owns `pins.toml` and how the two are joined: what either says counts, the stricter quorum of both, and a key has one
name.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from cassiopeia.config.toml import Table, Text, read_ed25519, read_public_key, read_toml
from cassiopeia.core.evidence import STATEMENT_KINDS
from cassiopeia.core.rules import Validator
from cassiopeia.errors import ConfigurationError

PINS: Final = "pins.toml"

_Name = Annotated[
    str, msgspec.Meta(pattern=r"(?#a word of letters, digits and . _ -)^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pins:
    """`operators` are Ed25519 keys (DER), `responders` SHA-256 of the SubjectPublicKeyInfo of OCSP responders."""

    operators: tuple[bytes, ...] = ()
    quorum: int = 1
    validators: tuple[Validator, ...] = ()
    responders: frozenset[bytes] = frozenset()


class OrdersTable(Table, frozen=True, kw_only=True):
    operators: Annotated[tuple[Path, ...], msgspec.Meta(max_length=16)] = ()
    quorum: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1


class ValidatorTable(Table, frozen=True, kw_only=True):
    name: _Name
    key: Path
    kinds: Annotated[tuple[Text, ...], msgspec.Meta(min_length=1)]


class OcspTable(Table, frozen=True, kw_only=True):
    responders: Annotated[tuple[Path, ...], msgspec.Meta(max_length=256)] = ()


ValidatorTables = Annotated[tuple[ValidatorTable, ...], msgspec.Meta(max_length=64)]


class _PinsFile(Table, frozen=True, kw_only=True):
    orders: OrdersTable = OrdersTable()
    validator: ValidatorTables = ()
    ocsp: OcspTable = OcspTable()


def load_pins(path: Path) -> Pins:
    """Read `pins.toml`; raises ConfigurationError."""
    file = read_toml(path, _PinsFile)
    return read_pins(path, orders=file.orders, validators=file.validator, ocsp=file.ocsp)


def read_pins(path: Path, *, orders: OrdersTable, validators: tuple[ValidatorTable, ...], ocsp: OcspTable) -> Pins:
    """What these tables of the file at `path` name; raises ConfigurationError."""
    return Pins(
        operators=_operators(path, orders),
        quorum=orders.quorum,
        validators=_validators(path, validators),
        responders=frozenset(
            hashlib.sha256(read_public_key(path, each, key=f"ocsp.responders[{index}]")).digest()
            for index, each in enumerate(ocsp.responders)
        ),
    )


def join_pins(own: Pins, installed: Pins, *, source: str) -> Pins:
    """Both together; raises ConfigurationError when a key has two names, or a name two keys."""
    validators = list(own.validators)
    for each in installed.validators:
        same = next((other for other in validators if each.name == other.name or each.key_id == other.key_id), None)
        if same is None:
            validators.append(each)
        elif (same.name, same.key_id) == (each.name, each.key_id):
            joined = Validator(name=each.name, public_key=each.public_key, kinds=same.kinds | each.kinds)
            validators[validators.index(same)] = joined
        else:
            raise ConfigurationError(
                f"the installed bundle has a validator {each.name!r}, and here {same.name!r} has the same name or the "
                "same key: a validator has one of each; take this one out, or rename it",
                source=source,
                key="validator",
            )
    return Pins(
        operators=own.operators + tuple(each for each in installed.operators if each not in own.operators),
        # What loosens never takes fewer operators than either demands.
        quorum=max(own.quorum, installed.quorum),
        validators=tuple(validators),
        responders=own.responders | installed.responders,
    )


def check_quorum(pins: Pins, *, source: str) -> None:
    """Raise ConfigurationError when more operators must sign than there are."""
    if pins.operators and pins.quorum > len(pins.operators):
        raise ConfigurationError(
            f"so many must sign, and {len(pins.operators)} keys are named: name more of them, or ask for fewer",
            source=source,
            key="orders.quorum",
        )


def _operators(path: Path, orders: OrdersTable) -> tuple[bytes, ...]:
    operators = tuple(
        read_ed25519(path, each, key=f"orders.operators[{index}]") for index, each in enumerate(orders.operators)
    )
    for index, each in enumerate(operators):
        if each in operators[:index]:
            raise ConfigurationError(
                "this key stands there twice; each operator has one", source=str(path), key=f"orders.operators[{index}]"
            )
    return operators


def _validators(path: Path, given: tuple[ValidatorTable, ...]) -> tuple[Validator, ...]:
    """Each with its own name and key: rotating means a second one, until nothing of the first is in use."""
    validators: list[Validator] = []
    for index, each in enumerate(given):
        where = f"validator[{index}]"
        for kind in each.kinds:
            if kind not in STATEMENT_KINDS:
                raise ConfigurationError(
                    f"{kind!r} is not known; use {', '.join(STATEMENT_KINDS)}", source=str(path), key=f"{where}.kinds"
                )
        validator = Validator(
            name=each.name,
            public_key=read_ed25519(path, each.key, key=f"{where}.key"),
            kinds=frozenset(each.kinds),
        )
        if any(other.name == validator.name for other in validators):
            raise ConfigurationError("another validator has this name", source=str(path), key=f"{where}.name")
        if any(other.key_id == validator.key_id for other in validators):
            raise ConfigurationError(
                "another validator has this key; name all its kinds there", source=str(path), key=f"{where}.key"
            )
        validators.append(validator)
    return tuple(validators)
