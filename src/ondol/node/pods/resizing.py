"""In-place resize: what of a pod's spec the node has taken on, and what its containers still run with. Pure.

The spec says what is desired. What the node has room for is allocated, and kept in the record; what a run
of a container was given is kept with the run. As the kubelet's allocation manager.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from ondol.api import demand, objects, quality
from ondol.api import resizes as api
from ondol.base import quantity
from ondol.node import pod_spec
from ondol.node.pods import admission, model
from ondol.node.pods.model import Allocation, Attempt, Record, Resize, Spec

_SIZES: Final = ("cpu", "memory")
_KINDS: Final = ("requests", "limits")

Way = Literal["", "update", "restart"]


def desired(pod: Spec) -> Allocation:
    """What the pod asks for its containers that stay, by their names: these alone can be resized."""
    return {str(c["name"]): _amounts(c.get("resources") or {}) for c in _resizable(pod)}


def _resizable(pod: Spec) -> Iterable[Spec]:
    yield from filter(model.is_sidecar, pod_spec.init_containers(pod))
    yield from pod_spec.app_containers(pod)


def _amounts(resources: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {kind: dict(resources[kind]) for kind in _KINDS if resources.get(kind)}


def allocated(pod: Spec, allocation: Allocation) -> Spec:
    """The pod in the sizes that the node has taken on; the pod itself where these are what it asks for."""
    if allocation == desired(pod):
        return pod
    groups = {
        group: [_sized(container, allocation) for container in objects.spec(pod).get(group) or ()]
        for group in ("containers", "initContainers")
        if objects.spec(pod).get(group)
    }
    return {**pod, "spec": {**objects.spec(pod), **groups}}


def _sized(container: Spec, allocation: Allocation) -> Spec:
    own = allocation.get(str(container["name"]))
    if own is None:
        return container
    others = {k: v for k, v in (container.get("resources") or {}).items() if k not in _KINDS}
    return {**container, "resources": {**others, **own}}


def way(container: Spec, current: Attempt, allocation: Allocation) -> Way:
    """How a container that runs gets to the size that is allocated to it; empty if it has that."""
    target = allocation.get(str(container["name"]))
    if target is None or current.resources is None or target == current.resources:
        return ""
    changed = {name for name in _SIZES if _milli(target, name) != _milli(current.resources, name)}
    if not changed:
        return ""
    policies = {each.get("resourceName"): each for each in container.get("resizePolicy") or ()}
    restarts = any((policies.get(n) or {}).get("restartPolicy") == "RestartContainer" for n in changed)
    return "restart" if restarts else "update"


def _milli(amounts: Mapping[str, Mapping[str, Any]], name: str) -> tuple[int, ...]:
    listed = [(amounts.get(kind) or {}).get(name) for kind in _KINDS]
    return tuple(0 if amount is None else quantity.milli_of(amount) for amount in listed)


def is_settled(pod: Spec, record: Record) -> bool:
    """Whether all that runs has the size that is allocated to it."""
    for spec in _resizable(pod):
        current = record.container(spec["name"]).current
        if current is None:
            continue
        if current.must_restart or (current.exit is None and way(spec, current, record.allocated)):
            return False
    return True


# Whether the node has room


def pending(pod: Spec, others: Iterable[Spec], allocatable: Mapping[str, str]) -> tuple[str, str]:
    """Why the desired size cannot be taken on, as reason and message; empty when it can."""
    room, asked = demand.milli(allocatable), demand.desired(pod)
    for name in ("memory", "cpu"):
        unit = 1 if name == "cpu" else 1000
        if asked[name] > room[name]:
            amounts = f"{name}, requested: {asked[name] // unit}, capacity: {room[name] // unit}"
            return api.INFEASIBLE, f"Node didn't have enough capacity: {amounts}"
    lack = admission.lack(pod, others, allocatable, demanded=asked)
    return ("", "") if lack is None else (api.DEFERRED, f"Node didn't have enough {lack}")


_QUALITIES: Final = {"Guaranteed": 0, "Burstable": 1, "BestEffort": 2}


def turn(pod: Spec, record: Record) -> tuple[bool, int, int, int]:
    """Whose turn comes first: who asks for no more, then by priority, class and generation asked for."""
    now, before = demand.desired(pod), demand.desired(allocated(pod, record.allocated))
    is_growing = any(now[name] > before[name] for name in _SIZES)
    priority = int(objects.spec(pod).get("priority") or 0)
    since = record.resize_pending.generation if record.resize_pending else generation(pod)
    return is_growing, -priority, _QUALITIES[quality.of(pod)], since


# The record


def generation(pod: Spec) -> int:
    return int(objects.metadata(pod).get("generation") or 0)


def admitted(pod: Spec, record: Record) -> Record:
    """What the pod asks for when it comes is taken on; what an older agent left running runs with that."""
    allocated = desired(pod)
    containers = {
        name: msgspec.structs.replace(
            container, current=msgspec.structs.replace(container.current, resources=allocated[name])
        )
        if container.current is not None and container.current.resources is None and name in allocated
        else container
        for name, container in record.containers.items()
    }
    return msgspec.structs.replace(record, allocated=allocated, containers=containers)


def accepted(pod: Spec, record: Record) -> Record:
    """The node has taken on what the pod asks for: its containers are yet to get it."""
    return msgspec.structs.replace(
        record, allocated=desired(pod), resize_pending=None, resize_progress=Resize(generation(pod))
    )


def put_off(pod: Spec, record: Record, reason: str, message: str) -> Record:
    return msgspec.structs.replace(record, resize_pending=Resize(generation(pod), reason, message))


def withdrawn(record: Record) -> Record:
    """The pod asks for what it has."""
    return msgspec.structs.replace(record, resize_pending=None)


def done(record: Record) -> Record:
    return msgspec.structs.replace(record, resize_progress=None)


def resized(record: Record, name: str) -> Record:
    """A container that runs has been given its size."""
    container = record.container(name)
    if container.current is None:
        return record
    current = msgspec.structs.replace(container.current, resources=record.allocated.get(name))
    return record.with_container(name, msgspec.structs.replace(container, current=current))


def not_resized(record: Record, message: str, *, retry_at: float) -> Record:
    """It could not be given its size; it is tried again."""
    before = record.resize_progress or Resize(0)
    progress = Resize(before.generation, api.ERROR, message, before.failures + 1, retry_at)
    return msgspec.structs.replace(record, resize_progress=progress)


# What is told of it


def summary(pod: Spec, prefix: str, *, generation: int, error: str = "") -> str:
    """The kubelet's message of an event: the sizes of all containers, as JSON."""
    groups = {
        group: [
            {"name": c["name"], "resources": c.get("resources") or {}}
            for c in objects.spec(pod).get(group) or ()
        ]
        for group in ("initContainers", "containers")
    }
    document: dict[str, Any] = {group: listed for group, listed in groups.items() if listed}
    document["generation"] = generation
    if error:
        document["error"] = error
    return f"{prefix}: {json.dumps(document, separators=(',', ':'))}"
