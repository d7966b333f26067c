from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.operators import BOOT_ID, OPERATORS, PUBLIC_KEYS, TRUE_TIME, confirm_clock, drafted, signed

from cassiopeia.core import structure
from cassiopeia.errors import PeerError, Refused
from cassiopeia.journal import order as order_module
from cassiopeia.journal.head import HEAD_TAG
from cassiopeia.journal.order import (
    MAXIMUM_OCTETS,
    MAXIMUM_SIGNATURES,
    Arguments,
    BlockKey,
    ConfirmClock,
    DisableValidator,
    EnableValidator,
    HaltAuthority,
    InstallBundle,
    Order,
    OrderSignature,
    RaiseCap,
    ResumeAuthority,
    SignedOrder,
    UnblockKey,
    describe,
    explain,
    key_id,
    read_order,
    read_signed,
    sign_order,
    verify_order,
)


def verify(octets: bytes, **changes: Any) -> tuple[Order, Arguments]:
    """As signer 1, which knows three operators, two of whom must sign, and has obeyed no order yet."""
    values: dict[str, Any] = {
        "operators": PUBLIC_KEYS[:3],
        "quorum": 2,
        "signer_id": 1,
        "boot_id": BOOT_ID,
        "last_sequence": 0,
    }
    return verify_order(octets, **(values | changes))


def forged(octets: bytes, **changes: Any) -> bytes:
    """An order changed behind its signatures."""
    inner, _ = read_order(octets)
    return structure.encode(replace(read_signed(octets), order=structure.encode(replace(inner, **changes))))


@pytest.mark.parametrize("numbers", [(0, 1), (2, 0), (0, 1, 2), (0, 1, 3)])
def test_enough_operators_are_obeyed(numbers: tuple[int, ...]) -> None:
    order, arguments = verify(signed(confirm_clock(), *numbers))
    assert (order.signer_id, order.sequence, order.action, order.reason) == (
        1,
        1,
        "confirmClock",
        "the battery was empty",
    )
    assert arguments == ConfirmClock(boot_seconds=1000, true_time=TRUE_TIME)


@pytest.mark.parametrize(("numbers", "count"), [((), 0), ((0,), 1), ((0, 0), 1), ((3,), 0), ((0, 3), 1)], ids=str)
def test_too_few_operators_are_not(numbers: tuple[int, ...], count: int) -> None:
    with pytest.raises(Refused, match=f"{count} of the 3 operators") as refused:
        verify(signed(confirm_clock(), *numbers))
    assert (refused.value.code, refused.value.field) == ("order-quorum", "signatures")


def test_one_key_pinned_twice_is_one_operator() -> None:
    with pytest.raises(Refused, match="1 of the 1 operators"):
        verify(signed(confirm_clock(), 0), operators=(PUBLIC_KEYS[0], PUBLIC_KEYS[0]))


def test_one_signature_sent_twice_is_one() -> None:
    once = read_signed(signed(confirm_clock(), 0))
    twice = structure.encode(replace(once, signatures=once.signatures * 2))
    with pytest.raises(Refused, match="1 of the 3 operators"):
        verify(twice)


def test_without_operators_nothing_is_obeyed() -> None:
    with pytest.raises(Refused, match="knows no operators") as refused:
        verify(signed(confirm_clock(), 0, 1), operators=(), quorum=1)
    assert refused.value.code == "order-unheard"


@pytest.mark.parametrize(
    "changes",
    [{"signer_id": 2}, {"sequence": 2}, {"boot_id": b"other"}, {"reason": ""}, {"arguments": b"\x30\x00"}],
    ids=lambda each: next(iter(each)),
)
def test_what_was_changed_after_it_was_signed_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        verify(forged(signed(confirm_clock(), 0, 1), **changes))
    assert refused.value.code in {"order-signature", "order-malformed"}


def test_a_signature_over_something_else_is_none() -> None:
    draft = read_signed(confirm_clock())
    signature = OPERATORS[0].sign(HEAD_TAG + draft.order)
    wrong = replace(draft, signatures=(OrderSignature(key=key_id(PUBLIC_KEYS[0]), signature=signature),))
    with pytest.raises(Refused, match=f"operator {key_id(PUBLIC_KEYS[0]).hex()[:16]}") as refused:
        verify(structure.encode(wrong), quorum=1)
    assert refused.value.code == "order-signature"


def test_a_signature_in_another_operators_name_is_none() -> None:
    theirs = read_signed(signed(confirm_clock(), 3)).signatures[0].signature
    stolen = replace(
        read_signed(confirm_clock()), signatures=(OrderSignature(key=key_id(PUBLIC_KEYS[0]), signature=theirs),)
    )
    with pytest.raises(Refused) as refused:
        verify(structure.encode(stolen), quorum=1)
    assert refused.value.code == "order-signature"


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"signer_id": 2}, "order-signer", "for signer 2, and this is signer 1"),
        ({"boot_id": b"an earlier boot."}, "order-boot", "make it anew"),
        ({"sequence": 0}, "order-sequence", "this is order 0, and the next one that can be obeyed is 1"),
        ({"sequence": 2}, "order-sequence", "this is order 2, and the next one that can be obeyed is 1"),
    ],
)
def test_an_order_for_another_signer_boot_or_turn_is_refused(changes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        verify(signed(confirm_clock(**changes), 0, 1))
    assert refused.value.code == code
    assert refused.value.field == next(iter(changes))


def test_an_order_is_obeyed_once() -> None:
    octets = signed(confirm_clock(), 0, 1)
    order, _ = verify(octets)
    with pytest.raises(Refused) as refused:
        verify(octets, last_sequence=order.sequence)
    assert refused.value.code == "order-sequence"


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(Refused, match="there is no order 'sing'") as refused:
        verify(forged(confirm_clock(), action="sing"))
    assert refused.value.code == "order-malformed"


def test_a_reason_has_its_length() -> None:
    verify(signed(confirm_clock(reason="x" * 500), 0, 1))
    with pytest.raises(Refused, match="at most 500 characters"):
        verify(signed(confirm_clock(reason="x" * 501), 0, 1))


def test_an_order_has_its_size() -> None:
    with pytest.raises(Refused, match="at most 65536 octets"):
        verify(bytes(MAXIMUM_OCTETS + 1))
    one = OrderSignature(key=bytes(32), signature=bytes(64))
    crowd = structure.encode(
        SignedOrder(order=read_signed(confirm_clock()).order, signatures=(one,) * (MAXIMUM_SIGNATURES + 1))
    )
    with pytest.raises(Refused, match="at most 64 signatures"):
        verify(crowd)


@given(st.binary(max_size=200))
def test_any_octets_are_refused(octets: bytes) -> None:
    with pytest.raises(Refused) as refused:
        verify(octets)
    assert refused.value.code == "order-malformed"


@given(st.data())
def test_whoever_flips_an_octet_of_an_order_is_not_obeyed(data: st.DataObject) -> None:
    octets = bytearray(signed(confirm_clock(), 0, 1))
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused):
        verify(bytes(octets))


def test_an_operator_who_signs_again_signs_once() -> None:
    octets = signed(confirm_clock(), 0, 1)
    again = sign_order(octets, OPERATORS[0])
    assert len(read_signed(again).signatures) == 2
    assert verify(again)


def test_an_order_can_be_read_before_it_is_signed() -> None:
    words = describe(*read_order(confirm_clock(sequence=7)))
    assert words == {
        "order": "confirmClock",
        "for signer": "1, as its number 7, until it is started again",
        "says": "it was 2026-11-23 12:00:00Z when the signer's machine had run 1000 seconds: the signer's clock is set "
        "by that, a halt for the clock ends, and so do raised caps",
        "kind": "loosens what the signer does, or could: as many operators must sign as its signer.toml asks for "
        "(quorum)",
        "reason": "the battery was empty",
    }
    with pytest.raises(PeerError):
        read_order(b"")


def test_every_action_has_arguments_of_its_own() -> None:
    assert len(set(order_module.ARGUMENTS.values())) == len(order_module.ARGUMENTS)
    assert {type(each) for each in EVERY} == set(order_module.ARGUMENTS.values())


# --- each order

RESTRICTING = (
    HaltAuthority(authority="assured_2026_1"),
    DisableValidator(validator=b"v" * 8),
    BlockKey(key_hash=b"k" * 32),
)
LOOSENING = (
    ConfirmClock(boot_seconds=1000, true_time=TRUE_TIME),
    ResumeAuthority(authority="assured_2026_1"),
    EnableValidator(validator=b"v" * 8),
    UnblockKey(key_hash=b"k" * 32),
    RaiseCap(cap="revocations", limit=5000, hours=24),
    InstallBundle(bundle_hash=b"h" * 32, number=7),
)
EVERY = RESTRICTING + LOOSENING


def kind_of(arguments: Arguments) -> str:
    return type(arguments).__name__


@pytest.mark.parametrize("arguments", EVERY, ids=kind_of)
def test_an_order_says_what_it_said(arguments: Arguments) -> None:
    order, read = verify(signed(drafted(arguments), 0, 1))
    assert read == arguments
    assert order_module.ARGUMENTS[order.action] is type(arguments)


@pytest.mark.parametrize("arguments", RESTRICTING, ids=kind_of)
def test_what_restricts_needs_one_operator(arguments: Arguments) -> None:
    assert verify(signed(drafted(arguments), 2))
    with pytest.raises(Refused, match=r"0 of the 3 operators .* and 1 must"):
        verify(signed(drafted(arguments), 3))
    assert "restricts" in describe(*read_order(drafted(arguments)))["kind"]


@pytest.mark.parametrize("arguments", LOOSENING, ids=kind_of)
def test_what_loosens_needs_the_quorum(arguments: Arguments) -> None:
    with pytest.raises(Refused, match=r"1 of the 3 operators .* and 2 must") as refused:
        verify(signed(drafted(arguments), 2))
    assert refused.value.code == "order-quorum"
    assert verify(signed(drafted(arguments), 0, 2))
    assert "loosens" in describe(*read_order(drafted(arguments)))["kind"]


@pytest.mark.parametrize("arguments", [each for each in EVERY if not isinstance(each, ConfirmClock)], ids=kind_of)
def test_an_order_is_explained_with_what_it_is_about(arguments: Arguments) -> None:
    words = explain(arguments)
    for field in dataclasses.fields(arguments):
        value = getattr(arguments, field.name)
        assert (value.hex() if isinstance(value, bytes) else str(value)) in words


def test_a_cap_of_what_is_open_is_not_one_an_hour() -> None:
    assert "raised to 9 at a time, for 1 hours" in explain(RaiseCap(cap="open-intents", limit=9, hours=1))
    assert "raised to 9 an hour, for 1 hours" in explain(RaiseCap(cap="refusals", limit=9, hours=1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (HaltAuthority(authority=""), "1 to 255 characters"),
        (ResumeAuthority(authority="x" * 256), "1 to 255 characters"),
        (DisableValidator(validator=b"v" * 32), "a validator has 8 octets"),
        (EnableValidator(validator=b""), "a validator has 8 octets"),
        (BlockKey(key_hash=b"k" * 31), "a key has 32 octets"),
        (UnblockKey(key_hash=b"k" * 33), "a key has 32 octets"),
        (RaiseCap(cap="everything", limit=1, hours=1), "there is no cap 'everything': they are open-intents, "),
        (RaiseCap(cap="revocations", limit=0, hours=1), "can be raised to 100000 at most"),
        (RaiseCap(cap="revocations", limit=100_001, hours=1), "can be raised to 100000 at most"),
        (RaiseCap(cap="open-intents", limit=20_001, hours=1), "can be raised to 20000 at most"),
        (RaiseCap(cap="revocations", limit=1, hours=0), "for 1 to 720 hours"),
        (RaiseCap(cap="revocations", limit=1, hours=721), "for 1 to 720 hours"),
        (InstallBundle(bundle_hash=b"h" * 31, number=1), "a bundle has 32 octets"),
        (InstallBundle(bundle_hash=b"h" * 32, number=0), "counted from 1 to 9999"),
        (InstallBundle(bundle_hash=b"h" * 32, number=10_000), "counted from 1 to 9999"),
    ],
)
def test_what_no_signer_could_obey_is_no_order(arguments: Arguments, words: str) -> None:
    with pytest.raises(PeerError, match=words):
        drafted(arguments)
    (action,) = (name for name, kind in order_module.ARGUMENTS.items() if kind is type(arguments))
    with pytest.raises(Refused, match=words) as refused:
        verify(forged(confirm_clock(), action=action, arguments=structure.encode(arguments)))
    assert refused.value.code == "order-malformed"
