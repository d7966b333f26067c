"""The client's loop, turn by turn, over a real line to the signer's desks: both in the test's own thread."""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import selectors
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from tests.support import links
from tests.support.authorities import NOW, PROFILES, alt_names, certification_request, default_ca, server_request
from tests.support.conversations import STATUS_REPORT
from tests.support.journal_keys import JOURNAL_PUBLIC_KEY
from tests.support.signer import SIGNING_CA, Front
from tests.support.store import request_id

from cassiopeia.client.worker import SignerClient
from cassiopeia.config import Bundles, ClientConfig
from cassiopeia.core import crl
from cassiopeia.link.address import parse_address
from cassiopeia.link.line import Line
from cassiopeia.link.stream import Listener, open_listener
from cassiopeia.protocol.connection import Connection
from cassiopeia.protocol.events import Event, HelloReceived, StatusRequested
from cassiopeia.protocol.limits import Limits
from cassiopeia.protocol.message import Role
from cassiopeia.protocol.payload import Hello, StatusReport
from cassiopeia.protocol.session import Session
from cassiopeia.store.database import Store

TIME_LIMIT_S = 20.0


class SignerEnd:
    """A signer in the test's hands: line and desks, no processes."""

    def __init__(self, front: Front, address: str) -> None:
        self.front = front
        self.limits = Limits()
        self.versions: tuple[int, ...] = (2,)
        self.report: StatusReport = dataclasses.replace(STATUS_REPORT, state="running")
        self.silent = False
        # The head that it shows in its hello, and the one that it was shown last.
        self.head: Callable[[], bytes | None] = self._newest_head
        self.presented: bytes | None = None
        # A signer that dies of some events; what it was told behind them it never reads.
        self.dies_of: Callable[[Event], bool] = lambda _: False
        self.deaths = 0
        self._is_dead = False
        self.asked: list[Event] = []
        self.accepted = 0
        self.selector = selectors.DefaultSelector()
        self._address = parse_address(address)
        self._listener: Listener | None = None
        self.lines: list[Line] = []
        self.listen()

    def _newest_head(self) -> bytes:
        return self.front.journal.signed_head()

    def listen(self) -> None:
        self._listener = open_listener(self._address)

    def go_away(self) -> None:
        """Lines break, and nobody answers any more."""
        self.hang_up()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def hang_up(self) -> None:
        for line in self.lines:
            line.close()
        self.lines.clear()

    def step(self) -> None:
        link = self._listener.accept() if self._listener is not None else None
        if link is not None:
            self.accepted += 1
            connection = Connection(
                role=Role.SIGNER, tls=links.signer(peers_1=("client_1",)), serial=False, limits=self.limits
            )
            self.lines.append(
                Line(
                    link=link,
                    connection=connection,
                    selector=self.selector,
                    on_event=self._on_event,
                    on_session_end=self.front.issuance.forget,
                    on_failure=logging.getLogger(__name__).warning,
                )
            )
        for key, mask in self.selector.select(0):
            key.data(mask)
        if self._is_dead:
            self._is_dead = False
            self.deaths += 1
            self.hang_up()
        self.front.settle()
        for line in self.lines:
            line.flush()
        self.lines = [line for line in self.lines if not line.closed]

    def close(self) -> None:
        self.go_away()
        self.selector.close()

    def _on_event(self, session: Session, event: Event) -> None:
        self.asked.append(event)
        self._is_dead |= self.dies_of(event)
        if self.silent or self._is_dead:
            return
        match event:
            case HelloReceived(hello=hello):
                self.presented = hello.present_head
                session.hello(
                    Hello(
                        versions=self.versions,
                        limits=self.limits.as_payload(),
                        capabilities=(),
                        signer_id=1,
                        present_head=self.head(),
                    )
                )
            case StatusRequested(handle=handle):
                session.send_status(handle, self.report)
            case _:
                self.front.on_event(session, event)


def write_authorities(directory: Path) -> Path:
    ca = default_ca()
    (directory / "ca.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    path = directory / "authorities.toml"
    path.write_text(
        '[[ca]]\nname = "root"\ncertificate = "ca.pem"\nissuer = "root"\n'
        f'[[authority]]\nname = "{SIGNING_CA}"\ncertificate = "ca.pem"\nissuer = "root"\nsigner_id = 1\n'
        f"issues_from = {NOW - dt.timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}\nissues_until = 2027-01-01T00:00:00Z\n"
    )
    return path


class Client:
    """The client under test, one turn at a time."""

    def __init__(self, store: Store, front: Front, directory: Path, **changes: Any) -> None:
        values: dict[str, Any] = {
            "source": directory / "client.toml",
            "name": "client",
            "store_url": "",
            "connect": parse_address(f"unix:{directory}/signer.sock"),
            "certificate": links.certificate("client"),
            "key": links.key("client"),
            "peers": (links.certificate("signer"),),
            "version": 2,
            "window": 200,
            "bundles": Bundles(directory=directory / "bundles"),
            "authorities": write_authorities(directory),
            "profiles": PROFILES,
            "publish_directory": directory / "public",
            "journal_keys": (JOURNAL_PUBLIC_KEY,),
            "lint_workers": 0,
        }
        self.store = store
        self.front = front
        self.directory = directory
        self.signer = SignerEnd(front, f"unix:{directory}/signer.sock")
        self.client = SignerClient(ClientConfig(**(values | changes)), store)

    def turn(self) -> None:
        """What `run` does in its loop, with the signer's turn behind it."""
        self.client.step(0.005)
        self.signer.step()

    def run_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + TIME_LIMIT_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.turn()

    def submit(self, *numbers: int, **changes: Any) -> None:
        for number in numbers:
            # Over version 1 a request that is the same as another one gets the other one's certificate.
            names = alt_names("DNS,www.example.org", f"DNS,{number}.example.org")
            values = {"account": "alice", "key_proof": certification_request(), "alt_names": names}
            wanted = server_request(**(values | changes))
            self.store.requests.submit(wanted, request_id=request_id(number), now=dt.datetime.now(dt.UTC))

    def state(self, number: int) -> str:
        record = self.store.requests.find(request_id(number))
        assert record is not None
        return record.state

    def run_until_issued(self, *numbers: int) -> None:
        self.run_until(lambda: all(self.state(number) == "issued" for number in numbers))

    def listed(self) -> list[int]:
        path = self.directory / "public" / f"{SIGNING_CA}.crl"
        if not path.exists():
            return []
        return list(crl.entry_serials(crl.check_crl(path.read_bytes(), authority=self.front.authority).entries))

    def close(self) -> None:
        self.client.close()
        self.signer.close()
