"""DER as a tree that a test can change anywhere: an encoder that writes wrong things as readily as right ones."""

from __future__ import annotations

from dataclasses import dataclass, field

_CONSTRUCTED = 0x20


@dataclass
class Node:
    """One element: `children` of a constructed one, else `contents`. `length` overrides the octets of its length."""

    tag: int
    contents: bytes = b""
    children: list[Node] = field(default_factory=list)
    length: bytes | None = None

    def encode(self) -> bytes:
        contents = b"".join(each.encode() for each in self.children) if self.is_constructed else self.contents
        length = len(contents).to_bytes(1 if len(contents) < 0x100 else 2, "big")
        if len(contents) >= 0x80:
            length = bytes((0x80 | len(length),)) + length
        return bytes((self.tag,)) + (length if self.length is None else self.length) + contents

    @property
    def is_constructed(self) -> bool:
        return bool(self.tag & _CONSTRUCTED)

    def at(self, *path: int) -> Node:
        """The element on this path of places."""
        node = self
        for place in path:
            node = node.children[place]
        return node


def parse(octets: bytes) -> Node:
    """The one element that these octets are."""
    (node,) = _parse_all(octets)
    return node


def _parse_all(octets: bytes) -> list[Node]:
    found = []
    place = 0
    while place < len(octets):
        tag, length = octets[place], octets[place + 1]
        place += 2
        if length >= 0x80:
            count = length - 0x80
            length = int.from_bytes(octets[place : place + count], "big")
            place += count
        contents = octets[place : place + length]
        place += length
        found.append(Node(tag, children=_parse_all(contents)) if tag & _CONSTRUCTED else Node(tag, contents=contents))
    assert place == len(octets)
    return found


def primitive(tag: int, contents: bytes | str) -> Node:
    return Node(tag, contents=contents.encode() if isinstance(contents, str) else contents)


def sequence(*children: Node) -> Node:
    return Node(0x30, children=list(children))


def object_identifier(hexadecimal: str) -> Node:
    return primitive(0x06, bytes.fromhex(hexadecimal))
