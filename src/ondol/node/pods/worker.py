"""One task a pod: ask `decide` what to do, begin it, write the status, wait for news.

Steps run beside the loop and are busy meanwhile, so that a slow image or a long grace period never keeps
the pod from hearing of its deletion. What a step has done is in the record, and on disk, before the next
one builds on it.
"""

from __future__ import annotations

from collections.abc import Collection

import anyio

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import errors
from ondol.contracts import mesh
from ondol.node import pod_spec
from ondol.node.pods import decide, lifecycle, model, planning, status, sysctls
from ondol.node.pods.decide import Action
from ondol.node.pods.host import Host
from ondol.node.pods.mesh_gate import MeshGate
from ondol.node.pods.model import ContainerStep, PodStep, Record, Spec
from ondol.node.pods.pod_volumes import PodVolumes
from ondol.node.pods.resizing_steps import Resizing
from ondol.node.pods.running import RunningContainers
from ondol.node.pods.starting import Starting
from ondol.node.pods.steps import Steps
from ondol.node.pods.stopping import Stopping
from ondol.node.pods.tracked import TrackedPod
from ondol.node.volumes import downward_api
from ondol.node.volumes.lookup import Reference


class PodWorker:
    """Drives one pod from its first event to its end; `update`, `vanish` and others bring its changes."""

    def __init__(self, host: Host, pod: Object, record: Record | None) -> None:
        self._host = host
        self._tracked = TrackedPod(host, pod, record)
        self._steps = Steps(self._tracked)
        self._gate = MeshGate(self._tracked)
        self._running = RunningContainers(self._tracked, self._steps)
        self._starting = Starting(self._tracked, self._running)
        self._stopping = Stopping(self._tracked, self._gate)
        self._resizing = Resizing(self._tracked)
        self._volumes = PodVolumes(self._tracked)
        self._are_volumes_ready = False
        self._are_volumes_stale = False
        self._is_done = False

    @property
    def uid(self) -> str:
        return self._tracked.uid

    @property
    def pod(self) -> Object:
        return self._tracked.pod

    @property
    def record(self) -> Record:
        return self._tracked.record

    @property
    def is_over(self) -> bool:
        """The pod ends or has ended: it takes no more of the node than it still holds."""
        return self._tracked.is_over

    # News

    def update(self, pod: Object) -> None:
        """The object has changed."""
        tracked = self._tracked
        is_deleted = objects.is_deleting(pod) and not objects.is_deleting(tracked.pod)
        if downward_api.projected_metadata(pod) != downward_api.projected_metadata(tracked.pod):
            self._are_volumes_stale = True
        tracked.pod = pod
        tracked.retry_now() if is_deleted else tracked.touch()

    def vanish(self) -> None:
        """The object was removed from the API: stop everything, without a status to write."""
        self._tracked.vanish()

    def fail(self, reason: str, message: str) -> None:
        """The node will not have it, or no longer: what runs of it is stopped, what it holds is freed."""
        if not self.is_over:
            self._tracked.fail(reason, message)

    @property
    def allocated(self) -> Spec:
        """The pod in the sizes that the node has taken on."""
        return self._tracked.allocated

    @property
    def wants_resize(self) -> bool:
        """It asks for other sizes than the node has taken on, or did until now."""
        return self._resizing.is_due

    def resize(self, reason: str, message: str) -> None:
        """The node takes on what the pod asks for or, with a reason, does not."""
        self._resizing.put_off(reason, message) if reason else self._resizing.accept()
        self._are_volumes_stale = self._are_volumes_stale or not reason

    def refresh_volumes(self) -> None:
        """Something the pod refers to has changed."""
        self._are_volumes_stale = True
        self._tracked.retry_now()

    @property
    def references(self) -> frozenset[Reference]:
        """The objects that its volumes were made from."""
        return self._volumes.references

    @property
    def images(self) -> set[str]:
        """The names and ids of the images that it has, or is to have, a container or a volume of."""
        names = set[str]().union(
            *(pod_spec.images(self.pod, spec) for spec in pod_spec.all_containers(self.pod))
        )
        attempts = (container.current for container in self.record.containers.values())
        return names | {attempt.image_id for attempt in attempts if attempt is not None}

    def awaited_images(self) -> set[str]:
        """The images that its containers wait for, each in vain so far."""
        specs = pod_spec.all_containers(self.pod)
        waiting = (spec for spec in specs if lifecycle.waits_for_image(self.record, spec))
        return set[str]().union(*(pod_spec.images(self.pod, spec) for spec in waiting))

    def images_arrived(self, images: Collection[str]) -> None:
        """These are here now: who waits for one need wait no longer."""
        record = lifecycle.image_arrived(self.pod, self.record, images)
        if record != self.record:
            self._tracked.keep(record)

    def save_again(self) -> None:
        """Write what a full disk had no room for."""
        self._tracked.save_again()

    # The loop

    async def run(self) -> None:
        """Until nothing of the pod is left on this node."""
        tracked = self._tracked
        async with anyio.create_task_group() as tasks:
            self._steps.start(tasks)
            tasks.start_soon(tracked.statuses.run, self._status)
            tasks.start_soon(self._gate.warn_if_closed)
            self._refuse_unsupported()
            self._are_volumes_ready = tracked.record.has_sandbox and self._volumes.are_placed
            self._are_volumes_stale = tracked.record.has_sandbox
            self._running.start(tasks)
            if not tracked.record.has_sandbox and conditions.is_true(tracked.pod, mesh.SANDBOX_READY):
                tracked.statuses.changed()  # what was lost while nobody looked is told before it is made anew
            while not self._is_done:
                news = tracked.news
                decision = decide.decide(tracked.pod, tracked.record, await self._facts())
                for action in decision.actions:
                    self._act(action)
                await self._wait(news, decision.wake_at)
            tasks.cancel_scope.cancel()

    async def _wait(self, news: anyio.Event, wake_at: float | None) -> None:
        clock = self._host.clock
        moments = [moment for moment in (wake_at, self._next_refresh()) if moment is not None]
        if not moments:
            await news.wait()
            return
        with clock.move_on_after(max(min(moments) - clock.now(), 0.001)) as waiting:
            await news.wait()
        if waiting.cancelled_caught:
            self._tracked.statuses.changed()  # a back-off that is over is no longer told of
        refresh = self._next_refresh()
        if refresh is not None and clock.now() >= refresh:
            self.refresh_volumes()

    def _next_refresh(self) -> float | None:
        """When a token is to be renewed; nobody waits for one that is being renewed or is tried again."""
        is_under_way = self._are_volumes_stale or PodStep.REFRESH in self._steps.busy
        return None if is_under_way else self._host.sources.next_refresh(self.pod)

    async def _facts(self) -> model.Facts:
        return model.Facts(
            now=self._host.clock.now(),
            is_deleting=self._tracked.is_ending,
            are_volumes_ready=self._are_volumes_ready,
            is_gate_open=await self._gate.is_open(),
            is_proxy_gone=await self._gate.is_proxy_gone(),
            is_guard_asked=await self._gate.is_guard_asked(),
            busy=frozenset(self._steps.busy),
            are_volumes_stale=self._are_volumes_stale,
            unhealthy=dict(self._tracked.unhealthy),
        )

    def _refuse_unsupported(self) -> None:
        tracked, config = self._tracked, self._host.config
        refused, warned = planning.unsupported(tracked.pod)
        if warned:
            tracked.event("Warning", "UnsupportedField", f"not applied by this node: {', '.join(warned)}")
        forbidden = sysctls.forbidden(tracked.pod, config.allowed_unsafe_sysctls, self._host.kernel)
        if forbidden and not tracked.record.has_sandbox:
            tracked.fail(sysctls.REASON, f"Pod was rejected: {forbidden}")
        elif refused and not tracked.record.has_sandbox:
            tracked.fail("UnsupportedField", f"this node cannot honour {', '.join(refused)}")

    def _status(self) -> Object | None:
        """The status to write; None for a pod that is no longer in the API, or never ran here."""
        tracked = self._tracked
        was_ever_here = bool(tracked.record.containers) or tracked.record.has_sandbox
        if tracked.has_vanished or (tracked.is_ending and not was_ever_here):
            return None
        return status.status(
            tracked.pod,
            tracked.record,
            runtime=self._host.runtime.name,
            host_ip=self._host.config.host_ip,
            now=self._host.clock.now(),
            previous=tracked.statuses.conditions,
            is_starting=any(isinstance(step, ContainerStep) for step in self._steps.busy),
        )

    # Steps

    def _act(self, action: Action) -> None:
        begin = self._steps.begin
        match action:
            case decide.SetUpSandbox():
                begin(PodStep.SANDBOX, self._set_up_sandbox)
            case decide.PrepareVolumes():
                begin(PodStep.VOLUMES, self._prepare_volumes)
            case decide.RefreshVolumes():
                begin(PodStep.REFRESH, self._refresh)
            case decide.Guard(seals):
                begin(PodStep.GUARD, lambda: self._guard(seals=seals))
            case decide.Fail(reason, message):
                self._tracked.fail(reason, message)
            case decide.TearDown():
                begin(PodStep.TEARDOWN, self._tear_down)
            case decide.Finish():
                begin(PodStep.FINISH, self._finish)
            case decide.EndResize():
                self._resizing.end()
            case _:
                self._act_on_container(action)

    def _act_on_container(self, action: decide.ContainerAction) -> None:
        begin = self._steps.begin
        match action:
            case decide.Create(name):
                begin(ContainerStep(name), lambda: self._starting.create(name))
            case decide.Start(name):
                begin(ContainerStep(name), lambda: self._starting.start(name))
            case decide.Stop() as stop:
                begin(ContainerStep(stop.container), lambda: self._stopping.stop(stop))
            case decide.Resize(name):
                begin(ContainerStep(name, decide.RESIZE), lambda: self._resizing.resize(name))

    async def _set_up_sandbox(self) -> None:
        tracked = self._tracked
        self._host.records.save(tracked.record)  # what is made from here on has an owner
        runtime = await self._runtime()
        redirect = await self._gate.is_in_mesh()
        address = await self._host.machine.set_up_sandbox(tracked.pod, redirect=redirect)
        tracked.keep(lifecycle.placed(tracked.pod, tracked.record, address, runtime=runtime))

    async def _guard(self, *, seals: bool) -> None:
        tracked = self._tracked
        await self._host.machine.guard(tracked.pod, seals=seals)
        tracked.keep(lifecycle.guarded(tracked.record, self._host.clock.now(), seals=seals))

    async def _runtime(self) -> str:
        """What the pod's RuntimeClass has its containers run by; empty is the node's own runtime."""
        name = str(objects.spec(self.pod).get("runtimeClassName") or "")
        if not name:
            return ""
        handler = await self._host.sources.runtime_handler(name)
        if handler is None:
            raise errors.HostError(f'Failed to create pod sandbox: RuntimeClass "{name}" not found')
        if not await self._host.runtime.has_handler(handler):
            why = f'failed to get sandbox runtime: no runtime for "{handler}" is configured'
            raise errors.HostError(f"Failed to create pod sandbox: {why}")
        return handler

    async def _prepare_volumes(self) -> None:
        await self._refresh()
        self._are_volumes_ready = True

    async def _refresh(self) -> None:
        """What changes from here on, while content is read and written, is for the next one."""
        self._are_volumes_stale = False
        try:
            await self._volumes.bring_up_to_date()
        except BaseException:
            self._are_volumes_stale = True
            raise

    async def _tear_down(self) -> None:
        self._host.machine.pod_ended(self._tracked.pod)
        await self._host.machine.tear_down(self.uid)
        await self._volumes.remove()
        self._are_volumes_ready = False
        self._tracked.torn_down()

    async def _finish(self) -> None:
        await self._running.all_discarded()  # the end of this task ends all others
        if not self._tracked.has_vanished:
            await self._tracked.statuses.write(self._status())
            await self._delete_object()
        await self._host.machine.remove_files(self.uid)
        self._host.activity.forget(self.uid)
        self._tracked.log.info("pod_removed")
        self._is_done = True

    async def _delete_object(self) -> None:
        key = objects.key(self.pod)
        try:
            await self._host.client.delete(
                resources.POD, key.name, key.namespace, grace_period_s=0, uid=self.uid
            )
        except (errors.NotFound, errors.Conflict):
            return  # gone already, or its name belongs to another pod now
