"""The transcript of a ceremony: what was done, step by step, with hashes that people can compare, and lines to sign.

Owns the model (steps with sentences, facts and tables) and its two forms, text and HTML, which say the same. The HTML
needs nothing but itself: no script, no font, no image. What is secret is never given to a transcript.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import html
import importlib.metadata
import platform
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.backends.openssl import backend

from cassiopeia import __version__

_WIDTH: Final = 100
_RULE: Final = "_" * 36
_PACKAGES: Final = ("cryptography", "pkilint", "shamir-mnemonic", "msgspec", "click")


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One thing that was done at the moment `at`. `facts` are names and values, hashes and dates before all.

    `to_fill_in` are what people write by hand, each on a line of its own: who got which share, the number of a bag.
    """

    title: str
    at: dt.datetime
    sentences: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    table: Table | None = None
    to_fill_in: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """A whole transcript; `signatories` are the parts of those who sign it, in order."""

    title: str
    facts: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]
    signatories: tuple[str, ...]


@dataclass(kw_only=True)
class Minutes:
    """A transcript while it is being written. `facts` stand at its head."""

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def add(
        self,
        title: str,
        *sentences: str,
        at: dt.datetime,
        facts: Mapping[str, str] | None = None,
        table: Table | None = None,
        to_fill_in: Sequence[str] = (),
    ) -> None:
        self.steps.append(
            Step(
                title=title,
                at=at,
                sentences=sentences,
                facts=tuple((facts or {}).items()),
                table=table,
                to_fill_in=tuple(to_fill_in),
            )
        )

    def close(self, *, signatories: Sequence[str]) -> Transcript:
        return Transcript(
            title=self.title,
            facts=tuple(self.facts.items()),
            steps=tuple(self.steps),
            signatories=tuple(signatories),
        )


def tool_versions() -> dict[str, str]:
    """What a ceremony is held with: a fact for each piece of software that touches keys or looks at certificates."""
    versions = {"cassiopeia": __version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    versions["OpenSSL"] = backend.openssl_version_text()
    versions["system"] = f"{platform.system()} {platform.release()} {platform.machine()}"
    return versions


def hash_table(files: Mapping[str, bytes]) -> Table:
    """Names of files, and SHA-256 of each."""
    return Table(
        header=("file", "SHA-256"),
        rows=tuple((name, in_groups(hashlib.sha256(octets).digest())) for name, octets in files.items()),
    )


def as_text(transcript: Transcript) -> str:
    title = _visible(transcript.title)
    lines = [title, "=" * len(title), "", *_facts_as_text(transcript.facts)]
    for number, step in enumerate(transcript.steps, start=1):
        heading = f"{number}. {_visible(step.title)}"
        lines += ["", heading, "-" * len(heading), show_moment(step.at)]
        for sentence in step.sentences:
            lines += _wrapped(_visible(sentence))
        lines += _facts_as_text(step.facts)
        if step.table is not None:
            lines += ["", *_table_as_text(step.table)]
        for blank in step.to_fill_in:
            lines += ["", f"{_visible(blank)}: {_RULE}"]
    lines += ["", "Signatures", "----------", *_wrapped(_OATH)]
    for part in transcript.signatories:
        lines += [
            "",
            "",
            f"{_visible(part)}:",
            "",
            f"name {_RULE}  date and time {_RULE[:24]}",
            "",
            f"signature {_RULE}",
        ]
    return "\n".join([*lines, ""])


def as_html(transcript: Transcript) -> str:
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        # Whatever a name may contain, a browser that shows this loads nothing and runs nothing.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_escape(transcript.title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{_escape(transcript.title)}</h1>",
        *_facts_as_html(transcript.facts),
        "<ol>",
    ]
    for step in transcript.steps:
        parts += [
            "<li><section>",
            f"<h2>{_escape(step.title)}</h2>",
            f'<p class="time">{show_moment(step.at)}</p>',
            *(f"<p>{_escape(sentence)}</p>" for sentence in step.sentences),
            *_facts_as_html(step.facts),
            *(_table_as_html(step.table) if step.table is not None else ()),
            *(f'<div class="line"><span></span>{_escape(blank)}</div>' for blank in step.to_fill_in),
            "</section></li>",
        ]
    parts += ["</ol>", "<h2>Signatures</h2>", f"<p>{_escape(_OATH)}</p>"]
    for part in transcript.signatories:
        lines = "".join(
            f'<div class="line"><span></span>{name}</div>' for name in ("name", "date and time", "signature")
        )
        parts.append(f'<div class="signatory"><h3>{_escape(part)}</h3>{lines}</div>')
    return "\n".join([*parts, "</body>", "</html>", ""])


def show_moment(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def in_groups(octets: bytes) -> str:
    """A hash in hex, in groups of eight digits: as people read it to each other."""
    return " ".join(textwrap.wrap(octets.hex(), 8))


_OATH: Final = (
    "We were there. What is written above is what was done, and we compared the hashes with those on the screen."
)

_STYLE: Final = """
body { font: 11pt/1.4 serif; color: black; background: white; max-width: 60em; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-bottom: 0; } h3 { font-size: 1em; }
ol { padding-left: 1.6em; } ol > li::marker { font-weight: bold; }
.time { color: #555; margin-top: 0; }
table { border-collapse: collapse; margin: .6em 0; }
th, td { border: 1px solid #999; padding: .15em .5em; text-align: left; vertical-align: top; }
dl { display: grid; grid-template-columns: max-content 1fr; column-gap: 1em; }
dt { font-weight: bold; } dd { margin: 0; }
dd, td { font-family: monospace; overflow-wrap: anywhere; }
.signatory { margin-top: 2em; break-inside: avoid; }
.line { display: inline-block; margin-right: 2em; font-size: .85em; }
.line span { display: block; width: 16em; height: 2.5em; border-bottom: 1px solid black; }
@page { size: A4; margin: 2cm; }
@media print { body { margin: 0; max-width: none; } tr, h2 { break-inside: avoid; } h2 { break-after: avoid; } }
"""


def _facts_as_text(facts: Iterable[tuple[str, str]]) -> list[str]:
    facts = [(_visible(name), _visible(value)) for name, value in facts]
    width = max((len(name) for name, _ in facts), default=0)
    indent = " " * (width + 2)
    return [line for name, value in facts for line in _wrapped(value, first=f"{name.ljust(width)}  ", then=indent)]


def _wrapped(text: str, *, first: str = "", then: str = "") -> list[str]:
    """Lines for paper; a file's name stays in one piece, so that it can be looked for."""
    lines = textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=then, break_on_hyphens=False, break_long_words=False
    )
    return lines or [first.rstrip()]


def _table_as_text(table: Table) -> list[str]:
    rows = [tuple(map(_visible, row)) for row in (table.header, *table.rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _facts_as_html(facts: Sequence[tuple[str, str]]) -> list[str]:
    if not facts:
        return []
    return ["<dl>", *(f"<dt>{_escape(name)}</dt><dd>{_escape(value)}</dd>" for name, value in facts), "</dl>"]


def _table_as_html(table: Table) -> list[str]:
    head = "".join(f"<th>{_escape(cell)}</th>" for cell in table.header)
    rows = ("".join(f"<td>{_escape(cell)}</td>" for cell in row) for row in table.rows)
    return [
        "<table>",
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *(f"<tr>{row}</tr>" for row in rows),
        "</tbody>",
        "</table>",
    ]


def _visible(text: str) -> str:
    """What somebody wrote into a name must not look like a line of the transcript, nor turn others around."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def _escape(text: str) -> str:
    return html.escape(_visible(text))
