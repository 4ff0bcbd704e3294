"""A node for simulations: the real pod workers over a simulated runtime and machine.

For tests only. It needs no root and no thread, and all its time is the clock's, so a `World` on virtual time
runs it beside the controllers:

    node = SimulatedNode("n1", clock)
    node.machine.add_image("shop:1")
    node.runtime.programs["shop:1"] = Program(lifetime_s=5.0, code=1)  # crashes again and again
    await tasks.start(node.run, world.manager("kubelet"))

Runtime, machine and records outlive the agent: run `SimulatedNode.run` again after its end, and a new agent
takes up what the former one left. Whatever a pod may never do (run without its sandbox, be started
twice) is an `AssertionError`.
"""

from __future__ import annotations

import contextlib
import errno
import math
import signal
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskStatus

from ondol import sdk
from ondol.api import objects, resources
from ondol.api.eviction_thresholds import Level, Readings
from ondol.base.clock import Clock
from ondol.base.signal import Signal
from ondol.node import pod_spec
from ondol.node.config import NodeConfig
from ondol.node.images.pulling import Asker, ImageUnavailable
from ondol.node.pods import planning
from ondol.node.pods.host import Host
from ondol.node.pods.machine import Created, container_id
from ondol.node.pods.model import Attempt, Record, Spec
from ondol.node.pods.sources import Sources
from ondol.node.pods.storage import Usage
from ondol.node.pods.workers import PodWorkers
from ondol.node.pressure.ranking import Consumption
from ondol.node.runtime.port import (
    Command,
    Creation,
    ExecResult,
    Exit,
    Handle,
    RuntimeFailed,
    Session,
)
from ondol.node.runtime.spec import Limits
from ondol.node.volumes.volume import Payload, Place

_KILLED: Final = 128 + signal.SIGKILL
_TERMINATED: Final = 128 + signal.SIGTERM


@dataclass(frozen=True, slots=True)
class Program:
    """How containers of an image behave."""

    lifetime_s: float = math.inf
    """When it ends by itself, with `code`."""
    code: int = 0
    stopping_s: float = 0.0
    """How long it takes to end after SIGTERM; infinite is until SIGKILL."""


@dataclass(slots=True)
class _Process:
    program: Program
    started_at: float = math.inf
    ends_at: float = math.inf
    code: int = 0
    changed: Signal = field(default_factory=Signal)


class _Silent:
    """A session that is over."""

    async def read(self) -> tuple[int, bytes]:
        return 1, b""

    async def write(self, data: bytes) -> None:
        """It takes nothing."""

    def close_input(self) -> None:
        """It has none."""

    async def resize(self, width: int, height: int) -> None:
        """It has no terminal."""

    async def wait(self) -> int:
        return 0


class FakeRuntime:
    """Containers that are entries in a table. `Creation.spec` names their program's image.

    `failures` says how often a call by this name (`create`, `start`, `delete`) is still to fail. `answers`
    are the exit codes of commands by their first word, 0 for all others.
    """

    name = "fake"
    version = "1"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._processes: dict[str, _Process] = {}
        self.programs: dict[str, Program] = {}
        self.failures: dict[str, int] = {}
        self.answers: dict[str, int] = {}
        self.signals: list[tuple[str, int, float]] = []
        """Container, number and moment of each that was sent."""
        self.sizes: dict[str, Limits] = {}
        """What containers were given since they run, by id."""
        self.commands: list[tuple[str, float]] = []
        """The first word and the moment of each that was run."""

    def _may_fail(self, call: str) -> None:
        if self.failures.get(call, 0) > 0:
            self.failures[call] -= 1
            raise RuntimeFailed(f"injected: {call}")

    async def has_handler(self, name: str) -> bool:
        return name in ("", self.name)

    async def create(self, creation: Creation) -> Handle:
        await self._clock.sleep(0.01)
        self._may_fail("create")
        if creation.id in self._processes:
            raise RuntimeFailed(f"container {creation.id} exists")
        program = self.programs.get(str(creation.spec["image"]), Program())
        self._processes[creation.id] = _Process(program)
        return Handle(creation.id, 1, 1, 1, 1)

    async def start(self, handle: Handle) -> None:
        await self._clock.sleep(0.01)
        self._may_fail("start")
        process = self._processes[handle.id]
        assert process.started_at == math.inf, "a container is started twice"  # noqa: S101 - it is an assertion
        process.started_at = self._clock.now()
        self._end(process, process.program.lifetime_s, process.program.code)

    def _end(self, process: _Process, after_s: float, code: int) -> None:
        ends_at = self._clock.now() + after_s
        if ends_at < process.ends_at:
            process.ends_at, process.code = ends_at, code
            process.changed.set()

    async def wait(self, handle: Handle) -> Exit:
        process = self._processes.get(handle.id)
        if process is None:
            return Exit(_KILLED, oom_killed=False, finished_at=self._clock.now())
        while (left_s := process.ends_at - self._clock.now()) > 0:
            changed = process.changed.next
            with self._clock.move_on_after(left_s):
                await changed.wait()
        return Exit(process.code, oom_killed=False, finished_at=process.ends_at)

    def is_running(self, handle: Handle) -> bool:
        process = self._processes.get(handle.id)
        return process is not None and process.started_at <= self._clock.now() < process.ends_at

    def signal(self, handle: Handle, number: int) -> None:
        if not self.is_running(handle):
            return
        self.signals.append((handle.id, number, self._clock.now()))
        process = self._processes[handle.id]
        if number == signal.SIGKILL:
            self._end(process, 0.0, _KILLED)
        else:
            self._end(process, process.program.stopping_s, _TERMINATED)

    async def exec(self, handle: Handle, args: Sequence[str], timeout_s: float) -> ExecResult:  # noqa: ARG002 - the port's
        if not self.is_running(handle):
            raise RuntimeFailed("the container does not run")
        self.commands.append((args[0], self._clock.now()))
        return ExecResult(self.answers.get(args[0], 0), b"")

    @contextlib.asynccontextmanager
    async def command(self, handle: Handle, command: Command) -> AsyncIterator[Session]:
        if not self.is_running(handle) or command.args:
            raise RuntimeFailed(f"nothing to be spoken with runs in {handle.id}")
        yield _Silent()

    @contextlib.asynccontextmanager
    async def attach(self, handle: Handle, *, stdin: bool) -> AsyncIterator[Session]:
        if not self.is_running(handle) or stdin:
            raise RuntimeFailed(f"nothing to be spoken with runs in {handle.id}")
        yield _Silent()

    async def update(self, handle: Handle, limits: Limits) -> None:
        self._may_fail("update")
        self.sizes[handle.id] = limits

    async def reopen_log(self, handle: Handle) -> None:
        """There is none."""

    async def delete(self, container_id: str) -> None:
        await self._clock.sleep(0.01)
        self._may_fail("delete")
        self._processes.pop(container_id, None)

    def power_cut(self) -> None:
        """Nothing runs any more, and nothing is left of it."""
        for process in self._processes.values():
            self._end(process, 0.0, _KILLED)
        self._processes.clear()

    def container_ids(self) -> list[str]:
        return sorted(self._processes)

    def running(self) -> set[str]:
        """The containers that run now, by id."""
        return {each for each in self._processes if self.is_running(Handle(each, 1, 1, 1, 1))}


class FakeMachine:
    """Sandboxes, volumes and images that are entries in tables."""

    def __init__(self, clock: Clock, runtime: FakeRuntime, records: FakeRecords) -> None:
        self._clock = clock
        self._runtime = runtime
        self._records = records
        self._images: set[str] = set()
        self._addresses = 1
        self.sandboxes: dict[str, str] = {}
        """Address by uid."""
        self.guards: dict[str, bool] = {}
        """Of guarded pods, whether what had arrived before was ended, by uid."""
        self.volumes: dict[str, dict[str, Payload]] = {}
        """The files of each volume by its name, by uid."""
        self.written: Counter[str] = Counter()
        """How often the volumes of a pod were made or brought up to date, by uid."""
        self.folders: dict[tuple[str, str], Path] = {}
        """What containers mount, by uid and volume."""
        self.removed: list[tuple[str, str]] = []
        """The uid and the name of each volume that was removed."""
        self.looking_s = 0.01
        """How long it takes to see whether an image is here."""
        self.working_s = 0.01
        """How long everything else takes."""
        self.adopting_s = 0.0
        """How long a new agent takes to sort out what it finds."""
        self.image_revision = 0
        self.failures: dict[str, int] = {}
        """How often `sandbox`, `guard`, `volumes` or `removal` (of a volume) is still to fail."""
        self.levels: dict[str, Level] = {}
        """What is free of the machine, by signal."""
        self.consumption: dict[str, Consumption] = {}
        """What a pod has of whatever is asked for, by its name."""
        self.freed: list[tuple[set[str], bool]] = []
        """How often images were to be removed: those that were used, and whether it was urgent."""
        self.defects = 0
        """How often a sandbox is still to end its pod's worker by an error that nobody expects."""

    def add_image(self, reference: str) -> None:
        self._images.add(reference)
        self.image_revision += 1

    def _may_fail(self, call: str) -> None:
        if self.failures.get(call, 0) > 0:
            self.failures[call] -= 1
            raise OSError(errno.EIO, f"injected: {call}")

    async def guard(self, pod: Spec, *, seals: bool) -> None:
        await self._clock.sleep(self.working_s)
        self._may_fail("guard")
        self.guards[objects.uid(pod)] = seals

    async def set_up_sandbox(self, pod: Spec, *, redirect: bool) -> str:  # noqa: ARG002 - there is no proxy
        await self._clock.sleep(self.working_s)
        if self.defects > 0:
            self.defects -= 1
            raise RuntimeError("injected: a defect")
        self._may_fail("sandbox")
        uid = objects.uid(pod)
        if uid not in self.sandboxes:
            self._addresses += 1
            self.sandboxes[uid] = f"10.9.{self._addresses // 250}.{self._addresses % 250 + 1}"
        return self.sandboxes[uid]

    def has_sandbox(self, uid: str) -> bool:
        return uid in self.sandboxes

    async def tear_down(self, uid: str) -> None:
        await self._clock.sleep(self.working_s)
        self.sandboxes.pop(uid, None)

    async def put_volume(self, pod: Spec, spec: Spec, at: Place, files: Payload, *, is_refresh: bool) -> None:
        uid, name = objects.uid(pod), str(spec["name"])
        await self._clock.sleep(self.working_s)
        self._may_fail("volumes")
        is_here = name in self.volumes.get(uid, {})
        assert is_here or not is_refresh, "a volume that was never made is refreshed"  # noqa: S101 - likewise
        assert self._records.has_volume(uid, name), "a volume that nobody would remove"  # noqa: S101 - likewise
        self.volumes.setdefault(uid, {})[name] = files
        self.folders[uid, name] = at.folder
        self.written[uid] += 1

    async def remove_volume(self, uid: str, spec: Spec, folder: Path) -> None:
        name = str(spec["name"])
        await self._clock.sleep(self.working_s)
        self._may_fail("removal")
        assert self.folders.get((uid, name), folder) == folder, "another folder than was placed"  # noqa: S101 - likewise
        self.removed.append((uid, name))
        self.folders.pop((uid, name), None)
        self.volumes.get(uid, {}).pop(name, None)
        if not self.volumes.get(uid):
            self.volumes.pop(uid, None)

    async def create_container(
        self,
        pod: Spec,
        record: Record,
        name: str,
        number: int,
        asker: Asker,  # noqa: ARG002 - the port's
    ) -> Created:
        spec = next(each for each in pod_spec.all_containers(pod) if each["name"] == name)
        image = str(spec["image"])
        missing = sorted(pod_spec.images(pod, spec) - self._images)
        await self._clock.sleep(self.looking_s)
        if missing:
            error = ImageUnavailable("ErrImagePull", f'image "{missing[0]}" is not in the local image store')
            error.reference = missing[0]
            raise error
        assert record.uid in self.sandboxes, "a container without a sandbox"  # noqa: S101 - likewise
        names = {str(volume["name"]) for volume in objects.spec(pod).get("volumes") or ()}
        assert names <= set(self.volumes.get(record.uid, {})), "a container without its volumes"  # noqa: S101 - likewise
        identity = container_id(record.uid, name, number)
        handle = await self._runtime.create(Creation(identity, {"image": image}, Path("/none")))
        return Created(Attempt(number, identity, image, f"{image}@digest", handle))

    def container_ended(self, pod: Spec, name: str, attempt: Attempt) -> None:
        """Nobody reads what is used here."""

    def pod_ended(self, pod: Spec) -> None:
        """Likewise."""

    async def resize_container(self, pod: Spec, container: Spec, attempt: Attempt) -> None:  # noqa: ARG002 - the port's
        assert attempt.handle is not None, "a container that was never made is resized"  # noqa: S101 - likewise
        await self._clock.sleep(self.working_s)
        await self._runtime.update(attempt.handle, planning.limits(container))

    async def discard_container(self, container_id: str) -> None:
        await self._runtime.delete(container_id)

    def termination_message(self, pod: Spec, container: Spec, attempt: Attempt) -> str:  # noqa: ARG002 - the port's
        return ""

    def forget_attempt(self, uid: str, name: str, number: int) -> None:
        """There is nothing to forget."""

    async def remove_files(self, uid: str) -> None:
        assert uid not in self.sandboxes, "files of a pod that still has a sandbox"  # noqa: S101 - likewise
        assert uid not in self.volumes, "files of a pod that still has volumes"  # noqa: S101 - likewise
        self._records.forget(uid)

    async def adopt(self, records: Mapping[str, Record], pods: Collection[str]) -> None:
        await self._clock.sleep(self.adopting_s)
        attempts = [each.current for record in records.values() for each in record.containers.values()]
        current = {attempt.id for attempt in attempts if attempt is not None and attempt.exit is None}
        for identity in self._runtime.container_ids():
            if identity not in current:
                with contextlib.suppress(RuntimeFailed):  # the next agent tries again
                    await self._runtime.delete(identity)
        for uid in list(self.sandboxes):
            if uid not in records and uid not in pods:
                del self.sandboxes[uid]

    async def has_image(self, reference: str) -> bool:
        return reference in self._images

    async def measured(self, pod: Spec, record: Record) -> Usage:  # noqa: ARG002 - the port's
        return Usage()

    async def readings(self) -> Readings:
        return dict(self.levels)

    async def consumed(self, pod: Spec, record: Record, resource: str) -> Consumption:  # noqa: ARG002 - the port's
        return self.consumption.get(objects.name(pod), Consumption(0))

    async def free_images(self, used: Collection[str], *, is_urgent: bool) -> None:
        await self._clock.sleep(self.working_s)
        self.freed.append((set(used), is_urgent))


class FakeRecords:
    """Records in memory; while `is_full` nothing is kept."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self.is_full = False

    def save(self, record: Record) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._records[record.uid] = record

    def all(self) -> list[Record]:
        return list(self._records.values())

    def has_volume(self, uid: str, name: str) -> bool:
        return uid in self._records and name in self._records[uid].volumes

    def forget(self, uid: str) -> None:
        self._records.pop(uid, None)


class SimulatedNode:
    """One node: what outlives its agent, and `run`, which is the agent."""

    def __init__(self, name: str, clock: Clock, **settings: object) -> None:
        self.clock = clock
        self.config = NodeConfig(
            instance="000000",
            name=name,
            data_dir=Path("/none"),
            host_ip="192.0.2.2",
            **{"mesh_enabled": False, **settings},  # type: ignore[arg-type]  # fields of NodeConfig
        )
        self.runtime = FakeRuntime(clock)
        self.records = FakeRecords()
        self.machine = FakeMachine(clock, self.runtime, self.records)
        self.boot = "first"
        """Another one is the machine started anew."""

    async def run(
        self, manager: sdk.Manager, *, task_status: TaskStatus[PodWorkers] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Be the node until cancelled; containers, sandboxes and records stay. Starts the manager."""
        sources = Sources(manager, manager.clock)
        pods = manager.informer(resources.POD, field_selector=f"spec.nodeName={self.config.name}")
        host = Host(
            config=self.config,
            client=manager.client,
            clock=manager.clock,
            recorder=manager.recorder,
            runtime=self.runtime,
            machine=self.machine,
            records=self.records,
            sources=sources,
            boot=self.boot,
            allocatable={"cpu": "40", "memory": "64Gi", "pods": "110"},
            kernel="6.1.0",
        )
        workers = PodWorkers(host, pods)
        async with anyio.create_task_group() as tasks:
            await tasks.start(manager.run)
            sources.start(tasks)
            await workers.start(tasks)
            task_status.started(workers)
            while True:
                await manager.clock.sleep(self.config.housekeeping_interval_s)
                await workers.housekeeping()
