"""Whose process is at the other end of a TCP connection within this machine, as the kernel has it."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path
from typing import Final

_TABLE: Final = Path("/proc/net/tcp")
_LOCAL, _REMOTE, _UID, _INODE = 1, 2, 7, 9
"""Columns of the table (proc_net_tcp in the kernel's documentation)."""


def is_ours(connection: socket.socket) -> bool:
    """Whether the other end is of this process's user, or of root.

    Ask once the other end has sent something: until it has taken the connection the kernel names nobody.
    """
    return owner(connection) in (0, os.geteuid())


def owner(connection: socket.socket) -> int | None:
    """The user of the other end of an IPv4 connection; None if the kernel does not say."""
    ends = _written(connection.getpeername()), _written(connection.getsockname())
    for line in _TABLE.read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        if (words[_LOCAL], words[_REMOTE]) == ends and words[_INODE] != "0":
            return int(words[_UID])
    return None


def _written(end: tuple[str, int]) -> str:
    """An address and a port as the table has them."""
    (number,) = struct.unpack("=I", socket.inet_aton(end[0]))
    return f"{number:08X}:{end[1]:04X}"
