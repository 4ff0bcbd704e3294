"""What pods hold on this disk against what they may: volumes, writable layers and logs.

Nothing stops a container from writing, so the node looks from time to time and evicts the pod that has
gone beyond a limit, as the kubelet does (its local storage eviction).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from ondol.api import objects
from ondol.base import quantity
from ondol.node import pod_spec
from ondol.node.config import NodeConfig
from ondol.node.pods.model import Record, Spec

_RESOURCE: Final = "ephemeral-storage"
_BLOCK_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes on the disk by name: of emptyDirs, and of containers with their logs."""

    volumes: Mapping[str, int] = field(default_factory=dict)
    containers: Mapping[str, int] = field(default_factory=dict)


def is_limited(pod: Spec) -> bool:
    """Whether it is worth a look: most pods may hold what the disk gives."""
    limits = [_limit(container) for container in pod_spec.all_containers(pod)]
    return any(True for _ in _bounded(pod)) or any(limit is not None for limit in limits)


def excess(pod: Spec, usage: Usage) -> str:
    """What goes beyond its limit, in the kubelet's words; empty when nothing does."""
    for volume, limit in _bounded(pod):
        if usage.volumes.get(volume, 0) > quantity.bytes_of(limit):
            return f'Usage of EmptyDir volume "{volume}" exceeds the limit "{limit}".'
    limits = {str(c["name"]): _limit(c) for c in pod_spec.all_containers(pod)}
    for name, limit in limits.items():
        if limit is not None and usage.containers.get(name, 0) > quantity.bytes_of(limit):
            return f'Container {name} exceeded its local ephemeral storage limit "{limit}".'
    apps = [limits[str(c["name"])] for c in pod_spec.app_containers(pod)]
    if any(limit is None for limit in apps):
        return ""
    total = sum(quantity.bytes_of(limit) for limit in apps if limit is not None)
    if sum(usage.volumes.values()) + sum(usage.containers.values()) > total:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {total} bytes."
    return ""


def _limit(container: Spec) -> Any:
    return ((container.get("resources") or {}).get("limits") or {}).get(_RESOURCE)


def _on_disk(pod: Spec) -> Iterator[Spec]:
    for volume in objects.spec(pod).get("volumes") or ():
        if "emptyDir" in volume and (volume["emptyDir"] or {}).get("medium") != "Memory":
            yield volume


def _bounded(pod: Spec) -> Iterator[tuple[str, Any]]:
    for volume in _on_disk(pod):
        limit = (volume["emptyDir"] or {}).get("sizeLimit")
        if limit and quantity.parse(limit):
            yield str(volume["name"]), limit


async def measured(config: NodeConfig, roots: Path, pod: Spec, record: Record) -> Usage:
    """What the pod holds in its own folder and in the writable layers below `roots`."""
    uid = record.uid
    volumes = {str(v["name"]): [config.volume_dir(uid, str(v["name"]))] for v in _on_disk(pod)}
    containers = {
        name: [config.container_dir(uid, name), roots / container.current.id / "upper"]
        for name, container in record.containers.items()
        if container.current is not None
    }

    def look() -> Usage:
        return Usage(
            *({n: sum(map(size_bytes, p)) for n, p in each.items()} for each in (volumes, containers))
        )

    return await anyio.to_thread.run_sync(look)


def size_bytes(folder: Path) -> int:
    """What is stored below a folder, each file once; other file systems mounted there are not its own."""
    return sum(entry.st_blocks * _BLOCK_BYTES for entry in _entries(folder))


def files(folder: Path) -> int:
    """How many files and folders are below a folder."""
    return sum(1 for _ in _entries(folder))


def _entries(folder: Path) -> Iterator[os.stat_result]:
    try:
        device = folder.lstat().st_dev
    except FileNotFoundError:
        return
    seen = set[int]()
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            try:
                entry = os.lstat(os.path.join(place, name))  # noqa: PTH118 - a walk of many files
            except FileNotFoundError:  # gone since it was listed
                continue
            if entry.st_dev == device and entry.st_ino not in seen:
                seen.add(entry.st_ino)
                yield entry
