"""Looks at what the machine is short of, every time it is asked to; makes room, then sends one pod away.

One pod a turn, and none while the one before still holds what it had: what it frees shows in the next look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ondol.api import eviction_thresholds, objects
from ondol.api.eviction_thresholds import SIGNALS, Readings, Threshold
from ondol.base import errors, log
from ondol.node.pods import decide
from ondol.node.pods.host import Host
from ondol.node.pods.worker import PodWorker
from ondol.node.pressure import lasting, ranking
from ondol.node.pressure.ranking import Candidate

_log = log.get("node.pressure")


class Pressure:
    """`look` is one turn; `workers` are those of all pods."""

    def __init__(self, host: Host, workers: Callable[[], Iterable[PodWorker]]) -> None:
        self._host = host
        self._workers = workers
        self._thresholds = eviction_thresholds.parse(host.config.eviction_hard)
        self._seen: lasting.Seen = {}
        self._announced: frozenset[str] = frozenset()

    @property
    def conditions(self) -> frozenset[str]:
        """Of the Node, those that are true."""
        now, transition_s = self._host.clock.monotonic(), self._host.config.eviction_transition_s
        return lasting.lasting(self._seen, now, transition_s)

    async def look(self) -> None:
        if not self._thresholds:
            return
        try:
            await self._look()
        except (OSError, ValueError) as error:
            _log.warning("machine_not_read", error=str(error))

    async def _look(self) -> None:
        readings = await self._host.machine.readings()
        met = eviction_thresholds.met(self._thresholds, readings)
        self._seen = lasting.seen(self._seen, met, self._host.clock.monotonic())
        if met:
            await self._relieve(met, readings)
        else:
            self._announced = frozenset()

    async def _relieve(self, met: Sequence[Threshold], readings: Readings) -> None:
        threshold = met[0]
        resource = SIGNALS[threshold.signal].resource
        if resource not in self._announced:
            self._announced |= {resource}
            self._tell(resource)
        if SIGNALS[threshold.signal].condition == "DiskPressure":
            await self._host.machine.free_images(self.used_images(), is_urgent=True)
            readings = await self._host.machine.readings()
            if threshold not in eviction_thresholds.met(met, readings):
                return
        if any(_is_leaving(worker) for worker in self._workers()):
            return
        await self._evict(threshold, resource, readings)

    def _tell(self, resource: str) -> None:
        name = self._host.config.name
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": name}}
        message = f"Attempting to reclaim {resource}"
        self._host.recorder.event(
            node, "Warning", "EvictionThresholdMet", message, component="kubelet", host=name
        )

    def used_images(self) -> set[str]:
        """The names and ids of all images that a pod has a container or a volume of, or is to have."""
        return set[str]().union(*(worker.images for worker in self._workers() if not worker.is_over))

    async def _evict(self, threshold: Threshold, resource: str, readings: Readings) -> None:
        active = [worker for worker in self._workers() if not worker.is_over]
        candidates = {
            worker.uid: await self._candidate(worker, resource)
            for worker in active
            if not ranking.is_critical(worker.pod)
        }
        workers = {worker.uid: worker for worker in active}
        for candidate in ranking.ranked(candidates.values(), resource)[:1]:
            message = ranking.message(candidate, threshold, readings)
            _log.warning("pod_evicted", pod=str(objects.key(candidate.pod)), resource=resource)
            workers[objects.uid(candidate.pod)].fail(decide.EVICTED, message)
            self._host.activity.evictions[(threshold.signal,)] += 1

    async def _candidate(self, worker: PodWorker, resource: str) -> Candidate:
        try:
            used = await self._host.machine.consumed(worker.pod, worker.record, resource)
        except (errors.OndolError, OSError) as error:
            _log.warning("pod_not_measured", pod=str(objects.key(worker.pod)), error=str(error))
            return Candidate(worker.allocated, None)
        return Candidate(worker.allocated, used)


def _is_leaving(worker: PodWorker) -> bool:
    """It was sent away and still holds what it had."""
    record = worker.record
    return record.failed_reason == decide.EVICTED and (record.has_sandbox or record.is_any_running)
