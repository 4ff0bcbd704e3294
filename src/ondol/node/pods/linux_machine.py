"""The machine as pods take it: Linux' namespaces, mounts, control groups and files, and its images.

Blocking system calls run in threads.
"""

from __future__ import annotations

import contextlib
import ipaddress
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

import anyio.to_thread

from ondol.api import dataplane, objects
from ondol.api.eviction_thresholds import Readings
from ondol.base import errors, files, log, trees
from ondol.node import config, linux
from ondol.node.images import rootfs
from ondol.node.images.pulling import Asker
from ondol.node.network import sandbox
from ondol.node.pods import (
    container_resize,
    container_setup,
    sandbox_setup,
    shared_processes,
    staging,
    storage,
)
from ondol.node.pods.engines import Engines
from ondol.node.pods.machine import Created
from ondol.node.pods.model import Attempt, Record, Spec
from ondol.node.pods.storage import Usage
from ondol.node.policy_rules import PolicyRules
from ondol.node.pressure import consumption, image_collection, readings
from ondol.node.pressure.ranking import Consumption
from ondol.node.runtime import cgroups
from ondol.node.volumes import registry
from ondol.node.volumes.volume import Payload, Place

_MESSAGE_MAX: Final = 4096
_LOG_TAIL_MAX: Final = 2048
_LOG_TAIL_READ: Final = 64 * 1024  # every line has a time and a stream before it
_LOG_TAIL_LINES: Final = 80
_GROUP_TRIES: Final = 250
_GROUP_POLL_S: Final = 0.02

_log = log.get("node.pod")


class LinuxMachine:
    """The `Machine` of a node that is root on its machine."""

    def __init__(self, engines: Engines, policies: PolicyRules) -> None:
        self._engines = engines
        self._policies = policies

    # Sandboxes

    async def set_up_sandbox(self, pod: Spec, *, redirect: bool) -> str:
        address = await sandbox_setup.create(self._engines, pod, redirect=redirect)
        if address:
            await self._policies.admit(pod, address)
        return address

    async def guard(self, pod: Spec, *, seals: bool) -> None:
        uid, captured = objects.uid(pod), dataplane.capture(objects.annotations(pod))
        network = self._engines.network
        await anyio.to_thread.run_sync(lambda: sandbox.guard(network, uid, captured, seals=seals))

    def has_sandbox(self, uid: str) -> bool:
        return sandbox.has_namespace(self._engines.network, uid)

    async def tear_down(self, uid: str) -> None:
        engines = self._engines

        def undo() -> None:
            sandbox.destroy(engines.network, uid)
            for point in linux.mounts_below(str(engines.config.pod_dir(uid))):
                linux.unmount(point)

        cgroups.kill(engines.config.pod_cgroup(uid))
        await shared_processes.remove(engines, uid)
        await anyio.to_thread.run_sync(undo)
        await self._policies.release(uid)
        engines.addresses.give_back(uid)
        engines.sources.forget(uid)

    # Volumes

    async def put_volume(
        self,
        pod: Spec,  # noqa: ARG002 - the port's
        spec: Spec,
        at: Place,
        files: Payload,
        *,
        is_refresh: bool,
    ) -> None:
        volume = registry.of(spec)
        await anyio.to_thread.run_sync(volume.refresh if is_refresh else volume.place, at, files)

    async def remove_volume(self, uid: str, spec: Spec, folder: Path) -> None:  # noqa: ARG002 - the port's
        await anyio.to_thread.run_sync(registry.of(spec).remove, folder)

    async def measured(self, pod: Spec, record: Record) -> Usage:
        config, roots = self._engines.config, self._engines.roots
        return await storage.measured(config, roots.root, pod, record)

    # What the machine is short of

    async def readings(self) -> Readings:
        config, memory_bytes = self._engines.config, self._engines.memory_bytes
        return await anyio.to_thread.run_sync(readings.measured, config.data_dir, memory_bytes)

    async def consumed(self, pod: Spec, record: Record, resource: str) -> Consumption:
        if resource == "ephemeral-storage":
            usage = await self.measured(pod, record)
            total = sum(usage.volumes.values()) + sum(usage.containers.values())
            return Consumption(total, usage.containers)
        config, roots = self._engines.config, self._engines.roots
        return await anyio.to_thread.run_sync(consumption.measured, config, roots.root, record, resource)

    async def free_images(self, used: Collection[str], *, is_urgent: bool) -> None:
        engines = self._engines
        now = engines.clock.monotonic()
        policy = engines.config.image_collection
        try:
            levels = await self.readings()
            level = levels.get("imagefs.available") or levels["nodefs.available"]
            bytes_ = sys.maxsize if is_urgent else image_collection.excess(level, policy)
            await engines.images.free(used, bytes_, policy, now)
        except (errors.OndolError, OSError, ValueError) as error:
            _log.warning("images_not_removed", error=str(error))

    # Containers

    async def create_container(
        self, pod: Spec, record: Record, name: str, number: int, asker: Asker
    ) -> Created:
        return await container_setup.create(self._engines, pod, record, name, number, asker=asker)

    def container_ended(self, pod: Spec, name: str, attempt: Attempt) -> None:
        self._engines.books.container_ended(pod, name, attempt)

    def pod_ended(self, pod: Spec) -> None:
        self._engines.books.pod_ended(pod)

    async def resize_container(self, pod: Spec, container: Spec, attempt: Attempt) -> None:
        await container_resize.resize(self._engines, pod, container, attempt)

    async def discard_container(self, container_id: str) -> None:
        await self._engines.runtime.delete(container_id)
        await anyio.to_thread.run_sync(rootfs.remove, self._engines.roots, container_id)

    def termination_message(self, pod: Spec, container: Spec, attempt: Attempt) -> str:
        config, uid = self._engines.config, objects.uid(pod)
        file = container_setup.termination_file(config, uid, container["name"], attempt.number)
        message = files.tail(file, _MESSAGE_MAX)
        is_failed = attempt.exit is not None and attempt.exit.code != 0
        if not message and container.get("terminationMessagePolicy") == "FallbackToLogsOnError" and is_failed:
            path = config.log_path(uid, container["name"], attempt.number)
            lines = files.tail(path, _LOG_TAIL_READ).splitlines()
            texts = [line.split(b" ", 3)[-1] for line in lines[-_LOG_TAIL_LINES:]]
            message = b"\n".join(texts)[-_LOG_TAIL_MAX:]
        return message.decode(errors="replace")

    def forget_attempt(self, uid: str, name: str, number: int) -> None:
        for file in self._engines.config.container_dir(uid, name).glob(f"{number}.*"):
            file.unlink()

    # Images

    async def has_image(self, reference: str) -> bool:
        return await self._engines.images.has(reference)

    @property
    def image_revision(self) -> int:
        return self._engines.images.revision

    # What is left

    async def remove_files(self, uid: str) -> None:
        engines = self._engines
        folder = engines.config.pod_dir(uid)

        def undo() -> None:
            for point in linux.mounts_below(str(folder)):
                linux.unmount(point)
            trees.remove(folder)

        await self._remove_group(engines.config.pod_cgroup(uid))
        await anyio.to_thread.run_sync(undo)

    async def _remove_group(self, group: str) -> None:
        """All processes of the pod have ended; the kernel may take a while to see it on a busy machine."""
        for _ in range(_GROUP_TRIES):
            if await anyio.to_thread.run_sync(cgroups.remove, group):
                return
            await anyio.to_thread.run_sync(cgroups.kill, group)
            await self._engines.clock.sleep(_GROUP_POLL_S)
        _log.warning("group_not_removed", group=group)

    async def adopt(self, records: Mapping[str, Record], pods: Collection[str]) -> None:
        engines = self._engines
        await self._remove_orphan_containers(records)
        folder = engines.config.data_dir / "pods"
        for uid in [entry.name for entry in folder.iterdir()] if folder.exists() else []:
            if uid not in records and uid not in pods:
                with _orphan(pod=uid):
                    await self.remove_files(uid)
        await self._remove_orphan_groups({*records, *pods})
        for uid in sandbox.existing(engines.network):
            if uid not in records:
                with _orphan(sandbox=uid):
                    await anyio.to_thread.run_sync(sandbox.destroy, engines.network, uid)
        for uid in engines.addresses.owners():
            if uid not in records and uid not in pods:
                with _orphan(address=uid):
                    engines.addresses.give_back(uid)
        for record in records.values():
            if record.has_sandbox and record.address:
                engines.addresses.reserve(record.uid, ipaddress.IPv4Address(record.address))
                self._policies.adopt(record)

    async def _remove_orphan_groups(self, pods: Collection[str]) -> None:
        engines = self._engines
        for name in await anyio.to_thread.run_sync(cgroups.below, engines.config.cgroup):
            uid = name.removeprefix(config.POD_GROUP)
            if uid != name and uid not in pods:
                await self._remove_group(engines.config.pod_cgroup(uid))

    async def _remove_orphan_containers(self, records: Mapping[str, Record]) -> None:
        """What the runtime and the image store still have of containers that no record names."""
        engines = self._engines
        attempts = [each.current for record in records.values() for each in record.containers.values()]
        current = {attempt.id for attempt in attempts if attempt is not None and attempt.exit is None}
        current |= {shared_processes.identity(uid) for uid, record in records.items() if record.has_sandbox}
        for staged in staging.existing(engines.config.run_dir):
            await anyio.to_thread.run_sync(staged.give_back)
        for identity in engines.runtime.container_ids():
            if identity not in current:
                with _orphan(container=identity):
                    await self.discard_container(identity)
        for identity in rootfs.existing(engines.roots):
            if identity not in current:
                with _orphan(root=identity):
                    await anyio.to_thread.run_sync(rootfs.remove, engines.roots, identity)


@contextlib.contextmanager
def _orphan(**name: str) -> Iterator[None]:
    """What belongs to nobody and cannot be removed now is left to the next start of the node."""
    try:
        yield
    except (errors.OndolError, OSError) as error:
        _log.warning("orphan_not_removed", error=str(error), **name)
