"""Which API server a command speaks to, and the options that say it.

The platform of `--data-dir` (or `ONDOL_DATA_DIR`) if one is named; otherwise the kubeconfig that kubectl
would take from `--kubeconfig` or `$KUBECONFIG`; otherwise the platform of the default data directory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ondol import client as clients
from ondol.base import errors
from ondol.cli import terminal
from ondol.client import kubeconfig
from ondol.compose import instance as instances
from ondol.compose import platform, settings
from ondol.compose.instance import Instance

KubeconfigOption = Annotated[
    str,
    typer.Option(
        "--kubeconfig",
        envvar="KUBECONFIG",
        help="Kubeconfig of any Kubernetes API; a data directory that is named goes before it.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Connection:
    """An administrator's or user's client, and the namespace that its kubeconfig names."""

    client: clients.Client
    namespace: str


def connect(data_dir: Path | None, kubeconfig_paths: str = "", namespace: str = "") -> Connection:
    """Connect as the options say; `namespace` goes before the one of the kubeconfig's context."""
    paths = _kubeconfigs(data_dir, kubeconfig_paths)
    client = clients.from_kubeconfig(paths)
    client.on_warning = lambda text: terminal.note(f"warning: {text}")
    return Connection(client, namespace or kubeconfig.current_namespace(paths) or "default")


def to_platform(data_dir: Path | None) -> clients.Client:
    """A client of the platform on a data directory, whatever the kubeconfig."""
    instance = platform.require_running(settings.load(data_dir).data_dir)
    return clients.from_kubeconfig(instance.kubeconfig)


def platform_of(data_dir: Path | None, kubeconfig_paths: str) -> Instance:
    """The running platform on this machine that the options name, for what is asked beside the API."""
    if data_dir is not None or not kubeconfig_paths:
        return platform.require_running(settings.load(data_dir).data_dir)
    server = kubeconfig.current_server(_split(kubeconfig_paths))
    for instance in instances.on_this_machine():
        if instance.api_url == server and platform.supervisor_pid(instance) is not None:
            return instance
    raise errors.NotRunning(
        f"{server} of {kubeconfig_paths} is no platform that runs on this machine",
        remedy=f"{'run with sudo, and ' if os.geteuid() else ''}name its folder with --data-dir",
    )


def _kubeconfigs(data_dir: Path | None, kubeconfig_paths: str) -> Sequence[Path]:
    if data_dir is None and kubeconfig_paths:
        return _split(kubeconfig_paths)
    return [platform.require_running(settings.load(data_dir).data_dir).kubeconfig]


def _split(kubeconfig_paths: str) -> list[Path]:
    return [Path(part).expanduser() for part in kubeconfig_paths.split(os.pathsep) if part]
