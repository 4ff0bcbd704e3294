"""The node agent: runs the pods bound to this machine with containers, networks, volumes and probes.

From outside: `NodeConfig` with `restart_backoff` and `Policy` (of images), the port `ImageSource`, `run`,
which is the agent, and `cleanup`, which removes an instance's traces from the host.
"""

from __future__ import annotations

import anyio
from anyio.abc import TaskStatus

from ondol.base import metrics
from ondol.base.clock import Clock
from ondol.base.listeners import NONE, Listeners
from ondol.client import Client
from ondol.node.config import NodeConfig, restart_backoff
from ondol.node.images.pulling import ImageSource
from ondol.node.pressure.image_collection import Policy

__all__ = ["ImageSource", "NodeConfig", "Policy", "cleanup", "restart_backoff", "run"]


async def run(
    config: NodeConfig,
    client: Client,
    clock: Clock,
    *,
    images: ImageSource | None = None,
    page: metrics.Page | None = None,
    provisioner: Client | None = None,
    listeners: Listeners = NONE,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Be this machine's node until cancelled; `started` once the node is registered and pods are driven.

    What it counts is added to `page`. Images that are not here come by `images`, or not at all. With the
    client of a `provisioner` it makes volumes for claims, too. The name server's sockets are those that
    `listeners` kept of a former agent.
    """
    from ondol.node import agent  # noqa: PLC0415 - heavy: loaded only in the process that is the node

    await agent.run(
        config,
        client,
        clock,
        images=images,
        page=page,
        provisioner=provisioner,
        listeners=listeners,
        task_status=task_status,
    )


def cleanup(config: NodeConfig) -> None:
    """Remove every trace of the instance from this host, its pods included; blocks."""
    from ondol.node import agent  # noqa: PLC0415 - likewise

    agent.remove(config)
