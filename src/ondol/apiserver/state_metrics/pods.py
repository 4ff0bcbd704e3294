"""`kube_pod_*`: pods and their containers."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from ondol.api import conditions, objects, resources
from ondol.api.objects import Object
from ondol.apiserver.state_metrics import amounts
from ondol.apiserver.state_metrics.allowing import prometheus_labels
from ondol.apiserver.state_metrics.families import (
    Family,
    Labels,
    Sample,
    Subject,
    amount,
    at,
    created,
    deleted,
    each_of,
    info,
    moment,
    one,
    owned,
    seconds,
    truths,
)

_Status: TypeAlias = Mapping[str, Any]
_PHASES: Final = ("Failed", "Pending", "Running", "Succeeded", "Unknown")
_CLASSES: Final = ("BestEffort", "Burstable", "Guaranteed")
_REASONS: Final = (
    "Evicted",
    "NodeAffinity",
    "NodeLost",
    "PreemptionByScheduler",
    "SchedulingGated",
    "Shutdown",
    "TerminationByKubelet",
    "UnexpectedAdmissionError",
)
_DISRUPTIONS: Final = (
    "PreemptionByScheduler",
    "DeletionByTaintManager",
    "EvictionByEvictionAPI",
    "DeletionByPodGC",
    "TerminationByKubelet",
)
_OTHER: Final = "Other"


def _identity(pod: Object) -> Labels:
    name, namespace = objects.name(pod), objects.namespace(pod)
    return ("namespace", namespace), ("pod", name), ("uid", objects.uid(pod))


# The pod


def _info(pod: Object) -> Iterable[Sample]:
    spec, status = objects.spec(pod), objects.status(pod)
    owner = objects.controller_of(pod) or {}
    return info(
        ("host_ip", str(status.get("hostIP") or "")),
        ("pod_ip", str(status.get("podIP") or "")),
        ("node", str(spec.get("nodeName") or "")),
        ("created_by_kind", str(owner.get("kind") or "")),
        ("created_by_name", str(owner.get("name") or "")),
        ("priority_class", str(spec.get("priorityClassName") or "")),
        ("host_network", "true" if spec.get("hostNetwork") else "false"),
    )


def _addresses(pod: Object) -> Iterable[Sample]:
    for each in objects.status(pod).get("podIPs") or ():
        ip = str(each.get("ip") or "")
        try:
            version = ipaddress.ip_address(ip).version
        except ValueError:
            continue
        yield (("ip", ip), ("ip_family", str(version))), 1


def _completed(pod: Object) -> Iterable[Sample]:
    states = (at(status, "state", "terminated", "finishedAt") for status in _statuses(pod, "container"))
    return one(max((moment for state in states if (moment := seconds(state))), default=None))


def _condition(pod: Object, type: str) -> Iterable[Sample]:
    condition = conditions.get(pod, type)
    return truths(str(condition.get("status")), "condition") if condition is not None else ()


def _since(pod: Object, type: str, status: str = "True") -> Iterable[Sample]:
    condition = conditions.get(pod, type)
    if condition is None or condition.get("status") != status:
        return ()
    return one(seconds(condition.get("lastTransitionTime")))


def _since_family(name: str, documentation: str, type: str, status: str = "True") -> Family:
    return Family(f"kube_pod_status_{name}", documentation, lambda pod: _since(pod, type, status))


def _reasons(pod: Object) -> Iterable[Sample]:
    own = str(objects.status(pod).get("reason") or "")
    named = {own, *(str(condition.get("reason")) for condition in conditions.of(pod))}
    named |= {str(at(status, "state", "terminated", "reason")) for status in _statuses(pod, "container")}
    for reason in _REASONS:
        if reason in named:
            yield from info(("reason", reason))
    if own and own not in _REASONS:
        yield from info(("reason", _OTHER))


def _disruption(pod: Object) -> Iterable[Sample]:
    condition = conditions.get(pod, "DisruptionTarget")
    if condition is None:
        return ()
    reason = str(condition.get("reason"))
    return info(("reason", reason if reason in _DISRUPTIONS else _OTHER))


def _tolerations(pod: Object) -> Iterable[Sample]:
    fields = ("key", "operator", "value", "effect", "tolerationSeconds")
    names = ("key", "operator", "value", "effect", "toleration_seconds")
    tolerations = objects.spec(pod).get("tolerations") or ()
    rows = dict.fromkeys(tuple(str(each.get(field, "")) for field in fields) for each in tolerations)
    return [(tuple(zip(names, row, strict=True)), 1) for row in rows]


def _claims(pod: Object) -> Iterable[tuple[Labels, bool]]:
    """The volumes of claims, and whether each is only read."""
    for volume in objects.spec(pod).get("volumes") or ():
        name = str(volume["name"])
        if claim := volume.get("persistentVolumeClaim"):
            row = (name, str(claim.get("claimName")), "false")
        elif volume.get("ephemeral"):
            row = (name, f"{objects.name(pod)}-{name}", "true")
        else:
            continue
        labels = tuple(zip(("volume", "persistentvolumeclaim", "ephemeral"), row, strict=True))
        yield labels, bool((claim or {}).get("readOnly"))


def _overhead(pod: Object, resource: str) -> Iterable[Sample]:
    overhead = objects.spec(pod).get("overhead") or {}
    return one(amount(overhead[resource])) if resource in overhead else ()


def _named(pod: Object, field: str, label: str) -> Iterable[Sample]:
    """A sample whose label is a field of the spec, which may be empty."""
    return info((label, str(objects.spec(pod).get(field) or "")))


def _optional(pod: Object, field: str, label: str) -> Iterable[Sample]:
    value = objects.spec(pod).get(field)
    return info((label, str(value))) if value is not None else ()


def _unschedulable(pod: Object) -> Iterable[Sample]:
    return one(1) if conditions.is_false(pod, "PodScheduled") else ()


_PODS: Final = (
    Family("kube_pod_info", "Where it runs, and for whom.", _info),
    Family("kube_pod_ips", "Its addresses.", _addresses),
    created("pod"),
    deleted("pod"),
    moment("kube_pod_start_time", "When a node took it.", "status", "startTime"),
    Family("kube_pod_completion_time", "When the last of its containers ended.", _completed),
    owned("pod"),
    Family(
        "kube_pod_nodeselectors",
        "The labels that its node has to have.",
        lambda pod: info(*prometheus_labels("nodeselector", objects.spec(pod).get("nodeSelector") or {})),
    ),
    Family(
        "kube_pod_restart_policy",
        "Whether its containers are started again.",
        lambda pod: _named(pod, "restartPolicy", "type"),
    ),
    Family(
        "kube_pod_service_account",
        "The account that it acts as.",
        lambda pod: _named(pod, "serviceAccountName", "service_account"),
    ),
    Family("kube_pod_scheduler", "Who chooses its node.", lambda pod: _named(pod, "schedulerName", "name")),
    Family(
        "kube_pod_runtimeclass_name_info",
        "Its runtime class.",
        lambda pod: _optional(pod, "runtimeClassName", "runtimeclass_name"),
    ),
    Family(
        "kube_pod_overhead_cpu_cores",
        "Cores it takes besides its containers'.",
        lambda pod: _overhead(pod, "cpu"),
    ),
    Family(
        "kube_pod_overhead_memory_bytes",
        "Bytes it takes besides its containers'.",
        lambda pod: _overhead(pod, "memory"),
    ),
    Family("kube_pod_tolerations", "The taints that it tolerates.", _tolerations),
    Family(
        "kube_pod_spec_volumes_persistentvolumeclaims_info",
        "Its volumes that are claims.",
        lambda pod: [(labels, 1) for labels, _ in _claims(pod)],
    ),
    Family(
        "kube_pod_spec_volumes_persistentvolumeclaims_readonly",
        "Whether such a volume is only read.",
        lambda pod: [(labels, int(is_read_only)) for labels, is_read_only in _claims(pod)],
    ),
    Family(
        "kube_pod_status_phase",
        "Its phase.",
        lambda pod: each_of("phase", _PHASES, str(objects.status(pod).get("phase") or "")),
    ),
    Family(
        "kube_pod_status_qos_class",
        "Its quality of service.",
        lambda pod: each_of("qos_class", _CLASSES, str(objects.status(pod).get("qosClass") or "")),
    ),
    Family("kube_pod_status_ready", "Whether it is ready.", lambda pod: _condition(pod, "Ready")),
    Family(
        "kube_pod_status_scheduled", "Whether it has a node.", lambda pod: _condition(pod, "PodScheduled")
    ),
    _since_family("ready_time", "Since when it is ready.", "Ready"),
    _since_family("container_ready_time", "Since when its containers are ready.", "ContainersReady"),
    _since_family("initialized_time", "Since when it is initialized.", "Initialized"),
    _since_family("scheduled_time", "Since when it has a node.", "PodScheduled"),
    _since_family("unscheduled_time", "Since when no node was right for it.", "PodScheduled", "False"),
    Family("kube_pod_status_unschedulable", "That no node is right for it.", _unschedulable),
    Family(
        "kube_pod_status_reason", "Why it is in its phase, where that is one of the usual reasons.", _reasons
    ),
    Family("kube_pod_status_disruption_reason", "Why it is to be disrupted.", _disruption),
)


# Containers


def _statuses(pod: Object, kind: str) -> Iterable[_Status]:
    field = "containerStatuses" if kind == "container" else "initContainerStatuses"
    statuses: Iterable[_Status] = objects.status(pod).get(field) or ()
    return statuses


def _specs(pod: Object, kind: str) -> Iterable[Mapping[str, Any]]:
    specs: Iterable[Mapping[str, Any]] = (
        objects.spec(pod).get(f"{kind}s" if kind == "container" else "initContainers") or ()
    )
    return specs


def _container_infos(pod: Object, kind: str) -> Iterable[Sample]:
    statuses = {status["name"]: status for status in _statuses(pod, kind)}
    for spec in _specs(pod, kind):
        if (status := statuses.get(spec["name"])) is None:
            continue
        labels = (
            ("container", str(spec["name"])),
            ("image_spec", str(spec.get("image") or "")),
            ("image", str(status.get("image") or "")),
            ("image_id", str(status.get("imageID") or "")),
            ("container_id", str(status.get("containerID") or "")),
        )
        also = () if kind == "container" else (("restart_policy", str(spec.get("restartPolicy") or "")),)
        yield (*labels, *also), 1


def _resources(pod: Object, kind: str, part: str) -> Iterable[Sample]:
    node = str(objects.spec(pod).get("nodeName") or "")
    for spec in _specs(pod, kind):
        declared = (spec.get("resources") or {}).get(part)
        yield from amounts.samples(declared, ("container", str(spec["name"])), ("node", node))


def _of_each(kind: str, value: Callable[[_Status], float | None]) -> Callable[[Object], Iterable[Sample]]:
    """A sample for each container that the function tells a value of."""

    def samples(pod: Object) -> Iterable[Sample]:
        for status in _statuses(pod, kind):
            if (number := value(status)) is not None:
                yield (("container", str(status["name"])),), number

    return samples


def _reason_of_each(kind: str, *path: str) -> Callable[[Object], Iterable[Sample]]:
    """A sample for each container in the state at the path, with its reason."""

    def samples(pod: Object) -> Iterable[Sample]:
        for status in _statuses(pod, kind):
            if (state := at(status, *path)) is not None:
                yield (("container", str(status["name"])), ("reason", str(state.get("reason") or ""))), 1

    return samples


def _started(status: _Status) -> float | None:
    state = at(status, "state", "running") or at(status, "state", "terminated") or {}
    return seconds(state.get("startedAt"))


def _is_in(state: str) -> Callable[[_Status], float]:
    return lambda status: int(at(status, "state", state) is not None)


def _containers(kind: str, noun: str) -> Iterable[Family]:
    """The families of containers (`container`) or of those that come before them (`init_container`)."""
    prefix, status = f"kube_pod_{kind}", f"kube_pod_{kind}_status"
    last = ("lastState", "terminated")
    yield Family(f"{prefix}_info", f"The image of each {noun}.", lambda pod: _container_infos(pod, kind))
    for part in ("requests", "limits"):
        yield Family(
            f"{prefix}_resource_{part}",
            f"What each {noun} {part.removesuffix('s')}s of resources.",
            functools.partial(_resources, kind=kind, part=part),
        )
    yield Family(f"{prefix}_state_started", f"When each {noun} was started.", _of_each(kind, _started))
    for state in ("waiting", "running", "terminated"):
        yield Family(f"{status}_{state}", f"Whether each {noun} is {state}.", _of_each(kind, _is_in(state)))
    for state in ("waiting", "terminated"):
        yield Family(
            f"{status}_{state}_reason", f"Why each {noun} is {state}.", _reason_of_each(kind, "state", state)
        )
    yield Family(
        f"{status}_last_terminated_reason", f"Why each {noun} ended last.", _reason_of_each(kind, *last)
    )
    yield Family(
        f"{status}_last_terminated_exitcode",
        f"With which code each {noun} ended last.",
        _of_each(kind, lambda each: at(each, *last, "exitCode")),
    )
    yield Family(
        f"{status}_last_terminated_timestamp",
        f"When each {noun} ended last.",
        _of_each(kind, lambda each: seconds(at(each, *last, "finishedAt"))),
    )
    yield Family(
        f"{status}_ready",
        f"Whether each {noun} is ready.",
        _of_each(kind, lambda each: int(bool(each.get("ready")))),
    )
    yield Family(
        f"{status}_restarts_total",
        f"How often each {noun} was started again.",
        _of_each(kind, lambda each: int(each.get("restartCount") or 0)),
        "counter",
    )


POD: Final = Subject(
    resources.POD,
    "pod",
    _identity,
    (*_PODS, *_containers("container", "container"), *_containers("init_container", "init container")),
)
