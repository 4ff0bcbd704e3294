"""The machine as a Node object, and its heartbeat.

The object is made once and corrected when it differs; after that a Lease says every ten seconds
that the node lives, and the status is written only when a condition or a figure is other than the API
has it: changed here, or by the control plane while nothing was heard of this node.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ondol.api import conditions, objects, release, resources
from ondol.api.objects import Object
from ondol.base import clock as time
from ondol.base import errors, files, log
from ondol.base.backoff import Backoff
from ondol.base.clock import Clock
from ondol.client import Client
from ondol.node.config import NodeConfig
from ondol.node.images.store import ImageCorrupt, ImageStore, Stored
from ondol.sdk.status import Writer

_LEASE_NAMESPACE: Final = "kube-node-lease"
_LEASE_DURATION_S: Final = 40
_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_IMAGES_MAX: Final = 50
_AGAIN: Final = Backoff(initial_s=0.2, maximum_s=7.0)
"""After a failed heartbeat, as the kubelet tries its lease again: a node falls silent by an API that is away
for the lease's whole length, never by a few requests that were lost."""
_CONDITIONS: Final = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")

_log = log.get("node.registration")


@dataclass(frozen=True, slots=True)
class Machine:
    """What is measured of the machine."""

    cpus: int
    memory_bytes: int
    disk_bytes: int
    machine_id: str
    boot_id: str
    kernel: str
    os_image: str
    architecture: str
    hostname: str
    images: tuple[Stored, ...] = ()


def swap_bytes() -> int:
    """The machine's swap."""
    return _memory().get("SwapTotal", 0)


def measured(data_dir: Path) -> Machine:
    memory = _memory()
    disk = shutil.disk_usage(data_dir)
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=memory["MemTotal"],
        disk_bytes=disk.total,
        machine_id=_text("/etc/machine-id"),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        kernel=platform.release(),
        os_image=_os_image(),
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        hostname=platform.node(),
        images=_images(data_dir),
    )


def _images(data_dir: Path) -> tuple[Stored, ...]:
    """The largest images, read again only when the store's index is another one."""
    folder = data_dir / "images"
    try:
        index = (folder / "index.json").stat()
        return _listed(folder, index.st_mtime_ns, index.st_ino)
    except FileNotFoundError:
        return ()
    except ImageCorrupt as error:
        _log.warning("images_not_listed", error=str(error))
        return ()


@functools.lru_cache(maxsize=1)
def _listed(folder: Path, _changed_ns: int, _inode: int) -> tuple[Stored, ...]:
    return tuple(ImageStore(folder).stored()[:_IMAGES_MAX])


def _text(path: str) -> str:
    return (files.read(Path(path)) or b"").decode(errors="replace").strip()


def _memory() -> dict[str, int]:
    rows = (line.split() for line in _text("/proc/meminfo").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def _os_image() -> str:
    for line in _text("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return "Linux"


def capacity(machine: Machine, max_pods: int) -> dict[str, str]:
    return {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory_bytes // 1024}Ki",
        "ephemeral-storage": f"{machine.disk_bytes // 1024}Ki",
        "pods": str(max_pods),
    }


def node(config: NodeConfig, machine: Machine) -> Object:
    """The Node without its status."""
    labels = {
        "kubernetes.io/hostname": config.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": machine.architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": machine.architecture,
        "node-role.kubernetes.io/control-plane": "",
        **config.labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.name, "labels": labels},
        "spec": {"podCIDR": config.pod_cidr, "podCIDRs": [config.pod_cidr]},
    }


def status(
    config: NodeConfig,
    machine: Machine,
    *,
    runtime: str,
    now: float,
    previous: list[Mapping[str, Any]],
    shortages: Collection[str] = (),
) -> Object:
    """`shortages`: the conditions that are true, of those that say what the machine is short of."""
    whole = capacity(machine, config.max_pods)
    return {
        "capacity": whole,
        "allocatable": whole,
        "addresses": [
            {"type": "InternalIP", "address": config.host_ip},
            {"type": "Hostname", "address": config.name},
        ],
        "images": [{"names": list(image.names), "sizeBytes": image.size_bytes} for image in machine.images],
        # None: the node's own interface is a socket of this machine.
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.machine_id,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel,
            "osImage": machine.os_image,
            "containerRuntimeVersion": runtime,
            "kubeletVersion": release.VERSION,
            "kubeProxyVersion": release.VERSION,
            "operatingSystem": "linux",
            "architecture": machine.architecture,
        },
        "conditions": _conditions(shortages, now, previous),
    }


_SHORTAGES: Final = {
    "MemoryPressure": (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}
"""Reason and message while a condition is true, and while it is not; the kubelet's."""


def _conditions(shortages: Collection[str], now: float, previous: list[Mapping[str, Any]]) -> list[Object]:
    listed = own_conditions(previous)
    for name, (bad, good) in _SHORTAGES.items():
        state: conditions.Status = "True" if name in shortages else "False"
        reason, message = bad if name in shortages else good
        listed = conditions.set(listed, name, state, reason=reason, message=message, now=now)
    return conditions.set(
        listed, "Ready", "True", reason="KubeletReady", message="the node is posting ready status", now=now
    )


def own_conditions(listed: Iterable[Mapping[str, Any]]) -> list[Object]:
    """Those this node answers for; others keep theirs."""
    return [dict(condition) for condition in listed if condition.get("type") in _CONDITIONS]


def reports(node: Object, desired: Object) -> bool:
    """Whether the Node's status says all that is wanted; of an empty list it says nothing."""
    reported = {**objects.status(node), "conditions": own_conditions(conditions.of(node))}
    return all((reported.get(name) or []) == (value or []) for name, value in desired.items())


def stamped(status: Object, now: float) -> Object:
    """The status as it is written now: its conditions were looked at at this moment."""
    beat = {"lastHeartbeatTime": time.rfc3339(now)}
    return {**status, "conditions": [{**c, **beat} for c in status["conditions"]]}


def lease(config: NodeConfig, owner: Mapping[str, Any], now: float) -> Object:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": config.name,
            "namespace": _LEASE_NAMESPACE,
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": config.name, "uid": objects.uid(owner)}
            ],
        },
        "spec": {
            "holderIdentity": config.name,
            "leaseDurationSeconds": _LEASE_DURATION_S,
            "renewTime": time.rfc3339_micro(now),
        },
    }


def next_beat_s(failures: int, interval_s: float) -> float:
    """Seconds to the next heartbeat after that many failures in a row."""
    return min(_AGAIN.delay_s(failures), interval_s) if failures else interval_s


class Registration:
    """Keeps the Node object and its Lease; `register` once, then `keep` for ever."""

    def __init__(
        self,
        config: NodeConfig,
        client: Client,
        clock: Clock,
        *,
        runtime: str,
        conditions: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """`conditions`: what the machine is short of, as `status` takes it."""
        self._shortages = conditions
        self._config = config
        self._client = client
        self._status = Writer(
            client, resources.NODE, field_manager=client.field_manager, conditions=_CONDITIONS
        )
        self._clock = clock
        self._runtime = runtime
        self._node: Object = {}
        self._is_introduced = False

    async def register(self) -> Object:
        """The Node as the API server has it.

        Where it takes no writes (its disk is full, say) a node that it knows from before will do: its
        pods are driven all the same, and `keep` makes up for the rest.
        """
        try:
            await self._introduce()
        except errors.Unavailable as error:
            self._node = await self._registered_before(error)
            _log.warning("node_not_registered", error=str(error))
        return self._node

    async def _introduce(self) -> None:
        self._is_introduced = False
        machine = measured(self._config.data_dir)
        desired = node(self._config, machine)
        try:
            self._node = await self._client.create(resources.NODE, desired)
        except errors.AlreadyExists:
            patch = {"metadata": {"labels": desired["metadata"]["labels"]}, "spec": desired["spec"]}
            self._node = await self._client.patch(resources.NODE, self._config.name, patch=patch)
        await self._write_status(machine)
        await self._renew()
        self._is_introduced = True

    async def _registered_before(self, refusal: errors.Unavailable) -> Object:
        try:
            return await self._client.get(resources.NODE, self._config.name)
        except errors.NotFound:
            raise refusal from None

    async def keep(self) -> None:
        """Renew for ever; an API server that is away is waited for."""
        since_status = 0.0
        failures = 0
        while True:
            wait_s = next_beat_s(failures, self._config.lease_interval_s)
            await self._clock.sleep(wait_s)
            since_status += wait_s
            is_due = since_status >= self._config.housekeeping_interval_s
            since_status = 0.0 if is_due else since_status
            try:
                await self._beat(is_status_due=is_due)
                failures = 0
            except errors.ApiError as error:
                failures += 1
                _log.warning("heartbeat_failed", error=str(error))

    async def _beat(self, *, is_status_due: bool) -> None:
        if not self._is_introduced:
            await self._introduce()
            return
        try:
            await self._renew()
            if is_status_due:
                await self._look_again()
        except errors.NotFound:
            await self._introduce()

    async def _look_again(self) -> None:
        """At the machine, and at what the API says of it: a node that was silent was called unknown."""
        self._node = await self._client.get(resources.NODE, self._config.name)
        await self._write_status(measured(self._config.data_dir))

    async def _write_status(self, machine: Machine) -> None:
        """Only when something besides free memory and disk has changed.

        The time of the heartbeat alone is no change: that the node lives is what its Lease says.
        """
        now = self._clock.now()
        desired = status(
            self._config,
            machine,
            runtime=self._runtime,
            now=now,
            previous=list(conditions.of(self._node)),
            shortages=self._shortages(),
        )
        if reports(self._node, desired):
            return
        self._node = await self._status.write(self._node, stamped(desired, now)) or self._node

    async def _renew(self) -> None:
        now = self._clock.now()
        try:
            renewal = {"spec": {"renewTime": time.rfc3339_micro(now), "holderIdentity": self._config.name}}
            await self._client.patch(resources.LEASE, self._config.name, _LEASE_NAMESPACE, patch=renewal)
        except errors.NotFound:
            await self._client.create(resources.LEASE, lease(self._config, self._node, now))
