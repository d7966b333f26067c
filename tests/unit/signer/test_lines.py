"""Who may stay connected when the signer's credentials change."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import links
from tests.support.signer import install

from cassiopeia.config import load_signer_config
from cassiopeia.link.line import Line
from cassiopeia.link.unix import connect_unix
from cassiopeia.protocol.connection import Connection
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import Role
from cassiopeia.signer.lines import Lines, link_tls


class Site:
    """A signer's lines and one client, in one loop."""

    def __init__(self, directory: Path) -> None:
        self.path = install(directory)
        self.selector = selectors.DefaultSelector()
        self.lines = Lines(
            load_signer_config(self.path),
            selector=self.selector,
            on_event=lambda *_: None,
            on_session_end=lambda _: None,
        )
        self.lines.open()

    def call(self, name: str = "client") -> Line:
        return Line(
            link=connect_unix(str(self.path.parent / "signer.sock")),
            connection=Connection(role=Role.CLIENT, tls=links.client(name=name), limits=Limits()),
            selector=self.selector,
            on_event=lambda *_: None,
            on_session_end=lambda _: None,
            on_failure=lambda _: None,
        )

    def turn(self, *clients: Line, times: int = 20) -> None:
        for _ in range(times):
            for each in clients:
                each.flush()
            self.lines.flush()
            for key, mask in self.selector.select(0.01):
                key.data(mask)

    def follow(self, *names: str) -> None:
        peers = ", ".join(f"'{links.certificate(each)}'" for each in names)
        text = self.path.read_text(encoding="utf-8")
        self.path.write_text(text.replace(f"['{links.certificate('client')}']", f"[{peers}]"), encoding="utf-8")
        config = load_signer_config(self.path)
        self.lines.follow(config, link_tls(config))

    def close(self) -> None:
        self.lines.close()
        self.selector.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.close()


def test_a_peer_that_is_pinned_still_goes_on(site: Site) -> None:
    client = site.call()
    site.turn(client)
    assert client.session is not None
    site.follow("client", "next_client")
    site.turn(client)
    assert client.session is not None
    another = site.call("next_client")
    site.turn(client, another)
    assert another.session is not None
    client.close()
    another.close()


def test_a_peer_that_is_not_pinned_any_more_is_cut_off(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    client = site.call()
    site.turn(client)
    site.follow("next_client")
    site.turn(client)
    assert (client.closed, site.lines.open_ones) == (True, [])
    assert "its peer is not pinned any more" in caplog.text
    again = site.call()
    site.turn(again)
    assert again.session is None
    again.close()


def test_who_has_not_proved_who_he_is_begins_again(site: Site) -> None:
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(str(site.path.parent / "signer.sock"))
    site.turn()
    assert len(site.lines.open_ones) == 1
    site.follow("client", "next_client")
    site.turn()
    assert site.lines.open_ones == []
    caller.close()


def test_the_same_pins_disturb_nobody(site: Site) -> None:
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(str(site.path.parent / "signer.sock"))
    site.turn()
    site.follow("client")
    assert len(site.lines.open_ones) == 1
    caller.close()


def test_lines_that_were_never_opened_are_closed_all_the_same(tmp_path: Path) -> None:
    with selectors.DefaultSelector() as selector:
        lines = Lines(
            load_signer_config(install(tmp_path)),
            selector=selector,
            on_event=lambda *_: None,
            on_session_end=lambda _: None,
        )
        lines.accept()
        lines.listen(wanted=True)
        lines.close()
    assert (lines.listening, lines.open_ones) == (False, [])
