"""What every link and listener promises, on all three kinds; and what is particular to each."""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from cassiopeia.errors import InternalError, OperatorError, Unavailable
from cassiopeia.link.address import Address, SerialAddress, TcpAddress, UnixAddress
from cassiopeia.link.serial import SerialLink, SerialListener, open_serial
from cassiopeia.link.stream import Link, open_link, open_listener
from cassiopeia.link.tcp import connect_tcp
from cassiopeia.link.unix import connect_unix, listen_unix

TIME_LIMIT_S = 10.0


class Terminal:
    """A pseudo-terminal: `device` is the line, `far` the other end of it."""

    def __init__(self) -> None:
        self.far, self._near = os.openpty()
        self.device = os.ttyname(self._near)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        os.close(self._near)

    def hang_up(self) -> None:
        if self.far >= 0:
            os.close(self.far)
            self.far = -1


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as made:
        yield made


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def read(link: Link, octets: int) -> bytes:
    """Read exactly so many octets, or fewer at the end."""
    taken = b""
    while len(taken) < octets:
        assert select.select([link], [], [], TIME_LIMIT_S)[0], "nothing came"
        part = link.read(octets - len(taken))
        if part == b"":
            break
        taken += part or b""
    return taken


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIME_LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


class SocketPair:
    """A listener, and both ends of one link."""

    def __init__(self, address: Address, stack: ExitStack) -> None:
        self.listener = open_listener(address)
        stack.callback(self.listener.close)
        assert self.listener.accept() is None
        self.client = open_link(address)
        stack.callback(self.client.close)
        assert select.select([self.listener], [], [], TIME_LIMIT_S)[0]
        accepted = self.listener.accept()
        assert accepted is not None
        self.signer = accepted
        stack.callback(self.signer.close)


@pytest.fixture(params=["unix", "tcp", "tcp6"])
def pair(request: pytest.FixtureRequest, tmp_path: Path, resources: ExitStack) -> SocketPair:
    host = "::1" if request.param == "tcp6" else "127.0.0.1"
    address = (
        UnixAddress(path=str(tmp_path / "link")) if request.param == "unix" else TcpAddress(host=host, port=free_port())
    )
    return SocketPair(address, resources)


def test_octets_pass_both_ways_and_nothing_yet_is_none(pair: SocketPair) -> None:
    assert pair.signer.read(10) is None
    assert pair.client.write(b"hello") == 5
    assert read(pair.signer, 5) == b"hello"
    assert pair.signer.write(b"answer") == 6
    assert read(pair.client, 6) == b"answer"


def test_a_full_link_takes_nothing_until_it_is_read(pair: SocketPair) -> None:
    octets = bytes(65_536)
    sent = 0
    while taken := pair.client.write(octets):
        sent += taken
    assert read(pair.signer, sent) == bytes(sent)
    assert select.select([], [pair.client], [], TIME_LIMIT_S)[1]
    assert pair.client.write(b"x") == 1


def test_a_closed_link_is_read_to_its_end_and_refuses_writing(pair: SocketPair) -> None:
    pair.client.write(b"last")
    pair.client.close()
    pair.client.close()
    assert read(pair.signer, 10) == b"last"
    assert pair.signer.read(10) == b""

    def is_broken() -> bool:
        try:
            pair.signer.write(b"x")
        except ConnectionError:
            return True
        return False

    wait_until(is_broken)


def test_a_reset_by_the_peer_is_an_end(pair: SocketPair) -> None:
    # Closing with unread octets resets the connection (tcp(7); unix(7) does alike).
    pair.signer.write(b"never read")
    assert select.select([pair.client], [], [], TIME_LIMIT_S)[0]
    pair.client.close()
    wait_until(lambda: pair.signer.read(10) is not None)
    assert pair.signer.read(10) == b""


def test_a_closed_listener_leaves_its_links_alone(pair: SocketPair) -> None:
    pair.listener.close()
    pair.listener.close()
    pair.client.write(b"still here")
    assert read(pair.signer, 10) == b"still here"


# Unix sockets


@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_a_socket_has_its_mode_and_goes_with_its_listener(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "link"
    listener = listen_unix(str(path), mode=mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    listener.close()
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "link"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
    resources.callback(listen_unix(str(path)).close)
    resources.callback(connect_unix(str(path)).close)


def test_a_socket_in_use_is_left_alone(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "link"
    listener = listen_unix(str(path))
    resources.callback(listener.close)
    with pytest.raises(OperatorError, match="another signer listens there"):
        listen_unix(str(path))
    assert path.exists()


def test_a_socket_with_a_full_backlog_is_in_use_too(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "link"
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(path))
        busy.listen(0)
        resources.callback(connect_unix(str(path)).close)
        with pytest.raises(Unavailable, match="no signer answers"):
            connect_unix(str(path))
        with pytest.raises(OperatorError, match="another signer listens there"):
            listen_unix(str(path))


def test_a_file_that_is_no_socket_is_never_removed(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.write_text("precious")
    with pytest.raises(OperatorError, match="is no socket: choose another path"):
        listen_unix(str(path))
    assert path.read_text() == "precious"
    with pytest.raises(OperatorError, match="cannot be looked at: Not a directory"):
        listen_unix(str(path / "below"))


def test_a_listener_removes_only_its_own_socket(tmp_path: Path, resources: ExitStack) -> None:
    path = tmp_path / "link"
    old = listen_unix(str(path))
    path.unlink()
    resources.callback(listen_unix(str(path)).close)
    old.close()
    assert path.is_socket()


def test_a_listener_survives_the_loss_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "link"
    listener = listen_unix(str(path))
    path.unlink()
    listener.close()
    assert not path.exists()


def test_no_directory_no_listener(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot listen: No such file or directory"):
        listen_unix(str(tmp_path / "missing" / "link"))


def test_connecting_where_nobody_listens_is_not_now(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no signer answers") as missing:
        open_link(UnixAddress(path=str(tmp_path / "link")))
    assert missing.value.code == "link-down"
    with pytest.raises(Unavailable, match=r"tcp:127\.0\.0\.1:\d+: no signer answers \(Connection refused\)"):
        connect_tcp("127.0.0.1", free_port())


def test_connecting_to_what_is_no_stream_socket_is_the_operators_to_mend(tmp_path: Path) -> None:
    path = tmp_path / "link"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(str(path))
        with pytest.raises(OperatorError, match="cannot connect: Protocol wrong type"):
            connect_unix(str(path))


# TCP


def test_a_taken_port_is_the_operators_to_mend(pair: SocketPair) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OperatorError, match="cannot listen: Address already in use"):
            open_listener(TcpAddress(host="127.0.0.1", port=port))


def test_tcp_sends_each_flight_at_once_on_both_ends(resources: ExitStack) -> None:
    pair = SocketPair(TcpAddress(host="127.0.0.1", port=free_port()), resources)
    for link in (pair.client, pair.signer):
        connected = socket.socket(fileno=os.dup(link.fileno()))
        resources.enter_context(connected)
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# Serial lines


def test_every_octet_passes_a_line_as_it_is(terminal: Terminal, resources: ExitStack) -> None:
    link = open_link(SerialAddress(device=terminal.device))
    resources.callback(link.close)
    octets = bytes(range(256)) * 4
    assert link.read(10) is None
    os.write(terminal.far, octets)
    assert read(link, len(octets)) == octets
    assert link.write(octets) == len(octets)
    assert os.read(terminal.far, 4096) == octets


def test_a_line_is_raw_8n1_at_its_speed(terminal: Terminal, resources: ExitStack) -> None:
    link = open_serial(terminal.device, 9600)
    resources.callback(link.close)
    iflag, oflag, cflag, lflag, ispeed, ospeed, controls = termios.tcgetattr(link.fileno())
    assert (iflag, oflag, lflag) == (0, 0, 0)
    assert cflag & termios.CSIZE == termios.CS8
    assert cflag & (termios.CSTOPB | termios.PARENB | termios.HUPCL) == 0
    assert cflag & termios.CLOCAL
    assert (ispeed, ospeed) == (termios.B9600, termios.B9600)
    # As a number or as an octet, by the Python version.
    assert controls[termios.VMIN] in {1, b"\x01"}


def test_a_full_line_takes_nothing(terminal: Terminal, resources: ExitStack) -> None:
    link = open_serial(terminal.device, 115_200)
    resources.callback(link.close)
    sent = 0
    while taken := link.write(bytes(4096)):
        sent += taken
        assert sent < 10_000_000, "the line never fills"
    assert sent > 0


def test_a_line_that_hangs_up_has_ended(terminal: Terminal, resources: ExitStack) -> None:
    link = open_serial(terminal.device, 115_200)
    resources.callback(link.close)
    terminal.hang_up()
    assert [link.read(10), link.read(10)] == [b"", b""]
    with pytest.raises(OSError, match="Input/output error"):
        link.write(b"x")


def test_a_pulled_device_has_ended_and_other_faults_are_told(
    terminal: Terminal, resources: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = open_serial(terminal.device, 115_200)
    resources.callback(link.close)
    faults = [OSError(errno.EINVAL, "Invalid argument"), OSError(errno.EIO, "Input/output error")]

    def fail(*_: object) -> bytes:
        raise faults.pop(0)

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(OSError, match="Invalid argument"):
        link.read(10)
    assert link.read(10) == b""


def test_a_line_is_used_by_one_alone(terminal: Terminal, resources: ExitStack) -> None:
    link = open_serial(terminal.device, 115_200)
    resources.callback(link.close)
    with pytest.raises(OperatorError, match="another process uses it"):
        open_serial(terminal.device, 115_200)
    link.close()
    link.close()
    open_serial(terminal.device, 115_200).close()


def test_what_is_no_line(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is not there"):
        open_serial(str(tmp_path / "ttyUSB0"), 115_200)
    with pytest.raises(OperatorError, match="cannot be opened: Is a directory"):
        open_serial(str(tmp_path), 115_200)
    for device in ("/dev/null", str(regular_file(tmp_path))):
        with pytest.raises(OperatorError, match="is not a serial line"):
            open_serial(device, 115_200)


def test_a_serial_listener_gives_its_one_link_again_after_it_was_closed(terminal: Terminal) -> None:
    listener = open_listener(SerialAddress(device=terminal.device))
    assert select.select([listener], [], [], 0)[0]
    link = listener.accept()
    assert isinstance(link, SerialLink)
    assert link.fileno() != listener.fileno()
    assert listener.accept() is None
    link.close()
    again = listener.accept()
    assert again is not None
    assert again.read(1) is None
    again.close()
    listener.close()
    listener.close()


def test_a_serial_listener_says_when_its_device_is_gone(terminal: Terminal) -> None:
    listener = SerialListener(terminal.device, 115_200)
    link = listener.accept()
    assert link is not None
    link.close()
    terminal.hang_up()
    with pytest.raises(Unavailable, match="is not there"):
        listener.accept()
    listener.close()


def test_an_unused_serial_listener_gives_its_device_back(terminal: Terminal) -> None:
    SerialListener(terminal.device, 115_200).close()
    open_serial(terminal.device, 115_200).close()


def test_an_unknown_kind_of_address_is_our_own_fault() -> None:
    for use in (open_link, open_listener):
        with pytest.raises(InternalError, match="no such kind of address"):
            use(Address())


def regular_file(directory: Path) -> Path:
    made = directory / "file"
    made.touch()
    return made
