"""How a container that runs is given another size: by its control group, through the runtime."""

from __future__ import annotations

import anyio.to_thread

from ondol.api import objects
from ondol.base import errors
from ondol.node.pods import planning
from ondol.node.pods.engines import Engines
from ondol.node.pods.model import Attempt, Spec
from ondol.node.runtime import cgroups


async def resize(engines: Engines, pod: Spec, container: Spec, attempt: Attempt) -> None:
    """As `Machine.resize_container`."""
    if attempt.handle is None:
        return
    limits = planning.limits(container, pod)
    group = f"{engines.config.pod_cgroup(objects.uid(pod))}/{attempt.id}"
    if limits.memory_limit_bytes is not None:
        usage = await anyio.to_thread.run_sync(cgroups.usage, group)
        if is_below(limits.memory_limit_bytes, usage, attempt):
            name, limit = container["name"], limits.memory_limit_bytes
            raise errors.HostError(
                f'attempting to set container "{name}" memory limit ({limit}) '
                f"below current usage ({usage.memory_bytes})"
            )
    await engines.runtime.update(attempt.handle, limits)


def is_below(limit: int, usage: cgroups.Usage, attempt: Attempt) -> bool:
    """Whether a limit that is lower than before, or new, is less than what is used."""
    before = planning.limits({"resources": attempt.resources or {}}).memory_limit_bytes
    return (before is None or limit < before) and usage.memory_bytes >= limit
