"""Link addresses: what is read, and what the operator is told about the rest."""

from __future__ import annotations

import pytest

from cassiopeia.errors import OperatorError
from cassiopeia.link.address import SerialAddress, TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/cassiopeia/link", UnixAddress(path="/run/cassiopeia/link")),
        ("unix:var/a:b", UnixAddress(path="var/a:b")),
        ("tcp:127.0.0.1:4000", TcpAddress(host="127.0.0.1", port=4000)),
        ("tcp:[::1]:65535", TcpAddress(host="::1", port=65535)),
        ("serial:/dev/ttyS0?baud=9600", SerialAddress(device="/dev/ttyS0", baud=9600)),
        ("serial:/dev/pts/3?baud=115200", SerialAddress(device="/dev/pts/3")),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, address: object) -> None:
    assert parse_address(text) == address
    assert str(address) == text


def test_a_serial_line_has_115200_baud_by_default_and_is_the_only_serial_link() -> None:
    address = parse_address("serial:/dev/ttyS0")
    assert address == SerialAddress(device="/dev/ttyS0", baud=115_200)
    assert address.is_serial
    assert not parse_address("unix:/x").is_serial
    assert not parse_address("tcp:127.0.0.1:1").is_serial


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no link address: write unix:PATH, tcp:HOST:PORT or serial:DEVICE"),
        ("http://x", "is no link address"),
        ("unix:", "names no socket: write unix:PATH"),
        ("unix:/" + "x" * 107, "is too long: the system allows 107 octets"),
        ("unix:/a\0b", "holds no NUL character"),
        ("tcp:127.0.0.1", "write tcp:127.0.0.1:PORT"),
        ("tcp:127.0.0.1:0", "write tcp:127.0.0.1:PORT"),
        ("tcp:127.0.0.1:65536", "write tcp:127.0.0.1:PORT"),
        ("tcp:::1:4000", "write tcp:127.0.0.1:PORT"),
        ("tcp:localhost:4000", "the host must be an IP address"),
        ("tcp:127.1:4000", "the host must be an IP address"),
        ("tcp:[127.0.0.1]:4000", "the host must be an IP address"),
        ("serial:", "write serial:/dev/DEVICE"),
        ("serial:?baud=9600", "write serial:/dev/DEVICE"),
        ("serial:/dev/ttyS0?speed=9600", "write serial:/dev/DEVICE"),
        ("serial:/dev/ttyS0?baud=", "write serial:/dev/DEVICE"),
        ("serial:/dev/ttyS0?baud=0", "no line speed 0; it has 50, 75, 110,"),
        ("serial:/dev/ttyS0?baud=115201", "no line speed 115201"),
    ],
)
def test_what_is_wrong_with_an_address(text: str, said: str) -> None:
    with pytest.raises(OperatorError) as refused:
        parse_address(text)
    assert said in str(refused.value)


def test_the_longest_path_of_a_socket_is_measured_in_octets() -> None:
    assert parse_address("unix:" + "x" * 107) == UnixAddress(path="x" * 107)
    with pytest.raises(OperatorError, match="too long"):
        parse_address("unix:" + "ä" * 54)
