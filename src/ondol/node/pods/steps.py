"""A pod's steps, run beside its worker: each under a name, never twice at once, tried again after a wait.

A step that runs, or waits for its next try, is busy: the worker does not begin it again, and hears of the
pod's deletion meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from anyio.abc import TaskGroup

from ondol.base import errors
from ondol.base.backoff import Backoff
from ondol.node.pods.tracked import TrackedPod

Step: TypeAlias = Callable[[], Awaitable[None]]

BACKOFF: Final = Backoff(initial_s=0.2, maximum_s=10.0)
_REASONS: Final = {
    "sandbox": "FailedCreatePodSandBox",
    "volumes": "FailedMount",
    "refresh": "FailedMount",
    "teardown": "FailedKillPod",
    "finish": "FailedKillPod",
}
"""Of the event when a step fails; that of a container is `Failed`."""


class Steps:
    def __init__(self, tracked: TrackedPod) -> None:
        self._tracked = tracked
        self._tasks: TaskGroup | None = None
        self._failures: dict[str, int] = {}
        self.busy: set[str] = set()

    def start(self, tasks: TaskGroup) -> None:
        """From now on steps run in these tasks; what is begun before is not."""
        self._tasks = tasks

    def begin(self, name: str, step: Step) -> None:
        if self._tasks is None or name in self.busy:
            return
        self.busy.add(name)
        self._tasks.start_soon(self._do, name, step)

    async def _do(self, name: str, step: Step) -> None:
        try:
            await step()
            self._failures.pop(name, None)
        except (errors.OndolError, OSError) as error:
            self._tracked.event("Warning", _REASONS.get(name, "Failed"), str(error))
            await self._back_off(name, error)
        finally:
            self.busy.discard(name)
            self._tracked.touch()

    async def until_done(self, name: str, step: Step) -> None:
        """Do it, again and again if it fails: for what must come about before anything else may follow."""
        while True:
            try:
                await step()
            except (errors.OndolError, OSError) as error:
                await self._back_off(name, error)
            else:
                self._failures.pop(name, None)
                return

    async def _back_off(self, name: str, error: Exception) -> None:
        """Wait longer after each failure in a row, or until news ask for a try now."""
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        self._tracked.log.warning("step_failed", step=name, error=str(error), failures=failures)
        retry = self._tracked.retry
        with self._tracked.host.clock.move_on_after(BACKOFF.delay_s(failures)):
            await retry.wait()
