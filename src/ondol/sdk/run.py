"""The main of an operator's process: find the API server, install the kinds, run until told to stop."""

from __future__ import annotations

import os
import signal
from typing import Any

import anyio

from ondol.base import errors, log
from ondol.client import Client, in_cluster, kubeconfig
from ondol.sdk.install import install_crds
from ondol.sdk.leader import Lease
from ondol.sdk.manager import Manager
from ondol.sdk.operator import Operator


def run(
    *operators: Operator[Any], install: bool = True, lease: Lease | None = None, level: str = "info"
) -> None:
    """Run operators until SIGTERM or SIGINT; what is being reconciled is finished first.

    In a pod the service account is used, elsewhere `$KUBECONFIG` or `~/.kube/config`. `install`
    applies the operators' definitions first; `lease` lets several copies run, of which one acts.
    Without an API server to be found it says so in a line and ends the process with 1.
    """
    log.configure(level=level)
    try:
        client = _client(operators[0].identity())
    except errors.HostError as error:
        remedy = f"\n  try: {error.remedy}" if error.remedy else ""
        raise SystemExit(f"error: {error}{remedy}") from None
    anyio.run(_main, client, operators, install, lease)


async def _main(
    client: Client, operators: tuple[Operator[Any], ...], install: bool, lease: Lease | None
) -> None:
    try:
        if install:
            await install_crds(client, [operator.resource_type for operator in operators])
        identity = f"{operators[0].identity()}-{os.uname().nodename}-{os.getpid()}" if lease else ""
        manager = Manager(client, identity=identity, lease=lease)
        for operator in operators:
            operator.add_to(manager)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_on_signal, manager)
            await manager.run()
            tasks.cancel_scope.cancel()
    finally:
        await client.aclose()


def _client(name: str) -> Client:
    if kubeconfig.in_pod(os.environ):
        return in_cluster(field_manager=name)
    return kubeconfig.from_kubeconfig(kubeconfig.default_paths(os.environ), field_manager=name)


async def _stop_on_signal(manager: Manager) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async for _ in received:
            manager.stop()
            return
