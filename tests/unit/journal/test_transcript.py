"""An export is read back as it was written, and nothing else is read at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.journal_maker import JournalMaker, full_journal, journal_key

from cassiopeia.core import ed25519
from cassiopeia.errors import PeerError
from cassiopeia.journal import entry as entries
from cassiopeia.journal import transcript
from cassiopeia.journal.replay import Replay
from cassiopeia.journal.transcript import End, Header, Item, SavedCrl, SavedLog

HEADER = Header(signer_id=1, keys=(ed25519.public_octets(journal_key()),))


def items(made: JournalMaker) -> list[Item]:
    return [
        HEADER,
        *made.logs,
        SavedLog(log=entries.encode_log(made.logs[3]), signature=b"s"),
        SavedCrl(signing_ca=made.authority.name, crl=b"crl"),
        End(head=made.signed_head(), newest=made.signed_head(size=made.size)),
    ]


def write(written: list[Item]) -> bytes:
    return b"".join(map(transcript.encode_item, written))


def read(octets: bytes) -> list[Item]:
    return list(transcript.read_transcript(io.BytesIO(octets).readline))


@pytest.fixture(scope="module")
def made() -> JournalMaker:
    return full_journal()


def test_what_is_read_is_what_was_written(made: JournalMaker) -> None:
    written = items(made)

    assert read(write(written)) == written
    replay = Replay()
    for log in made.logs:
        replay.append(log)


def test_a_journal_without_a_head_can_be_written(made: JournalMaker) -> None:
    written: list[Item] = [HEADER, made.logs[0], End(head=b"")]

    assert read(write(written)) == written


def test_each_line_says_what_its_entry_says(made: JournalMaker) -> None:
    lines = [json.loads(line) for line in write(items(made)).splitlines()]

    assert lines[0] == {
        "line": "header",
        "format": "cassiopeia journal",
        "version": 1,
        "signer_id": 1,
        "keys": lines[0]["keys"],
    }
    assert lines[1]["kind"] == "key"
    assert lines[1]["time"] == "2026-11-23T12:30:15Z"
    assert lines[4]["says"]["serial"] == made.serial(4).hex()
    assert lines[-1]["size"] == made.size


def changed(number: int, **changes: Any) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        document = json.loads(lines[number]) | changes
        lines[number] = json.dumps({name: value for name, value in document.items() if value is not None}).encode()

    return change


def swapped(lines: list[bytes]) -> None:
    lines[2], lines[3] = lines[3], lines[2]


def without_header(lines: list[bytes]) -> None:
    del lines[0]


def without_end(lines: list[bytes]) -> None:
    del lines[-1]


def with_more(lines: list[bytes]) -> None:
    lines.append(lines[-1])


def entry_behind_the_crls(lines: list[bytes]) -> None:
    lines.insert(-1, lines[1])


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (changed(0, format="a novel"), "line 1: this is 'a novel', version 1; known here: 'cassiopeia journal', ver"),
        (changed(0, version=2), "line 1: this is 'cassiopeia journal', version 2"),
        (changed(0, colour="red"), "line 1: colour: this key is not known here"),
        (changed(0, keys=None), "line 1: keys: this key is missing"),
        (changed(0, line="prologue"), "line 1: .*prologue"),
        (changed(2, index=3), "line 3: index, kind, time or hash beside the entry is not that of the entry"),
        (changed(2, kind="result"), "line 3: index, kind"),
        (changed(2, time="2026-11-23T12:30:15Z"), "line 3: index, kind"),
        (changed(2, hash="00"), "line 3: index, kind"),
        (changed(2, entry="AAAA"), "line 3: this is not the DER of a JournalEntry"),
        (changed(2, entry="%"), "line 3: entry: "),
        (changed(-1, size=3), r"line \d+: the size beside the signed head is not that of the head"),
        (changed(-1, head_octets="AAAA"), r"line \d+: this is not the DER of a JournalHead"),
        (swapped, "line 3: entry 3 stands where entry 2 belongs"),
        (without_header, "line 1: a line of the kind entry is out of place; expected: header"),
        (without_end, r"the file ends after line \d+, and its last line is not a signed head"),
        (with_more, r"line \d+: nothing may follow the signed head"),
        (entry_behind_the_crls, r"out of place; expected: saved-crl or head"),
        (lambda lines: lines.insert(1, b"Dear diary"), "line 2: this is not a line of an exported journal: "),
        (lambda lines: lines.insert(1, b'"\xff"'), "line 2: this is not a line of an exported journal: "),
    ],
)
def test_a_file_that_was_changed_is_not_read(
    made: JournalMaker, spoil: Callable[[list[bytes]], None], complaint: str
) -> None:
    lines = write(items(made)).splitlines()
    spoil(lines)

    with pytest.raises(PeerError, match=complaint):
        read(b"".join(line + b"\n" for line in lines))


def test_a_file_that_was_cut_short_says_where(made: JournalMaker) -> None:
    octets = write(items(made))

    with pytest.raises(PeerError, match=r"the file ends after line 0"):
        read(b"")
    with pytest.raises(PeerError, match=r"line \d+: it has no line end: the file was cut short"):
        read(octets[:-1])


def test_lines_are_bounded(made: JournalMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    octets = write(items(made))
    monkeypatch.setattr(transcript, "MAXIMUM_LINE_OCTETS", 500)

    with pytest.raises(PeerError, match="line 2: it is longer than 500 octets"):
        read(octets)


@given(octets=st.binary(max_size=300))
def test_any_octets_give_a_peer_error(octets: bytes) -> None:
    with pytest.raises(PeerError):
        read(octets)
