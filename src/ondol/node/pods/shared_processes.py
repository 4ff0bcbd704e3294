"""Pods whose containers see each other's processes (`shareProcessNamespace`): what holds their namespace.

The first process of a process namespace takes all others with it. So it is none of the pod's containers' but
one of its own, which does nothing (`runtime.pause`), confined as they are and with fewer rights than theirs.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

import anyio.to_thread

from ondol.api import objects
from ondol.base import errors, files
from ondol.node import linux
from ondol.node.pods.engines import Engines
from ondol.node.pods.machine import container_id
from ondol.node.pods.model import Spec
from ondol.node.runtime import pause, seccomp, spec
from ondol.node.runtime.port import Creation

KIND: Final = "pid"
_USER: Final = 65535
_OOM_SCORE: Final = -998


def is_shared(pod: Spec) -> bool:
    """Whether the pod has a process namespace of its own for all its containers."""
    return bool(objects.spec(pod).get("shareProcessNamespace")) and not objects.spec(pod).get("hostPID")


def identity(uid: str) -> str:
    """The id of the container that holds the namespace: no container of a pod has an empty name."""
    return container_id(uid, "", 0)


async def create(engines: Engines, pod: Spec, namespaces: dict[str, str]) -> None:
    """Begin it in the pod's other namespaces, and keep the new one where containers join it."""
    uid = objects.uid(pod)
    own = identity(uid)
    await remove(engines, uid)
    root = await anyio.to_thread.run_sync(_root, engines.config.run_dir / "pause")
    container = spec.Container(
        rootfs=str(root),
        args=["/pause"],
        cgroup=f"{engines.config.pod_cgroup(uid)}/{own}",
        user=spec.User(_USER, _USER),
        namespaces=namespaces,
        capabilities=(),
        seccomp=seccomp.default(()),
        read_only_root=True,
        no_new_privileges=True,
        oom_score_adj=max(_OOM_SCORE, engines.oom_score_adj),
        also_masked=engines.also_masked,
        also_read_only=engines.also_read_only,
    )
    log = engines.config.pod_dir(uid) / "pause.log"
    handle = await engines.runtime.create(Creation(own, spec.runtime_spec(container), log))
    try:
        await engines.runtime.start(handle)
        await anyio.to_thread.run_sync(_keep, handle.pid, engines.network.namespace_path(KIND, uid))
    except BaseException:
        await engines.runtime.delete(own)
        raise


async def remove(engines: Engines, uid: str) -> None:
    """End it; nothing happens where there is none."""
    if identity(uid) in engines.runtime.container_ids():
        await engines.runtime.delete(identity(uid))


def _root(folder: Path) -> Path:
    """A root with the program and nothing else; one for all pods, for nothing can be written to it."""
    program = pause.program()
    if program is None:
        raise errors.HostError(f"shareProcessNamespace is not supported on {platform.machine()}")
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    if not (folder / "pause").exists():
        files.replace(folder / "pause", program, durable=False)
        (folder / "pause").chmod(0o755)
    return folder


def _keep(pid: int, path: Path) -> None:
    path.touch(mode=0o600)
    linux.mount(f"/proc/{pid}/ns/{KIND}", str(path), flags=linux.MS_BIND)
