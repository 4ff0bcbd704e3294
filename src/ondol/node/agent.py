"""The node agent: finds what an earlier one left, registers the node, runs a worker for each pod.

`run` is the whole of it. Pods, their names and their addresses go on while it is away; a new agent
takes them up from the disk and the runtime.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import ipaddress
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from ondol import sdk
from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors, log, metrics
from ondol.base.clock import Clock, rfc3339
from ondol.client import Client
from ondol.node import files, linux, logs, registration, usage, web
from ondol.node.config import NodeConfig
from ondol.node.dns.server import CacheView, DnsServer
from ondol.node.images import rootfs
from ondol.node.images.images import Images, ImageSource
from ondol.node.images.store import ImageCorrupt
from ondol.node.network import ipam, sandbox
from ondol.node.pods import admission, decide, etc, model, staging, status, steps, storage, volumes
from ondol.node.pods.host import Host, read_records
from ondol.node.pods.model import Attempt, Container, Record
from ondol.node.pods.sources import Sources
from ondol.node.pods.worker import PodWorker
from ondol.node.runtime import bpf, cgroups, learn, oci, seccomp, spec
from ondol.node.runtime.port import Runtime
from ondol.node.service_rules import ServiceRules

_WORKER_RETRY_S: Final = 5.0
_COLLECTION_INTERVAL_S: Final = 300.0

_log = log.get("node")


async def run(
    config: NodeConfig,
    client: Client,
    clock: Clock,
    *,
    images: ImageSource | None = None,
    page: metrics.Page | None = None,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Be this machine's node until cancelled; `started` once the node is registered and pods are driven."""
    if os.geteuid() != 0:
        raise errors.HostError("the node needs root: namespaces and mounts", remedy="run as root")
    with _full_disk_told(config):
        config.data_dir.mkdir(parents=True, exist_ok=True)
    manager = sdk.Manager(client, clock=clock, rng=random.Random(), identity="kubelet")  # noqa: S311 - jitter only
    network = _network(config)
    await anyio.to_thread.run_sync(sandbox.prepare_host, network, _living(config, network))
    folders = oci.Folders(config.data_dir, config.run_dir)
    with _full_disk_told(config):
        runtime = await learn.working(folders, clock, config.cgroup, config.runtime)
        host = _host(config, manager, runtime, network, images)
    agent = Agent(host, manager)
    if page is not None:
        page.add(manager.metrics)
        page.add(lambda: usage.families(agent.summary()))
    await agent.run(task_status=task_status)


@contextlib.contextmanager
def _full_disk_told(config: NodeConfig) -> Iterator[None]:
    """Where the node cannot begin without a file, say so in words."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        place = error.filename or config.data_dir
        raise errors.HostError(
            f"the disk is full: no space left for the node's data at {place}", remedy="free some space there"
        ) from error


def remove(config: NodeConfig) -> None:
    """Stop every container and take every trace of the instance off this host. Blocks.

    What pods wrote (logs, emptyDirs) stays in the data directory with their records: a later start
    goes on as after a reboot.
    """
    for entry in _kept_containers(config):
        cgroups.kill(f"{config.cgroup}/{entry}")
    cgroups.kill(config.cgroup)
    for folder in (config.data_dir, config.run_dir):
        for point in linux.mounts_below(str(folder)):
            linux.unmount(point)
    sandbox.remove_host(_network(config))
    _await_empty(config.cgroup)
    for path in (
        config.run_dir,
        config.data_dir / "rootfs",
        config.data_dir / "containers",
        config.data_dir / "exits",
    ):
        shutil.rmtree(path, ignore_errors=True)
    for record in read_records(config.data_dir):
        path = config.pod_dir(record.uid) / "record.json"
        try:
            files.write(path, msgspec.json.encode(msgspec.structs.replace(record, boot="")))
        except OSError as error:  # a full disk, say: the next start sees that its namespaces are gone
            _log.warning("record_not_renewed", pod=f"{record.namespace}/{record.name}", error=str(error))


def _kept_containers(config: NodeConfig) -> list[str]:
    path = config.data_dir / "pods"
    return [f"pod{entry.name}" for entry in path.iterdir()] if path.exists() else []


def _await_empty(group: str) -> None:
    for _ in range(100):
        cgroups.kill(group)
        if cgroups.remove(group):
            return
        time.sleep(0.05)


def _living(config: NodeConfig, network: sandbox.Network) -> dict[str, ipaddress.IPv4Address]:
    """The addresses of the pods whose sandboxes an earlier agent made and that still stand, by uid."""
    return {
        record.uid: ipaddress.IPv4Address(record.address)
        for record in read_records(config.data_dir)
        if record.has_sandbox and record.address and sandbox.is_kept(network, record.uid)
    }


def _network(config: NodeConfig) -> sandbox.Network:
    return sandbox.Network(
        config.instance,
        config.bridge,
        config.gateway,
        config.pods,
        config.run_dir,
        config.services,
        config.mtu,
    )


def _host(
    config: NodeConfig,
    manager: sdk.Manager,
    runtime: Runtime,
    network: sandbox.Network,
    images: ImageSource | None,
) -> Host:
    machine = registration.measured(config.data_dir)
    return Host(
        config=config,
        client=manager.client,
        clock=manager.clock,
        recorder=manager.recorder,
        runtime=runtime,
        images=Images(config.data_dir, images),
        roots=rootfs.RootFolders(config.data_dir / "rootfs"),
        network=network,
        addresses=ipam.AddressPool(config.pods, config.data_dir / "addresses.json"),
        sources=Sources(manager, manager.clock),
        boot=linux.boot_id(),
        memory_bytes=machine.memory_bytes,
        allocatable=registration.capacity(machine, config.max_pods),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        kernel=os.uname().release,
        also_masked=tuple(map(str, Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle"))),
        also_read_only=tuple(map(str, cgroups.hierarchies())),
    )


class Agent:
    """The running parts; made by `run`."""

    def __init__(self, host: Host, manager: sdk.Manager) -> None:
        self._host = host
        self._manager = manager
        self._pods = manager.informer(resources.POD, field_selector=f"spec.nodeName={host.config.name}")
        self._slices = manager.informer(resources.ENDPOINT_SLICE)
        self._workers: dict[str, PodWorker] = {}
        self._tasks: TaskGroup | None = None
        self._services = ServiceRules(host, self._pods, self._slices)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        config = self._host.config
        sources = self._host.sources
        view = CacheView(sources.services, self._slices, sources.namespaces)
        upstream = config.upstream_dns or _host_resolvers(config)
        dns = DnsServer(config.cluster_domain, view, upstream, self._host.clock)
        runtime = self._host.runtime
        node = registration.Registration(
            config, self._host.client, self._host.clock, runtime=f"{runtime.name}://{runtime.version}"
        )
        application = web.application(self, self._host.clock, config.api_token)
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            await tasks.start(web.serve, application, config.api_socket)
            await tasks.start(dns.serve, str(config.gateway), config.dns_port)
            await node.register()
            self._listen()
            await tasks.start(functools.partial(_run_manager, self._manager))
            sources.start(tasks)
            with _full_disk_told(config):
                await self._take_up()
            tasks.start_soon(node.keep)
            self._services.changed()
            tasks.start_soon(self._services.keep)
            tasks.start_soon(self._keep_house)
            # The first pod does not wait for the filter that most containers have.
            usual = seccomp.default(spec.DEFAULT_CAPABILITIES)
            tasks.start_soon(anyio.to_thread.run_sync, bpf.compiled, usual)
            _log.info("node_started", node=config.name, runtime=runtime.name)
            task_status.started()

    # Pods

    def _listen(self) -> None:
        sources = self._host.sources
        sources.services.add_handler(lambda _old, _new: self._services.changed())
        self._slices.add_handler(self._services.slice_changed)
        self._pods.add_handler(self._services.pod_changed)
        sources.config_maps.add_handler(functools.partial(self._source_changed, 0))
        sources.secrets.add_handler(functools.partial(self._source_changed, 1))

    def _source_changed(self, which: int, old: Object | None, new: Object | None) -> None:
        changed = new or old or {}
        key = objects.key(changed)
        for worker in self._workers.values():
            is_named = key.name in volumes.references(worker.pod)[which]
            if is_named and objects.namespace(worker.pod) == key.namespace:
                worker.refresh_volumes()

    async def _take_up(self) -> None:
        """Match the disk, the runtime and the API: adopt what belongs to a pod, remove what does not."""
        records = {record.uid: self._current(record) for record in self._host.records()}
        pods = {objects.uid(pod): pod for pod in self._pods.lister.list()}
        await self._remove_orphans(records, pods)
        for record in records.values():
            if record.has_sandbox and record.address:
                self._host.addresses.reserve(record.uid, ipaddress.IPv4Address(record.address))
        for uid, pod in pods.items():
            self._begin(pod, records.get(uid))
        for uid, record in records.items():
            if uid not in pods:
                self._begin(_last_words(record), record)
                self._workers[uid].vanish()
        self._pods.add_handler(self._pod_changed)

    def _current(self, record: Record) -> Record:
        """The record as it is true now: nothing runs of what ran before the machine started anew."""
        is_kept = not record.address or sandbox.is_kept(self._host.network, record.uid)
        if record.boot == self._host.boot and (is_kept or not record.has_sandbox):
            return record
        renewed = model.rebooted(record, self._host.boot, self._host.clock.now())
        try:
            self._host.save(renewed)
        except OSError as error:  # a full disk, say: what it has leads here again
            _log.warning("record_not_renewed", pod=f"{record.namespace}/{record.name}", error=str(error))
        return renewed

    async def _remove_orphans(self, records: Mapping[str, Record], pods: Mapping[str, Object]) -> None:
        host = self._host
        attempts = [
            c.current for r in records.values() for c in r.containers.values() if c.current is not None
        ]
        kept = {attempt.id for attempt in attempts if attempt.exit is None}
        await self._remove_orphan_containers(kept)
        folder = host.config.data_dir / "pods"
        for uid in [entry.name for entry in folder.iterdir()] if folder.exists() else []:
            if uid not in records and uid not in pods:
                await steps.remove_files(host, uid)
        for uid in sandbox.existing(host.network):
            if uid not in records:
                await anyio.to_thread.run_sync(sandbox.destroy, host.network, uid)
        for uid in host.addresses.owners():
            if uid not in records and uid not in pods:
                host.addresses.give_back(uid)

    async def _remove_orphan_containers(self, kept: Collection[str]) -> None:
        """What the runtime and the image store still have of containers that no record keeps."""
        host = self._host
        for left in staging.existing(host.config.run_dir):
            await anyio.to_thread.run_sync(left.give_back)
        for identity in host.runtime.known():
            if identity not in kept:
                await steps.discard_container(host, identity)
        for identity in rootfs.existing(host.roots):
            if identity not in kept:
                await anyio.to_thread.run_sync(rootfs.remove, host.roots, identity)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            worker = self._workers.get(objects.uid(new))
            if worker is not None:
                worker.update(new)
            else:
                self._begin(new, None)
        if old is not None and (new is None or objects.uid(new) != objects.uid(old)):
            worker = self._workers.get(objects.uid(old))
            if worker is not None:
                worker.vanish()

    def _begin(self, pod: Object, record: Record | None) -> None:
        is_over = objects.status(pod).get("phase") in ("Succeeded", "Failed")
        if self._tasks is None or (is_over and record is None and not objects.is_deleting(pod)):
            return  # it has ended, and nothing of it is here: it must not run a second time
        worker = PodWorker(self._host, pod, record)
        if record is None and not objects.is_deleting(pod):
            self._admit(worker)
        self._workers[worker.uid] = worker
        self._tasks.start_soon(self._drive, worker)

    def _admit(self, worker: PodWorker) -> None:
        """Whoever names its node itself passes by the scheduler, but not by what the node takes.

        A pod that asked for more than there is would otherwise count with the scheduler for as long as it
        likes, and no other pod would find room.
        """
        pods = [other.pod for other in self._workers.values() if not other.is_over]
        lack = admission.lack(worker.pod, pods, self._host.allocatable)
        if lack is not None:
            worker.fail(f"OutOf{lack.resource}", f"Pod was rejected: Node didn't have enough {lack}")

    async def _drive(self, worker: PodWorker) -> None:
        """Run the worker to its end; one that fails unexpectedly starts anew from the disk."""
        try:
            await worker.run()
            del self._workers[worker.uid]
            return
        except Exception as error:  # noqa: BLE001 - one pod's defect must not end all others
            leaves = [str(leaf) for leaf in _leaves(error)]
            _log.error("pod_worker_failed", pod=str(objects.key(worker.pod)), error=leaves, exc_info=error)
        await self._host.clock.sleep(_WORKER_RETRY_S)
        record = next((r for r in self._host.records() if r.uid == worker.uid), None)
        self._begin(worker.pod, record)
        if self._pods.lister.get(objects.key(worker.pod)) is None:
            self._workers[worker.uid].vanish()

    # House-keeping

    async def _keep_house(self) -> None:
        collected_at_s = self._host.clock.monotonic()
        while True:
            await self._host.clock.sleep(self._host.config.housekeeping_interval_s)
            await self._services.look_again()
            for worker in list(self._workers.values()):
                await self._rotate_logs(worker)
                await self._hold_to_its_storage(worker)
            self._host.sources.keep([worker.pod for worker in self._workers.values()])
            if self._host.clock.monotonic() - collected_at_s >= _COLLECTION_INTERVAL_S:
                await self._collect_layers()
                collected_at_s = self._host.clock.monotonic()

    async def _collect_layers(self) -> None:
        try:
            if digests := await self._host.images.collect():
                _log.info("layers_removed", layers=len(digests))
        except (ImageCorrupt, OSError) as error:
            _log.warning("layers_not_collected", error=str(error))

    async def _hold_to_its_storage(self, worker: PodWorker) -> None:
        if not storage.is_limited(worker.pod) or not worker.record.is_any_running:
            return
        try:
            usage = await storage.measured(self._host, worker.pod, worker.record)
        except OSError as error:
            _log.warning("storage_not_measured", pod=str(objects.key(worker.pod)), error=str(error))
            return
        if message := storage.excess(worker.pod, usage):
            worker.fail(decide.EVICTED, message)

    async def _rotate_logs(self, worker: PodWorker) -> None:
        config = self._host.config
        for name, container in worker.record.containers.items():
            attempt = container.current
            if attempt is None or attempt.handle is None or not container.is_running:
                continue
            path = steps.log_path(self._host, worker.uid, name, attempt.number)
            if not logs.due_for_rotation(iter([path]), config.log_bytes_max):
                continue
            try:
                logs.set_aside(path, self._host.clock.now(), config.log_files_max)
                await self._host.runtime.reopen_log(attempt.handle)
            except OSError as error:
                _log.warning("log_not_rotated", path=str(path), error=str(error))

    # What the HTTP interface tells

    def _worker_of(self, namespace: str, pod: str) -> PodWorker:
        key = Key(namespace, pod)
        found = [worker for worker in self._workers.values() if objects.key(worker.pod) == key]
        if not found:
            raise errors.NotFound(f'pod "{key}" is not on this node')
        return found[-1]

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> web.LogPlace:
        worker = self._worker_of(namespace, pod)
        names = [str(c["name"]) for c in model.all_containers(worker.pod)]
        if container not in names:
            raise errors.NotFound(f"container {container} is not valid for pod {pod}")
        known = worker.record.container(container)
        attempt = logged_attempt(worker.pod, container, known, previous=previous)
        path = steps.log_path(self._host, worker.uid, container, attempt.number)

        def is_over() -> bool:
            current = worker.record.container(container).current
            return current is None or current.number != attempt.number or current.exit is not None

        return path, is_over

    def summary(self) -> Mapping[str, Any]:
        now = rfc3339(self._host.clock.now())
        pods = [self._pod_usage(worker, now) for worker in self._workers.values()]
        return {"node": {"nodeName": self._host.config.name}, "pods": pods}

    def _pod_usage(self, worker: PodWorker, now: str) -> Mapping[str, Any]:
        group = self._host.cgroup_of(worker.uid)
        containers = [
            {"name": name, **_usage(f"{group}/{container.current.id}", now)}
            for name, container in worker.record.containers.items()
            if container.current is not None and container.is_running
        ]
        key = objects.key(worker.pod)
        reference = {"name": key.name, "namespace": key.namespace, "uid": worker.uid}
        return {"podRef": reference, **_usage(group, now), "containers": containers}


_NOT_PULLED: Final = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


def logged_attempt(pod: Object, name: str, container: Container, *, previous: bool) -> Attempt:
    """The run whose log is meant: the current one, else the last that began; else `BadRequest`."""
    whose = f'container "{name}" in pod "{objects.name(pod)}"'
    current, last = container.current, container.last
    if previous:
        if last is None or last.handle is None:
            raise errors.BadRequest(f"previous terminated {whose} not found")
        return last
    for attempt in (current, last):
        if attempt is not None and attempt.handle is not None and not attempt.is_created:
            return attempt
    if current is not None and current.exit is not None:
        raise errors.BadRequest(f"{whose} is terminated")
    reason = status.waiting_reason(pod, container)
    raise errors.BadRequest(f"{whose} is waiting to start: {_NOT_PULLED.get(reason, reason)}")


def _usage(group: str, now: str) -> dict[str, Any]:
    used = cgroups.usage(group)
    memory = {"time": now, "usageBytes": used.memory_bytes, "workingSetBytes": used.working_set_bytes}
    return {"cpu": {"time": now, "usageCoreNanoSeconds": used.cpu_ns}, "memory": memory}


async def _run_manager(manager: sdk.Manager, *, task_status: TaskStatus[None]) -> None:
    await manager.run(task_status=task_status)


def _host_resolvers(config: NodeConfig) -> tuple[str, ...]:
    text = Path("/etc/resolv.conf").read_text() if Path("/etc/resolv.conf").exists() else ""
    servers = etc.parse_resolv_conf(text)[0]
    return tuple(server for server in servers if server != str(config.gateway))


def _last_words(record: Record) -> Object:
    """Enough of a pod that is gone from the API to end what is left of it."""
    names = sorted(record.containers)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": record.name, "namespace": record.namespace, "uid": record.uid},
        "spec": {"containers": [{"name": name, "image": ""} for name in names]},
    }


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]


@contextlib.asynccontextmanager
async def running(config: NodeConfig, client: Client, clock: Clock) -> AsyncIterator[None]:
    """The node for the length of a block; containers outlive it."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(functools.partial(run, config, client, clock))
        yield
        tasks.cancel_scope.cancel()
