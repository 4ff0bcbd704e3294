"""The node agent: finds what an earlier one left, registers the node, runs a worker for each pod.

`run` is the whole of it. Pods, their names and their addresses go on while it is away; a new agent
takes them up from the disk and the runtime.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskStatus

from ondol import sdk
from ondol.api import objects, resources
from ondol.api.objects import Key, Object
from ondol.base import errors, log, metrics, trees
from ondol.base.clock import Clock
from ondol.base.listeners import NONE, Listeners
from ondol.base.metrics import Family
from ondol.base.reserve import Reserve, is_full
from ondol.client import Client
from ondol.contracts import mesh
from ondol.node import linux, pod_spec, registration, resolvers, stats, usage, web
from ondol.node.config import NodeConfig
from ondol.node.dns.counts import Counts, families
from ondol.node.dns.forwarding import Forwarder, Network, Upstreams
from ondol.node.dns.outside import Entries
from ondol.node.dns.server import CacheView, DnsServer
from ondol.node.images import rootfs, watch
from ondol.node.images.images import Images
from ondol.node.images.pulling import ImageSource
from ondol.node.images.store import ImageCorrupt
from ondol.node.local_volumes import provisioner as local_volumes
from ondol.node.metrics import cadvisor, kubelet
from ondol.node.metrics.activity import Activity
from ondol.node.metrics.books import Books
from ondol.node.metrics.counted_runtime import CountedRuntime
from ondol.node.network import ipam, ports, sandbox
from ondol.node.network.prepared import PreparedSandboxes
from ondol.node.pods import records, status
from ondol.node.pods.engines import Engines
from ondol.node.pods.host import Host
from ondol.node.pods.linux_machine import LinuxMachine
from ondol.node.pods.model import Attempt, Container, Record
from ondol.node.pods.sources import Sources
from ondol.node.pods.worker import PodWorker
from ondol.node.pods.workers import PodWorkers
from ondol.node.policy_rules import PolicyRules
from ondol.node.runtime import bpf, cgroups, handlers, learn, oci, seccomp, spec, templates
from ondol.node.runtime.port import Command, Handle, Runtime, Session
from ondol.node.service_rules import ServiceRules

_COLLECTION_INTERVAL_S: Final = 300.0
_RESERVE_BYTES: Final = 1024 * 1024

_log = log.get("node")


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
    """Be this machine's node until cancelled; `started` once the node is registered and pods are driven."""
    if os.geteuid() != 0:
        raise errors.HostError("the node needs root: namespaces and mounts", remedy="run as root")
    with _full_disk_explained(config):
        config.data_dir.mkdir(parents=True, exist_ok=True)
    manager = sdk.Manager(client, clock=clock, rng=random.Random(), identity="kubelet")  # noqa: S311 - jitter only
    network = _network(config)
    await anyio.to_thread.run_sync(sandbox.prepare_host, network, _living(config, network))
    folders = oci.Folders(config.data_dir, config.run_dir)
    with _full_disk_explained(config):
        own = await learn.working(folders, clock, config.cgroup, config.runtime)
        find = functools.partial(_runtime, folders, clock, config.cgroup)
        forking = templates.Forking(own, folders, clock, config.cgroup)
        runtime = handlers.Runtimes(forking, folders.bundles, find)
        engines = _engines(config, manager, runtime, network, images)
    shown = page or metrics.Page()
    activity = Activity()
    engines = replace(engines, runtime=CountedRuntime(runtime, activity, clock))
    agent = Agent(engines, manager, activity, listeners)
    shown.add(manager.metrics)
    shown.add(agent.families)
    async with anyio.create_task_group() as tasks:
        if provisioner is not None:
            tasks.start_soon(local_volumes.run, config, provisioner, clock)
        tasks.start_soon(forking.run)
        await agent.run(task_status=task_status)


async def _runtime(folders: oci.Folders, clock: Clock, cgroup: str, name: str) -> Runtime:
    return await learn.working(folders, clock, cgroup, name)


@contextlib.contextmanager
def _full_disk_explained(config: NodeConfig) -> Iterator[None]:
    """Where the node cannot begin without a file, say so in words."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
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
    for group in _cgroups_of_pods(config):
        cgroups.kill(group)
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
    ):
        with contextlib.suppress(OSError):
            trees.remove(path)
    for record in records.read_all(config.data_dir):
        try:
            records.write(config.data_dir, msgspec.structs.replace(record, boot=""))
        except OSError as error:  # a full disk, say: the next start sees that its namespaces are gone
            _log.warning("record_not_renewed", pod=f"{record.namespace}/{record.name}", error=str(error))


def _cgroups_of_pods(config: NodeConfig) -> list[str]:
    path = config.data_dir / "pods"
    return [config.pod_cgroup(entry.name) for entry in path.iterdir()] if path.exists() else []


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
        for record in records.read_all(config.data_dir)
        if record.has_sandbox and record.address and sandbox.has_namespace(network, record.uid)
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


def _engines(
    config: NodeConfig,
    manager: sdk.Manager,
    runtime: Runtime,
    network: sandbox.Network,
    images: ImageSource | None,
) -> Engines:
    machine = registration.measured(config.data_dir)
    reserve = Reserve(config.data_dir / "node.reserve", _RESERVE_BYTES)
    reserve.take()
    of_machine = cadvisor.Machine(
        machine.cpus,
        machine.memory_bytes,
        registration.swap_bytes(),
        machine.machine_id,
        machine.boot_id,
    )
    return Engines(
        config=config,
        clock=manager.clock,
        runtime=runtime,
        images=Images(config.data_dir, images, manager.clock),
        roots=rootfs.RootFolders(config.data_dir / "rootfs"),
        network=network,
        prepared=PreparedSandboxes(network, manager.clock),
        addresses=ipam.AddressPool(config.pods, config.data_dir / "addresses.json", reserve),
        sources=Sources(manager, manager.clock),
        books=Books(config, manager.clock, network.port, of_machine),
        reserve=reserve,
        memory_bytes=machine.memory_bytes,
        allocatable=registration.capacity(machine, config.max_pods),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        also_masked=tuple(map(str, Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle"))),
        also_read_only=tuple(map(str, cgroups.hierarchies())),
    )


def _host(engines: Engines, manager: sdk.Manager, activity: Activity, policies: PolicyRules) -> Host:
    return Host(
        config=engines.config,
        client=manager.client,
        clock=manager.clock,
        recorder=manager.recorder,
        runtime=engines.runtime,
        machine=LinuxMachine(engines, policies),
        records=records.DiskRecords(engines.config.data_dir, engines.reserve),
        sources=engines.sources,
        boot=linux.boot_id(),
        allocatable=engines.allocatable,
        kernel=os.uname().release,
        activity=activity,
    )


def _forwarder(config: NodeConfig, clock: Clock, counts: Counts) -> Forwarder:
    upstreams = Upstreams(resolvers.servers(config), config.stub_domains)
    return Forwarder(upstreams, Network(), clock, random.SystemRandom(), counts)  # ids that nobody foresees


class Agent:
    """The running parts; made by `run`."""

    def __init__(
        self, engines: Engines, manager: sdk.Manager, activity: Activity, listeners: Listeners
    ) -> None:
        self._engines = engines
        self._listeners = listeners
        self._page = metrics.Page(manager.metrics, self._activities)
        self._manager = manager
        pods = manager.informer(resources.POD, field_selector=f"spec.nodeName={engines.config.name}")
        self._pods = pods
        self._policies = PolicyRules(engines.config, manager, pods, engines.sources.namespaces)
        self._host = _host(engines, manager, activity, self._policies)
        self._slices = manager.informer(resources.ENDPOINT_SLICE)
        self._entries = manager.informer(mesh.SERVICE_ENTRY, optional=True)
        self._sidecars = manager.informer(mesh.SIDECAR, optional=True)
        self._workers = PodWorkers(self._host, pods)
        self._services = ServiceRules(self._host, pods, self._slices)
        self._stats = stats.Stats(engines.config.name, manager.clock, self._groups)
        self._questions = Counts()
        self._forwarder = _forwarder(engines.config, manager.clock, self._questions)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        config = self._host.config
        sources = self._host.sources
        view = CacheView(sources.services, self._slices, sources.namespaces, str(config.gateway))
        clock, zone = self._host.clock, config.cluster_domain
        entries = Entries(self._entries, self._sidecars, self._pods, sources.namespaces, zone)
        dns = DnsServer(zone, view, self._forwarder, clock, self._questions, outside=entries)
        runtime = self._host.runtime
        node = registration.Registration(
            config,
            self._host.client,
            self._host.clock,
            runtime=f"{runtime.name}://{runtime.version}",
            conditions=lambda: self._workers.conditions,
        )
        application = web.application(self, self._host.clock, config.api_token)
        async with anyio.create_task_group() as tasks:
            await tasks.start(web.serve, application, config.api_socket)
            await node.register()
            self._listen()
            await tasks.start(functools.partial(_run_manager, self._manager))
            sources.start(tasks)
            # Not before its zone is complete: who asks meanwhile waits, and is not told that a name is none.
            await tasks.start(dns.serve, str(config.gateway), config.dns_port, self._listeners)
            # Before any pod looks for its image: one that comes after that look must be heard of.
            images = config.data_dir / "images"
            await tasks.start(watch.follow, images, self._host.clock, self._images_changed)
            with _full_disk_explained(config):
                await self._workers.start(tasks)
            tasks.start_soon(node.keep)
            self._services.changed()
            tasks.start_soon(self._services.keep)
            tasks.start_soon(self._policies.keep)
            tasks.start_soon(self._housekeeping)
            tasks.start_soon(self._engines.prepared.run)
            # The first pod does not wait for the filter that most containers have.
            usual = seccomp.default(spec.DEFAULT_CAPABILITIES)
            tasks.start_soon(anyio.to_thread.run_sync, bpf.compiled, usual)
            _log.info("node_started", node=config.name, runtime=runtime.name)
            task_status.started()

    def _listen(self) -> None:
        self._host.sources.services.add_handler(lambda _old, _new: self._services.changed())
        self._slices.add_handler(self._services.slice_changed)
        self._pods.add_handler(self._services.pod_changed)
        self._policies.listen()

    async def _images_changed(self) -> None:
        self._engines.images.changed()
        await self._workers.images_changed()

    # House-keeping

    async def _housekeeping(self) -> None:
        collected_at_s = self._host.clock.monotonic()
        while True:
            await self._host.clock.sleep(self._host.config.housekeeping_interval_s)
            await self._services.look_again()
            await self._policies.look_again()
            await anyio.to_thread.run_sync(self._engines.reserve.take)
            await self._workers.housekeeping()
            if self._host.clock.monotonic() - collected_at_s >= _COLLECTION_INTERVAL_S:
                await self._workers.collect_images()
                await self._collect_layers()
                collected_at_s = self._host.clock.monotonic()

    async def _collect_layers(self) -> None:
        try:
            if digests := await self._engines.images.collect():
                _log.info("layers_removed", layers=len(digests))
        except (ImageCorrupt, OSError) as error:
            _log.warning("layers_not_collected", error=str(error))

    # What the HTTP interface tells

    def _worker_of(self, namespace: str, pod: str) -> PodWorker:
        key = Key(namespace, pod)
        worker = self._workers.named(key)
        if worker is None:
            raise errors.NotFound(f'pod "{key}" is not on this node')
        return worker

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> web.LogPlace:
        worker = self._worker_of(namespace, pod)
        names = [str(c["name"]) for c in pod_spec.all_containers(worker.pod)]
        if container not in names:
            raise errors.NotFound(f"container {container} is not valid for pod {pod}")
        attempt = logged_attempt(worker.pod, container, worker.record.container(container), previous=previous)
        path = self._host.config.log_path(worker.uid, container, attempt.number)

        def is_over() -> bool:
            current = worker.record.container(container).current
            return current is None or current.number != attempt.number or current.exit is not None

        return path, is_over

    def _running(self, namespace: str, pod: str, container: str) -> Handle:
        """The container's present run; `NotFound` or `BadRequest` where there is none."""
        worker = self._worker_of(namespace, pod)
        if container not in [str(c["name"]) for c in pod_spec.all_containers(worker.pod)]:
            raise errors.NotFound(f"container {container} is not valid for pod {pod}")
        attempt = worker.record.container(container).current
        if attempt is None or attempt.handle is None or not attempt.is_running:
            raise errors.NotFound(f'container not found ("{container}")')
        return attempt.handle

    def command(
        self, namespace: str, pod: str, container: str, command: Command
    ) -> AbstractAsyncContextManager[Session]:
        return self._host.runtime.command(self._running(namespace, pod, container), command)

    def attach(
        self, namespace: str, pod: str, container: str, *, stdin: bool
    ) -> AbstractAsyncContextManager[Session]:
        return self._host.runtime.attach(self._running(namespace, pod, container), stdin=stdin)

    def dial(self, namespace: str, pod: str, port: int) -> socket.socket:
        worker = self._worker_of(namespace, pod)
        if not worker.record.has_sandbox:
            raise errors.NotFound(f'pod "{namespace}/{pod}" is not running')
        if objects.spec(worker.pod).get("hostNetwork"):
            return ports.dial(port)
        path = self._engines.network.namespace_path("net", worker.uid)
        return linux.in_own_thread(functools.partial(ports.dial, port, str(path)))

    def pods(self) -> list[Object]:
        return [{"kind": "Pod", "apiVersion": "v1", **worker.pod} for worker in self._workers]

    async def metrics(self, page: str) -> bytes:
        match page:
            case "":
                return self._page.text()
            case "probes":
                return metrics.text(kubelet.probes(self._host.activity))
            case "cadvisor" | "resource":
                snapshot = await self._engines.books.snapshot(self._records())
                return metrics.text((cadvisor if page == "cadvisor" else kubelet).page(snapshot))
        raise errors.NotFound("no such page")

    def families(self) -> Iterator[Family]:
        """What the agent tells on the platform's own page: its own, and what pods use."""
        yield from self._activities()
        yield from usage.families(self.summary())

    def _activities(self) -> Iterator[Family]:
        yield from kubelet.families(self._host.config.name, self._host.activity, self._records())
        yield from families(self._questions, self._forwarder.cache.__len__)

    def _records(self) -> list[tuple[Object, Record]]:
        return [(worker.pod, worker.record) for worker in self._workers]

    async def settle(self) -> None:
        await self._stats.settle()

    def summary(self) -> Mapping[str, Any]:
        return self._stats.summary()

    def _groups(self) -> Iterator[stats.PodGroups]:
        for worker in self._workers:
            group = self._host.config.pod_cgroup(worker.uid)
            key = objects.key(worker.pod)
            reference = {"name": key.name, "namespace": key.namespace, "uid": worker.uid}
            containers = {
                name: f"{group}/{container.current.id}"
                for name, container in worker.record.containers.items()
                if container.current is not None and container.is_running
            }
            yield stats.PodGroups(reference, group, containers)


_NOT_PULLED: Final = {
    "ErrImagePull": "image can't be pulled",
    "RegistryUnavailable": "image can't be pulled",
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


async def _run_manager(manager: sdk.Manager, *, task_status: TaskStatus[None]) -> None:
    await manager.run(task_status=task_status)


@contextlib.asynccontextmanager
async def running(config: NodeConfig, client: Client, clock: Clock) -> AsyncIterator[None]:
    """The node for the length of a block; containers outlive it."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(functools.partial(run, config, client, clock))
        yield
        tasks.cancel_scope.cancel()
