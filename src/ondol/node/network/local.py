"""Which IPv4 addresses this machine has now, as its routing knows them (`/proc/net/fib_trie`)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_FILE: Final = Path("/proc/net/fib_trie")
_LEAF: Final = "|-- "
_LOCAL: Final = "/32 host LOCAL"


def addresses(file: Path = _FILE) -> frozenset[ipaddress.IPv4Address]:
    """All of them, loopback's aside; those of the network namespace of this process' first thread."""
    own = {ipaddress.IPv4Address(text) for text in _local(file.read_text(encoding="ascii"))}
    return frozenset(address for address in own if not address.is_loopback)


def _local(text: str) -> Iterator[str]:
    leaf = ""
    for line in text.splitlines():
        _, mark, address = line.partition(_LEAF)
        if mark:
            leaf = address.strip()
        elif _LOCAL in line:
            yield leaf
