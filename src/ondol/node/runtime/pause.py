"""The program that holds a process namespace: it waits for ever, and the kernel buries its orphans.

It is the first process of pods whose containers share one namespace. Containers can look at it, so it is
nothing of the host's: a file of its own, a few instructions long, made here for the machine's processor.
"""

from __future__ import annotations

import platform
import struct
from typing import Final

_BASE: Final = 0x400000
_HEADERS_BYTES: Final = 64 + 56
_MACHINE: Final = {"x86_64": 62}
# rt_sigaction(SIGCHLD, {SIG_IGN}, NULL, 8); for (;;) pause(); the structure stands behind it, at 40.
_CODE: Final = {
    "x86_64": bytes.fromhex(
        "bf11000000 488d351c000000 31d2 41ba08000000 b80d000000 0f05 b822000000 0f05 ebf7"
    )
    + bytes(4)
    + struct.pack("<QQQQ", 1, 0, 0, 0)
}


def program(machine: str = "") -> bytes | None:
    """The executable file, for this machine's processor by default; None for one it is not written for."""
    name = machine or platform.machine()
    code = _CODE.get(name)
    if code is None:
        return None
    size = _HEADERS_BYTES + len(code)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH", 2, _MACHINE[name], 1, _BASE + _HEADERS_BYTES, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return identity + header + segment + code
