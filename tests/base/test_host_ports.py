"""Ports of the machine in use, as the kernel lists them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ondol.base import host_ports
from ondol.base.host_ports import HostPort

_HEAD = "  sl  local_address rem_address   st tx_queue\n"
_TCP = (
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1\n"
    "   1: 0100007F:C001 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 2\n"
    "   2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3\n"
)
_UDP = (
    "  10: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4 2 x 0\n"
    "  11: 0100007F:C002 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 5 2 x 0\n"
)
_TCP6 = (
    "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 6\n"
    "   1: 0000000000000000FFFF00000100007F:0051 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 7\n"
)
_SCTP = (
    " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS\n"
    "ffff8800 ffff8801 2   10  29   7777    0   8     10.0.0.5 127.0.0.1 \n"
)


def test_the_kernels_tables_are_read(tmp_path: Path) -> None:
    """Listening TCP, UDP that is not a client's, SCTP; connections are none of it."""
    for name, text in (("tcp", _HEAD + _TCP), ("udp", _HEAD + _UDP), ("tcp6", _HEAD + _TCP6)):
        (tmp_path / name).write_text(text)
    (tmp_path / "sctp").mkdir()
    (tmp_path / "sctp" / "eps").write_text(_SCTP)
    assert host_ports.in_use(tmp_path) == {
        HostPort("TCP", "127.0.0.1", 8080),
        HostPort("TCP", "0.0.0.0", 22),
        HostPort("UDP", "127.0.0.53", 53),
        HostPort("TCP", "::", 80),
        HostPort("TCP", "127.0.0.1", 81),
        HostPort("SCTP", "10.0.0.5", 7777),
        HostPort("SCTP", "127.0.0.1", 7777),
    }


def test_a_port_that_is_opened_here_is_in_use() -> None:
    """What this machine says of itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = HostPort("TCP", "127.0.0.1", server.getsockname()[1])
        assert place in host_ports.in_use()
    assert place not in host_ports.in_use()


@pytest.mark.parametrize(
    ("one", "other", "clashes"),
    [
        (("TCP", "", 80), ("TCP", "127.0.0.1", 80), True),
        (("TCP", "0.0.0.0", 80), ("TCP", "", 80), True),
        (("TCP", "::", 80), ("TCP", "10.0.0.1", 80), True),
        (("TCP", "10.0.0.1", 80), ("TCP", "10.0.0.1", 80), True),
        (("TCP", "10.0.0.1", 80), ("TCP", "10.0.0.2", 80), False),
        (("TCP", "", 80), ("UDP", "", 80), False),
        (("TCP", "", 80), ("TCP", "", 81), False),
    ],
)
def test_who_is_in_whose_way(one: tuple[str, str, int], other: tuple[str, str, int], clashes: bool) -> None:
    """Every address clashes with each one, whichever way round."""
    assert host_ports.clash([HostPort(*one)], [HostPort(*other)]) is clashes
    assert host_ports.clash([HostPort(*other)], [HostPort(*one)]) is clashes


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("", ()),
        ("80", (range(80, 81),)),
        (" 80 , 9000-9099,", (range(80, 81), range(9000, 9100))),
        ("1-65535", (range(1, 65536),)),
    ],
)
def test_ranges_of_ports(text: str, ports: tuple[range, ...]) -> None:
    """Ports and ranges, parted by commas."""
    assert host_ports.ranges(text) == ports


@pytest.mark.parametrize("text", ["http", "0", "65536", "9-1", "-5", "5-", "80-90-100", "80;81", "0-10"])
def test_what_is_no_range_of_ports(text: str) -> None:
    """A mistake is told, not passed over."""
    with pytest.raises(ValueError, match=r".+"):
        host_ports.ranges(text)
