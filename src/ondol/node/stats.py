"""What the node, its pods and their containers use, in the shape of the kubelet's `/stats/summary`.

Counters are read when somebody asks, never besides. A rate needs two readings: who asks every few seconds
(an autoscaler, a dashboard) is answered from the readings of before, and the first who asks after a silence
waits for a second one (`Stats.settle`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ondol.base.clock import Clock, rfc3339
from ondol.node.runtime import cgroups

_WINDOW_S: Final = 10.0
"""A rate is over this time or more where there are readings for it, as that of the kubelet's cAdvisor."""
_STALE_S: Final = 60.0
"""An older reading tells of a load that may be long gone."""
_SETTLE_S: Final = 1.0
_SHORTEST_S: Final = 0.9


@dataclass(frozen=True, slots=True)
class PodGroups:
    """The cgroups of a pod: its own and those of its running containers, by name."""

    reference: Mapping[str, str]
    group: str
    containers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rate:
    """Processor time used in a span of time, in cores times 10⁻⁹, and how long the span was."""

    nanocores: int
    window_s: float


class Rates:
    """Rates of processor counters, which only grow, by a name for each."""

    def __init__(self) -> None:
        self._readings: dict[str, list[tuple[float, int]]] = {}

    def read(self, name: str, cpu_ns: int, at: float) -> Rate | None:
        """Take a reading at the monotonic time `at`, in seconds; the rate since an earlier one, if any.

        That is the newest of those that are `_WINDOW_S` old, or else the oldest there is.
        """
        readings = self._readings.setdefault(name, [])
        readings[:] = [reading for reading in readings if at - reading[0] <= _STALE_S]
        usable = [reading for reading in readings if at - reading[0] >= _SHORTEST_S]
        settled = [reading for reading in usable if at - reading[0] >= _WINDOW_S]
        if not readings or at - readings[-1][0] >= _WINDOW_S:
            readings.append((at, cpu_ns))
        if not usable:
            return None
        since, before_ns = settled[-1] if settled else usable[0]
        return Rate(int(max(0, cpu_ns - before_ns) / (at - since)), at - since)

    def has(self, name: str, at: float) -> bool:
        """Whether a reading at `at` would give a rate."""
        return any(_SHORTEST_S <= at - since <= _STALE_S for since, _ in self._readings.get(name, ()))

    def retain(self, names: Collection[str]) -> None:
        """Forget all others."""
        self._readings = {name: self._readings[name] for name in names if name in self._readings}


class Stats:
    """The usage of everything on the node; `pods` tells what there is now."""

    def __init__(self, node: str, clock: Clock, pods: Callable[[], Iterable[PodGroups]]) -> None:
        self._node = node
        self._clock = clock
        self._pods = pods
        self._rates = Rates()

    async def settle(self) -> None:
        """Wait until a rate can be told of all that runs: a second, or nothing if that was asked lately."""
        names = self._names()
        if all(self._rates.has(name, self._clock.monotonic()) for name in names):
            return
        for name in names:
            self._rates.read(name, _cpu_ns(name), self._clock.monotonic())
        await self._clock.sleep(_SETTLE_S)

    def _names(self) -> list[str]:
        return ["", *(group for pod in self._pods() for group in (pod.group, *pod.containers.values()))]

    def summary(self) -> Mapping[str, Any]:
        """The document; a rate is left out where there is none yet.

        `windowSeconds` beside a rate, which the kubelet does not tell, is the time that it is over.
        """
        now = rfc3339(self._clock.now())
        self._rates.retain(self._names())
        pods = [
            {
                "podRef": dict(pod.reference),
                **self._usage(pod.group, now),
                "containers": [
                    {"name": name, **self._usage(group, now)} for name, group in pod.containers.items()
                ],
            }
            for pod in self._pods()
        ]
        return {"node": {"nodeName": self._node, **self._usage("", now)}, "pods": pods}

    def _usage(self, group: str, now: str) -> dict[str, Any]:
        used = cgroups.usage(group) if group else cgroups.machine_usage()
        cpu: dict[str, Any] = {"time": now, "usageCoreNanoSeconds": used.cpu_ns}
        rate = self._rates.read(group, used.cpu_ns, self._clock.monotonic())
        if rate is not None:
            cpu |= {"usageNanoCores": rate.nanocores, "windowSeconds": round(rate.window_s, 3)}
        memory = {"time": now, "usageBytes": used.memory_bytes, "workingSetBytes": used.working_set_bytes}
        return {"cpu": cpu, "memory": memory}


def _cpu_ns(group: str) -> int:
    return (cgroups.usage(group) if group else cgroups.machine_usage()).cpu_ns
