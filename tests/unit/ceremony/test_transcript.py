from __future__ import annotations

import datetime as dt
import hashlib
import html.parser
import importlib.metadata
import re

import pytest

from cassiopeia import __version__
from cassiopeia.ceremony.transcript import (
    Minutes,
    Table,
    Transcript,
    as_html,
    as_text,
    hash_table,
    in_groups,
    show_moment,
    tool_versions,
)

AT = dt.datetime(2026, 11, 23, 13, 4, 5, 999, tzinfo=dt.timezone(dt.timedelta(hours=1)))
HOSTILE = "Evil <script>alert('&')</script>\n1. Root key destroyed\u202e\x1b[2J"


class Page(html.parser.HTMLParser):
    """What a reader sees of a page, and which elements and addresses it has."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.attributes: set[str] = set()
        self._style = False
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        self.attributes.update(name for name, _ in attrs)
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self.closed.append(tag)
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style and data.strip():
            self.seen.append(data.strip())


@pytest.fixture
def transcript() -> Transcript:
    minutes = Minutes(title="Root key ceremony of Example CA", facts={"ceremony": "1"})
    minutes.add("Look at the machine", "It has no network.", at=AT, facts={"clock": "right", "version": "12.9"})
    minutes.add(
        "Split the key to the safe",
        "Five shares were made, of which three are needed. " * 4,
        "Each was read again.",
        at=AT + dt.timedelta(minutes=1),
        table=Table(header=("share", "file"), rows=(("1", "share-1.txt"), ("2", "share-2.txt"))),
        to_fill_in=("Holder of share 1", "Holder of share 2"),
    )
    return minutes.close(signatories=("Ceremony leader", "Witness"))


def words(text: str) -> list[str]:
    return text.split()


def test_the_text_is_for_paper(transcript: Transcript) -> None:
    text = as_text(transcript)
    lines = text.splitlines()
    assert lines[:4] == ["Root key ceremony of Example CA", "=" * 31, "", "ceremony  1"]
    assert lines[5:11] == [
        "1. Look at the machine",
        "----------------------",
        "2026-11-23 12:04:05 UTC",
        "It has no network.",
        "clock    right",
        "version  12.9",
    ]
    table = lines.index("share  file")
    assert lines[table + 1 : table + 4] == ["-----  -----------", "1      share-1.txt", "2      share-2.txt"]
    assert max(map(len, lines)) <= 100
    assert text.endswith("\n")
    assert sum(line.startswith("signature ___") for line in lines) == 2
    assert any(line.startswith("Holder of share 2: ____") for line in lines)


def test_both_forms_say_the_same(transcript: Transcript) -> None:
    text, page = as_text(transcript), Page(as_html(transcript))
    ornaments = {"=", "-", "_"}
    said = [word.rstrip(":") for word in words(text) if set(word.rstrip(":")) - ornaments]
    # The browser numbers the steps by itself.
    said = [word for word in said if word not in {"1.", "2."}]
    shown = words(" ".join(page.seen))
    title = words(transcript.title)
    assert shown[: len(title)] == title, "the title of the window"
    assert sorted(shown[len(title) :]) == sorted(said)


def test_the_page_needs_nothing_but_itself(transcript: Transcript) -> None:
    page = Page(as_html(transcript))
    assert not {"script", "link", "img", "iframe", "object", "base", "a"} & set(page.opened)
    assert not {"src", "href", "style", "action", "onclick"} & page.attributes
    assert "url(" not in as_html(transcript)
    assert "@import" not in as_html(transcript)
    assert sorted(page.closed) == sorted(each for each in page.opened if each != "meta")


def test_names_cannot_write_lines_of_their_own() -> None:
    minutes = Minutes(title=HOSTILE, facts={HOSTILE: HOSTILE})
    minutes.add(
        HOSTILE,
        HOSTILE,
        at=AT,
        facts={HOSTILE: HOSTILE},
        table=Table(header=(HOSTILE,), rows=((HOSTILE,),)),
        to_fill_in=(HOSTILE,),
    )
    transcript = minutes.close(signatories=(HOSTILE,))
    text = as_text(transcript)
    assert not any(line.startswith("1. Root key destroyed") for line in text.splitlines())
    for form in (text, as_html(transcript)):
        assert "\x1b" not in form
        assert "\u202e" not in form
        assert r"\u202e\x1b[2J" in form
    assert "script" not in Page(as_html(transcript)).opened
    assert "Evil <script>alert('&')</script>\\n1. Root" in " ".join(Page(as_html(transcript)).seen)


def test_hashes_are_shown_as_people_read_them_out() -> None:
    digest = hashlib.sha256(b"a certificate").digest()
    assert in_groups(bytes.fromhex("00ff10ab77")) == "00ff10ab 77"
    table = hash_table({"root.crt": b"a certificate", "root.crl": b""})
    assert table.rows[0] == ("root.crt", in_groups(digest))
    assert [name for name, _ in table.rows] == ["root.crt", "root.crl"]
    assert bytes.fromhex(table.rows[0][1]) == digest


def test_long_facts_go_on_below_themselves() -> None:
    minutes = Minutes(
        title="Title", facts={"a note": "so many words " * 20, "empty": "", "name": "bundle-key.pem " * 8}
    )
    lines = as_text(minutes.close(signatories=())).splitlines()[3:]
    assert lines[0].startswith("a note  so many words so many")
    assert re.fullmatch(r" {8}(so|many|words) .*", lines[1])
    assert max(map(len, lines)) <= 100
    assert "empty" in lines
    assert sum(line.count("bundle-key.pem") for line in lines) == 8, "no name is cut in two"


def test_moments_are_shown_in_utc() -> None:
    assert show_moment(AT) == "2026-11-23 12:04:05 UTC"


def test_tools_are_named_with_their_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = tool_versions()
    assert versions["cassiopeia"] == __version__
    assert versions["pkilint"] == importlib.metadata.version("pkilint")
    assert versions["OpenSSL"].startswith("OpenSSL ")

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert tool_versions()["shamir-mnemonic"] == "not installed"


def test_a_transcript_without_anything_is_one() -> None:
    empty = Minutes(title="Nothing").close(signatories=())
    assert as_text(empty).startswith("Nothing\n=======\n")
    assert Page(as_html(empty)).seen.count("Nothing") == 2
