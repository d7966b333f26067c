"""DER of frozen dataclasses: the one place that joins our values to `hazmat.asn1` (X.690, X.680).

Owns the mapping from field types to ASN.1 types and its strictness, nothing of what a structure means. The fields of a
dataclass in their order are the SEQUENCE: `int` is a non-negative INTEGER, `str` a UTF8String, `bytes` an OCTET
STRING, an aware `datetime` a GeneralizedTime in whole seconds, `tuple[X, ...]` a SEQUENCE OF X, a dataclass its
own SEQUENCE. A field with a default is OPTIONAL and tagged IMPLICIT [0], [1], ... in order; None or an empty tuple
is left out. There is one encoding for each value and one value for each encoding.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from cryptography.hazmat import asn1

from cassiopeia.errors import InternalError, PeerError

T = TypeVar("T")

# The largest number on the wire is a serial number of the original: 21 octets.
INTEGER_BITS: Final = 168


def encode(value: Any) -> bytes:
    """DER of a dataclass instance; raises InternalError for a value that has no encoding."""
    try:
        return asn1.encode_der(_codec(type(value)).to_wire(value))
    except ValueError as error:
        raise InternalError(f"a {type(value).__name__} cannot be encoded: {error}") from error


def decode(kind: type[T], octets: bytes) -> T:
    """Read the instance of `kind` that these octets are, all of them; raises PeerError for anything else."""
    codec = _codec(kind)
    try:
        value: T = codec.from_wire(asn1.decode_der(codec.wire_class, octets))
    except ValueError as error:
        raise PeerError(f"this is not the DER of a {kind.__name__}") from error
    return value


_Convert = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Codec:
    """How one type travels: its `hazmat.asn1` type and the conversions there and back, which raise ValueError."""

    wire_class: Any
    to_wire: _Convert
    from_wire: _Convert


def _make_codec(kind: Any) -> _Codec:
    if kind is int:
        return _Codec(wire_class=int, to_wire=_bounded, from_wire=_bounded)
    if kind is str or kind is bytes:
        return _Codec(wire_class=kind, to_wire=_itself, from_wire=_itself)
    if kind is dt.datetime:
        return _Codec(wire_class=asn1.GeneralizedTime, to_wire=_time, from_wire=_moment)
    if typing.get_origin(kind) is tuple:
        return _sequence_of(_codec(typing.get_args(kind)[0]))
    return _sequence(kind)


_codec: Callable[[Any], _Codec] = functools.cache(_make_codec)


def _bounded(value: int) -> int:
    if value < 0 or value.bit_length() > INTEGER_BITS:
        raise ValueError("a number is out of range")
    return value


def _itself(value: T) -> T:
    return value


def _time(moment: dt.datetime) -> asn1.GeneralizedTime:
    if moment.tzinfo is None:
        raise ValueError("a time has no time zone")
    # RFC 5280 4.1.2.5.2: Greenwich, no fractions of a second.
    return asn1.GeneralizedTime(moment.astimezone(dt.UTC).replace(microsecond=0))


def _moment(time: asn1.GeneralizedTime) -> dt.datetime:
    moment = time.as_datetime()
    if moment.microsecond:
        raise ValueError("a time has fractions of a second")
    return moment


def _sequence_of(item: _Codec) -> _Codec:
    return _Codec(
        wire_class=list[item.wire_class],  # type: ignore[name-defined] # a type made at run time, for hazmat.asn1
        to_wire=lambda values: [item.to_wire(value) for value in values],
        from_wire=lambda values: tuple(item.from_wire(value) for value in values),
    )


def _sequence(kind: Any) -> _Codec:
    hints = typing.get_type_hints(kind)
    annotations: dict[str, Any] = {}
    fields: list[tuple[str, _Convert, _Convert]] = []
    tag = 0
    for field in dataclasses.fields(kind):
        item = _codec(_without_none(hints[field.name]))
        if field.default is dataclasses.MISSING:
            annotations[field.name] = item.wire_class
            fields.append((field.name, item.to_wire, item.from_wire))
        else:
            annotations[field.name] = Annotated[item.wire_class | None, asn1.Implicit(tag)]
            fields.append((field.name, _optional_to_wire(item), _optional_from_wire(item, field.default)))
            tag += 1
    wire_class: Any = asn1.sequence(type(kind.__name__, (), {"__annotations__": annotations}))

    def to_wire(value: Any) -> Any:
        return wire_class(**{name: convert(getattr(value, name)) for name, convert, _ in fields})

    def from_wire(wire: Any) -> Any:
        return kind(**{name: convert(getattr(wire, name)) for name, _, convert in fields})

    return _Codec(wire_class=wire_class, to_wire=to_wire, from_wire=from_wire)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) is types.UnionType:
        return next(each for each in typing.get_args(hint) if each is not types.NoneType)
    return hint


def _optional_to_wire(item: _Codec) -> _Convert:
    return lambda value: None if value is None or value == () else item.to_wire(value)


def _optional_from_wire(item: _Codec, absent: Any) -> _Convert:
    def convert(wire: Any) -> Any:
        if wire is None:
            return absent
        value = item.from_wire(wire)
        if value == ():
            raise ValueError("an empty list stands where it is left out")
        return value

    return convert
