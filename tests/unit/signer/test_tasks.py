from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.authorities import NOW, server_request

from cassiopeia.core.authority import Idle
from cassiopeia.core.compromise import CompromiseClaim
from cassiopeia.core.rules import Standing
from cassiopeia.errors import PeerError
from cassiopeia.frames import FrameReader, frame
from cassiopeia.signer.tasks import (
    MAXIMUM_WORDS,
    CheckProofs,
    Decide,
    Decided,
    Deferred,
    Denied,
    LackingKey,
    Mistrusted,
    Opening,
    Outcome,
    Proved,
    Ready,
    Sign,
    Signed,
    Stands,
    Task,
    TryKey,
    Unusable,
    Usable,
    read_outcomes,
    read_tasks,
    shortened,
)

_numbers = st.integers(min_value=0, max_value=2**63 - 1)
_texts = st.text(max_size=20)
_octets = st.binary(max_size=50)

_key_hashes = st.frozensets(_octets, max_size=3)
_idle = st.builds(Idle, code=_texts, why=_texts, retry_after_s=_numbers)
_standing = st.builds(
    Standing,
    boot_id=_octets,
    nonces=st.tuples(_octets),
    blocked_keys=_key_hashes,
    idle_authorities=st.dictionaries(_texts, _idle, max_size=3),
)
_tasks: st.SearchStrategy[Task | Stands] = st.one_of(
    st.builds(
        Decide,
        task=_numbers,
        request=st.builds(
            server_request, key_proof=_octets, account=_texts, request_id=_octets, proofs=st.tuples(_octets)
        ),
        version=st.sampled_from((1, 2)),
        now=st.datetimes(timezones=st.just(dt.UTC)),
        issued=st.dictionaries(_texts, _numbers, max_size=3),
        standing=st.none() | _standing,
    ),
    st.builds(Stands, standing=_standing),
    st.builds(Sign, task=_numbers, signing_ca=_texts, algorithm=_octets, octets=_octets),
    st.builds(TryKey, task=_numbers, signing_ca=_texts),
    st.builds(
        CheckProofs,
        task=_numbers,
        claims=st.tuples(st.builds(CompromiseClaim, serial_number=_octets, tbs_certificate=_octets, proof=_octets)),
    ),
)
_outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(
        Decided, task=_numbers, signing_ca=_texts, serial_number=_octets, algorithm=_octets, tbs_certificate=_octets
    ),
    st.builds(Signed, task=_numbers, signature=_octets),
    st.builds(Mistrusted, task=_numbers, signing_ca=_texts, signing=_texts, verifying=_texts, message=_texts),
    st.builds(Usable, task=_numbers),
    st.builds(Opening, signing_ca=_texts),
    st.builds(Proved, task=_numbers),
    st.builds(Denied, task=_numbers, code=_texts, field=_texts, message=_texts),
    st.builds(Deferred, task=_numbers, code=_texts, message=_texts, retry_after_s=_numbers),
    st.builds(
        Ready,
        configuration_hash=_octets,
        lacking=st.tuples(st.builds(LackingKey, signing_ca=_texts, code=_texts, message=_texts)),
    ),
    st.builds(Unusable, message=_texts, may_come=st.booleans()),
)


def body_of(content: Sequence[Task | Outcome]) -> bytes:
    (body,) = FrameReader().feed(frame(content))
    return body


@given(st.lists(_tasks, max_size=4))
def test_tasks_come_out_as_they_went_in(batch: list[Task]) -> None:
    assert read_tasks(body_of(batch)) == batch


@given(st.lists(_outcomes, max_size=4))
def test_outcomes_come_out_as_they_went_in(batch: list[Outcome]) -> None:
    assert read_outcomes(body_of(batch)) == batch


@given(st.binary(max_size=200))
def test_any_body_is_a_list_of_outcomes_or_a_fault_of_the_worker(body: bytes) -> None:
    try:
        outcomes = read_outcomes(body)
    except PeerError:
        return
    assert read_outcomes(body_of(outcomes)) == outcomes


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode([{"type": "Signed", "task": 1}]),
        msgspec.msgpack.encode([{"type": "Signed", "task": "1", "signature": b""}]),
        msgspec.msgpack.encode([{"type": "Elsewhere", "task": 1}]),
        msgspec.msgpack.encode([msgspec.to_builtins(Sign(task=1, signing_ca="", algorithm=b"", octets=b""))]),
    ],
)
def test_what_is_no_outcome_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError, match="a worker sent an outcome that is none"):
        read_outcomes(body)


def test_a_task_is_known_from_an_outcome() -> None:
    """The tag is the name of the kind: what the front asks can't be taken for what a worker answers."""
    task = Decide(task=1, request=server_request(), version=2, now=NOW, issued={})
    with pytest.raises(PeerError):
        read_outcomes(body_of([task]))


def test_a_worker_says_so_much_and_no_more() -> None:
    """What it says is journaled, and every client copies that."""
    said = [
        Denied(task=1, code="", field="", message=shortened("\N{GREEK SMALL LETTER ALPHA}" * 10**6)),
        Deferred(task=2, code="", message="m" * MAXIMUM_WORDS, retry_after_s=1),
    ]
    assert read_outcomes(msgspec.msgpack.encode(said)) == said
    long = "m" * (MAXIMUM_WORDS + 1)
    too_much: list[Outcome] = [
        Denied(task=1, code="", field="", message=long),
        Denied(task=1, code="", field=long, message=""),
        Deferred(task=1, code=long, message="", retry_after_s=1),
        Mistrusted(task=1, signing_ca="", signing="", verifying="", message=long),
        Ready(configuration_hash=b"", lacking=(LackingKey(signing_ca="", code="", message=long),)),
        Unusable(message=long),
    ]
    for each in too_much:
        with pytest.raises(PeerError, match="an outcome that is none"):
            read_outcomes(msgspec.msgpack.encode([each]))
