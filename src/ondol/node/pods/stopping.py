"""The step that stops a container: `preStop` hook and drain, stop signal, grace period, SIGKILL."""

from __future__ import annotations

import signal
from typing import Final

import anyio
import msgspec

from ondol.node.pods import decide, draining, hooks
from ondol.node.pods.mesh_gate import MeshGate
from ondol.node.pods.model import Attempt
from ondol.node.pods.tracked import TrackedPod

_LOOK_AGAIN_S: Final = 0.2


class Stopping:
    def __init__(self, tracked: TrackedPod, gate: MeshGate) -> None:
        self._tracked = tracked
        self._gate = gate
        self._is_drained = False

    async def stop(self, action: decide.Stop) -> None:
        tracked, name, grace_s = self._tracked, action.container, action.grace_s
        attempt = tracked.record.container(name).current
        if attempt is None or attempt.exit is not None:
            return
        tracked.event("Normal", "Killing", action.why or f"Stopping container {name}", name)
        if action.must_restart:
            tracked.keep_container(name, current=msgspec.structs.replace(attempt, must_restart=True))
        if attempt.is_created:
            await tracked.host.machine.discard_container(attempt.id)
            tracked.keep_container(name, current=None)
            return
        deadline = tracked.host.clock.monotonic() + grace_s
        async with anyio.create_task_group() as both:
            both.start_soon(self._drain, grace_s)
            await self._pre_stop(name, attempt, grace_s)
        self._signal(attempt, signal_number(attempt.stop_signal))
        await self._until_ended(name, grace_s, deadline)
        self._signal(attempt, signal.SIGKILL)
        while tracked.record.container(name).is_running:
            await self._news(_LOOK_AGAIN_S)

    async def _until_ended(self, name: str, grace_s: float, deadline: float) -> None:
        """Until it has ended or its time is over, which a deletion may make shorter meanwhile."""
        tracked, clock = self._tracked, self._tracked.host.clock
        while tracked.record.container(name).is_running:
            if tracked.is_ending and tracked.grace_s < grace_s:
                deadline = min(deadline, clock.monotonic() + tracked.grace_s)
            left_s = deadline - clock.monotonic()
            if left_s <= 0:
                return
            await self._news(left_s)

    async def _news(self, limit_s: float) -> None:
        news = self._tracked.news
        with self._tracked.host.clock.move_on_after(limit_s):
            await news.wait()

    def _signal(self, attempt: Attempt, number: int) -> None:
        if attempt.handle is not None:
            self._tracked.host.runtime.signal(attempt.handle, number)

    async def _drain(self, grace_s: float) -> None:
        """Once for the pod: its sidecars, which end last, have been drained with it."""
        tracked = self._tracked
        if self._is_drained or not tracked.is_ending or not await self._gate.is_in_mesh():
            return
        await draining.drain(tracked.host, tracked.record, grace_s, lambda: self._is_hurried(grace_s))
        self._is_drained = True

    def _is_hurried(self, grace_s: float) -> bool:
        tracked = self._tracked
        is_over = tracked.has_vanished or not tracked.record.is_any_running
        return is_over or tracked.grace_s < grace_s

    async def _pre_stop(self, name: str, attempt: Attempt, grace_s: float) -> None:
        tracked = self._tracked
        spec = tracked.spec_of(name)
        hook = (spec.get("lifecycle") or {}).get("preStop")
        if not hook or grace_s <= 0:
            return
        target = hooks.target_of(tracked.host, tracked.record, spec, attempt)
        with tracked.host.clock.move_on_after(grace_s):
            failure = await hooks.run(hook, target, tracked.host.clock, grace_s)
            if failure:
                tracked.event("Warning", "FailedPreStopHook", f"PreStopHook failed: {failure}")


def signal_number(name: str) -> int:
    """Of `SIGTERM`, `term` or `15`; `KeyError` when there is no such signal."""
    text = name.upper()
    if text.isdigit():
        return int(text)
    return int(signal.Signals[text if text.startswith("SIG") else f"SIG{text}"])
