"""A pod's steps, run beside its worker: each under a key, never twice at once, tried again after a wait.

A step that runs, or waits for its next try, is busy: the worker does not begin it again, and hears of the
pod's deletion meanwhile.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from anyio.abc import TaskGroup

from ondol.base import errors
from ondol.base.backoff import Backoff
from ondol.node.pods.model import PodStep, Step
from ondol.node.pods.tracked import TrackedPod

Work: TypeAlias = Callable[[], Awaitable[None]]

BACKOFF: Final = Backoff(initial_s=0.2, maximum_s=10.0)
_REASONS: Final[Mapping[Step, str]] = {
    PodStep.SANDBOX: "FailedCreatePodSandBox",
    PodStep.VOLUMES: "FailedMount",
    PodStep.REFRESH: "FailedMount",
    PodStep.TEARDOWN: "FailedKillPod",
    PodStep.FINISH: "FailedKillPod",
}
"""Of the event when a step fails; that of a container is `Failed`."""
_OPERATIONS: Final[Mapping[Step, str]] = {
    PodStep.SANDBOX: "create",
    PodStep.TEARDOWN: "terminating",
    PodStep.FINISH: "terminated",
}


def _operation(step: Step) -> str:
    """What the kubelet's metrics call the step."""
    return _OPERATIONS.get(step, "sync")


class Steps:
    def __init__(self, tracked: TrackedPod) -> None:
        self._tracked = tracked
        self._tasks: TaskGroup | None = None
        self._failures: dict[Step, int] = {}
        self.busy: set[Step] = set()

    def start(self, tasks: TaskGroup) -> None:
        """From now on steps run in these tasks; what is begun before is not."""
        self._tasks = tasks

    def begin(self, step: Step, work: Work) -> None:
        if self._tasks is None or step in self.busy:
            return
        self.busy.add(step)
        self._tasks.start_soon(self._do, step, work)

    async def _do(self, step: Step, work: Work) -> None:
        clock = self._tracked.host.clock
        began_at = clock.monotonic()
        try:
            await work()
            self._failures.pop(step, None)
            self._tracked.host.activity.step_s[(_operation(step),)].observe(clock.monotonic() - began_at)
        except (errors.OndolError, OSError) as error:
            self._tracked.event("Warning", _REASONS.get(step, "Failed"), str(error))
            await self._back_off(step, error)
        finally:
            self.busy.discard(step)
            self._tracked.touch()

    async def until_done(self, step: Step, work: Work) -> None:
        """Do it, again and again if it fails: for what must come about before anything else may follow."""
        while True:
            try:
                await work()
            except (errors.OndolError, OSError) as error:
                await self._back_off(step, error)
            else:
                self._failures.pop(step, None)
                return

    async def _back_off(self, step: Step, error: Exception) -> None:
        """Wait longer after each failure in a row, or until news ask for a try now."""
        failures = self._failures[step] = self._failures.get(step, 0) + 1
        self._tracked.log.warning("step_failed", step=str(step), error=str(error), failures=failures)
        retry = self._tracked.retry
        with self._tracked.host.clock.move_on_after(BACKOFF.delay_s(failures)):
            await retry.wait()
