"""One task a pod: ask `decide` what to do, start doing it, write the status, wait for news.

Steps run beside the loop and are marked busy meanwhile, so that a slow image or a long grace period
never keeps the pod from hearing of its deletion. Each change of the record is on disk before the
next step builds on it.
"""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.base import errors, log
from ondol.base.backoff import Backoff
from ondol.contracts import mesh
from ondol.node.images import images
from ondol.node.images.images import ImageUnavailable
from ondol.node.pods import container as planning
from ondol.node.pods import decide, draining, env, model, probing, status, steps, sysctls, volumes
from ondol.node.pods.decide import Action
from ondol.node.pods.host import Host
from ondol.node.pods.model import Attempt, Container, Record, Spec
from ondol.node.pods.status_writer import StatusWriter
from ondol.node.pods.target import Answer, Target
from ondol.node.runtime.port import Exit, RuntimeFailed

_START_ERROR: Final = 128
_STEP_BACKOFF: Final = Backoff(initial_s=0.2, maximum_s=10.0)
_HOOK_TIMEOUT_S: Final = 24 * 3600.0  # a hook has the time it takes, as long as its container runs
_TOLD: Final = {"warning": "warning", "failure": "failed", "error": "errored and resulted in unknown state"}
_VANISHED_GRACE_S: Final = 1  # as the kubelet gives a pod that was deleted by force


class PodWorker:
    """Drives one pod from its first sight to its end; told of news by `update`, `vanish` and `touch`."""

    def __init__(self, host: Host, pod: Object, record: Record | None) -> None:
        self.uid = objects.uid(pod)
        self._host = host
        self._pod: Object = pod
        self._record = record or self._first_record()
        self._log = log.get("node.pod").bind(pod=str(objects.key(pod)), uid=self.uid)
        self._news = anyio.Event()
        self._statuses = StatusWriter(host, pod)
        self._busy: set[str] = set()
        self._are_volumes_ready = False
        self._are_volumes_stale = False
        self._has_vanished = False
        self._is_meshed: bool | None = None
        self._is_done = False
        self._is_drained = False
        self._watches: dict[str, anyio.CancelScope] = {}
        self._followed: set[str] = set()
        """Containers whose end is waited for, or which are being discarded after it."""
        self._unhealthy: dict[str, model.Unhealthy] = {}
        self._step_failures: dict[str, int] = {}
        self._hurry = anyio.Event()
        self._tasks: TaskGroup | None = None

    def _first_record(self) -> Record:
        key = objects.key(self._pod)
        return Record(self.uid, key.namespace, key.name, self._host.boot, self._host.clock.now())

    @property
    def pod(self) -> Object:
        return self._pod

    @property
    def record(self) -> Record:
        return self._record

    def update(self, pod: Object) -> None:
        if objects.is_deleting(pod) and not objects.is_deleting(self._pod):
            self._hurry_up()
        if volumes.shown_metadata(pod) != volumes.shown_metadata(self._pod):
            self._are_volumes_stale = True
        self._pod = pod
        self.touch()

    def vanish(self) -> None:
        """The object is gone: stop everything, there is no one left to tell."""
        self._has_vanished = True
        metadata = {**objects.metadata(self._pod), "deletionGracePeriodSeconds": _VANISHED_GRACE_S}
        self._pod = {**self._pod, "metadata": metadata}
        self._hurry_up()

    @property
    def is_over(self) -> bool:
        """The pod ends or has ended: it takes no more of the node than it still holds."""
        return self._is_ending() or bool(decide.outcome(self._pod, self._record))

    def fail(self, reason: str, message: str) -> None:
        """The node will not have it, or no longer: what runs of it is stopped, what it holds is freed."""
        try:
            if not self.is_over:
                self._act(decide.Fail(reason, message))
        except OSError as error:  # a full disk, say: it ends all the same, and is judged anew after a restart
            self._log.warning("record_not_kept", error=str(error))
            self.touch()

    def touch(self) -> None:
        self._news.set()
        self._statuses.changed()

    def refresh_volumes(self) -> None:
        """Something the pod refers to has changed."""
        self._are_volumes_stale = True
        self._hurry_up()

    def _hurry_up(self) -> None:
        """Look again, and try every step that waits for its next try."""
        self._hurry.set()
        self._hurry = anyio.Event()
        self.touch()

    def _is_ending(self) -> bool:
        return self._has_vanished or objects.is_deleting(self._pod)

    async def run(self) -> None:
        """Until nothing of the pod is left on this node."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._statuses.run, self._status)
            tasks.start_soon(self._warn_of_a_closed_gate)
            self._refuse_unsupported()
            self._adopt()
            if not self._record.has_sandbox and conditions.is_true(self._pod, mesh.SANDBOX_READY):
                self._statuses.changed()  # what was lost while nobody looked is told before it is made anew
            while not self._is_done:
                self._news = anyio.Event()
                decision = decide.decide(self._pod, self._record, await self._facts())
                for action in decision.actions:
                    self._act(action)
                if not self._is_done:
                    await self._wait(decision.wake_at)
            tasks.cancel_scope.cancel()

    async def _wait(self, wake_at: float | None) -> None:
        moments = [m for m in (wake_at, self._next_refresh()) if m is not None]
        if not moments:
            await self._news.wait()
            return
        wait_s = min(moments) - self._host.clock.now()
        async with anyio.create_task_group() as waiting:
            waiting.start_soon(self._alarm, wait_s)
            await self._news.wait()
            waiting.cancel_scope.cancel()
        refresh = self._next_refresh()
        if refresh is not None and self._host.clock.now() >= refresh:
            self.refresh_volumes()

    def _next_refresh(self) -> float | None:
        """When a token is to be renewed; nobody waits for one that is being renewed or is tried again."""
        is_under_way = self._are_volumes_stale or "refresh" in self._busy
        return None if is_under_way else self._host.sources.next_refresh(self._pod)

    async def _alarm(self, wait_s: float) -> None:
        await self._host.clock.sleep(max(wait_s, 0.001))
        self.touch()

    async def _facts(self) -> model.Facts:
        return model.Facts(
            now=self._host.clock.now(),
            is_deleting=self._is_ending(),
            are_volumes_ready=self._are_volumes_ready,
            is_gate_open=await self._is_gate_open(),
            is_proxy_gone=await self._is_proxy_gone(),
            busy=frozenset(self._busy),
            are_volumes_stale=self._are_volumes_stale,
            unhealthy=dict(self._unhealthy),
        )

    async def _is_gate_open(self) -> bool:
        """Containers of a mesh pod start only once its proxy listens in the sandbox it has now."""
        if not await self._is_in_mesh():
            return True
        return self._record.has_sandbox and conditions.is_true(self._pod, mesh.POD_PROGRAMMED)

    async def _is_proxy_gone(self) -> bool:
        """A sandbox is made anew only once the mesh has seen that the former one is gone.

        Else its listener would stay in the dead namespace, and the condition that says it is there
        would let the containers start.
        """
        return not (await self._is_in_mesh() and conditions.is_true(self._pod, mesh.POD_PROGRAMMED))

    async def _is_in_mesh(self) -> bool:
        if self._is_meshed is None:
            self._is_meshed = await steps.is_meshed(self._host, self._pod)
        return self._is_meshed

    async def _warn_of_a_closed_gate(self) -> None:
        await self._host.clock.sleep(self._host.config.mesh_patience_s)
        if not self.is_over and not await self._is_gate_open():
            message = "The mesh has not programmed this pod's proxy yet; its containers wait for it"
            self._event("Warning", "MeshNotProgrammed", message)

    def _refuse_unsupported(self) -> None:
        refused, warned = planning.unsupported(self._pod)
        if warned:
            self._event("Warning", "UnsupportedField", f"not applied by this node: {', '.join(warned)}")
        forbidden = sysctls.forbidden(self._pod, self._host.config.allowed_unsafe_sysctls, self._host.kernel)
        if forbidden and not self._record.has_sandbox:
            self._act(decide.Fail(sysctls.REASON, f"Pod was rejected: {forbidden}"))
        elif refused and not self._record.has_sandbox:
            self._act(decide.Fail("UnsupportedField", f"this node cannot honour {', '.join(refused)}"))

    def _adopt(self) -> None:
        """Take up what an earlier agent left: wait for its containers, probe them on."""
        self._are_volumes_ready = self._record.has_sandbox
        for name, container in self._record.containers.items():
            if container.current is not None and container.current.is_running:
                self._follow(name, container.current)
        self._are_volumes_stale = True

    def _status(self) -> Object | None:
        """What to say of the pod; None for one that is not known any more, or never was here."""
        was_ever_here = bool(self._record.containers) or self._record.has_sandbox
        if self._has_vanished or (self._is_ending() and not was_ever_here):
            return None
        return status.status(
            self._pod,
            self._record,
            runtime=self._host.runtime.name,
            host_ip=self._host.config.host_ip,
            now=self._host.clock.now(),
            previous=self._statuses.conditions,
            is_starting=not self._busy.isdisjoint(c["name"] for c in model.all_containers(self._pod)),
        )

    # Records

    def _keep(self, record: Record) -> None:
        self._record = record
        self._host.save(record)
        self.touch()

    def _keep_container(self, name: str, **changes: Any) -> Container:
        container = msgspec.structs.replace(self._record.container(name), **changes)
        self._keep(self._record.with_container(name, container))
        return container

    def _event(self, type: Any, reason: str, message: str, container: str = "") -> None:
        part = model.field_path(self._pod, container) if container else ""
        host = self._host.config.name
        self._host.recorder.event(self._pod, type, reason, message, component="kubelet", part=part, host=host)

    # Steps

    def _act(self, action: Action) -> None:
        match action:
            case decide.SetUpSandbox():
                self._begin("sandbox", self._set_up_sandbox)
            case decide.PrepareVolumes():
                self._begin("volumes", self._prepare_volumes)
            case decide.RefreshVolumes():
                self._begin("refresh", self._refresh)
            case decide.Create(name):
                self._begin(name, lambda: self._create(name))
            case decide.Start(name):
                self._begin(name, lambda: self._start(name))
            case decide.Stop(name, grace_s, why):
                self._begin(name, lambda: self._stop(name, grace_s, why or f"Stopping container {name}"))
            case decide.Fail(reason, message):
                self._event("Warning", reason, message)
                self._keep(
                    msgspec.structs.replace(self._record, failed_reason=reason, failed_message=message)
                )
            case decide.TearDown():
                self._begin("sandbox", self._tear_down)
            case decide.Finish():
                self._begin("finish", self._finish)

    def _begin(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        if self._tasks is None or what in self._busy:
            return
        self._busy.add(what)
        self._tasks.start_soon(self._do, what, step)

    async def _do(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
            self._step_failures.pop(what, None)
        except (errors.OndolError, OSError) as error:
            await self._step_failed(what, error)
        finally:
            self._busy.discard(what)
            self.touch()

    _FAILED: Final = {
        "sandbox": "FailedCreatePodSandBox",
        "volumes": "FailedMount",
        "refresh": "FailedMount",
        "finish": "FailedKillPod",
    }

    async def _step_failed(self, what: str, error: Exception) -> None:
        """Say it, and keep the step busy for a while so that it is not tried again at once."""
        failures = self._step_failures[what] = self._step_failures.get(what, 0) + 1
        self._log.warning("step_failed", step=what, error=str(error), failures=failures)
        self._event("Warning", self._FAILED.get(what, "Failed"), str(error))
        with anyio.move_on_after(_STEP_BACKOFF.delay_s(failures)):
            await self._hurry.wait()

    async def _set_up_sandbox(self) -> None:
        self._host.save(self._record)
        address = await steps.set_up_sandbox(self._host, self._pod)
        anew = decide.begun_anew(self._pod, self._record)
        self._keep(msgspec.structs.replace(anew, address=address, has_sandbox=True))

    async def _prepare_volumes(self) -> None:
        await self._refresh()
        self._are_volumes_ready = True

    async def _refresh(self) -> None:
        """What changes from here on, while content is read and written, is for the next one."""
        self._are_volumes_stale = False
        try:
            await steps.prepare_volumes(self._host, self._pod, self._record)
        except BaseException:
            self._are_volumes_stale = True
            raise

    async def _create(self, name: str) -> None:
        before = decide.afresh(self._spec_of(name), self._record.container(name))
        number = before.next_number
        try:
            created = await steps.create_container(self._host, self._pod, self._record, name, number)
        except ImageUnavailable as error:
            self._image_failed(name, error)
            return
        except (env.ConfigMissing, volumes.VolumeFailed, errors.Invalid) as error:
            await steps.discard_container(self._host, steps.container_id(self.uid, name, number))
            self._config_failed(name, str(error))
            return
        except (RuntimeFailed, errors.HostError, OSError) as error:
            await self._start_failed(name, number, str(error))
            return
        how = "Successfully pulled image" if created.was_pulled else "Container image"
        tail = "" if created.was_pulled else " already present on machine"
        self._event("Normal", "Pulled", f'{how} "{created.attempt.image}"{tail}', name)
        for sentence in created.skipped:
            self._event("Warning", "InvalidEnvironmentVariableNames", sentence, name)
        self._event("Normal", "Created", f"Created container: {name}", name)
        failures = 0 if before.waiting_reason else before.failures
        self._rotate(name, created.attempt, failures=failures)

    def _rotate(self, name: str, attempt: Attempt, *, failures: int) -> None:
        """The new attempt becomes current, the former one the last state."""
        self._keep_container(name, **self._record.container(name).succeeded_by(attempt, failures))
        steps.forget_attempt(self._host, self.uid, name, attempt.number - 2)

    def _image_failed(self, name: str, error: ImageUnavailable) -> None:
        failures = self._failures(name) + 1
        refusal = images.refusal(self._spec_of(name)["image"], error, failures=failures)
        if refusal.note is not None:
            self._event("Normal", *refusal.note, name)
        for reason, message in refusal.warnings:
            self._event("Warning", reason, message, name)
        self._wait_with(name, refusal.reason, refusal.message, failures, self._host.config.image_backoff)

    def _config_failed(self, name: str, message: str) -> None:
        self._event("Warning", "Failed", f"Error: {message}", name)
        failures = self._failures(name) + 1
        self._wait_with(name, "CreateContainerConfigError", message, failures, _STEP_BACKOFF)

    def _failures(self, name: str) -> int:
        return decide.afresh(self._spec_of(name), self._record.container(name)).failures

    def _wait_with(self, name: str, reason: str, message: str, failures: int, backoff: Backoff) -> None:
        self._keep_container(
            name,
            waiting_reason=reason,
            waiting_message=message,
            tried_image=self._spec_of(name).get("image", ""),
            failures=failures,
            retry_at=self._host.clock.now() + backoff.delay_s(failures),
        )

    async def _start_failed(self, name: str, number: int, message: str) -> None:
        self._event("Warning", "Failed", f"Error: {message}", name)
        identity = steps.container_id(self.uid, name, number)
        await steps.discard_container(self._host, identity)
        given = self._spec_of(name)
        attempt = Attempt(number, identity, given["image"], "", reason="StartError", message=message)
        before = self._record.container(name)
        self._rotate(name, attempt, failures=before.failures)
        ended = Exit(_START_ERROR, oom_killed=False, finished_at=self._host.clock.now())
        self._note_exit(name, ended, "")

    def _spec_of(self, name: str) -> Spec:
        return next(c for c in model.all_containers(self._pod) if c["name"] == name)

    async def _start(self, name: str) -> None:
        attempt = self._record.container(name).current
        if attempt is None or attempt.handle is None:
            return
        try:
            await self._host.runtime.start(attempt.handle)
        except RuntimeFailed as error:
            self._event("Warning", "Failed", f"Error: {error}", name)
            await steps.discard_container(self._host, attempt.id)
            failed = msgspec.structs.replace(attempt, reason="StartError", message=str(error))
            self._keep_container(name, current=failed)
            self._note_exit(
                name, Exit(_START_ERROR, oom_killed=False, finished_at=self._host.clock.now()), ""
            )
            return
        given = self._spec_of(name)
        is_started = not given.get("startupProbe") and not (given.get("lifecycle") or {}).get("postStart")
        attempt = msgspec.structs.replace(attempt, started_at=self._host.clock.now())
        self._keep_container(name, current=attempt, is_started=is_started)
        self._event("Normal", "Started", f"Started container {name}", name)
        self._log.info("container_started", container=name, attempt=attempt.number)
        self._follow(name, attempt)

    async def _post_start(self, name: str, given: Spec, target: Target) -> None:
        """Beside the step that started the container: however long it takes, the pod can be deleted."""
        hook = (given.get("lifecycle") or {}).get("postStart")
        if not hook or self._record.container(name).is_started:
            return
        failure = await steps.run_hook(hook, target, self._host.clock.sleep, _HOOK_TIMEOUT_S)
        if failure:
            # What a hook said may be secret, and events are for many: it stays in the node's own log.
            self._event("Warning", "FailedPostStartHook", "PostStartHook failed", name)
            self._log.warning("post_start_hook_failed", container=name, error=failure)
            self._unhealthy[name] = model.Unhealthy("FailedPostStartHook")
            self.touch()
        elif not given.get("startupProbe"):
            self._keep_container(name, is_started=True)

    # While a container runs

    def _follow(self, name: str, attempt: Attempt) -> None:
        if self._tasks is not None:
            self._followed.add(attempt.id)
            self._tasks.start_soon(self._await_exit, name, attempt)
            self._tasks.start_soon(self._probe, name, attempt)

    async def _await_exit(self, name: str, attempt: Attempt) -> None:
        if attempt.handle is None:
            return
        ended = await self._host.runtime.wait(attempt.handle)
        watch = self._watches.pop(attempt.id, None)
        if watch is not None:
            watch.cancel()
        over = msgspec.structs.replace(attempt, exit=ended)
        message = steps.termination_message(self._host, self._pod, self._spec_of(name), over)
        self._note_exit(name, ended, message)
        self._log.info("container_ended", container=name, code=ended.code, oom=ended.oom_killed)
        await steps.discard_container(self._host, attempt.id)
        self._followed.discard(attempt.id)
        self.touch()

    def _note_exit(self, name: str, ended: Exit, message: str) -> None:
        self._unhealthy.pop(name, None)
        before = self._record.container(name)
        after = decide.exited(before, ended, message=message, backoff=self._host.config.restart_backoff)
        if after.retry_at > self._host.clock.now():
            who = f"{self._record.name}_{self._record.namespace}({self.uid})"
            text = f"Back-off restarting failed container {name} in pod {who}"
            self._event("Warning", "BackOff", text, name)
        self._keep(self._record.with_container(name, after))

    async def _probe(self, name: str, attempt: Attempt) -> None:
        given = self._spec_of(name)
        target = steps.probe_target(self._host, self._record, given, attempt)
        ears = probing.Ears(
            report=lambda kind, ok: self._probed(kind, name, attempt, ok),
            tell=lambda kind, answer: self._tell_of_probe(kind, name, answer),
            is_ending=self._is_ending,
        )
        with anyio.CancelScope() as scope:
            self._watches[attempt.id] = scope
            await self._post_start(name, given, target)
            is_started = self._record.container(name).is_started
            run = probing.Run(given, target, attempt.started_at, is_started)
            await probing.watch_all(run, self._host.clock, ears)

    def _tell_of_probe(self, kind: probing.Kind, name: str, answer: Answer) -> None:
        reason = "ProbeWarning" if answer.kind == "warning" else "Unhealthy"
        message = f"{kind.capitalize()} probe {_TOLD[answer.kind]}: {answer.message}"
        self._event("Warning", reason, message, name)

    def _probed(self, kind: probing.Kind, name: str, attempt: Attempt, ok: bool) -> None:
        container = self._record.container(name)
        if container.current is None or container.current.id != attempt.id or not container.is_running:
            return
        if kind == "readiness":
            if container.is_ready != ok:
                self._keep_container(name, is_ready=ok)
        elif kind == "startup" and ok:
            self._keep_container(name, is_started=True)
        elif not ok:
            grace_s = self._spec_of(name)[f"{kind}Probe"].get("terminationGracePeriodSeconds")
            why = f"Container {name} failed {kind} probe, will be restarted"
            self._unhealthy[name] = model.Unhealthy(why, None if grace_s is None else float(grace_s))
            self.touch()

    # The end

    def _signal(self, attempt: Attempt, number: int) -> None:
        if attempt.handle is not None:
            self._host.runtime.signal(attempt.handle, number)

    async def _stop(self, name: str, grace_s: float, why: str) -> None:
        attempt = self._record.container(name).current
        if attempt is None or attempt.exit is not None:
            return
        self._event("Normal", "Killing", why, name)
        if attempt.is_created:
            await steps.discard_container(self._host, attempt.id)
            self._keep_container(name, current=None)
            return
        deadline = self._host.clock.monotonic() + grace_s
        async with anyio.create_task_group() as both:
            both.start_soon(self._drain, grace_s)
            await self._pre_stop(name, attempt, grace_s)
        self._signal(attempt, steps.signal_number(attempt.stop_signal))
        while self._record.container(name).is_running:
            if self._is_ending():
                shortened = self._host.clock.monotonic() + decide.grace_s(self._pod)
                deadline = min(deadline, shortened) if decide.grace_s(self._pod) < grace_s else deadline
            left_s = deadline - self._host.clock.monotonic()
            if left_s <= 0:
                break
            news = self._news
            with anyio.move_on_after(left_s):
                await news.wait()
                await anyio.lowlevel.checkpoint()
        self._signal(attempt, signal.SIGKILL)
        while self._record.container(name).is_running:
            with anyio.move_on_after(0.2):
                await self._news.wait()
                await anyio.lowlevel.checkpoint()

    async def _drain(self, grace_s: float) -> None:
        """Once for the pod: its sidecars, which end last, have been drained with it."""
        if self._is_drained or not self._is_ending() or not await self._is_in_mesh():
            return
        await draining.drain(self._host, self._record, grace_s, lambda: self._is_hurried(grace_s))
        self._is_drained = True

    def _is_hurried(self, grace_s: float) -> bool:
        is_over = self._has_vanished or not self._record.is_any_running
        return is_over or decide.grace_s(self._pod) < grace_s

    async def _pre_stop(self, name: str, attempt: Attempt, grace_s: float) -> None:
        hook = (self._spec_of(name).get("lifecycle") or {}).get("preStop")
        if not hook or grace_s <= 0:
            return
        target = steps.probe_target(self._host, self._record, self._spec_of(name), attempt)
        with anyio.move_on_after(grace_s):
            failure = await steps.run_hook(hook, target, self._host.clock.sleep, grace_s)
            if failure:
                self._event("Warning", "FailedPreStopHook", f"PreStopHook failed: {failure}")

    async def _tear_down(self) -> None:
        await steps.tear_down(self._host, self.uid)
        await steps.free_volumes(self._host, self._pod)
        self._are_volumes_ready = False
        self._keep(msgspec.structs.replace(self._record, has_sandbox=False))

    async def _finish(self) -> None:
        while self._followed:  # what has ended is discarded first: this task ends all others
            await self._news.wait()
            await anyio.lowlevel.checkpoint()
        if not self._has_vanished:
            await self._statuses.write(self._status())
            await self._delete_object()
        await steps.remove_files(self._host, self.uid)
        self._log.info("pod_removed")
        self._is_done = True

    async def _delete_object(self) -> None:
        key = objects.key(self._pod)
        try:
            await self._host.client.delete(
                resources.POD, key.name, key.namespace, grace_period_s=0, uid=self.uid
            )
        except (errors.NotFound, errors.Conflict):
            return  # gone already, or its name belongs to another pod now
