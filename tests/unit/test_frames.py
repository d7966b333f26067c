from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cassiopeia.errors import PeerError
from cassiopeia.frames import MAXIMUM_FRAME_OCTETS, FrameReader, frame


class Word(msgspec.Struct, frozen=True):
    word: bytes


@given(
    batches=st.lists(st.lists(st.builds(Word, st.binary(max_size=50)), max_size=4), max_size=4),
    sizes=st.lists(st.integers(min_value=0, max_value=60), max_size=20),
)
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(batches: list[list[Word]], sizes: list[int]) -> None:
    stream = b"".join(frame(batch) for batch in batches)
    reader = FrameReader()
    bodies = []
    for size in sizes:
        bodies += reader.feed(stream[:size])
        stream = stream[size:]
    bodies += reader.feed(stream)
    assert [msgspec.msgpack.decode(body, type=list[Word]) for body in bodies] == batches


def test_a_single_answer_is_a_frame_too() -> None:
    octets = frame(Word(b"ready"))
    reader = FrameReader()
    bodies = [body for octet in octets for body in reader.feed(bytes([octet]))]
    assert [msgspec.msgpack.decode(body, type=Word) for body in bodies] == [Word(b"ready")]


def test_a_frame_over_the_limit_is_refused_before_it_comes() -> None:
    reader = FrameReader()
    assert reader.feed(struct.pack(">I", MAXIMUM_FRAME_OCTETS)) == []
    with pytest.raises(PeerError, match="over the limit"):
        FrameReader().feed(struct.pack(">I", MAXIMUM_FRAME_OCTETS + 1))
