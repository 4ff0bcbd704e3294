"""The steps of an in-place resize: it is taken on or put off, made, and told of."""

from __future__ import annotations

from typing import Literal

from ondol.api import resizes as api
from ondol.base import errors
from ondol.node import pod_spec
from ondol.node.pods import resizing, steps
from ondol.node.pods.tracked import TrackedPod


class Resizing:
    def __init__(self, tracked: TrackedPod) -> None:
        self._tracked = tracked

    @property
    def is_due(self) -> bool:
        tracked = self._tracked
        if tracked.is_over:
            return False
        is_other = resizing.desired(tracked.pod) != tracked.record.allocated
        return is_other or tracked.record.resize_pending is not None

    def accept(self) -> None:
        tracked = self._tracked
        if resizing.desired(tracked.pod) == tracked.record.allocated:
            tracked.keep(resizing.withdrawn(tracked.record))
            return
        tracked.keep(resizing.accepted(tracked.pod, tracked.record))
        self._tell("Normal", "ResizeStarted", "Pod resize started", resizing.generation(tracked.pod))

    def put_off(self, reason: str, message: str) -> None:
        tracked, before = self._tracked, self._tracked.record.resize_pending
        record = resizing.put_off(tracked.pod, tracked.record, reason, message)
        if before is not None and before == record.resize_pending:
            return
        tracked.keep(record)
        event = "ResizeInfeasible" if reason == api.INFEASIBLE else "ResizeDeferred"
        generation = resizing.generation(tracked.pod)
        self._tell("Warning", event, f"Pod resize {reason}", generation, message)

    async def resize(self, name: str) -> None:
        """Give a container its size; what keeps it from that is told, and it is tried again."""
        tracked = self._tracked
        attempt = tracked.record.container(name).current
        if attempt is None or not attempt.is_running:
            return
        target = tracked.record.allocated.get(name)
        pod = tracked.allocated
        spec = next(each for each in pod_spec.all_containers(pod) if each["name"] == name)
        try:
            await tracked.host.machine.resize_container(pod, spec, attempt)
        except (errors.OndolError, OSError) as error:
            self._failed(str(error))
            return
        current = tracked.record.container(name).current
        if current is not None and current.id == attempt.id and tracked.record.allocated.get(name) == target:
            tracked.keep(resizing.resized(tracked.record, name))

    def _failed(self, message: str) -> None:
        tracked, before = self._tracked, self._tracked.record.resize_progress
        failures = (before.failures if before is not None else 0) + 1
        retry_at = tracked.host.clock.now() + steps.BACKOFF.delay_s(failures)
        tracked.keep(resizing.not_resized(tracked.record, message, retry_at=retry_at))
        if before is None or before.message != message:
            generation = before.generation if before is not None else 0
            self._tell("Warning", "ResizeError", "Pod resize error", generation, message)

    def end(self) -> None:
        tracked, progress = self._tracked, self._tracked.record.resize_progress
        if progress is not None:
            tracked.keep(resizing.done(tracked.record))
            self._tell("Normal", "ResizeCompleted", "Pod resize completed", progress.generation)

    def _tell(
        self, type: Literal["Normal", "Warning"], reason: str, prefix: str, generation: int, error: str = ""
    ) -> None:
        tracked = self._tracked
        pod = tracked.pod if reason in ("ResizeDeferred", "ResizeInfeasible") else tracked.allocated
        message = resizing.summary(pod, prefix, generation=generation, error=error)
        tracked.event(type, reason, message)
