"""Containers that run: their end is awaited, their probes are asked, their `postStart` hook is run."""

from __future__ import annotations

from typing import Final

import anyio
import msgspec
from anyio.abc import TaskGroup

from ondol.node.pods import hooks, model, probing
from ondol.node.pods.model import Attempt, ContainerStep, Spec
from ondol.node.pods.steps import Steps
from ondol.node.pods.target import Answer, Target
from ondol.node.pods.tracked import TrackedPod

_HOOK_TIMEOUT_S: Final = 24 * 3600.0  # a hook has the time it takes, as long as its container runs
_VERBS: Final = {
    "warning": "warning",
    "failure": "failed",
    "error": "errored and resulted in unknown state",
}
_RESULTS: Final = {
    "success": "successful",
    "warning": "successful",
    "failure": "failed",
    "error": "unknown",
}
"""As the kubelet's metrics call answers."""


class RunningContainers:
    def __init__(self, tracked: TrackedPod, steps: Steps) -> None:
        self._tracked = tracked
        self._steps = steps
        self._tasks: TaskGroup | None = None
        self._probing: dict[str, anyio.CancelScope] = {}
        self._followed: set[str] = set()

    def start(self, tasks: TaskGroup) -> None:
        """Follow, in these tasks, what an earlier agent left running."""
        self._tasks = tasks
        for name, container in self._tracked.record.containers.items():
            if container.current is not None and container.current.is_running:
                self.follow(name, container.current)

    def follow(self, name: str, attempt: Attempt) -> None:
        if self._tasks is not None:
            self._followed.add(attempt.id)
            self._tasks.start_soon(self._await_exit, name, attempt)
            self._tasks.start_soon(self._probe, name, attempt)

    async def all_discarded(self) -> None:
        """Until whatever has run has ended and is discarded."""
        while self._followed:
            await self._tracked.news.wait()

    async def _await_exit(self, name: str, attempt: Attempt) -> None:
        """The record keeps how it ended before the runtime forgets it."""
        tracked, machine = self._tracked, self._tracked.host.machine
        handle = attempt.handle
        if handle is None:
            return
        ended = await tracked.host.runtime.wait(handle)
        machine.container_ended(tracked.pod, name, attempt)
        if scope := self._probing.pop(attempt.id, None):
            scope.cancel()

        async def note() -> None:
            over = msgspec.structs.replace(attempt, exit=ended)
            message = machine.termination_message(tracked.pod, tracked.spec_of(name), over)
            tracked.exited(name, ended, message)

        async def discard() -> None:
            if not tracked.is_ending:
                tracked.ensure_saved()
            machine.container_ended(tracked.pod, name, attempt)  # others of its cgroup may have gone on
            await machine.discard_container(attempt.id)

        await self._steps.until_done(ContainerStep(name, "exit of"), note)
        tracked.log.info("container_ended", container=name, code=ended.code, oom=ended.oom_killed)
        await self._steps.until_done(ContainerStep(name, "discard of"), discard)
        self._followed.discard(attempt.id)
        tracked.touch()

    async def _probe(self, name: str, attempt: Attempt) -> None:
        tracked = self._tracked
        spec = tracked.spec_of(name)
        target = hooks.target_of(tracked.host, tracked.record, spec, attempt)
        listener = probing.Listener(
            report=lambda kind, ok: self._probed(kind, name, attempt, ok),
            tell=lambda kind, answer: self._record_answer(kind, name, answer),
            is_ending=lambda: tracked.is_ending,
            asked=lambda kind, answer: tracked.host.activity.probed(
                tracked.pod, name, kind, _RESULTS[answer.kind]
            ),
        )
        with anyio.CancelScope() as scope:
            self._probing[attempt.id] = scope
            await self._post_start(name, spec, target)
            is_started = tracked.record.container(name).is_started
            run = probing.Run(spec, target, attempt.started_at, is_started)
            await probing.watch_all(run, tracked.host.clock, listener)

    async def _post_start(self, name: str, spec: Spec, target: Target) -> None:
        """Beside the step that started the container: however long it takes, the pod can be deleted."""
        tracked = self._tracked
        hook = (spec.get("lifecycle") or {}).get("postStart")
        if not hook or tracked.record.container(name).is_started:
            return
        failure = await hooks.run(hook, target, tracked.host.clock, _HOOK_TIMEOUT_S)
        if failure:
            # What a hook printed may be secret, and events are for many: it stays in the node's own log.
            tracked.event("Warning", "FailedPostStartHook", "PostStartHook failed", name)
            tracked.log.warning("post_start_hook_failed", container=name, error=failure)
            tracked.unhealthy[name] = model.Unhealthy("FailedPostStartHook")
            tracked.touch()
        elif not spec.get("startupProbe"):
            tracked.keep_container(name, is_started=True)

    def _record_answer(self, kind: probing.Kind, name: str, answer: Answer) -> None:
        reason = "ProbeWarning" if answer.kind == "warning" else "Unhealthy"
        message = f"{kind.capitalize()} probe {_VERBS[answer.kind]}: {answer.message}"
        self._tracked.event("Warning", reason, message, name)

    def _probed(self, kind: probing.Kind, name: str, attempt: Attempt, ok: bool) -> None:
        tracked = self._tracked
        container = tracked.record.container(name)
        if container.current is None or container.current.id != attempt.id or not container.is_running:
            return
        if kind == "readiness":
            if container.is_ready != ok:
                tracked.keep_container(name, is_ready=ok)
        elif kind == "startup" and ok:
            tracked.keep_container(name, is_started=True)
        elif not ok:
            grace_s = tracked.spec_of(name)[f"{kind}Probe"].get("terminationGracePeriodSeconds")
            why = f"Container {name} failed {kind} probe, will be restarted"
            tracked.unhealthy[name] = model.Unhealthy(why, None if grace_s is None else float(grace_s))
            tracked.touch()
