"""The resolvers of this machine, as its `resolv.conf` has them now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ondol.base import addresses, files
from ondol.node.config import NodeConfig
from ondol.node.pods import etc

_FILE: Final = Path("/etc/resolv.conf")
_BEHIND_A_STUB: Final = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved keeps the servers behind its own, which listens on loopback."""


def host_file(file: Path = _FILE, behind: Path = _BEHIND_A_STUB) -> str:
    """The text; that behind a resolver on loopback, if there is one, for no pod reaches loopback."""
    text = _text(file)
    servers = etc.parse_resolv_conf(text)[0]
    if servers and all(map(addresses.is_special, servers)):
        return _text(behind) or text
    return text


def _text(path: Path) -> str:
    return (files.read(path) or b"").decode(errors="replace")


def servers(config: NodeConfig) -> Callable[[], Sequence[str]]:
    """Who is asked for names outside: those of the settings, else the machine's, but never ourselves."""
    own = str(config.gateway)
    if config.upstream_dns:
        return lambda: config.upstream_dns
    kept: tuple[object, tuple[str, ...]] = (None, ())

    def current() -> Sequence[str]:
        nonlocal kept
        if (stamp := _stamp()) != kept[0]:
            listed = etc.parse_resolv_conf(host_file())[0]
            kept = stamp, tuple(server for server in listed if server != own)
        return kept[1]

    return current


def _stamp() -> object:
    try:
        status = _FILE.stat()
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_ino, status.st_size
